//! Runs documents: who may, how large they may be, and what is answered when they may not.
//!
//! A document is parsed once. What it may do is decided on what was parsed, never on its text: an alias, a fragment or
//! an operation that is named by `operationName` hides nothing. All limits are looked at before anything runs.
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    ExecutableDocument, OperationDefinition, OperationType, Selection, SelectionSet,
};
use async_graphql::{Name, Request, Response, Variables};
use daemon::logs::AUDIT;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{error, info};

use super::admin::{AdminSchema, DEPTH_MAX, FIELDS_MAX, INTROSPECTION_DEPTH_MAX, schema};
use super::terms::errors::Problem;
use super::terms::{Admin, Caller, Rights, Via, no_permissions};

/// Bytes of a request: a document with its variables, in which a photo may be.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a document.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Words, signs and values of a document.
pub const TOKENS_MAX: usize = 2_000;
/// Commands of one operation.
pub const COMMANDS_MAX: usize = 100;
/// Requests over HTTP that run at a time; further ones are refused with 503.
pub const REQUESTS_MAX: usize = 16;
/// How long a request over HTTP may take. Through the socket it may take [`SOCKET_TIME_MAX`].
pub const HTTP_TIME_MAX: Duration = Duration::from_secs(120);
/// See [`HTTP_TIME_MAX`].
pub const SOCKET_TIME_MAX: Duration = Duration::from_secs(3_600);

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The document.
    pub query: String,
    /// Values of its variables.
    pub variables: Map<String, Value>,
    /// Which of its operations.
    pub operation_name: Option<String>,
}

/// An answer: the status that it has over HTTP, and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// As for HTTP.
    pub status: u16,
    /// `{"data": …}`, `{"errors": […]}`, or both.
    pub body: Value,
}

impl Reply {
    /// Nothing was run.
    pub fn refused(status: u16, problem: &Problem) -> Self {
        let error = json!({
            "message": problem.message(),
            "extensions": { "code": problem.code() },
        });
        Self {
            status,
            body: json!({ "errors": [error] }),
        }
    }
}

impl Question {
    /// Reads `{"query": …, "variables": …, "operationName": …}`.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let invalid = || Problem::new("invalid_json_body", "the body is no JSON object");
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(body) else {
            return Err(invalid());
        };
        let Some(Value::String(query)) = fields.remove("query") else {
            return Err(no_query());
        };
        let variables = variables(fields.remove("variables"))?;
        let operation_name = match fields.remove("operationName") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name),
            Some(_) => return Err(invalid()),
        };
        Ok(Self {
            query,
            variables,
            operation_name,
        })
    }

    /// Reads the fields of the query string of a GET.
    pub fn of_fields(fields: impl Iterator<Item = (String, String)>) -> Result<Self, Problem> {
        let mut question = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "query" => question.query = value,
                "variables" => question.variables = variables(Some(Value::String(value)))?,
                "operationName" => question.operation_name = Some(value),
                _ => {}
            }
        }
        if question.query.is_empty() {
            return Err(no_query());
        }
        Ok(question)
    }
}

fn no_query() -> Problem {
    Problem::new("no_query_supplied", "there is no query in the request")
}

/// As an object, or as its text.
fn variables(value: Option<Value>) -> Result<Map<String, Value>, Problem> {
    let invalid = || Problem::new("variables_invalid_json", "the variables are no JSON object");
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(variables)) => Ok(variables),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(Value::Null) => Ok(Map::new()),
            Ok(Value::Object(variables)) => Ok(variables),
            _ => Err(invalid()),
        },
        Some(_) => Err(invalid()),
    }
}

/// Runs documents of the admin schema.
pub struct Engine {
    schema: AdminSchema,
    admin: Arc<Admin>,
    places: Arc<Semaphore>,
}

impl Engine {
    /// An engine that works with that part of the node.
    pub fn new(admin: Arc<Admin>) -> Arc<Self> {
        Arc::new(Self {
            schema: schema(),
            admin,
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        })
    }

