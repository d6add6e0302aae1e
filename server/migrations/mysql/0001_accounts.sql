-- Accounts. Names and meaning of the columns are MongooseIM's; its table is taken over.
CREATE TABLE IF NOT EXISTS users (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    password text NOT NULL,
    pass_details text,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
