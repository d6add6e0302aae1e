//! What modules need of each other (XEPs build on XEPs) and of services, resolved before anything starts.
use std::fmt;

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

/// Modules that cannot run as the file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Clash {
    /// What is wrong, with the names of everyone concerned.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.mend)
    }
}

/// The modules that run: those of the file and those that they need. On failure all there is to
/// mend. `services` are the keys of the configured ones.
pub fn resolve(file: &ModulesConfig, services: &[&str]) -> Result<ModulesConfig, Vec<Clash>> {
    resolve_with(file, services, ModulesConfig::needs)
}

/// What each module that is switched on needs, with its key.
type AllNeeds = Vec<(&'static str, Needs)>;

fn resolve_with(
    file: &ModulesConfig,
    services: &[&str],
    needs_of: impl Fn(&ModulesConfig) -> AllNeeds,
) -> Result<ModulesConfig, Vec<Clash>> {
    let mut resolving = Resolving {
        config: file.clone(),
        asked: Vec::new(),
        clashes: Vec::new(),
    };
    // Each round that changes anything switches a module on, so there are no more rounds than modules.
    for _ in ModulesConfig::KEYS {
        let before = resolving.config.clone();
        for (asker, needs) in needs_of(&before) {
            for need in &needs.modules {
                resolving.add(asker, need);
            }
        }
        if resolving.config == before {
            break;
        }
    }
    let all = needs_of(&resolving.config);
    resolving.check_order(&all);
    resolving.check_services(&all, services);
    if resolving.clashes.is_empty() {
        Ok(resolving.config)
    } else {
        Err(resolving.clashes)
    }
}

/// What no configuration should be able to bring about.
const OUR_FAULT: &str = "this is a mistake of the program, please report it";

struct Resolving {
    config: ModulesConfig,
    /// Of each module that the file does not switch on: who asked for it.
    asked: Vec<Asked>,
    clashes: Vec<Clash>,
}

/// A module that runs because another one needs it.
struct Asked {
    key: &'static str,
    asker: &'static str,
    /// Its settings matter to the asker.
    is_exact: bool,
}

impl Resolving {
    fn add(&mut self, asker: &'static str, need: &Need) {
        let key = need.key();
        let running = self.config.get(key);
        match need {
            Need::Any(_) if running.is_some() => {}
            Need::Any(_) => match ModulesConfig::default_of(key) {
                Some(default) => self.switch_on(default, asker, false),
                None => self.note(
                    format!("{asker} needs {key}, which does not exist"),
                    OUR_FAULT,
                ),
            },
            Need::With(wanted) if running.as_ref() == Some(wanted) => {}
            Need::With(wanted) => {
                let is_free = match self.asked.iter().find(|asked| asked.key == key) {
                    Some(asked) => !asked.is_exact,
                    None => running.is_none(),
                };
                if is_free {
                    self.switch_on(wanted.clone(), asker, true);
                } else {
                    self.note_different_settings(asker, key);
                }
            }
        }
    }

    fn switch_on(&mut self, config: ModuleConfig, asker: &'static str, is_exact: bool) {
        let key = config.key();
        self.asked.retain(|asked| asked.key != key);
        self.asked.push(Asked {
            key,
            asker,
            is_exact,
        });
        self.config.set(config);
    }

    fn note_different_settings(&mut self, asker: &str, key: &'static str) {
        let first = self.asked.iter().find(|asked| asked.key == key);
        let (what, mend) = match first {
            Some(Asked { asker: first, .. }) => (
                format!("{first} and {asker} need {key} with different settings"),
                format!("change one of them, or remove [modules.{first}] or [modules.{asker}]"),
            ),
            None => (
                format!("[modules.{key}] has other settings than {asker} needs"),
                format!("make them equal, or remove [modules.{asker}]"),
            ),
        };
        self.note(what, mend);
    }

    /// Modules start in the order of the registry, so each may need only what stands above it.
    fn check_order(&mut self, all: &AllNeeds) {
        let place = |key: &str| ModulesConfig::KEYS.iter().position(|other| *other == key);
        for (asker, needs) in all {
            for need in &needs.modules {
                let needed = need.key();
                if place(needed).is_none_or(|needed| Some(needed) < place(asker)) {
                    continue;
                }
                match way(all, needed, asker) {
                    Some(way) => {
                        let way = way.join(", which needs ");
                        self.note(format!("{asker} needs {way}, so none can start"), OUR_FAULT);
                    }
                    None => {
                        let what = format!("{asker} needs {needed}, which starts after it");
                        self.note(what, OUR_FAULT);
                    }
                }
            }
        }
    }

    fn check_services(&mut self, all: &AllNeeds, services: &[&str]) {
        for (asker, needs) in all {
            let missing = needs.services.iter();
            for service in missing.filter(|service| !services.contains(service)) {
                self.note(
                    format!("{asker} needs the service {service}, which is not configured"),
                    format!("add [services.{service}], or remove [modules.{asker}]"),
                );
            }
        }
    }

    fn note(&mut self, what: String, mend: impl Into<String>) {
        let mend = mend.into();
        let clash = Clash { what, mend };
        if !self.clashes.contains(&clash) {
            self.clashes.push(clash);
        }
    }
}

/// The shortest chain of needs from one module to another, both included.
fn way(all: &AllNeeds, from: &'static str, to: &str) -> Option<Vec<&'static str>> {
    let mut ways = vec![vec![from]];
    for _ in ModulesConfig::KEYS {
        if let Some(way) = ways.iter().find(|way| way.last() == Some(&to)) {
            return Some(way.clone());
        }
        let longer = |way: &Vec<&'static str>| {
            let needs = all.iter().filter(|(asker, _)| way.last() == Some(asker));
            let next = needs.flat_map(|(_, needs)| needs.modules.iter().map(Need::key));
            let next = next.filter(|key| !way.contains(key));
            next.map(|key| [way.as_slice(), &[key]].concat())
                .collect::<Vec<_>>()
        };
        ways = ways.iter().flat_map(longer).collect();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::config::{Roster, StreamManagement};
    use super::*;

    /// Roster, presence and offline switched on.
    fn file() -> ModulesConfig {
        ModulesConfig {
            roster: ModulesConfig::zero().roster,
            presence: ModulesConfig::zero().presence,
            offline: ModulesConfig::zero().offline,
            ..ModulesConfig::default()
        }
    }

    fn resends(ack_freq: u32) -> Need {
        Need::With(ModuleConfig::stream_management(StreamManagement {
            ack_freq,
            ..StreamManagement::default()
        }))
    }

    fn modules(needs: &[Need]) -> Needs {
        Needs {
            modules: needs.to_vec(),
            services: Vec::new(),
        }
    }

    /// What `resolve` finds if modules that are switched on have these needs.
    fn findings(file: &ModulesConfig, all: &[(&'static str, Needs)]) -> Vec<String> {
        let needs_of = |config: &ModulesConfig| {
            let is_on = |(key, _): &&(&'static str, Needs)| config.get(key).is_some();
            all.iter().filter(is_on).cloned().collect()
        };
        let clashes = resolve_with(file, &["service_here"], needs_of).unwrap_err();
        clashes.iter().map(Clash::to_string).collect()
    }

    #[test]
    fn what_a_module_needs_starts_in_the_settings_it_asks_for() {
        let mut file = file();
        file.roster = None;
        let all = [
            ("mod_roster", Needs::module("mod_stream_management")),
            ("mod_presence", modules(&[resends(7)])),
            (
                "mod_offline",
                modules(&[Need::Any("mod_roster"), resends(7)]),
            ),
        ];
        let resolved = resolve_with(&file, &[], |_| all.to_vec()).unwrap();
        let running = resolved.get("mod_stream_management").map(Need::With);
        assert_eq!(running, Some(resends(7)));
        assert_eq!(resolved.roster, Some(Roster::default()));
    }

    #[test]
    fn two_askers_with_different_settings_are_both_named() {
        let all = [
            ("mod_roster", modules(&[resends(1)])),
            ("mod_presence", modules(&[resends(2)])),
            ("mod_offline", modules(&[resends(1)])),
        ];
        assert_eq!(
            findings(&file(), &all),
            [
                "mod_roster and mod_presence need mod_stream_management with different settings: \
              change one of them, or remove [modules.mod_roster] or [modules.mod_presence]"
            ]
        );
    }

    #[test]
    fn the_file_and_an_asker_with_other_settings_are_named() {
        let mut file = file();
        file.stream_management = Some(StreamManagement::default());
        let all = [("mod_roster", modules(&[resends(9)]))];
        assert_eq!(
            findings(&file, &all),
            [
                "[modules.mod_stream_management] has other settings than mod_roster needs: \
              make them equal, or remove [modules.mod_roster]"
            ]
        );
    }

    #[test]
    fn modules_that_need_each_other_are_all_named() {
        let all = [
            ("mod_roster", Needs::module("mod_offline")),
            ("mod_presence", Needs::module("mod_roster")),
            ("mod_offline", Needs::module("mod_presence")),
        ];
        assert_eq!(
            findings(&file(), &all),
            [
                "mod_roster needs mod_offline, which needs mod_presence, which needs mod_roster, \
              so none can start: this is a mistake of the program, please report it"
            ]
        );
    }

    #[test]
    fn a_module_that_needs_itself_is_named() {
        let all = [("mod_roster", Needs::module("mod_roster"))];
        assert_eq!(
            findings(&file(), &all),
            ["mod_roster needs mod_roster, so none can start: \
              this is a mistake of the program, please report it"]
        );
    }

    #[test]
    fn a_need_that_starts_later_is_named() {
        let all = [("mod_roster", Needs::module("mod_ping"))];
        assert_eq!(
            findings(&file(), &all),
            ["mod_roster needs mod_ping, which starts after it: \
              this is a mistake of the program, please report it"]
        );
    }

    #[test]
    fn a_missing_module_or_service_is_named_with_whoever_needs_it() {
        let needs = Needs {
            modules: vec![Need::Any("mod_nothing")],
            services: vec!["service_here", "service_bosh"],
        };
        assert_eq!(
            findings(&file(), &[("mod_offline", needs)]),
            [
                "mod_offline needs mod_nothing, which does not exist: \
                 this is a mistake of the program, please report it",
                "mod_offline needs the service service_bosh, which is not configured: \
                 add [services.service_bosh], or remove [modules.mod_offline]"
            ]
        );
    }

    #[test]
    fn the_modules_there_are_need_only_what_starts_before_them() {
        let resolved = resolve(&ModulesConfig::zero(), &[]);
        assert_eq!(resolved, Ok(ModulesConfig::zero()));
    }
}
