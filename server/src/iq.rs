//! Who answers which IQ request: one owner per payload and target.
//!
//! IQs are not hooks: a request has exactly one answer (RFC 6120 section 8.2.3).
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use protocol::{Element, Jid, StanzaCondition, StanzaError, StanzaType};

use crate::outlet::SessionRef;
use crate::router::Route;

/// To whom a request is addressed that the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The domain.
    Server,
    /// A bare account address; requests without `to` mean the sender's own.
    Account,
}

/// A request that the server answers itself.
pub struct IqRequest {
    /// `Get` or `Set`.
    pub stanza_type: StanzaType,
    /// Who asks.
    pub from: Jid,
    /// The account or domain that is asked; the sender's own account if the request had no `to`.
    pub to: Jid,
    /// The child element.
    pub payload: Element,
    /// The asking session, if it is a local one.
    pub session: Option<SessionRef>,
}

impl IqRequest {
    /// Whether somebody asks their own account.
    pub fn is_own_account(&self) -> bool {
        self.from.bare_str() == self.to.as_str()
    }
}

/// An answer: a payload, nothing, or an error.
pub type Answer = Result<Option<Element>, StanzaError>;

/// A module's answer to one kind of request.
pub trait HandleIq: Send + Sync + 'static {
    /// Answers the request.
    fn answer(&self, route: &mut Route, request: &IqRequest)
    -> impl Future<Output = Answer> + Send;
}

type BoxAnswer<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

trait DynHandleIq: Send + Sync {
    fn call<'a>(&'a self, route: &'a mut Route, request: &'a IqRequest) -> BoxAnswer<'a>;
}

impl<H: HandleIq> DynHandleIq for H {
    fn call<'a>(&'a self, route: &'a mut Route, request: &'a IqRequest) -> BoxAnswer<'a> {
        Box::pin(self.answer(route, request))
    }
}

struct Owner {
    module: &'static str,
    handler: Arc<dyn DynHandleIq>,
}

/// The owners of one host. Built once, never changed.
#[derive(Default)]
pub struct IqTable {
    owners: HashMap<(&'static str, &'static str, Target), Owner, RandomState>,
}

impl IqTable {
    /// Makes `module` the owner of a payload. Two owners are an error of the module list, found when the host starts.
    pub(crate) fn add<H: HandleIq>(
        &mut self,
        module: &'static str,
        (name, ns): (&'static str, &'static str),
        target: Target,
        handler: &Arc<H>,
    ) -> Result<(), String> {
        let handler: Arc<dyn DynHandleIq> = handler.clone();
        match self
            .owners
            .insert((name, ns, target), Owner { module, handler })
        {
            None => Ok(()),
            Some(other) => Err(format!(
                "{module} and {} both want to answer <{name} xmlns='{ns}'/>",
                other.module
            )),
        }
    }

    /// The answer of the owner, or `service-unavailable` (RFC 6120 section 8.4).
    pub async fn answer(&self, route: &mut Route, request: &IqRequest, target: Target) -> Answer {
        let key = (request.payload.name(), request.payload.ns(), target);
        match self.owner(key) {
            Some(owner) => owner.handler.call(route, request).await,
            None => Err(StanzaError::new(StanzaCondition::ServiceUnavailable)),
        }
    }
    /// The names of the key live as long as the request, those in the table for ever.
    fn owner<'a>(&'a self, key: (&'a str, &'a str, Target)) -> Option<&'a Owner> {
        let owners: &HashMap<(&'a str, &'a str, Target), Owner, RandomState> = &self.owners;
        owners.get(&key)
    }
}
