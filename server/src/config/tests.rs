use super::*;
use std::fs;
use std::path::PathBuf;

use daemon::config::{Entry, Millis, OrInfinity, markdown, undocumented};

use crate::auth::config::Mechanism;
use crate::storage::Place;
use crate::storage::server::Trust;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn messages(text: &str) -> Vec<String> {
    let Err(findings) = Config::parse(text, "f") else {
        return Vec::new();
    };
    let line = |finding: &daemon::config::Finding| {
        let place = finding.place.as_ref();
        let place = place.map_or_else(
            || "file".into(),
            |place| format!("{}:{}", place.line, place.column),
        );
        format!("{place}: {}", finding.message)
    };
    findings.iter().map(line).collect()
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(messages(text), expected, "{text}");
}

const GENERAL: &str = "general.hosts = ['a.example', 'b.example']\n";

fn examples() -> Vec<(PathBuf, String)> {
    let directory = Path::new(ROOT).join("examples/config");
    let mut examples = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        examples.push((path, text));
    }
    assert!(examples.len() >= 4);
    let packaged = Path::new(ROOT).join("debian/meerkat.toml");
    let text = fs::read_to_string(&packaged).unwrap();
    examples.push((packaged, text));
    examples
}

#[test]
fn every_example_loads() {
    for (path, text) in examples() {
        if let Err(findings) = Config::parse(&text, &path.to_string_lossy()) {
            panic!("{findings}");
        }
    }
}

#[test]
fn the_packaged_file_has_the_features_of_no_file() {
    let packaged = Path::new(ROOT).join("debian/meerkat.toml");
    let text = fs::read_to_string(packaged).unwrap();
    let packaged = Config::parse(&text, "meerkat.toml").unwrap();
    let zero = Config::zero();
    assert_eq!(packaged.modules, zero.modules);
    assert_eq!(packaged.listen.http, zero.listen.http);
    let addresses = |config: &Config| -> Vec<std::net::SocketAddr> {
        config.listen.c2s.iter().map(C2sListener::address).collect()
    };
    assert_eq!(addresses(&packaged), addresses(&zero));
}

#[test]
fn a_bogus_key_in_any_table_of_any_example_is_found_at_its_line() {
    let mut tables = 0;
    for (path, text) in examples() {
        for bogus in bogus_keys(&text) {
            let found = messages(&bogus.text);
            let expected = format!("{}:{}: ", bogus.line, bogus.column);
            let [only] = found.as_slice() else {
                panic!("{}: {expected}{found:#?}", path.display());
            };
            let message = only.strip_prefix(&expected).unwrap_or_else(|| {
                panic!("{}: {only} is not at {expected}", path.display());
            });
            let is_unknown = message.starts_with("unknown key `bogus_key` in `[");
            let is_users = message.starts_with("`bogus_key`: an integer, expected ");
            assert!(
                if bogus.has_users_keys {
                    is_users
                } else {
                    is_unknown || bogus.is_root
                },
                "{}: {only}",
                path.display()
            );
            tables += 1;
        }
    }
    assert!(tables > 100, "{tables} tables");
}

/// An example with a bogus key, and where that is.
struct Bogus {
    text: String,
    line: usize,
    column: usize,
    is_root: bool,
    /// Whether the keys of this table are of the user's choice, so that only the value is wrong.
    has_users_keys: bool,
}

const BOGUS: &str = "bogus_key = 1";

/// The text once for each table in it, with a bogus key there: below each header, beside each dotted key, in
/// each pair of braces, and before all of them.
fn bogus_keys(text: &str) -> Vec<Bogus> {
    let lines: Vec<&str> = text.lines().collect();
    let with_line = |at: usize, line: &str, has_users_keys| {
        let mut lines = lines.clone();
        lines.insert(at, line);
        Bogus {
            text: lines.join("\n"),
            line: at + 1,
            // Where any key will do, the value is what is wrong.
            column: line.find(if has_users_keys { "1" } else { BOGUS }).unwrap() + 1,
            is_root: at == 0,
            has_users_keys,
        }
    };
    let mut all = vec![with_line(0, BOGUS, false)];
    for (index, line) in lines.iter().enumerate() {
        let code = line.split('#').next().unwrap().trim();
        if code.starts_with('[') {
            let name = code.trim_matches(['[', ']']).rsplit('.').next().unwrap();
            let has_users_keys = ["shaper", "acl", "access"].contains(&name);
            all.push(with_line(index + 1, BOGUS, has_users_keys));
            continue;
        }
        if let Some((key, _)) = code.split_once('=')
            && let Some((table, _)) = key.rsplit_once('.')
        {
            all.push(with_line(index, &format!("{table}.{BOGUS}"), false));
        }
        for (position, _) in line.match_indices('{').filter(|_| !code.is_empty()) {
            let (before, after) = line.split_at(position + 1);
            let comma = if after.trim_start().starts_with('}') {
                ""
            } else {
                ","
            };
            let line = format!("{before} {BOGUS}{comma}{after}");
            let mut lines = lines.clone();
            lines[index] = &line;
            all.push(Bogus {
                text: lines.join("\n"),
                line: index + 1,
                column: position + 3,
                is_root: false,
                has_users_keys: false,
            });
        }
    }
    all
}

