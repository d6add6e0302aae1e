-- Stanzas that were acknowledged to their senders and wait for their receivers, and the process that holds them.
CREATE TABLE IF NOT EXISTS in_flight (
    in_flight_id bigint PRIMARY KEY,
    node text NOT NULL,
    -- tells this process from earlier ones of the node
    boot text NOT NULL,
    from_jid text NOT NULL,
    to_jid text NOT NULL,
    -- the stanza as XML
    stanza text NOT NULL,
    -- microseconds since 1970
    stored_at bigint NOT NULL
);
