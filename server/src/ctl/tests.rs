//! The command line: what is understood, and what goes to the node.
use super::*;

fn parse_args(args: &[&str], input: &str) -> Result<Request, String> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    parse(&Commands::of_schema(), &args, input.as_bytes())
}

fn parsed(line: &str) -> Result<Request, String> {
    parse_args(&line.split(' ').collect::<Vec<_>>(), "")
}

fn question(args: &[&str], input: &str) -> Result<Value, String> {
    match parse_args(args, input)? {
        Request::Run { question, .. } => Ok(question),
        Request::Help(text) => Err(text),
    }
}

#[test]
fn the_data_directory_may_stand_anywhere() {
    let check = |line: &str, data_dir: &str| {
        let Ok(Request::Run { node, question }) = parsed(line) else {
            panic!("{line}")
        };
        let data_dir = data_dir.into();
        assert_eq!(node, Node::Here { data_dir }, "{line}");
        let expected = json!({
            "query": "query($domain: DomainName!) { account { countUsers(domain: $domain) } }",
            "variables": { "domain": "localhost" },
        });
        assert_eq!(question, expected, "{line}");
    };
    check("account countUsers --domain localhost", DATA_DIR_DEFAULT);
    check("--data-dir d account countUsers --domain localhost", "d");
    check("account --data-dir=d countUsers --domain=localhost", "d");
    check("account countUsers --domain localhost --data-dir d", "d");
}

#[test]
fn what_cannot_be_understood_is_told() {
    let check = |line: &str, expected: &str| {
        let problem = parsed(line).unwrap_err();
        assert!(problem.contains(expected), "{line}: {problem}");
    };
    check("nope", "there is no category \"nope\"");
    check("account nope", "account has no command \"nope\"");
    check(
        "account countUsers",
        "--domain is missing: meerkatctl account",
    );
    check("account countUsers --domain", "--domain needs a value");
    check(
        "account countUsers --nope x",
        "there is no argument --nope: meerkatctl",
    );
    check(
        "account countUsers -d x",
        "there is no argument -d: meerkatctl",
    );
    check("account countUsers a --domain b", "\"a\" is too much");
    check(
        "account countUsers --domain a --domain b",
        "--domain is given twice",
    );
    check("--data-dir a --data-dir b", "--data-dir is given twice");
    check("--data-dir", "--data-dir needs a value");
    check("graphql", "one document is expected");
    check("graphql a b", "one document is expected");
    check("graphql {a} --nope x", "there is no argument --nope");
    check("graphql {a} --variables x", "--variables is no JSON object");
    check("completion fish", "meerkatctl completion bash");
    check("server status --url ftp://a", "begins with https://");
    check("server status --url https://a --data-dir b", "take one");
    check("--user a server status", "of use with --url only");
    check(
        "--url https://a --user a server status",
        "--user needs --password-file",
    );
    check(
        "--url https://a --password-file a server status",
        "needs --user",
    );
    check(
        "account listUsers --domain a --limit x",
        "--limit is no JSON for PosInt",
    );
}

#[test]
fn help_is_of_as_much_as_is_named() {
    let check = |line: &str, expected: &str, unexpected: &str| {
        let Ok(Request::Help(text)) = parsed(line) else {
            panic!("{line}: no help")
        };
        assert!(text.contains(expected), "{line}: {text}");
        assert!(!text.contains(unexpected), "{line}: {text}");
    };
    check("--help", "\n  account ", "registerUser");
    check("help", "\n  roster ", "registerUser");
    check("account", "registerUser", "kickUser");
    check("account --help", "registerUser", "kickUser");
    check(
        "account countUsers --help",
        "--domain DomainName!",
        "registerUser",
    );
    check(
        "account --help countUsers",
        "--domain DomainName!",
        "registerUser",
    );
    check("session setPresence --help", "One of AVAILABLE", "kickUser");
    check(
        "roster addContacts --help",
        "ContactInput { jid: JID!",
        "kickUser",
    );
    check("account registerUser --help", "- reads it from", "kickUser");
    check("graphql --help", "--operationName", "kickUser");
    check("--version", env!("CARGO_PKG_VERSION"), "registerUser");
}