/// Cut files, doubled lines, changed bytes: each is read or refused with findings that can be shown, and none
/// is read as something that it is not.
#[test]
fn damaged_examples_are_refused_or_read_but_never_harm() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        // Xorshift: the same files in every run.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % u64::try_from(below).unwrap()).unwrap()
    };
    let marks = [
        "[",
        "]",
        "{",
        "}",
        "=",
        "\"",
        "'",
        ".",
        ",",
        "\n",
        "\u{0}",
        "ä",
        "9999999999999999999",
    ];
    let mut refused = 0;
    let mut tried = 0;
    for (_, text) in examples() {
        for _ in 0..100 {
            let at = text.floor_char_boundary(random(text.len()));
            let end = text.ceil_char_boundary((at + random(20)).min(text.len()));
            let mark = marks[random(marks.len())];
            let damaged = match random(4) {
                0 => text[..at].to_owned(),
                1 => format!("{}{}", &text[..at], &text[end..]),
                2 => format!("{}{mark}{}", &text[..at], &text[at..]),
                _ => format!("{}{mark}{}", &text[..at], &text[end..]),
            };
            tried += 1;
            if let Err(findings) = Config::parse(&damaged, "f") {
                refused += 1;
                let lines = damaged.lines().count().max(1);
                let places = findings.iter().filter_map(|finding| finding.place.as_ref());
                for place in places {
                    assert!((1..=lines + 1).contains(&place.line), "{damaged}");
                }
                assert!(findings.to_string().starts_with("f:"));
            }
        }
    }
    assert!(
        refused > tried / 4 && refused < tried,
        "{refused} of {tried} refused"
    );
}

#[test]
fn the_example_of_no_configuration_is_what_no_configuration_means() {
    let path = Path::new(ROOT).join("examples/config/zero.toml");
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(Config::parse(&text, "zero.toml").unwrap(), Config::zero());
}

#[test]
fn every_option_in_the_catalogue_is_answered_by_name() {
    let mut options = 0;
    for (path, value) in CATALOGUE.entries().flat_map(Entry::options_and_values) {
        let path = path.replace('*', "other");
        let candidates = match value {
            Some(word) => vec![format!("{path} = '{word}'"), format!("{path} = ['{word}']")],
            None => vec![format!("{path} = true")],
        };
        let is_answered = |line: &String| {
            let found = messages(&document(line));
            let answers = ["is not supported yet", "has moved", "is not supported"];
            let is_answer = |message: &&String| answers.iter().any(|end| message.ends_with(end));
            assert!(
                !found.iter().any(|message| message.contains("unknown")),
                "{found:#?}"
            );
            found.iter().filter(is_answer).count() == 1
        };
        assert!(
            candidates.iter().any(is_answered),
            "{path} {value:?} is forgotten in the catalogue"
        );
        options += 1;
    }
    assert!(options > 200, "{options} options");
}

/// A document with this line, in which arrays of tables are written as such.
fn document(line: &str) -> String {
    const GRAPHQL: &str = "listen.http.handlers.mongoose_graphql_handler";
    if let Some(rest) = line
        .strip_prefix(GRAPHQL)
        .and_then(|rest| rest.strip_prefix('.'))
    {
        let endpoint = match rest.starts_with("schema_endpoint") {
            true => "",
            false => "schema_endpoint = 'admin'",
        };
        return format!(
            "{GENERAL}[[listen.http]]\nport = 0\nip_address = '127.0.0.1'\n\
             [[{GRAPHQL}]]\nhost = '_'\n{endpoint}\n{rest}\n"
        );
    }
    for (array, required) in [
        ("listen.c2s", "port = 0"),
        ("listen.http", "port = 0"),
        ("listen.component", "port = 0\npassword = 'x'"),
        ("host_config", "host = 'a.example'"),
    ] {
        if let Some(rest) = line
            .strip_prefix(array)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            return format!("{GENERAL}[[{array}]]\n{required}\n{rest}\n");
        }
    }
    format!("{GENERAL}{line}\n")
}

