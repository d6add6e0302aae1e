//! XEP-0030: Service Discovery, and XEP-0157: Contact Addresses.
//!
//! What a domain and an account can do, as the modules announced it when they started; so this one starts last. An
//! account answers its owner and those who see its presence: to others it is as silent as one that does not exist.
use std::sync::Arc;

use protocol::{Element, StanzaCondition, StanzaError, StanzaType, ns};

use super::caps::Caps;
use super::config::ServerInfo;
use super::roster::Roster;
use super::{Needs, Start, StartError};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::router::Route;
use crate::router::subdomains::Subdomain;

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
    let server = server_info(&config, &start.features(Target::Server));
    let nodes = match start.get::<Caps>() {
        Ok(caps) => caps.announce(start, &server),
        Err(_) => Vec::new(),
    };
    let askers = Askers {
        roster: start.get().ok(),
    };
    let info = Arc::new(Info {
        askers: askers.clone(),
        server,
        nodes,
        account: info(("account", "registered"), &start.features(Target::Account)),
    });
    let items = Arc::new(Items {
        askers,
        extra_domains: config.extra_domains,
        subdomains: start.subdomains().to_vec(),
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

// ---- requests

struct Info {
    askers: Askers,
    server: Element,
    /// By which the server is asked who knows a name of what it can do (XEP-0115).
    nodes: Vec<String>,
    account: Element,
}

impl HandleIq for Info {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        let target = self.askers.target(request).await?;
        let node = request.payload.attr("node");
        Ok(Some(match (target, node) {
            (Target::Server, None) => self.server.clone(),
            (Target::Account, None) => self.account.clone(),
            (Target::Server, Some(node)) if self.nodes.iter().any(|ours| ours == node) => {
                self.server.clone().with_attr("node", node)
            }
            // Not even one that is empty.
            (_, Some(_)) => return Err(StanzaCondition::ItemNotFound.into()),
        }))
    }
}

struct Items {
    askers: Askers,
    extra_domains: Vec<String>,
    subdomains: Vec<Subdomain>,
}

impl Items {
    /// What there is beside one of our domains; the components, as they are now.
    fn of(&self, route: &Route, domain: &str) -> Element {
        let own = self.subdomains.iter().filter_map(|own| own.of(domain));
        let mut all: Vec<Box<str>> = own.collect();
        let components = route.router.components_below(domain);
        let components = components.iter().map(|component| &*component.domain);
        for more in self
            .extra_domains
            .iter()
            .map(String::as_str)
            .chain(components)
        {
            if !all.iter().any(|known| **known == *more) {
                all.push(more.into());
            }
        }
        let mut query = Element::new("query", ns::DISCO_ITEMS);
        for jid in all {
            query.push(Element::new("item", ns::DISCO_ITEMS).with_attr("jid", &jid));
        }
        query
    }
}

impl HandleIq for Items {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        let target = self.askers.target(request).await?;
        if request.payload.attr("node").is_some() {
            return Err(StanzaCondition::ItemNotFound.into());
        }
        Ok(Some(match target {
            Target::Server => self.of(route, request.to.domain()),
            Target::Account => Element::new("query", ns::DISCO_ITEMS),
        }))
    }
}

/// Who gets an answer from an account.
#[derive(Clone)]
struct Askers {
    /// Says who sees its presence, if there are contacts at all.
    roster: Option<Arc<Roster>>,
}

impl Askers {
    /// Whom the request is for, if they answer it.
    async fn target(&self, request: &IqRequest) -> Result<Target, StanzaError> {
        let target = match request.to.local() {
            None => Target::Server,
            Some(_) if self.may_ask_account(request).await? => Target::Account,
            Some(_) => return Err(StanzaCondition::ServiceUnavailable.into()),
        };
        if request.stanza_type != StanzaType::Get {
            return Err(StanzaCondition::BadRequest.into());
        }
        Ok(target)
    }

    async fn may_ask_account(&self, request: &IqRequest) -> Result<bool, StanzaError> {
        let Some(roster) = self.roster.as_ref().filter(|_| !request.is_own_account()) else {
            return Ok(request.is_own_account());
        };
        let account = request.to.to_bare();
        let is_subscriber = roster.is_subscriber(&account, request.from.as_ref()).await;
        is_subscriber.map_err(|error| {
            tracing::error!(%error, "it could not be read who sees an account");
            error.to_stanza_error()
        })
    }
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
