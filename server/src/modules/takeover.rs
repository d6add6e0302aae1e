//! Tests with a database that MongooseIM made: its tables by what is known of its definitions, with rows as it writes
//! them.
use protocol::BareJid;
use protocol::sasl::{PassDetails, ScramHash};

use super::last::store::LastStore;
use super::offline::store::{NewMessage, OfflineStore, Pushed, Quota};
use super::privacy::store::PrivacyStore;
use super::private::store::{self as private, PrivateStore};
use super::roster::store::{Edit, RosterStore};
use crate::storage::accounts::AccountStore;
use crate::storage::server::ServerKind;
use crate::storage::tests::servers::Database;
use crate::storage::tests::{fetch_raw, open, run_raw, with_each_server};
use crate::storage::{Cause, Db, Options};

/// What its definitions for PostgreSQL make, of the tables that we take over and one that we do not.
const POSTGRES: &str = "
    CREATE TABLE users (username varchar(250), server varchar(250), \"password\" text NOT NULL, pass_details text,
        created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (server, username));
    CREATE TABLE last (server varchar(250), username varchar(250), seconds integer NOT NULL, state text NOT NULL,
        PRIMARY KEY (server, username));
    CREATE INDEX i_last_server_seconds ON last (server, seconds);
    CREATE TABLE rosterusers (server varchar(250) NOT NULL, username varchar(250) NOT NULL, jid text NOT NULL,
        nick text NOT NULL, subscription char(1) NOT NULL, ask char(1) NOT NULL, askmessage text NOT NULL,
        created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (server, username, jid));
    CREATE TABLE rostergroups (server varchar(250) NOT NULL, username varchar(250) NOT NULL, jid text NOT NULL,
        grp text NOT NULL, PRIMARY KEY (server, username, jid, grp));
    CREATE TABLE roster_version (server varchar(250), username varchar(250), version text NOT NULL,
        PRIMARY KEY (server, username));
    CREATE TABLE offline_message (id serial UNIQUE PRIMARY KEY, timestamp bigint NOT NULL, expire bigint,
        server varchar(250) NOT NULL, username varchar(250) NOT NULL, from_jid varchar(250) NOT NULL,
        packet text NOT NULL, permanent_fields bytea);
    CREATE INDEX i_offline_message ON offline_message (server, username, id);
    CREATE TABLE private_storage (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        namespace varchar(250) NOT NULL, data text NOT NULL, created_at timestamp NOT NULL DEFAULT now(),
        PRIMARY KEY (server, username, namespace));
    CREATE TABLE privacy_default_list (server varchar(250), username varchar(250), name text NOT NULL,
        PRIMARY KEY (server, username));
    CREATE TABLE privacy_list (server varchar(250) NOT NULL, username varchar(250) NOT NULL, name text NOT NULL,
        id serial UNIQUE, created_at timestamp NOT NULL DEFAULT now(), PRIMARY KEY (server, username, name));
    CREATE TABLE privacy_list_data (id bigint REFERENCES privacy_list (id) ON DELETE CASCADE, t char(1) NOT NULL,
        value text NOT NULL, action char(1) NOT NULL, ord integer NOT NULL, match_all boolean NOT NULL,
        match_iq boolean NOT NULL, match_message boolean NOT NULL, match_presence_in boolean NOT NULL,
        match_presence_out boolean NOT NULL, PRIMARY KEY (id, ord));
    CREATE TABLE mongoose_cluster_id (k varchar(50) PRIMARY KEY, v text);
";

/// The same for MySQL, with the collation that a server has by default.
const MYSQL: &str = "
    CREATE TABLE users (username varchar(250), server varchar(250), password text NOT NULL, pass_details text,
        created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (server, username))
        CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE last (server varchar(250), username varchar(250), seconds int NOT NULL, state text NOT NULL,
        PRIMARY KEY (server, username)) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE INDEX i_last_server_seconds ON last (server, seconds);
    CREATE TABLE rosterusers (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        jid varchar(250) NOT NULL, nick text NOT NULL, subscription char(1) NOT NULL, ask char(1) NOT NULL,
        askmessage text NOT NULL, created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (server, username, jid)) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE rostergroups (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        jid varchar(250) NOT NULL, grp varchar(250) NOT NULL,
        PRIMARY KEY (server(150), username(200), jid, grp(150))) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE roster_version (server varchar(250), username varchar(250), version text NOT NULL,
        PRIMARY KEY (server, username)) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE offline_message (id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
        timestamp bigint unsigned NOT NULL, expire bigint unsigned, server varchar(250) NOT NULL,
        username varchar(250) NOT NULL, from_jid varchar(250) NOT NULL, packet mediumblob NOT NULL,
        permanent_fields mediumblob) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE INDEX i_offline_message ON offline_message (server, username, id);
    CREATE TABLE private_storage (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        namespace varchar(250) NOT NULL, data text NOT NULL,
        created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (server, username, namespace))
        CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE privacy_default_list (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        name varchar(250) NOT NULL, PRIMARY KEY (server, username)) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE privacy_list (server varchar(250) NOT NULL, username varchar(250) NOT NULL,
        name varchar(250) NOT NULL, id bigint unsigned NOT NULL AUTO_INCREMENT UNIQUE,
        created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (server, username(75), name(75)))
        CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE privacy_list_data (id bigint, t char(1) NOT NULL, value text NOT NULL, action char(1) NOT NULL,
        ord int NOT NULL, match_all boolean NOT NULL, match_iq boolean NOT NULL, match_message boolean NOT NULL,
        match_presence_in boolean NOT NULL, match_presence_out boolean NOT NULL, PRIMARY KEY (id, ord))
        CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC;
    CREATE TABLE mongoose_cluster_id (k varchar(50) PRIMARY KEY, v text);
