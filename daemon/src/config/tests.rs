use super::*;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Secret;

/// A configuration with one option of each kind.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Sample {
    /// What holds for all.
    general: General,
    /// Where we listen.
    listen: Vec<Listener>,
    /// Limits by name.
    shaper: BTreeMap<String, Shaper>,
    /// What holds for one host type.
    host_config: Vec<HostConfig>,
}

/// What holds for all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct General {
    /// The domains.
    hosts: Vec<String>,
    /// How much is logged.
    loglevel: crate::logs::Level,
    /// How long to wait.
    wait: OrInfinity<Millis>,
    /// A flag.
    flag: bool,
    /// The database's password.
    password: Option<Secret>,
    /// A file.
    file: Option<std::path::PathBuf>,
}

impl Default for General {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            loglevel: crate::logs::Level::Warning,
            wait: OrInfinity::Value(Millis(2000)),
            flag: false,
            password: None,
            file: None,
        }
    }
}

/// A listener.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Listener {
    /// The port.
    port: u16,
    /// The address.
    #[serde(default)]
    ip_address: Option<std::net::IpAddr>,
    /// Slows it down.
    #[serde(default)]
    shaper: Option<String>,
    /// How many may wait.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    backlog: u32,
}

/// A limit.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Shaper {
    /// How much.
    max_rate: OrInfinity<u64>,
}

/// What holds for one host type.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HostConfig {
    /// Which.
    host_type: String,
    /// As above, but for one.
    #[serde(default)]
    general: HostGeneral,
}

/// What can be different for one host type.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct HostGeneral {
    /// As above.
    flag: Option<bool>,
}

impl Check for Sample {
    fn check(&self, checks: &mut Checks<'_>) {
        if checks.is_sound("general.hosts") && self.general.hosts.is_empty() {
            checks.finding("general.hosts", "there is no host", "");
        }
        if let Some(file) = &self.general.file {
            checks.within("general", |checks| checks.file("file", file));
        }
        checks.each("listen", &self.listen);
        for (index, listener) in self.listen.iter().enumerate() {
            if let Some(name) = &listener.shaper
                && checks.is_sound_from_root("shaper")
                && !self.shaper.contains_key(name)
            {
                let message = format!("there is no `[shaper.{name}]`");
                checks.finding(&format!("listen[{index}].shaper"), message, "add it");
            }
        }
    }
}

impl Check for Listener {
    fn check(&self, checks: &mut Checks<'_>) {
        if self.port == 22 {
            checks.finding("port", "22 is taken", "");
        }
        if self.backlog == 7 && !checks.is_given("ip_address") {
            checks.finding("ip_address", "a backlog of 7 needs it", "");
        }
    }
}

const CATALOGUE: Catalogue = Catalogue::new(&[
    Entry::not_yet("s2s", &["default_policy"]),
    Entry::not_yet("listen", &["tls.dhfile"]),
    Entry::moved("general", &["port"], "`[[listen]] port`"),
    Entry::removed("general", &["mnesia"], "take it out"),
    Entry::values_not_yet("general.loglevel", &["verbose"]),
    Entry::not_yet("general", &["sm_backend"]),
])
.with_host_section("host_config");

fn findings(text: &str) -> String {
    match parse::<Sample>(text, "f.toml", &CATALOGUE) {
        Ok(_) => String::new(),
        Err(findings) => findings.to_string(),
    }
}

/// The findings' first lines.
fn messages(text: &str) -> Vec<String> {
    let all = findings(text);
    let heads = all.lines().filter_map(|line| line.strip_prefix("f.toml:"));
    heads.map(str::to_owned).collect()
}

const GOOD: &str = "[general]\nhosts = [\"localhost\"]\n";

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(messages(text), expected, "{text}");
}

