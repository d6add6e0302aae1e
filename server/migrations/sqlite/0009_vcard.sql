-- vCards, and what they are found by. Names and meaning of the columns are MongooseIM's.
CREATE TABLE vcard (
    server TEXT NOT NULL,
    username TEXT NOT NULL,
    -- the element as XML
    vcard TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username)
) STRICT;

-- Each column beside its form in small letters, which is searched.
CREATE TABLE vcard_search (
    server TEXT NOT NULL,
    lusername TEXT NOT NULL,
    username TEXT NOT NULL,
    fn TEXT NOT NULL,
    lfn TEXT NOT NULL,
    family TEXT NOT NULL,
    lfamily TEXT NOT NULL,
    given TEXT NOT NULL,
    lgiven TEXT NOT NULL,
    middle TEXT NOT NULL,
    lmiddle TEXT NOT NULL,
    nickname TEXT NOT NULL,
    lnickname TEXT NOT NULL,
    bday TEXT NOT NULL,
    lbday TEXT NOT NULL,
    ctry TEXT NOT NULL,
    lctry TEXT NOT NULL,
    locality TEXT NOT NULL,
    llocality TEXT NOT NULL,
    email TEXT NOT NULL,
    lemail TEXT NOT NULL,
    orgname TEXT NOT NULL,
    lorgname TEXT NOT NULL,
    orgunit TEXT NOT NULL,
    lorgunit TEXT NOT NULL,
    PRIMARY KEY (server, lusername)
) STRICT;

-- With the server, as nobody searches in several.
CREATE INDEX i_vcard_search_lfn ON vcard_search (server, lfn);
CREATE INDEX i_vcard_search_lfamily ON vcard_search (server, lfamily);
CREATE INDEX i_vcard_search_lgiven ON vcard_search (server, lgiven);
CREATE INDEX i_vcard_search_lmiddle ON vcard_search (server, lmiddle);
CREATE INDEX i_vcard_search_lnickname ON vcard_search (server, lnickname);
CREATE INDEX i_vcard_search_lbday ON vcard_search (server, lbday);
CREATE INDEX i_vcard_search_lctry ON vcard_search (server, lctry);
CREATE INDEX i_vcard_search_llocality ON vcard_search (server, llocality);
CREATE INDEX i_vcard_search_lemail ON vcard_search (server, lemail);
CREATE INDEX i_vcard_search_lorgname ON vcard_search (server, lorgname);
CREATE INDEX i_vcard_search_lorgunit ON vcard_search (server, lorgunit);