    /// Runs what is asked. It goes on if nobody waits for the answer any more: a change is never cut in its middle by
    /// a connection that is lost.
    pub async fn run(self: &Arc<Self>, question: Question, rights: Rights) -> Reply {
        let checked = match check(question, &rights) {
            Ok(checked) => checked,
            Err(refused) => return refused,
        };
        let place = match rights.via {
            // The socket has places of its own, and lets others wait.
            Via::Socket => None,
            Via::Http => match self.places.clone().try_acquire_owned() {
                Ok(place) => Some(place),
                Err(_) => {
                    let text = "too many requests run already";
                    return Reply::refused(503, &Problem::new("overloaded", text));
                }
            },
        };
        let engine = self.clone();
        let run = self.admin.tasks.spawn("admin_command", async move {
            let reply = Box::pin(engine.execute(checked, rights)).await;
            drop(place);
            reply
        });
        run.await.unwrap_or_else(|error| {
            // The panic itself stands in the log.
            error!(%error, "admin command did not end");
            let text = "the command failed; the log of the node says why";
            Reply::refused(500, &Problem::new("internal_server_error", text))
        })
    }

    async fn execute(&self, checked: Checked, rights: Rights) -> Reply {
        let Checked {
            request,
            commands,
            is_mutation,
        } = checked;
        let via = rights.via;
        let time_max = match via {
            Via::Socket => SOCKET_TIME_MAX,
            Via::Http => HTTP_TIME_MAX,
        };
        let request = request.data(self.admin.clone()).data(rights);
        let execute = Box::pin(self.schema.execute(request));
        let response = timeout(time_max, execute).await;
        let errors = response
            .as_ref()
            .map_or(1, |response| response.errors.len());
        if is_mutation {
            info!(target: AUDIT, commands = commands.join(" "), ?via, errors, "admin commands ran");
        }
        match response {
            Ok(response) => reply(response),
            Err(_) => {
                let text = "the request took too long and was ended; what was done before stays";
                Reply::refused(500, &Problem::new("timeout", text))
            }
        }
    }
}

/// A document within its limits, and allowed.
struct Checked {
    request: Request,
    /// `category.command` of each that runs.
    commands: Vec<String>,
    is_mutation: bool,
}

fn check(question: Question, rights: &Rights) -> Result<Checked, Reply> {
    let refuse = |problem: &Problem| Reply::refused(400, problem);
    check_size(&question.query).map_err(|problem| refuse(&problem))?;
    let document = parse_query(&question.query).map_err(|error| {
        let text = format!("the document cannot be read: {error}");
        refuse(&Problem::new("parser_error", text))
    })?;
    let mut measure = Measure::new(&document);
    measure.check_all().map_err(|problem| refuse(&problem))?;
    let name = question.operation_name.as_deref();
    let operation = operation(&document, name).map_err(|problem| refuse(&problem))?;
    let mut commands = Commands::default();
    commands.collect(&document, &operation.selection_set.node, None);
    if rights.caller != Caller::Admin
        && let Some(category) = commands.categories.iter().find(|name| !is_open(name))
    {
        return Err(Reply::refused(401, &no_permissions(category)));
    }
    if commands.count > COMMANDS_MAX {
        let text = format!("an operation has at most {COMMANDS_MAX} commands");
        return Err(refuse(&Problem::new("too_many_commands", text)));
    }
    let is_mutation = match operation.ty {
        OperationType::Query => false,
        OperationType::Mutation => true,
        OperationType::Subscription => {
            let text = "subscriptions are not supported yet";
            return Err(refuse(&Problem::new("unsupported_operation", text)));
        }
    };
    let variables = Variables::from_json(Value::Object(question.variables));
    let mut request = Request::new(question.query).variables(variables);
    if let Some(name) = question.operation_name {
        request = request.operation_name(name);
    }
    request.set_parsed_query(document);
    Ok(Checked {
        request,
        commands: commands.names.into_iter().collect(),
        is_mutation,
    })
}

/// Whether a document changes something: it may not come in a link (security case G01).
pub fn is_mutation(question: &Question) -> bool {
    let Ok(document) = check_size(&question.query)
        .map_err(drop)
        .and_then(|()| parse_query(&question.query).map_err(drop))
    else {
        return false;
    };
    let operation = operation(&document, question.operation_name.as_deref());
    operation.is_ok_and(|operation| operation.ty != OperationType::Query)
}

