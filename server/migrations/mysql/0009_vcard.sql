-- vCards, and what they are found by. Names and meaning of the columns are MongooseIM's, whose `vcard` is made larger.
CREATE TABLE IF NOT EXISTS vcard (
    username varchar(150) NOT NULL,
    server varchar(100) NOT NULL,
    -- the element as XML
    vcard mediumtext NOT NULL,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (server, username)
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;

ALTER TABLE vcard MODIFY vcard mediumtext CHARACTER SET utf8mb4 COLLATE exact_collation NOT NULL;

-- Each column beside its form in small letters, which is searched.
CREATE TABLE IF NOT EXISTS vcard_search (
    username varchar(150) NOT NULL,
    lusername varchar(100) NOT NULL,
    server varchar(250) NOT NULL,
    fn text NOT NULL,
    lfn text NOT NULL,
    family text NOT NULL,
    lfamily text NOT NULL,
    given text NOT NULL,
    lgiven text NOT NULL,
    middle text NOT NULL,
    lmiddle text NOT NULL,
    nickname text NOT NULL,
    lnickname text NOT NULL,
    bday text NOT NULL,
    lbday text NOT NULL,
    ctry text NOT NULL,
    lctry text NOT NULL,
    locality text NOT NULL,
    llocality text NOT NULL,
    email text NOT NULL,
    lemail text NOT NULL,
    orgname text NOT NULL,
    lorgname text NOT NULL,
    orgunit text NOT NULL,
    lorgunit text NOT NULL,
    PRIMARY KEY (server, lusername),
    INDEX i_vcard_search_lfn (lfn(191)),
    INDEX i_vcard_search_lfamily (lfamily(191)),
    INDEX i_vcard_search_lgiven (lgiven(191)),
    INDEX i_vcard_search_lmiddle (lmiddle(191)),
    INDEX i_vcard_search_lnickname (lnickname(191)),
    INDEX i_vcard_search_lbday (lbday(191)),
    INDEX i_vcard_search_lctry (lctry(191)),
    INDEX i_vcard_search_llocality (llocality(191)),
    INDEX i_vcard_search_lemail (lemail(191)),
    INDEX i_vcard_search_lorgname (lorgname(191)),
    INDEX i_vcard_search_lorgunit (lorgunit(191))
) CHARACTER SET utf8mb4 COLLATE exact_collation ROW_FORMAT=DYNAMIC;