#[test]
fn known_options_are_known_in_a_host_config_too() {
    let rows = [
        ("modules.mod_muc = {}", "`mod_muc` is not supported yet"),
        ("s2s = {}", "`s2s` is not supported yet"),
        (
            "outgoing_pools = {}",
            "`outgoing_pools` is not supported yet",
        ),
        ("auth.ldap = {}", "`ldap` is not supported yet"),
        (
            "auth.methods = ['ldap']",
            "`methods`: \"ldap\" is not supported yet",
        ),
        (
            "general.route_subdomains = 's2s'",
            "`route_subdomains` is not supported yet",
        ),
        (
            "modules.mod_roster.backend = 'mnesia'",
            "`backend`: \"mnesia\" is not supported",
        ),
        (
            "general.hosts = []",
            "`hosts` holds for the whole node, not for one host type",
        ),
        (
            "listen = {}",
            "`listen` holds for the whole node, not for one host type",
        ),
    ];
    for (line, expected) in rows {
        let found = messages(&format!(
            "{GENERAL}[[host_config]]\nhost = 'a.example'\n{line}\n"
        ));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].ends_with(expected), "{found:#?}");
    }
}

#[test]
fn a_module_that_is_not_there_yet_is_said_to_be() {
    let text = format!("{GENERAL}[modules.mod_muc]\nhost = 'x'\n[modules.mod_rooster]\n");
    let findings = Config::parse(&text, "f").unwrap_err().to_string();
    assert_eq!(
        findings,
        "\
f:2:10: `mod_muc` is not supported yet
   |
 2 | [modules.mod_muc]
   |          ^^^^^^^ take it out until it is
f:4:10: unknown key `mod_rooster` in `[modules]`
   |
 4 | [modules.mod_rooster]
   |          ^^^^^^^^^^^ did you mean `mod_roster`?
"
    );
}

#[test]
fn domains_are_checked() {
    check(
        "",
        &["file: `hosts` is empty: the node would serve no domain"],
    );
    check(
        "[general]\nhosts = ['a.example', 'A.example', 'a b', 'a.example']\nlanguage = 'e n'\n\
         default_server_domain = '@'\n",
        &[
            "2:23: \"A.example\" is not how this domain is written",
            "2:36: \"a b\" is not a domain",
            "2:43: \"a.example\" stands twice in `hosts`",
            "3:12: \"e n\" is not a language tag",
            "4:25: \"@\" is not a domain",
        ],
    );
}

#[test]
fn subdomains_of_modules_are_checked() {
    let hosts = "[general]\nhosts = ['a.example', 'vjud.a.example']\n[modules.mod_vcard]\n";
    for (line, expected) in [
        (
            "",
            Some("3:1: \"vjud.a.example\" is one of `general.hosts`"),
        ),
        (
            "host = 'a.example'",
            Some("4:8: \"a.example\" is one of `general.hosts`"),
        ),
        (
            "host = 'v jud.@HOST@'",
            Some("4:8: \"v jud.@HOST@\" is not a domain"),
        ),
        ("host = 'people.@HOST@'", None),
        ("search = false", None),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        check(&format!("{hosts}{line}\n"), &expected);
    }
}

#[test]
fn listeners_are_checked() {
    check(
        &format!(
            "{GENERAL}
[[listen.c2s]]
port = 5222
ip_address = '127.0.0.1'
ip_version = 6
shaper = 'fsat'
access = 'c3s'
allowed_auth_methods = []
max_connections = 0
max_stanza_size = 'infinity'
tls = {{ certfile = 'x', versions = [], certificates = [
  {{ domain = 'a.example', certfile = 'x', keyfile = 'y' }},
  {{ domain = '*.a b', certfile = 'x', keyfile = 'y' }},
  {{ domain = 'a.example', certfile = 'x', keyfile = 'y' }},
] }}
[[listen.http]]
port = 5222
ip_address = '127.0.0.1'
[[listen.http]]
port = 1
ip_version = 5
transport.max_connections = 0
tls = {{ keyfile = 'x' }}
handlers.mongoose_prometheus_handler = [{{ host = '[...]x', path = 'm' }},
  {{ host = '_', path = '/m' }}, {{ host = '_', path = '/m' }}, {{ host = '', path = '/m/:name' }}]
[shaper.fast]
max_rate = 0
[access]
c2s = []
"
        ),
        &[
            "6:14: `ip_version` and `ip_address` are of different families",
            "7:10: there is no `[shaper.fsat]`",
            "8:10: there is no rule `c3s` in `[access]`: nobody could log in",
            "9:24: no method is allowed: nobody could log in on this port",
            "10:19: no connection is allowed on this port",
            "11:19: `max_stanza_size`: a string, expected an integer",
            "12:20: `certfile` without `keyfile`: the private key is missing",
            "12:36: no version of TLS is left",
            "14:14: \"*.a b\" is not a domain",
            "15:14: \"a.example\" has a certificate already",
            "17:1: this port serves nothing",
            "22:14: 5 is neither 4 nor 6",
            "23:29: no connection is allowed on this port",
            "24:19: `keyfile` without `certfile`: the certificate is missing",
            "25:50: a pattern of hosts is not supported yet",
            "25:67: \"m\" is no path",
            "26:53: there is a handler for this host and path already",
            "26:70: the host is empty",
            "26:81: a pattern of paths is not supported yet",
            "28:12: `max_rate`: 0 is not between 1 and 1000000000",
        ]
        .iter()
        .copied()
        .filter(|message| !message.starts_with("7:10"))
        .collect::<Vec<_>>(),
    );
}

