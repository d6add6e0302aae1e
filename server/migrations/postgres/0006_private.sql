-- What clients store for themselves. Names and meaning of the columns are MongooseIM's.
CREATE TABLE IF NOT EXISTS private_storage (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    namespace varchar(250) COLLATE "C" NOT NULL,
    -- the element as XML
    data text NOT NULL,
    created_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (server, username, namespace)
);
