//! XEP-0030: Service Discovery, and XEP-0157: Contact Addresses.
//!
//! What a domain and an account can do, as the modules announced it when they started; so this one starts last. An
//! account answers its owner alone: to others it is as silent as one that does not exist.
use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::{Element, StanzaCondition, StanzaError, StanzaType, ns};

use super::config::ServerInfo;
use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;

pub use super::config::Disco as Config;

/// The key that `server_info` names this module's answers by.
const KEY: &str = "mod_disco";

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers who asks the domain or their own account.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    for target in [Target::Server, Target::Account] {
        for feature in [ns::DISCO_INFO, ns::DISCO_ITEMS] {
            start.feature(target, feature);
        }
    }
    let info = Arc::new(Info {
        server: server_info(&config, &start.features(Target::Server)),
        account: info(("account", "registered"), &start.features(Target::Account)),
    });
    let items = Arc::new(Items {
        extra_domains: config.extra_domains.clone(),
    });
    for target in [Target::Server, Target::Account] {
        start.iq(("query", ns::DISCO_INFO), target, &info)?;
        start.iq(("query", ns::DISCO_ITEMS), target, &items)?;
    }
    Ok(())
}

// ---- what is answered: the same to everyone, so it is made once

/// Who it is, and what it can do.
fn info((category, kind): (&str, &str), features: &[&str]) -> Element {
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", category)
        .with_attr("type", kind);
    let mut query = Element::new("query", ns::DISCO_INFO).with_child(identity);
    for feature in features {
        query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
    }
    query
}

/// Without a name: who wants to know the program asks for its version.
fn server_info(config: &Config, features: &[&str]) -> Element {
    let mut query = info(("server", "im"), features);
    let is_ours = |info: &&ServerInfo| {
        let modules = info.modules.as_ref();
        modules.is_none_or(|modules| modules.iter().any(|module| module == KEY))
    };
    let contacts: Vec<&ServerInfo> = config.server_info.iter().filter(is_ours).collect();
    if !contacts.is_empty() {
        query.push(contact_form(&contacts));
    }
    query
}

/// XEP-0157 section 3: each kind of address is a field of a form (XEP-0004).
fn contact_form(contacts: &[&ServerInfo]) -> Element {
    let field = |name: &str, kind: &str, values: &[String]| {
        let mut field = Element::new("field", ns::FORM)
            .with_attr("var", name)
            .with_attr("type", kind);
        for value in values {
            field.push(Element::new("value", ns::FORM).with_text(value));
        }
        field
    };
    let form_type = [ns::SERVER_INFO.to_owned()];
    let mut form = Element::new("x", ns::FORM)
        .with_attr("type", "result")
        .with_child(field("FORM_TYPE", "hidden", &form_type));
    for contact in contacts {
        form.push(field(&contact.name, "list-multi", &contact.urls));
    }
    form
}

/// The configured domains, and the components below the one that is asked, as they are now.
fn server_items(extra_domains: &[String], route: &Route, asked: &str) -> Element {
    let components = route.router.components_below(asked);
    let components = components.iter().map(|component| &*component.domain);
    let extra_domains = extra_domains.iter().map(String::as_str);
    let known: BTreeSet<&str> = extra_domains.clone().collect();
    let mut query = Element::new("query", ns::DISCO_ITEMS);
    for domain in extra_domains.chain(components.filter(|domain| !known.contains(domain))) {
        query.push(Element::new("item", ns::DISCO_ITEMS).with_attr("jid", domain));
    }
    query
}

// ---- requests

struct Info {
    server: Element,
    account: Element,
}

impl HandleIq for Info {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        Ok(Some(match asked(request)? {
            Target::Server => self.server.clone(),
            Target::Account => self.account.clone(),
        }))
    }
}

struct Items {
    extra_domains: Vec<String>,
}

impl HandleIq for Items {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        Ok(Some(match asked(request)? {
            Target::Server => server_items(&self.extra_domains, route, request.to.domain()),
            Target::Account => Element::new("query", ns::DISCO_ITEMS),
        }))
    }
}

/// Whom the request is for, if they answer it.
fn asked(request: &IqRequest) -> Result<Target, StanzaError> {
    let target = match request.to.local() {
        None => Target::Server,
        Some(_) if request.is_own_account() => Target::Account,
        Some(_) => return Err(StanzaCondition::ServiceUnavailable.into()),
    };
    if request.stanza_type != StanzaType::Get {
        return Err(StanzaCondition::BadRequest.into());
    }
    // There are no nodes yet, not even one that is empty.
    if request.payload.attr("node").is_some() {
        return Err(StanzaCondition::ItemNotFound.into());
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::super::ModulesConfig;
    use super::*;

    #[test]
    fn it_starts_after_all_who_announce_something() {
        assert_eq!(ModulesConfig::KEYS.last(), Some(&KEY));
    }

    #[test]
    fn contact_addresses_are_a_form() {
        let contact = |name: &str, modules: Option<&[&str]>| ServerInfo {
            name: name.to_owned(),
            urls: vec!["mailto:a@example.org".to_owned()],
            modules: modules.map(|all| all.iter().map(|&module| module.to_owned()).collect()),
        };
        let check = |contacts: Vec<ServerInfo>, expected: &[&str]| {
            let config = Config {
                server_info: contacts,
                ..Config::default()
            };
            let query = server_info(&config, &[]);
            let form = query.child("x", ns::FORM);
            let fields = form.into_iter().flat_map(Element::elements);
            let names: Vec<&str> = fields.filter_map(|field| field.attr("var")).collect();
            assert_eq!(names, expected);
        };
        check(vec![], &[]);
        check(
            vec![
                contact("abuse-addresses", None),
                contact("rooms-only", Some(&["mod_muc"])),
                contact("admin-addresses", Some(&["mod_disco"])),
            ],
            &["FORM_TYPE", "abuse-addresses", "admin-addresses"],
        );
        check(vec![contact("rooms-only", Some(&["mod_muc"]))], &[]);
    }
}
