//! Category `server`.
use async_graphql::{Context, Enum, Object, SimpleObject};
use daemon::logs::Level;

use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::{HostTypeFacts, admin};

/// Questions about the node.
pub struct ServerAdminQuery;

#[Object]
impl ServerAdminQuery {
    /// Whether the node runs, and which version.
    async fn status(&self, ctx: &Context<'_>) -> Nullable<Status> {
        Some(status(ctx))
    }

    /// How much is logged.
    async fn get_loglevel(&self, ctx: &Context<'_>) -> Nullable<LogLevel> {
        Some(get_loglevel(ctx))
    }

    /// The secret of Erlang nodes. This node is none, so this answers with an error.
    async fn get_cookie(&self) -> Nullable<String> {
        Some(Err(not_supported(
            "no Erlang runs here, so there is no cookie",
        )))
    }

    /// Host types with what runs on them.
    async fn host_types(&self, ctx: &Context<'_>) -> Result<Vec<HostTypeInfo>, Problem> {
        let types = &admin(ctx)?.host_types;
        Ok(types.iter().map(HostTypeInfo::of).collect())
    }

    /// What runs once on the node.
    async fn global_info(&self, ctx: &Context<'_>) -> Result<GlobalInfo, Problem> {
        let services = admin(ctx)?.services.iter();
        Ok(GlobalInfo {
            services: services
                .map(|name| ServiceInfo { name: name.clone() })
                .collect(),
            internal_databases: Vec::new(),
        })
    }
}

/// Changes of the node.
pub struct ServerAdminMutation;

#[Object]
impl ServerAdminMutation {
    /// Joins a cluster of Mnesia. There is none, so this answers with an error.
    async fn join_cluster(&self, node: String) -> Nullable<String> {
        Some(no_cluster(Some(&node)))
    }

    /// Leaves a cluster of Mnesia. There is none, so this answers with an error.
    async fn leave_cluster(&self) -> Nullable<String> {
        Some(no_cluster(None))
    }

    /// Removes a node from a cluster of Mnesia. There is none, so this answers with an error.
    async fn remove_from_cluster(&self, node: String) -> Nullable<String> {
        Some(no_cluster(Some(&node)))
    }

    /// Starts the node anew. The service manager does that, so this answers with an error.
    async fn restart(&self) -> Nullable<String> {
        let text = "a node does not start itself: ask the service manager, or stop it";
        Some(Err(not_supported(text)))
    }

    /// Stops the node: sessions are told first, as with a signal.
    async fn stop(&self, ctx: &Context<'_>) -> Nullable<String> {
        Some(stop(ctx))
    }

    /// Removes a node from Mnesia. There is none, so this answers with an error.
    async fn remove_node(&self, node: String) -> Nullable<String> {
        Some(no_cluster(Some(&node)))
    }

    /// Sets how much is logged, until the node stops or reads its configuration again.
    async fn set_loglevel(&self, ctx: &Context<'_>, level: LogLevel) -> Nullable<String> {
        Some(set_loglevel(ctx, level))
    }
}

/// How the node is.
#[derive(SimpleObject)]
struct Status {
    /// Whether it runs.
    status_code: Option<StatusCode>,
    /// The same in words.
    message: Option<String>,
    /// Its version.
    version: Option<String>,
    /// What it was built from, if that is known.
    commit_hash: Option<String>,
}

/// Whether a node runs.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum StatusCode {
    /// It does.
    Running,
    /// It does not.
    NotRunning,
}

/// How much is logged: all that is as grave as the level, or graver.
#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
#[graphql(remote = "Level")]
enum LogLevel {
    /// Nothing.
    None,
    /// As ERROR.
    Emergency,
    /// As ERROR.
    Alert,
    /// As ERROR.
    Critical,
    /// A person must act.
    Error,
    /// The node has recovered by itself.
    Warning,
    /// As INFO.
    Notice,
    /// What happens to the node as a whole.
    Info,
    /// What happens to single sessions.
    Debug,
    /// Everything.
    All,
}

/// A host type.
#[derive(SimpleObject)]
struct HostTypeInfo {
    /// Its name.
    name: String,
    /// The modules that run on it.
    modules: Vec<ModuleInfo>,
    /// How its users show who they are.
    auth_methods: Vec<String>,
}

/// A module that runs.
#[derive(SimpleObject)]
struct ModuleInfo {
    /// Its name.
    name: String,
    /// Those of its options that say where it keeps what it stores.
    options: Vec<ModuleOption>,
}

/// An option.
#[derive(SimpleObject)]
struct ModuleOption {
    /// Its name.
    key: String,
    /// Its value.
    value: Option<String>,
}

/// What runs once on the node.
#[derive(SimpleObject)]
struct GlobalInfo {
    /// Services.
    services: Vec<ServiceInfo>,
    /// Databases inside of the node.
    internal_databases: Vec<String>,
}

/// A service.
#[derive(SimpleObject)]
struct ServiceInfo {
    /// Its name.
    name: String,
}

impl HostTypeInfo {
    fn of(facts: &HostTypeFacts) -> Self {
        let modules = facts.modules.iter().map(|(name, options)| ModuleInfo {
            name: name.clone(),
            options: options
                .iter()
                .map(|(key, value)| ModuleOption {
                    key: key.clone(),
                    value: Some(value.clone()),
                })
                .collect(),
        });
        Self {
            name: facts.name.clone(),
            modules: modules.collect(),
            auth_methods: facts.auth_methods.clone(),
        }
    }
}

fn status(ctx: &Context<'_>) -> Result<Status, Problem> {
    let version = env!("CARGO_PKG_VERSION");
    let is_stopping = admin(ctx)?.shutdown.is_cancelled();
    let message = if is_stopping {
        "the node is stopping"
    } else {
        "the node is running"
    };
    Ok(Status {
        status_code: Some(if is_stopping {
            StatusCode::NotRunning
        } else {
            StatusCode::Running
        }),
        message: Some(format!("Meerkat {version}: {message}")),
        version: Some(version.into()),
        commit_hash: None,
    })
}

fn not_supported(text: &str) -> Problem {
    Problem::new("not_supported", text)
}

fn no_cluster(node: Option<&str>) -> Result<String, Problem> {
    let problem = not_supported("this node uses no Mnesia, so there is no cluster of it");
    Err(match node {
        Some(node) => problem.with("node", node),
        None => problem,
    })
}

fn stop(ctx: &Context<'_>) -> Result<String, Problem> {
    // The answer goes out while the sessions are told.
    admin(ctx)?.shutdown.begin();
    Ok("the node stops".into())
}

fn no_log() -> Problem {
    not_supported("this process has no log of its own")
}

fn get_loglevel(ctx: &Context<'_>) -> Result<LogLevel, Problem> {
    let levels = admin(ctx)?.log_level.as_ref().ok_or_else(no_log)?;
    Ok(levels.level().into())
}

fn set_loglevel(ctx: &Context<'_>, level: LogLevel) -> Result<String, Problem> {
    let levels = admin(ctx)?.log_level.as_ref().ok_or_else(no_log)?;
    levels.set_level(level.into());
    Ok("the level of the log is set".into())
}
