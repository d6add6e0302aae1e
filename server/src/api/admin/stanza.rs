//! Category `stanza`: sends as somebody, through the same router as everybody.
//!
//! A message for one of our accounts is committed as a row before it is routed, and the row stays until the message has
//! arrived or is stored elsewhere: what was answered with an id is safe.
use async_graphql::{Context, ID, Object, SimpleObject};
use protocol::stream::secure_id;
use protocol::{Element, Jid, Kind, Stanza, StanzaType, ns};

use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{DateTime, JidText, PosInt, XmlElement};
use crate::api::terms::{Admin, admin};
use crate::ledger::Origin;
use crate::router::{Delivery, Destination};
use crate::storage::in_flight::InFlight;

/// Bytes of a stanza: as much as a client may send.
const STANZA_BYTES_MAX: usize = 64 * 1024;

/// Questions about messages.
pub struct StanzaAdminQuery;

#[Object]
impl StanzaAdminQuery {
    /// The last messages of an account. There is no archive yet, so this answers with an error.
    async fn get_last_messages(
        &self,
        caller: JidText,
        with: Option<JidText>,
        #[graphql(default_with = "PosInt(50)")] limit: PosInt,
        before: Option<DateTime>,
    ) -> Nullable<StanzasPayload> {
        let _of_no_use = (with, limit, before);
        let modules = async_graphql::Value::List(vec!["mod_mam_pm".into()]);
        let problem = Problem::new(
            "deps_not_loaded",
            "this node keeps no archive of messages yet",
        )
        .with("not_loaded_modules", modules)
        .with("user", caller.0.as_str());
        Some(Err(problem))
    }
}

/// What is sent.
pub struct StanzaAdminMutation;

#[Object]
impl StanzaAdminMutation {
    /// Sends a chat message as an account.
    async fn send_message(
        &self,
        ctx: &Context<'_>,
        from: JidText,
        to: JidText,
        body: String,
    ) -> Nullable<SendStanzaPayload> {
        let children = [("body", Some(body))];
        Some(send_message(ctx, "chat", &from.0, &to.0, children).await)
    }

    /// Sends a headline message as an account: only to those who are there.
    async fn send_message_head_line(
        &self,
        ctx: &Context<'_>,
        from: JidText,
        to: JidText,
        subject: Option<String>,
        body: Option<String>,
    ) -> Nullable<SendStanzaPayload> {
        let children = [("subject", subject), ("body", body)];
        Some(send_message(ctx, "headline", &from.0, &to.0, children).await)
    }

    /// Sends a stanza as it is, as the account that it names as its sender.
    async fn send_stanza(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "With from and to.")] stanza: Option<XmlElement>,
    ) -> Nullable<SendStanzaPayload> {
        Some(send_stanza(ctx, stanza).await)
    }
}

/// What was sent.
#[derive(SimpleObject)]
struct SendStanzaPayload {
    /// The id of the stanza.
    id: Option<ID>,
}

/// Messages.
#[derive(SimpleObject)]
struct StanzasPayload {
    /// The newest last.
    stanzas: Option<Vec<Option<StanzaMap>>>,
    /// How many there are at most.
    limit: Option<u32>,
}

/// A message.
#[derive(SimpleObject)]
struct StanzaMap {
    /// Who has sent it.
    sender: Option<JidText>,
    /// When.
    timestamp: Option<DateTime>,
    /// Its id in the archive.
    #[graphql(name = "stanza_id")]
    stanza_id: Option<String>,
    /// The message itself.
    stanza: Option<XmlElement>,
}

async fn send_message<const N: usize>(
    ctx: &Context<'_>,
    kind: &str,
    from: &Jid,
    to: &Jid,
    children: [(&'static str, Option<String>); N],
) -> Result<SendStanzaPayload, Problem> {
    let mut message = Element::new("message", ns::CLIENT)
        .with_attr("type", kind)
        .with_attr("from", from.as_str())
        .with_attr("to", to.as_str());
    for (name, text) in children {
        if let Some(text) = text {
            message.push(Element::new(name, ns::CLIENT).with_text(&text));
        }
    }
    Box::pin(send(admin(ctx)?, message)).await
}

async fn send_stanza(
    ctx: &Context<'_>,
    stanza: Option<XmlElement>,
) -> Result<SendStanzaPayload, Problem> {
    let Some(XmlElement(element)) = stanza else {
        return Err(Problem::new("invalid_stanza", "there is no stanza"));
    };
    for (attribute, missing, invalid) in [
        ("from", "no_sender", "invalid_sender"),
        ("to", "no_recipient", "invalid_recipient"),
    ] {
        match element.attr(attribute).map(Jid::parse) {
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                let text = format!("the value of {attribute} is no address");
                return Err(Problem::new(invalid, text));
            }
            None => return Err(Problem::new(missing, format!("{attribute} is missing"))),
        }
    }
    Box::pin(send(admin(ctx)?, element)).await
}

/// Sends a stanza whose sender has to be an account of ours.
async fn send(admin: &Admin, mut element: Element) -> Result<SendStanzaPayload, Problem> {
    let id = match element.attr("id") {
        Some(id) => id.to_owned(),
        None => secure_id(),
    };
    element.set_attr("id", Some(&id));
    let refuse = |text: &str| Problem::new("invalid_stanza", text);
    let stanza = Stanza::from_element(&element)
        .map_err(|_| refuse("this is no message, presence or iq as it may be sent"))?;
    if stanza.bytes().len() > STANZA_BYTES_MAX {
        return Err(refuse("the stanza is too large"));
    }
    let Some(from) = stanza.from().map(|from| from.to_jid()) else {
        return Err(Problem::new("no_sender", "from is missing"));
    };
    let sender = admin.account(&from, "unknown_user").await;
    sender.map_err(|problem| problem.with("from", from.as_str()))?;
    route(admin, stanza).await?;
    Ok(SendStanzaPayload { id: Some(ID(id)) })
}

async fn route(admin: &Admin, stanza: Stanza) -> Result<(), Problem> {
    let mut route = admin.router.scope();
    route.is_first = true;
    let is_ours = stanza
        .to()
        .is_some_and(|to| matches!(admin.router.destination(to), Destination::Account(_)));
    let is_kept = is_ours
        && stanza.kind() == Kind::Message
        && !matches!(
            stanza.stanza_type(),
            StanzaType::Headline | StanzaType::Error
        );
    let mut token = None;
    if is_kept {
        let rows = admin.in_flight.insert(vec![InFlight::of(&stanza)]).await?;
        token = rows
            .first()
            .map(|row| admin.router.ledger.token_of_row(*row, Origin::ThisRun));
    }
    route.copy_sent(&stanza);
    Box::pin(route.route(Delivery { stanza, token })).await;
    route.batch.flush();
    Ok(())
}
