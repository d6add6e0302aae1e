//! XEP-0160: Best Practices for Handling Offline Messages.
//!
//! What is kept is decided here, and it is kept when it is committed: only then may its sender be told. [`backlog`]
//! delivers it, [`store`] holds it.
use std::ops::ControlFlow;
use std::sync::Arc;

use daemon::Tasks;
use daemon::config::OrInfinity;
use protocol::{BareJid, Element, Stanza, StanzaCondition, StanzaError, StanzaType, ns};

use self::backlog::Backlogs;
use self::store::{NewMessage, OfflineStore, Pushed, Quota};
use super::{Needs, Start, StartError};
use crate::access::Asker;
use crate::auth::Accounts;
use crate::hooks::{Halt, Handle, OfflineMessage, Outcome, PresenceSet, Stage};
use crate::iq::Target;
use crate::router::Route;
use crate::stamp;
use crate::storage::Db;

pub mod api;
pub mod backlog;
pub mod store;

pub use super::config::Offline as Config;

/// Presence, as it says when a session takes messages.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_presence")
}

/// Keeps messages and delivers them.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let db = start.db.clone();
    let offline = Arc::new(Offline {
        config,
        accounts: start.auth.accounts(),
        backlogs: Backlogs::new(OfflineStore::new(db.clone(), Quota::default())),
        db,
        tasks: start.tasks.clone(),
    });
    start.on::<OfflineMessage, _>(Stage::Archive, &offline);
    start.on::<PresenceSet, _>(Stage::Copy, &offline);
    start.feature(Target::Server, ns::OFFLINE);
    start.provide(offline);
    Ok(())
}

/// The messages that wait for accounts of one host.
pub struct Offline {
    config: Config,
    accounts: Accounts,
    backlogs: Arc<Backlogs>,
    db: Db,
    tasks: Tasks,
}

// ---- keeping

/// What becomes of a message that nobody takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is kept.
    Keep,
    /// It is of no use later, and its sender does not care.
    Forget,
    /// Its sender learns that it did not arrive.
    Refuse,
}

impl Handle<OfflineMessage> for Offline {
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut OfflineMessage,
    ) -> Outcome<OfflineMessage> {
        match fate(&event.stanza, self.config.store_groupchat_messages) {
            Fate::Keep => {}
            Fate::Forget => return Ok(ControlFlow::Break(Halt::Drop)),
            Fate::Refuse => return Ok(ControlFlow::Continue(())),
        }
        if !self.accounts.exists(&event.to).await? {
            return Ok(ControlFlow::Continue(()));
        }
        let metrics = route.router.metrics.clone();
        let quota = self.quota(route, &event.to);
        let quota = if event.owed { quota.owed() } else { quota };
        let store = OfflineStore::new(self.db.clone(), quota);
        match store.push(&event.to, new_message(&event.stanza)).await? {
            Pushed::Full => {
                metrics.modules.offline_refused.inc();
                return Ok(ControlFlow::Break(Halt::Bounce(full(event.owed))));
            }
            Pushed::Stored => event.stored = true,
        }
        metrics.modules.offline_stored.inc();
        // A session that became available meanwhile has perhaps looked before this was committed.
        if let Some(backlog) = self.backlogs.begin_for_anybody(&route.router, &event.to) {
            self.tasks.spawn("offline", backlog.run());
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Offline {
    fn quota(&self, route: &Route, account: &BareJid) -> Quota {
        let default = Quota::default();
        let Some(host) = route.router.host(account.domain()) else {
            return default;
        };
        let is_hosted = |domain: &str| route.router.host(domain).is_some();
        let asker = Asker::new(account.as_ref(), account.domain(), &is_hosted);
        let undefined = OrInfinity::Value(default.messages.into());
        let rule = &self.config.access_max_user_messages;
        let messages = match host.access.limit(rule, &asker, undefined) {
            OrInfinity::Value(messages) => u32::try_from(messages).unwrap_or(u32::MAX),
            OrInfinity::Infinity => u32::MAX,
        };
        Quota {
            messages,
            ..default
        }
    }
}

/// What the sender is told. An owed message is not given up: there may be room later.
fn full(owed: bool) -> StanzaError {
    let condition = if owed {
        StanzaCondition::ResourceConstraint
    } else {
        StanzaCondition::ServiceUnavailable
    };
    StanzaError::new(condition).with_text("too many messages wait for the account")
}

fn new_message(stanza: &Stanza) -> NewMessage {
    let text = std::str::from_utf8(stanza.bytes()).expect("a stanza was read as UTF-8");
    NewMessage {
        from: stanza.from().map_or("", |from| from.as_str()).into(),
        stanza: text.into(),
        received_at: stamp::now_us(),
        expires_at: None,
    }
}

/// XEP-0160 section 3, XEP-0334: kept is what a person, or a client on a person's behalf, may still want to see.
fn fate(stanza: &Stanza, store_groupchat: bool) -> Fate {
    match stanza.stanza_type() {
        StanzaType::Chat | StanzaType::Normal => {}
        StanzaType::Groupchat if store_groupchat => {}
        StanzaType::Groupchat => return Fate::Refuse,
        _ => return Fate::Forget,
    }
    let message = stanza.to_element();
    let hint = |name| message.child(name, ns::HINTS).is_some();
    let has_content = message.elements().any(is_content);
    if hint("no-store") {
        // Chat states and the like carry this hint, and nobody waits for them.
        return if has_content {
            Fate::Refuse
        } else {
            Fate::Forget
        };
    }
    if has_content || hint("store") {
        Fate::Keep
    } else {
        Fate::Forget
    }
}

/// What makes a message worth keeping: anything but the state of a conversation and words about the message.
fn is_content(child: &Element) -> bool {
    let about_the_message = [
        ns::CHAT_STATES,
        ns::HINTS,
        ns::DELAY,
        ns::STANZA_ID,
        ns::CARBONS,
    ];
    !about_the_message.contains(&child.ns()) && !child.is("thread", ns::CLIENT)
}

// ---- delivering

impl Handle<PresenceSet> for Offline {
    /// Delivers to a session that takes messages only now.
    async fn handle(&self, route: &mut Route, event: &mut PresenceSet) -> Outcome<PresenceSet> {
        let took_messages = event.before.is_some_and(|priority| priority >= 0);
        if event.priority < 0 || took_messages || !event.has_messages {
            return Ok(ControlFlow::Continue(()));
        }
        if let Some(mut backlog) = self.backlogs.begin(&route.router, &event.session) {
            // Most of the time all of it is written before this returns.
            let is_done = backlog.deliver(route).await?;
            if !is_done {
                self.tasks.spawn("offline", backlog.run());
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests;
