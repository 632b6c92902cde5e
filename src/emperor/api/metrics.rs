//! Metrics in Prometheus's text format.
//!
//! A metric is one row of `METRICS`, and one line of docs/reference.md; a test compares the two.

use std::fmt::Write as _;
use std::time::Duration;

use super::http;
use crate::cgroup::Usage;
use crate::emperor::core::status::Status;
use crate::emperor::core::tally::{BUCKETS_MS, ENDS, LOST, Tally};
use crate::protocol::{MountReport, MountState};

/// What the metrics are made of.
pub struct Seen<'a> {
    /// How long the emperor is up.
    pub uptime: Duration,
    /// How many instances there are, and how many there may be.
    pub instances: (u64, u64),
    /// What has happened since its start.
    pub tally: &'a Tally,
    /// How many files cannot be vassals.
    pub ignored: u64,
    /// The instances, each with what its cgroup uses.
    pub vassals: &'a [(Status<'a>, Usage)],
}

/// The answer to a request, whatever its path.
pub fn answer(request: &[u8], seen: &Seen<'_>) -> Vec<u8> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    http::respond(request, content_type, || text(seen))
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
    /// The emperor.
    Emperor(fn(&Seen<'_>) -> Value),
    /// The emperor: a number for each of these reasons, which are a label.
    Reasons(&'static [&'static str], fn(&Tally) -> &[u64]),
    /// The emperor: how long apps were missing.
    Recoveries,
    /// Each vassal that has a value.
    Vassal(fn(&Status<'_>, &Usage) -> Option<Value>),
    /// Each vassal, with its state as a label.
    State,
    /// Each checked mountpoint that has a value, with its path as a label. The number is that of its losses.
    Mountpoint(fn(&MountReport, u64) -> Option<Value>),
}

/// A value.
enum Value {
    Number(u64),
    Seconds(Duration),
}

const fn metric(name: &'static str, kind: &'static str, help: &'static str, value: Source) -> Metric {
    Metric { name, kind, help, value }
}

static METRICS: [Metric; 20] = [
    metric(
        "emperor_uptime_seconds",
        "gauge",
        "How long the emperor is up.",
        Source::Emperor(|seen| Value::Seconds(seen.uptime)),
    ),
    metric(
        "emperor_instances",
        "gauge",
        "How many instances there are.",
        Source::Emperor(|seen| Value::Number(seen.instances.0)),
    ),
    metric(
        "emperor_instances_max",
        "gauge",
        "How many there may be.",
        Source::Emperor(|seen| Value::Number(seen.instances.1)),
    ),
    metric(
        "emperor_ignored_files",
        "gauge",
        "Files that cannot be vassals.",
        Source::Emperor(|seen| Value::Number(seen.ignored)),
    ),
    metric("emperor_ends_total", "counter", "Ended instances.", Source::Reasons(&ENDS, |tally| &tally.ends)),
    metric(
        "emperor_mount_losses_total",
        "counter",
        "Lost mountpoints.",
        Source::Reasons(&LOST, |tally| &tally.losses),
    ),
    metric(
        "emperor_recovery_seconds",
        "histogram",
        "From the end of an app until one runs again, or is ready.",
        Source::Recoveries,
    ),
    metric(
        "vassal_up",
        "gauge",
        "Whether the app runs.",
        Source::Vassal(|vassal, _| Some(Value::Number(vassal.uptime.is_some().into()))),
    ),
    metric("vassal_state", "gauge", "What the vassal does.", Source::State),
    metric(
        "vassal_ready",
        "gauge",
        "Whether the app is ready.",
        Source::Vassal(|vassal, _| {
            Some(Value::Number(vassal.app.ready.is_some().into())).filter(|_| vassal.app.announces)
        }),
    ),
    metric(
        "vassal_restarts_total",
        "counter",
        "Instances after the first one.",
        Source::Vassal(|vassal, _| Some(Value::Number(vassal.history.restarts()))),
    ),
    metric(
        "vassal_uptime_seconds",
        "gauge",
        "How long the app is up.",
        Source::Vassal(|vassal, _| vassal.uptime.map(Value::Seconds)),
    ),
    metric(
        "vassal_next_try_seconds",
        "gauge",
        "How long until the next try.",
        Source::Vassal(|vassal, _| vassal.next_try.map(Value::Seconds)),
    ),
    metric(
        "vassal_reload_refused",
        "gauge",
        "Whether an older file counts, as the new one was refused.",
        Source::Vassal(|vassal, _| Some(Value::Number(vassal.refused.is_some().into()))),
    ),
    metric(
        "vassal_memory_bytes",
        "gauge",
        "Memory of its cgroup.",
        Source::Vassal(|_, usage| usage.memory.map(Value::Number)),
    ),
    metric(
        "vassal_cpu_seconds_total",
        "counter",
        "Processor time of its cgroup.",
        Source::Vassal(|_, usage| usage.cpu.map(Value::Seconds)),
    ),
    metric(
        "vassal_processes",
        "gauge",
        "Processes in its cgroup.",
        Source::Vassal(|_, usage| usage.processes.map(Value::Number)),
    ),
    metric(
        "vassal_mount_up",
        "gauge",
        "Whether it answers.",
        Source::Mountpoint(|report, _| Some(Value::Number((report.state == MountState::Up).into()))),
    ),
    metric(
        "vassal_mount_round_trip_seconds",
        "gauge",
        "How long its last answer took.",
        Source::Mountpoint(|report, _| report.round_trip.map(Value::Seconds)),
    ),
    metric(
        "vassal_mount_losses_total",
        "counter",
        "How often it was lost.",
        Source::Mountpoint(|_, lost| Some(Value::Number(lost))),
    ),
];

fn text(seen: &Seen<'_>) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, value } in &METRICS {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        match value {
            Source::Emperor(value) => push(&mut text, name, None, &[], Some(value(seen))),
            Source::Reasons(reasons, counts) => {
                for (reason, count) in reasons.iter().zip(counts(seen.tally)) {
                    push(&mut text, name, None, &[("reason", reason)], Some(Value::Number(*count)));
                }
            }
            Source::Recoveries => push_recoveries(&mut text, name, seen.tally),
            Source::Vassal(value) => {
                for (vassal, usage) in seen.vassals {
                    push(&mut text, name, Some(vassal), &[], value(vassal, usage));
                }
            }
            Source::State => {
                for (vassal, _) in seen.vassals {
                    push(&mut text, name, Some(vassal), &[("state", vassal.state)], Some(Value::Number(1)));
                }
            }
            Source::Mountpoint(value) => {
                for (vassal, _) in seen.vassals {
                    for (report, lost) in vassal.mountpoints.all() {
                        let path = report.path.to_string_lossy();
                        push(&mut text, name, Some(vassal), &[("mountpoint", &path)], value(report, lost));
                    }
                }
            }
        }
    }
    text
}

/// The buckets, each with all times that are at most its limit, the sum and the number of the times.
fn push_recoveries(text: &mut String, name: &str, tally: &Tally) {
    let mut sum = 0;
    for (limit, count) in BUCKETS_MS.iter().zip(&tally.recoveries.counts) {
        sum += count;
        let _ = write!(text, "{name}_bucket{{le=\"");
        push_seconds(text, Duration::from_millis((*limit).into()));
        let _ = writeln!(text, "\"}} {sum}");
    }
    let count = tally.recoveries.count;
    let _ = write!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_count {count}\n{name}_sum");
    push_value(text, &Value::Seconds(tally.recoveries.sum));
}

/// A line, if there is a value: of a vassal, or of the emperor itself.
fn push(
    text: &mut String,
    name: &str,
    vassal: Option<&Status<'_>>,
    labels: &[(&str, &str)],
    value: Option<Value>,
) {
    let Some(value) = value else { return };
    text.push_str(name);
    let mut before = '{';
    let mut label = |name: &str, value: &str| {
        text.push(std::mem::replace(&mut before, ','));
        let _ = write!(text, "{name}=\"");
        push_label(text, value);
        text.push('"');
    };
    if let Some(vassal) = vassal {
        label("vassal", &vassal.path.shown());
        if vassal.is_one_of_several() {
            label("replica", &vassal.replica.to_string());
        }
    }
    for (name, value) in labels {
        label(name, value);
    }
    if before == ',' {
        text.push('}');
    }
    push_value(text, &value);
}

fn push_value(text: &mut String, value: &Value) {
    text.push(' ');
    match value {
        Value::Number(number) => {
            let _ = write!(text, "{number}");
        }
        Value::Seconds(time) => push_seconds(text, *time),
    }
    text.push('\n');
}

/// In microseconds, as short as possible.
fn push_seconds(text: &mut String, time: Duration) {
    let _ = write!(text, "{}.{:06}", time.as_secs(), time.subsec_micros());
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
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
            assert!(["gauge", "counter", "histogram"].contains(kind), "{name}: there is no type '{kind}'");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(help.ends_with('.'), "{name}: its help is no sentence: {help}");
        }
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up_and_end_with_all() {
        let mut tally = Tally::default();
        tally.recoveries.counts[1] = 2;
        tally.recoveries.counts[3] = 1;
        (tally.recoveries.count, tally.recoveries.sum) = (4, Duration::from_micros(1_250_500));
        let mut text = String::new();
        push_recoveries(&mut text, "x", &tally);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["x_bucket{le=\"0.005\"} 0", "x_bucket{le=\"0.01\"} 2"]);
        let end = ["x_bucket{le=\"10\"} 3", "x_bucket{le=\"+Inf\"} 4", "x_count 4", "x_sum 1.2505"];
        assert_eq!(lines[10..], end);
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
