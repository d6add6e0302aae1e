use super::*;
use protocol::Jid;

fn acl(toml: &str) -> AclConfig {
    toml::from_str(toml).unwrap()
}

fn access(toml: &str) -> AccessConfig {
    toml::from_str(toml).unwrap()
}

fn ask<A>(jid: &str, question: impl FnOnce(&Asker<'_>) -> A) -> A {
    let jid = Jid::parse(jid).unwrap();
    let is_hosted = |domain: &str| ["a.example", "b.example"].contains(&domain);
    question(&Asker::new(jid.as_ref(), "a.example", &is_hosted))
}

/// Which of these belong to the class `it`.
#[track_caller]
fn check_class(pattern: &str, jids: &[(&str, bool)]) {
    let classes = acl(&format!("it = [{pattern}]"));
    let rules = AccessRules::new(&classes, &AccessConfig::new()).unwrap();
    for (jid, expected) in jids {
        let found = ask(jid, |asker| rules.is_in("it", asker));
        assert_eq!(found, *expected, "{jid} by {pattern}");
    }
}

#[test]
fn the_scope_says_whose_users_are_meant() {
    let (own, hosted, foreign) = ("x@a.example", "x@b.example", "x@c.example");
    check_class("{}", &[(own, true), (hosted, false), (foreign, false)]);
    check_class(
        "{match = 'current_domain'}",
        &[(own, true), (hosted, false), (foreign, false)],
    );
    check_class(
        "{match = 'any_hosted_domain'}",
        &[(own, true), (hosted, true), (foreign, false)],
    );
    check_class(
        "{match = 'all'}",
        &[(own, true), (hosted, true), (foreign, true)],
    );
    check_class(
        "{match = 'none'}",
        &[(own, false), (hosted, false), (foreign, false)],
    );
}

#[test]
fn all_conditions_of_a_pattern_must_hold_and_one_pattern_of_a_class() {
    check_class(
        "{user = 'Alice', resource = 'Phone'}, {user = 'bob'}",
        &[
            ("alice@a.example/Phone", true),
            ("alice@a.example/phone", false),
            ("alice@a.example", false),
            ("bob@a.example/any", true),
            ("bob@b.example", false),
            ("a.example/Phone", false),
        ],
    );
    check_class(
        "{match = 'all', server = 'B.example'}",
        &[("x@b.example", true), ("x@a.example", false)],
    );
    // MongooseIM's rule: the scope is one of the conditions.
    check_class("{server = 'b.example'}", &[("x@b.example", false)]);
}

#[test]
fn regular_expressions_match_anywhere() {
    check_class(
        "{user_regexp = '^A.*e'}",
        &[
            ("alice@a.example", true),
            ("albert@a.example", true),
            ("bob@a.example", false),
        ],
    );
    check_class(
        "{match = 'all', server_regexp = 'example$', resource_regexp = '^Res\\d+$'}",
        &[
            ("x@z.example/Res12", true),
            ("x@z.example/res12", false),
            ("x@z.example/Res", false),
            ("x@example.org/Res1", false),
        ],
    );
}

#[test]
fn globs_match_as_a_whole() {
    check_class(
        "{user_glob = 'a*e?'}",
        &[
            ("alice1@a.example", true),
            ("alice@a.example", false),
            ("xalice1@a.example", false),
        ],
    );
    check_class(
        "{user_glob = '[a-c]x[!0-9]'}",
        &[
            ("bxy@a.example", true),
            ("bx1@a.example", false),
            ("dxy@a.example", false),
        ],
    );
    check_class(
        "{resource_glob = 'a.b[]x]+'}",
        &[
            ("u@a.example/a.b]+", true),
            ("u@a.example/a.bx+", true),
            ("u@a.example/axbx+", false),
        ],
    );
}

#[test]
fn a_condition_that_is_none_is_refused_with_its_reason() {
    let rows = [
        (
            "{user = 'a b'}",
            "`user`: the local part of the address is not allowed",
        ),
        (
            "{server = ''}",
            "`server`: the domain part of the address is not allowed",
        ),
        ("{user_regexp = '('}", "`user_regexp`: unclosed group"),
        ("{user_glob = '[a'}", "`user_glob`: a `[` is not closed"),
        (
            "{user_regexp = '((a{1000}){1000}){1000}'}",
            "`user_regexp`: Compiled regex exceeds size limit",
        ),
    ];
    for (pattern, expected) in rows {
        let classes = acl(&format!("it = [{pattern}]"));
        let error = AccessRules::new(&classes, &AccessConfig::new()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn the_first_clause_that_fits_gives_the_value() {
    let rules = AccessRules::new(
        &acl("admin = [{user = 'root'}]\nlocal = [{}]"),
        &access(
            "c2s = [{acl = 'blocked', value = 'deny'}, {acl = 'all', value = 'allow'}]
             local_only = [{acl = 'local', value = 'allow'}]
             max_user_sessions = [{acl = 'admin', value = 'infinity'}, {acl = 'local', value = 5}]
             speed = [{acl = 'admin', value = 'none'}, {acl = 'local', value = 'slow'}]
             nobody = [{acl = 'none', value = 'allow'}]
             empty = []",
        ),
    )
    .unwrap();
    let allows = |rule, jid| ask(jid, |asker| rules.allows(rule, asker));
    assert!(allows("c2s", "x@z.example"));
    assert!(allows("local_only", "x@a.example"));
    assert!(!allows("local_only", "x@z.example"));
    assert!(!allows("nobody", "x@a.example"));
    assert!(!allows("empty", "x@a.example"));
    assert!(!allows("not_there", "x@a.example"));
    assert!(allows("all", "x@a.example"));
    assert!(!allows("none", "x@a.example"));
    assert!(!allows("max_user_sessions", "x@a.example"));

    let default = OrInfinity::Value(USER_SESSIONS_MAX_DEFAULT);
    let limit = |rule, jid| ask(jid, |asker| rules.limit(rule, asker, default));
    assert_eq!(
        limit("max_user_sessions", "root@a.example"),
        OrInfinity::Infinity
    );
    assert_eq!(
        limit("max_user_sessions", "x@a.example"),
        OrInfinity::Value(5)
    );
    assert_eq!(limit("max_user_sessions", "x@z.example"), default);
    assert_eq!(limit("not_there", "x@a.example"), default);

    let shaper = |jid| ask(jid, |asker| rules.shaper("speed", asker).map(str::to_owned));
    assert_eq!(shaper("x@a.example").as_deref(), Some("slow"));
    assert_eq!(shaper("root@a.example"), None);
    assert_eq!(shaper("x@z.example"), None);
}

#[test]
fn clauses_of_a_host_type_come_before_the_last_that_allows_all() {
    let global = access(
        "c2s = [{acl = 'admin', value = 'allow'}, {acl = 'all', value = 'allow'}]
         limit = [{acl = 'all', value = 10}]",
    );
    let own = access(
        "c2s = [{acl = 'blocked', value = 'deny'}]
         limit = [{acl = 'admin', value = 20}]
         register = [{acl = 'all', value = 'deny'}]",
    );
    let merged = merge_access(&global, &own);
    let classes = |rule: &str| -> Vec<&str> {
        merged[rule]
            .iter()
            .map(|clause| clause.acl.as_str())
            .collect()
    };
    assert_eq!(classes("c2s"), ["admin", "blocked", "all"]);
    assert_eq!(classes("limit"), ["all", "admin"]);
    assert_eq!(classes("register"), ["all"]);
}

#[test]
fn classes_of_a_host_type_are_united_with_the_nodes() {
    let merged = merge_acl(
        &acl("blocked = [{user = 'spammer'}]"),
        &acl("blocked = [{user = 'hacker'}]\nown = [{}]"),
    );
    assert_eq!(merged["blocked"].len(), 2);
    assert_eq!(merged["own"].len(), 1);
}

#[test]
fn a_bucket_lets_a_burst_pass_and_then_its_rate() {
    let mut bucket = Bucket::new(Shaper { max_rate: 1000 });
    let at = Duration::from_millis;
    assert_eq!(bucket.take(4000, at(0)), at(0));
    assert_eq!(bucket.take(500, at(0)), at(500));
    assert_eq!(bucket.take(0, at(500)), at(0));
    assert_eq!(bucket.take(1000, at(1500)), at(0));
    assert_eq!(bucket.take(1, at(1500)), at(1));
    // After a long pause there is one burst and no more.
    assert_eq!(bucket.take(4001, at(1_000_000)), at(1));
    assert_eq!(size_of::<Bucket>(), 16);
}

#[test]
fn a_bucket_bears_any_number() {
    let mut bucket = Bucket::new(Shaper { max_rate: 1 });
    assert!(bucket.take(u64::MAX, Duration::ZERO) > Duration::from_secs(1_000_000));
    assert!(bucket.take(u64::MAX, Duration::MAX) >= Duration::ZERO);
    assert_eq!(
        Bucket::new(Shaper { max_rate: 0 }).take(4, Duration::ZERO),
        Duration::ZERO
    );
}

#[test]
fn values_are_read_and_written_alike() {
    let rows = [
        ("'allow'", AccessValue::Allow),
        ("'deny'", AccessValue::Deny),
        ("'infinity'", AccessValue::Infinity),
        ("17", AccessValue::Number(17)),
        ("'fast'", AccessValue::Name("fast".into())),
    ];
    for (text, expected) in rows {
        let rules = access(&format!("r = [{{acl = 'all', value = {text}}}]"));
        assert_eq!(rules["r"][0].value, expected);
        let written = toml::to_string(&rules["r"][0]).unwrap();
        assert!(written.contains(&format!("value = {}", text.replace('\'', "\""))));
    }
}
