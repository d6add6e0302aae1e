//! Category `roster` of the admin schema. What is changed here is pushed to clients as when one of them changes it.
use std::sync::Arc;

use async_graphql::{Context, Enum, InputObject, Object, SimpleObject};
use protocol::{BareJid, StanzaError};

use super::store::{Edit, Item};
use super::subscription::{State, Subscription, SubscriptionType};
use super::{Roster, about};
use crate::api::terms::errors::{Nullable, Problem};
use crate::api::terms::scalars::JidText;
use crate::api::terms::{Admin, admin, check_list};

/// Pairs that one command puts into each other's rosters: each takes six transactions.
pub const PAIRS_MAX: usize = 1_000;

/// Questions about contacts.
pub struct RosterAdminQuery;

#[Object]
impl RosterAdminQuery {
    /// The contacts of an account, with those that have only asked to be one.
    async fn list_contacts(&self, ctx: &Context<'_>, user: JidText) -> Nullable<Vec<Contact>> {
        Some(list_contacts(ctx, &user).await)
    }

    /// One contact of an account.
    async fn get_contact(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contact: JidText,
    ) -> Nullable<Contact> {
        Some(get_contact(ctx, &user, &contact).await)
    }
}

/// Changes of contacts.
pub struct RosterAdminMutation;

#[Object]
impl RosterAdminMutation {
    /// Adds a contact to the roster of an account; nobody sees anybody's presence yet.
    async fn add_contact(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contact: JidText,
        name: Option<String>,
        groups: Option<Vec<String>>,
    ) -> Nullable<String> {
        let contact = Named::new(contact, name, groups);
        Some(add_contact(ctx, &user, contact).await)
    }

    /// Adds contacts to the roster of an account; nobody sees anybody's presence yet.
    async fn add_contacts(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contacts: Vec<ContactInput>,
    ) -> Nullable<Vec<Nullable<String>>> {
        Some(add_contacts(ctx, &user, contacts).await)
    }

    /// Does what a client does with a presence about a subscription.
    async fn subscription(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contact: JidText,
        action: SubAction,
    ) -> Nullable<String> {
        Some(subscription(ctx, &user, &contact, action).await)
    }

    /// Removes a contact, and what there is between it and the account.
    async fn delete_contact(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contact: JidText,
    ) -> Nullable<String> {
        Some(delete_contact(ctx, &user, &contact).await)
    }

    /// Removes contacts, and what there is between them and the account.
    async fn delete_contacts(
        &self,
        ctx: &Context<'_>,
        user: JidText,
        contacts: Vec<JidText>,
    ) -> Nullable<Vec<Nullable<String>>> {
        Some(delete_contacts(ctx, &user, &contacts).await)
    }

    /// Lets two accounts see each other's presence, or removes each from the other's roster.
    async fn set_mutual_subscription(
        &self,
        ctx: &Context<'_>,
        #[graphql(name = "userA")] user_a: JidText,
        #[graphql(name = "userB")] user_b: JidText,
        action: MutualSubAction,
    ) -> Nullable<String> {
        Some(set_mutual_subscription(ctx, user_a, user_b, action).await)
    }

    /// Lets an account and each of some others see each other's presence.
    async fn subscribe_to_all(
        &self,
        ctx: &Context<'_>,
        user: ContactInput,
        contacts: Vec<ContactInput>,
    ) -> Nullable<Vec<Nullable<String>>> {
        Some(subscribe_to_all(ctx, user, contacts).await)
    }

    /// Lets all of some accounts see each other's presence.
    async fn subscribe_all_to_all(
        &self,
        ctx: &Context<'_>,
        contacts: Vec<ContactInput>,
    ) -> Nullable<Vec<Nullable<String>>> {
        Some(subscribe_all_to_all(ctx, contacts).await)
    }
}

/// A contact to be.
#[derive(InputObject)]
struct ContactInput {
    /// Its address.
    jid: JidText,
    /// How it is called.
    name: String,
    /// The groups that it is put into.
    groups: Option<Vec<String>>,
}

