-- Accounts. Names and meaning of the columns are MongooseIM's; its table is taken over as it is.
CREATE TABLE IF NOT EXISTS users (
    server varchar(250) COLLATE "C" NOT NULL,
    username varchar(250) COLLATE "C" NOT NULL,
    "password" text NOT NULL,
    pass_details text,
    created_at timestamp NOT NULL DEFAULT now(),
    PRIMARY KEY (server, username)
);