#[test]
fn a_good_file_is_read() {
    let text = "
[general]
  hosts = ['a', \"b\"]
  wait = \"infinity\"
  loglevel = \"debug\"
  password = 'p'
[[listen]]
  port = 0x1466
  ip_address = '::1'
  backlog = 100
[shaper.fast]
  max_rate = 50_000
[shaper]
  slow.max_rate = 1
[[host_config]]
  host_type = 'b'
  general.flag = true
";
    let sample: Sample = parse(text, "f.toml", &CATALOGUE).unwrap();
    assert_eq!(sample.general.hosts, ["a", "b"]);
    assert_eq!(sample.general.wait, OrInfinity::Infinity);
    assert_eq!(sample.listen[0].port, 5222);
    assert_eq!(sample.shaper["slow"].max_rate, OrInfinity::Value(1));
    assert_eq!(sample.host_config[0].general.flag, Some(true));
}

#[test]
fn a_finding_shows_line_caret_and_nearest_name() {
    let text = "[general]\nhosts = ['a']\n\tloglevle = \"debug\"\n";
    assert_eq!(
        findings(text),
        "\
f.toml:3:2: unknown key `loglevle` in `[general]`
   |
 3 |  loglevle = \"debug\"
   |  ^^^^^^^^ did you mean `loglevel`?
"
    );
}

#[test]
fn all_findings_come_at_once_in_the_order_of_lines() {
    let text = "\
[general]
hosts = []
loglevel = \"verbos\"
wait = -1
flag = \"true\"
colour = 'blue'
[[listen]]
port = 70000
shaper = 'fsat'
ip_address = 'localhost'
[[listen]]
backlog = 101
[shaper.fast]
max_rate = \"infinite\"
[host_config]
host_type = 'a'
[s2s]
default_policy = 'deny'
";
    check(
        text,
        &[
            "2:9: there is no host",
            "3:12: `loglevel`: \"verbos\" is not one of `none`, `emergency`, `alert`, `critical`, \
             `error`, `warning`, `notice`, `info`, `debug`, `all`",
            "4:8: `wait`: -1 is not at least 0 ms, nor \"infinity\"",
            "5:8: `flag`: a string, expected a boolean",
            "6:1: unknown key `colour` in `[general]`",
            "8:8: `port`: 70000 is not between 0 and 65535",
            "10:14: `ip_address`: \"localhost\" is not an IP address",
            "11:1: `port` is missing in `[[listen]]`",
            "12:11: `backlog`: 101 is not between 1 and 100",
            "14:12: `max_rate`: \"infinite\" is neither a number nor \"infinity\"",
            "15:1: `host_config`: a table, expected an array",
            "17:2: `s2s` is not supported yet",
        ],
    );
}

#[test]
fn known_options_are_answered_by_name() {
    let rows = [
        ("sm_backend = 'cets'", "`sm_backend` is not supported yet"),
        ("port = 5222", "`port` has moved"),
        ("mnesia = {}", "`mnesia` is not supported"),
        (
            "loglevel = 'verbose'",
            "`loglevel`: \"verbose\" is not supported yet",
        ),
    ];
    for (line, expected) in rows {
        let column = if line.starts_with("loglevel") { 12 } else { 1 };
        check(
            &format!("{GOOD}{line}\n"),
            &[&format!("3:{column}: {expected}")],
        );
    }
    let near = findings(&format!("{GOOD}sm_bakend = 1\n"));
    assert!(near.contains("did you mean `sm_backend`?"), "{near}");
    let in_array = format!("{GOOD}[[listen]]\nport = 1\n[listen.tls]\ndhfile = 'x'\n");
    check(&in_array, &["5:9: `tls` is not supported yet"]);
}

#[test]
fn a_host_section_is_held_against_the_global_one() {
    let text = format!("{GOOD}[[host_config]]\nhost_type = 'a'\n[host_config.general]\n");
    check(
        &format!("{text}loglevel = 'debug'\n"),
        &["6:1: `loglevel` holds for the whole node, not for one host type"],
    );
    assert!(findings(&format!("{text}loglevel = 'debug'\n")).contains("it belongs in `[general]`"));
    check(
        &format!("{text}sm_backend = 'debug'\n"),
        &["6:1: `sm_backend` is not supported yet"],
    );
    check(
        &format!("{GOOD}[[host_config]]\nhost_type = 'a'\n[host_config.shaper]\n"),
        &["5:14: `shaper` holds for the whole node, not for one host type"],
    );
}

#[test]
fn wrong_types_say_how_to_mend_them() {
    let rows = [
        ("flag = 'true'", "write it without quotes"),
        ("flag = 1", ""),
        ("wait = 'long'", ""),
        ("[listen]", "write the header in double brackets"),
        ("[[listen]]\nport = '5222'", "write it without quotes"),
        ("[[listen]]\nport = [5222]", ""),
        ("[[host_config]]\nhost_type = 1", ""),
    ];
    for (lines, hint) in rows {
        let all = findings(&format!("{GOOD}{lines}\n"));
        let (_, after) = all.trim_end().rsplit_once('^').unwrap();
        assert_eq!(after.trim(), hint, "{lines}");
    }
    let all = findings("[general]\nhosts = 'a'\n");
    assert!(all.ends_with("^^^ put it in brackets\n"), "{all}");
}

#[test]
fn syntax_errors_come_together_with_the_rest() {
    let text = "[general]\nhosts = ['a']\nflag = yes\nflag2 = tru\ncolour = 1\nhosts = ['b']\n";
    let messages = messages(text);
    let lines: Vec<&str> = messages.iter().map(|line| &line[..1]).collect();
    assert!(
        lines.contains(&"3") && lines.contains(&"4") && lines.contains(&"5"),
        "{messages:#?}"
    );
    assert!(messages.contains(&"6:1: this key stands twice in its table".to_owned()));
    let twice = format!("{GOOD}[general]\nflag = true\n");
    check(&twice, &["3:2: this key stands twice in its table"]);
}

#[test]
fn what_is_missing_in_a_cut_file_is_not_told() {
    let messages = messages("[general]\nhosts = ['a']\n[[listen]]\nport = \n");
    assert_eq!(messages.len(), 1, "{messages:#?}");
}

#[test]
fn rules_are_checked_though_other_options_are_wrong() {
    let text = "\
[general]
hosts = ['a']
flog = true
[[listen]]
port = 22
backlog = 7
shaper = 'none'
";
    check(
        text,
        &[
            "3:1: unknown key `flog` in `[general]`",
            "4:1: a backlog of 7 needs it",
            "5:8: 22 is taken",
            "7:10: there is no `[shaper.none]`",
        ],
    );
}

#[test]
fn a_refused_value_causes_no_second_finding() {
    // The default of `hosts` is no host at all, and that would be a finding of its own.
    check(
        "[general]\nhosts = 'a'\n",
        &["2:9: `hosts`: a string, expected an array"],
    );
    let text = format!("{GOOD}[[listen]]\nport = 1\nshaper = 'x'\n[shaper.x]\nmax_rate = 'y'\n");
    check(
        &text,
        &["7:12: `max_rate`: \"y\" is neither a number nor \"infinity\""],
    );
}

/// A value that only serde can judge.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u32")]
struct Even(u32);

impl TryFrom<u32> for Even {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number % 2 {
            0 => Ok(Self(number)),
            _ => Err(format!("{number} is odd")),
        }
    }
}

