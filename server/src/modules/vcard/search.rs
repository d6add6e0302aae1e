//! XEP-0055: Jabber Search, by forms (XEP-0004), at a subdomain.
//!
//! A value is looked for as a whole, or from its beginning if it ends with `*`; letters are small ones. All given fields
//! have to fit.
use std::sync::Arc;

use daemon::config::OrInfinity;
use protocol::{BareJid, Element, StanzaCondition, StanzaError, StanzaType, ns};

use super::store::{Found, MATCHES_MAX, Pattern, Query, VcardStore};
use crate::iq::{Answer, HandleIq, IqRequest};
use crate::router::Route;
use crate::router::subdomains::Requests;

/// Characters of a field that are searched; more are not looked at. Databases have limits for what an index holds.
pub const FIELD_CHARS_MAX: usize = 250;

/// A field of a vCard that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in forms.
    pub var: &'static str,
    /// What people read.
    label: &'static str,
    /// Where it stands in a vCard; nowhere for the name of the account.
    path: &'static [&'static str],
}

const fn field(var: &'static str, label: &'static str, path: &'static [&'static str]) -> Field {
    Field { var, label, path }
}

/// Fields that are searched.
pub const FIELDS: usize = 12;

/// All of them, in the order of the columns.
pub const ALL: [Field; FIELDS] = [
    field("user", "User", &[]),
    field("fn", "Full name", &["FN"]),
    field("last", "Family name", &["N", "FAMILY"]),
    field("first", "Given name", &["N", "GIVEN"]),
    field("middle", "Middle name", &["N", "MIDDLE"]),
    field("nick", "Nickname", &["NICKNAME"]),
    field("bday", "Birthday", &["BDAY"]),
    field("ctry", "Country", &["ADR", "CTRY"]),
    field("locality", "City", &["ADR", "LOCALITY"]),
    field("email", "Email", &["EMAIL", "USERID"]),
    field("orgname", "Organization", &["ORG", "ORGNAME"]),
    field("orgunit", "Organization unit", &["ORG", "ORGUNIT"]),
];

/// What a vCard says in the fields after the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub [String; FIELDS - 1]);

impl Fields {
    /// Those of a vCard: of several the first.
    pub fn of(vcard: &Element) -> Self {
        let mut fields = Self::default();
        for (field, text) in ALL.iter().skip(1).zip(&mut fields.0) {
            *text = text_at(vcard, field.path);
        }
        fields
    }

    /// Whether there is nothing to be found by.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(String::is_empty)
    }
}

fn text_at(vcard: &Element, path: &[&str]) -> String {
    let mut at = Some(vcard);
    for name in path {
        at = at.and_then(|element| element.child(name, ns::VCARD));
    }
    let text = at.map_or_else(String::new, |element| element.text().trim().to_owned());
    cut(&text)
}

fn cut(text: &str) -> String {
    text.chars().take(FIELD_CHARS_MAX).collect()
}

/// The form in which texts are compared.
pub fn folded(text: &str) -> String {
    cut(&text.to_lowercase())
}

// ---- requests

/// The people of a domain.
pub(super) struct Directory {
    store: VcardStore,
    matches: u32,
}

impl Directory {
    pub(super) fn new(store: VcardStore, matches: OrInfinity<u32>) -> Self {
        Self {
            store,
            matches: match matches {
                OrInfinity::Value(matches) => matches.min(MATCHES_MAX),
                OrInfinity::Infinity => MATCHES_MAX,
            },
        }
    }
}

/// What the subdomain answers.
pub(super) fn requests<H: HandleIq>(
    module: &'static str,
    directory: Directory,
    vcard: &Arc<H>,
) -> Result<Requests, String> {
    let mut requests = Requests::default();
    requests.add(module, ("query", ns::SEARCH), &Arc::new(directory))?;
    requests.add(module, ("query", ns::DISCO_INFO), &Arc::new(Info))?;
    requests.add(module, ("query", ns::DISCO_ITEMS), &Arc::new(Items))?;
    requests.add(module, ("vCard", ns::VCARD), vcard)?;
    Ok(requests)
}

struct Info;

impl HandleIq for Info {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        refuse_node(request)?;
        let identity = Element::new("identity", ns::DISCO_INFO)
            .with_attr("category", "directory")
            .with_attr("type", "user")
            .with_attr("name", "Search for people");
        let mut query = Element::new("query", ns::DISCO_INFO).with_child(identity);
        for feature in [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::SEARCH, ns::VCARD] {
            query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
        }
        Ok(Some(query))
    }
}

struct Items;

impl HandleIq for Items {
    async fn answer(&self, _route: &mut Route, request: &IqRequest) -> Answer {
        refuse_node(request)?;
        Ok(Some(Element::new("query", ns::DISCO_ITEMS)))
    }
}

