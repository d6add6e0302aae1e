//! Documents that nobody may run: refused on what was parsed, before anything runs.
use super::*;

fn rights(caller: Caller) -> Rights {
    Rights {
        caller,
        categories: None,
        via: Via::Http,
    }
}

fn question(query: &str, operation_name: Option<&str>) -> Question {
    Question {
        query: query.into(),
        variables: Map::new(),
        operation_name: operation_name.map(Into::into),
    }
}

/// Status and code of a refusal; `None` if it would be run.
fn refusal(query: &str, operation: Option<&str>, caller: Caller) -> Option<(u16, String)> {
    let refused = check(question(query, operation), &rights(caller)).err()?;
    let code = &refused.body["errors"][0]["extensions"]["code"];
    Some((refused.status, code.as_str().unwrap().to_owned()))
}

/// Security case G01: whatever it is called, and however it is wrapped, is what it is.
#[test]
fn g01_nobody_hides_what_a_document_does() {
    let hidden = [
        ("{ account { countUsers(domain: \"a\") } }", None),
        ("{ checkAuth: account { countUsers(domain: \"a\") } }", None),
        ("query A { account { countUsers(domain: \"a\") } }", None),
        (
            "query A { checkAuth { authType } } query B { stat { globalStats { uptimeSeconds } } }",
            Some("B"),
        ),
        (
            "{ ...f } fragment f on AdminQuery { server { status { version } } }",
            None,
        ),
        (
            "{ ... on AdminQuery { server { status { version } } } }",
            None,
        ),
        (
            "{ ... { ...f } } fragment f on AdminQuery { ...g } fragment g on AdminQuery { server { getCookie } }",
            None,
        ),
        ("{ server @skip(if: true) { status { version } } }", None),
        ("mutation { server { stop } }", None),
        (
            "{ checkAuth { authType } __schema { types { name } } }",
            None,
        ),
        ("{ __type(name: \"JID\") { name } }", None),
    ];
    for (query, operation) in hidden {
        let expected = Some((401, "no_permissions".to_owned()));
        assert_eq!(
            refusal(query, operation, Caller::Nobody),
            expected,
            "{query}"
        );
        assert_eq!(refusal(query, operation, Caller::Admin), None, "{query}");
    }
    for open in [
        "{ checkAuth { authType } }",
        "{ x: checkAuth { authType } __typename }",
    ] {
        assert_eq!(refusal(open, None, Caller::Nobody), None, "{open}");
    }
    let both = "query A { checkAuth { authType } } query B { server { getCookie } }";
    assert_eq!(refusal(both, Some("A"), Caller::Nobody), None);
    for operation in [None, Some("C")] {
        assert!(refusal(both, operation, Caller::Admin).is_some());
    }
}

#[test]
fn g01_a_link_changes_nothing() {
    let changes = |query, operation| is_mutation(&question(query, operation));
    assert!(changes("mutation { server { stop } }", None));
    let both = "query A { checkAuth { authType } } mutation B { server { stop } }";
    assert!(changes(both, Some("B")));
    assert!(!changes(both, Some("A")));
    assert!(!changes("{ server { status { version } } }", None));
}

fn is_refused(query: &str, code: &str) {
    let expected = Some((400, code.to_owned()));
    let shown: String = query.chars().take(80).collect();
    assert_eq!(refusal(query, None, Caller::Admin), expected, "{shown}");
}

/// Security case G02.
#[test]
fn g02_what_is_too_large_is_refused_before_it_runs() {
    let deep = |levels: usize| format!("{}{}", "{ a ".repeat(levels), "}".repeat(levels));
    assert_eq!(refusal(&deep(DEPTH_MAX), None, Caller::Admin), None);
    is_refused(&deep(DEPTH_MAX + 1), "document_too_deep");
    is_refused(&deep(1_000), "document_too_large");
    // The reader has a limit of its own.
    is_refused(&deep(100), "parser_error");
    let aliases = |count: usize| {
        let all: String = (0..count).map(|n| format!("a{n}: b ")).collect();
        format!("{{ server {{ {all} }} }}")
    };
    assert_eq!(refusal(&aliases(COMMANDS_MAX), None, Caller::Admin), None);
    is_refused(&aliases(COMMANDS_MAX + 1), "too_many_commands");
    is_refused(&aliases(10_000), "document_too_large");
    is_refused(&" ".repeat(DOCUMENT_BYTES_MAX + 1), "document_too_large");
    is_refused("{ ...f } fragment f on A { b { ...f } }", "fragment_cycle");
    let two = "{ ...f } fragment f on A { ...g } fragment g on A { b { ...f } }";
    is_refused(two, "fragment_cycle");
    let aside = "{ a } fragment f on A { ...g } fragment g on A { ...f }";
    is_refused(aside, "fragment_cycle");
    is_refused(
        &format!("{{ a {} }}", "@x ".repeat(1_000)),
        "document_too_large",
    );
    for text in ["", "{", "nope", "{ a(b: \"", "\u{0}"] {
        is_refused(text, "parser_error");
    }
    is_refused("subscription { a }", "unsupported_operation");
}

/// Twice as much with each fragment: measured in a moment all the same.
#[test]
fn g02_fragments_that_double_are_measured_once() {
    let mut query = "{ server { ...f0 } }".to_owned();
    for n in 0..100 {
        query.push_str(&format!(
            " fragment f{n} on A {{ ...f{} ...f{} }}",
            n + 1,
            n + 1
        ));
    }
    query.push_str(" fragment f100 on A { a }");
    is_refused(&query, "document_too_large");
}