";

const TABLES: [&str; 11] = [
    "users",
    "last",
    "rosterusers",
    "rostergroups",
    "roster_version",
    "offline_message",
    "private_storage",
    "privacy_default_list",
    "privacy_list",
    "privacy_list_data",
    "mongoose_cluster_id",
];

const MESSAGE: &str = "<message from='romeo@localhost/x' to='juliet@localhost' type='chat'><body>\u{1f9a1}</body></message>";

fn juliet() -> BareJid {
    BareJid::parse("juliet@localhost").unwrap()
}

/// MongooseIM's tables with rows of an account `juliet`, whose password is `secret`.
async fn make(database: &Database) {
    let hashes = [ScramHash::Sha1, ScramHash::Sha256];
    let keys = PassDetails::derive("secret", &hashes, 4_096, b"salt").to_string();
    let (definitions, term) = match database.server().kind {
        ServerKind::Postgres => (POSTGRES, "'\\x836c'"),
        ServerKind::MySql => (MYSQL, "x'836c'"),
    };
    database.run(definitions).await;
    database
        .run(format!(
            "INSERT INTO users (username, server, password, pass_details) VALUES
                 ('juliet', 'localhost', '', '{keys}'), ('romeo', 'localhost', 'montague', NULL);
             INSERT INTO last VALUES ('localhost', 'juliet', 1650000000, 'gone');
             INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage) VALUES
                 ('localhost', 'juliet', 'romeo@localhost', 'Romeo', 'B', 'N', ''),
                 ('localhost', 'juliet', 'tybalt@localhost', '', 'N', 'I', 'let me in');
             INSERT INTO rostergroups VALUES ('localhost', 'juliet', 'romeo@localhost', 'Friends');
             INSERT INTO roster_version VALUES ('localhost', 'juliet', 'theirs');
             INSERT INTO offline_message (timestamp, expire, server, username, from_jid, packet, permanent_fields)
                 VALUES (1650000000000000, NULL, 'localhost', 'juliet', 'romeo@localhost/x', '{}', {term});
             INSERT INTO private_storage (server, username, namespace, data) VALUES
                 ('localhost', 'juliet', 'storage:bookmarks', '<storage xmlns=\"storage:bookmarks\"/>');
             INSERT INTO privacy_default_list VALUES ('localhost', 'juliet', 'blocked');
             INSERT INTO privacy_list (server, username, name, id) VALUES ('localhost', 'juliet', 'blocked', 7);
             INSERT INTO privacy_list_data VALUES
                 (7, 'j', 'paris@localhost', 'b', 1, TRUE, FALSE, FALSE, FALSE, FALSE);
             INSERT INTO mongoose_cluster_id VALUES ('cluster_id', 'an id')",
            MESSAGE.replace('\'', "\"")
        ))
        .await;
}

async fn rows_of_mongooseim(db: &Db) -> Vec<Vec<Vec<Option<String>>>> {
    let mut tables = Vec::new();
    for table in TABLES {
        let mut rows = fetch_raw(db, format!("SELECT * FROM {table} ORDER BY 1, 2, 3")).await;
        if table == "rosterusers" {
            // What was added to it.
            rows.iter_mut().for_each(|row| row.truncate(8));
        }
        tables.push(rows);
    }
    tables
}

#[tokio::test]
async fn what_mongooseim_left_is_kept_and_read() {
    with_each_server(async |database| {
        make(database).await;
        let db = Db::open(Options::new(database.place())).await.unwrap();
        // The last table has two columns.
        let before = {
            database
                .run("ALTER TABLE mongoose_cluster_id ADD COLUMN third text")
                .await;
            rows_of_mongooseim(&db).await
        };
        db.migrate().await.unwrap();
        assert_eq!(rows_of_mongooseim(&db).await, before);

        check_accounts(db.clone()).await;
        check_roster(db.clone()).await;
        check_the_rest(db).await;
    })
    .await;
}

async fn check_accounts(db: Db) {
    let accounts = AccountStore::new(db.clone());
    let found = accounts
        .credentials("juliet", "localhost")
        .await
        .unwrap()
        .unwrap();
    let keys = PassDetails::parse(&found.pass_details.unwrap()).unwrap();
    assert!(keys.verify_password("secret") && !keys.verify_password("guess"));
    let found = accounts
        .credentials("romeo", "localhost")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.password.as_str(), found.pass_details),
        ("montague", None)
    );
    assert_eq!(
        accounts.list("localhost", 10, 0).await.unwrap(),
        ["juliet", "romeo"]
    );
}

