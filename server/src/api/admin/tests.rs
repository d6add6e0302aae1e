//! Every command, asked as `meerkatctl` asks it, with what it brings about as clients see it.
use protocol::{Element, ns};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::api::control::SOCKET_NAME;
use crate::ctl::commands::Commands;
use crate::modules::offline::store::{NewMessage, OfflineStore, Quota};
use crate::modules::testing::{ChatNode, account, fence, stanza};
use crate::stamp;
use crate::storage::tests::fetch_raw;
use crate::testing::{Client, TestNode, soon};

mod vcard;

// ---- asking

async fn ask(node: &TestNode, query: &str, variables: &Value) -> Value {
    let path = node.dir().join(SOCKET_NAME);
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = json!({ "query": query, "variables": variables });
    stream
        .write_all(request.to_string().as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// What a command answers, good or bad.
async fn answer(node: &TestNode, category: &str, command: &str, args: Value) -> Value {
    let commands = Commands::of_schema();
    let all = &commands.category(category).unwrap().commands;
    let found = all.iter().find(|other| other.name == command).unwrap();
    let document = found.document(args.as_object().unwrap());
    ask(node, &document, &args).await
}

/// What a command results in.
async fn run(chat: &ChatNode, category: &str, command: &str, args: Value) -> Value {
    let answer = answer(&chat.node, category, command, args).await;
    assert_eq!(answer.get("errors"), None, "{category} {command}: {answer}");
    answer["data"][category][command].clone()
}

/// The code of the error that a command answers with.
async fn code(chat: &ChatNode, category: &str, command: &str, args: Value) -> String {
    let answer = answer(&chat.node, category, command, args).await;
    // MongooseIM's shape: null where the result would be, and the error beside it.
    let result = &answer["data"][category][command];
    assert!(result.is_null(), "{category} {command}: {answer}");
    let error = &answer["errors"][0];
    assert_eq!(error["path"], json!([category, command]), "{answer}");
    assert!(error["message"].is_string() && error.get("locations").is_none());
    error["extensions"]["code"].as_str().unwrap().to_owned()
}

const ROMEO: &str = "romeo@localhost";
const JULIET: &str = "juliet@localhost";

/// The roster push that comes next: address and subscription.
async fn push(client: &mut Client) -> (String, String) {
    loop {
        let element = stanza(client).await;
        let query = element.child("query", ns::ROSTER);
        let item = query.and_then(|query| query.elements().next());
        if let Some(item) = item {
            let attr = |name| item.attr(name).unwrap_or_default().to_owned();
            return (attr("jid"), attr("subscription"));
        }
    }
}

// ---- all of them

/// MongooseIM's commands of these categories, and why those that are not here are not.
const THEIRS: &[(&str, &str, Option<&str>)] = &[
    ("account", "listUsers", None),
    ("account", "countUsers", None),
    ("account", "checkPassword", None),
    ("account", "checkPasswordHash", None),
    ("account", "checkUser", None),
    ("account", "registerUser", None),
    ("account", "removeUser", None),
    ("account", "banUser", None),
    ("account", "changeUserPassword", None),
    ("account", "importUsers", None),
    ("checkAuth", "checkAuth", None),
    ("last", "getLast", None),
    ("last", "countActiveUsers", None),
    ("last", "listOldUsers", None),
    ("last", "setLast", None),
    ("last", "removeOldUsers", None),
    ("offline", "deleteExpiredMessages", None),
    ("offline", "deleteOldMessages", None),
    ("private", "getPrivate", None),
    ("private", "setPrivate", None),
    ("roster", "listContacts", None),
    ("roster", "getContact", None),
    ("roster", "addContact", None),
    ("roster", "addContacts", None),
    ("roster", "subscription", None),
    ("roster", "deleteContact", None),
    ("roster", "deleteContacts", None),
    ("roster", "setMutualSubscription", None),
    ("roster", "subscribeToAll", None),
    ("roster", "subscribeAllToAll", None),
    ("server", "status", None),
    ("server", "getLoglevel", None),
    ("server", "getCookie", None),
    ("server", "hostTypes", None),
    ("server", "globalInfo", None),
    ("server", "joinCluster", None),
    ("server", "leaveCluster", None),
    ("server", "removeFromCluster", None),
    ("server", "restart", None),
    ("server", "stop", None),
    ("server", "removeNode", None),
    ("server", "setLoglevel", None),
    ("session", "listSessions", None),
    ("session", "countSessions", None),
    ("session", "listUserSessions", None),
    ("session", "countUserResources", None),
    ("session", "getUserResource", None),
    ("session", "listUsersWithStatus", None),
    ("session", "countUsersWithStatus", None),
    ("session", "kickUserSession", None),
    ("session", "kickUser", None),
    ("session", "setPresence", None),
    ("stanza", "getLastMessages", None),
    ("stanza", "sendMessage", None),
    ("stanza", "sendMessageHeadLine", None),
    ("stanza", "sendStanza", None),
    (
        "stanza",
        "subscribeForMessages",
        Some("subscriptions are not supported yet"),
    ),
    (
        "stanza",
        "subscribeForTraffic",
        Some("subscriptions are not supported yet"),
    ),
    ("stat", "globalStats", None),
    ("stat", "domainStats", None),
    ("vcard", "getVcard", None),
    ("vcard", "setVcard", None),
];

#[test]
fn the_commands_are_those_of_mongooseim() {
    let commands = Commands::of_schema();
    let mut ours: Vec<(&str, &str)> = commands
        .categories
        .iter()
        .flat_map(|category| {
            let of_it = category.commands.iter();
            of_it.map(|command| (category.name.as_str(), command.name.as_str()))
        })
        .collect();
    let here = THEIRS.iter().filter(|(.., missing)| missing.is_none());
    let mut theirs: Vec<_> = here.map(|(category, name, _)| (*category, *name)).collect();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
}

#[test]
fn generated_schema_is_fresh() {
    let options = async_graphql::SDLExportOptions::new().use_space_ident();
    let sdl = format!(
        "# Generated by `cargo xtask gen` from the types of the admin API. Do not edit.\n\n{}",
        schema().sdl_with_options(options).trim_start()
    );
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.graphql");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &sdl).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == sdl,
        "server/schema.graphql is stale: run `cargo xtask gen`"
    );
}

// ---- by category

#[tokio::test]
async fn accounts_are_made_found_and_changed() {
    let chat = ChatNode::start(&["romeo"]).await;
    let made = run(
        &chat,
        "account",
        "registerUser",
        json!({
            "domain": "LOCALHOST", "username": "Juliet", "password": "old",
        }),
    )
    .await;
    assert_eq!(made["jid"], JULIET);
    let random = run(
        &chat,
        "account",
        "registerUser",
        json!({
            "domain": "localhost", "password": "secret",
        }),
    )
    .await;
    let random = random["jid"].as_str().unwrap().to_owned();
    let users = run(
        &chat,
        "account",
        "listUsers",
        json!({ "domain": "localhost" }),
    )
    .await;
    let mut expected = vec![JULIET, ROMEO, &random];
    expected.sort_unstable();
    assert_eq!(users, json!(expected));
    let page = json!({ "domain": "localhost", "limit": 1, "index": 1 });
    let users = run(&chat, "account", "listUsers", page).await;
    assert_eq!(users, json!([expected[1]]));
    let count = run(
        &chat,
        "account",
        "countUsers",
        json!({ "domain": "localhost" }),
    )
    .await;
    assert_eq!(count, json!(3));
    for (user, exists) in [
        (JULIET, true),
        ("nobody@localhost", false),
        ("a@elsewhere", false),
    ] {
        let found = run(&chat, "account", "checkUser", json!({ "user": user })).await;
        assert_eq!(found["exist"], json!(exists), "{user}");
    }
    let new = json!({ "user": JULIET, "newPassword": "new" });
    run(&chat, "account", "changeUserPassword", new).await;
    for (password, correct) in [("old", false), ("new", true)] {
        let args = json!({ "user": JULIET, "password": password });
        let checked = run(&chat, "account", "checkPassword", args).await;
        assert_eq!(checked["correct"], json!(correct));
        assert!(!checked["message"].as_str().unwrap().contains(password));
    }
    chat.stop().await;
}

#[tokio::test]
async fn what_cannot_be_done_to_accounts_is_told_with_their_codes() {
    let chat = ChatNode::start(&["romeo"]).await;
    let check = async |command: &str, args: Value, expected: &str| {
        assert_eq!(
            code(&chat, "account", command, args).await,
            expected,
            "{command}"
        );
    };
    check(
        "listUsers",
        json!({ "domain": "elsewhere" }),
        "domain_not_found",
    )
    .await;
    check(
        "countUsers",
        json!({ "domain": "elsewhere" }),
        "domain_not_found",
    )
    .await;
    let register = |domain: &str, password: &str| json!({ "domain": domain, "username": "romeo", "password": password });
    check("registerUser", register("localhost", "x"), "exists").await;
    check(
        "registerUser",
        register("elsewhere", "x"),
        "cannot_register",
    )
    .await;
    check("registerUser", register("localhost", ""), "empty_password").await;
    let nobody = "nobody@localhost";
    check("removeUser", json!({ "user": nobody }), "not_allowed").await;
    check(
        "banUser",
        json!({ "user": nobody, "reason": "r" }),
        "user_does_not_exist",
    )
    .await;
    let change = |user: &str, new: &str| json!({ "user": user, "newPassword": new });
    check("changeUserPassword", change(nobody, "x"), "not_allowed").await;
    check("changeUserPassword", change(ROMEO, ""), "empty_password").await;
    let password = json!({ "user": nobody, "password": "x" });
    check("checkPassword", password, "user_does_not_exist").await;
    let hash = |method: &str| json!({ "user": ROMEO, "passwordHash": "x", "hashMethod": method });
    check("checkPasswordHash", hash("md5"), "wrong_user").await;
    check("checkPasswordHash", hash("rot13"), "wrong_method").await;
    check(
        "importUsers",
        json!({ "filename": "/nonexistent" }),
        "file_not_found",
    )
    .await;
    chat.stop().await;
}

#[tokio::test]
async fn accounts_are_imported() {
    let chat = ChatNode::start(&["romeo"]).await;
    let path = chat.node.dir().join("users.csv");
    std::fs::write(&path, "romeo,localhost,x\njuliet,localhost,secret\n").unwrap();
    let report = run(&chat, "account", "importUsers", json!({ "filename": path })).await;
    assert_eq!(report["created"], json!([JULIET]), "{report}");
    assert_eq!(report["existing"], json!([ROMEO]), "{report}");
    Client::logged_in(chat.node.address, "juliet").await;
    chat.stop().await;
}

#[tokio::test]
async fn who_is_removed_is_gone_and_contacts_learn_of_it() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut romeo = chat.online("romeo", "r").await;
    let mut juliet = chat.online("juliet", "j").await;
    run(&chat, "account", "removeUser", json!({ "user": ROMEO })).await;
    assert_eq!(romeo.stream_error().await, "not-authorized");
    assert_eq!(push(&mut juliet).await, (ROMEO.into(), "to".into()));
    assert_eq!(push(&mut juliet).await, (ROMEO.into(), "none".into()));
    let found = run(&chat, "account", "checkUser", json!({ "user": ROMEO })).await;
    assert_eq!(found["exist"], json!(false));
    let rows = "SELECT username FROM rosterusers WHERE username = 'romeo'";
    assert!(fetch_raw(&chat.db, rows).await.is_empty());
    chat.stop().await;
}

