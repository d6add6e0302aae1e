//! Category `account`.
use async_graphql::{Context, Object, SimpleObject};
use protocol::stream::secure_id;
use protocol::{BareJid, StreamCondition, StreamError};

use super::import::{self, ImportPayload};
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::{
    DomainName, JidText, NonEmptyString, NonNegInt, PosInt, UserName,
};
use crate::api::terms::{ROWS_MAX, Rights, UserPayload, Via, admin, too_many};
use crate::auth::RegisterError;
use crate::host::kick_all;
use crate::stamp;
use crate::storage::accounts::LIST_MAX;

/// Questions about accounts.
pub struct AccountAdminQuery;

#[Object]
impl AccountAdminQuery {
    /// The accounts of a domain, in order of their names.
    async fn list_users(
        &self,
        ctx: &Context<'_>,
        domain: DomainName,
        #[graphql(desc = "How many at most.")] limit: Option<PosInt>,
        #[graphql(desc = "How many are left out at the beginning.")] index: Option<NonNegInt>,
    ) -> Nullable<Vec<String>> {
        Some(list_users(ctx, &domain.0, limit, index).await)
    }

    /// How many accounts a domain has.
    async fn count_users(&self, ctx: &Context<'_>, domain: DomainName) -> Nullable<u64> {
        Some(count_users(ctx, &domain.0).await)
    }

    /// Whether that is the password of the account.
    async fn check_password(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(secret)] password: String,
    ) -> Nullable<CheckPasswordPayload> {
        Some(check_password(ctx, &user, &password).await)
    }

    /// Whether that is the hash of the account's password. Passwords are kept as SCRAM keys, so no other hash can be
    /// compared.
    async fn check_password_hash(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(secret)] password_hash: String,
        #[graphql(desc = "md5 or sha")] hash_method: String,
    ) -> Nullable<CheckPasswordPayload> {
        drop(password_hash);
        Some(check_password_hash(ctx, &user, &hash_method).await)
    }

    /// Whether an account exists.
    async fn check_user(&self, ctx: &Context<'_>, user: JidText) -> Nullable<CheckUserPayload> {
        Some(check_user(ctx, &user).await)
    }
}

/// Changes of accounts.
pub struct AccountAdminMutation;

#[Object]
impl AccountAdminMutation {
    /// Makes an account.
    async fn register_user(
        &self,
        ctx: &Context<'_>,
        domain: DomainName,
        #[graphql(desc = "Without it a name is made up.")] username: Option<UserName>,
        #[graphql(secret)] password: String,
    ) -> Nullable<UserPayload> {
        Some(register_user(ctx, &domain.0, username, &password).await)
    }

    /// Removes an account with everything that belongs to it, and ends its sessions.
    async fn remove_user(&self, ctx: &Context<'_>, user: JidText) -> Nullable<UserPayload> {
        Some(remove_user(ctx, &user).await)
    }

    /// Gives an account a password that nobody knows, and ends its sessions.
    async fn ban_user(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(desc = "Told to its clients.")] reason: String,
    ) -> Nullable<UserPayload> {
        Some(ban_user(ctx, &user, &reason).await)
    }

    /// Changes the password of an account. Its sessions go on.
    async fn change_user_password(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        #[graphql(secret)] new_password: String,
    ) -> Nullable<UserPayload> {
        Some(change_user_password(ctx, &user, &new_password).await)
    }

    /// Makes accounts from a file on the node's machine, a line each: username,domain,password.
    async fn import_users(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its path on the node's machine.")] filename: NonEmptyString,
    ) -> Nullable<ImportPayload> {
        Some(import_users(ctx, filename.0).await)
    }
}

/// Whether a password is right.
#[derive(SimpleObject)]
struct CheckPasswordPayload {
    /// Whether it is.
    correct: bool,
    /// The same in words.
    message: String,
}

/// Whether an account exists.
#[derive(SimpleObject)]
struct CheckUserPayload {
    /// Whether it does.
    exist: bool,
    /// The same in words.
    message: String,
}

async fn list_users(
    ctx: &Context<'_>,
    domain: &str,
    limit: Option<PosInt>,
    index: Option<NonNegInt>,
) -> Result<Vec<String>, Problem> {
    let host = admin(ctx)?.host(domain)?;
    let limit = limit.map(|limit| usize::try_from(limit.0).unwrap_or(usize::MAX));
    let mut offset = index.map_or(0, |index| u64::from(index.0));
    let mut users = Vec::new();
    loop {
        let wanted = limit.map_or(ROWS_MAX + 1, |limit| limit.min(ROWS_MAX + 1)) - users.len();
        let page = u32::try_from(wanted).unwrap_or(LIST_MAX).min(LIST_MAX);
        if page == 0 {
            break;
        }
        let names = host.auth.store().list(domain, page, offset).await?;
        let is_last = names.len() < usize::try_from(page).unwrap_or(usize::MAX);
        offset += u64::from(page);
        users.extend(names.iter().map(|name| format!("{name}@{domain}")));
        if is_last {
            break;
        }
    }
    if users.len() > ROWS_MAX {
        return Err(too_many());
    }
    Ok(users)
}

async fn count_users(ctx: &Context<'_>, domain: &str) -> Result<u64, Problem> {
    let host = admin(ctx)?.host(domain)?;
    Ok(host.auth.store().count(domain).await?)
}

async fn check_password(
    ctx: &Context<'_>,
    user: &JidText,
    password: &str,
) -> Result<CheckPasswordPayload, Problem> {
    let (host, account) = admin(ctx)?.account(&user.0, "user_does_not_exist").await?;
    let correct = host.auth.check_password(&account, password).await?;
    let word = if correct { "correct" } else { "incorrect" };
    Ok(CheckPasswordPayload {
        correct,
        message: format!("the password of {} is {word}", account.as_str()),
    })
}

