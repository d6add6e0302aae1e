//! The table: what each figure has to reach, whether it does, and what others need.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::servers::Peer;

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Meerkat,
    Relay,
    Peer(Peer),
}

/// A limit that a figure of ours must not exceed.
enum Reach {
    AtMost(f64),
    /// Times the relay's figure of the same name, or of the name given.
    TimesRelay(f64, &'static str),
    /// Times another figure of ours.
    Times(f64, &'static str),
}

struct Line {
    what: &'static str,
    key: &'static str,
    unit: &'static str,
    /// Digits behind the point.
    digits: usize,
    /// The limits in words, with the aim in brackets.
    words: &'static str,
    reach: &'static [Reach],
}

const LINES: &[Line] = &[
    Line {
        what: "user memory per idle session, plain TCP",
        key: "idle plain",
        unit: "kB",
        digits: 2,
        words: "≤ 3 kB (2)",
        reach: &[Reach::AtMost(3.0)],
    },
    Line {
        what: "the same, TLS 1.3",
        key: "idle tls",
        unit: "kB",
        digits: 2,
        words: "≤ 6.5 kB (5.5)",
        reach: &[Reach::AtMost(6.5)],
    },
    Line {
        what: "the same, WebSocket",
        key: "idle websocket",
        unit: "kB",
        digits: 2,
        words: "≤ 1.1 × plain TCP",
        reach: &[Reach::Times(1.1, "idle plain")],
    },
    Line {
        what: "the same, plain TCP, all modules on",
        key: "modules idle plain",
        unit: "kB",
        digits: 2,
        words: "≤ 1.15 × without",
        reach: &[Reach::Times(1.15, "idle plain")],
    },
    Line {
        what: "CPU per message, 1,000 clients, 1 in flight, plain",
        key: "message plain 1",
        unit: "µs",
        digits: 2,
        words: "≤ 8 µs, ≤ 1.5 × relay (1.3)",
        reach: &[
            Reach::AtMost(8.0),
            Reach::TimesRelay(1.5, "message plain 1"),
        ],
    },
    Line {
        what: "the same, TLS",
        key: "message tls 1",
        unit: "µs",
        digits: 2,
        words: "≤ 1.9 × relay",
        reach: &[Reach::TimesRelay(1.9, "message plain 1")],
    },
    Line {
        what: "8 in flight, plain",
        key: "message plain 8",
        unit: "µs",
        digits: 2,
        words: "≤ 2.5 µs (1.8)",
        reach: &[Reach::AtMost(2.5)],
    },
    Line {
        what: "the same, TLS",
        key: "message tls 8",
        unit: "µs",
        digits: 2,
        words: "≤ 3.2 µs",
        reach: &[Reach::AtMost(3.2)],
    },
    Line {
        what: "WebSocket, 1 in flight",
        key: "message websocket 1",
        unit: "µs",
        digits: 2,
        words: "≤ 1.25 × plain TCP",
        reach: &[Reach::Times(1.25, "message plain 1")],
    },
    Line {
        what: "the same, 8 in flight",
        key: "message websocket 8",
        unit: "µs",
        digits: 2,
        words: "≤ 1.25 × plain TCP",
        reach: &[Reach::Times(1.25, "message plain 8")],
    },
    Line {
        what: "all modules on, 1 in flight, plain",
        key: "modules message plain 1",
        unit: "µs",
        digits: 2,
        words: "≤ 1.15 × without",
        reach: &[Reach::Times(1.15, "message plain 1")],
    },
    Line {
        what: "the same, 8 in flight",
        key: "modules message plain 8",
        unit: "µs",
        digits: 2,
        words: "≤ 1.15 × without",
        reach: &[Reach::Times(1.15, "message plain 8")],
    },
    Line {
        what: "settled acknowledgement (XEP-0198), 1 in flight, plain",
        key: "settled plain 1",
        unit: "µs",
        digits: 2,
        words: "≤ 1.2 × without",
        reach: &[Reach::Times(1.2, "message plain 1")],
    },
    Line {
        what: "the same, 8 in flight",
        key: "settled plain 8",
        unit: "µs",
        digits: 2,
        words: "≤ 1.4 × without",
        reach: &[Reach::Times(1.4, "message plain 8")],
    },
    Line {
        what: "CPU per login, 50 in flight, plain",
        key: "login plain",
        unit: "µs",
        digits: 0,
        words: "≤ 130 µs (100)",
        reach: &[Reach::AtMost(130.0)],
    },
    Line {
        what: "the same, TLS 1.3, full handshake",
        key: "login tls",
        unit: "µs",
        digits: 0,
        words: "≤ 260 µs",
        reach: &[Reach::AtMost(260.0)],
    },
    Line {
        what: "all modules on, plain",
        key: "modules login plain",
        unit: "µs",
        digits: 0,
        words: "≤ 1.15 × without",
        reach: &[Reach::Times(1.15, "login plain")],
    },
    Line {
        what: "CPU per copy of presence, 500 users with 20 contacts each",
        key: "presence",
        unit: "µs",
        digits: 2,
        words: "≤ 4 µs",
        reach: &[Reach::AtMost(4.0)],
    },
    Line {
        what: "a message carbon, 3 clients per user, to a message",
        key: "carbons",
        unit: "×",
        digits: 2,
        words: "≤ 1.2 ×",
        reach: &[Reach::AtMost(1.2)],
    },
    Line {
        what: "time of a scrape, 19,000 sessions, all modules on",
        key: "scrape time",
        unit: "ms",
        digits: 1,
        words: "≤ 20 ms",
        reach: &[Reach::AtMost(20.0)],
    },
    Line {
        what: "series of a scrape",
        key: "scrape series",
        unit: "",
        digits: 0,
        words: "≤ 2,000",
        reach: &[Reach::AtMost(2_000.0)],
    },
    Line {
        what: "allocations per routed message, plain",
        key: "allocations plain",
        unit: "",
        digits: 1,
        words: "≤ 6",
        reach: &[Reach::AtMost(6.0)],
    },
    Line {
        what: "the same, TLS",
        key: "allocations tls",
        unit: "",
        digits: 1,
        words: "≤ 9",
        reach: &[Reach::AtMost(9.0)],
    },
    Line {
        what: "the same, stream management",
        key: "allocations sm",
        unit: "",
        digits: 1,
        words: "≤ 4 more than plain",
        reach: &[Reach::AtMost(10.0)],
    },
    Line {
        what: "memory 10 s after a burst, to idle memory",
        key: "burst",
        unit: "×",
        digits: 2,
        words: "≤ 1.3 ×",
        reach: &[Reach::AtMost(1.3)],
    },
    Line {
        what: "memory for a stalled reader, kernel's queue included",
        key: "slow",
        unit: "KiB",
        digits: 0,
        words: "≤ 64 + 128 KiB",
        reach: &[Reach::AtMost(192.0)],
    },
];

/// All that was measured.
#[derive(Default)]
pub(super) struct Figures {
    samples: BTreeMap<(Owner, String), Vec<f64>>,
    names: BTreeMap<Owner, String>,
    failures: BTreeSet<String>,
    waiting_percent: f64,
}

impl Figures {
    pub(super) fn name(&mut self, owner: Owner, name: String) {
        self.names.insert(owner, name);
    }

    /// Adds a sample of a figure; medians count.
    pub(super) fn add(&mut self, owner: Owner, key: &str, value: f64) {
        println!("  {owner:?}: {key}: {value:.2}");
        self.samples
            .entry((owner, key.to_owned()))
            .or_default()
            .push(value);
    }

    /// Keeps and shows what went wrong, if anything did: the other rows go on.
    pub(super) fn note_failure(&mut self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            println!("  {what}: {error:#}");
            self.failures.insert(what.to_owned());
        }
    }

    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Notes how much of the generator's time other programs took.
    pub(super) fn see_waiting(&mut self, percent: f64) {
        self.waiting_percent = self.waiting_percent.max(percent);
    }

    pub(super) fn waiting_percent(&self) -> f64 {
        self.waiting_percent
    }

    fn median(&self, owner: Owner, key: &str) -> Option<f64> {
        let mut samples = self.samples.get(&(owner, key.to_owned()))?.clone();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        Some(if samples.len() % 2 == 1 {
            samples[middle]
        } else {
            (samples[middle - 1] + samples[middle]) / 2.0
        })
    }

    /// The table in Markdown, columns aligned for the terminal.
    pub(super) fn table(&self) -> String {
        let mut head = vec![
            "what".to_owned(),
            "to reach (aim)".to_owned(),
            "Meerkat".to_owned(),
        ];
        head.extend(["reached".to_owned(), "relay".to_owned()]);
        head.extend(self.names.values().cloned());
        let mut rows = vec![head];
        rows.extend(LINES.iter().map(|line| self.cells(line)));
        align(&rows)
    }

    fn cells(&self, line: &Line) -> Vec<String> {
        let ours = self.median(Owner::Meerkat, line.key);
        let show = |value: f64| {
            format!("{value:.*} {}", line.digits, line.unit)
                .trim_end()
                .to_owned()
        };
        let mut cells = vec![
            line.what.to_owned(),
            line.words.to_owned(),
            ours.map_or_else(|| "not measured".to_owned(), show),
            self.verdict(line, ours).to_owned(),
        ];
        // Ours to the relay's, theirs to ours: both above one, as a rule.
        let floor = self.median(Owner::Relay, &floor_key(line.key));
        cells.push(match (ours, floor) {
            (Some(ours), Some(floor)) => format!("{} (we: {:.2} ×)", show(floor), ours / floor),
            (None, Some(floor)) => show(floor),
            (_, None) => "–".to_owned(),
        });
        for owner in self.names.keys() {
            cells.push(match (ours, self.median(*owner, line.key)) {
                (Some(ours), Some(theirs)) => format!("{} ({:.0} ×)", show(theirs), theirs / ours),
                (None, Some(theirs)) => show(theirs),
                (_, None) => "–".to_owned(),
            });
        }
        cells
    }

    fn verdict(&self, line: &Line, ours: Option<f64>) -> &'static str {
        let Some(ours) = ours else { return "–" };
        let mut limits = line.reach.iter().map(|reach| match reach {
            Reach::AtMost(limit) => Some(*limit),
            Reach::TimesRelay(factor, key) => Some(factor * self.median(Owner::Relay, key)?),
            Reach::Times(factor, key) => Some(factor * self.median(Owner::Meerkat, key)?),
        });
        if limits
            .clone()
            .any(|limit| limit.is_some_and(|limit| ours > limit))
        {
            "**no**"
        } else if limits.all(|limit| limit.is_some()) {
            "yes"
        } else {
            "–"
        }
    }
}

