//! Category `private` of the admin schema.
use std::sync::Arc;

use async_graphql::{Context, Object};
use protocol::{BareJid, Element, StanzaError};

use super::{Private, only_element};
use crate::api::terms::admin;
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{JidText, NonEmptyString, XmlElement};

/// Questions about what accounts keep for their clients.
pub struct PrivateAdminQuery;

#[Object]
impl PrivateAdminQuery {
    /// What an account keeps in a namespace; an empty element if it is nothing.
    async fn get_private(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(desc = "The name of the element.")] element: String,
        name_space: NonEmptyString,
    ) -> Nullable<XmlElement> {
        Some(get_private(ctx, &user, &element, name_space.0).await)
    }
}

/// Changes of what accounts keep for their clients.
pub struct PrivateAdminMutation;

#[Object]
impl PrivateAdminMutation {
    /// Keeps an element for an account, in place of the one it had in that namespace.
    async fn set_private(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(desc = "An element with a namespace of its own.")] element_string: XmlElement,
    ) -> Nullable<XmlElement> {
        Some(set_private(ctx, &user, element_string).await)
    }
}

async fn find(ctx: &Context<'_>, user: &JidText) -> Result<(Arc<Private>, BareJid), Problem> {
    let admin = admin(ctx)?;
    let (_, account) = admin.account(&user.0, "not_found").await?;
    let private = admin.part::<Private>(account.domain(), "mod_private")?;
    Ok((private, account))
}

/// What a client would be told.
fn refused(account: &BareJid, error: &StanzaError) -> Problem {
    Problem::refused("invalid_element", error).with("user", account.as_str())
}

/// As clients wrap it.
fn query(element: Element) -> Element {
    Element::new("query", protocol::ns::PRIVATE).with_child(element)
}

async fn get_private(
    ctx: &Context<'_>,
    user: &JidText,
    name: &str,
    namespace: String,
) -> Result<XmlElement, Problem> {
    let (private, account) = find(ctx, user).await?;
    // A name that is none would be written as it is.
    let written = format!("<{name} xmlns='x'/>");
    let is_name = Element::parse(written.as_bytes(), "")
        .is_ok_and(|element| element.name() == name && element.attributes().is_empty());
    if !is_name {
        let text = "that is no name of an element";
        return Err(Problem::new("invalid_element", text).with("user", account.as_str()));
    }
    let asked = query(Element::new(name, namespace));
    let asked = only_element(&asked).map_err(|error| refused(&account, &error))?;
    let answer = private.get(&account, asked).await;
    let answer = answer.map_err(|error| refused(&account, &error))?;
    let kept = answer
        .as_ref()
        .and_then(|answer| answer.elements().next().cloned());
    // It always answers with an element.
    Ok(XmlElement(kept.unwrap_or_else(|| asked.clone())))
}

async fn set_private(
    ctx: &Context<'_>,
    user: &JidText,
    XmlElement(element): XmlElement,
) -> Result<XmlElement, Problem> {
    let (private, account) = find(ctx, user).await?;
    let wrapped = query(element);
    let element = only_element(&wrapped).map_err(|error| refused(&account, &error))?;
    let set = private.set(&account, element).await;
    set.map_err(|error| refused(&account, &error))?;
    Ok(XmlElement(element.clone()))
}
