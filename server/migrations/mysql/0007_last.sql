-- When accounts were there. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS last (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    -- since 1970
    seconds bigint NOT NULL,
    -- the status with which the last client left
    state text NOT NULL,
    PRIMARY KEY (server, username),
    INDEX i_last_server_seconds (server, seconds)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