/// A configuration whose value only serde can judge.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Judged {
    /// A number.
    even: Even,
    /// A word.
    word: String,
}

impl Check for Judged {}

#[test]
fn what_serde_finds_is_told_with_its_line() {
    let found = |text: &str| {
        let judged = parse::<Judged>(text, "f.toml", &Catalogue::EMPTY);
        judged.map_err(|findings| findings.to_string())
    };
    assert_eq!(found("word = 'x'\neven = 6\n").unwrap().even.0, 6);
    let shown = found("word = 'x'\neven = 7\n").unwrap_err();
    assert_eq!(
        shown,
        "f.toml:2:8: 7 is odd\n   |\n 2 | even = 7\n   |        ^\n"
    );
}

#[test]
fn hostile_text_does_no_harm() {
    let deep = 100_000;
    let rows = [
        format!("{} = 1", vec!["a"; deep].join(".")),
        format!("[{}]", vec!["a"; deep].join(".")),
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}1{}", "{ a = ".repeat(deep), "}".repeat(deep)),
        format!("{} = 1", "k".repeat(500_000)),
        "\u{feff}\u{0}\u{1b}[31m = \u{7}".to_owned(),
        "a".repeat(CONFIG_BYTES_MAX),
        "\n".repeat(CONFIG_BYTES_MAX),
        "[[a]]\n".repeat(100_000),
        (0..20_000).map(|n| format!("k{n} = {n}\n")).collect(),
        nested_to_the_limits(),
    ];
    for text in rows {
        let findings = parse::<Sample>(&text, "f.toml", &CATALOGUE).unwrap_err();
        let shown = findings.to_string();
        assert!(shown.len() < 100_000, "{} bytes", shown.len());
        assert!(!shown.contains('\u{1b}'));
    }
}

