//! Where does a stanza go: one function, one `match`.
//!
//! | `to` | message | presence | iq |
//! |---|---|---|---|
//! | none | own account | handled by the sender's session | own account |
//! | our domain, `domain/resource` | `service-unavailable` | ignored | the server answers |
//! | account, bare; sessions available | all of non-negative priority | all available | the server answers |
//! | account, bare; none | offline store | subscription state only | the server answers |
//! | full, bound | that session | that session | that session, if presence is shared |
//! | full, not bound | `chat` as bare; `service-unavailable` | subscriptions as bare; else ignored | `service-unavailable` |
//! | a subdomain of ours | its module | its module | its module |
//! | a component's domain, connected | the component | the component | the component |
//! | the same, away | `service-unavailable` | dropped | `service-unavailable` |
//! | another domain | `remote-server-not-found` | the same | the same |
//!
//! That is RFC 6121 section 8; `groupchat` to an account bounces, `headline` is never stored, errors are never
//! answered. See [`local`] for the accounts' side.
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use daemon::Tasks;
use daemon::config::OrInfinity;
use protocol::{JidRef, Kind, Stanza, StanzaCondition, StanzaError, StanzaType};

use self::copies::{Copies, Side};
use self::questions::Questions;
use self::removal::Removals;
use crate::access::{AccessRules, Asker, USER_SESSIONS_MAX_DEFAULT};
use crate::auth::registration::limits::Registrations;
use crate::auth::throttle::Throttle;
use crate::c2s::leaving::Leaving;
use crate::c2s::resumable::Resumable;
use crate::c2s::resume::Token;
use crate::c2s::timing::Timings;
use crate::cluster::Sessions;
use crate::component::{ComponentRef, Components, Found};
use crate::host::config::Acknowledge;
use crate::host::{Host, Hosts, Owned};
use crate::iq::{IqRequest, IqTable, Target};
use crate::ledger::{Ledger, Left};
use crate::metrics::Metrics;
use crate::outlet::{Batch, SessionRef};

pub mod copies;
pub mod local;
pub mod questions;
pub mod removal;
pub mod restrictions;
pub mod subdomains;

/// A stanza on its way, with what its sender's acknowledgement waits for.
#[derive(Debug)]
pub struct Delivery {
    /// The stanza, `from` stamped.
    pub stanza: Stanza,
    /// Whom to tell when it is settled.
    pub token: Option<Token>,
}

/// Where a stanza goes.
pub enum Destination {
    /// An account of ours, by bare or full address.
    Account(Arc<Host>),
    /// One of our domains itself.
    Server(Arc<Host>),
    /// A subdomain that a module owns, or somebody there.
    Subdomain(Arc<Owned>),
    /// An external component, or somebody there.
    Component(ComponentRef),
    /// A component that was there, and is not now.
    AbsentComponent,
    /// Somebody else's domain.
    Remote,
}

/// The scope of handlers that run while a stanza is routed: the router, and what is to be flushed afterwards.
pub struct Route {
    /// The router.
    pub router: Arc<Router>,
    /// Outlets that were written to.
    pub batch: Batch,
    /// What an IQ handler wants to be sent behind its answer.
    pub after_answer: Vec<(SessionRef, Stanza)>,
    /// What an IQ handler holds until that is done: a lock that keeps others from sending before.
    pub until_answered: Option<Box<dyn Send + Sync>>,
    /// What is routed has been routed before, so whoever gets copies has got them.
    pub is_again: bool,
    /// What has a row is routed for the first time, and its sender waits to be told: it is a stanza like others.
    pub is_first: bool,
}

