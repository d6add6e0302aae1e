//! Category `session`.
use std::net::SocketAddr;
use std::sync::Arc;

use async_graphql::{Context, Enum, Object, SimpleObject};
use protocol::{Element, Framing, Jid, Stanza, StreamCondition, StreamError, ns};

use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{
    BareJidText, DomainName, FullJidText, JidText, NonEmptyString, PosInt, ResourceName,
};
use crate::api::terms::{Admin, ROWS_MAX, admin, too_many};
use crate::host::kick;
use crate::outlet::{Order, SessionRef};

/// What clients are told that are sent away for no reason that was given.
const REASON_DEFAULT: &str = "Kicked by administrator";
/// Bytes of a reason that clients are told, or of a status.
const REASON_BYTES_MAX: usize = 1_024;
/// The node, where there is but one.
const NODE: &str = "meerkat";

/// Questions about sessions.
pub struct SessionAdminQuery;

#[Object]
impl SessionAdminQuery {
    /// Sessions of a domain, or of all.
    async fn list_sessions(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
    ) -> Nullable<Vec<Session>> {
        Some(list_sessions(ctx, domain))
    }

    /// How many sessions a domain has, or all of them.
    async fn count_sessions(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
    ) -> Nullable<usize> {
        Some(sessions_of(ctx, domain).map(|sessions| sessions.len()))
    }

    /// The sessions of an account.
    async fn list_user_sessions(&self, ctx: &Context<'_>, user: JidText) -> Nullable<Vec<Session>> {
        let sessions = sessions_of_user(ctx, &user.0).await;
        Some(sessions.and_then(|sessions| describe_all(ctx, &sessions)))
    }

    /// How many resources an account has bound.
    async fn count_user_resources(&self, ctx: &Context<'_>, user: JidText) -> Nullable<usize> {
        let sessions = sessions_of_user(ctx, &user.0).await;
        Some(sessions.map(|sessions| sessions.len()))
    }

    /// One of the resources of an account.
    async fn get_user_resource(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(desc = "Which, from 1 on, in the order of their names.")] number: PosInt,
    ) -> Nullable<ResourceName> {
        Some(get_user_resource(ctx, &user.0, number).await)
    }

    /// Sessions with that presence, of a domain or of all.
    async fn list_users_with_status(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
        #[graphql(desc = "available, away, chat, dnd or xa")] status: NonEmptyString,
    ) -> Nullable<Vec<UserStatus>> {
        Some(with_status(ctx, domain, &status.0))
    }

    /// How many sessions have that presence, of a domain or of all.
    async fn count_users_with_status(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
        #[graphql(desc = "available, away, chat, dnd or xa")] status: NonEmptyString,
    ) -> Nullable<usize> {
        Some(with_status(ctx, domain, &status.0).map(|users| users.len()))
    }
}

/// Changes of sessions.
pub struct SessionAdminMutation;

#[Object]
impl SessionAdminMutation {
    /// Ends a session.
    async fn kick_user_session(
        &self,
        ctx: &Context<'_>,
        user: FullJidText,
        #[graphql(desc = "Told to its client.")] reason: Option<String>,
    ) -> Nullable<KickUserResult> {
        Some(kick_user_session(ctx, &user, reason).await)
    }

    /// Ends all sessions of an account.
    async fn kick_user(
        &self,
        ctx: &Context<'_>,
        user: BareJidText,
        #[graphql(desc = "Told to its clients.")] reason: Option<String>,
    ) -> Nullable<Vec<KickUserResult>> {
        Some(kick_user(ctx, &user, reason).await)
    }

    /// Sets the presence of a session, as if its client had.
    async fn set_presence(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "With the resource of the session.")] user: JidText,
        #[graphql(name = "type")] kind: PresenceType,
        show: Option<PresenceShow>,
        status: Option<String>,
        #[graphql(desc = "From -128 to 127.")] priority: Option<i32>,
    ) -> Nullable<SessionPayload> {
        let wanted = Wanted {
            kind,
            show,
            status,
            priority,
        };
        Some(set_presence(ctx, user, &wanted).await)
    }
}

