//! `meerkatctl`: administers a node, through the Unix socket in its data directory or over HTTP.
//!
//! `meerkatctl CATEGORY COMMAND --arg value …`, in MongooseIM's words. Commands and arguments are those of the admin
//! schema: nothing is written twice. What a value says is never looked at again: it goes to the node as a variable.
use std::io::{ErrorKind, Read, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::api::control::SOCKET_NAME;
use crate::run::{DATA_DIR_DEFAULT, DATA_DIR_PACKAGED};

pub mod commands;
pub mod completion;
pub mod http;

use commands::{Arg, Command, Commands, Shape};

/// The node answered with an error.
pub const EXIT_ERROR: u8 = 1;
/// The command line cannot be understood.
pub const EXIT_USAGE: u8 = 2;
/// No node answers.
pub const EXIT_UNREACHABLE: u8 = 3;
/// What is read from the standard input or a file for a password at most: more than one may have.
pub const PASSWORD_BYTES_MAX: u64 = 4_096;
/// What is read from the standard input for a document at most: more than a node takes.
const DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;
/// A command that takes longer than this has failed.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Bytes of an answer: many more than of the largest.
pub const ANSWER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Words that stand for a command: MongooseIM's, for the node itself.
const SHORT: [(&str, &str, &str); 2] = [("status", "server", "status"), ("stop", "server", "stop")];

/// Runs the command line.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let commands = Commands::of_schema();
    match parse(&commands, &args, std::io::stdin()) {
        Ok(Request::Help(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Ok(Request::Run { node, question }) => run(&node, &question),
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_USAGE)
        }
    }
}

#[derive(Debug, PartialEq)]
enum Request {
    Help(String),
    Run { node: Node, question: Value },
}

/// Where the node is.
#[derive(Debug, PartialEq)]
enum Node {
    Here { data_dir: PathBuf },
    There(http::Target),
}

/// What the command line says. A flag is `--name value` or `--name=value`.
#[derive(Default)]
struct Words<'a> {
    words: Vec<&'a str>,
    /// For the command.
    flags: Vec<(&'a str, &'a str)>,
    data_dir: Option<&'a str>,
    url: Option<&'a str>,
    /// Whom the node knows over HTTP. Behind the category, `--user` is an argument of the command.
    user: Option<&'a str>,
    password_file: Option<&'a str>,
    cacert: Option<&'a str>,
    wants_help: bool,
    wants_version: bool,
}