/// Security case M13: what was left of somebody's session is nobody's.
#[tokio::test]
async fn m13_a_session_ends_with_its_account() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "r").await;
    let previd = romeo.enable().await;
    romeo.cut();
    let session = chat.node.find("romeo@localhost/r").unwrap();
    crate::testing::until(|| session.has(crate::outlet::Flag::Detached)).await;
    run(&chat, "account", "removeUser", json!({ "user": ROMEO })).await;
    let again =
        json!({ "domain": "localhost", "username": "romeo", "password": crate::testing::PASSWORD });
    run(&chat, "account", "registerUser", again).await;
    let mut other = Client::logged_in(chat.node.address, "romeo").await;
    other
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' h='0' previd='{previd}'/>"
        ))
        .await;
    let failed = other.expect("failed").await;
    assert_eq!(failed.elements().next().unwrap().name(), "item-not-found");
    chat.stop().await;
}

#[tokio::test]
async fn who_is_banned_is_sent_away_and_does_not_come_back() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    let ban = json!({ "user": ROMEO, "reason": "spam" });
    run(&chat, "account", "banUser", ban).await;
    assert_eq!(romeo.stream_error().await, "not-authorized");
    let password = json!({ "user": ROMEO, "password": crate::testing::PASSWORD });
    let checked = run(&chat, "account", "checkPassword", password).await;
    assert_eq!(checked["correct"], json!(false));
    chat.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_counted() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut away = chat.online("romeo", "b").await;
    away.send("<presence><show>away</show><status>Brb</status><priority>3</priority></presence>")
        .await;
    fence(&mut away).await;
    let _plain = chat.node.session("romeo", "a").await;
    let _juliet = chat.online("juliet", "j").await;
    let user = || json!({ "user": ROMEO });
    let everywhere = || json!({});
    let sessions = run(
        &chat,
        "session",
        "listSessions",
        json!({ "domain": "localhost" }),
    )
    .await;
    let names: Vec<_> = sessions
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["user"].clone())
        .collect();
    assert_eq!(
        names,
        [
            "juliet@localhost/j",
            "romeo@localhost/a",
            "romeo@localhost/b"
        ]
    );
    let last = &sessions[2];
    assert_eq!(last["connection"], "c2s");
    assert_eq!(last["ip"], "127.0.0.1");
    assert!(last["port"].as_u64().unwrap() > 0 && last["uptime"].is_u64());
    assert_eq!(
        (&last["priority"], &sessions[1]["priority"]),
        (&json!(3), &Value::Null)
    );
    assert_eq!(
        run(&chat, "session", "listSessions", everywhere()).await,
        sessions
    );
    assert_eq!(
        run(&chat, "session", "countSessions", everywhere()).await,
        3
    );
    let own = run(&chat, "session", "listUserSessions", user()).await;
    assert_eq!(own, json!([sessions[1], sessions[2]]));
    assert_eq!(run(&chat, "session", "countUserResources", user()).await, 2);
    chat.stop().await;
}