/// A session.
#[derive(SimpleObject)]
struct Session {
    /// Its full address.
    user: JidText,
    /// How it is connected.
    connection: Option<String>,
    /// From where.
    ip: Option<String>,
    /// From which port.
    port: Option<u16>,
    /// The priority of its presence; null if it is not available.
    priority: Option<i8>,
    /// The node that has it.
    node: Option<String>,
    /// For how many seconds it has been there.
    uptime: Option<u32>,
}

/// The presence of a session.
#[derive(SimpleObject)]
struct UserStatus {
    /// Its full address.
    user: JidText,
    /// Its priority.
    priority: Option<i8>,
    /// What its user says of it.
    text: Option<String>,
}

/// What became of a session that was to end.
#[derive(SimpleObject)]
struct KickUserResult {
    /// Its full address.
    jid: JidText,
    /// Whether it has ended.
    kicked: bool,
    /// Why it has not.
    code: Option<String>,
    /// The same in words.
    message: String,
}

/// What became of a session's presence.
#[derive(SimpleObject)]
struct SessionPayload {
    /// Its full address.
    jid: JidText,
    /// What was done.
    message: String,
}

/// A type of presence (RFC 6121 section 4.7.1).
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum PresenceType {
    /// It is there.
    Available,
    /// An answer to presence that did not arrive.
    Error,
    /// Asks for somebody's presence.
    Probe,
    /// Asks to see somebody's presence.
    Subscribe,
    /// Lets somebody see one's own.
    Subscribed,
    /// It is there no more.
    Unavailable,
    /// Does not want to see somebody's presence any more.
    Unsubscribe,
    /// Does not let somebody see one's own any more.
    Unsubscribed,
}

impl PresenceType {
    fn attribute(self) -> Option<&'static str> {
        match self {
            Self::Available => None,
            Self::Error => Some("error"),
            Self::Probe => Some("probe"),
            Self::Subscribe => Some("subscribe"),
            Self::Subscribed => Some("subscribed"),
            Self::Unavailable => Some("unavailable"),
            Self::Unsubscribe => Some("unsubscribe"),
            Self::Unsubscribed => Some("unsubscribed"),
        }
    }

    /// Everybody learns of these; the others are for somebody.
    fn is_broadcast(self) -> bool {
        matches!(self, Self::Available | Self::Unavailable)
    }
}

/// How available somebody is (RFC 6121 section 4.7.2.1).
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum PresenceShow {
    /// Simply there.
    Online,
    /// Away for a while.
    Away,
    /// Wants to chat.
    Chat,
    /// Does not want to be disturbed.
    Dnd,
    /// Away for long.
    Xa,
}

impl PresenceShow {
    fn text(self) -> Option<&'static str> {
        match self {
            Self::Online => None,
            Self::Away => Some("away"),
            Self::Chat => Some("chat"),
            Self::Dnd => Some("dnd"),
            Self::Xa => Some("xa"),
        }
    }
}

fn sessions_of(ctx: &Context<'_>, domain: Option<DomainName>) -> Result<Vec<SessionRef>, Problem> {
    let admin = admin(ctx)?;
    let mut sessions = match domain {
        None => admin.router.sessions.all(),
        Some(domain) => {
            admin.host(&domain.0)?;
            let is_of_it = |session: &SessionRef| session.jid().domain() == domain.0;
            let mut all = admin.router.sessions.all();
            all.retain(is_of_it);
            all
        }
    };
    sessions.sort_unstable_by(|a, b| a.jid().as_str().cmp(b.jid().as_str()));
    Ok(sessions)
}

