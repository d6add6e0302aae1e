//! Words that say what an address or a number is for: elements of a vCard without anything in them.
use async_graphql::Enum;

/// A word that is an element.
pub(super) trait Tag: Copy + 'static {
    /// All of them, with the names of their elements.
    const ALL: &'static [(Self, &'static str)];

    /// The name of its element.
    fn name(self) -> &'static str;

    /// The one whose element has that name.
    fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, other)| *other == name);
        found.map(|(tag, _)| *tag)
    }
}

macro_rules! tags {
    ($($(#[doc = $doc:tt])+ $type:ident { $($(#[doc = $about:tt])+ $tag:ident = $name:tt,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $type {
            $($(#[doc = $about])+ #[graphql(name = $name)] $tag,)+
        }

        impl Tag for $type {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$tag, $name)),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$tag => $name,)+
                }
            }
        }
    )+};
}

tags! {
    /// What an address is for.
    AddressTags {
        /// Where somebody lives.
        Home = "HOME",
        /// Where somebody works.
        Work = "WORK",
        /// For letters.
        Postal = "POSTAL",
        /// For parcels.
        Parcel = "PARCEL",
        /// Within the country.
        Dom = "DOM",
        /// The one to take first.
        Pref = "PREF",
        /// From other countries.
        Intl = "INTL",
    }
    /// What a telephone is for.
    TelephoneTags {
        /// Where somebody lives.
        Home = "HOME",
        /// Where somebody works.
        Work = "WORK",
        /// For speaking.
        Voice = "VOICE",
        /// For facsimiles.
        Fax = "FAX",
        /// A pager.
        Pager = "PAGER",
        /// It takes messages.
        Msg = "MSG",
        /// Carried around.
        Cell = "CELL",
        /// For seeing each other.
        Video = "VIDEO",
        /// A bulletin board.
        Bbs = "BBS",
        /// A modem.
        Modem = "MODEM",
        /// ISDN.
        Isdn = "ISDN",
        /// Personal communication services.
        Pcs = "PCS",
        /// The one to take first.
        Pref = "PREF",
    }
    /// What an address for mail is for.
    EmailTags {
        /// Where somebody lives.
        Home = "HOME",
        /// Where somebody works.
        Work = "WORK",
        /// Mail of the Internet.
        Internet = "INTERNET",
        /// The one to take first.
        Pref = "PREF",
        /// Mail of X.400.
        X400 = "X400",
    }
    /// Who may see a vCard.
    PrivacyClassificationTags {
        /// Everybody.
        Public = "PUBLIC",
        /// Nobody else.
        Private = "PRIVATE",
        /// Some.
        Confidential = "CONFIDENTIAL",
    }
}
