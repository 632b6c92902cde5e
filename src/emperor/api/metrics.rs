//! Metrics in Prometheus's text format, over as much of HTTP as it takes to be asked for them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::emperor::core::status::Status;

/// The answer to a request, whatever its path. `vassals` gives all of them, each time that it is asked.
pub fn answer<'a, V: Iterator<Item = Status<'a>>>(
    request: &[u8],
    vassals: impl Fn() -> V,
    uptime: Duration,
) -> Vec<u8> {
    let (status, body) = if request.starts_with(b"GET /") {
        ("200 OK", text(vassals, uptime))
    } else {
        ("400 Bad Request", "only GET is understood\n".to_owned())
    };
    let length = body.len();
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What is told of each vassal.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    /// Whether the state is a label as well.
    by_state: bool,
    /// What it is for one; `None` where there is nothing to tell.
    value: fn(&Status<'_>) -> Option<Duration>,
}

const fn metric(
    name: &'static str,
    help: &'static str,
    value: fn(&Status<'_>) -> Option<Duration>,
) -> Metric {
    Metric { name, kind: "gauge", help, by_state: false, value }
}

static METRICS: [Metric; 5] = [
    metric("vassal_up", "Whether the app runs.", |vassal| Some(number(u64::from(vassal.uptime.is_some())))),
    Metric { by_state: true, ..metric("vassal_state", "What the vassal does.", |_| Some(number(1))) },
    Metric {
        kind: "counter",
        ..metric("vassal_restarts_total", "Instances after the first one.", |vassal| {
            Some(number(vassal.history.restarts()))
        })
    },
    metric("vassal_uptime_seconds", "How long the app is up.", |vassal| vassal.uptime),
    metric("vassal_next_try_seconds", "How long until the next try.", |vassal| vassal.next_try),
];

/// Every value is a time, so that there is one way to write it.
fn number(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn text<'a, V: Iterator<Item = Status<'a>>>(vassals: impl Fn() -> V, uptime: Duration) -> String {
    let mut text = String::new();
    push_head(&mut text, "emperor_uptime_seconds", "gauge", "How long the emperor is up.");
    text.push_str("emperor_uptime_seconds");
    push_value(&mut text, uptime);
    for Metric { name, kind, help, by_state, value } in &METRICS {
        push_head(&mut text, name, kind, help);
        for vassal in vassals() {
            let Some(value) = value(&vassal) else { continue };
            text.push_str(name);
            text.push_str("{vassal=\"");
            push_label(&mut text, &vassal.name);
            if *by_state {
                text.push_str("\",state=\"");
                text.push_str(vassal.state);
            }
            text.push_str("\"}");
            push_value(&mut text, value);
        }
    }
    text
}

fn push_head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

fn push_value(text: &mut String, value: Duration) {
    let _ = write!(text, " {}", value.as_secs());
    if value.subsec_millis() > 0 {
        let _ = write!(text, ".{:03}", value.subsec_millis());
    }
    text.push('\n');
}

/// A label's value may hold anything but these three.
fn push_label(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '"' | '\\' => text.extend(['\\', c]),
            _ => text.push(c),
        }
    }
}
