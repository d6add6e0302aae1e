//! RFC 6121 section 3 and appendix A: what a presence subscription stanza does, decided without I/O.
//!
//! The tables of appendix A are [`State::outbound`] and [`State::inbound`]; [`outbound`] and [`inbound`] add
//! pre-approval (section 3.4), what the roster shows and what is sent along. A contact that is not in the roster is
//! [`Contact::UNKNOWN`].
use protocol::StanzaType;

/// A presence stanza about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionType {
    /// "May I see your presence?"
    Subscribe,
    /// "You may see mine."
    Subscribed,
    /// "I do not want to see your presence any more."
    Unsubscribe,
    /// "You may not see mine (any more)."
    Unsubscribed,
}

impl SubscriptionType {
    /// The type of a presence stanza, if that is about a subscription.
    pub fn from_stanza_type(stanza_type: StanzaType) -> Option<Self> {
        match stanza_type {
            StanzaType::Subscribe => Some(Self::Subscribe),
            StanzaType::Subscribed => Some(Self::Subscribed),
            StanzaType::Unsubscribe => Some(Self::Unsubscribe),
            StanzaType::Unsubscribed => Some(Self::Unsubscribed),
            _ => None,
        }
    }

    /// The `type` attribute of the stanza.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// Who sees whose presence: the `subscription` attribute of a roster item (RFC 6121 section 2.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subscription {
    /// Nobody.
    None,
    /// The user sees the contact's.
    To,
    /// The contact sees the user's.
    From,
    /// Each sees the other's.
    Both,
}

impl Subscription {
    /// The value of the attribute.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }
}

/// The nine states of a subscription, seen from the user (RFC 6121 appendix A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody sees anything, nobody has asked.
    None,
    /// The user has asked.
    NonePendingOut,
    /// The contact has asked.
    NonePendingIn,
    /// Both have asked.
    NonePendingOutIn,
    /// The user sees the contact's presence.
    To,
    /// … and the contact has asked.
    ToPendingIn,
    /// The contact sees the user's presence.
    From,
    /// … and the user has asked.
    FromPendingOut,
    /// Each sees the other's presence.
    Both,
}