#[test]
fn websocket_handlers_are_checked() {
    check(
        &format!(
            "{GENERAL}
[[listen.http]]
port = 5280
[[listen.http.handlers.mongoose_websocket_handler]]
host = '_'
path = '/ws-xmpp'
[[listen.http]]
port = 5281
ip_address = '127.0.0.1'
[[listen.http.handlers.mongoose_websocket_handler]]
host = '_'
path = '/ws-xmpp'
timeout = 10
ping_rate = 999
shaper = 'none at all'
access = 'c3s'
allowed_auth_methods = []
"
        ),
        &[
            "3:1: clients would send passwords and messages without encryption",
            "14:11: less than a second is too little",
            "15:13: less than a second is too little",
            "16:10: there is no `[shaper.none at all]`",
            "17:10: there is no rule `c3s` in `[access]`: nobody could log in",
            "18:24: no method is allowed: nobody could log in on this port",
        ],
    );
}

#[test]
fn two_listeners_do_not_share_a_port() {
    let text = format!(
        "{GENERAL}[[listen.c2s]]\nport = 5222\nip_address = '127.0.0.1'\n\
         [[listen.c2s]]\nport = 5222\nip_address = '::1'\n\
         [[listen.c2s]]\nport = 5222\nip_address = '127.0.0.1'\n\
         [[listen.c2s]]\nport = 0\nip_address = '127.0.0.1'\n\
         [[listen.c2s]]\nport = 0\nip_address = '127.0.0.1'\n"
    );
    check(
        &text,
        &["9:8: 127.0.0.1:5222 is taken by another `[[listen.c2s]]`"],
    );
}

#[test]
fn names_of_shapers_and_rules_are_looked_up() {
    let text = |access: &str| {
        format!(
            "{GENERAL}[[listen.c2s]]\nport = 0\nip_address = '::1'\nshaper = 'fsat'\n\
             access = '{access}'\n[shaper.fast]\nmax_rate = 1\n\
             [[host_config]]\nhost = 'a.example'\naccess.own = []\n"
        )
    };
    check(&text("own"), &["5:10: there is no `[shaper.fsat]`"]);
    check(
        &text("owm"),
        &[
            "5:10: there is no `[shaper.fsat]`",
            "6:10: there is no rule `owm` in `[access]`: nobody could log in",
        ],
    );
    let shown = Config::parse(&text("all"), "f").unwrap_err().to_string();
    assert!(shown.contains("did you mean `fast`?"), "{shown}");
}

#[test]
fn auth_is_checked() {
    check(
        &format!(
            "{GENERAL}[auth]\nmethods = ['internal', 'internal']\n\
             sasl_mechanisms = ['plain', 'digest', 'plain']\npassword.hash = []\n\
             password.scram_iterations = 4096\npassword.format = 'plain'\n\
             anonymous.protocol = 'both'\n"
        ),
        &[
            "3:24: this method stands twice",
            "4:29: `sasl_mechanisms`: \"digest\" is not supported",
            "4:39: this mechanism stands twice",
            "5:17: no hash is left: no password could be stored",
            "6:29: `scram_iterations`: 4096 is not between 10000 and 1000000",
            "7:19: `format`: \"plain\" is not supported yet",
            "8:22: `protocol`: \"both\" is not supported yet",
        ],
    );
}

#[test]
fn conditions_of_classes_are_checked() {
    check(
        &format!(
            "{GENERAL}[acl]\nall = [{{}}]\nx = [{{ user = 'a b' }}, {{ user_regexp = '(' }}]\n\
             [[host_config]]\nhost = 'a.example'\nacl.y = [{{ server_glob = '[' }}]\n"
        ),
        &[
            "3:7: the class `all` is there already and cannot be changed",
            "4:15: `user`: the local part of the address is not allowed",
            "4:40: `user_regexp`: unclosed group",
            "7:26: `server_glob`: a `[` is not closed",
        ],
    );
}

