//! Category `stat`.
use async_graphql::{Context, Object, SimpleObject};

use crate::api::terms::admin;
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::DomainName;

/// Numbers.
pub struct StatsAdminQuery;

#[Object]
impl StatsAdminQuery {
    /// Of the node.
    async fn global_stats(&self, ctx: &Context<'_>) -> Nullable<GlobalStats> {
        Some(global_stats(ctx).await)
    }

    /// Of a domain.
    async fn domain_stats(&self, ctx: &Context<'_>, domain: DomainName) -> Nullable<DomainStats> {
        Some(domain_stats(ctx, &domain.0).await)
    }
}

/// Numbers of the node.
#[derive(SimpleObject)]
struct GlobalStats {
    /// For how many seconds it has been there.
    uptime_seconds: Option<u64>,
    /// Accounts.
    registered_users: Option<u64>,
    /// Sessions on this node.
    online_users_node: Option<usize>,
    /// Sessions on all nodes.
    online_users: Option<usize>,
    /// Connections from other servers.
    #[graphql(name = "incomingS2S")]
    incoming_s2s: Option<u32>,
    /// Connections to other servers.
    #[graphql(name = "outgoingS2S")]
    outgoing_s2s: Option<u32>,
}

/// Numbers of a domain.
#[derive(SimpleObject)]
struct DomainStats {
    /// Accounts.
    registered_users: Option<u64>,
    /// Sessions.
    online_users: Option<usize>,
}

async fn global_stats(ctx: &Context<'_>) -> Result<GlobalStats, Problem> {
    let admin = admin(ctx)?;
    let sessions = admin.router.sessions.count();
    let mut registered_users = 0;
    if let Some(host) = admin.router.hosts().first() {
        // One database has the accounts of all domains.
        registered_users = host.auth.store().count_all().await?;
    }
    Ok(GlobalStats {
        uptime_seconds: Some(admin.started.elapsed().as_secs()),
        registered_users: Some(registered_users),
        online_users_node: Some(sessions),
        online_users: Some(sessions),
        // There is no federation yet.
        incoming_s2s: Some(0),
        outgoing_s2s: Some(0),
    })
}

async fn domain_stats(ctx: &Context<'_>, domain: &str) -> Result<DomainStats, Problem> {
    let admin = admin(ctx)?;
    let host = admin.host(domain)?;
    let sessions = admin.router.sessions.all();
    let sessions = sessions
        .iter()
        .filter(|session| session.jid().domain() == domain);
    Ok(DomainStats {
        registered_users: Some(host.auth.store().count(domain).await?),
        online_users: Some(sessions.count()),
    })
}