/// What somebody without credentials may ask.
fn is_open(category: &str) -> bool {
    ["checkAuth", "__typename"].contains(&category)
}

fn operation<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a OperationDefinition, Problem> {
    let mut operations = document.operations.iter();
    let found = match name {
        Some(name) => operations.find(|(of, _)| of.is_some_and(|of| of.as_str() == name)),
        None => match (operations.next(), operations.next()) {
            (Some(only), None) => Some(only),
            _ => {
                let text = "the document has several operations: name one with operationName";
                return Err(Problem::new("operation_name_missing", text));
            }
        },
    };
    match found {
        Some((_, operation)) => Ok(&operation.node),
        None => {
            let text = "the document has no operation of that name";
            Err(Problem::new("operation_not_found", text))
        }
    }
}

// ---- size

fn check_size(document: &str) -> Result<(), Problem> {
    let refuse = |text| Err(Problem::new("document_too_large", text));
    if document.len() > DOCUMENT_BYTES_MAX {
        return refuse(format!("a document has at most {DOCUMENT_BYTES_MAX} bytes"));
    }
    if count_tokens(document, TOKENS_MAX) > TOKENS_MAX {
        return refuse(format!("a document has at most {TOKENS_MAX} tokens"));
    }
    Ok(())
}

/// Tokens of a document, counted no further than just above `enough`. A text that is no document has as many as can be
/// told without reading it.
fn count_tokens(document: &str, enough: usize) -> usize {
    let mut rest = document;
    let mut count = 0;
    while count <= enough {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '\u{feff}');
        let Some(first) = rest.chars().next() else {
            break;
        };
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
        let end = match first {
            '#' => {
                let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
                rest = rest.get(end..).unwrap_or_default();
                continue;
            }
            '"' => end_of_text(rest),
            first if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        rest = rest.get(end..).unwrap_or_default();
        count += 1;
    }
    count
}

/// Where a text in quotes ends, at the latest where the document does.
fn end_of_text(text: &str) -> usize {
    if let Some(block) = text.strip_prefix("\"\"\"") {
        let mut from = 0;
        while let Some(at) = block.get(from..).and_then(|rest| rest.find("\"\"\"")) {
            let end = from + at;
            if !block
                .get(..end)
                .is_some_and(|before| before.ends_with('\\'))
            {
                return end + 6;
            }
            from = end + 3;
        }
        return text.len();
    }
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return index + 1,
            '\n' => return index,
            _ => {}
        }
    }
    text.len()
}

/// How large a part of a document is, with each fragment wherever it is named.
#[derive(Clone, Copy, Default)]
struct Size {
    fields: usize,
    depth: usize,
    /// Of the fields below `__schema` and `__type`.
    introspection_depth: usize,
}

/// Measures a document. Each fragment is measured once, however often it is named: else a short document could take
/// for ever.
struct Measure<'a> {
    document: &'a ExecutableDocument,
    /// `None` while it is being measured.
    fragments: HashMap<&'a str, Option<Size>>,
}

impl<'a> Measure<'a> {
    fn new(document: &'a ExecutableDocument) -> Self {
        Self {
            document,
            fragments: HashMap::new(),
        }
    }

    fn check_all(&mut self) -> Result<(), Problem> {
        let document = self.document;
        let mut fields: usize = 0;
        for (_, operation) in document.operations.iter() {
            let size = self.size(&operation.node.selection_set.node)?;
            fields = fields.saturating_add(size.fields);
            if size.depth > DEPTH_MAX || size.introspection_depth > INTROSPECTION_DEPTH_MAX {
                let text = format!("fields are nested deeper than {DEPTH_MAX}");
                return Err(Problem::new("document_too_deep", text));
            }
        }
        for name in document.fragments.keys() {
            let size = self.fragment(name)?;
            fields = fields.max(size.fields);
        }
        if fields > FIELDS_MAX {
            let text = format!("a document has at most {FIELDS_MAX} fields");
            return Err(Problem::new("document_too_large", text));
        }
        Ok(())
    }

