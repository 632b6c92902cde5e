//! Questions about all settings together, for both programs; and unknown keys.

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::options::Program;
use crate::config::keys::{suggest, values};
use crate::config::setting::{Setting, State};

/// Options of uWSGI whose names are close to an option of these programs: they are not warned of.
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

/// The settings that are still to be read.
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

/// Warns of a key that the program does not read. It may be a placeholder, unless it is not used and looks
/// like a misspelt option. `refused` makes it a mistake in any case.
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

/// The option that a key was probably meant to be.
pub(super) fn lookalike(key: &[u8], program: &Program) -> Option<&'static str> {
    if UWSGI_LOOKALIKES.iter().any(|name| name.as_bytes() == key) {
        return None;
    }
    let mut names = program.names();
    names.retain(|name| !name.ends_with("PHASE"));
    suggest::closest(key, &names)
}