/// Dotted keys inside of nested inline tables, both as deep as the parser allows.
fn nested_to_the_limits() -> String {
    let key = vec!["a"; CONFIG_DEPTH_MAX - 1].join(".");
    let levels = CONFIG_DEPTH_MAX - 2;
    let open = format!("{{ {key} = ").repeat(levels);
    format!("[{key}]\n{key} = {open}1{}", " }".repeat(levels))
}

#[test]
fn too_long_is_refused_and_the_limit_named() {
    let text = "#".repeat(CONFIG_BYTES_MAX + 1);
    assert_eq!(findings(&text), "f.toml: is longer than 1048576 bytes\n");
}

#[test]
fn more_findings_than_the_limit_are_counted() {
    let keys: String = (0..FINDINGS_MAX + 20)
        .map(|n| format!("k{n} = 1\n"))
        .collect();
    let found = parse::<Sample>(&format!("{keys}{GOOD}"), "f.toml", &CATALOGUE).unwrap_err();
    assert_eq!(found.len(), FINDINGS_MAX + 20);
    assert_eq!(found.iter().count(), FINDINGS_MAX);
    assert!(found.to_string().ends_with("f.toml: and 20 more\n"));
}

#[test]
fn no_finding_shows_a_secret() {
    let rows = [
        "password = 12345",
        "password = \"12345",
        "pasword = '12345'",
        "password = \"\"\"\n12345 \\q\n\"\"\"",
        "password = ['12345']",
        "flag = true\npassword = '1'\npassword = '12345'",
    ];
    for row in rows {
        let shown = findings(&format!("{GOOD}{row}\n"));
        assert!(shown.starts_with("f.toml:"), "{row}");
        assert!(!shown.contains("12345"), "{shown}");
    }
}

#[test]
fn files_are_refused_for_what_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    let refused = || {
        let findings = load::<Sample>(&path, &CATALOGUE).unwrap_err().to_string();
        findings.replace(&*path.to_string_lossy(), "f.toml")
    };
    assert!(refused().starts_with("f.toml: cannot be read: No such file"));

    fs::create_dir(&path).unwrap();
    assert_eq!(refused(), "f.toml: is not a regular file\n");
    fs::remove_dir(&path).unwrap();

    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(refused(), "f.toml: is not a regular file\n");
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink(directory.path().join("none"), &path).unwrap();
    assert!(refused().starts_with("f.toml: cannot be read: No such file"));
    fs::remove_file(&path).unwrap();

    fs::write(&path, b"[general]\nhosts = ['\xff']\n").unwrap();
    assert_eq!(
        refused(),
        "f.toml: line 2 is not UTF-8: save the file as UTF-8\n"
    );
}

#[test]
fn a_secret_makes_the_file_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    let rows = [
        ("flag = true", 0o644, ""),
        ("password = 'hunter2'", 0o640, ""),
        ("password = 'hunter2'", 0o600, ""),
        (
            "password = 'hunter2'",
            0o644,
            "3:12: this secret stands in a file with mode 0644",
        ),
        (
            "password = 'hunter2'",
            0o660,
            "3:12: this secret stands in a file with mode 0660",
        ),
    ];
    for (line, mode, expected) in rows {
        fs::write(&path, format!("{GOOD}{line}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let shown = match load::<Sample>(&path, &CATALOGUE) {
            Ok(sample) => format!("{sample:?}"),
            Err(findings) => {
                let text = findings.to_string();
                let place = text.strip_prefix(&format!("{}:", path.display())).unwrap();
                assert_eq!(place.lines().next().unwrap(), expected);
                text
            }
        };
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(expected.is_empty(), shown.starts_with("Sample"));
    }
}

#[test]
fn a_link_to_a_good_file_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    fs::write(&real, GOOD).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    load::<Sample>(&link, &CATALOGUE).unwrap();
}