    fn size(&mut self, set: &'a SelectionSet) -> Result<Size, Problem> {
        let mut all = Size::default();
        for selection in &set.items {
            let size = match &selection.node {
                Selection::Field(field) => {
                    let inner = self.size(&field.node.selection_set.node)?;
                    let is_introspection = field.node.name.node.starts_with("__");
                    let (depth, introspection_depth) = if is_introspection {
                        (1, 1 + inner.depth.max(inner.introspection_depth))
                    } else {
                        (1 + inner.depth, inner.introspection_depth)
                    };
                    Size {
                        fields: inner.fields.saturating_add(1),
                        depth,
                        introspection_depth,
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.size(&fragment.node.selection_set.node)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(&spread.node.fragment_name.node)?
                }
            };
            all.fields = all.fields.saturating_add(size.fields);
            all.depth = all.depth.max(size.depth);
            all.introspection_depth = all.introspection_depth.max(size.introspection_depth);
        }
        Ok(all)
    }

    /// One that is not there is found when the document is checked against the schema.
    fn fragment(&mut self, name: &Name) -> Result<Size, Problem> {
        let document = self.document;
        let Some((name, fragment)) = document.fragments.get_key_value(name) else {
            return Ok(Size::default());
        };
        match self.fragments.get(name.as_str()) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => {
                let text = format!("the fragment {name} is part of itself");
                return Err(Problem::new("fragment_cycle", text));
            }
            None => {}
        }
        self.fragments.insert(name, None);
        let size = self.size(&fragment.node.selection_set.node)?;
        self.fragments.insert(name, Some(size));
        Ok(size)
    }
}

/// What an operation asks for, whatever it calls it. What is left out by a directive counts all the same.
#[derive(Default)]
struct Commands {
    categories: BTreeSet<String>,
    /// `category.command`.
    names: BTreeSet<String>,
    count: usize,
}

impl Commands {
    /// The document has no cycles, and not many fields.
    fn collect(
        &mut self,
        document: &ExecutableDocument,
        set: &SelectionSet,
        category: Option<&str>,
    ) {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    match category {
                        Some(category) => {
                            self.names.insert(format!("{category}.{name}"));
                            self.count += 1;
                        }
                        None => {
                            self.categories.insert(name.to_owned());
                            let inner = &field.node.selection_set.node;
                            self.collect(document, inner, Some(name));
                        }
                    }
                }
                Selection::InlineFragment(fragment) => {
                    self.collect(document, &fragment.node.selection_set.node, category);
                }
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    if let Some(fragment) = document.fragments.get(name) {
                        self.collect(document, &fragment.node.selection_set.node, category);
                    }
                }
            }
        }
    }
}

// ---- answers

fn reply(response: Response) -> Reply {
    // What the schema refuses has no path: nothing was run.
    let is_refused = response.errors.iter().any(|error| error.path.is_empty());
    let mut body = serde_json::to_value(&response).unwrap_or_default();
    if is_refused && let Some(fields) = body.as_object_mut() {
        fields.remove("data");
    }
    for error in body
        .get_mut("errors")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if !is_refused {
            error.remove("locations");
        }
        let message = error.get("message").and_then(Value::as_str);
        let code = code_of(message.unwrap_or_default());
        let extensions = error.entry("extensions").or_insert_with(|| json!({}));
        if let Some(extensions) = extensions.as_object_mut() {
            extensions.entry("code").or_insert_with(|| code.into());
        }
    }
    Reply {
        status: if is_refused { 400 } else { 200 },
        body,
    }
}

/// MongooseIM's codes for what a schema refuses, by the words of the library that finds it.
fn code_of(message: &str) -> &'static str {
    let begins = [
        ("Invalid value for argument", "input_coercion"),
        ("Failed to parse", "input_coercion"),
        ("Unknown field", "unknown_field"),
        ("Unknown argument", "unknown_argument"),
        ("Unknown fragment", "unknown_fragment"),
    ];
    let known = begins.iter().find(|(begin, _)| message.starts_with(begin));
    match known {
        Some((_, code)) => code,
        None if message.contains("is required but not provided") => "missing_non_null_param",
        None if message.contains("is not defined by operation")
            || message.starts_with("Variable") =>
        {
            "unknown_variable"
        }
        None => "validation_error",
    }
}

#[cfg(test)]
mod tests;