#[tokio::test]
async fn sessions_are_found_by_number_and_by_status() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut away = chat.online("romeo", "b").await;
    away.send("<presence><show>away</show><status>Brb</status><priority>3</priority></presence>")
        .await;
    fence(&mut away).await;
    let _plain = chat.online("romeo", "a").await;
    let nth = |number: u32| json!({ "user": ROMEO, "number": number });
    assert_eq!(run(&chat, "session", "getUserResource", nth(2)).await, "b");
    assert_eq!(
        code(&chat, "session", "getUserResource", nth(3)).await,
        "wrong_res_number"
    );
    let status = |status: &str| json!({ "domain": "localhost", "status": status });
    let found = run(&chat, "session", "listUsersWithStatus", status("away")).await;
    let expected = json!([{ "user": "romeo@localhost/b", "priority": 3, "text": "Brb" }]);
    assert_eq!(found, expected);
    let available = run(
        &chat,
        "session",
        "countUsersWithStatus",
        status("available"),
    )
    .await;
    assert_eq!(available, 1);
    let nobody = || json!({ "user": "nobody@localhost" });
    assert_eq!(
        code(&chat, "session", "listUserSessions", nobody()).await,
        "user_not_found"
    );
    let elsewhere = json!({ "domain": "elsewhere" });
    assert_eq!(
        code(&chat, "session", "countSessions", elsewhere).await,
        "domain_not_found"
    );
    chat.stop().await;
}

