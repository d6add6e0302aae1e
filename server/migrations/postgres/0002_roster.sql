-- Rosters. Names and meaning of the columns are MongooseIM's, save for `approved`, `listed` and `roster_changes`.
CREATE TABLE IF NOT EXISTS rosterusers (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    jid text COLLATE "C" NOT NULL,
    nick text NOT NULL,
    -- N none, T to, F from, B both
    subscription char(1) NOT NULL,
    -- N nothing, O the user has asked, I the contact has asked, B both; S as O and U as N in old rows
    ask char(1) NOT NULL,
    -- the request of the contact while it waits
    askmessage text NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (server, username, jid)
);
-- the contact's next request is approved in advance
ALTER TABLE rosterusers ADD COLUMN IF NOT EXISTS approved boolean NOT NULL DEFAULT FALSE;
-- true: the user has the contact in the roster; false: the contact has only asked;
-- NULL: a row of MongooseIM, which lists all but those with subscription N and ask I
ALTER TABLE rosterusers ADD COLUMN IF NOT EXISTS listed boolean;

CREATE TABLE IF NOT EXISTS rostergroups (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    jid text COLLATE "C" NOT NULL,
    grp text COLLATE "C" NOT NULL,
    PRIMARY KEY (server, username, jid, grp)
);

-- The version that a client has which knows the whole roster.
CREATE TABLE IF NOT EXISTS roster_version (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    version text NOT NULL,
    PRIMARY KEY (server, username)
);

-- The last changes of a roster: after change number `change_id`, which concerned `jid`, it had `version`.
CREATE TABLE IF NOT EXISTS roster_changes (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    change_id bigint NOT NULL,
    version text NOT NULL,
    jid text NOT NULL,
    PRIMARY KEY (server, username, change_id)
);
