//! `meerkatctl`: administers a node through the Unix socket in its data directory.
//!
//! `meerkatctl CATEGORY COMMAND --arg value …`, in MongooseIM's words. Prints JSON. Exit codes: 0 done, 1 the node
//! answered with an error, 2 wrong usage, 3 the node cannot be reached. A password given as `-` is read from the standard
//! input, where neither the list of processes nor the shell's history shows it.
use std::io::{ErrorKind, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use server::api::control::{COMMANDS, Command, SOCKET_NAME};
use server::run::{DATA_DIR_DEFAULT, DATA_DIR_PACKAGED};

const EXIT_ERROR: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;
/// What is read from the standard input for a password at most: more than one may have.
const PASSWORD_BYTES_MAX: u64 = 4_096;
/// A command that takes longer than this has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match parse(&args, std::io::stdin()) {
        Ok(Request::Help(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Run { data_dir, request }) => run(&data_dir, &request),
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

#[derive(Debug, PartialEq)]
enum Request {
    Help(String),
    Run { data_dir: PathBuf, request: Value },
}

/// What the command line says. A flag is `--name value` or `--name=value`, and may stand anywhere.
struct Words<'a> {
    words: Vec<&'a str>,
    flags: Vec<(&'a str, &'a str)>,
    data_dir: Option<&'a str>,
    wants_help: bool,
    wants_version: bool,
}

impl<'a> Words<'a> {
    fn read(args: &'a [String]) -> Result<Self, String> {
        let mut args = args.iter().map(String::as_str);
        let mut read = Self {
            words: Vec::new(),
            flags: Vec::new(),
            data_dir: None,
            wants_help: false,
            wants_version: false,
        };
        while let Some(arg) = args.next() {
            match arg {
                "--help" | "-h" => read.wants_help = true,
                "--version" | "-V" => read.wants_version = true,
                flag if flag.starts_with('-') => {
                    let (name, value) = match flag.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (flag, None),
                    };
                    let value = value.or_else(|| args.next());
                    let value = value.ok_or_else(|| format!("{name} needs a value"))?;
                    read.take(name, value)?;
                }
                word => read.words.push(word),
            }
        }
        Ok(read)
    }

    fn take(&mut self, flag: &'a str, value: &'a str) -> Result<(), String> {
        let is_twice = match flag {
            "--data-dir" => self.data_dir.replace(value).is_some(),
            _ => {
                let is_twice = self.flags.iter().any(|(other, _)| *other == flag);
                self.flags.push((flag, value));
                is_twice
            }
        };
        match is_twice {
            true => Err(format!("{flag} is given twice")),
            false => Ok(()),
        }
    }
}

fn parse(args: &[String], input: impl Read) -> Result<Request, String> {
    let read = Words::read(args)?;
    if read.wants_version {
        let version = concat!("meerkatctl ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Request::Help(version.to_owned()));
    }
    let category = match read.words.first() {
        None | Some(&"help") => return Ok(Request::Help(help(|_| true))),
        Some(category) => *category,
    };
    if !COMMANDS.iter().any(|command| command.category == category) {
        return Err(format!(
            "there is no category {category:?}; `meerkatctl --help` lists them"
        ));
    }
    let Some(name) = read.words.get(1) else {
        return Ok(Request::Help(help(|command| command.category == category)));
    };
    let found = COMMANDS
        .iter()
        .find(|other| other.category == category && other.name == *name);
    let command = found.ok_or_else(|| {
        format!("{category} has no command {name:?}; `meerkatctl {category} --help` lists them")
    })?;
    if read.wants_help {
        return Ok(Request::Help(help(|other| {
            (other.category, other.name) == (command.category, command.name)
        })));
    }
    if let Some(stray) = read.words.get(2) {
        return Err(format!("{stray:?} is too much: {}", usage(command)));
    }
    let request = json!({
        "category": category,
        "command": command.name,
        "args": values(command, &read.flags, input)?,
    });
    let data_dir = read.data_dir.map_or_else(found_data_dir, PathBuf::from);
    Ok(Request::Run { data_dir, request })
}

/// Where a node runs, if it runs in one of the usual places: below the working directory, or as the packaged service.
fn found_data_dir() -> PathBuf {
    let has_node = |dir: &&str| Path::new(dir).join(SOCKET_NAME).exists();
    let found = [DATA_DIR_DEFAULT, DATA_DIR_PACKAGED]
        .into_iter()
        .find(has_node);
    found.unwrap_or(DATA_DIR_DEFAULT).into()
}

/// The command's arguments: each that it has, and no other.
fn values(
    command: &Command,
    flags: &[(&str, &str)],
    mut input: impl Read,
) -> Result<Map<String, Value>, String> {
    let mut values = Map::new();
    for (flag, value) in flags {
        let name = flag
            .strip_prefix("--")
            .filter(|name| command.args.contains(name));
        let name =
            name.ok_or_else(|| format!("there is no argument {flag}: {}", usage(command)))?;
        let value = match (name, *value) {
            ("password", "-") => read_password(&mut input)?,
            ("filename", path) => absolute(path)?,
            (_, value) => value.to_owned(),
        };
        values.insert(name.to_owned(), json!(value));
    }
    let missing = command
        .args
        .iter()
        .find(|name| !values.contains_key(**name));
    match missing {
        Some(missing) => Err(format!("--{missing} is missing: {}", usage(command))),
        None => Ok(values),
    }
}

/// The first line of the input.
fn read_password(input: &mut impl Read) -> Result<String, String> {
    let mut text = String::new();
    let read = input
        .by_ref()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| format!("the password cannot be read: {error}"))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err("the standard input has no password in its first line".into()),
    }
}