#[tokio::test]
async fn sessions_are_ended() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut one = chat.node.session("romeo", "one").await;
    let mut two = chat.node.session("romeo", "two").await;
    let kick = json!({ "user": "romeo@localhost/one", "reason": "enough" });
    let kicked = run(&chat, "session", "kickUserSession", kick.clone()).await;
    assert_eq!(kicked["kicked"], json!(true));
    let error = one.expect("error").await;
    let text = error.elements().find(|child| child.name() == "text");
    assert_eq!(text.unwrap().text(), "enough");
    assert_eq!(
        code(&chat, "session", "kickUserSession", kick).await,
        "no_session"
    );
    let all = run(&chat, "session", "kickUser", json!({ "user": ROMEO })).await;
    assert_eq!(all[0]["jid"], "romeo@localhost/two");
    assert_eq!(two.stream_error().await, "conflict");
    let none = run(&chat, "session", "kickUser", json!({ "user": ROMEO })).await;
    assert_eq!(none, json!([]));
    chat.stop().await;
}

#[tokio::test]
async fn the_presence_of_a_session_is_set_and_told() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut romeo = chat.online("romeo", "r").await;
    let mut juliet = chat.online("juliet", "j").await;
    fence(&mut romeo).await;
    let set = json!({
        "user": "romeo@localhost/r", "type": "AVAILABLE", "show": "DND", "status": "no", "priority": -1,
    });
    run(&chat, "session", "setPresence", set).await;
    let presence = juliet.expect("presence").await;
    assert_eq!(presence.attr("from"), Some("romeo@localhost/r"));
    assert_eq!(presence.child("show", ns::CLIENT).unwrap().text(), "dnd");
    let session = chat.node.find("romeo@localhost/r").unwrap();
    assert_eq!(session.priority(), Some(-1));
    let leave = json!({ "user": "romeo@localhost/r", "type": "UNAVAILABLE" });
    run(&chat, "session", "setPresence", leave).await;
    let presence = juliet.expect("presence").await;
    assert_eq!(presence.attr("type"), Some("unavailable"));
    assert_eq!(session.priority(), None);
    let check = async |args: Value, expected: &str| {
        assert_eq!(code(&chat, "session", "setPresence", args).await, expected);
    };
    check(
        json!({ "user": ROMEO, "type": "AVAILABLE" }),
        "empty_resource",
    )
    .await;
    let of = |user: &str| json!({ "user": user, "type": "AVAILABLE", "priority": 128 });
    check(of("romeo@localhost/r"), "invalid_presence").await;
    check(
        json!({ "user": "romeo@localhost/x", "type": "AVAILABLE" }),
        "no_session",
    )
    .await;
    check(
        json!({ "user": "nobody@localhost/x", "type": "AVAILABLE" }),
        "user_not_found",
    )
    .await;
    chat.stop().await;
}