impl State {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::NonePendingOut,
        Self::NonePendingIn,
        Self::NonePendingOutIn,
        Self::To,
        Self::ToPendingIn,
        Self::From,
        Self::FromPendingOut,
        Self::Both,
    ];

    /// The state with these parts. Who sees the other's presence already has nothing pending in that direction.
    pub fn new(subscription: Subscription, pending_out: bool, pending_in: bool) -> Self {
        match (subscription, pending_out, pending_in) {
            (Subscription::None, false, false) => Self::None,
            (Subscription::None, true, false) => Self::NonePendingOut,
            (Subscription::None, false, true) => Self::NonePendingIn,
            (Subscription::None, true, true) => Self::NonePendingOutIn,
            (Subscription::To, _, false) => Self::To,
            (Subscription::To, _, true) => Self::ToPendingIn,
            (Subscription::From, false, _) => Self::From,
            (Subscription::From, true, _) => Self::FromPendingOut,
            (Subscription::Both, _, _) => Self::Both,
        }
    }

    /// Who sees whose presence.
    pub fn subscription(self) -> Subscription {
        match self {
            Self::None | Self::NonePendingOut | Self::NonePendingIn | Self::NonePendingOutIn => {
                Subscription::None
            }
            Self::To | Self::ToPendingIn => Subscription::To,
            Self::From | Self::FromPendingOut => Subscription::From,
            Self::Both => Subscription::Both,
        }
    }

    /// The user sees the contact's presence.
    pub fn has_to(self) -> bool {
        matches!(self.subscription(), Subscription::To | Subscription::Both)
    }

    /// The contact sees the user's presence.
    pub fn has_from(self) -> bool {
        matches!(self.subscription(), Subscription::From | Subscription::Both)
    }

    /// The user has asked and waits: `ask='subscribe'` in the roster.
    pub fn is_pending_out(self) -> bool {
        matches!(
            self,
            Self::NonePendingOut | Self::NonePendingOutIn | Self::FromPendingOut
        )
    }

    /// The contact has asked and waits.
    pub fn is_pending_in(self) -> bool {
        matches!(
            self,
            Self::NonePendingIn | Self::NonePendingOutIn | Self::ToPendingIn
        )
    }

    /// Appendix A.2: the state after the user has sent a stanza, and whether that is routed to the contact.
    pub fn outbound(self, stanza: SubscriptionType) -> (Self, bool) {
        let new = match stanza {
            SubscriptionType::Subscribe => self.with_out(true),
            SubscriptionType::Unsubscribe => self.with_to(false),
            SubscriptionType::Subscribed if self.is_pending_in() => self.with_from(true),
            SubscriptionType::Subscribed => self,
            SubscriptionType::Unsubscribed => self.with_from(false),
        };
        // The user may always (re)start or end what the contact decides about; to answer, there must be a question.
        let route = match stanza {
            SubscriptionType::Subscribe | SubscriptionType::Unsubscribe => true,
            SubscriptionType::Subscribed | SubscriptionType::Unsubscribed => new != self,
        };
        (new, route)
    }

    /// Appendix A.3: the state after the contact's stanza has come in, and whether that is delivered to the user.
    pub fn inbound(self, stanza: SubscriptionType) -> (Self, bool) {
        let new = match stanza {
            SubscriptionType::Subscribe => self.with_in(true),
            SubscriptionType::Unsubscribe => self.with_from(false),
            SubscriptionType::Subscribed if self.is_pending_out() => self.with_to(true),
            SubscriptionType::Subscribed => self,
            SubscriptionType::Unsubscribed => self.with_to(false),
        };
        (new, new != self)
    }

    /// The user sees the contact's presence or not, and waits for nothing.
    fn with_to(self, has_to: bool) -> Self {
        Self::from_parts(has_to, self.has_from(), false, self.is_pending_in())
    }

    /// The contact sees the user's presence or not, and waits for nothing.
    fn with_from(self, has_from: bool) -> Self {
        Self::from_parts(self.has_to(), has_from, self.is_pending_out(), false)
    }

    fn with_out(self, pending_out: bool) -> Self {
        Self::from_parts(
            self.has_to(),
            self.has_from(),
            pending_out,
            self.is_pending_in(),
        )
    }

    fn with_in(self, pending_in: bool) -> Self {
        Self::from_parts(
            self.has_to(),
            self.has_from(),
            self.is_pending_out(),
            pending_in,
        )
    }

    fn from_parts(has_to: bool, has_from: bool, pending_out: bool, pending_in: bool) -> Self {
        let subscription = match (has_to, has_from) {
            (false, false) => Subscription::None,
            (true, false) => Subscription::To,
            (false, true) => Subscription::From,
            (true, true) => Subscription::Both,
        };
        Self::new(subscription, pending_out, pending_in)
    }
}

/// What the server knows of a contact, apart from its name and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// State of the subscription.
    pub state: State,
    /// The next request of the contact is answered with `subscribed` at once (section 3.4). The approval is used up
    /// by that request: whether to keep it is left to the server.
    pub approved: bool,
    /// The contact is an item of the roster. Not so if it has only asked: a request makes no item (appendix A.1).
    pub listed: bool,
}

impl Contact {
    /// Somebody of whom nothing is known.
    pub const UNKNOWN: Self = Self {
        state: State::None,
        approved: false,
        listed: false,
    };

    /// Nothing is known any more: there is no row to keep.
    pub fn is_unknown(self) -> bool {
        self == Self::UNKNOWN
    }

    /// What a client sees of it.
    fn view(self) -> Option<(Subscription, bool, bool)> {
        self.listed.then_some((
            self.state.subscription(),
            self.state.is_pending_out(),
            self.approved,
        ))
    }
}

/// The presence of each available resource of the user that goes to the contact along with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Its current presence: the contact now sees it.
    Available,
    /// Unavailable presence: the contact does not see it any more.
    Unavailable,
}

