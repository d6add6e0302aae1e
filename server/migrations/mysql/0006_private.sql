-- What clients store for themselves. Names and meaning of the columns are MongooseIM's, whose `data` is made larger.
CREATE TABLE IF NOT EXISTS private_storage (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    namespace varchar(250) NOT NULL,
    -- the element as XML
    data mediumtext NOT NULL,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username, namespace)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

-- MongooseIM's has 64 KiB for an element.
ALTER TABLE private_storage MODIFY data mediumtext CHARACTER SET utf8mb4 COLLATE exact_collation NOT NULL;
