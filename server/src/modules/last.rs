//! XEP-0012: Last Activity.
//!
//! When an account was there is written at the end of each session's presence, before contacts learn of it: who of them
//! asks then gets the answer. [`store`] keeps it.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use protocol::{BareJid, Element, Stanza, StanzaCondition, StanzaError, StanzaType, ns};

use self::store::{LastStore, STATUS_BYTES_MAX, Seen};
use super::roster::Roster;
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::c2s::session::Session;
use crate::hooks::{Handle, Outcome, SessionClosed, Stage, UserSendPresence};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;
use crate::stamp;
use crate::storage;

pub mod api;
pub mod store;

pub use super::config::Last as Config;

const MICROS_PER_SEC: i64 = 1_000_000;

/// Presence, whose end is what is written; it needs the roster, which says who may ask.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_presence")
}

/// Answers who asks the domain or an account.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let last = Arc::new(Last {
        store: LastStore::new(start.db.clone()),
        roster: start.get::<Roster>()?,
        accounts: start.auth.accounts(),
        started: Instant::now(),
    });
    for target in [Target::Server, Target::Account] {
        start.feature(target, ns::LAST);
        start.iq(("query", ns::LAST), target, &last)?;
    }
    // Both before presence is told; neither handler fails.
    start.on::<UserSendPresence, _>(Stage::Filter, &last);
    start.on::<SessionClosed, _>(Stage::Filter, &last);
    start.provide(last);
    Ok(())
}

/// When the accounts of one host were last there.
pub struct Last {
    store: LastStore,
    roster: Arc<Roster>,
    accounts: Accounts,
    started: Instant,
}

// ---- requests

impl HandleIq for Last {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        if request.stanza_type != StanzaType::Get {
            return Err(StanzaCondition::BadRequest.into());
        }
        if request.to.local().is_none() {
            return Ok(Some(query(self.started.elapsed().as_secs(), "")));
        }
        let account = request.to.to_bare();
        // The same for an account that does not exist: nobody subscribes to it.
        if !self.may_ask(request, &account).await? {
            return Err(StanzaCondition::Forbidden.into());
        }
        if is_there(route, &account) {
            return Ok(Some(query(0, "")));
        }
        let seen = self.store.load(&account).await.map_err(refuse_for_now)?;
        match seen {
            Some(seen) => Ok(Some(query(seconds_since(seen.at, now()), &seen.status))),
            None => Err(StanzaCondition::ItemNotFound.into()),
        }
    }
}

impl Last {
    /// The account itself, and who sees its presence.
    async fn may_ask(&self, request: &IqRequest, account: &BareJid) -> Result<bool, StanzaError> {
        if request.is_own_account() {
            return Ok(true);
        }
        let from = request.from.as_ref();
        let is_subscriber = self.roster.is_subscriber(account, from).await;
        is_subscriber.map_err(refuse_for_now)
    }
}

/// Whether a session of the account is available.
fn is_there(route: &Route, account: &BareJid) -> bool {
    let sessions = route.router.sessions.of_account(account.as_str());
    sessions.iter().any(|session| session.presence().is_some())
}

/// A clock that was set back does not make it negative.
fn seconds_since(then: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(then)).unwrap_or(0)
}

/// Seconds since 1970.
fn now() -> i64 {
    stamp::now_us() / MICROS_PER_SEC
}

fn query(seconds: u64, status: &str) -> Element {
    let query = Element::new("query", ns::LAST).with_attr("seconds", &seconds.to_string());
    if status.is_empty() {
        return query;
    }
    query.with_text(status)
}

fn refuse_for_now(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "last activity could not be read");
    error.to_stanza_error()
}

// ---- what is written

impl Handle<UserSendPresence> for Last {
    async fn handle(
        &self,
        session: &mut Session,
        event: &mut UserSendPresence,
    ) -> Outcome<UserSendPresence> {
        let stanza = &event.stanza;
        if stanza.stanza_type() == StanzaType::Unavailable && stanza.to().is_none() {
            self.leave(session, &status(stanza)).await;
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<SessionClosed> for Last {
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        self.leave(session, "").await;
        Ok(ControlFlow::Continue(()))
    }
}

impl Last {
    /// The session is available no more. A failure is no reason to keep its contacts in the dark about that.
    async fn leave(&self, session: &Session, status: &str) {
        if session.outlet.presence().is_none() {
            return;
        }
        let account = session.account();
        if let Err(error) = self.write(&account, status).await {
            tracing::error!(%error, "last activity could not be written");
        }
    }

    /// The rows of an anonymous account would never be removed.
    async fn write(&self, account: &BareJid, status: &str) -> Result<(), storage::Error> {
        if !self.accounts.exists(account).await? {
            return Ok(());
        }
        let seen = Seen {
            at: now(),
            status: status.to_owned(),
        };
        self.store.set(account, seen).await
    }
}

/// The words with which somebody leaves, as many as are kept.
fn status(stanza: &Stanza) -> String {
    if stanza.payload().is_none() {
        return String::new();
    }
    let element = stanza.to_element();
    let status = element.child("status", ns::CLIENT);
    let mut status = status.map_or_else(String::new, |status| status.text().into_owned());
    status.truncate(status.floor_char_boundary(STATUS_BYTES_MAX));
    status
}

#[cfg(test)]
mod tests;
