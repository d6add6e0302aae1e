//! Registration before login (XEP-0077): only inside of TLS, as the password is told as it is.
use std::sync::Arc;

use protocol::{Element, StanzaCondition, StanzaError, ns};

use super::{End, Negotiation, Step};
use crate::auth::registration::Registration;
use crate::auth::registration::query::{self, Wish};

impl Negotiation<'_> {
    /// Who makes accounts for this client, if anybody does.
    pub(super) fn registration(&self) -> Option<Arc<Registration>> {
        let host = self.host.as_ref().filter(|_| self.encrypted)?;
        let registration = host.registration.clone()?;
        registration.admits(self.conn.peer).then_some(registration)
    }

    /// A request about accounts.
    pub(super) async fn register(
        &mut self,
        registration: &Registration,
        iq: &Element,
    ) -> Result<Step, End> {
        let id = iq.attr("id").unwrap_or_default().to_owned();
        match self.answer_about_accounts(registration, iq).await {
            Ok(payload) => {
                let mut answer = Element::new("iq", ns::CLIENT).with_attr("type", "result");
                answer.set_attr("id", Some(&id));
                answer.set_attr("from", self.asked.as_deref());
                payload.into_iter().for_each(|payload| answer.push(payload));
                self.send_element(&answer);
            }
            Err(error) => self.send_iq_error(&id, &error),
        }
        Ok(Step::Stay)
    }

    async fn answer_about_accounts(
        &mut self,
        registration: &Registration,
        iq: &Element,
    ) -> Result<Option<Element>, StanzaError> {
        let wanted = match (iq.attr("type"), iq.elements().next()) {
            _ if iq.attr("id").is_none_or(str::is_empty) || iq.elements().count() != 1 => None,
            (Some("get"), _) => return Ok(Some(query::fields())),
            (Some("set"), Some(query)) => Some(query::wish(query)?),
            _ => None,
        };
        match wanted {
            Some(Wish::Have {
                name: Some(name),
                password: Some(password),
            }) => self.make_account(registration, &name, &password).await,
            Some(Wish::Have { .. }) => Err(StanzaError::new(StanzaCondition::NotAcceptable)
                .with_text("a user name and a password are needed")),
            Some(Wish::Remove) => Err(StanzaCondition::UnexpectedRequest.into()),
            None => Err(StanzaCondition::BadRequest.into()),
        }
    }

    async fn make_account(
        &mut self,
        registration: &Registration,
        name: &str,
        password: &str,
    ) -> Result<Option<Element>, StanzaError> {
        let (Some(host), Some(domain)) = (self.host.clone(), self.asked.clone()) else {
            return Err(StanzaCondition::ServiceUnavailable.into());
        };
        let mut route = self.conn.router.scope();
        registration
            .register(&mut route, &host, self.conn.peer, (name, &domain), password)
            .await?;
        Ok(None)
    }
}
