-- Accounts. Names and meaning of the columns are MongooseIM's. SQLite compares text byte by byte: `Admin` is not `admin`.
CREATE TABLE users (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    "password" TEXT NOT NULL,
    pass_details TEXT,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username)
) STRICT;
