//! Category `last` of the admin schema.
use std::sync::Arc;

use async_graphql::{Context, Object, SimpleObject};
use protocol::BareJid;

use super::store::{LastStore, OLD_PAGE_MAX, STATUS_BYTES_MAX, Seen};
use super::{Last, MICROS_PER_SEC, now};
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{DateTime, DomainName, JidText};
use crate::api::terms::{Admin, ROWS_MAX, admin, too_many};

/// Questions about when accounts were there.
pub struct LastAdminQuery;

#[Object]
impl LastAdminQuery {
    /// When an account was last there, and with which words it left.
    async fn get_last(&self, ctx: &Context<'_>, user: JidText) -> Nullable<LastActivity> {
        Some(get_last(ctx, user).await)
    }

    /// How many accounts of a domain have left since a time.
    async fn count_active_users(
        &self,
        ctx: &Context<'_>,
        domain: DomainName,
        #[graphql(desc = "Now, if it is left out.")] timestamp: Option<DateTime>,
    ) -> Nullable<u64> {
        Some(count_active_users(ctx, &domain.0, timestamp).await)
    }

    /// Accounts that are not there and have not been since a time, or never: of a domain, or of all.
    async fn list_old_users(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
        timestamp: DateTime,
    ) -> Nullable<Vec<OldUser>> {
        Some(list_old_users(ctx, domain, &timestamp).await)
    }
}

/// Changes of when accounts were there.
pub struct LastAdminMutation;

#[Object]
impl LastAdminMutation {
    /// Sets when an account was last there, and with which words it left.
    async fn set_last(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(desc = "Now, if it is left out.")] timestamp: Option<DateTime>,
        status: String,
    ) -> Nullable<LastActivity> {
        Some(set_last(ctx, user, timestamp, status).await)
    }

    /// Removes the accounts that listOldUsers would list.
    async fn remove_old_users(
        &self,
        ctx: &Context<'_>,
        domain: Option<DomainName>,
        timestamp: DateTime,
    ) -> Nullable<Vec<OldUser>> {
        Some(remove_old_users(ctx, domain, &timestamp).await)
    }
}

/// When an account was last there.
#[derive(SimpleObject)]
struct LastActivity {
    /// The account.
    user: JidText,
    /// When.
    timestamp: DateTime,
    /// With which words it left.
    status: String,
}

/// An account that has not been there for long.
#[derive(SimpleObject)]
struct OldUser {
    /// The account.
    jid: JidText,
    /// When it was last there; null: never.
    timestamp: Option<DateTime>,
}

/// Seconds as they are kept, of microseconds.
fn seconds(timestamp: &DateTime) -> i64 {
    timestamp.0.div_euclid(MICROS_PER_SEC)
}

fn date_time(seconds: i64) -> DateTime {
    DateTime(seconds.saturating_mul(MICROS_PER_SEC))
}

async fn find<'a>(
    ctx: &Context<'a>,
    user: &JidText,
) -> Result<(&'a Arc<Admin>, Arc<Last>, BareJid), Problem> {
    let admin = admin(ctx)?;
    let (_, account) = admin.account(&user.0, "user_does_not_exist").await?;
    let last = admin.part::<Last>(account.domain(), "mod_last")?;
    Ok((admin, last, account))
}

async fn get_last(ctx: &Context<'_>, user: JidText) -> Result<LastActivity, Problem> {
    let (_, last, account) = find(ctx, &user).await?;
    match last.store.load(&account).await? {
        Some(seen) => Ok(LastActivity {
            user,
            timestamp: date_time(seen.at),
            status: seen.status,
        }),
        None => {
            let text = "the account has not left yet";
            Err(Problem::new("last_not_found", text).with("user", user.0.as_str()))
        }
    }
}

async fn count_active_users(
    ctx: &Context<'_>,
    domain: &str,
    timestamp: Option<DateTime>,
) -> Result<u64, Problem> {
    let last = admin(ctx)?.part::<Last>(domain, "mod_last")?;
    let since = timestamp.map_or_else(now, |timestamp| seconds(&timestamp));
    Ok(last.store.count_active(domain, since).await?)
}

async fn list_old_users(
    ctx: &Context<'_>,
    domain: Option<DomainName>,
    timestamp: &DateTime,
) -> Result<Vec<OldUser>, Problem> {
    let admin = admin(ctx)?;
    let mut old = Vec::new();
    for domain in domains(admin, domain)? {
        // Of all domains, those that keep it.
        let Ok(last) = admin.part::<Last>(&domain, "mod_last") else {
            continue;
        };
        list_of_domain(admin, &last.store, &domain, seconds(timestamp), &mut old).await?;
    }
    Ok(old)
}

/// The domain that is named, which has to keep when accounts were there; or all.
fn domains(admin: &Admin, domain: Option<DomainName>) -> Result<Vec<String>, Problem> {
    match domain {
        Some(DomainName(domain)) => {
            admin.part::<Last>(&domain, "mod_last")?;
            Ok(vec![domain])
        }
        None => Ok(admin.router.domains()),
    }
}

async fn list_of_domain(
    admin: &Admin,
    store: &LastStore,
    domain: &str,
    since: i64,
    old: &mut Vec<OldUser>,
) -> Result<(), Problem> {
    let mut after = String::new();
    loop {
        let page = store.list_old(domain, &after, since).await?;
        let is_last = page.len() < usize::try_from(OLD_PAGE_MAX).unwrap_or(usize::MAX);
        for account in page {
            let jid = format!("{}@{domain}", account.username);
            after = account.username;
            let is_there = admin
                .router
                .sessions
                .with_account(&jid, |sessions| !sessions.is_empty());
            let Some(jid) = protocol::Jid::parse(&jid).ok().filter(|_| !is_there) else {
                continue;
            };
            old.push(OldUser {
                jid: JidText(jid),
                timestamp: account.at.map(date_time),
            });
        }
        if old.len() > ROWS_MAX {
            return Err(too_many());
        }
        if is_last {
            return Ok(());
        }
    }
}

async fn set_last(
    ctx: &Context<'_>,
    user: JidText,
    timestamp: Option<DateTime>,
    status: String,
) -> Result<LastActivity, Problem> {
    let (_, last, account) = find(ctx, &user).await?;
    if status.len() > STATUS_BYTES_MAX {
        let text = format!("a status has at most {STATUS_BYTES_MAX} bytes");
        return Err(Problem::new("invalid_status", text).with("user", user.0.as_str()));
    }
    let at = timestamp.map_or_else(now, |timestamp| seconds(&timestamp));
    let seen = Seen {
        at,
        status: status.clone(),
    };
    last.store.set(&account, seen).await?;
    Ok(LastActivity {
        user,
        timestamp: date_time(at),
        status,
    })
}

/// One after the other: after an error, those before it are removed.
async fn remove_old_users(
    ctx: &Context<'_>,
    domain: Option<DomainName>,
    timestamp: &DateTime,
) -> Result<Vec<OldUser>, Problem> {
    let admin = admin(ctx)?;
    let old = list_old_users(ctx, domain, timestamp).await?;
    for user in &old {
        let account = user.jid.0.to_bare();
        let host = admin.host(account.domain())?;
        let mut route = admin.router.scope();
        let removed = Box::pin(route.remove_account(&host, &account, None)).await;
        route.batch.flush();
        removed.map_err(|error| {
            Problem::refused("not_removed", &error).with("jid", account.as_str())
        })?;
    }
    Ok(old)
}
