//! Rows for people and, with `--json`, one flat JSON object per line for programs.

use std::io::{self, Write as _};

use anyhow::Result;
use serde_json::{Map, Value};

use crate::measure::Used;

/// Above this share of one core the generator measures itself, not the server: no row is printed.
pub(crate) const OWN_CPU_SHARE_MAX: f64 = 0.90;

/// Why the program ends without the rows it was asked for; each has its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A message was lost, came twice or out of order.
    Delivery(String),
    /// The generator was too busy for the row to say anything of the server.
    Refused(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Delivery(_) => 3,
            Self::Refused(_) => 4,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delivery(text) | Self::Refused(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

/// One row: its kind and named figures, units in the names.
pub(crate) struct Row {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Row {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            fields: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// A figure rounded to `digits` behind the point; absent figures are `null`, and `-` in the table.
    pub(crate) fn figure(self, name: &'static str, value: Option<f64>, digits: i32) -> Self {
        let scale = 10_f64.powi(digits);
        self.with(name, value.map(|value| (value * scale).round() / scale))
    }

    /// Adds the generator's CPU and what the server used per `count` operations.
    pub(crate) fn used(self, used: &Used, count: u64) -> Self {
        let per = |part: std::time::Duration| part.as_secs_f64() * 1e6 / count.max(1) as f64;
        self.figure("server_cpu_us", used.server.map(|(total, _)| per(total)), 2)
            .figure("server_user_us", used.server.map(|(_, user)| per(user)), 2)
            .figure(
                "per_second",
                Some(count as f64 / used.wall.as_secs_f64()),
                0,
            )
            .figure("wall_s", Some(used.wall.as_secs_f64()), 2)
            .figure("own_cpu_percent", Some(used.own_share() * 100.0), 1)
            .figure(
                "own_wait_percent",
                Some(used.own_waiting.div_duration_f64(used.wall) * 100.0),
                1,
            )
    }
}

/// Prints rows; a table's head is repeated only when the columns change.
pub(crate) struct Report {
    json: bool,
    head: String,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            head: String::new(),
        }
    }

    /// Prints the row unless the generator was too busy in the row's window.
    pub(crate) fn print(&mut self, row: Row, used: &Used) -> Result<()> {
        if used.own_share() > OWN_CPU_SHARE_MAX {
            let text = format!(
                "row {:?} refused: the generator itself used {:.0} % of a core, more than {:.0} %; \
                 give the server less to do (--rate), or let the generator rest (--rest-above 85)",
                row.kind,
                used.own_share() * 100.0,
                OWN_CPU_SHARE_MAX * 100.0
            );
            return Err(Failure::Refused(text).into());
        }
        let mut out = io::stdout().lock();
        if self.json {
            let mut object = Map::new();
            object.insert("row".to_owned(), row.kind.into());
            object.extend(
                row.fields
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value)),
            );
            writeln!(out, "{}", Value::Object(object))?;
        } else {
            let (head, line) = table_lines(&row);
            if head != self.head {
                writeln!(out, "{head}")?;
                self.head = head;
            }
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        Ok(())
    }
}

fn table_lines(row: &Row) -> (String, String) {
    let mut head = format!("{:<10}", "row");
    let mut line = format!("{:<10}", row.kind);
    for (name, value) in &row.fields {
        let text = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
            other => other.to_string(),
        };
        let width = name.len().max(8);
        head.push_str(&format!("  {name:>width$}"));
        line.push_str(&format!("  {text:>width$}"));
    }
    (head, line)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_busy_generator_prints_nothing() {
        let used = |own| Used {
            wall: Duration::from_millis(1000),
            own: Duration::from_millis(own),
            own_waiting: Duration::ZERO,
            server: Some((Duration::from_millis(500), Duration::from_millis(100))),
        };
        let mut report = Report::new(true);
        report
            .print(Row::new("test").used(&used(900), 10), &used(900))
            .unwrap();
        let error = report.print(Row::new("test"), &used(901)).unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Failure::Refused(_))),
            "{error}"
        );
    }

    #[test]
    fn columns_stand_under_their_names() {
        let row = Row::new("idle")
            .with("tls", "none")
            .with("sm", true)
            .figure("bytes_per_session", Some(1234.567), 1)
            .figure("nothing", None, 1);
        let (head, line) = table_lines(&row);
        assert_eq!(
            head,
            "row              tls        sm  bytes_per_session   nothing"
        );
        assert_eq!(
            line,
            "idle            none       yes             1234.6         -"
        );
    }
}
