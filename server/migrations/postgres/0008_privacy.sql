-- Privacy lists, which are block lists too. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS privacy_default_list (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    PRIMARY KEY (server, username)
);

CREATE TABLE IF NOT EXISTS privacy_list (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    id serial UNIQUE,
    created_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (server, username, name)
);

CREATE TABLE IF NOT EXISTS privacy_list_data (
    id bigint REFERENCES privacy_list (id) ON DELETE CASCADE,
    -- n everybody, j an address, g a group of the roster, s a subscription
    t char(1) NOT NULL,
    value text NOT NULL,
    -- a allow, d deny, b deny because it is blocked
    action char(1) NOT NULL,
    ord integer NOT NULL,
    match_all boolean NOT NULL,
    match_iq boolean NOT NULL,
    match_message boolean NOT NULL,
    match_presence_in boolean NOT NULL,
    match_presence_out boolean NOT NULL,
    PRIMARY KEY (id, ord)
);
