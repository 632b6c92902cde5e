//! Metrics in Prometheus's text format.
//!
//! A metric is one row of `METRICS`, and one line of docs/reference.md; a test compares the two.

use std::fmt::Write as _;
use std::time::Duration;

use super::http;
use crate::emperor::core::status::Status;

/// The answer to a request, whatever its path.
pub fn answer(request: &[u8], vassals: &[Status<'_>], uptime: Duration) -> Vec<u8> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    http::respond(request, content_type, || text(vassals, uptime))
}

/// One metric.
struct Metric {
    name: &'static str,
    /// Its type, in the words of Prometheus.
    kind: &'static str,
    /// One sentence of help.
    help: &'static str,
    value: Source,
}

/// Where the values of a metric come from.
enum Source {
    /// The emperor; the argument is its uptime.
    Emperor(fn(Duration) -> Value),
    /// Each vassal that has a value.
    Vassal(fn(&Status<'_>) -> Option<Value>),
    /// Each vassal, with its state as a label.
    VassalInState(fn(&Status<'_>) -> Option<Value>),
}

/// A value.
enum Value {
    Number(u64),
    Seconds(Duration),
}

static METRICS: [Metric; 6] = [
    Metric {
        name: "emperor_uptime_seconds",
        kind: "gauge",
        help: "How long the emperor is up.",
        value: Source::Emperor(Value::Seconds),
    },
    Metric {
        name: "vassal_up",
        kind: "gauge",
        help: "Whether the app runs.",
        value: Source::Vassal(|vassal| Some(Value::Number(u64::from(vassal.uptime.is_some())))),
    },
    Metric {
        name: "vassal_state",
        kind: "gauge",
        help: "What the vassal does.",
        value: Source::VassalInState(|_| Some(Value::Number(1))),
    },
    Metric {
        name: "vassal_restarts_total",
        kind: "counter",
        help: "Instances after the first one.",
        value: Source::Vassal(|vassal| Some(Value::Number(vassal.history.restarts()))),
    },
    Metric {
        name: "vassal_uptime_seconds",
        kind: "gauge",
        help: "How long the app is up.",
        value: Source::Vassal(|vassal| vassal.uptime.map(Value::Seconds)),
    },
    Metric {
        name: "vassal_next_try_seconds",
        kind: "gauge",
        help: "How long until the next try.",
        value: Source::Vassal(|vassal| vassal.next_try.map(Value::Seconds)),
    },
];

fn text(vassals: &[Status<'_>], uptime: Duration) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, value } in &METRICS {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        match value {
            Source::Emperor(value) => {
                text.push_str(name);
                push_value(&mut text, &value(uptime));
            }
            Source::Vassal(value) => {
                for vassal in vassals {
                    push_sample(&mut text, name, vassal, None, value(vassal));
                }
            }
            Source::VassalInState(value) => {
                for vassal in vassals {
                    push_sample(&mut text, name, vassal, Some(vassal.state), value(vassal));
                }
            }
        }
    }
    text
}

/// The line of one vassal, if there is a value.
fn push_sample(
    text: &mut String,
    name: &str,
    vassal: &Status<'_>,
    state: Option<&str>,
    value: Option<Value>,
) {
    let Some(value) = value else { return };
    text.push_str(name);
    text.push_str("{vassal=\"");
    push_label(text, &vassal.path.shown());
    if vassal.is_one_of_several() {
        let _ = write!(text, "\",replica=\"{}", vassal.replica);
    }
    if let Some(state) = state {
        text.push_str("\",state=\"");
        text.push_str(state);
    }
    text.push_str("\"}");
    push_value(text, &value);
}

fn push_value(text: &mut String, value: &Value) {
    let _ = match value {
        Value::Number(number) => writeln!(text, " {number}"),
        Value::Seconds(time) if time.subsec_millis() == 0 => writeln!(text, " {}", time.as_secs()),
        Value::Seconds(time) => writeln!(text, " {}.{:03}", time.as_secs(), time.subsec_millis()),
    };
}

/// The value of a label may contain any character except these three.
fn push_label(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '"' | '\\' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/reference.md");

    #[test]
    fn each_metric_has_a_line_in_the_reference_and_a_name_of_its_type() {
        for Metric { name, kind, help, .. } in &METRICS {
            assert!(
                REFERENCE.lines().any(|line| line.starts_with(&format!("| `{name}` | "))),
                "docs/reference.md lacks a line '| `{name}` | ... |' in its table of metrics"
            );
            assert!(["gauge", "counter"].contains(kind), "{name}: there is no type '{kind}'");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(help.ends_with('.'), "{name}: its help is no sentence: {help}");
        }
    }

    #[test]
    fn the_reference_has_no_metric_that_there_is_not() {
        for prefix in ["| `vassal_", "| `emperor_"] {
            for line in REFERENCE.lines().filter(|line| line.starts_with(prefix)) {
                let name = line.split('`').nth(1).unwrap();
                assert!(METRICS.iter().any(|metric| metric.name == name), "there is no metric '{name}'");
            }
        }
    }
}