#[tokio::test]
async fn messages_are_sent_as_somebody() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut juliet = chat.online("juliet", "j").await;
    let mut romeo = chat.online("romeo", "r").await;
    romeo
        .send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        .await;
    fence(&mut romeo).await;
    let sent = run(
        &chat,
        "stanza",
        "sendMessage",
        json!({
            "from": ROMEO, "to": JULIET, "body": "<hi> & \"bye\"",
        }),
    )
    .await;
    let message = juliet.expect("message").await;
    assert_eq!(message.attr("id"), sent["id"].as_str());
    assert_eq!(message.attr("type"), Some("chat"));
    assert_eq!(
        message.child("body", ns::CLIENT).unwrap().text(),
        "<hi> & \"bye\""
    );
    // The sender's own clients see it as what they have sent.
    let copy = romeo.expect("message").await;
    assert!(copy.child("sent", ns::CARBONS).is_some());
    run(
        &chat,
        "stanza",
        "sendMessageHeadLine",
        json!({
            "from": ROMEO, "to": "juliet@localhost/j", "subject": "News", "body": "none",
        }),
    )
    .await;
    let message = juliet.expect("message").await;
    assert_eq!(message.attr("type"), Some("headline"));
    assert_eq!(message.child("subject", ns::CLIENT).unwrap().text(), "News");
    let iq = "<iq from='romeo@localhost/r' to='localhost' type='get' id='v'><query xmlns='jabber:iq:version'/></iq>";
    let sent = run(&chat, "stanza", "sendStanza", json!({ "stanza": iq })).await;
    assert_eq!(sent["id"], "v");
    assert_eq!(romeo.expect("iq").await.attr("type"), Some("result"));
    chat.stop().await;
}

#[tokio::test]
async fn what_nobody_may_send_is_told() {
    let chat = ChatNode::start(&["romeo"]).await;
    let send = |from: &str| json!({ "from": from, "to": ROMEO, "body": "x" });
    for from in ["nobody@localhost", "a@elsewhere", "localhost"] {
        assert_eq!(
            code(&chat, "stanza", "sendMessage", send(from)).await,
            "unknown_user"
        );
    }
    for (xml, expected) in [
        ("<message to='a@b'/>", "no_sender"),
        ("<message from='romeo@localhost'/>", "no_recipient"),
        ("<message from='@' to='a@b'/>", "invalid_sender"),
        (
            "<message from='romeo@localhost' to='@'/>",
            "invalid_recipient",
        ),
        ("<query from='romeo@localhost' to='a@b'/>", "invalid_stanza"),
        (
            "<message from='nobody@localhost' to='a@b'/>",
            "unknown_user",
        ),
    ] {
        let args = json!({ "stanza": xml });
        assert_eq!(
            code(&chat, "stanza", "sendStanza", args).await,
            expected,
            "{xml}"
        );
    }
    assert_eq!(
        code(&chat, "stanza", "sendStanza", json!({})).await,
        "invalid_stanza"
    );
    let last = json!({ "caller": ROMEO });
    assert_eq!(
        code(&chat, "stanza", "getLastMessages", last).await,
        "deps_not_loaded"
    );
    chat.stop().await;
}

/// Acknowledged means safe: a message that was answered with an id is in the database, or was acknowledged.
#[tokio::test]
async fn a_message_that_was_answered_is_safe() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut juliet = chat.node.session("juliet", "j").await;
    juliet.enable().await;
    juliet.send("<presence/>").await;
    fence(&mut juliet).await;
    let send = || json!({ "from": ROMEO, "to": JULIET, "body": "x" });
    run(&chat, "stanza", "sendMessage", send()).await;
    juliet.expect("message").await;
    // She has it, and has not said so: its row is there.
    let rows = fetch_raw(&chat.db, "SELECT to_jid FROM in_flight");
    assert_eq!(rows.await.len(), 1);
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='100'/>").await;
    drop(juliet);
    chat.stop().await;
}

#[tokio::test]
async fn a_message_for_nobody_waits_in_the_store() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let send = json!({ "from": ROMEO, "to": JULIET, "body": "x" });
    run(&chat, "stanza", "sendMessage", send).await;
    let store = OfflineStore::new(chat.db.clone(), Quota::default());
    assert_eq!(store.count(&account("juliet"), 0).await.unwrap(), 1);
    let mut juliet = chat.node.session("juliet", "j").await;
    juliet.send("<presence/>").await;
    assert_eq!(juliet.expect("message").await.attr("from"), Some(ROMEO));
    chat.stop().await;
}

