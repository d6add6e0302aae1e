//! Typed hooks: the one list of points at which modules may act.
//!
//! An [`Event`] is a plain struct; a module answers it by implementing [`Handle`]. Which handlers run, and in which
//! order, is fixed when a host starts: by [`Stage`], and within a stage by the order of the module registry. Guards
//! (`Stamp`, `Filter`, `Archive`) fail closed: an error ends the chain with a bounce. `Copy` and `Observe` fail open.
//! Use `rg 'Handle<OfflineMessage>'` to see who reacts to an event.
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use protocol::{BareJid, Element, Jid, Stanza, StanzaCondition, StanzaError};
use tracing::warn;

use crate::c2s::session::Session;
use crate::metrics::HookMetrics;
use crate::outlet::SessionRef;
use crate::router::Route;

/// Why a handler could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A store did not answer or answered nonsense.
    #[error(transparent)]
    Storage(#[from] crate::storage::Error),
    /// The stanza itself is at fault; its sender gets this error.
    #[error("refused with {}", .0.condition.name())]
    Refused(StanzaError),
}

impl Error {
    /// What the sender of the stanza learns.
    pub fn to_stanza_error(&self) -> StanzaError {
        match self {
            // Which statement failed is nobody's business outside; the log has it.
            Self::Storage(_) => StanzaError::new(StanzaCondition::InternalServerError)
                .with_type(protocol::error::ErrorType::Wait),
            Self::Refused(error) => error.clone(),
        }
    }
}

impl From<StanzaError> for Error {
    fn from(error: StanzaError) -> Self {
        Self::Refused(error)
    }
}

/// The verdict of a chain that ends early.
#[derive(Debug)]
pub enum Halt {
    /// The stanza is taken care of or discarded knowingly; its sender learns nothing.
    Drop,
    /// The sender gets this error.
    Bounce(StanzaError),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Bounce(error.to_stanza_error())
    }
}

/// The verdict of an event that only informs: there is nothing to halt.
#[derive(Debug)]
pub struct Nothing;

impl From<Error> for Nothing {
    fn from(_: Error) -> Self {
        Self
    }
}

/// One point in the life of a stanza or a session at which modules may act.
pub trait Event: Send + Sized + 'static {
    /// Stable name for metrics and the hook-order snapshot.
    const NAME: &'static str;
    /// What a handler may touch: a session, a routing step.
    type Scope: Send;
    /// What it answers when it ends the chain.
    type Verdict: Send + From<Error>;
    /// Handlers of this event, in the order in which they run.
    fn handlers(hooks: &Hooks) -> &Handlers<Self>;
    /// The same, while a host is being built.
    fn handlers_mut(hooks: &mut Hooks) -> &mut Handlers<Self>;
}

/// What a handler answers: go on, or end the chain with a verdict.
pub type Outcome<E> = Result<ControlFlow<<E as Event>::Verdict>, Error>;

/// A module's answer to one kind of event.
pub trait Handle<E: Event>: Send + Sync + 'static {
    /// Handles the event; may change it.
    fn handle(
        &self,
        scope: &mut E::Scope,
        event: &mut E,
    ) -> impl Future<Output = Outcome<E>> + Send;
}

/// When, within one hook, a handler runs. Within a stage, handlers run in registry order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Adds what the server vouches for (ids, times).
    Stamp,
    /// Decides whether the stanza may pass.
    Filter,
    /// Makes it durable.
    Archive,
    /// Makes copies for others.
    Copy,
    /// Looks on.
    Observe,
}

impl Stage {
    /// Whether an error of a handler ends the chain.
    pub fn fails_closed(self) -> bool {
        self <= Self::Archive
    }
}

type BoxOutcome<'a, E> = Pin<Box<dyn Future<Output = Outcome<E>> + Send + 'a>>;

trait DynHandle<E: Event>: Send + Sync {
    fn call<'a>(&'a self, scope: &'a mut E::Scope, event: &'a mut E) -> BoxOutcome<'a, E>;
}

impl<E: Event, H: Handle<E>> DynHandle<E> for H {
    fn call<'a>(&'a self, scope: &'a mut E::Scope, event: &'a mut E) -> BoxOutcome<'a, E> {
        Box::pin(self.handle(scope, event))
    }
}

struct Entry<E: Event> {
    stage: Stage,
    module: &'static str,
    handler: Arc<dyn DynHandle<E>>,
}