impl<'a> Words<'a> {
    fn read(args: &'a [String]) -> Result<Self, String> {
        let mut args = args.iter().map(String::as_str);
        let mut read = Self::default();
        while let Some(arg) = args.next() {
            match arg {
                "--help" | "-h" => read.wants_help = true,
                "--version" | "-V" => read.wants_version = true,
                flag if flag.starts_with('-') && flag.len() > 1 => {
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
        let option = match flag {
            "--data-dir" => &mut self.data_dir,
            "--url" => &mut self.url,
            "--user" if self.words.is_empty() => &mut self.user,
            "--password-file" => &mut self.password_file,
            "--cacert" => &mut self.cacert,
            _ => {
                let is_twice = self.flags.iter().any(|(other, _)| *other == flag);
                self.flags.push((flag, value));
                return match is_twice {
                    true => Err(format!("{flag} is given twice")),
                    false => Ok(()),
                };
            }
        };
        match option.replace(value) {
            Some(_) => Err(format!("{flag} is given twice")),
            None => Ok(()),
        }
    }

    fn node(&self, input: &mut impl Read) -> Result<Node, String> {
        let Some(url) = self.url else {
            let stray = [
                ("--user", self.user),
                ("--password-file", self.password_file),
                ("--cacert", self.cacert),
            ];
            if let Some((flag, _)) = stray.iter().find(|(_, value)| value.is_some()) {
                return Err(format!("{flag} is of use with --url only"));
            }
            let data_dir = self.data_dir.map_or_else(found_data_dir, PathBuf::from);
            return Ok(Node::Here { data_dir });
        };
        if self.data_dir.is_some() {
            return Err("--url and --data-dir are two ways to a node: take one".into());
        }
        let credentials = match (self.user, self.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => {
                let password = match file {
                    "-" => read_password(input)?,
                    path => {
                        let file = std::fs::File::open(path);
                        let mut file = file.map_err(|error| format!("{path}: {error}"))?;
                        read_password(&mut file)?
                    }
                };
                Some((user.to_owned(), password))
            }
            (Some(_), None) => return Err("--user needs --password-file, which may be -".into()),
            (None, Some(_)) => return Err("--password-file needs --user".into()),
        };
        let cacert = self.cacert.map(PathBuf::from);
        http::Target::new(url, credentials, cacert).map(Node::There)
    }
}

/// Where a node runs, if it runs in one of the usual places: below the working directory, or as the packaged service.
fn found_data_dir() -> PathBuf {
    let has_node = |dir: &&str| Path::new(dir).join(SOCKET_NAME).exists();
    let found = [DATA_DIR_DEFAULT, DATA_DIR_PACKAGED]
        .into_iter()
        .find(has_node);
    found.unwrap_or(DATA_DIR_DEFAULT).into()
}

fn parse(commands: &Commands, args: &[String], mut input: impl Read) -> Result<Request, String> {
    let mut read = Words::read(args)?;
    if read.wants_version {
        let version = concat!("meerkatctl ", env!("CARGO_PKG_VERSION"), "\n");
        return Ok(Request::Help(version.to_owned()));
    }
    if let Some((_, category, command)) = SHORT
        .iter()
        .find(|(short, ..)| read.words.first() == Some(short))
    {
        read.words.splice(..1, [*category, *command]);
    }
    let category = match read.words.first() {
        None | Some(&"help") => return Ok(Request::Help(overview(commands))),
        Some(&"completion") => return completion_of(commands, &read),
        Some(&"graphql") => return graphql(&read, &mut input),
        Some(category) => commands.category(category).ok_or_else(|| {
            format!("there is no category {category:?}; `meerkatctl --help` lists them")
        })?,
    };
    let name = match (read.words.get(1), category.commands.as_slice()) {
        (Some(name), _) => *name,
        // A category that is its only command.
        (None, [only]) if only.is_root && !read.wants_help => only.name.as_str(),
        (None, _) => return Ok(Request::Help(category.help())),
    };
    let command = category
        .commands
        .iter()
        .find(|command| command.name == name);
    let command = command.ok_or_else(|| {
        let category = &category.name;
        format!("{category} has no command {name:?}; `meerkatctl {category} --help` lists them")
    })?;
    if read.wants_help {
        return Ok(Request::Help(command.help()));
    }
    if let Some(stray) = read.words.get(2) {
        return Err(format!("{stray:?} is too much: {}", command.usage()));
    }
    let variables = values(command, &read.flags, &mut input)?;
    let query = command.document(&variables);
    Ok(Request::Run {
        node: read.node(&mut input)?,
        question: json!({ "query": query, "variables": variables }),
    })
}

/// `meerkatctl completion bash`.
fn completion_of(commands: &Commands, read: &Words<'_>) -> Result<Request, String> {
    match (read.words.as_slice(), read.flags.first()) {
        (["completion", "bash"], None) => Ok(Request::Help(completion::bash(commands))),
        _ => Err("completion is there for one shell: `meerkatctl completion bash`".into()),
    }
}

/// `meerkatctl graphql DOCUMENT`: as it is.
fn graphql(read: &Words<'_>, input: &mut impl Read) -> Result<Request, String> {
    const USAGE: &str = "meerkatctl graphql DOCUMENT [--variables JSON] [--operationName NAME]; - reads it from the standard input";
    if read.wants_help {
        return Ok(Request::Help(format!("{USAGE}\n")));
    }
    let query = match read.words.as_slice() {
        [_, "-"] => {
            let mut text = String::new();
            let read = input.take(DOCUMENT_BYTES_MAX).read_to_string(&mut text);
            read.map_err(|error| format!("the document cannot be read: {error}"))?;
            text
        }
        [_, document] => (*document).to_owned(),
        _ => return Err(format!("one document is expected: {USAGE}")),
    };
    let mut question = json!({ "query": query });
    for (flag, value) in &read.flags {
        match *flag {
            "--variables" => {
                let parsed = serde_json::from_str(value);
                let variables: Map<String, Value> =
                    parsed.map_err(|error| format!("--variables is no JSON object: {error}"))?;
                question["variables"] = variables.into();
            }
            "--operationName" => question["operationName"] = json!(value),
            _ => return Err(format!("there is no argument {flag}: {USAGE}")),
        }
    }
    let node = read.node(input)?;
    Ok(Request::Run { node, question })
}

/// The command's arguments: each that it needs, and no other than it has.
fn values(
    command: &Command,
    flags: &[(&str, &str)],
    input: &mut impl Read,
) -> Result<Map<String, Value>, String> {
    let mut values = Map::new();
    for (flag, text) in flags {
        let name = flag.strip_prefix("--");
        let arg = command.args.iter().find(|arg| Some(&*arg.name) == name);
        let arg = arg.ok_or_else(|| format!("there is no argument {flag}: {}", command.usage()))?;
        values.insert(arg.name.clone(), value(arg, text, input)?);
    }
    let missing = command
        .args
        .iter()
        .find(|arg| arg.is_required && !values.contains_key(&arg.name));
    match missing {
        Some(missing) => Err(format!(
            "--{} is missing: {}",
            missing.name,
            command.usage()
        )),
        None => Ok(values),
    }
}

fn value(arg: &Arg, text: &str, input: &mut impl Read) -> Result<Value, String> {
    if arg.is_secret() && text == "-" {
        return Ok(json!(read_password(input)?));
    }
    if arg.name == "filename" {
        return Ok(json!(absolute(text)?));
    }
    match arg.shape {
        Shape::Text => Ok(json!(text)),
        Shape::Json => serde_json::from_str(text).map_err(|error| {
            let (name, of) = (&arg.name, &arg.type_text);
            format!("--{name} is no JSON for {of}: {error}")
        }),
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
        _ => Err("there is no password in the first line of the input".into()),
    }
}

/// The node has another working directory than we: a file is named from the root.
fn absolute(path: &str) -> Result<String, String> {
    let path = std::path::absolute(path).map_err(|error| format!("--filename: {error}"))?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| "--filename is not UTF-8".into())
}

fn overview(commands: &Commands) -> String {
    let mut text = format!(
        "meerkatctl [OPTIONS] CATEGORY COMMAND --arg value …\n\
         meerkatctl [OPTIONS] graphql DOCUMENT [--variables JSON] [--operationName NAME]\n\
         meerkatctl completion bash\n\n\
         Administers a node. Prints JSON; what went wrong is told on the standard error too. A password given as - is\n\
         read from the standard input. Lists and objects are given as JSON.\n\n\
         Categories; `meerkatctl CATEGORY --help` lists the commands of one:\n{}\n\
         Options:\n  \
         --data-dir DIR        unless given {DATA_DIR_DEFAULT} below the working directory, or {DATA_DIR_PACKAGED}\n  \
         --url URL             of a node elsewhere, such as https://chat.example.org:5551/api/graphql\n  \
         --user NAME           for --url; before the category, as commands have arguments of this name\n  \
         --password-file FILE  for --user; - is the standard input\n  \
         --cacert FILE         authorities that may vouch for the node, PEM; otherwise those of this machine\n  \
         -h, --help            of all categories, of a category, or of a command\n  \
         -V, --version\n\n",
        commands.list()
    );
    for (short, category, command) in SHORT {
        text.push_str(&format!("`meerkatctl {short}` is `{category} {command}`. "));
    }
    text.push_str(
        "\n\nExit codes: 0 done, 1 the node answered with an error, 2 wrong usage, 3 the node cannot be reached\n",
    );
    text
}

fn run(node: &Node, question: &Value) -> ExitCode {
    let answer = match node {
        Node::Here { data_dir } => ask(&data_dir.join(SOCKET_NAME), question),
        Node::There(target) => target.ask(question),
    };
    match answer {
        Ok(answer) => {
            let text = serde_json::to_string_pretty(&answer).unwrap_or_default();
            print(&format!("{text}\n"));
            let errors = answer.get("errors").and_then(Value::as_array);
            for error in errors.into_iter().flatten() {
                complain(&describe(error));
            }
            match errors {
                Some(_) => ExitCode::from(EXIT_ERROR),
                None => ExitCode::SUCCESS,
            }
        }
        Err(problem) => {
            complain(&problem);
            ExitCode::from(EXIT_UNREACHABLE)
        }
    }
}

/// An error of the node in one line.
fn describe(error: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let message = text(error.get("message")).unwrap_or_else(|| "an error without a text".into());
    let code = error.get("extensions").and_then(|more| more.get("code"));
    match text(code) {
        Some(code) => format!("{message} ({code})"),
        None => message,
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

fn ask(path: &Path, question: &Value) -> Result<Value, String> {
    let ask = || {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(question.to_string().as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        serde_json::from_slice(&answer).map_err(std::io::Error::other)
    };
    ask().map_err(|error| {
        let path = path.display();
        format!("no node answers at {path}: {error}\n{}", hint(&error))
    })
}

fn print(text: &str) {
    // A closed pipe is no error of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "meerkatctl: {text}");
}

#[cfg(test)]
mod tests;
