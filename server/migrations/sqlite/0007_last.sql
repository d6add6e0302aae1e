-- When accounts were there. Names and meaning of the columns are MongooseIM's.
CREATE TABLE last (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    -- since 1970
    seconds INTEGER NOT NULL,
    -- the status with which the last client left
    state TEXT NOT NULL,
    PRIMARY KEY (server, username)
) STRICT;

CREATE INDEX i_last_server_seconds ON last (server, seconds);
