//! The commands of `meerkatctl`, read from the admin schema.
use std::fmt::Write as _;
use std::task::{Context, Poll, Waker};

use serde_json::{Map, Value};

use crate::api::admin::schema;

/// What is asked of the schema.
const QUESTION: &str = "{ __schema { queryType { name } mutationType { name } types { name kind description \
     fields { name description args { name description defaultValue type { ...T } } type { ...T } } \
     inputFields { name type { ...T } } enumValues { name } possibleTypes { name } } } } \
     fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name } } } }";

/// All commands.
pub struct Commands {
    /// By category, in order of their names.
    pub categories: Vec<Category>,
}

/// Commands that are about one thing.
pub struct Category {
    /// Its name.
    pub name: String,
    /// What it is about.
    about: String,
    /// In order of their names.
    pub commands: Vec<Command>,
}

/// One command.
pub struct Command {
    category: String,
    /// Its name in the category.
    pub name: String,
    about: String,
    is_mutation: bool,
    /// It is a field of the root, and its category has its name.
    pub is_root: bool,
    /// Its arguments, in the order of the schema.
    pub args: Vec<Arg>,
    /// What is asked of its result: all there is.
    selection: String,
}

/// An argument.
pub struct Arg {
    /// Its name.
    pub name: String,
    about: String,
    /// Its type as the schema writes it.
    pub type_text: String,
    /// There is no default for it.
    pub is_required: bool,
    /// How its value is given.
    pub shape: Shape,
    /// What it may be, or is made of.
    values: String,
}

/// How a value is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// As it is.
    Text,
    /// As JSON: numbers, truth values, lists and objects.
    Json,
}

impl Commands {
    /// Of the schema of this version.
    pub fn of_schema() -> Self {
        let schema = schema();
        let mut response = std::pin::pin!(schema.execute(QUESTION));
        // It does no I/O, so there is nothing to be woken by.
        let mut context = Context::from_waker(Waker::noop());
        let response = loop {
            if let Poll::Ready(response) = response.as_mut().poll(&mut context) {
                break response;
            }
        };
        let answer = serde_json::to_value(response).unwrap_or_default();
        Types(&answer["data"]["__schema"]["types"]).commands(&answer["data"]["__schema"])
    }

    /// The category of that name.
    pub fn category(&self, name: &str) -> Option<&Category> {
        self.categories
            .iter()
            .find(|category| category.name == name)
    }

    /// One line each.
    pub fn list(&self) -> String {
        let mut text = String::new();
        for category in &self.categories {
            let _ = writeln!(text, "  {:<10}{}", category.name, category.about);
        }
        text
    }
}

impl Category {
    /// Its commands.
    pub fn help(&self) -> String {
        let mut text = format!("{}: {}\n", self.name, self.about);
        for command in &self.commands {
            let _ = write!(
                text,
                "\n  {}\n{}",
                command.usage(),
                indented(&command.about)
            );
        }
        text
    }
}

impl Command {
    /// As it is written.
    pub fn usage(&self) -> String {
        let mut text = format!("meerkatctl {}", self.category);
        if !self.is_root {
            let _ = write!(text, " {}", self.name);
        }
        for arg in &self.args {
            let (name, of) = (&arg.name, &arg.type_text);
            let of = of.strip_suffix('!').unwrap_or(of);
            let _ = match arg.is_required {
                true => write!(text, " --{name} <{of}>"),
                false => write!(text, " [--{name} <{of}>]"),
            };
        }
        text
    }

    /// What it does, and what its arguments are.
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage(), self.about);
        for arg in &self.args {
            let need = if arg.is_required { "" } else { ", optional" };
            let _ = writeln!(text, "\n  --{} {}{need}", arg.name, arg.type_text);
            let mut more = vec![arg.about.clone(), arg.values.clone()];
            if arg.is_secret() {
                more.push("- reads it from the standard input.".into());
            }
            if arg.shape == Shape::Json {
                more.push("Given as JSON.".into());
            }
            more.retain(|line| !line.is_empty());
            if !more.is_empty() {
                text.push_str(&indented(&more.join("\n")));
            }
        }
        text
    }

    /// The document that runs it with these arguments.
    pub fn document(&self, values: &Map<String, Value>) -> String {
        let given = self
            .args
            .iter()
            .filter(|arg| values.contains_key(&arg.name));
        let (mut definitions, mut args) = (Vec::new(), Vec::new());
        for arg in given {
            definitions.push(format!("${}: {}", arg.name, arg.type_text));
            args.push(format!("{}: ${}", arg.name, arg.name));
        }
        let in_brackets = |all: &[String]| match all.is_empty() {
            true => String::new(),
            false => format!("({})", all.join(", ")),
        };
        let kind = if self.is_mutation {
            "mutation"
        } else {
            "query"
        };
        let (definitions, args) = (in_brackets(&definitions), in_brackets(&args));
        let field = format!("{}{args}{}", self.name, self.selection);
        match self.is_root {
            true => format!("{kind}{definitions} {{ {field} }}"),
            false => format!("{kind}{definitions} {{ {} {{ {field} }} }}", self.category),
        }
    }
}

impl Arg {
    /// Whether it must not stand in a list of processes.
    pub fn is_secret(&self) -> bool {
        self.name.to_lowercase().contains("password")
    }
}

fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| format!("      {line}\n"));
    lines.collect()
}

/// The types of the schema.
struct Types<'a>(&'a Value);

