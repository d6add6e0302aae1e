-- Messages for accounts that nobody is logged in to. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS offline_message (
    -- never used again: a reader goes on after the last one it has seen
    id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
    -- microseconds since 1970
    timestamp bigint unsigned NOT NULL,
    -- microseconds since 1970, NULL: never
    expire bigint unsigned,
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    from_jid varchar(250) NOT NULL,
    -- the stanza as XML
    packet mediumblob NOT NULL,
    -- only MongooseIM's
    permanent_fields mediumblob,
    INDEX i_offline_message (server, username, id)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

-- An index of ours, made unless it is there: messages that have expired are found without reading all.
SET @add_index = (SELECT IF(COUNT(*) > 0, 'DO 0',
    'CREATE INDEX i_offline_message_expire ON offline_message (expire)')
    FROM information_schema.statistics
    WHERE table_schema = DATABASE() AND table_name = 'offline_message' AND index_name = 'i_offline_message_expire');
PREPARE add_index FROM @add_index;
EXECUTE add_index;
DEALLOCATE PREPARE add_index;
