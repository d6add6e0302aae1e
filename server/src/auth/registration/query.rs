//! XEP-0077 section 3: what is asked for and how it is answered. There is no form (XEP-0004): who can fill in one can
//! fill in two fields.
use protocol::{BareJid, Element, StanzaCondition, StanzaError, ns};

/// What somebody who sets something wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    /// An account, or another password.
    Have {
        /// Of that name.
        name: Option<String>,
        /// With that password.
        password: Option<String>,
    },
    /// No account any more.
    Remove,
}

/// What has to be filled in.
pub fn fields() -> Element {
    query()
        .with_child(
            field("instructions").with_text("Choose a user name and a password for this server."),
        )
        .with_child(field("username"))
        .with_child(field("password"))
}

/// The same for somebody who has an account. The password is not known, and would not be told.
pub fn fields_of(account: &BareJid) -> Element {
    let name = account.local().unwrap_or_default();
    query()
        .with_child(field("registered"))
        .with_child(field("username").with_text(name))
        .with_child(field("password"))
}

fn query() -> Element {
    Element::new("query", ns::REGISTER)
}

fn field(name: &str) -> Element {
    Element::new(name, ns::REGISTER)
}

/// What is wanted.
///
/// # Errors
/// `bad-request` if there is something beside `<remove/>`.
pub fn wish(query: &Element) -> Result<Wish, StanzaError> {
    if query.child("remove", ns::REGISTER).is_some() {
        return match query.elements().count() {
            1 => Ok(Wish::Remove),
            _ => Err(StanzaCondition::BadRequest.into()),
        };
    }
    let text = |name| {
        let field = query.child(name, ns::REGISTER)?;
        Some(field.text().into_owned())
    };
    Ok(Wish::Have {
        name: text("username"),
        password: text("password"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_an_account_or_none() {
        let have = |name: Option<&str>, password: Option<&str>| {
            Ok(Wish::Have {
                name: name.map(str::to_owned),
                password: password.map(str::to_owned),
            })
        };
        for (children, expected) in [
            (
                "<username>a</username><password>b</password>",
                have(Some("a"), Some("b")),
            ),
            ("<username/>", have(Some(""), None)),
            (
                "<username xmlns='urn:example'>a</username>",
                have(None, None),
            ),
            ("", have(None, None)),
            ("<remove/>", Ok(Wish::Remove)),
            (
                "<remove/><username>a</username>",
                Err(StanzaCondition::BadRequest.into()),
            ),
        ] {
            let query = format!("<query xmlns='jabber:iq:register'>{children}</query>");
            let query = Element::parse(query.as_bytes(), ns::CLIENT).unwrap();
            assert_eq!(wish(&query), expected, "{children}");
        }
    }
}