fn refuse_node(request: &IqRequest) -> Result<(), StanzaError> {
    if request.stanza_type != StanzaType::Get {
        return Err(StanzaCondition::BadRequest.into());
    }
    match request.payload.attr("node") {
        Some(_) => Err(StanzaCondition::ItemNotFound.into()),
        None => Ok(()),
    }
}

impl HandleIq for Directory {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        if request.stanza_type == StanzaType::Get {
            return Ok(Some(form()));
        }
        let query = parse(&request.payload)?;
        let owned = route.router.subdomain(request.to.domain());
        let (Some(query), Some(owned)) = (query, owned) else {
            return Ok(Some(results(&[])));
        };
        let domain = &*owned.domain;
        let found = self.store.search(domain, &query, self.matches).await;
        let found = found.map_err(|error| {
            tracing::error!(%error, "vCards could not be searched");
            error.to_stanza_error()
        })?;
        let people: Vec<_> = found
            .into_iter()
            .filter_map(|person| Some((jid(&person, domain)?, person)))
            .collect();
        Ok(Some(results(&people)))
    }
}

fn jid(person: &Found, domain: &str) -> Option<BareJid> {
    BareJid::from_parts(Some(person.0.first()?), domain).ok()
}

/// What is looked for; `None` if it is nothing, and nobody is found then.
fn parse(payload: &Element) -> Result<Option<Query>, StanzaError> {
    let refuse = |text| StanzaError::new(StanzaCondition::BadRequest).with_text(text);
    let form = payload
        .child("x", ns::FORM)
        .filter(|form| form.attr("type") == Some("submit"))
        .ok_or_else(|| refuse("a search is a form that is filled in"))?;
    let mut query = Query::default();
    for given in form.elements().filter(|field| field.is("field", ns::FORM)) {
        let value = given.child("value", ns::FORM);
        let value = value.map_or_else(String::new, |value| value.text().trim().to_owned());
        let var = given.attr("var").unwrap_or_default();
        let at = ALL.iter().position(|field| field.var == var);
        let slot = at.and_then(|at| query.0.get_mut(at));
        match slot {
            Some(slot) => *slot = pattern(&value),
            None if var == "FORM_TYPE" || value.is_empty() => {}
            None => return Err(refuse("the form has a field that is not searched")),
        }
    }
    Ok((!query.is_empty()).then_some(query))
}

fn pattern(value: &str) -> Pattern {
    match value.strip_suffix('*') {
        _ if value.trim_matches('*').is_empty() => Pattern::Any,
        Some(beginning) => Pattern::Beginning(folded(beginning)),
        None => Pattern::Whole(folded(value)),
    }
}

/// The form to be filled in.
fn form() -> Element {
    let instructions =
        "Fill in what you know. A text that ends with * is looked for from its beginning.";
    let text = |name: &str, ns: &'static str, text: &str| Element::new(name, ns).with_text(text);
    let mut form = Element::new("x", ns::FORM)
        .with_attr("type", "form")
        .with_child(text("title", ns::FORM, "Search for people"))
        .with_child(text("instructions", ns::FORM, instructions))
        .with_child(form_type());
    for field in &ALL {
        let element = Element::new("field", ns::FORM)
            .with_attr("type", "text-single")
            .with_attr("label", field.label)
            .with_attr("var", field.var);
        form.push(element);
    }
    Element::new("query", ns::SEARCH)
        .with_child(text("instructions", ns::SEARCH, instructions))
        .with_child(form)
}

fn form_type() -> Element {
    Element::new("field", ns::FORM)
        .with_attr("var", "FORM_TYPE")
        .with_attr("type", "hidden")
        .with_child(Element::new("value", ns::FORM).with_text(ns::SEARCH))
}

fn results(people: &[(BareJid, Found)]) -> Element {
    let mut reported = Element::new("reported", ns::FORM);
    let column = |var: &str, label: &str, kind: &str| {
        Element::new("field", ns::FORM)
            .with_attr("type", kind)
            .with_attr("label", label)
            .with_attr("var", var)
    };
    reported.push(column("jid", "Address", "jid-single"));
    for field in ALL.iter().skip(1) {
        reported.push(column(field.var, field.label, "text-single"));
    }
    let mut form = Element::new("x", ns::FORM)
        .with_attr("type", "result")
        .with_child(form_type())
        .with_child(reported);
    for (jid, Found(texts)) in people {
        let value = |var: &str, text: &str| {
            Element::new("field", ns::FORM)
                .with_attr("var", var)
                .with_child(Element::new("value", ns::FORM).with_text(text))
        };
        let mut item = Element::new("item", ns::FORM).with_child(value("jid", jid.as_str()));
        for (field, text) in ALL.iter().zip(texts).skip(1) {
            item.push(value(field.var, text));
        }
        form.push(item);
    }
    Element::new("query", ns::SEARCH).with_child(form)
}

#[cfg(test)]
mod tests;