/// A contact.
#[derive(SimpleObject)]
struct Contact {
    /// Its address.
    jid: JidText,
    /// How the account calls it.
    name: Option<String>,
    /// The groups that the account has put it into.
    groups: Option<Vec<String>>,
    /// Who sees whose presence.
    subscription: Option<ContactSub>,
    /// Who has asked, and waits.
    ask: Option<ContactAsk>,
}

/// Who sees whose presence.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum ContactSub {
    /// Nobody.
    None,
    /// Each sees the other's.
    Both,
    /// The contact sees the account's.
    From,
    /// The account sees the contact's.
    To,
}

/// Who has asked, and waits.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum ContactAsk {
    /// The account; not used.
    Subscribe,
    /// The account, to end it; not used.
    Unsubscribe,
    /// The contact.
    In,
    /// The account.
    Out,
    /// Each of them.
    Both,
    /// Nobody.
    None,
}

/// What an account does about a subscription.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum SubAction {
    /// It asks to see the contact's presence.
    Invite,
    /// It lets the contact see its own.
    Accept,
    /// It does not, or not any more.
    Decline,
    /// It does not want to see the contact's presence any more.
    Cancel,
}

/// What two accounts are to each other.
#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum MutualSubAction {
    /// Contacts that see each other's presence.
    Connect,
    /// Nothing.
    Disconnect,
}

impl From<SubAction> for SubscriptionType {
    fn from(action: SubAction) -> Self {
        match action {
            SubAction::Invite => Self::Subscribe,
            SubAction::Accept => Self::Subscribed,
            SubAction::Decline => Self::Unsubscribed,
            SubAction::Cancel => Self::Unsubscribe,
        }
    }
}

impl Contact {
    fn of(item: Item) -> Self {
        Self {
            jid: JidText(item.jid),
            name: Some(item.name),
            groups: Some(item.groups),
            subscription: Some(ContactSub::of(item.contact.state)),
            ask: Some(ContactAsk::of(item.contact.state)),
        }
    }
}

impl ContactSub {
    fn of(state: State) -> Self {
        match state.subscription() {
            Subscription::None => Self::None,
            Subscription::To => Self::To,
            Subscription::From => Self::From,
            Subscription::Both => Self::Both,
        }
    }
}

impl ContactAsk {
    fn of(state: State) -> Self {
        match (state.is_pending_in(), state.is_pending_out()) {
            (false, false) => Self::None,
            (true, false) => Self::In,
            (false, true) => Self::Out,
            (true, true) => Self::Both,
        }
    }
}

/// An address with what its contacts are to call it.
#[derive(Clone)]
struct Named {
    jid: JidText,
    name: String,
    groups: Vec<String>,
}

impl Named {
    fn new(jid: JidText, name: Option<String>, groups: Option<Vec<String>>) -> Self {
        Self {
            jid,
            name: name.unwrap_or_default(),
            groups: groups.unwrap_or_default(),
        }
    }
}

impl From<ContactInput> for Named {
    fn from(input: ContactInput) -> Self {
        Self::new(input.jid, Some(input.name), input.groups)
    }
}

/// An account whose roster is read or changed.
struct Owner<'a> {
    admin: &'a Arc<Admin>,
    roster: Arc<Roster>,
    account: BareJid,
}

impl<'a> Owner<'a> {
    async fn find(admin: &'a Arc<Admin>, user: &JidText) -> Result<Self, Problem> {
        let domain = user.0.domain();
        if admin.router.host(domain).is_none() {
            let text = "this node does not serve that domain";
            return Err(Problem::new("unknown_domain", text).with("user", user.0.as_str()));
        }
        let roster = admin.part::<Roster>(domain, "mod_roster")?;
        let (_, account) = admin.account(&user.0, "user_not_exist").await?;
        Ok(Self {
            admin,
            roster,
            account,
        })
    }