async fn check_roster(db: Db) {
    let roster = RosterStore::new(db.clone()).load(&juliet()).await.unwrap();
    assert_eq!(roster.version, "theirs");
    let names: Vec<_> = roster
        .items
        .iter()
        .map(|item| {
            (
                item.jid.as_str(),
                item.name.as_str(),
                item.groups.join(" "),
                item.contact.listed,
            )
        })
        .collect();
    let expected = [
        ("romeo@localhost", "Romeo", "Friends".to_owned(), true),
        ("tybalt@localhost", "", String::new(), false),
    ];
    assert_eq!(names, expected);
}

async fn check_the_rest(db: Db) {
    let offline = OfflineStore::new(db.clone(), Quota::default());
    let messages = offline.list(&juliet(), 0, 1).await.unwrap();
    assert_eq!(messages[0].received_at, 1_650_000_000_000_000);
    assert!(messages[0].to_stanza().is_some());

    let private = PrivateStore::new(db.clone(), private::Quota::default());
    let bookmarks = private.load(&juliet(), "storage:bookmarks").await.unwrap();
    assert_eq!(
        bookmarks.unwrap().to_xml(),
        "<storage xmlns='storage:bookmarks'/>"
    );

    let blocked = PrivacyStore::new(db.clone()).default_list(&juliet()).await;
    let blocked = blocked.unwrap().unwrap();
    assert_eq!(
        blocked.items()[0].blocked().unwrap().as_str(),
        "paris@localhost"
    );

    let last = LastStore::new(db).load(&juliet()).await.unwrap().unwrap();
    assert_eq!((last.at, last.status.as_str()), (1_650_000_000, "gone"));
}

#[tokio::test]
async fn its_tables_are_written_as_our_own() {
    with_each_server(async |database| {
        make(database).await;
        let db = open(database.place()).await;
        let rosters = RosterStore::new(db.clone());
        let nurse = protocol::Jid::parse("nurse@localhost").unwrap();
        let edit = Edit::new("Nurse".into(), vec!["g".repeat(1_023)]).unwrap();
        rosters.set_item(&juliet(), &nurse, edit).await.unwrap();
        assert_eq!(rosters.load(&juliet()).await.unwrap().items.len(), 3);
        let offline = OfflineStore::new(db.clone(), Quota::default());
        let message = NewMessage {
            from: "romeo@localhost".into(),
            stanza: MESSAGE.into(),
            received_at: 1,
            expires_at: Some(5),
        };
        let pushed = offline.push(&juliet(), message).await.unwrap();
        assert_eq!(pushed, Pushed::Stored);
        assert_eq!(
            offline.list(&juliet(), 0, 2).await.unwrap()[1].stanza,
            MESSAGE
        );
        assert_eq!(offline.remove_expired("localhost", 6).await.unwrap(), 1);
        // MongooseIM's column for MySQL has room for 65,535 bytes.
        let private = PrivateStore::new(db.clone(), private::Quota::default());
        let large = format!("<a xmlns='n'>{}</a>", "x".repeat(200_000));
        private.set(&juliet(), "n", large.clone()).await.unwrap();
        let kept = private.load(&juliet(), "n").await.unwrap().unwrap();
        assert_eq!(kept.to_xml(), large);
        // Names that a server's usual collation holds for one.
        let accounts = AccountStore::new(db);
        for name in ["muller", "m\u{fc}ller", "Muller", "muller "] {
            accounts.create(name, "localhost", name).await.unwrap();
        }
        assert_eq!(accounts.count("localhost").await.unwrap(), 6);
        let found = accounts
            .credentials("muller", "localhost")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.pass_details.as_deref(), Some("muller"));
    })
    .await;
}

#[tokio::test]
async fn a_step_that_ended_half_way_is_done_again() {
    with_each_server(async |database| {
        let db = open(database.place()).await;
        let accounts = AccountStore::new(db.clone());
        accounts.create("a", "test", "keys").await.unwrap();
        for _ in 0..2 {
            run_raw(&db, "DELETE FROM schema_migrations WHERE version <> 1").await;
            db.migrate().await.unwrap();
        }
        assert_eq!(accounts.list("test", 10, 0).await.unwrap(), ["a"]);
    })
    .await;
}

#[tokio::test]
async fn tables_of_an_older_mongooseim_are_refused_and_left_alone() {
    with_each_server(async |database| {
        database
            .run("CREATE TABLE last (username varchar(250) PRIMARY KEY, seconds integer NOT NULL, state varchar(9))")
            .await;
        let db = Db::open(Options::new(database.place())).await.unwrap();
        let error = db.migrate().await.unwrap_err();
        assert!(
            matches!(error.cause(), Cause::Older { table: "last", column: "server" }),
            "{error:?}"
        );
        assert_eq!(fetch_raw(&db, "SELECT * FROM last").await.len(), 0);
    })
    .await;
}
