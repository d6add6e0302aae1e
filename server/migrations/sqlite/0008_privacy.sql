-- Privacy lists, which are block lists too. Names and meaning of the columns are MongooseIM's.
CREATE TABLE privacy_default_list (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (server, username)
) STRICT, WITHOUT ROWID;

CREATE TABLE privacy_list (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE (server, username, name)
) STRICT;

CREATE TABLE privacy_list_data (
    id INTEGER NOT NULL REFERENCES privacy_list (id) ON DELETE CASCADE,
    -- n everybody, j an address, g a group of the roster, s a subscription
    t TEXT NOT NULL,
    value TEXT NOT NULL,
    -- a allow, d deny, b deny because it is blocked
    action TEXT NOT NULL,
    ord INTEGER NOT NULL,
    match_all INTEGER NOT NULL,
    match_iq INTEGER NOT NULL,
    match_message INTEGER NOT NULL,
    match_presence_in INTEGER NOT NULL,
    match_presence_out INTEGER NOT NULL,
    PRIMARY KEY (id, ord)
) STRICT, WITHOUT ROWID;