#[tokio::test]
async fn contacts_are_added_and_pushed() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    let add = json!({ "user": ROMEO, "contact": JULIET, "name": "J", "groups": ["a", "b"] });
    run(&chat, "roster", "addContact", add).await;
    assert_eq!(push(&mut romeo).await, (JULIET.into(), "none".into()));
    let contact = json!({
        "jid": JULIET, "name": "J", "groups": ["a", "b"], "subscription": "NONE", "ask": "NONE",
    });
    let one = json!({ "user": ROMEO, "contact": JULIET });
    assert_eq!(
        run(&chat, "roster", "getContact", one.clone()).await,
        contact
    );
    let user = json!({ "user": ROMEO });
    assert_eq!(
        run(&chat, "roster", "listContacts", user.clone()).await,
        json!([contact])
    );
    // Each is answered for itself.
    let nurse = json!({ "jid": "nurse@localhost", "name": "N" });
    let nobody = json!({ "jid": "nobody@localhost", "name": "N" });
    let more = json!({ "user": ROMEO, "contacts": [nurse, nobody] });
    let answered = answer(&chat.node, "roster", "addContacts", more).await;
    let results = &answered["data"]["roster"]["addContacts"];
    assert!(results[0].is_string() && results[1].is_null(), "{answered}");
    assert_eq!(
        answered["errors"][0]["path"],
        json!(["roster", "addContacts", 1])
    );
    assert_eq!(
        answered["errors"][0]["extensions"]["code"],
        "user_not_exist"
    );
    assert_eq!(push(&mut romeo).await.0, "nurse@localhost");
    run(&chat, "roster", "deleteContact", one.clone()).await;
    assert_eq!(push(&mut romeo).await, (JULIET.into(), "remove".into()));
    assert_eq!(
        code(&chat, "roster", "deleteContact", one.clone()).await,
        "contact_not_found"
    );
    assert_eq!(
        code(&chat, "roster", "getContact", one).await,
        "contact_not_found"
    );
    let both = json!({ "user": ROMEO, "contacts": ["nurse@localhost"] });
    run(&chat, "roster", "deleteContacts", both).await;
    assert_eq!(
        push(&mut romeo).await,
        ("nurse@localhost".into(), "remove".into())
    );
    assert_eq!(run(&chat, "roster", "listContacts", user).await, json!([]));
    let nobody = json!({ "user": "nobody@localhost" });
    assert_eq!(
        code(&chat, "roster", "listContacts", nobody).await,
        "user_not_exist"
    );
    let elsewhere = json!({ "user": "a@elsewhere" });
    assert_eq!(
        code(&chat, "roster", "listContacts", elsewhere).await,
        "unknown_domain"
    );
    let long = vec!["nurse@localhost"; crate::api::terms::LIST_ITEMS_MAX + 1];
    let many = json!({ "user": ROMEO, "contacts": long });
    assert_eq!(
        code(&chat, "roster", "deleteContacts", many).await,
        "too_many_items"
    );
    chat.stop().await;
}

#[tokio::test]
async fn subscriptions_go_the_way_of_those_of_clients() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    let mut juliet = chat.online("juliet", "j").await;
    let act = |user: &str, contact: &str, action: &str| json!({ "user": user, "contact": contact, "action": action });
    run(
        &chat,
        "roster",
        "subscription",
        act(ROMEO, JULIET, "INVITE"),
    )
    .await;
    let asked = juliet.expect("presence").await;
    assert_eq!(
        (asked.attr("from"), asked.attr("type")),
        (Some(ROMEO), Some("subscribe"))
    );
    let ask = run(
        &chat,
        "roster",
        "getContact",
        json!({ "user": JULIET, "contact": ROMEO }),
    )
    .await;
    assert_eq!(ask["ask"], "IN");
    run(
        &chat,
        "roster",
        "subscription",
        act(JULIET, ROMEO, "ACCEPT"),
    )
    .await;
    assert_eq!(push(&mut juliet).await, (ROMEO.into(), "from".into()));
    // He sees her now.
    loop {
        let presence = romeo.expect("presence").await;
        if presence.attr("from") == Some("juliet@localhost/j") {
            break;
        }
    }
    run(
        &chat,
        "roster",
        "subscription",
        act(JULIET, ROMEO, "DECLINE"),
    )
    .await;
    assert_eq!(push(&mut juliet).await, (ROMEO.into(), "none".into()));
    run(
        &chat,
        "roster",
        "subscription",
        act(ROMEO, JULIET, "CANCEL"),
    )
    .await;
    let item = run(
        &chat,
        "roster",
        "getContact",
        json!({ "user": ROMEO, "contact": JULIET }),
    )
    .await;
    assert_eq!(
        (&item["subscription"], &item["ask"]),
        (&json!("NONE"), &json!("NONE"))
    );
    let own = act(ROMEO, ROMEO, "INVITE");
    assert_eq!(code(&chat, "roster", "subscription", own).await, "internal");
    chat.stop().await;
}

#[tokio::test]
async fn accounts_are_made_friends() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse", "tybalt"]).await;
    let both = |action: &str| json!({ "userA": ROMEO, "userB": JULIET, "action": action });
    let subscription = async |user: &str, contact: &str| {
        let args = json!({ "user": user, "contact": contact });
        run(&chat, "roster", "getContact", args).await["subscription"].clone()
    };
    let mut romeo = chat.online("romeo", "r").await;
    run(&chat, "roster", "setMutualSubscription", both("CONNECT")).await;
    while push(&mut romeo).await != (JULIET.into(), "both".into()) {}
    assert_eq!(subscription(ROMEO, JULIET).await, "BOTH");
    assert_eq!(subscription(JULIET, ROMEO).await, "BOTH");
    run(&chat, "roster", "setMutualSubscription", both("DISCONNECT")).await;
    while push(&mut romeo).await != (JULIET.into(), "remove".into()) {}
    let named = |jid: &str| json!({ "jid": jid, "name": jid, "groups": ["all"] });
    let (nurse, tybalt) = ("nurse@localhost", "tybalt@localhost");
    let all =
        json!({ "user": named(ROMEO), "contacts": [named(nurse), named("nobody@localhost")] });
    let answered = answer(&chat.node, "roster", "subscribeToAll", all).await;
    let results = &answered["data"]["roster"]["subscribeToAll"];
    assert!(results[0].is_string() && results[1].is_null(), "{answered}");
    assert_eq!(subscription(nurse, ROMEO).await, "BOTH");
    let mesh = json!({ "contacts": [named(JULIET), named(nurse), named(tybalt)] });
    let done = run(&chat, "roster", "subscribeAllToAll", mesh).await;
    assert_eq!(done.as_array().unwrap().len(), 3);
    for (user, contact) in [(JULIET, nurse), (nurse, tybalt), (tybalt, JULIET)] {
        assert_eq!(subscription(user, contact).await, "BOTH");
    }
    let item = run(
        &chat,
        "roster",
        "getContact",
        json!({ "user": JULIET, "contact": tybalt }),
    )
    .await;
    assert_eq!(
        (&item["name"], &item["groups"]),
        (&json!(tybalt), &json!(["all"]))
    );
    let many = json!({ "contacts": vec![named(JULIET); 100] });
    assert_eq!(
        code(&chat, "roster", "subscribeAllToAll", many).await,
        "too_many_items"
    );
    chat.stop().await;
}