    fn problem(&self, contact: &BareJid, code: &'static str, text: &str) -> Problem {
        Problem::new(code, text)
            .with("user", self.account.as_str())
            .with("contact", contact.as_str())
    }

    fn refused(&self, contact: &BareJid, error: &StanzaError) -> Problem {
        Problem::refused("internal", error)
            .with("user", self.account.as_str())
            .with("contact", contact.as_str())
    }

    async fn add(&self, contact: &Named) -> Result<String, Problem> {
        let jid = contact.jid.0.to_bare();
        if self.admin.router.host(jid.domain()).is_some() {
            self.admin.account(&contact.jid.0, "user_not_exist").await?;
        }
        if jid == self.account {
            return Err(self.problem(&jid, "internal", "nobody is a contact of oneself"));
        }
        let edit = Edit::new(contact.name.clone(), contact.groups.clone());
        let edit = edit.map_err(|error| self.problem(&jid, "internal", &error.to_string()))?;
        let mut route = self.admin.router.scope();
        let put = self
            .roster
            .put(&mut route, &self.account, jid.as_jid(), edit);
        let put = Box::pin(put).await;
        route.batch.flush();
        put.map_err(|error| self.refused(&jid, &error))?;
        Ok("Contact added successfully".into())
    }

    async fn delete(&self, contact: &JidText) -> Result<String, Problem> {
        let jid = contact.0.to_bare();
        let item = self.roster.store.load_item(&self.account, jid.as_jid());
        if !item.await?.is_some_and(|item| item.contact.listed) {
            let text = "there is no such contact";
            return Err(self.problem(&jid, "contact_not_found", text));
        }
        let mut route = self.admin.router.scope();
        let removed = self.roster.remove(&mut route, &self.account, jid.as_jid());
        let removed = Box::pin(removed).await;
        route.batch.flush();
        removed.map_err(|error| self.refused(&jid, &error))?;
        Ok(format!("Contact {} deleted successfully", jid.as_str()))
    }

    async fn subscribe(
        &self,
        contact: &JidText,
        kind: SubscriptionType,
    ) -> Result<String, Problem> {
        let jid = contact.0.to_bare();
        let Some(stanza) = about(kind, &self.account, &jid).filter(|_| jid != self.account) else {
            return Err(self.problem(&jid, "internal", "nobody is a contact of oneself"));
        };
        let mut route = self.admin.router.scope();
        let done = self
            .roster
            .subscribe(&mut route, &self.account, &jid, kind, &stanza);
        let done = Box::pin(done).await;
        route.batch.flush();
        done?.map_err(|error| self.refused(&jid, &error))?;
        let kind = kind.as_str();
        Ok(format!(
            "Subscription stanza with type {kind} sent successfully"
        ))
    }
}

async fn list_contacts(ctx: &Context<'_>, user: &JidText) -> Result<Vec<Contact>, Problem> {
    let owner = Owner::find(admin(ctx)?, user).await?;
    let roster = owner.roster.store.load(&owner.account).await?;
    Ok(roster.items.into_iter().map(Contact::of).collect())
}

async fn get_contact(
    ctx: &Context<'_>,
    user: &JidText,
    contact: &JidText,
) -> Result<Contact, Problem> {
    let owner = Owner::find(admin(ctx)?, user).await?;
    let jid = contact.0.to_bare();
    let item = owner.roster.store.load_item(&owner.account, jid.as_jid());
    match item.await? {
        Some(item) => Ok(Contact::of(item)),
        None => Err(owner.problem(&jid, "contact_not_found", "there is no such contact")),
    }
}

async fn add_contact(ctx: &Context<'_>, user: &JidText, contact: Named) -> Result<String, Problem> {
    let owner = Owner::find(admin(ctx)?, user).await?;
    owner.add(&contact).await
}

