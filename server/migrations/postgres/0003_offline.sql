-- Messages for accounts that nobody is logged in to. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS offline_message (
    -- never used again: a reader goes on after the last one it has seen
    id bigserial PRIMARY KEY,
    -- microseconds since 1970
    timestamp bigint NOT NULL,
    -- microseconds since 1970, NULL: never
    expire bigint,
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    from_jid varchar(250) NOT NULL,
    -- the stanza as XML
    packet text NOT NULL,
    -- only MongooseIM's
    permanent_fields bytea
);

CREATE INDEX IF NOT EXISTS i_offline_message ON offline_message (server, username, id);
-- One of ours: most messages never expire, and those that did are found without reading all.
CREATE INDEX IF NOT EXISTS i_offline_message_expire ON offline_message (expire) WHERE expire IS NOT NULL;
