//! What the readers of vassal and emperor options have in common: key and place for each value, and unknown keys.

use std::rc::Rc;

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::options::Program;
use crate::config::keys::suggest;
use crate::config::keys::values::{self, Parsed};
use crate::config::plan::{Located, RunAs};
use crate::config::setting::{Setting, State};

/// Names of uWSGI's that are close to one of ours: no warning for them.
const UWSGI_LOOKALIKES: &[&str] = &[
    "call-as-vassal1",
    "call-as-vassal3",
    "chdir2",
    "logformat",
    "logto2",
    "metric",
    "unshare2",
    "vassal-sos",
];

/// The value of a setting, or `None` after its mistake was noted with key and place.
pub(super) fn value<T>(
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<T>,
) -> Option<T> {
    checked(setting, found, parse(setting.text()))
}

/// The same, with its key and place kept.
pub(super) fn located<T>(
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<T>,
) -> Option<Located<T>> {
    value(setting, found, parse).map(|value| locate(setting, value))
}

/// The value that a setting was read as, or `None` after its mistake was noted.
pub(super) fn checked<T>(setting: &Setting, found: &mut Diagnostics, parsed: Parsed<T>) -> Option<T> {
    parsed.map_err(|message| refuse(setting, found, message)).ok()
}

/// Notes a mistake under the key of its setting.
fn refuse(setting: &Setting, found: &mut Diagnostics, message: String) {
    found.error(&setting.value_at, format!("'{}': {message}", setting.key.escape_ascii()));
}

/// A value with the key and place of the setting it came from.
pub(super) fn locate<T>(setting: &Setting, value: T) -> Located<T> {
    let key: Rc<str> = String::from_utf8_lossy(&setting.key).into();
    Located { value, key, at: setting.value_at.clone() }
}

/// Takes on the value of a setting, if it is good: the last good one counts.
pub(super) fn set<T>(
    slot: &mut T,
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<T>,
) {
    if let Some(value) = value(setting, found, parse) {
        *slot = value;
    }
}

/// The same for what has no value before.
pub(super) fn set_some<T>(
    slot: &mut Option<T>,
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<T>,
) {
    if let Some(value) = value(setting, found, parse) {
        *slot = Some(value);
    }
}

/// The same with key and place.
pub(super) fn set_located<T>(
    slot: &mut Option<Located<T>>,
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<T>,
) {
    if let Some(value) = located(setting, found, parse) {
        *slot = Some(value);
    }
}

/// Reads `uid`, `gid`, `add-gid` or `no-initgroups`: the last one counts, but for `add-gid`.
pub(super) fn run_as(run_as: &mut RunAs, setting: &Setting, found: &mut Diagnostics) {
    if setting.name() == "no-initgroups" {
        return set(&mut run_as.no_initgroups, setting, found, values::boolean);
    }
    let id = located(setting, found, values::id);
    match setting.name() {
        "uid" => run_as.uid = id,
        "gid" => run_as.gid = id,
        _ => run_as.add_gids.extend(id),
    }
}

/// The settings that are options still to be read.
pub(super) fn open(settings: &[Setting]) -> impl Iterator<Item = &Setting> {
    settings.iter().filter(|setting| setting.state == State::Open)
}

/// The line that makes a file an emperor's.
pub(super) fn emperor_key(settings: &[Setting]) -> Option<&Setting> {
    open(settings).find(|setting| setting.key == b"emperor")
}

/// Whether `strict` is on: the last one counts.
pub(super) fn strict(settings: &[Setting]) -> bool {
    let last = open(settings).filter(|setting| setting.key == b"strict").last();
    last.is_some_and(|setting| values::boolean(setting.text()) != Ok(false))
}

/// Says what there is to say about a key that the program does not read: it is a placeholder for all we know, unless nobody uses
/// it and it looks like a slip. `refused` makes it a mistake in any case.
pub(super) fn unknown(
    setting: &Setting,
    program: &Program,
    strict: bool,
    refused: bool,
    found: &mut Diagnostics,
) {
    let close = lookalike(&setting.key, program);
    if (close.is_none() && !refused) || (setting.used.get() && !strict) {
        return;
    }
    let message = format!("unknown option '{}'", setting.key.escape_ascii());
    let found = if strict { found.error(&setting.at, message) } else { found.warning(&setting.at, message) };
    if let Some(close) = close {
        found.hint(format!("did you mean '{close}'?"));
    }
}

/// The option of ours that a key looks like.
pub(super) fn lookalike(key: &[u8], program: &Program) -> Option<&'static str> {
    if UWSGI_LOOKALIKES.iter().any(|name| name.as_bytes() == key) {
        return None;
    }
    let mut names = program.rows().map(|row| row.name).filter(|name| !name.ends_with("PHASE"));
    suggest::closest(key, &mut names)
}