fn list_sessions(ctx: &Context<'_>, domain: Option<DomainName>) -> Result<Vec<Session>, Problem> {
    let sessions = sessions_of(ctx, domain)?;
    describe_all(ctx, &sessions)
}

async fn sessions_of_user(ctx: &Context<'_>, user: &Jid) -> Result<Vec<SessionRef>, Problem> {
    let admin = admin(ctx)?;
    let account = session_owner(admin, user).await?;
    let mut sessions = admin.router.sessions.of_account(&account);
    sessions.sort_unstable_by(|a, b| a.jid().as_str().cmp(b.jid().as_str()));
    Ok(sessions)
}

/// An account that is stored, or one that exists for its session alone.
async fn session_owner(admin: &Arc<Admin>, user: &Jid) -> Result<String, Problem> {
    let account = user.bare_str().to_owned();
    let is_there = |sessions: &[SessionRef]| !sessions.is_empty();
    if !admin.router.sessions.with_account(&account, is_there) {
        admin.account(user, "user_not_found").await?;
    }
    Ok(account)
}

fn describe_all(ctx: &Context<'_>, sessions: &[SessionRef]) -> Result<Vec<Session>, Problem> {
    if sessions.len() > ROWS_MAX {
        return Err(too_many());
    }
    let now = admin(ctx)?.router.ledger.clock.now_secs();
    Ok(sessions
        .iter()
        .map(|session| describe(session, now))
        .collect())
}

fn describe(session: &SessionRef, now: u32) -> Session {
    let peer = session.socket().peer_addr().ok();
    let connection = if session.socket().is_pipe() {
        "bosh"
    } else if session.framing() == Framing::WebSocket {
        "websocket"
    } else if session.with_tls(|_| ()).is_some() {
        "c2s_tls"
    } else {
        "c2s"
    };
    Session {
        user: jid(session),
        connection: Some(connection.into()),
        ip: peer.map(|peer| peer.ip().to_canonical().to_string()),
        port: peer.as_ref().map(SocketAddr::port),
        priority: session.priority(),
        node: Some(NODE.into()),
        uptime: Some(now.saturating_sub(session.bound_at())),
    }
}

fn jid(session: &SessionRef) -> JidText {
    JidText(session.jid().as_jid().clone())
}

async fn get_user_resource(
    ctx: &Context<'_>,
    user: &Jid,
    number: PosInt,
) -> Result<ResourceName, Problem> {
    let sessions = sessions_of_user(ctx, user).await?;
    let index = usize::try_from(number.0 - 1).unwrap_or(usize::MAX);
    match sessions.get(index) {
        Some(session) => Ok(ResourceName(session.jid().resource().to_owned())),
        None => {
            let text = format!("the account has {} resources", sessions.len());
            let problem = Problem::new("wrong_res_number", text);
            Err(problem.with("user", user.as_str()).with("number", number.0))
        }
    }
}

fn with_status(
    ctx: &Context<'_>,
    domain: Option<DomainName>,
    status: &str,
) -> Result<Vec<UserStatus>, Problem> {
    let mut found = Vec::new();
    for session in sessions_of(ctx, domain)? {
        let Some(presence) = session.presence() else {
            continue;
        };
        let presence = presence.to_element();
        let text_of = |name| {
            let child = presence.child(name, ns::CLIENT);
            child.map(|child| child.text().trim().to_owned())
        };
        if text_of("show").as_deref().unwrap_or("available") != status {
            continue;
        }
        found.push(UserStatus {
            user: jid(&session),
            priority: session.priority(),
            text: Some(text_of("status").unwrap_or_default()),
        });
    }
    if found.len() > ROWS_MAX {
        return Err(too_many());
    }
    Ok(found)
}

/// What clients are told: as MongooseIM does, and so that they do not come back by themselves.
fn goodbye(reason: Option<String>) -> StreamError {
    let reason = reason.filter(|reason| !reason.is_empty());
    let mut reason = reason.unwrap_or_else(|| REASON_DEFAULT.into());
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    StreamError::new(StreamCondition::Conflict).with_text(reason)
}

