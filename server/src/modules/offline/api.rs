//! Category `offline` of the admin schema.
use std::sync::Arc;

use async_graphql::{Context, Object};

use super::Offline;
use super::store::{EXPIRED_MAX, OfflineStore, Quota};
use crate::api::terms::admin;
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{DomainName, PosInt};
use crate::stamp;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Changes of messages that wait for their receivers.
pub struct OfflineAdminMutation;

#[Object]
impl OfflineAdminMutation {
    /// Deletes messages for accounts of a domain that have expired.
    async fn delete_expired_messages(
        &self,
        ctx: &Context<'_>,
        domain: DomainName,
    ) -> Nullable<String> {
        Some(delete_expired(ctx, &domain.0).await)
    }

    /// Deletes messages for accounts of a domain that have waited for so many days.
    async fn delete_old_messages(
        &self,
        ctx: &Context<'_>,
        domain: DomainName,
        days: PosInt,
    ) -> Nullable<String> {
        Some(delete_old(ctx, &domain.0, &days).await)
    }
}

fn store(ctx: &Context<'_>, domain: &str) -> Result<OfflineStore, Problem> {
    let offline: Arc<Offline> = admin(ctx)?.part(domain, "mod_offline")?;
    Ok(OfflineStore::new(offline.db.clone(), Quota::default()))
}

/// A few at a time, so that nobody else waits long for the database.
async fn delete_expired(ctx: &Context<'_>, domain: &str) -> Result<String, Problem> {
    let store = store(ctx, domain)?;
    let now = stamp::now_us();
    let mut deleted = 0;
    loop {
        let count = store.remove_expired(domain, now).await?;
        deleted += count;
        if count < u64::from(EXPIRED_MAX) {
            return Ok(format!("Removed {deleted} messages"));
        }
    }
}

async fn delete_old(ctx: &Context<'_>, domain: &str, days: &PosInt) -> Result<String, Problem> {
    let store = store(ctx, domain)?;
    let before = stamp::now_us().saturating_sub(i64::from(days.0).saturating_mul(MICROS_PER_DAY));
    let mut deleted = 0;
    loop {
        let count = store.remove_old(domain, before).await?;
        deleted += count;
        if count < u64::from(EXPIRED_MAX) {
            return Ok(format!("Removed {deleted} messages"));
        }
    }
}
