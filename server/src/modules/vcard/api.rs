//! Category `vcard` of the admin schema. A vCard that is set here is kept as when its owner sets it.
use std::sync::Arc;

use async_graphql::{Context, Object};
use protocol::BareJid;

use self::types::{Vcard, VcardInput};
use super::Vcards;
use crate::api::terms::admin;
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::JidText;

mod types;

/// Questions about what accounts say of themselves.
pub struct VcardAdminQuery;

#[Object]
impl VcardAdminQuery {
    /// The vCard of an account.
    async fn get_vcard(&self, ctx: &Context<'_>, user: JidText) -> Nullable<Vcard> {
        Some(Box::pin(get_vcard(ctx, &user)).await)
    }
}

/// Changes of what accounts say of themselves.
pub struct VcardAdminMutation;

#[Object]
impl VcardAdminMutation {
    /// Keeps a vCard for an account, in place of the one it had.
    async fn set_vcard(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        vcard: VcardInput,
    ) -> Nullable<Vcard> {
        Some(Box::pin(set_vcard(ctx, &user, vcard)).await)
    }
}

async fn find(ctx: &Context<'_>, user: &JidText) -> Result<(Arc<Vcards>, BareJid), Problem> {
    let admin = admin(ctx)?;
    let (_, account) = admin.account(&user.0, "user_not_found").await?;
    let vcards = admin.part::<Vcards>(account.domain(), "mod_vcard")?;
    Ok((vcards, account))
}

async fn get_vcard(ctx: &Context<'_>, user: &JidText) -> Result<Vcard, Problem> {
    let (vcards, account) = find(ctx, user).await?;
    match vcards.store.load(&account).await? {
        Some(vcard) => Ok(Vcard::of(&vcard)),
        None => {
            let problem = Problem::new("vcard_not_found", "the account has no vCard");
            Err(problem.with("user", account.as_str()))
        }
    }
}

async fn set_vcard(ctx: &Context<'_>, user: &JidText, input: VcardInput) -> Result<Vcard, Problem> {
    let (vcards, account) = find(ctx, user).await?;
    let about = |problem: Problem| problem.with("user", account.as_str());
    let vcard = input.into_element().map_err(about)?;
    let set = vcards.set(&account, &vcard).await;
    set.map_err(|error| about(Problem::refused("internal", &error)))?;
    Ok(Vcard::of(&vcard))
}