/// The node has another working directory than we: a file is named from the root.
fn absolute(path: &str) -> Result<String, String> {
    let path = std::path::absolute(path).map_err(|error| format!("--filename: {error}"))?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| "--filename is not UTF-8".into())
}

fn usage(command: &Command) -> String {
    let args: String = command
        .args
        .iter()
        .map(|name| format!(" --{name} <{name}>"))
        .collect();
    format!("meerkatctl {} {}{args}", command.category, command.name)
}

fn help(wanted: impl Fn(&Command) -> bool) -> String {
    let mut text = String::from(
        "meerkatctl [--data-dir DIR] CATEGORY COMMAND --arg value …\n\n\
         Administers the node whose data directory is DIR. Prints JSON. A password given as - is read from the\n\
         standard input.\n",
    );
    for command in COMMANDS.iter().filter(|command| wanted(command)) {
        text.push_str(&format!("\n  {}\n      {}\n", usage(command), command.help));
    }
    text.push_str(&format!(
        "\n  --data-dir DIR   unless given {DATA_DIR_DEFAULT} below the working directory, or {DATA_DIR_PACKAGED}\n  \
         -h, --help       of all commands, of a category, or of a command\n  -V, --version\n\n\
         Exit codes: 0 done, 1 the node answered with an error, 2 wrong usage, 3 the node cannot be reached\n"
    ));
    text
}

fn run(data_dir: &std::path::Path, request: &Value) -> ExitCode {
    let path = data_dir.join(SOCKET_NAME);
    match ask(&path, request) {
        Ok(answer) => {
            let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
            print(&format!("{text}\n"));
            if answer.get("errors").is_some() {
                ExitCode::from(EXIT_ERROR)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            complain(&format!(
                "no node answers at {}: {error}\n{}",
                path.display(),
                hint(&error)
            ));
            ExitCode::from(EXIT_UNREACHABLE)
        }
    }
}

/// What may help.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "Is it running? Give its data directory with --data-dir.",
        ErrorKind::ConnectionRefused => {
            "It is not running: the socket is left of one that has ended."
        }
        ErrorKind::PermissionDenied => "Run this as the user that the node runs as.",
        _ => "Its log may say more.",
    }
}

fn ask(path: &std::path::Path, request: &Value) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(request.to_string().as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    serde_json::from_slice(&answer).map_err(std::io::Error::other)
}

fn print(text: &str) {
    // A closed pipe is no error of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "meerkatctl: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request, String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&args, std::io::empty())
    }

    #[test]
    fn the_data_directory_may_stand_anywhere() {
        let request = json!({
            "category": "account",
            "command": "countUsers",
            "args": { "domain": "localhost" },
        });
        let check = |line: &str, data_dir: &str| {
            let expected = Request::Run {
                data_dir: data_dir.into(),
                request: request.clone(),
            };
            assert_eq!(parsed(line), Ok(expected), "{line}");
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
        check("--help", "registerUser", "no such text");
        check("help", "registerUser", "no such text");
        check("account", "registerUser", "no such text");
        check("account countUsers --help", "countUsers", "registerUser");
        check("account --help countUsers", "countUsers", "registerUser");
        check("--version", env!("CARGO_PKG_VERSION"), "registerUser");
    }

    fn request(args: &[&str], input: &str) -> Result<Value, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        match parse(&args, input.as_bytes())? {
            Request::Run { request, .. } => Ok(request["args"].clone()),
            Request::Help(text) => Err(text),
        }
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
        for value in ["--domain", "-", "$(id)", "a\nb; rm", "' \"", ""] {
            let args = ["account", "checkUser", "--user", value];
            assert_eq!(request(&args, "").unwrap(), json!({ "user": value }));
        }
    }

    #[test]
    fn k06_a_password_may_come_from_the_standard_input() {
        let register = |password, input| {
            let args = [&REGISTER[..], &["--password", password]].concat();
            Ok::<_, String>(request(&args, input)?["password"].clone())
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
}
