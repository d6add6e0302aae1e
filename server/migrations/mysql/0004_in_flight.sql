-- Stanzas that were acknowledged to their senders and wait for their receivers, and the process that holds them.
CREATE TABLE IF NOT EXISTS in_flight (
    in_flight_id bigint NOT NULL PRIMARY KEY,
    node varchar(250) NOT NULL,
    -- tells this process from earlier ones of the node
    boot varchar(250) NOT NULL,
    -- as long as an address can be
    from_jid varchar(3071) NOT NULL,
    to_jid varchar(3071) NOT NULL,
    -- the stanza as XML
    stanza mediumtext NOT NULL,
    -- microseconds since 1970
    stored_at bigint NOT NULL
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
