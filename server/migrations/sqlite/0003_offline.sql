-- Messages for accounts that nobody is logged in to. Names and meaning of the columns are MongooseIM's.
CREATE TABLE offline_message (
    -- never used again: a reader goes on after the last one it has seen
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- microseconds since 1970
    timestamp INTEGER NOT NULL,
    -- microseconds since 1970, NULL: never
    expire INTEGER,
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    from_jid TEXT NOT NULL,
    -- the stanza as XML
    packet TEXT NOT NULL,
    -- only MongooseIM's
    permanent_fields BLOB
) STRICT;

-- MongooseIM's index, and what the quota asks for: a message for a full account costs no look at its thousand rows.
CREATE INDEX i_offline_message ON offline_message (server, username, id, expire, octet_length(packet));
-- One of ours: most messages never expire, and those that did are found without reading all.
CREATE INDEX i_offline_message_expire ON offline_message (expire) WHERE expire IS NOT NULL;
