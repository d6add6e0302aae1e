//! XEP-0016 section 2: a privacy list as a value, and what it says of a stanza.
//!
//! Items are asked in their order, and the first that fits decides; what none fits is allowed. XEP-0191 says the same in
//! simple words: what is blocked is an item of an address that denies everything.
use protocol::{Jid, JidRef, Kind, Stanza, StanzaType};

use crate::modules::roster::subscription::Subscription;

/// Whom an item is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everybody: the last resort of a list.
    Everybody,
    /// An address; without a resource also all its resources, without a local part all of the domain.
    Address(Jid),
    /// Contacts in a group of the roster.
    Group(Box<str>),
    /// Contacts by who sees whose presence; those that are not in the roster count as `none`.
    Subscription(Subscription),
}

/// What an item says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Do not.
    Deny,
    /// The same, said by XEP-0191.
    Block,
}

/// What an item is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Everything, in both directions; the others say nothing then.
    pub all: bool,
    /// Requests and answers that come in.
    pub iq: bool,
    /// Messages that come in.
    pub message: bool,
    /// Presence that comes in, without subscriptions.
    pub presence_in: bool,
    /// Presence that goes out, without subscriptions.
    pub presence_out: bool,
}

impl Kinds {
    /// Everything.
    pub const ALL: Self = Self {
        all: true,
        iq: false,
        message: false,
        presence_in: false,
        presence_out: false,
    };

    fn has(self, passing: Passing) -> bool {
        self.all
            || match passing {
                Passing::Message => self.message,
                Passing::Iq => self.iq,
                Passing::PresenceIn => self.presence_in,
                Passing::PresenceOut => self.presence_out,
                Passing::Other => false,
            }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its place; no two of a list have the same.
    pub order: u32,
    /// About whom.
    pub subject: Subject,
    /// What.
    pub action: Action,
    /// About what.
    pub kinds: Kinds,
}

impl Item {
    /// The item by which an address is blocked.
    pub fn block(order: u32, address: Jid) -> Self {
        Self {
            order,
            subject: Subject::Address(address),
            action: Action::Block,
            kinds: Kinds::ALL,
        }
    }

    /// The address that is blocked by it, if it is such an item.
    pub fn blocked(&self) -> Option<&Jid> {
        match &self.subject {
            Subject::Address(address) if self.kinds.all && self.action != Action::Allow => {
                Some(address)
            }
            _ => None,
        }
    }

    /// Bytes of what it names.
    pub fn bytes(&self) -> usize {
        match &self.subject {
            Subject::Address(address) => address.as_str().len(),
            Subject::Group(group) => group.len(),
            Subject::Everybody | Subject::Subscription(_) => 0,
        }
    }
}

/// Something that a list is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// A message that comes in.
    Message,
    /// A request or an answer that comes in.
    Iq,
    /// Availability that comes in.
    PresenceIn,
    /// Availability that goes out.
    PresenceOut,
    /// Everything else: what is sent, subscriptions, probes. Only items about everything fit.
    Other,
}

impl Passing {
    /// What an account gets.
    pub fn received(stanza: &Stanza) -> Self {
        match stanza.kind() {
            Kind::Message => Self::Message,
            Kind::Iq => Self::Iq,
            Kind::Presence if is_availability(stanza) => Self::PresenceIn,
            Kind::Presence => Self::Other,
        }
    }

    /// What a session sends.
    pub fn sent(stanza: &Stanza) -> Self {
        match stanza.kind() {
            Kind::Presence if is_availability(stanza) => Self::PresenceOut,
            _ => Self::Other,
        }
    }
}

fn is_availability(stanza: &Stanza) -> bool {
    let stanza_type = stanza.stanza_type();
    matches!(stanza_type, StanzaType::Available | StanzaType::Unavailable)
}

/// What the roster says of somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// The groups they are in.
    pub groups: Vec<String>,
}

impl Relation {
    /// Of somebody who is not in it.
    pub const NONE: Self = Self {
        subscription: Subscription::None,
        groups: Vec::new(),
    };
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name.
    pub name: Box<str>,
    /// In their order.
    items: Box<[Item]>,
    asks_subscription: bool,
    asks_groups: bool,
}

impl List {
    /// Of items in any order; `None` if two have the same.
    pub fn new(name: &str, mut items: Vec<Item>) -> Option<Self> {
        items.sort_unstable_by_key(|item| item.order);
        let is_twice = |pair: &[Item]| matches!(pair, [a, b] if a.order == b.order);
        if items.windows(2).any(is_twice) {
            return None;
        }
        let has = |asks: fn(&Subject) -> bool| items.iter().any(|item| asks(&item.subject));
        Some(Self {
            name: name.into(),
            asks_subscription: has(|subject| matches!(subject, Subject::Subscription(_))),
            asks_groups: has(|subject| matches!(subject, Subject::Group(_))),
            items: items.into(),
        })
    }

    /// Its items in their order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Addresses that are blocked, in their order.
    pub fn blocked(&self) -> impl Iterator<Item = &Jid> {
        self.items.iter().filter_map(Item::blocked)
    }

    /// What it says depends on the roster.
    pub fn asks_roster(&self) -> bool {
        self.asks_subscription || self.asks_groups
    }

    /// What it says depends on the groups of the roster.
    pub fn asks_groups(&self) -> bool {
        self.asks_groups
    }

    /// Bytes that it holds, about.
    pub fn bytes(&self) -> usize {
        let items = self.items.iter();
        let names: usize = items.map(Item::bytes).sum();
        size_of::<Self>() + self.name.len() + self.items.len() * size_of::<Item>() + names
    }

    /// Whether it keeps that from passing between the account and `other`.
    pub fn denies(&self, passing: Passing, other: JidRef<'_>, relation: &Relation) -> bool {
        let fits = |item: &&Item| item.kinds.has(passing) && is_about(item, other, relation);
        let first = self.items.iter().find(fits);
        first.is_some_and(|item| item.action != Action::Allow)
    }
}

fn is_about(item: &Item, other: JidRef<'_>, relation: &Relation) -> bool {
    match &item.subject {
        Subject::Everybody => true,
        Subject::Address(address) => covers(address.as_ref(), other),
        Subject::Group(group) => relation.groups.iter().any(|of| **of == **group),
        Subject::Subscription(subscription) => relation.subscription == *subscription,
    }
}

/// Whether an address of a list means `other` (XEP-0016 section 2.1): what it does not name may be anything.
pub fn covers(address: JidRef<'_>, other: JidRef<'_>) -> bool {
    let is_open = |named: Option<&str>, of: Option<&str>| named.is_none_or(|name| Some(name) == of);
    address.domain() == other.domain()
        && match (address.local(), address.resource()) {
            // A resource of the domain itself is none of its users'.
            (None, Some(resource)) => other.local().is_none() && other.resource() == Some(resource),
            (local, resource) => {
                is_open(local, other.local()) && is_open(resource, other.resource())
            }
        }
}

#[cfg(test)]
mod tests;