#[test]
fn host_types_are_checked() {
    check(
        &format!(
            "{GENERAL}[[host_config]]\n[[host_config]]\nhost = 'c.example'\n\
             [[host_config]]\nhost = 'a.example'\nhost_type = 'a.example'\n\
             [[host_config]]\nhost_type = 'a.example'\n"
        ),
        &[
            "2:1: `host_type` is missing in `[[host_config]]`",
            "4:8: \"c.example\" is not one of `general.hosts`",
            "6:8: `host` is another word for `host_type`: both are given",
            "9:13: \"a.example\" has a `[[host_config]]` already",
        ],
    );
    // The real domains are not known here, so nothing is said of those that refer to them.
    let text = "general.hosts = 'a.example'\n[[host_config]]\nhost = 'b.example'\n";
    check(text, &["1:17: `hosts`: a string, expected an array"]);
}

#[test]
fn bosh_is_checked() {
    let bosh = |options: &str| format!("{GENERAL}[services.service_bosh]\n{options}\n");
    check(
        &bosh("backend = 'mnesia'\ninactivity = 'infinity'\nmax_wait = 'infinity'\nmax_pause = 0"),
        &[],
    );
    check(&bosh("host_types = ['a.example']"), &[]);
    check(
        &bosh(
            "backend = 'cets'\ninactivity = 0\nmax_wait = 0\nmax_pause = 100_000\nhost_types = []",
        ),
        &[
            "3:11: `backend`: \"cets\" is not supported yet",
            "4:14: sessions would end between any two requests",
            "5:12: no request would be held: clients would have to poll",
            "6:13: `max_pause`: 100000 is not between 0 and 86400 s",
            "7:14: no host type may be used over BOSH",
        ],
    );
    check(
        &bosh("host_types = ['a.example', 'c.example']"),
        &["3:28: \"c.example\" is not one of `general.hosts`"],
    );
    // A handler needs no section.
    let handler = format!(
        "{GENERAL}[[listen.http]]\nport = 1\ntls = {{}}\n\
         handlers.mongoose_bosh_handler = [{{ host = '_', path = '/http-bind' }}]\n"
    );
    check(&handler, &[]);
    let settings = crate::bosh::Settings::new(&Default::default(), 1);
    assert_eq!(settings.inactivity_secs, Some(30));
    assert_eq!((settings.wait_max_secs, settings.pause_max_secs), (60, 120));
}

#[test]
fn what_is_unsafe_must_be_meant() {
    let text = |known: &str| {
        format!(
            "[general]\nhosts = ['a.example']\ni_know_unsafe = [{known}]\n\
             [[listen.c2s]]\nport = 5222\n[auth.dummy]\n"
        )
    };
    check(
        &text(""),
        &[
            "4:1: clients would send passwords and messages without encryption",
            "6:1: the method `dummy` lets everyone in as anyone",
        ],
    );
    check(&text("'c2s_without_tls', 'dummy_auth'"), &[]);
    check(
        &text("'c2s_without_tls'"),
        &["6:1: the method `dummy` lets everyone in as anyone"],
    );
    check(
        "[general]\nhosts = ['a.example']\n[[listen.c2s]]\nport = 5222\nip_address = '::1'\n\
         [[host_config]]\nhost = 'a.example'\nauth.methods = ['dummy']\n",
        &[],
    );
    let text = "[general]\nhosts = ['a.example']\n[[listen.c2s]]\nport = 5222\ntls = {}\n\
         [[host_config]]\nhost = 'a.example'\nauth.methods = ['dummy']\n";
    check(
        text,
        &["8:16: the method `dummy` lets everyone in as anyone"],
    );
}

#[test]
fn a_balancer_in_front_is_said_with_all_that_belongs_to_it() {
    let text = |lines: &str| {
        format!("general.hosts = ['a.example']\n[[listen.c2s]]\nport = 5222\n{lines}\n")
    };
    let check = |lines: &str, expected: &[&str]| check(&text(lines), expected);
    let open = "proxy_protocol = true\ntls_at_balancer = true\n";
    check(
        &format!("{open}proxy_protocol_networks = ['10.0.0.0/8', '2001:db8::7']"),
        &[],
    );
    check(&format!("{open}ip_address = '127.0.0.1'"), &[]);
    check(
        open,
        &[
            "4:18: which networks may send PROXY headers is not said: only this machine could connect",
        ],
    );
    check(
        "tls_at_balancer = true",
        &[
            "4:19: whoever reaches this port without the balancer would send passwords and messages \
           without encryption",
        ],
    );
    check("tls_at_balancer = true\nip_address = '::1'", &[]);
    check(
        "tls_at_balancer = true\nip_address = '::1'\ntls = {}",
        &["4:19: TLS ends either at the balancer or here: `tls` is there too"],
    );
    let local = "ip_address = '::1'\nproxy_protocol = true\nproxy_protocol_networks =";
    check(
        &format!("{local} []"),
        &["6:27: no network may send PROXY headers: nobody could connect"],
    );
    check(
        &format!("{local} ['::1', '10.0.0.1/8', 'lb']"),
        &[
            "6:35: \"10.0.0.1/8\" is not a network: bits are set behind the length of the network",
            "6:49: \"lb\" is not a network: \
             it is not an address with or without a length, as in 10.0.0.0/8",
        ],
    );
    check(
        "ip_address = '::1'\nproxy_protocol_networks = ['::1']",
        &["5:27: it says nothing without `proxy_protocol = true`"],
    );
}

