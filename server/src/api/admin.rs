//! The admin schema: its categories, one type for the questions and one for the changes of each.
//!
//! Names, arguments and types are MongooseIM's. Categories that need a module stand beside that module; this list is
//! the only other place that names them.
use async_graphql::{Context, EmptySubscription, Enum, Object, Schema, SimpleObject};

use super::terms::errors::Nullable;
use super::terms::scalars::DomainName;
use super::terms::{Caller, Rights, open};
use crate::modules::last::api::{LastAdminMutation, LastAdminQuery};
use crate::modules::offline::api::OfflineAdminMutation;
use crate::modules::private::api::{PrivateAdminMutation, PrivateAdminQuery};
use crate::modules::roster::api::{RosterAdminMutation, RosterAdminQuery};
use crate::modules::vcard::api::{VcardAdminMutation, VcardAdminQuery};

pub mod account;
pub mod import;
pub mod server;
pub mod session;
pub mod stanza;
pub mod stats;

use account::{AccountAdminMutation, AccountAdminQuery};
use server::{ServerAdminMutation, ServerAdminQuery};
use session::{SessionAdminMutation, SessionAdminQuery};
use stanza::{StanzaAdminMutation, StanzaAdminQuery};
use stats::StatsAdminQuery;

/// The schema.
pub type AdminSchema = Schema<AdminQuery, AdminMutation, EmptySubscription>;

/// Levels of fields in a document: more than any command of the schema has.
pub const DEPTH_MAX: usize = 10;
/// The same below `__schema` and `__type`: the usual question of a tool has 15.
pub const INTROSPECTION_DEPTH_MAX: usize = 20;
/// Fields of a document, with those of a fragment each time it is named.
pub const FIELDS_MAX: usize = 1_000;
/// Directives on one field.
const DIRECTIVES_MAX: usize = 5;

/// The schema without a node behind it: what a request needs comes with the request.
pub fn schema() -> AdminSchema {
    Schema::build(AdminQuery, AdminMutation, EmptySubscription)
        .limit_depth(INTROSPECTION_DEPTH_MAX)
        .limit_complexity(FIELDS_MAX)
        .limit_directives(DIRECTIVES_MAX)
        .disable_suggestions()
        .finish()
}

/// What an administrator may ask.
pub struct AdminQuery;

#[Object]
impl AdminQuery {
    /// Who the node takes you for.
    async fn check_auth(&self, ctx: &Context<'_>) -> Nullable<AdminAuthInfo> {
        check_auth(ctx)
    }

    /// Accounts: who there is, and whether a password is right.
    async fn account(&self, ctx: &Context<'_>) -> Nullable<AccountAdminQuery> {
        open(ctx, "account", AccountAdminQuery)
    }

    /// When accounts were last there.
    async fn last(&self, ctx: &Context<'_>) -> Nullable<LastAdminQuery> {
        open(ctx, "last", LastAdminQuery)
    }

    /// Who is connected.
    async fn session(&self, ctx: &Context<'_>) -> Nullable<SessionAdminQuery> {
        open(ctx, "session", SessionAdminQuery)
    }

    /// Messages that were sent.
    async fn stanza(&self, ctx: &Context<'_>) -> Nullable<StanzaAdminQuery> {
        open(ctx, "stanza", StanzaAdminQuery)
    }

    /// Contacts of accounts.
    async fn roster(&self, ctx: &Context<'_>) -> Nullable<RosterAdminQuery> {
        open(ctx, "roster", RosterAdminQuery)
    }

    /// What accounts keep on the server for their clients.
    async fn private(&self, ctx: &Context<'_>) -> Nullable<PrivateAdminQuery> {
        open(ctx, "private", PrivateAdminQuery)
    }

    /// What accounts say of themselves.
    async fn vcard(&self, ctx: &Context<'_>) -> Nullable<VcardAdminQuery> {
        open(ctx, "vcard", VcardAdminQuery)
    }

    /// Numbers.
    async fn stat(&self, ctx: &Context<'_>) -> Nullable<StatsAdminQuery> {
        open(ctx, "stat", StatsAdminQuery)
    }

    /// The node itself.
    async fn server(&self, ctx: &Context<'_>) -> Nullable<ServerAdminQuery> {
        open(ctx, "server", ServerAdminQuery)
    }
}

/// What an administrator may change.
pub struct AdminMutation;

#[Object]
impl AdminMutation {
    /// Accounts: make, remove, ban, and change passwords.
    async fn account(&self, ctx: &Context<'_>) -> Nullable<AccountAdminMutation> {
        open(ctx, "account", AccountAdminMutation)
    }

    /// When accounts were last there.
    async fn last(&self, ctx: &Context<'_>) -> Nullable<LastAdminMutation> {
        open(ctx, "last", LastAdminMutation)
    }

    /// Sessions: end them, or set their presence.
    async fn session(&self, ctx: &Context<'_>) -> Nullable<SessionAdminMutation> {
        open(ctx, "session", SessionAdminMutation)
    }

    /// Sends messages and other stanzas.
    async fn stanza(&self, ctx: &Context<'_>) -> Nullable<StanzaAdminMutation> {
        open(ctx, "stanza", StanzaAdminMutation)
    }

    /// Contacts of accounts.
    async fn roster(&self, ctx: &Context<'_>) -> Nullable<RosterAdminMutation> {
        open(ctx, "roster", RosterAdminMutation)
    }

    /// What accounts keep on the server for their clients.
    async fn private(&self, ctx: &Context<'_>) -> Nullable<PrivateAdminMutation> {
        open(ctx, "private", PrivateAdminMutation)
    }

    /// What accounts say of themselves.
    async fn vcard(&self, ctx: &Context<'_>) -> Nullable<VcardAdminMutation> {
        open(ctx, "vcard", VcardAdminMutation)
    }

    /// Messages that wait for their receivers.
    async fn offline(&self, ctx: &Context<'_>) -> Nullable<OfflineAdminMutation> {
        open(ctx, "offline", OfflineAdminMutation)
    }

    /// The node itself.
    async fn server(&self, ctx: &Context<'_>) -> Nullable<ServerAdminMutation> {
        open(ctx, "server", ServerAdminMutation)
    }
}

/// Who somebody is.
#[derive(SimpleObject)]
struct AdminAuthInfo {
    /// The only domain that they may administrate.
    domain: Option<DomainName>,
    /// Whether they have shown credentials.
    auth_status: AuthStatus,
    /// As what.
    auth_type: Option<AuthType>,
}

/// Whether somebody has shown credentials.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum AuthStatus {
    /// They have, or none are needed.
    Authorized,
    /// They have not.
    Unauthorized,
}

/// As what somebody is known.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum AuthType {
    /// As administrator of one domain.
    DomainAdmin,
    /// As administrator of the node.
    Admin,
    /// As nobody.
    Unauthorized,
}

/// For everybody, unless the listener does not allow the category.
fn check_auth(ctx: &Context<'_>) -> Nullable<AdminAuthInfo> {
    let caller = ctx.data::<Rights>().map(|rights| rights.caller);
    let info = match caller {
        Ok(Caller::Admin) => AdminAuthInfo {
            domain: None,
            auth_status: AuthStatus::Authorized,
            auth_type: Some(AuthType::Admin),
        },
        _ => {
            return Some(Ok(AdminAuthInfo {
                domain: None,
                auth_status: AuthStatus::Unauthorized,
                auth_type: Some(AuthType::Unauthorized),
            }));
        }
    };
    open(ctx, "checkAuth", info)
}

#[cfg(test)]
mod tests;