/// Everything that is needed to route.
pub struct Router {
    hosts: ArcSwap<Hosts>,
    /// The session table.
    pub sessions: Sessions,
    /// The domains of external components.
    pub components: Components,
    /// Who waits for what.
    pub ledger: Arc<Ledger>,
    /// Sessions that may be resumed.
    pub resumable: Resumable,
    /// Set when the node drains.
    pub leaving: Leaving,
    /// Limits on guessing passwords.
    pub throttle: Throttle,
    /// When quiet clients are taken for gone.
    pub timings: Timings,
    /// Limits on new accounts.
    pub registrations: Registrations,
    /// Accounts that were removed lately.
    pub removals: Removals,
    /// What clients have been asked.
    pub questions: Questions,
    /// Counters.
    pub metrics: Arc<Metrics>,
    tasks: OnceLock<Tasks>,
    settings: Settings,
}

/// What holds for all hosts.
pub struct Settings {
    /// Stands in error headers when no domain is known.
    pub default_domain: Box<str>,
    /// The language of our streams.
    pub language: Box<str>,
    /// When a client's stanza is acknowledged.
    pub acknowledge: Acknowledge,
    /// `general.hide_service_name`.
    pub hide_service_name: bool,
    /// How long an address waits between two accounts; `None`: not at all.
    pub registration_pause: Option<std::time::Duration>,
}