#[tokio::test]
async fn when_somebody_was_there_is_told_and_set() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse"]).await;
    let user = |name: &str| json!({ "user": name });
    assert_eq!(
        code(&chat, "last", "getLast", user(ROMEO)).await,
        "last_not_found"
    );
    let set = json!({ "user": ROMEO, "timestamp": "2020-01-02T03:04:05Z", "status": "bye" });
    let expected =
        json!({ "user": ROMEO, "timestamp": "2020-01-02T03:04:05.000Z", "status": "bye" });
    assert_eq!(run(&chat, "last", "setLast", set).await, expected);
    assert_eq!(run(&chat, "last", "getLast", user(ROMEO)).await, expected);
    run(
        &chat,
        "last",
        "setLast",
        json!({ "user": JULIET, "status": "" }),
    )
    .await;
    let since = |time: &str| json!({ "domain": "localhost", "timestamp": time });
    let active = run(
        &chat,
        "last",
        "countActiveUsers",
        since("2020-01-01T00:00:00Z"),
    )
    .await;
    assert_eq!(active, 2);
    let active = run(
        &chat,
        "last",
        "countActiveUsers",
        since("2020-01-03T00:00:00Z"),
    )
    .await;
    assert_eq!(active, 1);
    // Who is there is not old, whenever they left the last time.
    let romeo = chat.node.session("romeo", "r").await;
    let nurse = json!({ "jid": "nurse@localhost", "timestamp": null });
    let time = "2020-01-03T00:00:00Z";
    let old = run(&chat, "last", "listOldUsers", json!({ "timestamp": time })).await;
    assert_eq!(old, json!([nurse]));
    drop(romeo);
    crate::testing::until(|| chat.node.router.sessions.count() == 0).await;
    let away = json!({ "jid": ROMEO, "timestamp": "2020-01-02T03:04:05.000Z" });
    let removed = run(&chat, "last", "removeOldUsers", since(time)).await;
    assert_eq!(removed, json!([nurse, away]));
    let left = run(
        &chat,
        "account",
        "listUsers",
        json!({ "domain": "localhost" }),
    )
    .await;
    assert_eq!(left, json!([JULIET]));
    let nobody = user("nobody@localhost");
    assert_eq!(
        code(&chat, "last", "getLast", nobody).await,
        "user_does_not_exist"
    );
    let elsewhere = json!({ "domain": "elsewhere", "timestamp": time });
    assert_eq!(
        code(&chat, "last", "listOldUsers", elsewhere).await,
        "domain_not_found"
    );
    chat.stop().await;
}

#[tokio::test]
async fn messages_that_nobody_fetches_are_deleted() {
    let chat = ChatNode::start(&["romeo"]).await;
    let store = OfflineStore::new(chat.db.clone(), Quota::default());
    let (now, day) = (stamp::now_us(), 86_400_000_000);
    let keep = async |received_at, expires_at| {
        let message = NewMessage {
            from: "a@b".into(),
            stanza: "<message/>".into(),
            received_at,
            expires_at,
        };
        store.push(&account("romeo"), message).await.unwrap();
    };
    keep(now - 3 * day, None).await;
    keep(now - 3 * day, Some(now - day)).await;
    keep(now - day / 2, None).await;
    let domain = json!({ "domain": "localhost" });
    let deleted = run(&chat, "offline", "deleteExpiredMessages", domain).await;
    assert_eq!(deleted, "Removed 1 messages");
    let old = json!({ "domain": "localhost", "days": 1 });
    let deleted = run(&chat, "offline", "deleteOldMessages", old).await;
    assert_eq!(deleted, "Removed 1 messages");
    assert_eq!(store.count(&account("romeo"), now).await.unwrap(), 1);
    let elsewhere = json!({ "domain": "elsewhere" });
    let refused = code(&chat, "offline", "deleteExpiredMessages", elsewhere).await;
    assert_eq!(refused, "domain_not_found");
    chat.stop().await;
}

