//! RFC 6121 sections 2 and 3: rosters, and what is stored of presence subscriptions.
//!
//! Requests and pushes are here; [`subscription`] decides, [`store`] keeps, `presence` sends.
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{BareJid, Element, Jid, Stanza, StanzaCondition, StanzaError, StanzaType, ns};

use self::store::{Done, Edit, EditError, Item, Push, RosterStore, Since};
use self::subscription::{Removal, Share, SubscriptionType};
use super::{Needs, Start, StartError};
use crate::hooks::{AccountRemoved, Handle, Outcome, Stage};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::Flag;
use crate::router::{Delivery, Route};
use crate::storage;

pub mod store;
pub mod subscription;

pub use super::config::Roster as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers roster requests.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let roster = Arc::new(Roster {
        store: RosterStore::new(start.db.clone()),
        versioning: config.versioning,
    });
    start.iq(("query", ns::ROSTER), Target::Account, &roster)?;
    start.on::<AccountRemoved, _>(Stage::Observe, &roster);
    if config.versioning {
        start.stream_feature(Element::new("ver", ns::ROSTER_VERSIONING));
    }
    start.stream_feature(Element::new("sub", ns::PRE_APPROVAL));
    start.provide(roster);
    Ok(())
}

/// The rosters of one host.
pub struct Roster {
    /// What is stored.
    pub store: RosterStore,
    versioning: bool,
}

impl HandleIq for Roster {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        if !request.is_own_account() {
            return Err(StanzaCondition::Forbidden.into());
        }
        let account = request.from.to_bare();
        match request.stanza_type {
            StanzaType::Get => {
                let answer = self.get(route, &account, request).await?;
                // From now on: a change that comes after this answer is pushed.
                Ok(answer)
            }
            _ => self.set(route, &account, &request.payload).await,
        }
    }
}

impl Handle<AccountRemoved> for Roster {
    async fn handle(
        &self,
        _route: &mut Route,
        _event: &mut AccountRemoved,
    ) -> Outcome<AccountRemoved> {
        // The rows go with those of the account, in one transaction of its store.
        Ok(ControlFlow::Continue(()))
    }
}

impl Roster {
    async fn get(&self, route: &mut Route, account: &BareJid, request: &IqRequest) -> Answer {
        // Marked first: a change while we read may then be pushed and told, but not missed.
        if let Some(session) = &request.session {
            session.set(Flag::Interested);
        }
        let known = request.payload.attr("ver").filter(|_| self.versioning);
        let since = match known {
            Some(known) => self
                .store
                .load_since(account, known)
                .await
                .map_err(unavailable)?,
            None => Since::Whole(self.store.load(account).await.map_err(unavailable)?),
        };
        match since {
            Since::Current => Ok(None),
            Since::Whole(roster) => {
                let mut query = Element::new("query", ns::ROSTER);
                if self.versioning {
                    query.set_attr("ver", Some(&roster.version));
                }
                for item in roster.items.iter().filter(|item| item.contact.listed) {
                    query.push(to_element(item));
                }
                Ok(Some(query))
            }
            Since::Changes(changes) => {
                // The empty result comes first, so the pushes follow in the next batch of this session.
                if let Some(session) = &request.session {
                    let to = session.jid().as_str();
                    let pushes = changes.iter().filter_map(|push| self.push_stanza(push, to));
                    route
                        .after_answer
                        .extend(pushes.map(|push| (session.clone(), push)));
                }
                Ok(None)
            }
        }
    }

    async fn set(&self, route: &mut Route, account: &BareJid, query: &Element) -> Answer {
        let mut items = query.elements();
        let (Some(item), None) = (items.next(), items.next()) else {
            return Err(StanzaCondition::BadRequest.into());
        };
        if !item.is("item", ns::ROSTER) {
            return Err(StanzaCondition::BadRequest.into());
        }
        let jid = item.attr("jid").ok_or(StanzaCondition::BadRequest)?;
        let jid = Jid::parse(jid).map_err(|_| StanzaCondition::JidMalformed)?;
        if jid.bare_str() == account.as_str() {
            return Err(StanzaError::new(StanzaCondition::NotAllowed)
                .with_text("the own account is no contact"));
        }
        if item.attr("subscription") == Some("remove") {
            return self.remove(route, account, &jid).await;
        }
        let groups = item
            .elements()
            .filter(|child| child.is("group", ns::ROSTER))
            .map(|group| group.text().into_owned());
        let name = item.attr("name").unwrap_or_default().to_owned();
        let edit = Edit::new(name, groups.collect()).map_err(refused)?;
        match self
            .store
            .set_item(account, &jid, edit)
            .await
            .map_err(unavailable)?
        {
            Done::Full => Err(StanzaError::new(StanzaCondition::NotAllowed)
                .with_text("the roster has as many contacts as it may have")),
            Done::Changed(push) => {
                self.push(route, account, &push);
                Ok(None)
            }
        }
    }