async fn check_password_hash(
    ctx: &Context<'_>,
    user: &JidText,
    hash_method: &str,
) -> Result<CheckPasswordPayload, Problem> {
    if !["md5", "sha"].contains(&hash_method) {
        let text = format!("{hash_method:?} is no method: md5 and sha are");
        return Err(Problem::new("wrong_method", text).with("jid", user.0.as_str()));
    }
    let (_, account) = admin(ctx)?.account(&user.0, "wrong_user").await?;
    let text =
        "passwords are kept as SCRAM keys, with which no hash can be compared: use checkPassword";
    Err(Problem::new("wrong_user", text).with("jid", account.as_str()))
}

async fn check_user(ctx: &Context<'_>, user: &JidText) -> Result<CheckUserPayload, Problem> {
    let found = admin(ctx)?.account(&user.0, "user_does_not_exist").await;
    let account = user.0.bare_str();
    match found {
        Ok(_) => Ok(CheckUserPayload {
            exist: true,
            message: format!("the account {account} exists"),
        }),
        Err(problem) if problem.code() == "user_does_not_exist" => Ok(CheckUserPayload {
            exist: false,
            message: format!("the account {account} does not exist"),
        }),
        Err(problem) => Err(problem),
    }
}

async fn register_user(
    ctx: &Context<'_>,
    domain: &str,
    username: Option<UserName>,
    password: &str,
) -> Result<UserPayload, Problem> {
    let name = username.map_or_else(made_up_name, |name| name.0);
    let account = BareJid::from_parts(Some(&name), domain).map_err(|error| {
        Problem::new("invalid_jid", error.to_string()).with("jid", format!("{name}@{domain}"))
    })?;
    let named = |problem: Problem| problem.with("jid", account.as_str());
    let host = admin(ctx)?.router.host(domain);
    let host = host.ok_or_else(|| {
        let text = "this node does not serve that domain";
        named(Problem::new("cannot_register", text))
    })?;
    match host.auth.register(&account, password).await {
        Ok(()) => Ok(payload(&account, "successfully registered")),
        Err(RegisterError::Exists) => {
            let text = format!("the account {} exists already", account.as_str());
            Err(named(Problem::new("exists", text)))
        }
        Err(RegisterError::NotStored) => Err(named(Problem::new(
            "cannot_register",
            RegisterError::NotStored.to_string(),
        ))),
        Err(error) => Err(named(error.into())),
    }
}

/// Nobody else gets that name.
fn made_up_name() -> String {
    format!("{:x}-{}", stamp::now_us(), secure_id().to_lowercase())
}

fn payload(account: &BareJid, what: &str) -> UserPayload {
    UserPayload {
        jid: JidText(account.as_jid().clone()),
        message: format!("User {} {what}", account.as_str()),
    }
}

async fn remove_user(ctx: &Context<'_>, user: &JidText) -> Result<UserPayload, Problem> {
    let admin = admin(ctx)?;
    let (host, account) = admin.account(&user.0, "not_allowed").await?;
    let mut route = admin.router.scope();
    let removed = Box::pin(route.remove_account(&host, &account, None)).await;
    route.batch.flush();
    match removed {
        Ok(true) => Ok(payload(&account, "was removed")),
        Ok(false) => {
            let text = "there is no such account";
            Err(Problem::new("not_allowed", text).with("jid", account.as_str()))
        }
        Err(error) => Err(Problem::refused("not_removed", &error)),
    }
}

async fn ban_user(ctx: &Context<'_>, user: &JidText, reason: &str) -> Result<UserPayload, Problem> {
    let admin = admin(ctx)?;
    let (host, account) = admin.account(&user.0, "user_does_not_exist").await?;
    // The password first: who is sent away comes back at once.
    let nobody_knows = format!("BANNED_ACCOUNT--{}--{}", secure_id(), secure_id());
    if !host.auth.set_password(&account, &nobody_knows).await? {
        let text = "there is no such account";
        return Err(Problem::new("user_does_not_exist", text).with("jid", account.as_str()));
    }
    let error = StreamError::new(StreamCondition::NotAuthorized).with_text(reason.to_owned());
    kick_all(&admin.router, &account, &error, "banned").await;
    Ok(payload(&account, &format!("was banned: {reason}")))
}

async fn change_user_password(
    ctx: &Context<'_>,
    user: &JidText,
    password: &str,
) -> Result<UserPayload, Problem> {
    let (host, account) = admin(ctx)?.account(&user.0, "not_allowed").await?;
    let named = |problem: Problem| problem.with("jid", account.as_str());
    let set = host.auth.set_password(&account, password).await;
    if !set.map_err(|error| named(error.into()))? {
        return Err(named(Problem::new(
            "not_allowed",
            "there is no such account",
        )));
    }
    Ok(payload(&account, "has the new password"))
}

/// Over HTTP the answer does not wait: nobody keeps a connection open for so long.
async fn import_users(ctx: &Context<'_>, filename: String) -> Result<ImportPayload, Problem> {
    let admin = admin(ctx)?;
    let is_http = ctx
        .data::<Rights>()
        .is_ok_and(|rights| rights.via == Via::Http);
    if !is_http {
        return import::run(&admin.router, &filename).await;
    }
    import::check(&filename).await?;
    let router = admin.router.clone();
    admin.tasks.spawn("import", async move {
        match import::run(&router, &filename).await {
            Ok(report) => tracing::info!(status = report.status, "accounts were imported"),
            Err(problem) => {
                tracing::error!(error = problem.message(), "accounts could not be imported");
            }
        }
    });
    Ok(ImportPayload::scheduled())
}