impl Router {
    /// A router without hosts.
    pub fn new(ledger: Arc<Ledger>, metrics: Arc<Metrics>, settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            hosts: ArcSwap::from_pointee(Hosts::default()),
            sessions: Sessions::default(),
            components: Components::default(),
            ledger,
            resumable: Resumable::default(),
            leaving: Leaving::default(),
            throttle: Throttle::default(),
            timings: Timings::default(),
            registrations: Registrations::new(settings.registration_pause),
            removals: Removals::default(),
            questions: Questions::default(),
            metrics,
            tasks: OnceLock::new(),
            settings,
        })
    }

    /// Where tasks are started, once the node has said so.
    pub fn tasks(&self) -> Option<&Tasks> {
        // Without a runtime there are no tasks, which is so at the very end of a process.
        tokio::runtime::Handle::try_current()
            .ok()
            .and_then(|_| self.tasks.get())
    }

    /// Where tasks are started.
    pub fn set_tasks(&self, tasks: Tasks) {
        let _only_the_first_counts = self.tasks.set(tasks);
    }

    /// `general.default_server_domain`.
    pub fn default_domain(&self) -> &str {
        &self.settings.default_domain
    }

    /// Whose name stands in our header when the client has named none of ours; empty if that is hidden.
    pub fn anonymous_speaker(&self) -> &str {
        if self.settings.hide_service_name {
            ""
        } else {
            &self.settings.default_domain
        }
    }

    /// `general.language`.
    pub fn language(&self) -> &str {
        &self.settings.language
    }

    /// `general.acknowledge`.
    pub fn acknowledge(&self) -> Acknowledge {
        self.settings.acknowledge
    }

    /// Whether a rule lets somebody do something on their own domain.
    pub fn allows(&self, access: &AccessRules, rule: &str, who: JidRef<'_>) -> bool {
        let is_hosted = |domain: &str| self.host(domain).is_some();
        access.allows(rule, &Asker::new(who, who.domain(), &is_hosted))
    }

    /// Sessions that an account may have at a time (rule `max_user_sessions`).
    pub fn sessions_max(&self, access: &AccessRules, who: JidRef<'_>) -> usize {
        let is_hosted = |domain: &str| self.host(domain).is_some();
        let asker = Asker::new(who, who.domain(), &is_hosted);
        let undefined = OrInfinity::Value(USER_SESSIONS_MAX_DEFAULT);
        match access.limit("max_user_sessions", &asker, undefined) {
            OrInfinity::Value(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            OrInfinity::Infinity => usize::MAX,
        }
    }

    /// Every host once.
    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.load().all()
    }

    /// Every domain that is served, in order.
    pub fn domains(&self) -> Vec<String> {
        self.hosts.load().domains()
    }

    /// Replaces all hosts.
    pub fn set_hosts(&self, hosts: Hosts) {
        self.hosts.store(Arc::new(hosts));
    }

    /// The host of one of our domains.
    pub fn host(&self, domain: &str) -> Option<Arc<Host>> {
        self.hosts.load().find(domain).cloned()
    }

    /// A subdomain of one of our domains, by its name.
    pub fn subdomain(&self, name: &str) -> Option<Arc<Owned>> {
        self.hosts.load().find_subdomain(name).cloned()
    }

    /// Whether a domain is ours, or one that a module owns below ours.
    pub fn has_domain(&self, domain: &str) -> bool {
        let hosts = self.hosts.load();
        hosts.find(domain).is_some() || hosts.find_subdomain(domain).is_some()
    }

    /// A scope for handlers.
    pub fn scope(self: &Arc<Self>) -> Route {
        Route {
            router: self.clone(),
            batch: Batch::new(&self.ledger),
            after_answer: Vec::new(),
            until_answered: None,
            is_again: false,
            is_first: false,
        }
    }

    /// Where a stanza for that address goes.
    pub fn destination(&self, to: JidRef<'_>) -> Destination {
        let hosts = self.hosts.load();
        match hosts.find(to.domain()) {
            None => match hosts.find_subdomain(to.domain()) {
                Some(owned) => Destination::Subdomain(owned.clone()),
                None => match self.components.find(to.domain()) {
                    Found::Connected(component) => Destination::Component(component),
                    Found::Away => Destination::AbsentComponent,
                    Found::Unknown => Destination::Remote,
                },
            },
            Some(host) if to.local().is_some() => Destination::Account(host.clone()),
            Some(host) => Destination::Server(host.clone()),
        }
    }

    /// The fast path: delivers a message to a bound session without waiting for anything. Gives back what needs
    /// [`Self::route`].
    pub fn try_route(&self, delivery: Delivery, batch: &mut Batch) -> Result<(), Delivery> {
        let stanza = &delivery.stanza;
        if stanza.kind() != Kind::Message {
            return Err(delivery);
        }
        let Some(to) = stanza.to() else {
            return Err(delivery);
        };
        let hosts = self.hosts.load();
        let Some(host) = hosts.find(to.domain()) else {
            return Err(delivery);
        };
        if to.local().is_none() || !host.hooks.is_silent::<crate::hooks::DeliverLocal>() {
            return Err(delivery);
        }
        let is_anybody_restricted = !host.hooks.is_silent::<crate::hooks::MayReceive>();
        let only = local::only_session(&self.sessions, stanza, to, is_anybody_restricted);
        let Some((session, others)) = only else {
            return Err(delivery);
        };
        let copies = Copies::new(stanza, Side::Received, others);
        self.metrics.stanzas_delivered.message.inc();
        match session.push(delivery.stanza, delivery.token, batch) {
            crate::outlet::Pushed::Taken => {
                copies.push(self, batch);
                Ok(())
            }
            crate::outlet::Pushed::Closed(stanza, token) => Err(Delivery { stanza, token }),
        }
    }

    /// Routes a stanza to wherever it belongs. When it returns, the stanza has been handed on, stored, answered, or
    /// dropped knowingly.
    pub async fn route(self: &Arc<Self>, delivery: Delivery) {
        let mut route = self.scope();
        route.route(delivery).await;
    }
}

impl Route {
    /// See [`Router::route`].
    pub async fn route(&mut self, delivery: Delivery) {
        let destination = match delivery.stanza.to() {
            None => return self.settle(delivery.token),
            Some(to) => self.router.destination(to),
        };
        match destination {
            Destination::Account(host) => Box::pin(self.account_stanza(&host, delivery)).await,
            Destination::Server(host) => Box::pin(self.server_stanza(&host, delivery)).await,
            Destination::Subdomain(owned) => self.subdomain_stanza(&owned, delivery).await,
            Destination::Component(component) => self.component_stanza(&component, delivery),
            Destination::AbsentComponent => self.absent_component_stanza(delivery),
            Destination::Remote => {
                let error = StanzaError::new(StanzaCondition::RemoteServerNotFound)
                    .with_text("this server does not federate");
                self.bounce(delivery, &error);
            }
        }
    }