async fn add_contacts(
    ctx: &Context<'_>,
    user: &JidText,
    contacts: Vec<ContactInput>,
) -> Result<Vec<Nullable<String>>, Problem> {
    check_list(&contacts)?;
    let owner = Owner::find(admin(ctx)?, user).await?;
    let mut done = Vec::with_capacity(contacts.len());
    for contact in contacts {
        done.push(Some(owner.add(&contact.into()).await));
    }
    Ok(done)
}

async fn subscription(
    ctx: &Context<'_>,
    user: &JidText,
    contact: &JidText,
    action: SubAction,
) -> Result<String, Problem> {
    let owner = Owner::find(admin(ctx)?, user).await?;
    owner.subscribe(contact, action.into()).await
}

async fn delete_contact(
    ctx: &Context<'_>,
    user: &JidText,
    contact: &JidText,
) -> Result<String, Problem> {
    let owner = Owner::find(admin(ctx)?, user).await?;
    owner.delete(contact).await
}

async fn delete_contacts(
    ctx: &Context<'_>,
    user: &JidText,
    contacts: &[JidText],
) -> Result<Vec<Nullable<String>>, Problem> {
    check_list(contacts)?;
    let owner = Owner::find(admin(ctx)?, user).await?;
    let mut done = Vec::with_capacity(contacts.len());
    for contact in contacts {
        done.push(Some(owner.delete(contact).await));
    }
    Ok(done)
}

async fn set_mutual_subscription(
    ctx: &Context<'_>,
    user_a: JidText,
    user_b: JidText,
    action: MutualSubAction,
) -> Result<String, Problem> {
    let admin = admin(ctx)?;
    match action {
        MutualSubAction::Connect => {
            let named = |jid| Named::new(jid, None, None);
            connect(admin, &named(user_a), &named(user_b)).await
        }
        MutualSubAction::Disconnect => {
            Owner::find(admin, &user_a).await?.delete(&user_b).await?;
            Owner::find(admin, &user_b).await?.delete(&user_a).await?;
            Ok("Mutual subscription removed successfully".into())
        }
    }
}

/// Both are asked and both accept, in the order in which clients would: what fails leaves what was done before.
async fn connect(admin: &Arc<Admin>, one: &Named, other: &Named) -> Result<String, Problem> {
    let first = Owner::find(admin, &one.jid).await?;
    let second = Owner::find(admin, &other.jid).await?;
    first.add(other).await?;
    second.add(one).await?;
    for kind in [SubscriptionType::Subscribe, SubscriptionType::Subscribed] {
        first.subscribe(&other.jid, kind).await?;
        second.subscribe(&one.jid, kind).await?;
    }
    let (one, other) = (&first.account, &second.account);
    Ok(format!(
        "Subscription between users {} and {} created successfully",
        one.as_str(),
        other.as_str()
    ))
}

async fn subscribe_to_all(
    ctx: &Context<'_>,
    user: ContactInput,
    contacts: Vec<ContactInput>,
) -> Result<Vec<Nullable<String>>, Problem> {
    check_list(&contacts)?;
    let (admin, user) = (admin(ctx)?, Named::from(user));
    let mut done = Vec::with_capacity(contacts.len());
    for contact in contacts {
        done.push(Some(connect(admin, &user, &contact.into()).await));
    }
    Ok(done)
}

async fn subscribe_all_to_all(
    ctx: &Context<'_>,
    contacts: Vec<ContactInput>,
) -> Result<Vec<Nullable<String>>, Problem> {
    let admin = admin(ctx)?;
    let all: Vec<Named> = contacts.into_iter().map(Named::from).collect();
    let pairs = all.len().saturating_mul(all.len().saturating_sub(1)) / 2;
    if pairs > PAIRS_MAX {
        let text = format!("this would be {pairs} pairs, of at most {PAIRS_MAX}");
        return Err(Problem::new("too_many_items", text));
    }
    let mut done = Vec::with_capacity(pairs);
    for (index, one) in all.iter().enumerate() {
        for other in all.iter().skip(index + 1) {
            done.push(Some(connect(admin, one, other).await));
        }
    }
    Ok(done)
}
