//! XEP-0114: Jabber Component Protocol: programs of others that are a domain of their own here.
//!
//! A component proves that it knows the secret of its port and has its domain from then on, as long as its connection
//! lasts. It is written to through an outlet, as a session is, so a stanza for it is settled when its bytes are taken by
//! its socket. It does not acknowledge anything itself. Who does not read is closed, and what waited for it is answered
//! with an error or goes to the connection that has taken its place.
use std::collections::hash_map::Entry;
use std::sync::Arc;

use ahash::RandomState;
use parking_lot::RwLock;

use crate::access::AccessRules;
use crate::outlet::SessionRef;

pub mod config;
pub mod listener;
mod negotiate;
mod route;
mod session;

pub use config::ConflictBehaviour;

/// Bytes that may wait for a component whose socket refuses them; one over it is closed with `resource-constraint`.
/// It stands for many users.
pub const OUTLET_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// Domains of components that are known, connected or not. One more is refused with `resource-constraint`.
pub const COMPONENTS_MAX: usize = 10_000;

/// What a port gives to its components.
pub struct Settings {
    /// The secret that they have to know.
    pub secret: daemon::Secret,
    /// The rule that says who may send something to them.
    pub access: Box<str>,
    /// The rules of the node.
    pub rules: Arc<AccessRules>,
    /// Whether they speak for their own domain alone.
    pub check_from: bool,
    /// Who stays when a domain comes twice.
    pub conflict_behaviour: ConflictBehaviour,
    /// Whether nobody finds them by service discovery.
    pub is_hidden: bool,
}

/// A connected component.
pub struct Component {
    /// Its domain, in normal form.
    pub domain: Box<str>,
    /// Its write half.
    pub outlet: SessionRef,
    /// Those of its port.
    pub settings: Arc<Settings>,
}

/// A connected component, as others see it.
pub type ComponentRef = Arc<Component>;

/// Whose a domain is that is none of ours.
pub enum Found {
    /// A component's that is there.
    Connected(ComponentRef),
    /// A component's that was there since the node started, and is not now.
    Away,
    /// No component's.
    Unknown,
}

/// The domains of components.
#[derive(Default)]
pub struct Components {
    by_domain: RwLock<std::collections::HashMap<Box<str>, Option<ComponentRef>, RandomState>>,
}

/// Why a domain was not given to a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another one has it.
    Taken,
    /// There are [`COMPONENTS_MAX`].
    TooMany,
}

impl Components {
    /// Whose a domain is.
    pub fn find(&self, domain: &str) -> Found {
        match self.by_domain.read().get(domain) {
            Some(Some(component)) => Found::Connected(component.clone()),
            Some(None) => Found::Away,
            None => Found::Unknown,
        }
    }

    /// The component of a domain, if it is there.
    pub fn connected(&self, domain: &str) -> Option<ComponentRef> {
        self.by_domain.read().get(domain).cloned().flatten()
    }

    /// Every connected component, in the order of their domains.
    pub fn all(&self) -> Vec<ComponentRef> {
        let mut all: Vec<_> = self.by_domain.read().values().flatten().cloned().collect();
        all.sort_by(|one, other| one.domain.cmp(&other.domain));
        all
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.by_domain.read().values().flatten().count()
    }

    /// Gives a component its domain, and gives out whom it replaces. `greet` runs before anybody can write to it.
    fn add(
        &self,
        component: &ComponentRef,
        greet: impl FnOnce(),
    ) -> Result<Option<ComponentRef>, Refused> {
        let mut by_domain = self.by_domain.write();
        let known = by_domain.len();
        match by_domain.entry(component.domain.clone()) {
            Entry::Occupied(mut entry) => {
                let is_kicked = component.settings.conflict_behaviour == ConflictBehaviour::KickOld;
                if entry.get().is_some() && !is_kicked {
                    return Err(Refused::Taken);
                }
                greet();
                Ok(entry.insert(Some(component.clone())))
            }
            Entry::Vacant(_) if known >= COMPONENTS_MAX => Err(Refused::TooMany),
            Entry::Vacant(entry) => {
                greet();
                entry.insert(Some(component.clone()));
                Ok(None)
            }
        }
    }

    /// A component has gone. Its domain stays known: who writes to it is told that it is away.
    fn remove(&self, component: &ComponentRef) {
        if let Some(found) = self.by_domain.write().get_mut(&*component.domain)
            && found.as_ref().is_some_and(|it| Arc::ptr_eq(it, component))
        {
            *found = None;
        }
    }
}

#[cfg(test)]
mod tests;
