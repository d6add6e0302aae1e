-- Rosters. Names and meaning of the columns are MongooseIM's, save for `approved`, `listed` and `roster_changes`.
CREATE TABLE rosterusers (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    jid TEXT NOT NULL,
    nick TEXT NOT NULL,
    -- N none, T to, F from, B both
    subscription TEXT NOT NULL,
    -- N nothing, O the user has asked, I the contact has asked, B both; S as O and U as N in old rows
    ask TEXT NOT NULL,
    -- the request of the contact while it waits
    askmessage TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- 1: the contact's next request is approved in advance
    approved INTEGER NOT NULL DEFAULT 0,
    -- 1: the user has the contact in the roster; 0: the contact has only asked;
    -- NULL: a row of MongooseIM, which lists all but those with subscription N and ask I
    listed INTEGER,
    PRIMARY KEY (server, username, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE rostergroups (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    jid TEXT NOT NULL,
    grp TEXT NOT NULL,
    PRIMARY KEY (server, username, jid, grp)
) STRICT, WITHOUT ROWID;

-- The version that a client has which knows the whole roster.
CREATE TABLE roster_version (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (server, username)
) STRICT, WITHOUT ROWID;

-- The last changes of a roster: after change number `change_id`, which concerned `jid`, it had `version`.
CREATE TABLE roster_changes (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    change_id INTEGER NOT NULL,
    version TEXT NOT NULL,
    jid TEXT NOT NULL,
    PRIMARY KEY (server, username, change_id)
) STRICT, WITHOUT ROWID;
