//! The fields of a vassal in `status`.
//!
//! Each field is one row of [`FIELDS`], and one line of docs/reference.md; a test compares the two.

use std::borrow::Cow;
use std::time::Duration;

use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::status::{App, Status};
use crate::emperor::core::text::readable;

/// One field.
pub(super) struct Field {
    /// Its key in JSON.
    pub(super) key: &'static str,
    /// The heading of its column in the table; `None` if it has no column.
    pub(super) column: Option<&'static str>,
    pub(super) value: for<'a> fn(&'a Status<'a>) -> Value<'a>,
}

/// The value of a field.
pub(super) enum Value<'a> {
    Text(Option<Cow<'a, str>>),
    Number(Option<u64>),
    Seconds(Option<Duration>),
    /// Whether something has been said; the second tells whether it is said at all.
    Said(bool, bool),
    Mountpoints(&'a Mountpoints),
}

const fn field(
    key: &'static str,
    column: Option<&'static str>,
    value: for<'a> fn(&'a Status<'a>) -> Value<'a>,
) -> Field {
    Field { key, column, value }
}

/// The keys in JSON and the columns have this order.
pub(super) static FIELDS: [Field; 19] = [
    field("name", Some("NAME"), |vassal| Value::Text(Some((*vassal.name).into()))),
    field("file", None, |vassal| Value::Text(Some(readable(vassal.path.as_os_str())))),
    field("replica", None, |vassal| Value::Number(Some(vassal.replica.into()))),
    field("state", Some("STATE"), |vassal| Value::Text(Some(vassal.state.into()))),
    field("pid", Some("PID"), |vassal| Value::Number(vassal.pid.map(|pid| pid.unsigned_abs().into()))),
    field("uptime", None, |vassal| Value::Seconds(vassal.uptime)),
    field("in_state", Some("FOR"), |vassal| Value::Seconds(vassal.in_state)),
    field("restarts", Some("RESTARTS"), |vassal| Value::Number(Some(vassal.history.restarts()))),
    field("restarts_hour", Some("HOUR"), |vassal| Value::Number(Some(vassal.recent))),
    field("next_try", Some("NEXT TRY"), |vassal| Value::Seconds(vassal.next_try)),
    field("ready", Some("READY"), |vassal| {
        let App { ready, announces, .. } = vassal.app;
        Value::Said(ready.is_some(), announces)
    }),
    field("on_demand", None, |vassal| text(vassal.on_demand)),
    field("status", None, |vassal| text(vassal.app.status)),
    field("last", None, |vassal| text(vassal.history.past.last_end.as_deref())),
    field("output", None, |vassal| text(Some(&*vassal.history.output).filter(|place| !place.is_empty()))),
    field("warnings", None, |vassal| text(Some(&*vassal.history.warnings).filter(|text| !text.is_empty()))),
    field("reload_refused", None, |vassal| text(vassal.refused.map(|refused| refused.why))),
    field("problem", None, |vassal| text(vassal.problem)),
    field("mountpoints", Some("MOUNTS"), |vassal| Value::Mountpoints(vassal.mountpoints)),
];

fn text(text: Option<&str>) -> Value<'_> {
    Value::Text(text.map(Cow::Borrowed))
}

/// The heading of the column of what is wrong, where only such vassals are asked for.
pub(super) const PROBLEM: &str = "PROBLEM";
/// The heading of the last column, which shows several fields: what a start waits for, why the last instance
/// ended, why a reload was refused, and which mountpoints were lost.
pub(super) const LAST: &str = "LAST";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::status::{IGNORED, STATES};

    #[test]
    fn each_field_has_a_line_in_the_reference() {
        let reference = include_str!("../../../docs/reference.md");
        for Field { key, column, .. } in &FIELDS {
            let line = format!("| `{key}` | {} |", column.unwrap_or_default());
            let line = line.replace("|  |", "| |");
            // The fields of the last column have no column of their own.
            let last = format!("| `{key}` | {LAST} |");
            assert!(
                reference.lines().any(|known| known.starts_with(&line) || known.starts_with(&last)),
                "docs/reference.md lacks a line '{line} ... |' in its table of what status tells"
            );
        }
    }

    #[test]
    fn each_state_is_in_the_picture_and_the_table_of_concepts() {
        let concepts = include_str!("../../../docs/concepts.md");
        let (_, picture) = concepts.split_once("```").unwrap();
        let (picture, _) = picture.split_once("```").unwrap();
        for state in STATES {
            let has_row = concepts.contains(&format!("\n| `{state}` | "));
            assert!(has_row, "docs/concepts.md has no row for {state}");
            let is_there = picture.split_whitespace().any(|word| word.trim_end_matches(',') == state);
            assert!(is_there || state == IGNORED, "the picture of docs/concepts.md has no {state}");
        }
    }

    #[test]
    fn the_reference_has_no_field_that_there_is_not() {
        let reference = include_str!("../../../docs/reference.md");
        let (_, table) = reference.split_once("\n| JSON | Table | |\n|---|---|---|\n").unwrap();
        let lines = table.lines().take_while(|line| line.starts_with('|'));
        let documented: Vec<_> = lines.map(|line| line.split('`').nth(1).unwrap()).collect();
        assert_eq!(documented, FIELDS.each_ref().map(|field| field.key));
    }
}
