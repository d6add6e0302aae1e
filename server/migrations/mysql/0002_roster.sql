-- Rosters. Names and meaning of the columns are MongooseIM's, save for `approved`, `listed` and `roster_changes`.
CREATE TABLE IF NOT EXISTS rosterusers (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    jid varchar(250) NOT NULL,
    nick text NOT NULL,
    -- N none, T to, F from, B both
    subscription char(1) NOT NULL,
    -- N nothing, O the user has asked, I the contact has asked, B both; S as O and U as N in old rows
    ask char(1) NOT NULL,
    -- the request of the contact while it waits
    askmessage text NOT NULL,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username, jid)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

-- Two columns of ours, added unless they are there:
-- `approved`: the contact's next request is approved in advance;
-- `listed`: true if the user has the contact in the roster, false if the contact has only asked,
-- NULL in a row of MongooseIM, which lists all but those with subscription N and ask I.
SET @add_columns = (SELECT IF(COUNT(*) > 0, 'DO 0',
    'ALTER TABLE rosterusers ADD COLUMN approved boolean NOT NULL DEFAULT FALSE, ADD COLUMN listed boolean')
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'rosterusers' AND column_name = 'listed');
PREPARE add_columns FROM @add_columns;
EXECUTE add_columns;
DEALLOCATE PREPARE add_columns;

CREATE TABLE IF NOT EXISTS rostergroups (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    jid varchar(250) NOT NULL,
    grp varchar(1023) NOT NULL,
    -- an index has 3072 bytes at most, so it does not hold all of each
    PRIMARY KEY (server(150), username(200), jid, grp(150))
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

-- MongooseIM's has room for 250 characters.
ALTER TABLE rostergroups MODIFY grp varchar(1023) CHARACTER SET utf8mb4 COLLATE exact_collation NOT NULL;

-- The version that a client has which knows the whole roster.
CREATE TABLE IF NOT EXISTS roster_version (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    version text NOT NULL,
    PRIMARY KEY (server, username)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

-- The last changes of a roster: after change number `change_id`, which concerned `jid`, it had `version`.
CREATE TABLE IF NOT EXISTS roster_changes (
    server varchar(250) NOT NULL,
    username varchar(250) NOT NULL,
    change_id bigint NOT NULL,
    version text NOT NULL,
    jid varchar(250) NOT NULL,
    PRIMARY KEY (server, username, change_id)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