/// An element of an array, or nothing.
fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl<'a> Types<'a> {
    fn find(&self, name: &str) -> &'a Value {
        let mut all = self.0.as_array().into_iter().flatten();
        all.find(|of| text(of, "name") == name)
            .unwrap_or(&Value::Null)
    }

    fn commands(&self, schema: &'a Value) -> Commands {
        let mut categories: Vec<Category> = Vec::new();
        for (root, is_mutation) in [("queryType", false), ("mutationType", true)] {
            let root = self.find(text(&schema[root], "name"));
            for field in each(&root["fields"]) {
                self.add(field, is_mutation, &mut categories);
            }
        }
        categories.sort_by(|a, b| a.name.cmp(&b.name));
        for category in &mut categories {
            category.commands.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Commands { categories }
    }

    /// A field of the root: a category, or a command of its own.
    fn add(&self, field: &'a Value, is_mutation: bool, categories: &mut Vec<Category>) {
        let name = text(field, "name");
        let index = categories.iter().position(|other| other.name == name);
        let index = index.unwrap_or_else(|| {
            categories.push(Category {
                name: name.to_owned(),
                about: text(field, "description").to_owned(),
                commands: Vec::new(),
            });
            categories.len() - 1
        });
        let of = named(&field["type"]);
        let is_category = of.ends_with("AdminQuery") || of.ends_with("AdminMutation");
        let commands: Vec<Command> = if is_category {
            let fields = each(&self.find(of)["fields"]);
            fields
                .map(|field| self.command(name, field, is_mutation, false))
                .collect()
        } else {
            vec![self.command(name, field, is_mutation, true)]
        };
        if let Some(category) = categories.get_mut(index) {
            category.commands.extend(commands);
        }
    }

    fn command(
        &self,
        category: &str,
        field: &'a Value,
        is_mutation: bool,
        is_root: bool,
    ) -> Command {
        Command {
            category: category.to_owned(),
            name: text(field, "name").to_owned(),
            about: text(field, "description").to_owned(),
            is_mutation,
            is_root,
            args: each(&field["args"]).map(|arg| self.arg(arg)).collect(),
            selection: self.selection(named(&field["type"]), &mut Vec::new()),
        }
    }

    fn arg(&self, arg: &'a Value) -> Arg {
        let of = &arg["type"];
        let inner = self.find(named(of));
        let is_list = type_text(of).contains('[');
        let is_text = text(inner, "kind") == "ENUM"
            || (text(inner, "kind") == "SCALAR" && !JSON_SCALARS.contains(&text(inner, "name")));
        let has_default = arg["defaultValue"].is_string();
        Arg {
            name: text(arg, "name").to_owned(),
            about: text(arg, "description").to_owned(),
            type_text: type_text(of),
            is_required: text(of, "kind") == "NON_NULL" && !has_default,
            shape: if is_text && !is_list {
                Shape::Text
            } else {
                Shape::Json
            },
            values: values(inner),
        }
    }

    /// All that a type has, in braces. A type within itself is left out.
    fn selection(&self, name: &'a str, within: &mut Vec<&'a str>) -> String {
        let of = self.find(name);
        within.push(name);
        let mut parts = Vec::new();
        for field in of["fields"].as_array().into_iter().flatten() {
            let inner = named(&field["type"]);
            if !within.contains(&inner) {
                let inner = self.selection(inner, within);
                parts.push(format!("{}{inner}", text(field, "name")));
            }
        }
        for member in each(&of["possibleTypes"]) {
            let member = text(member, "name");
            let inner = self.selection(member, within);
            if !inner.is_empty() {
                parts.push(format!("... on {member}{inner}"));
            }
        }
        within.pop();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" {{ {} }}", parts.join(" ")),
        }
    }
}

/// Scalars whose values are numbers or truth values in JSON.
const JSON_SCALARS: [&str; 5] = ["Int", "Float", "Boolean", "PosInt", "NonNegInt"];

/// The name of the type within lists and what may not be null.
fn named(of: &Value) -> &str {
    let mut of = of;
    while let Some(inner) = of.get("ofType").filter(|inner| !inner.is_null()) {
        of = inner;
    }
    text(of, "name")
}

fn type_text(of: &Value) -> String {
    let inner = &of["ofType"];
    match text(of, "kind") {
        "NON_NULL" => format!("{}!", type_text(inner)),
        "LIST" => format!("[{}]", type_text(inner)),
        _ => text(of, "name").to_owned(),
    }
}

/// The words of an enumeration, the fields of an object, or what a scalar is.
fn values(of: &Value) -> String {
    let names = |list: &Value| {
        let names = each(list).map(|one| text(one, "name").to_owned());
        names.collect::<Vec<_>>().join(", ")
    };
    match text(of, "kind") {
        "ENUM" => format!("One of {}.", names(&of["enumValues"])),
        "INPUT_OBJECT" => {
            let fields = each(&of["inputFields"]).map(|field| {
                let (name, of) = (text(field, "name"), type_text(&field["type"]));
                format!("{name}: {of}")
            });
            let fields = fields.collect::<Vec<_>>().join(", ");
            format!("{} {{ {fields} }}", text(of, "name"))
        }
        _ if PLAIN.contains(&text(of, "name")) => String::new(),
        _ => text(of, "description").to_owned(),
    }
}

/// Scalars that everybody knows.
const PLAIN: [&str; 5] = ["Int", "Float", "Boolean", "String", "ID"];