#[test]
fn a_file_that_is_named_must_be_there_when_a_file_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    let named = directory.path().join("named");
    let text = format!("{GOOD}file = {named:?}\n");
    fs::write(&path, &text).unwrap();
    let found = || load::<Sample>(&path, &CATALOGUE).map_err(|findings| findings.to_string());

    let message = found().unwrap_err();
    assert!(
        message.contains(":3:8: `file`: cannot be read: No such file"),
        "{message}"
    );
    fs::create_dir(&named).unwrap();
    assert!(
        found()
            .unwrap_err()
            .contains(":3:8: `file`: is not a regular file")
    );
    fs::remove_dir(&named).unwrap();
    fs::write(&named, "").unwrap();
    found().unwrap();
    fs::remove_file(&named).unwrap();
    check(&text, &[]);
}

#[test]
fn the_page_lists_each_option_once() {
    let page = markdown(&schemars::schema_for!(Sample));
    assert_eq!(
        page,
        "\
## `[general]`

What holds for all.

| Option | Type | Default | Meaning |
|---|---|---|---|
| `hosts` | list of string | `[]` | The domains. |
| `loglevel` | `\"none\"`, `\"emergency\"`, `\"alert\"`, `\"critical\"`, `\"error\"`, `\"warning\"`, `\"notice\"`, `\"info\"`, `\"debug\"`, `\"all\"` | `\"warning\"` | How much is logged. `none`: nothing. `emergency`: as `error`. `alert`: as `error`. `critical`: as `error`. `error`: a person must act. `warning`: the daemon recovered by itself; and how its start and its stop go. `notice`: as `info`. `info`: what happens to the daemon as a whole. `debug`: what happens to single sessions. `all`: everything, of the libraries too. |
| `wait` | integer ms or `\"infinity\"` | `2000` | How long to wait. |
| `flag` | boolean | `false` | A flag. |
| `password` | string | – | The database's password. |
| `file` | string | – | A file. |

## `[[listen]]`

Where we listen.

| Option | Type | Default | Meaning |
|---|---|---|---|
| `port` | integer, 0 to 65535 | required | The port. |
| `ip_address` | string | – | The address. |
| `shaper` | string | – | Slows it down. |
| `backlog` | integer, 1 to 100 | `0` | How many may wait. |

### `[shaper.NAME]`

Limits by name.

| Option | Type | Default | Meaning |
|---|---|---|---|
| `max_rate` | integer or `\"infinity\"` | required | How much. |

## `[[host_config]]`

What holds for one host type.

| Option | Type | Default | Meaning |
|---|---|---|---|
| `host_type` | string | required | Which. |

### `[host_config.general]`

As above, but for one.

| Option | Type | Default | Meaning |
|---|---|---|---|
| `flag` | boolean | – | As above. |

"
    );
}

#[test]
fn an_option_without_a_comment_is_found() {
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Bare {
        silent: General,
    }
    assert_eq!(undocumented(&schemars::schema_for!(Sample)), [""; 0]);
    assert_eq!(undocumented(&schemars::schema_for!(Bare)), ["silent"]);
}

#[test]
fn a_review_has_warnings_beside_the_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    let review = |text: &str| {
        fs::write(&path, text).unwrap();
        let reviewed = super::review(
            &path,
            &CATALOGUE,
            |sample: &Sample, checks: &mut Checks<'_>| {
                let is_sound = checks.is_sound("general.hosts");
                for host in sample.general.hosts.iter().filter(|_| is_sound) {
                    checks.warning("general.hosts", format!("{host} is far away"), "move");
                }
            },
        );
        let outcome = reviewed.outcome.map_err(|findings| findings.to_string());
        (outcome, reviewed.warnings.to_string())
    };
    let (outcome, warnings) = review("[general]\nhosts = ['a']\n");
    assert!(outcome.is_ok());
    assert!(
        warnings.contains("f.toml:2:9: warning: a is far away\n"),
        "{warnings}"
    );
    assert!(warnings.ends_with("^^^^^ move\n"), "{warnings}");

    let (outcome, warnings) = review("[general]\nhosts = ['a']\nflag = 1\n");
    assert!(outcome.unwrap_err().contains("f.toml:3:8: "));
    assert!(warnings.contains("a is far away"), "{warnings}");

    let (outcome, warnings) = review("[general]\nhosts = [1]\n");
    assert!(outcome.unwrap_err().contains("f.toml:2:"));
    assert_eq!(warnings, "", "of what was refused nothing is said");
}
