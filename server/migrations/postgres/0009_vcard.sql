-- vCards, and what they are found by. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS vcard (
    username varchar(150) COLLATE "C" NOT NULL,
    server varchar(100) COLLATE "C" NOT NULL,
    -- the element as XML
    vcard text NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (server, username)
);

-- Each column beside its form in small letters, which is searched.
CREATE TABLE IF NOT EXISTS vcard_search (
    username varchar(150) NOT NULL,
    lusername varchar(100) COLLATE "C" NOT NULL,
    server varchar(250) COLLATE "C" NOT NULL,
    fn text NOT NULL,
    lfn text COLLATE "C" NOT NULL,
    family text NOT NULL,
    lfamily text COLLATE "C" NOT NULL,
    given text NOT NULL,
    lgiven text COLLATE "C" NOT NULL,
    middle text NOT NULL,
    lmiddle text COLLATE "C" NOT NULL,
    nickname text NOT NULL,
    lnickname text COLLATE "C" NOT NULL,
    bday text NOT NULL,
    lbday text COLLATE "C" NOT NULL,
    ctry text NOT NULL,
    lctry text COLLATE "C" NOT NULL,
    locality text NOT NULL,
    llocality text COLLATE "C" NOT NULL,
    email text NOT NULL,
    lemail text COLLATE "C" NOT NULL,
    orgname text NOT NULL,
    lorgname text COLLATE "C" NOT NULL,
    orgunit text NOT NULL,
    lorgunit text COLLATE "C" NOT NULL,
    PRIMARY KEY (server, lusername)
);

CREATE INDEX IF NOT EXISTS i_vcard_search_lfn ON vcard_search (lfn);
CREATE INDEX IF NOT EXISTS i_vcard_search_lfamily ON vcard_search (lfamily);
CREATE INDEX IF NOT EXISTS i_vcard_search_lgiven ON vcard_search (lgiven);
CREATE INDEX IF NOT EXISTS i_vcard_search_lmiddle ON vcard_search (lmiddle);
CREATE INDEX IF NOT EXISTS i_vcard_search_lnickname ON vcard_search (lnickname);
CREATE INDEX IF NOT EXISTS i_vcard_search_lbday ON vcard_search (lbday);
CREATE INDEX IF NOT EXISTS i_vcard_search_lctry ON vcard_search (lctry);
CREATE INDEX IF NOT EXISTS i_vcard_search_llocality ON vcard_search (llocality);
CREATE INDEX IF NOT EXISTS i_vcard_search_lemail ON vcard_search (lemail);
CREATE INDEX IF NOT EXISTS i_vcard_search_lorgname ON vcard_search (lorgname);
CREATE INDEX IF NOT EXISTS i_vcard_search_lorgunit ON vcard_search (lorgunit);