#[test]
fn the_whole_result_is_asked_for() {
    let check = |args: &[&str], expected: &str| {
        let question = question(args, "").unwrap();
        assert_eq!(question["query"].as_str().unwrap(), expected);
    };
    check(
        &["account", "removeUser", "--user", "a@b"],
        "mutation($user: JID!) { account { removeUser(user: $user) { jid message } } }",
    );
    check(
        &["server", "hostTypes"],
        "query { server { hostTypes { name modules { name options { key value } } authMethods } } }",
    );
    check(&["stop"], "mutation { server { stop } }");
    let check_auth = "query { checkAuth { domain authStatus authType } }";
    check(&["checkAuth"], check_auth);
    check(&["checkAuth", "checkAuth"], check_auth);
    check(&["graphql", "{ a }"], "{ a }");
}

#[test]
fn values_have_the_type_of_their_argument() {
    let variables = |args: &[&str]| question(args, "").unwrap()["variables"].clone();
    let list = ["account", "listUsers", "--domain", "5", "--limit", "7"];
    assert_eq!(variables(&list), json!({ "domain": "5", "limit": 7 }));
    let groups = r#"["a", "b"]"#;
    let user = ["--user", "a@b", "--contact", "c@d"];
    let add = [&["roster", "addContact"], &user[..], &["--groups", groups]].concat();
    let expected = json!({ "user": "a@b", "contact": "c@d", "groups": ["a", "b"] });
    assert_eq!(variables(&add), expected);
    let action = [
        &["roster", "subscription"],
        &user[..],
        &["--action", "INVITE"],
    ]
    .concat();
    let expected = json!({ "user": "a@b", "contact": "c@d", "action": "INVITE" });
    assert_eq!(variables(&action), expected);
    let more = [
        "graphql",
        "q",
        "--variables",
        r#"{"a": 1}"#,
        "--operationName",
        "o",
    ];
    let expected = json!({ "query": "q", "variables": { "a": 1 }, "operationName": "o" });
    assert_eq!(question(&more, "").unwrap(), expected);
    let from_input = question(&["graphql", "-"], "{ b }").unwrap();
    assert_eq!(from_input, json!({ "query": "{ b }" }));
}

const REGISTER: [&str; 6] = [
    "account",
    "registerUser",
    "--username",
    "romeo",
    "--domain",
    "localhost",
];

/// Security case K06: a value is one argument, whatever stands in it, and never looked at again.
#[test]
fn k06_values_are_taken_as_they_are() {
    for value in [
        "--domain",
        "-",
        "$(id)",
        "a\nb; rm",
        "' \"",
        "",
        "\") { x }",
    ] {
        let args = ["account", "checkUser", "--user", value];
        let question = question(&args, "").unwrap();
        assert_eq!(question["variables"], json!({ "user": value }));
        assert_eq!(
            question["query"],
            "query($user: JID!) { account { checkUser(user: $user) { exist message } } }"
        );
    }
}

#[test]
fn k06_a_password_may_come_from_the_standard_input() {
    let register = |password, input| {
        let args = [&REGISTER[..], &["--password", password]].concat();
        Ok::<_, String>(question(&args, input)?["variables"]["password"].clone())
    };
    assert_eq!(register("secret", "other\n").unwrap(), json!("secret"));
    for input in [" se cret ", " se cret \n", " se cret \r\nmore\n"] {
        assert_eq!(register("-", input).unwrap(), json!(" se cret "));
    }
    for input in ["", "\n", "\nlate"] {
        assert!(register("-", input).unwrap_err().contains("no password"));
    }
    let long = "x".repeat(10_000);
    let read = register("-", &long).unwrap();
    assert_eq!(read.as_str().unwrap().len() as u64, PASSWORD_BYTES_MAX);
}

/// Before the category it is who asks, behind it whom the command is about.
#[test]
fn a_user_is_told_from_a_user() {
    let line = [
        "--url",
        "https://a",
        "--user",
        "admin",
        "--password-file",
        "-",
        "account",
        "checkUser",
        "--user",
        "a@b",
    ];
    let Ok(Request::Run { node, question }) = parse_args(&line, "secret\n") else {
        panic!("it is understood")
    };
    let secret = Some(("admin".into(), "secret".into()));
    let expected = http::Target::new("https://a", secret, None).unwrap();
    assert_eq!(node, Node::There(expected));
    assert_eq!(question["variables"], json!({ "user": "a@b" }));
}

#[test]
fn completion_knows_all_commands() {
    let Ok(Request::Help(script)) = parsed("completion bash") else {
        panic!("no script")
    };
    let commands = Commands::of_schema();
    for category in &commands.categories {
        for command in &category.commands {
            let (category, name) = (&category.name, &command.name);
            assert!(script.contains(&format!("{category}.{name})")), "{name}");
        }
    }
    assert!(script.contains("account.countUsers) words=\"--domain --help\""));
}
