//! Delivery to components.
use protocol::{Kind, StanzaCondition, StanzaError};

use super::ComponentRef;
use crate::access::Asker;
use crate::outlet::Pushed;
use crate::router::{Delivery, Route, Router};

impl Router {
    /// Components below one of our domains that may be found there: those that no other domain of ours is nearer to.
    pub fn components_below(&self, domain: &str) -> Vec<ComponentRef> {
        let is_below = |component: &ComponentRef| {
            let dots = component.domain.match_indices('.');
            let mut above = dots.filter_map(|(dot, _)| component.domain.get(dot + 1..));
            above.find(|above| self.host(above).is_some()) == Some(domain)
        };
        let mut components = self.components.all();
        components.retain(|component| !component.settings.is_hidden && is_below(component));
        components
    }
}

impl Route {
    /// A stanza for a component, for its domain itself or anybody there.
    pub(crate) fn component_stanza(&mut self, component: &ComponentRef, delivery: Delivery) {
        if !self.may_write_to(component, &delivery) {
            let error = StanzaError::new(StanzaCondition::NotAllowed)
                .with_text("the rules of this server do not let you write to that service");
            return self.bounce(delivery, &error);
        }
        let Delivery { stanza, token } = delivery;
        let metrics = &self.router.metrics.components;
        metrics.stanzas_delivered.of(stanza.kind()).inc();
        match component.outlet.push(stanza, token, &mut self.batch) {
            Pushed::Taken => {}
            Pushed::Closed(stanza, token) => {
                let error = StanzaCondition::RecipientUnavailable.into();
                self.bounce(Delivery { stanza, token }, &error);
            }
        }
    }

    /// A stanza for a component that was there, and is not now. Presence is state: whoever comes back asks for it.
    pub(crate) fn absent_component_stanza(&mut self, delivery: Delivery) {
        if delivery.stanza.kind() == Kind::Presence {
            self.router.metrics.stanzas_dropped.inc();
            return self.settle(delivery.token);
        }
        let error = StanzaError::new(StanzaCondition::ServiceUnavailable)
            .with_text("the service is not connected")
            .with_type(protocol::error::ErrorType::Wait);
        self.bounce(delivery, &error);
    }

    fn may_write_to(&self, component: &ComponentRef, delivery: &Delivery) -> bool {
        let settings = &component.settings;
        let Some(from) = delivery.stanza.from() else {
            return false;
        };
        let is_hosted = |domain: &str| self.router.host(domain).is_some();
        let asker = Asker::new(from, from.domain(), &is_hosted);
        settings.rules.allows(&settings.access, &asker)
    }
}
