//! `meerkatctl`: administers a node through the Unix socket in its data directory.
//!
//! `meerkatctl CATEGORY COMMAND --arg value …`, in MongooseIM's words. Prints JSON. Exit codes: 0 done, 1 the node
//! answered with an error, 2 wrong usage, 3 the node cannot be reached. A password given as `-` is read from the standard
//! input, where neither the list of processes nor the shell's history shows it.
use std::io::{Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use server::api::control::{COMMANDS, Command, SOCKET_NAME};
use server::run::DATA_DIR_DEFAULT;

const EXIT_ERROR: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_UNREACHABLE: u8 = 3;
/// What is read from the standard input for a password at most: more than one may have.
const PASSWORD_BYTES_MAX: u64 = 4_096;
/// A command that takes longer than this has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match parse(&args, std::io::stdin().lock()) {
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

#[derive(Debug)]
enum Request {
    Help(String),
    Run { data_dir: PathBuf, request: Value },
}

fn parse(args: &[String], mut input: impl Read) -> Result<Request, String> {
    let mut args = args.iter().map(String::as_str).peekable();
    let mut data_dir = PathBuf::from(DATA_DIR_DEFAULT);
    while args.peek() == Some(&"--data-dir") {
        args.next();
        data_dir = args.next().ok_or("--data-dir needs a directory")?.into();
    }
    let category = match args.next() {
        None | Some("--help" | "-h" | "help") => return Ok(Request::Help(help(|_| true))),
        Some(category) => category,
    };
    if !COMMANDS.iter().any(|command| command.category == category) {
        return Err(format!(
            "there is no category {category:?}; `meerkatctl --help` lists them"
        ));
    }
    let name = match args.next() {
        None | Some("--help" | "-h") => {
            return Ok(Request::Help(help(|command| command.category == category)));
        }
        Some(name) => name,
    };
    let found = COMMANDS
        .iter()
        .find(|other| other.category == category && other.name == name);
    let command = found.ok_or_else(|| {
        format!("{category} has no command {name:?}; `meerkatctl {category} --help` lists them")
    })?;
    let mut values = Map::new();
    while let Some(flag) = args.next() {
        if flag == "--help" || flag == "-h" {
            return Ok(Request::Help(help(|other| std::ptr::eq(other, command))));
        }
        let name = flag
            .strip_prefix("--")
            .filter(|name| command.args.contains(name));
        let name = name.ok_or_else(|| format!("{} has no argument {flag:?}", command.name))?;
        let value = args
            .next()
            .ok_or_else(|| format!("--{name} needs a value"))?;
        let value = match (name, value) {
            ("password", "-") => read_password(&mut input)?,
            ("filename", path) => absolute(path)?,
            (_, value) => value.to_owned(),
        };
        if values.insert(name.to_owned(), json!(value)).is_some() {
            return Err(format!("--{name} is given twice"));
        }
    }
    if let Some(missing) = command
        .args
        .iter()
        .find(|name| !values.contains_key(**name))
    {
        return Err(format!("--{missing} is missing: {}", usage(command)));
    }
    let request = json!({ "category": category, "command": command.name, "args": values });
    Ok(Request::Run { data_dir, request })
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
        "meerkatctl [--data-dir DIR] CATEGORY COMMAND --arg value …\n\nAdministers the node whose data directory is DIR. A password given \
         as - is read from the standard input.\n",
    );
    for command in COMMANDS.iter().filter(|command| wanted(command)) {
        text.push_str(&format!("\n  {}\n      {}\n", usage(command), command.help));
    }
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
                "no node answers at {}: {error}\nIs it running? Give its data directory with --data-dir.",
                path.display()
            ));
            ExitCode::from(EXIT_UNREACHABLE)
        }
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
        for (args, expected) in [
            (&["acount"][..], "no category"),
            (&["account", "drop"], "no command"),
            (&["account", "checkUser"], "--user is missing"),
            (&["account", "checkUser", "--user"], "needs a value"),
            (&["account", "checkUser", "romeo"], "no argument"),
            (&["account", "checkUser", "--usr", "x"], "no argument"),
            (
                &["account", "checkUser", "--user", "x", "--user", "y"],
                "given twice",
            ),
            (&["--data-dir"], "needs a directory"),
        ] {
            let problem = request(args, "").unwrap_err();
            assert!(problem.contains(expected), "{args:?}: {problem}");
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
