-- Privacy lists, which are block lists too. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS privacy_default_list (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    name varchar(250) NOT NULL,
    PRIMARY KEY (server, username)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS privacy_list (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    name varchar(250) NOT NULL,
    id bigint unsigned NOT NULL AUTO_INCREMENT UNIQUE,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username, name)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

CREATE TABLE IF NOT EXISTS privacy_list_data (
    id bigint unsigned NOT NULL,
    -- n everybody, j an address, g a group of the roster, s a subscription
    t char(1) NOT NULL,
    value text NOT NULL,
    -- a allow, d deny, b deny because it is blocked
    action char(1) NOT NULL,
    ord bigint NOT NULL,
    match_all boolean NOT NULL,
    match_iq boolean NOT NULL,
    match_message boolean NOT NULL,
    match_presence_in boolean NOT NULL,
    match_presence_out boolean NOT NULL,
    PRIMARY KEY (id, ord),
    FOREIGN KEY (id) REFERENCES privacy_list (id) ON DELETE CASCADE
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