#[test]
fn g02_tokens_are_counted() {
    let check = |document: &str, expected| {
        assert_eq!(count_tokens(document, 1_000), expected, "{document}")
    };
    check("", 0);
    check(" ,\n\u{feff}", 0);
    check("{ a }", 3);
    check("query A($b: [C!] = -1.5e3) { d(e: $b) }", 22);
    check("{ a(b: \"c { d \\\" e\") }", 8);
    check("{ a(b: \"\"\"c { \" \\\"\"\" d\"\"\") }", 8);
    check("{ a # b c d\n e }", 4);
    check("# a", 0);
    check("\"", 1);
    check("\"\"\"a", 1);
    check("\"a\nb", 2);
    assert_eq!(count_tokens(&"a ".repeat(1_000), 10), 11);
}

#[test]
fn introspection_as_tools_do_it_is_within_the_limits() {
    let of = "ofType { name kind ".repeat(9) + &"}".repeat(9);
    let query = format!(
        "query IntrospectionQuery {{ __schema {{ queryType {{ name }} types {{ ...FullType }} \
         directives {{ name locations args {{ ...InputValue }} }} }} }} \
         fragment FullType on __Type {{ kind name fields(includeDeprecated: true) {{ name args {{ ...InputValue }} \
         type {{ ...TypeRef }} }} inputFields {{ ...InputValue }} interfaces {{ ...TypeRef }} \
         enumValues {{ name }} possibleTypes {{ ...TypeRef }} }} \
         fragment InputValue on __InputValue {{ name type {{ ...TypeRef }} defaultValue }} \
         fragment TypeRef on __Type {{ kind name {of} }}"
    );
    let checked = check(question(&query, None), &rights(Caller::Admin));
    let Ok(checked) = checked else {
        panic!("it is refused")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let response = runtime.block_on(schema().execute(checked.request));
    let reply = reply(response);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let types = reply.body["data"]["__schema"]["types"].as_array().unwrap();
    assert!(types.iter().any(|of| of["name"] == "AccountAdminQuery"));
}

/// What the schema refuses: MongooseIM's codes, no data, and no names that were not asked for (security case G03).
#[test]
fn g03_the_schema_tells_what_is_wrong_and_no_more() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let check = |query: &str, variables: Value, code: &str| {
        let Value::Object(variables) = variables else {
            panic!("an object")
        };
        let question = Question {
            variables,
            ..question(query, None)
        };
        let Ok(checked) = check(question, &rights(Caller::Admin)) else {
            panic!("{query} is refused")
        };
        let reply = reply(runtime.block_on(schema().execute(checked.request)));
        let error = &reply.body["errors"][0];
        assert_eq!(error["extensions"]["code"], json!(code), "{}", reply.body);
        assert_eq!(reply.status, 400, "{}", reply.body);
        assert_eq!(reply.body.get("data"), None);
        assert!(!error["message"].as_str().unwrap().contains("Did you mean"));
    };
    let none = || json!({});
    check("{ acount { countUsers } }", none(), "unknown_field");
    check(
        "{ account { countUsers } }",
        none(),
        "missing_non_null_param",
    );
    check(
        "{ account { countUsers(domain: \"a\", x: 1) } }",
        none(),
        "unknown_argument",
    );
    check(
        "{ account { countUsers(domain: 1) } }",
        none(),
        "input_coercion",
    );
    check(
        "{ account { countUsers(domain: \"a@b\") } }",
        none(),
        "input_coercion",
    );
    check(
        "{ account { countUsers(domain: $d) } }",
        none(),
        "unknown_variable",
    );
    let with =
        "query($d: DomainName!, $l: PosInt) { account { listUsers(domain: $d, limit: $l) } }";
    for (variables, what) in [
        (json!({ "d": null }), "null"),
        (json!({ "d": 1 }), "of another type"),
        (json!({ "d": "a", "l": 0 }), "out of range"),
        (
            json!({ "d": "a", "l": 9_223_372_036_854_775_808_u64 }),
            "2^63",
        ),
        (json!({ "d": "a", "l": "1" }), "a text"),
        (json!({ "d": "a", "l": 1.5 }), "a part"),
        (json!({ "d": ["a"] }), "a list"),
    ] {
        println!("{what}");
        check(with, variables, "input_coercion");
    }
}

#[test]
fn requests_come_as_bodies_or_as_links() {
    let parsed =
        Question::parse(br#"{"query": "{a}", "variables": "{\"b\": 1}", "operationName": null}"#);
    let expected = Question {
        query: "{a}".into(),
        variables: json!({ "b": 1 }).as_object().unwrap().clone(),
        operation_name: None,
    };
    assert_eq!(parsed.unwrap(), expected);
    let fields = [
        ("query", "{a}"),
        ("variables", r#"{"b": 1}"#),
        ("other", "x"),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(Question::of_fields(fields.into_iter()).unwrap(), expected);
    assert!(Question::of_fields(std::iter::empty()).is_err());
    // A lone surrogate is no text (security case G06).
    assert!(Question::parse(br#"{"query": "\ud800"}"#).is_err());
    assert!(
        Question::parse(br#"[{"query": "{a}"}]"#).is_err(),
        "no batches"
    );
}