#[test]
fn a_port_for_components_is_checked() {
    let text = |lines: &str| {
        format!("general.hosts = ['a.example']\n[[listen.component]]\nport = 8888\n{lines}\n")
    };
    let check = |lines: &str, expected: &[&str]| check(&text(lines), expected);
    let local = "ip_address = '127.0.0.1'\n";
    check(&format!("{local}password = 'x'"), &[]);
    check("tls = {}\npassword_file = '/etc/x'", &[]);
    check(
        &format!("{local}tls.mode = 'tls'"),
        &["2:1: `password` is missing in `[[listen.component]]`"],
    );
    check(
        &format!("{local}password = 'x'\npassword_file = '/etc/x'"),
        &["6:17: `password` and `password_file` are both given"],
    );
    check(
        &format!("{local}password = ''"),
        &["5:12: `password`: the value is empty"],
    );
    check(
        "password = 'x'",
        &["2:1: components would send and get messages without encryption"],
    );
    check(
        &format!("{local}password = 'x'\naccess = 'gateways'\nshaper = 'fast'"),
        &[
            "6:10: there is no rule `gateways` in `[access]`: \
             nobody could write to these components",
            "7:10: there is no `[shaper.fast]`",
        ],
    );
    check(
        &format!("{local}password = 'x'\n[[listen.component]]\nport = 8888\n{local}password = 'x'"),
        &["7:8: 127.0.0.1:8888 is taken by another `[[listen.component]]`"],
    );
    let text = text(&format!(
        "{local}password = 'x'\nconflict_behaviour = 'kick_old'"
    ));
    let config = Config::parse(&text, "f").unwrap();
    let shown = format!("{:?}", config.listen.component);
    assert!(
        shown.contains("KickOld") && !shown.contains("'x'"),
        "{shown}"
    );
}

#[test]
fn certificates_of_clients_are_configured_whole() {
    let text = |listener: &str, auth: &str| {
        format!(
            "general.hosts = ['a.example']\n[[listen.c2s]]\nport = 5222\n{listener}\n\
             [auth]\n{auth}\n"
        )
    };
    let check = |listener: &str, auth: &str, expected: &[&str]| {
        check(&text(listener, auth), expected);
    };
    let pki = "methods = ['internal', 'pki']\nsasl_mechanisms = ['external', 'plain']";
    check("tls.cacertfile = 'ca.pem'", pki, &[]);
    check("tls.verify_mode = 'none'", pki, &[]);
    check("tls = {}\nallowed_auth_methods = ['internal']", pki, &[]);
    let unnamed = "clients are asked for a certificate (`[auth.pki]`), and nobody is named who \
                   vouches for one";
    check("tls = {}", pki, &[&format!("4:7: {unnamed}")]);
    check(
        "tls.verify_mode = 'selfsigned_peer'",
        pki,
        &["4:19: whoever makes a certificate with somebody's name in it could log in as them"],
    );
    check(
        "tls = { cacertfile = 'ca.pem' }",
        "pki = {}",
        &["6:7: nobody could log in by certificate: the mechanism is not offered"],
    );
    check(
        "tls = {}",
        "sasl_mechanisms = ['external', 'plain']",
        &["6:19: EXTERNAL is never offered without the method `pki`"],
    );
    check(
        "tls.crl_files = ['a.crl']",
        "",
        &["4:17: `crl_files` without `cacertfile`: nobody vouches for certificates"],
    );
    check(
        "tls.cacertfile = 'ca.pem'",
        &format!("{pki}\nsasl_external = []"),
        &["8:17: no certificate would name anybody"],
    );
    check(
        "tls.cacertfile = 'ca.pem'",
        &format!("{pki}\nsasl_external = ['common_name', 'auth_id']"),
        &["8:33: `sasl_external`: \"auth_id\" is not supported yet"],
    );
}

