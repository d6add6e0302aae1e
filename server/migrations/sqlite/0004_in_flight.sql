-- Stanzas that were acknowledged to their senders and wait for their receivers, and the process that holds them.
CREATE TABLE in_flight (
    in_flight_id INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    -- tells this process from earlier ones of the node
    boot TEXT NOT NULL,
    from_jid TEXT NOT NULL,
    to_jid TEXT NOT NULL,
    -- the stanza as XML
    stanza TEXT NOT NULL,
    -- microseconds since 1970
    stored_at INTEGER NOT NULL
) STRICT;