/// The handlers of one event.
pub struct Handlers<E: Event>(Vec<Entry<E>>);

impl<E: Event> Default for Handlers<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl Hooks {
    /// Adds a handler; called while a host starts, in registry order.
    pub(crate) fn add<E: Event, H: Handle<E>>(
        &mut self,
        stage: Stage,
        module: &'static str,
        handler: &Arc<H>,
    ) {
        let list = &mut E::handlers_mut(self).0;
        let at = list.partition_point(|entry| entry.stage <= stage);
        let handler: Arc<dyn DynHandle<E>> = handler.clone();
        list.insert(
            at,
            Entry {
                stage,
                module,
                handler,
            },
        );
    }

    /// Runs the chain; `Break` holds the verdict of the handler that ended it.
    pub async fn run<E: Event>(
        &self,
        scope: &mut E::Scope,
        event: &mut E,
    ) -> ControlFlow<E::Verdict> {
        let handlers = &E::handlers(self).0;
        if handlers.is_empty() {
            return ControlFlow::Continue(());
        }
        let started = Instant::now();
        let flow = self.run_all(handlers, scope, event).await;
        self.metrics.observe(E::NAME, started.elapsed());
        flow
    }

    async fn run_all<E: Event>(
        &self,
        handlers: &[Entry<E>],
        scope: &mut E::Scope,
        event: &mut E,
    ) -> ControlFlow<E::Verdict> {
        for entry in handlers {
            match entry.handler.call(scope, event).await {
                Ok(flow) => flow?,
                Err(error) => {
                    let fails_closed = entry.stage.fails_closed();
                    if !matches!(error, Error::Refused(_)) {
                        self.metrics.failed(E::NAME, entry.module);
                        warn!(event = E::NAME, module = entry.module, %error, "handler failed");
                    }
                    if fails_closed {
                        return ControlFlow::Break(error.into());
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Nobody reacts to `E`: the caller may skip making the event.
    pub fn is_silent<E: Event>(&self) -> bool {
        E::handlers(self).0.is_empty()
    }

    /// `["Filter:blocking", "Copy:carbons"]`: who reacts to `E`, in order.
    pub fn order<E: Event>(&self) -> Vec<String> {
        E::handlers(self)
            .0
            .iter()
            .map(|e| format!("{:?}:{}", e.stage, e.module))
            .collect()
    }
}

/// A stanza of a bound client, before it is routed. A handler may change it or halt it.
pub struct UserSendMessage {
    /// The message, its `from` stamped.
    pub stanza: Stanza,
}

/// Presence that a bound client sends, whether broadcast, directed or about a subscription.
pub struct UserSendPresence {
    /// The presence, its `from` stamped.
    pub stanza: Stanza,
}

/// An IQ that a bound client sends to somebody else.
pub struct UserSendIq {
    /// The request or answer, its `from` stamped.
    pub stanza: Stanza,
}

/// A stanza that reached the domain of its receiver, before sessions are chosen.
pub struct DeliverLocal {
    /// The stanza.
    pub stanza: Stanza,
    /// The receiving account.
    pub to: BareJid,
}

/// A session wants to send a stanza to somebody (XEP-0016). Asked of sessions that are not known to be
/// [`Flag::Unrestricted`](crate::outlet::Flag::Unrestricted), and never about the own account or server.
pub struct MaySend {
    /// The session.
    pub session: SessionRef,
    /// The stanza, with its receiver.
    pub stanza: Stanza,
    /// Set by the module that has a list which says no.
    pub refused: bool,
}

/// An account is about to get a stanza of somebody (XEP-0016). Asked if a session of it is not known to be
/// [`Flag::Unrestricted`](crate::outlet::Flag::Unrestricted) or it has none, and never about the own account or server.
pub struct MayReceive {
    /// The stanza, with its sender.
    pub stanza: Stanza,
    /// The receiving account.
    pub to: BareJid,
    /// Nobody gets it.
    pub refused: bool,
    /// Sessions that do not get it.
    pub withheld: Vec<SessionRef>,
    /// It is not kept for later.
    pub unkept: bool,
}

/// A message for an account that no session may take (RFC 6121 section 8.5.2.2).
pub struct OfflineMessage {
    /// The message.
    pub stanza: Stanza,
    /// The receiving account.
    pub to: BareJid,
    /// Its sender was told long ago that it is safe: a store takes it also where it would refuse others.
    pub owed: bool,
    /// Set by the module that has committed it to a store.
    pub stored: bool,
}

/// A session is bound and in the session table.
pub struct SessionOpened;

/// A session has ended and is no longer in the session table. Runs exactly once for each opened session.
pub struct SessionClosed {
    /// Why it ended, as a closed word for metrics and status texts.
    pub reason: &'static str,
}

/// A session has set its presence and its contacts know (RFC 6121 sections 4.2 and 4.4). Runs before anything else
/// that waits for an available session is sent to it.
pub struct PresenceSet {
    /// The session.
    pub session: SessionRef,
    /// Its priority.
    pub priority: i8,
    /// The priority that it had; `None` if it was not available.
    pub before: Option<i8>,
    /// `false` if it is known that no messages wait for the account.
    pub has_messages: bool,
}

/// Presence for an account from the outside: subscriptions, availability, probes. Runs in the task that routes.
pub struct AccountPresence {
    /// The presence; its `to` is the account, bare or full.
    pub stanza: Stanza,
    /// The receiving account.
    pub to: BareJid,
}

/// A change of an account's roster that its interested sessions learn of.
pub struct RosterChanged {
    /// Whose roster.
    pub account: BareJid,
    /// The pushed item.
    pub item: Element,
}

/// An account is being removed: stores forget it.
pub struct AccountRemoved {
    /// Which.
    pub account: BareJid,
}

/// Features to be announced after login (RFC 6120 section 4.3.2).
pub struct StreamFeatures {
    /// Feature elements, in registry order.
    pub features: Vec<Element>,
}

/// A session asks whether another may see that it exists (RFC 6121 section 8.5.3.1, presence leaks).
pub struct MaySeePresence {
    /// Who asks.
    pub from: Jid,
    /// The session in question.
    pub session: SessionRef,
    /// Set by the module that knows of a subscription or directed presence.
    pub allowed: bool,
}

macro_rules! hooks {
    ($($field:ident: $event:ident, $scope:ty => $verdict:ty, $name:literal;)*) => {
        /// The handlers of every event of one host. Built once, never changed.
        pub struct Hooks {
            metrics: Arc<HookMetrics>,
            $($field: Handlers<$event>,)*
        }

        impl Hooks {
            /// No handlers.
            pub fn new(metrics: Arc<HookMetrics>) -> Self {
                Self { metrics, $($field: Handlers::default(),)* }
            }

            /// All events with their handlers in order, for the admin interface and the snapshot test.
            pub fn all_orders(&self) -> Vec<(&'static str, Vec<String>)> {
                vec![$(($name, self.order::<$event>()),)*]
            }
        }

        /// Names of all events: the closed set of a metric's label.
        pub const EVENT_NAMES: &[&str] = &[$($name),*];

        $(impl Event for $event {
            const NAME: &'static str = $name;
            type Scope = $scope;
            type Verdict = $verdict;
            fn handlers(hooks: &Hooks) -> &Handlers<Self> { &hooks.$field }
            fn handlers_mut(hooks: &mut Hooks) -> &mut Handlers<Self> { &mut hooks.$field }
        })*
    };
}

hooks! {   // the one list
    user_send_message: UserSendMessage, Session => Halt, "user_send_message";
    user_send_presence: UserSendPresence, Session => Halt, "user_send_presence";
    user_send_iq: UserSendIq, Session => Halt, "user_send_iq";
    deliver_local: DeliverLocal, Route => Halt, "deliver_local";
    account_presence: AccountPresence, Route => Halt, "account_presence";
    may_send: MaySend, Route => Halt, "may_send";
    may_receive: MayReceive, Route => Halt, "may_receive";
    offline_message: OfflineMessage, Route => Halt, "offline_message";
    may_see_presence: MaySeePresence, Route => Halt, "may_see_presence";
    session_opened: SessionOpened, Session => Nothing, "session_opened";
    session_closed: SessionClosed, Session => Nothing, "session_closed";
    presence_set: PresenceSet, Route => Nothing, "presence_set";
    roster_changed: RosterChanged, Route => Nothing, "roster_changed";
    account_removed: AccountRemoved, Route => Halt, "account_removed";
    stream_features: StreamFeatures, () => Nothing, "stream_features";
}

/// A bounce with the condition's default type.
pub fn bounce(condition: StanzaCondition) -> ControlFlow<Halt> {
    ControlFlow::Break(Halt::Bounce(StanzaError::new(condition)))
}