async fn kick_user_session(
    ctx: &Context<'_>,
    user: &FullJidText,
    reason: Option<String>,
) -> Result<KickUserResult, Problem> {
    let admin = admin(ctx)?;
    session_owner(admin, user.0.as_jid()).await?;
    let Some(session) = admin.router.sessions.find(user.0.as_ref()) else {
        let text = "there is no such session";
        return Err(Problem::new("no_session", text).with("jid", user.0.as_str()));
    };
    Ok(kick_one(&session, &goodbye(reason)).await)
}

async fn kick_user(
    ctx: &Context<'_>,
    user: &BareJidText,
    reason: Option<String>,
) -> Result<Vec<KickUserResult>, Problem> {
    let sessions = sessions_of_user(ctx, user.0.as_jid()).await?;
    let error = goodbye(reason);
    let mut results = Vec::with_capacity(sessions.len());
    for session in &sessions {
        results.push(kick_one(session, &error).await);
    }
    Ok(results)
}

async fn kick_one(session: &SessionRef, error: &StreamError) -> KickUserResult {
    let kicked = kick(session, error, "kicked").await;
    let (code, message) = match kicked {
        true => (None, "Session kicked"),
        false => (Some("timeout".into()), "the session takes its time to end"),
    };
    KickUserResult {
        jid: jid(session),
        kicked,
        code,
        message: message.into(),
    }
}

/// A presence that a session is to have.
struct Wanted {
    kind: PresenceType,
    show: Option<PresenceShow>,
    status: Option<String>,
    priority: Option<i32>,
}

impl Wanted {
    fn stanza(&self, user: &Jid) -> Result<Stanza, Problem> {
        let refuse = |text: &str| Problem::new("invalid_presence", text).with("jid", user.as_str());
        let mut presence = Element::new("presence", ns::CLIENT).with_attr("from", user.as_str());
        presence.set_attr("type", self.kind.attribute());
        if !self.kind.is_broadcast() {
            presence.set_attr("to", Some(user.bare_str()));
        }
        let mut push = |name, text: &str| {
            presence.push(Element::new(name, ns::CLIENT).with_text(text));
        };
        if let Some(show) = self.show.and_then(PresenceShow::text) {
            push("show", show);
        }
        if let Some(status) = self.status.as_deref().filter(|status| !status.is_empty()) {
            if status.len() > REASON_BYTES_MAX {
                return Err(refuse("the status is too long"));
            }
            push("status", status);
        }
        if let Some(priority) = self.priority {
            if i8::try_from(priority).is_err() {
                return Err(refuse("the priority is a number from -128 to 127"));
            }
            push("priority", &priority.to_string());
        }
        Stanza::from_element(&presence)
            .map_err(|_| refuse("this has characters that are not allowed"))
    }
}

async fn set_presence(
    ctx: &Context<'_>,
    user: JidText,
    wanted: &Wanted,
) -> Result<SessionPayload, Problem> {
    let admin = admin(ctx)?;
    if user.0.is_bare() {
        let text = "the address has no resource: presence is of a session";
        return Err(Problem::new("empty_resource", text).with("jid", user.0.as_str()));
    }
    session_owner(admin, &user.0).await?;
    let stanza = wanted.stanza(&user.0)?;
    let gone = || {
        let text = "there is no such session";
        Problem::new("no_session", text).with("jid", user.0.as_str())
    };
    let session = admin.router.sessions.find(user.0.as_ref());
    let session = session.ok_or_else(gone)?;
    let (sender, done) = tokio::sync::oneshot::channel();
    session.order(Order::Presence(Box::new((stanza, sender))));
    // The sender is dropped by a session that ends meanwhile.
    done.await.map_err(|_| gone())?;
    Ok(SessionPayload {
        jid: user,
        message: "Presence set successfully".into(),
    })
}