/// What a stanza of the user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// What is known of the contact now.
    pub contact: Contact,
    /// Route the stanza to the contact, from bare JID to bare JID.
    pub route: bool,
    /// Push the item to the user's interested resources.
    pub push: bool,
    /// Presence for the contact: `Available` after the stanza, `Unavailable` before it.
    pub share: Option<Share>,
}

/// What a stanza of the contact does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// What is known of the contact now.
    pub contact: Contact,
    /// Deliver the stanza: a request to the available resources, anything else to the interested ones.
    pub deliver: bool,
    /// Keep the stanza as the contact's request and deliver it at each login until it is answered.
    pub keep_request: bool,
    /// Push the item to the user's interested resources.
    pub push: bool,
    /// Answer on behalf of the user, from bare JID to bare JID.
    pub reply: Option<SubscriptionType>,
    /// Presence for the contact: `Available` after the reply, `Unavailable` before it.
    pub share: Option<Share>,
}

/// Decides what a stanza of the user to the contact does.
pub fn outbound(contact: Contact, stanza: SubscriptionType) -> Outbound {
    let (state, route) = contact.state.outbound(stanza);
    let mut new = Contact { state, ..contact };
    match stanza {
        SubscriptionType::Subscribe => new.listed = true,
        SubscriptionType::Subscribed if route => {
            new.listed = true;
            new.approved = false;
        }
        // Nobody has asked and nobody is subscribed: an approval in advance (section 3.4.2).
        SubscriptionType::Subscribed if !state.has_from() => {
            new.listed = true;
            new.approved = true;
        }
        SubscriptionType::Unsubscribed => new.approved = false,
        SubscriptionType::Subscribed | SubscriptionType::Unsubscribe => {}
    }
    let (push, share) = consequences(contact, new);
    Outbound {
        contact: new,
        route,
        push,
        share,
    }
}

/// Decides what a stanza of the contact to the user does.
pub fn inbound(contact: Contact, stanza: SubscriptionType) -> Inbound {
    if stanza == SubscriptionType::Subscribe && contact.approved && !contact.state.has_from() {
        return approve_in_advance(contact);
    }
    let (state, deliver) = contact.state.inbound(stanza);
    let new = Contact { state, ..contact };
    let reply = match stanza {
        // The contact has lost track of its subscription: tell it.
        SubscriptionType::Subscribe if state.has_from() => Some(SubscriptionType::Subscribed),
        SubscriptionType::Unsubscribe if deliver => Some(SubscriptionType::Unsubscribed),
        _ => None,
    };
    let keep_request = stanza == SubscriptionType::Subscribe && deliver;
    let (push, share) = consequences(contact, new);
    Inbound {
        contact: new,
        deliver,
        keep_request,
        push,
        reply,
        share,
    }
}

fn approve_in_advance(contact: Contact) -> Inbound {
    let new = Contact {
        state: contact.state.with_from(true),
        approved: false,
        ..contact
    };
    let (push, share) = consequences(contact, new);
    let reply = Some(SubscriptionType::Subscribed);
    Inbound {
        contact: new,
        deliver: false,
        keep_request: false,
        push,
        reply,
        share,
    }
}

/// Whether the roster shows a difference, and what the contact gets to see.
fn consequences(old: Contact, new: Contact) -> (bool, Option<Share>) {
    let share = match (old.state.has_from(), new.state.has_from()) {
        (false, true) => Some(Share::Available),
        (true, false) => Some(Share::Unavailable),
        _ => None,
    };
    (old.view() != new.view(), share)
}

/// What is sent to a contact that the user removes from the roster (RFC 6121 section 2.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// End the user's subscription, or take back its request.
    pub unsubscribe: bool,
    /// End the contact's subscription, or deny its request.
    pub unsubscribed: bool,
    /// `Unavailable` if the contact saw the user's presence; goes first.
    pub share: Option<Share>,
}

/// Decides what is sent to a contact that the user removes from the roster.
pub fn removal(contact: Contact) -> Removal {
    let state = contact.state;
    Removal {
        unsubscribe: state.has_to() || state.is_pending_out(),
        unsubscribed: state.has_from() || state.is_pending_in(),
        share: state.has_from().then_some(Share::Unavailable),
    }
}

#[cfg(test)]
mod tests;
