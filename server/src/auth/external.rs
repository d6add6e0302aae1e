//! XEP-0178, RFC 6120 section 13.7.1.4: whom a client's certificate names.
use protocol::BareJid;
use transport::ClientIdentity;

/// How certificates name accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// By their XMPP addresses.
    pub by_address: bool,
    /// By their common name, if they have no XMPP address.
    pub by_common_name: Option<CommonName>,
}

/// What stands around the local part in a common name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommonName {
    /// Before it.
    pub prefix: Box<str>,
    /// Behind it.
    pub suffix: Box<str>,
}

impl Naming {
    /// The accounts of that domain, each once. Addresses of other domains are no reason to refuse a certificate.
    pub fn accounts(&self, certificate: &ClientIdentity, domain: &str) -> Vec<BareJid> {
        if !certificate.xmpp_addresses.is_empty() {
            let given = certificate
                .xmpp_addresses
                .iter()
                .filter(|_| self.by_address);
            let given = given.filter_map(|text| BareJid::parse(text).ok());
            let mut accounts = Vec::new();
            for account in given.filter(|it| it.local().is_some() && it.domain() == domain) {
                if !accounts.contains(&account) {
                    accounts.push(account);
                }
            }
            return accounts;
        }
        let ([name], Some(around)) = (&certificate.common_names[..], &self.by_common_name) else {
            // Of several names nobody knows which one is meant.
            return Vec::new();
        };
        let local = name
            .strip_prefix(&*around.prefix)
            .and_then(|rest| rest.strip_suffix(&*around.suffix));
        let account = local.and_then(|local| BareJid::from_parts(Some(local), domain).ok());
        account.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(by_address: bool, around: Option<(&str, &str)>) -> Naming {
        Naming {
            by_address,
            by_common_name: around.map(|(prefix, suffix)| CommonName {
                prefix: prefix.into(),
                suffix: suffix.into(),
            }),
        }
    }

    #[track_caller]
    fn check(naming: &Naming, addresses: &[&str], common_names: &[&str], expected: &[&str]) {
        let owned = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
        let certificate = ClientIdentity {
            xmpp_addresses: owned(addresses),
            common_names: owned(common_names),
        };
        let accounts = naming.accounts(&certificate, "localhost");
        let accounts: Vec<&str> = accounts.iter().map(BareJid::as_str).collect();
        assert_eq!(accounts, expected);
    }

    /// Security case A15.
    #[test]
    fn a15_addresses_of_the_domain_are_accounts() {
        let standard = naming(true, None);
        check(&standard, &["romeo@localhost"], &[], &["romeo@localhost"]);
        check(&standard, &["ROMEO@LocalHost"], &[], &["romeo@localhost"]);
        check(
            &standard,
            &[
                "romeo@localhost",
                "x@example.org",
                "juliet@localhost",
                "Romeo@localhost",
            ],
            &["nurse"],
            &["romeo@localhost", "juliet@localhost"],
        );
        for other in [
            "romeo@example.org",
            "localhost",
            "romeo@localhost/orchard",
            "romeo@localhost\0.example.org",
            "romeo@localhost.example.org",
            "",
            "@localhost",
            "romeo",
        ] {
            check(&standard, &[other], &["romeo"], &[]);
        }
        check(&standard, &[], &["romeo"], &[]);
    }

    /// Security case A15.
    #[test]
    fn a15_a_common_name_is_an_account_if_it_may_and_nothing_better_is_there() {
        let plain = naming(true, Some(("", "")));
        check(&plain, &[], &["romeo"], &["romeo@localhost"]);
        check(&plain, &[], &["romeo", "juliet"], &[]);
        check(&plain, &[], &[], &[]);
        check(&plain, &[], &["romeo@localhost"], &[]);
        check(
            &plain,
            &[],
            &["romeo,CN=juliet"],
            &["romeo,cn=juliet@localhost"],
        );
        check(&plain, &["x@example.org"], &["romeo"], &[]);
        check(
            &plain,
            &["juliet@localhost"],
            &["romeo"],
            &["juliet@localhost"],
        );
        let around = naming(false, Some(("user-", ".staff")));
        check(&around, &[], &["user-romeo.staff"], &["romeo@localhost"]);
        for other in [
            "romeo",
            "user-romeo",
            "romeo.staff",
            "user-.staff",
            "user-.staf",
        ] {
            check(&around, &[], &[other], &[]);
        }
        check(&around, &["romeo@localhost"], &["user-romeo.staff"], &[]);
        check(&naming(false, None), &["romeo@localhost"], &["romeo"], &[]);
    }
}
