//! Subdomains that modules own: searches, rooms, uploads.
//!
//! A module gives the name with [`AT_HOST`] in the place of the domain, and answers everything that is addressed there.
//! A subdomain has no accounts, and nobody logs in to it.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use protocol::jid::prepare_domain;
use protocol::{Kind, StanzaCondition, StanzaType};

use super::{Delivery, Route};
use crate::host::Owned;
use crate::iq::{HandleIq, IqTable, Target};

/// Stands for the domain in the name of a subdomain.
pub const AT_HOST: &str = "@HOST@";

/// A module's answer to what is addressed to its subdomain.
pub trait Serve: Send + Sync + 'static {
    /// Does what is to be done with the stanza, and settles it.
    fn serve(
        &self,
        route: &mut Route,
        owned: &Arc<Owned>,
        delivery: Delivery,
    ) -> impl Future<Output = ()> + Send;
}

type BoxServed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(crate) trait DynServe: Send + Sync {
    fn call<'a>(
        &'a self,
        route: &'a mut Route,
        owned: &'a Arc<Owned>,
        delivery: Delivery,
    ) -> BoxServed<'a>;
}

impl<S: Serve> DynServe for S {
    fn call<'a>(
        &'a self,
        route: &'a mut Route,
        owned: &'a Arc<Owned>,
        delivery: Delivery,
    ) -> BoxServed<'a> {
        Box::pin(self.serve(route, owned, delivery))
    }
}

/// A subdomain of each domain of a host, and whose it is.
#[derive(Clone)]
pub struct Subdomain {
    pattern: Box<str>,
    module: &'static str,
    owner: Arc<dyn DynServe>,
}

impl Subdomain {
    pub(crate) fn new<S: Serve>(pattern: &str, module: &'static str, owner: &Arc<S>) -> Self {
        Self {
            pattern: pattern.into(),
            module,
            owner: owner.clone(),
        }
    }

    /// The key of the module.
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// Its name for a domain, prepared; `None` if that is no domain.
    pub fn of(&self, domain: &str) -> Option<Box<str>> {
        name(&self.pattern, domain)
    }
}

/// The subdomain of that name for a domain, prepared; `None` if that is no domain.
pub fn name(pattern: &str, domain: &str) -> Option<Box<str>> {
    let name = pattern.replace(AT_HOST, domain);
    let prepared = prepare_domain(&name).ok()?;
    Some(prepared.into())
}

impl Route {
    /// A stanza for a subdomain.
    pub(super) async fn subdomain_stanza(&mut self, owned: &Arc<Owned>, delivery: Delivery) {
        owned.subdomain.owner.call(self, owned, delivery).await;
    }
}

/// A subdomain that answers requests and nothing else.
#[derive(Default)]
pub struct Requests(IqTable);

impl Requests {
    /// Answers requests with that payload. Two owners are an error of the module.
    pub(crate) fn add<H: HandleIq>(
        &mut self,
        module: &'static str,
        payload: (&'static str, &'static str),
        handler: &Arc<H>,
    ) -> Result<(), String> {
        self.0.add(module, payload, Target::Server, handler)
    }
}

impl Serve for Requests {
    /// As the domain itself does (RFC 6121 section 8.4); nobody else is there.
    async fn serve(&self, route: &mut Route, _owned: &Arc<Owned>, delivery: Delivery) {
        let stanza = &delivery.stanza;
        let is_for_itself = stanza.to().is_some_and(|to| to.local().is_none());
        match (stanza.kind(), stanza.stanza_type()) {
            (Kind::Iq, StanzaType::Get | StanzaType::Set) if is_for_itself => {
                route
                    .answer_from(&self.0, delivery, Target::Server, None)
                    .await;
            }
            (Kind::Iq, StanzaType::Get | StanzaType::Set)
            | (Kind::Message, StanzaType::Normal | StanzaType::Chat | StanzaType::Groupchat) => {
                route.bounce(delivery, &StanzaCondition::ServiceUnavailable.into());
            }
            _ => route.settle(delivery.token),
        }
    }
}
