//! What commands are made of: the scalars and errors of the schema, and what a command may use.
//!
//! This is all that a module with commands of its own takes from here.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_graphql::{Context, SimpleObject};
use daemon::logs::LevelControl;
use daemon::{Shutdown, Tasks};
use protocol::{BareJid, Jid};

use self::errors::{Nullable, Problem};
use crate::host::Host;
use crate::router::Router;
use crate::storage::in_flight::InFlightStore;

pub mod errors;
pub mod scalars;

/// Rows that one command returns. One that finds more says so: there are arguments to ask for a part.
pub const ROWS_MAX: usize = 20_000;
/// Elements of one list among the arguments.
pub const LIST_ITEMS_MAX: usize = 1_000;

/// The part of the node that commands work with.
pub struct Admin {
    /// Sessions, hosts, and the way of a stanza.
    pub router: Arc<Router>,
    /// Where a message is kept that a command has sent, until it has arrived.
    pub in_flight: InFlightStore,
    /// When the node started.
    pub started: Instant,
    /// Stops the node.
    pub shutdown: Shutdown,
    /// What goes on after its answer.
    pub tasks: Tasks,
    /// The level of the log; `None` if the process has no log of ours.
    pub log_level: Option<LevelControl>,
    /// What runs on each host type.
    pub host_types: Vec<HostTypeFacts>,
    /// Services that run.
    pub services: Vec<String>,
}

/// What the configuration says of a host type.
#[derive(Clone, Debug, Default)]
pub struct HostTypeFacts {
    /// Its name.
    pub name: String,
    /// Its modules, each with options that matter.
    pub modules: BTreeMap<String, BTreeMap<String, String>>,
    /// Its methods of authentication.
    pub auth_methods: Vec<String>,
}

/// Who asks, and for what: decided before a document is run.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Who it is.
    pub caller: Caller,
    /// `allowed_categories`; `None` allows all.
    pub categories: Option<Arc<[String]>>,
    /// Which way the request has come.
    pub via: Via,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs the node.
    Admin,
    /// Somebody without credentials.
    Nobody,
}

/// Which way a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Through the socket in the data directory.
    Socket,
    /// Over HTTP.
    Http,
}

/// What the commands of a request work with.
pub fn admin<'a>(ctx: &Context<'a>) -> Result<&'a Arc<Admin>, Problem> {
    ctx.data::<Arc<Admin>>()
        .map_err(|_| Problem::new("resolver_crash", "there is no node behind this schema"))
}

/// Whether somebody may use a category (security cases G01 and G04). The engine has looked before; this is where the
/// category is opened, whatever it is called in the document.
pub fn open<T>(ctx: &Context<'_>, category: &'static str, commands: T) -> Nullable<T> {
    let Ok(rights) = ctx.data::<Rights>() else {
        return Some(Err(no_permissions(category)));
    };
    if rights.caller != Caller::Admin {
        return Some(Err(no_permissions(category)));
    }
    Some(match &rights.categories {
        Some(allowed) if !allowed.iter().any(|name| name == category) => {
            let text = "this listener does not allow the category";
            Err(Problem::new("category_disabled", text).with("category", category))
        }
        _ => Ok(commands),
    })
}

/// The answer to somebody without credentials.
pub fn no_permissions(category: &str) -> Problem {
    let text = format!("{category} needs the credentials of an administrator");
    Problem::new("no_permissions", text)
}

impl Admin {
    /// The host of a domain.
    pub fn host(&self, domain: &str) -> Result<Arc<Host>, Problem> {
        self.router.host(domain).ok_or_else(|| {
            Problem::new("domain_not_found", "this node does not serve that domain")
                .with("domain", domain)
        })
    }

    /// A module of the host of a domain.
    pub fn part<T: std::any::Any + Send + Sync>(
        &self,
        domain: &str,
        module: &'static str,
    ) -> Result<Arc<T>, Problem> {
        self.host(domain)?.part::<T>().ok_or_else(|| {
            let text = format!("{module} does not run on that domain");
            let modules = async_graphql::Value::List(vec![module.into()]);
            Problem::new("deps_not_loaded", text).with("not_loaded_modules", modules)
        })
    }

    /// An account that exists, with its host. `code` is what the command answers if it does not.
    pub async fn account(
        &self,
        jid: &Jid,
        code: &'static str,
    ) -> Result<(Arc<Host>, BareJid), Problem> {
        let account = jid.to_bare();
        let missing = |text| Problem::new(code, text).with("jid", account.as_str());
        let Some(host) = self.router.host(account.domain()) else {
            return Err(missing(
                "this node does not serve the domain of the account",
            ));
        };
        if account.local().is_none() || !host.auth.exists(&account).await? {
            return Err(missing("there is no such account"));
        }
        Ok((host, account))
    }
}

/// So many rows are too many.
pub fn too_many() -> Problem {
    let text = format!("there are more than {ROWS_MAX}: ask for a part of them");
    Problem::new("too_many_results", text)
}

/// Whether a list among the arguments has a length that one command deals with.
pub fn check_list<T>(list: &[T]) -> Result<(), Problem> {
    if list.len() <= LIST_ITEMS_MAX {
        return Ok(());
    }
    let text = format!("a list has at most {LIST_ITEMS_MAX} elements");
    Err(Problem::new("too_many_items", text))
}

/// A message about one account.
#[derive(SimpleObject, Debug)]
pub struct UserPayload {
    /// The account.
    pub jid: scalars::JidText,
    /// What was done.
    pub message: String,
}