#[test]
fn the_database_is_chosen() {
    let config = Config::parse(GENERAL, "f").unwrap();
    let expected = PathBuf::from("meerkat-data/meerkat.db");
    assert_eq!(config.database().connection.database, expected);
    let pool = |connection: &str| {
        format!("{GENERAL}[outgoing_pools.rdbms.default]\nconnection = {connection}\n")
    };
    let text = pool("{ driver = 'sqlite', database = '/x.db' }");
    let database = Config::parse(&text, "f").unwrap().database();
    assert_eq!(database.connection.database, PathBuf::from("/x.db"));
    assert_eq!(
        (database.workers, database.call_timeout),
        (10, Millis(60_000))
    );
    check(
        &pool("{ driver = 'cockroachdb', database = 'x', host = 'db' }"),
        &["3:25: `driver`: \"cockroachdb\" is not supported yet"],
    );
    check(
        &pool("{ driver = 'sqlite', database = 'x', host = 'db' }"),
        &["3:58: `host` is for servers: SQLite is in the process"],
    );
    check(
        &pool("{ driver = 'sqlite' }"),
        &["3:14: `database` is missing in `[outgoing_pools.rdbms.default.connection]`"],
    );
}

#[test]
fn a_database_server_is_chosen() {
    let pool = |connection: &str| {
        format!(
            "{GENERAL}[outgoing_pools.rdbms.default]\nconnection = {{ database = 'm', {connection} }}\n"
        )
    };
    let place = |connection: &str| {
        let config = Config::parse(&pool(connection), "f").unwrap();
        match config.database().options().unwrap().place {
            Place::Server(server) => *server,
            other => panic!("{other}"),
        }
    };
    let pgsql = place("driver = 'pgsql', host = 'db', username = 'u', password = 'secret'");
    assert_eq!(pgsql.to_string(), "pgsql://u@db:5432/m");
    assert_eq!(
        (pgsql.query_timeout, pgsql.tls),
        (Duration::from_secs(5), None)
    );
    assert_eq!(pgsql.max_start_interval, Duration::from_secs(30));
    let mysql = place(
        "driver = 'mysql', host = 'db', port = 3307, username = 'u', password = 'p', query_timeout = 700, \
         keepalive_interval = 60, tls = { verify_mode = 'none', required = false }",
    );
    assert_eq!(mysql.to_string(), "mysql://u@db:3307/m");
    assert_eq!(mysql.keepalive_interval, Some(Duration::from_secs(60)));
    assert_eq!(mysql.tls.unwrap().trust, Trust::IfOffered);
    let tls = "driver = 'pgsql', host = 'db', username = 'u', password = 'p', tls = { }";
    assert_eq!(place(tls).tls.unwrap().trust, Trust::Verified);
    check(
        &pool("driver = 'pgsql'"),
        &[
            "3:14: `host` is missing in `[outgoing_pools.rdbms.default.connection]`",
            "3:14: `password` is missing in `[outgoing_pools.rdbms.default.connection]`",
            "3:14: `username` is missing in `[outgoing_pools.rdbms.default.connection]`",
        ],
    );
    check(
        &pool("driver = 'pgsql', host = 'h', username = 'u', password = 'p', tls.required = false"),
        &[
            "3:109: without encryption no certificate is checked: `required = false` needs \
           `verify_mode = \"none\"`",
        ],
    );
    check(
        &pool("driver = 'mysql', host = 'h', username = 'u', password = 'p', tls.ciphers = ''"),
        &["3:98: `ciphers` is not supported yet"],
    );
}

#[test]
fn a_host_type_takes_the_place_of_what_the_node_says() {
    let path = Path::new(ROOT).join("examples/config/two-hosts.toml");
    let config = Config::parse(&fs::read_to_string(path).unwrap(), "f").unwrap();
    let hosts = config.hosts();
    let [first, second] = hosts.as_slice() else {
        panic!("{} hosts", hosts.len());
    };
    assert_eq!(first.domains, ["example.org"]);
    assert_eq!(first.replaced_wait_timeout, Duration::from_millis(2000));
    assert_eq!(first.auth.methods(), [Method::Internal]);
    assert!(first.modules.roster.is_some());
    assert_eq!(first.acl["blocked"].len(), 1);
    assert_eq!(first.access["c2s"].len(), 2);

    assert_eq!(second.host_type, "guests.example.org");
    assert_eq!(second.replaced_wait_timeout, Duration::from_millis(500));
    assert_eq!(second.auth.methods(), [Method::Anonymous]);
    assert_eq!(second.auth.sasl_mechanisms, [Mechanism::Anonymous]);
    assert!(second.modules.roster.is_none() && second.modules.presence.is_some());
    assert_eq!(second.acl["blocked"].len(), 2);
    let classes: Vec<&str> = second.access["c2s"]
        .iter()
        .map(|it| it.acl.as_str())
        .collect();
    assert_eq!(classes, ["blocked", "none", "all"]);
}