    async fn remove(&self, route: &mut Route, account: &BareJid, jid: &Jid) -> Answer {
        let removed = self
            .store
            .remove_item(account, jid)
            .await
            .map_err(unavailable)?;
        let Some((removal, push)) = removed else {
            return Err(StanzaCondition::ItemNotFound.into());
        };
        self.push(route, account, &push);
        let contact = jid.to_bare();
        let Removal {
            unsubscribe,
            unsubscribed,
            share,
        } = removal;
        self.share(route, account, &contact, share).await;
        for (send, kind) in [
            (unsubscribe, SubscriptionType::Unsubscribe),
            (unsubscribed, SubscriptionType::Unsubscribed),
        ] {
            if send && let Some(stanza) = about(kind, account, &contact) {
                route
                    .route(Delivery {
                        stanza,
                        token: None,
                    })
                    .await;
            }
        }
        Ok(None)
    }

    /// Tells every interested session of a change (RFC 6121 section 2.1.6).
    pub fn push(&self, route: &mut Route, account: &BareJid, push: &Push) {
        for session in route.router.sessions.of_account(account.as_str()) {
            if session.has(Flag::Interested)
                && let Some(stanza) = self.push_stanza(push, session.jid().as_str())
            {
                let _closed = session.push(stanza, None, &mut route.batch);
            }
        }
    }

    fn push_stanza(&self, push: &Push, to: &str) -> Option<Stanza> {
        let item = match &push.item {
            Some(item) => to_element(item),
            None => Element::new("item", ns::ROSTER)
                .with_attr("jid", push.jid.as_str())
                .with_attr("subscription", "remove"),
        };
        let mut query = Element::new("query", ns::ROSTER).with_child(item);
        if self.versioning {
            query.set_attr("ver", Some(&push.version));
        }
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", &protocol::stream::secure_id())
            .with_attr("to", to)
            .with_child(query);
        Stanza::from_element(&iq).ok()
    }

    /// The presence of each available session of the account goes to a contact that may see it now, or its end to one
    /// that may not any more.
    pub async fn share(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        share: Option<Share>,
    ) {
        let Some(share) = share else { return };
        for session in route.router.sessions.of_account(account.as_str()) {
            let Some(presence) = session.presence() else {
                continue;
            };
            let stanza = match share {
                Share::Available => Some(presence.with_to(contact.as_ref())),
                Share::Unavailable => {
                    super::presence::unavailable(session.jid().as_str(), Some(contact.as_str()))
                }
            };
            if let Some(stanza) = stanza {
                route
                    .route(Delivery {
                        stanza,
                        token: None,
                    })
                    .await;
            }
        }
    }
}

/// A presence stanza about a subscription, from bare to bare address.
pub fn about(kind: SubscriptionType, from: &BareJid, to: &BareJid) -> Option<Stanza> {
    let presence = Element::new("presence", ns::CLIENT)
        .with_attr("type", kind.as_str())
        .with_attr("from", from.as_str())
        .with_attr("to", to.as_str());
    Stanza::from_element(&presence).ok()
}

fn to_element(item: &Item) -> Element {
    let state = item.contact.state;
    let mut element = Element::new("item", ns::ROSTER)
        .with_attr("jid", item.jid.as_str())
        .with_attr("subscription", state.subscription().as_str());
    if !item.name.is_empty() {
        element.set_attr("name", Some(&item.name));
    }
    if state.is_pending_out() {
        element.set_attr("ask", Some("subscribe"));
    }
    if item.contact.approved {
        element.set_attr("approved", Some("true"));
    }
    for group in &item.groups {
        element.push(Element::new("group", ns::ROSTER).with_text(group));
    }
    element
}

fn refused(error: EditError) -> StanzaError {
    let condition = match error {
        EditError::GroupTwice => StanzaCondition::BadRequest,
        _ => StanzaCondition::NotAcceptable,
    };
    StanzaError::new(condition).with_text(error.to_string())
}

fn unavailable(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "roster is not available");
    error.to_stanza_error()
}