    /// A stanza for the domain itself (RFC 6121 section 8.4, RFC 6120 section 10.5.1).
    async fn server_stanza(&mut self, host: &Arc<Host>, delivery: Delivery) {
        let stanza = &delivery.stanza;
        match (stanza.kind(), stanza.stanza_type()) {
            (Kind::Iq, StanzaType::Get | StanzaType::Set) => {
                self.answer(host, delivery, Target::Server, None).await;
            }
            (Kind::Message, StanzaType::Normal | StanzaType::Chat | StanzaType::Groupchat) => {
                self.bounce(delivery, &StanzaCondition::ServiceUnavailable.into());
            }
            _ => self.settle(delivery.token),
        }
    }

    /// Lets the owner of an IQ request answer it.
    pub async fn answer(
        &mut self,
        host: &Arc<Host>,
        delivery: Delivery,
        target: Target,
        session: Option<SessionRef>,
    ) {
        self.answer_from(&host.iq, delivery, target, session).await;
    }

    /// The same with owners that are not those of a host.
    pub async fn answer_from(
        &mut self,
        owners: &IqTable,
        delivery: Delivery,
        target: Target,
        session: Option<SessionRef>,
    ) {
        let stanza = &delivery.stanza;
        let element = stanza.to_element();
        let (Some(from), Some(payload)) = (stanza.from(), element.elements().next()) else {
            return self.bounce(delivery, &StanzaCondition::BadRequest.into());
        };
        let to = stanza
            .to()
            .map_or_else(|| from.to_bare().into(), JidRef::to_jid);
        let request = IqRequest {
            stanza_type: stanza.stanza_type(),
            from: from.to_jid(),
            to,
            payload: payload.clone(),
            session,
        };
        match owners.answer(self, &request, target).await {
            Ok(payload) => {
                let reply = delivery.stanza.result_reply(payload.as_ref());
                self.settle(delivery.token);
                self.reply(reply);
                for (session, stanza) in std::mem::take(&mut self.after_answer) {
                    let _closed = session.push(stanza, None, &mut self.batch);
                }
            }
            Err(error) => self.bounce(delivery, &error),
        }
        self.until_answered = None;
    }

    /// The stanza needs nothing more.
    pub fn settle(&mut self, token: Option<Token>) {
        self.batch.settle(token);
    }

    /// Answers with an error, unless the stanza must not be answered. Either way it is settled.
    pub fn bounce(&mut self, delivery: Delivery, error: &StanzaError) {
        let may_pass = match error.condition {
            StanzaCondition::InternalServerError => Some(Left::Fault),
            StanzaCondition::ResourceConstraint => Some(Left::StoreIsFull),
            _ => None,
        };
        if let Some(why) = may_pass
            && !self.is_first
            && self.router.ledger.leave_row(delivery.token, why)
        {
            // Its sender was told long ago that it is safe, and it is: who starts the node next tries again.
            tracing::error!(
                ?why,
                "a stanza in flight could not be stored, its row stays"
            );
            return;
        }
        if let Some(reply) = delivery.stanza.error_reply(error) {
            self.router.metrics.stanzas_bounced.inc();
            self.copy_error(&delivery.stanza, &reply);
            self.reply(reply);
        } else {
            self.router.metrics.stanzas_dropped.inc();
        }
        self.settle(delivery.token);
    }

    /// Hands an answer of ours to the session or the component it is for; there is nobody to tell if that is gone.
    pub fn reply(&mut self, reply: Stanza) {
        let Some(to) = reply.to() else { return };
        let outlet = self.router.sessions.find(to).or_else(|| {
            let component = self.router.components.connected(to.domain())?;
            Some(component.outlet.clone())
        });
        if let Some(outlet) = outlet {
            let _gone = outlet.push(reply, None, &mut self.batch);
        }
    }
}