#[test]
fn defaults_are_mongooseims_or_ours_where_it_has_no_limit() {
    let text = format!("{GENERAL}[[listen.c2s]]\nport = 0\nip_address = '::1'\n");
    let listener = &Config::parse(&text, "f").unwrap().listen.c2s[0];
    let mut expected = C2sListener::new(0);
    expected.ip_address = Some("::1".parse().unwrap());
    assert_eq!(*listener, expected);
    assert_eq!(listener.max_stanza_size.size(), 65_536);
    assert_eq!(listener.state_timeout(), Duration::from_secs(5));
    assert_eq!(listener.backlog, 1024);
    assert_eq!((listener.shaper(), listener.access.as_str()), (None, "all"));
    assert_eq!(expected.max_connections, OrInfinity::Value(1_000_000));
    expected.state_timeout = OrInfinity::Infinity;
    assert_eq!(expected.state_timeout(), Duration::from_secs(60));

    let auth = Auth::default();
    assert_eq!(auth.methods(), [Method::Internal]);
    let names: Vec<&str> = auth.sasl_mechanisms.iter().map(|it| it.name()).collect();
    assert_eq!(names[..2], ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-512"]);
    assert_eq!(names[10..], ["PLAIN", "ANONYMOUS"]);
}

#[test]
fn methods_are_those_with_a_section_unless_they_are_listed() {
    let methods = |text: &str| {
        Config::parse(&format!("{GENERAL}{text}"), "f")
            .unwrap()
            .auth
            .methods()
    };
    assert_eq!(
        methods("[auth]\nrdbms = {}\nanonymous = {}\n"),
        [Method::Anonymous, Method::Rdbms]
    );
    assert_eq!(
        methods("[auth]\nrdbms = {}\nmethods = ['internal']\n"),
        [Method::Internal]
    );
}

#[test]
fn every_option_has_a_description() {
    assert_eq!(undocumented(&schemars::schema_for!(Config)), [""; 0]);
}

#[test]
fn generated_page_of_options_is_fresh() {
    let page = format!(
        "<!-- Generated by `cargo xtask gen` from the configuration's structs. Do not edit. -->\n\
         # Options\n\n\
         One TOML file, with MongooseIM's sections and names; options of our own say so. Unknown options are findings, \
         and those of MongooseIM that are not there yet are known by name. `meerkat --check-config FILE` prints every \
         finding with its line. There are examples in `server/examples/config`.\n\n{}",
        markdown(&schemars::schema_for!(Config))
    );
    let path = Path::new(ROOT).join("../docs/config.md");
    #[expect(
        clippy::disallowed_methods,
        reason = "how `cargo xtask gen` asks for it"
    )]
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        fs::write(&path, page).unwrap();
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/config.md is stale: run `cargo xtask gen`"
    );
}

#[test]
fn what_a_broken_file_seems_to_lack_is_not_told() {
    let findings = Config::parse("[general\n", "broken.toml")
        .unwrap_err()
        .to_string();
    assert!(findings.contains("unclosed table"), "{findings}");
    assert!(!findings.contains("hosts"), "{findings}");
}

/// Security cases G07 and K04: whoever may use the admin API may do everything.
#[test]
fn k04_the_admin_api_is_not_open_to_everybody() {
    let findings = |address: &str, more: &str, tls: &str, handler: &str| {
        let text = format!(
            "[general]\nhosts = ['a.example']\n{more}\n\
             [[listen.http]]\nport = 0\nip_address = '{address}'\n{tls}\n\
             [[listen.http.handlers.mongoose_graphql_handler]]\nhost = '_'\nschema_endpoint = 'admin'\n{handler}\n"
        );
        messages(&text)
    };
    let login = "username = 'admin'\npassword = 'well chosen'";
    let none: [String; 0] = [];
    assert_eq!(findings("127.0.0.1", "", "", ""), none);
    assert_eq!(findings("127.0.0.1", "", "", login), none);
    assert_eq!(findings("0.0.0.0", "", "tls = {}", login), none);
    let known = "i_know_unsafe = ['graphql_without_tls']";
    assert_eq!(findings("0.0.0.0", known, "", login), none);
    let check = |found: Vec<String>, expected: &str| {
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
    };
    check(
        findings("0.0.0.0", known, "tls = {}", ""),
        "would be an administrator",
    );
    check(
        findings("0.0.0.0", "", "", login),
        "sent without encryption",
    );
    let local = |handler: &str| findings("127.0.0.1", "", "", handler);
    check(local("username = 'admin'"), "`username` without `password`");
    check(local("password = 'x'"), "`password` without `username`");
    check(local("username = 'a:b'\npassword = 'x'"), "no colon");
    check(local("username = 'a'\npassword = ''"), "is empty");
    check(
        local("username = 'a'\npassword = 'x'\npassword_file = 'y'"),
        "given twice",
    );
    check(local("allowed_categories = []"), "no category is left");
    check(
        local("allowed_categories = ['account', 'account']"),
        "stands twice",
    );
    check(
        local("allowed_categories = ['muc']"),
        "is not supported yet",
    );
    check(local("path = 'x'"), "is no path");
}
