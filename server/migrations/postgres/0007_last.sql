-- When accounts were there. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS last (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    -- since 1970
    seconds bigint NOT NULL,
    -- the status with which the last client left
    state text NOT NULL,
    PRIMARY KEY (server, username)
);

CREATE INDEX IF NOT EXISTS i_last_server_seconds ON last (server, seconds);
