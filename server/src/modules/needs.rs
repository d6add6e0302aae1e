//! What modules need of each other (XEPs build on XEPs) and of services, resolved before anything starts.
use super::{ModuleConfig, ModulesConfig};

/// What one module needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Modules; they start if they are not switched on.
    pub modules: Vec<Need>,
    /// Services; they must be configured.
    pub services: Vec<&'static str>,
}

/// One needed module.
#[derive(Clone, Debug, PartialEq)]
pub enum Need {
    /// It has to run, with whatever settings it has.
    Any(&'static str),
    /// It has to run with these settings.
    With(ModuleConfig),
}

impl Needs {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// That module, with whatever settings.
    pub fn module(key: &'static str) -> Self {
        Self {
            modules: vec![Need::Any(key)],
            services: Vec::new(),
        }
    }
}

impl Need {
    fn key(&self) -> &'static str {
        match self {
            Self::Any(key) => key,
            Self::With(config) => config.key(),
        }
    }
}

/// The modules that run: those of the file and those that they need. On failure all findings, each naming everyone
/// concerned. `services` are the keys of the configured ones.
pub fn resolve(file: &ModulesConfig, services: &[&str]) -> Result<ModulesConfig, Vec<String>> {
    let mut findings = Vec::new();
    let mut config = file.clone();
    // Who asked for settings that do not stand in the file.
    let mut askers: Vec<(&'static str, &'static str)> = Vec::new();
    // A module needs only what stands above it, so each round goes up at least one place: as many rounds as modules.
    for _ in ModulesConfig::KEYS {
        let before = config.clone();
        for (asker, needs) in config.needs() {
            for need in &needs.modules {
                add(&mut config, &mut askers, &mut findings, asker, need, file);
            }
        }
        if config == before {
            break;
        }
    }
    for (asker, needs) in config.needs() {
        for service in needs
            .services
            .iter()
            .filter(|service| !services.contains(service))
        {
            findings.push(format!(
                "{asker} needs the service {service}: add [services.{service}] or remove [modules.{asker}]"
            ));
        }
    }
    findings.dedup();
    if findings.is_empty() {
        Ok(config)
    } else {
        Err(findings)
    }
}

fn add(
    config: &mut ModulesConfig,
    askers: &mut Vec<(&'static str, &'static str)>,
    findings: &mut Vec<String>,
    asker: &'static str,
    need: &Need,
    file: &ModulesConfig,
) {
    let key = need.key();
    let running = config.get(key);
    match (running, need) {
        (Some(_), Need::Any(_)) => {}
        (Some(running), Need::With(wanted)) if running == *wanted => {}
        (Some(_), Need::With(_)) => {
            let other = if file.get(key).is_some() {
                "the file".to_owned()
            } else {
                let first = askers.iter().find(|(module, _)| *module == key);
                first.map_or_else(
                    || "another module".to_owned(),
                    |(_, asker)| (*asker).to_owned(),
                )
            };
            let finding = format!(
                "{asker} and {other} ask for {key} with different settings: make them equal"
            );
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        (None, Need::Any(_)) => match ModulesConfig::default_of(key) {
            Some(default) => {
                askers.push((key, asker));
                config.set(default);
            }
            None => findings.push(format!("{asker} needs {key}, which does not exist")),
        },
        (None, Need::With(wanted)) => {
            askers.push((key, asker));
            config.set(wanted.clone());
        }
    }
}

/// A cycle or an order against the registry: `needs` may only name what stands above. Gives the chain of names.
pub fn out_of_order(all: &[(&'static str, Needs)], keys: &[&'static str]) -> Vec<String> {
    let place = |key: &str| keys.iter().position(|other| *other == key);
    let mut findings = Vec::new();
    for (asker, needs) in all {
        for need in &needs.modules {
            if place(need.key()) >= place(asker) {
                findings.push(format!(
                    "{asker} needs {needed}, which starts later or needs {asker} itself: {asker} -> {needed} -> {asker}",
                    needed = need.key()
                ));
            }
        }
    }
    findings
}