#[tokio::test]
async fn what_accounts_keep_is_read_and_written() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    let xml = "<storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage>";
    let set = json!({ "user": ROMEO, "elementString": xml });
    run(&chat, "private", "setPrivate", set).await;
    let get =
        |name: &str, space: &str| json!({ "user": ROMEO, "element": name, "nameSpace": space });
    let kept = run(
        &chat,
        "private",
        "getPrivate",
        get("storage", "storage:bookmarks"),
    )
    .await;
    let kept = Element::parse(kept.as_str().unwrap().as_bytes(), "").unwrap();
    assert_eq!(kept, Element::parse(xml.as_bytes(), "").unwrap());
    romeo
        .send("<iq type='get' id='p'><query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query></iq>")
        .await;
    let answer = romeo.expect("iq").await;
    let query = answer.child("query", ns::PRIVATE).unwrap();
    assert_eq!(query.elements().next().unwrap(), &kept);
    let empty = run(&chat, "private", "getPrivate", get("a", "urn:b")).await;
    assert_eq!(empty, "<a xmlns='urn:b'/>");
    for name in ["", "a b", "a/><b", "a:b"] {
        let refused = code(&chat, "private", "getPrivate", get(name, "urn:b")).await;
        assert_eq!(refused, "invalid_element", "{name}");
    }
    let plain = json!({ "user": ROMEO, "elementString": "<a/>" });
    assert_eq!(
        code(&chat, "private", "setPrivate", plain).await,
        "invalid_element"
    );
    let nobody = json!({ "user": "nobody@localhost", "elementString": xml });
    assert_eq!(
        code(&chat, "private", "setPrivate", nobody).await,
        "not_found"
    );
    chat.stop().await;
}

#[tokio::test]
async fn numbers_are_counted() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let _romeo = chat.online("romeo", "r").await;
    let global = run(&chat, "stat", "globalStats", json!({})).await;
    assert!(global["uptimeSeconds"].is_u64());
    for (name, expected) in [
        ("registeredUsers", 2),
        ("onlineUsers", 1),
        ("onlineUsersNode", 1),
        ("incomingS2S", 0),
        ("outgoingS2S", 0),
    ] {
        assert_eq!(global[name], json!(expected), "{name}");
    }
    let domain = run(
        &chat,
        "stat",
        "domainStats",
        json!({ "domain": "localhost" }),
    )
    .await;
    assert_eq!(domain, json!({ "registeredUsers": 2, "onlineUsers": 1 }));
    let elsewhere = json!({ "domain": "elsewhere" });
    assert_eq!(
        code(&chat, "stat", "domainStats", elsewhere).await,
        "domain_not_found"
    );
    chat.stop().await;
}

#[tokio::test]
async fn the_node_tells_of_itself() {
    let chat = ChatNode::start(&[]).await;
    let status = run(&chat, "server", "status", json!({})).await;
    assert_eq!(status["statusCode"], "RUNNING");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let types = run(&chat, "server", "hostTypes", json!({})).await;
    assert_eq!(types[0]["name"], "localhost");
    assert_eq!(types[0]["authMethods"], json!(["rdbms", "anonymous"]));
    let modules = types[0]["modules"].as_array().unwrap();
    let roster = modules.iter().find(|module| module["name"] == "mod_roster");
    let backend = json!([{ "key": "backend", "value": "rdbms" }]);
    assert_eq!(roster.unwrap()["options"], backend);
    let global = run(&chat, "server", "globalInfo", json!({})).await;
    assert_eq!(global, json!({ "services": [], "internalDatabases": [] }));
    let who = answer(&chat.node, "checkAuth", "checkAuth", json!({})).await;
    let expected = json!({ "domain": null, "authStatus": "AUTHORIZED", "authType": "ADMIN" });
    assert_eq!(who["data"]["checkAuth"], expected);
    // What has no meaning here says so. A process of tests has no log of the node's.
    for (command, args) in [
        ("getCookie", json!({})),
        ("joinCluster", json!({ "node": "a@b" })),
        ("leaveCluster", json!({})),
        ("removeFromCluster", json!({ "node": "a@b" })),
        ("removeNode", json!({ "node": "a@b" })),
        ("restart", json!({})),
        ("getLoglevel", json!({})),
        ("setLoglevel", json!({ "level": "DEBUG" })),
    ] {
        assert_eq!(
            code(&chat, "server", command, args).await,
            "not_supported",
            "{command}"
        );
    }
    chat.stop().await;
}

#[tokio::test]
async fn a_node_is_stopped_as_by_a_signal() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.online("romeo", "r").await;
    run(&chat, "server", "stop", json!({})).await;
    assert_eq!(romeo.stream_error().await, "system-shutdown");
    soon(chat.node.running).await.unwrap();
}