/// The relay's figure that one of ours is seen against: it has neither TLS nor acknowledgements.
fn floor_key(key: &str) -> String {
    match key.split(' ').collect::<Vec<_>>()[..] {
        ["message" | "settled", _, in_flight] => format!("message plain {in_flight}"),
        [what, "tls" | "websocket"] => format!("{what} plain"),
        _ => key.to_owned(),
    }
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("| {cell:<width$} "));
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(samples: &[(Owner, &str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (owner, key, value) in samples {
            figures.add(*owner, key, *value);
        }
        figures
    }

    fn check(samples: &[(Owner, &str, f64)], key: &str, expected: &str) {
        let figures = figures(samples);
        let line = LINES.iter().find(|line| line.key == key).unwrap();
        assert_eq!(
            figures.verdict(line, figures.median(Owner::Meerkat, key)),
            expected,
            "{samples:?}"
        );
    }

    #[test]
    fn a_figure_is_held_against_all_its_limits() {
        use Owner::{Meerkat, Relay};
        check(&[(Meerkat, "idle plain", 3.0)], "idle plain", "yes");
        check(&[(Meerkat, "idle plain", 3.01)], "idle plain", "**no**");
        check(&[], "idle plain", "–");
        let (ours, floor) = ("message plain 1", (Relay, "message plain 1", 5.0));
        check(&[(Meerkat, ours, 7.5), floor], ours, "yes");
        check(&[(Meerkat, ours, 7.6), floor], ours, "**no**");
        check(&[(Meerkat, ours, 7.6)], ours, "–");
        check(&[(Meerkat, ours, 8.1)], ours, "**no**");
        check(
            &[(Meerkat, "message tls 1", 9.5), floor],
            "message tls 1",
            "yes",
        );
        check(
            &[(Meerkat, "message tls 1", 9.6), floor],
            "message tls 1",
            "**no**",
        );
        let without = (Meerkat, "message plain 8", 1.0);
        check(
            &[(Meerkat, "settled plain 8", 1.4), without],
            "settled plain 8",
            "yes",
        );
        check(
            &[(Meerkat, "settled plain 8", 1.5), without],
            "settled plain 8",
            "**no**",
        );
    }

    #[test]
    fn the_relay_is_the_floor_of_encrypted_and_acknowledged_traffic_too() {
        assert_eq!(floor_key("message tls 8"), "message plain 8");
        assert_eq!(floor_key("settled plain 1"), "message plain 1");
        assert_eq!(floor_key("login tls"), "login plain");
        assert_eq!(floor_key("idle websocket"), "idle plain");
        assert_eq!(floor_key("message websocket 8"), "message plain 8");
        assert_eq!(floor_key("burst"), "burst");
    }

    #[test]
    fn the_median_of_the_samples_counts() {
        let key = "login plain";
        let mut figures = figures(&[(Owner::Meerkat, key, 100.0), (Owner::Meerkat, key, 900.0)]);
        assert_eq!(figures.median(Owner::Meerkat, key), Some(500.0));
        figures.add(Owner::Meerkat, key, 110.0);
        assert_eq!(figures.median(Owner::Meerkat, key), Some(110.0));
    }

    #[test]
    fn ratios_stand_beside_the_others_figures() {
        let peer = Owner::Peer(Peer::Prosody);
        let key = "message plain 1";
        let mut figures = figures(&[
            (Owner::Meerkat, key, 6.0),
            (Owner::Relay, key, 5.0),
            (peer, key, 277.0),
        ]);
        figures.name(peer, "Prosody 0.12".to_owned());
        let table = figures.table();
        let row = table
            .lines()
            .find(|line| line.contains("1 in flight, plain"))
            .unwrap();
        assert!(
            row.contains("5.00 µs (we: 1.20 ×)") && row.contains("277.00 µs (46 ×)"),
            "{row}"
        );
        assert_eq!(table.lines().count(), LINES.len() + 2);
        let widths: BTreeSet<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 1, "{table}");
    }
}
