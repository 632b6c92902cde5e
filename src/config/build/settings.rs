//! Questions about all settings together, for both programs; and unknown keys.

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::options::Program;
use crate::config::keys::{suggest, values};
use crate::config::setting::{Setting, State};
use crate::names;

/// uWSGI's options whose names are close to an option of these programs: no warning for them.
const UWSGI_LOOKALIKES: &str = "\
    call-as-vassal1 call-as-vassal3 chdir2 get logformat logto2 metric sni unshare2 vassal-sos";

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

/// Warns of a key that the program does not read, unless it is a placeholder that is used. With `refused`, no
/// other program reads the key either. Otherwise uWSGI may read it, so only a key that looks misspelt is
/// warned of.
pub(super) fn unknown(
    setting: &Setting,
    program: &Program,
    strict: bool,
    refused: bool,
    found: &mut Diagnostics,
) {
    let key = setting.key.escape_ascii();
    let close = lookalike(&setting.key, program);
    let is_slip = close.is_some() || (setting.key.len() > 1 && setting.key.iter().any(is_in_no_name));
    if (!is_slip && !refused) || (setting.used.get() && !strict) {
        return;
    }
    let is_unknown = is_slip || strict;
    let message = if is_unknown {
        format!("unknown option '{key}'")
    } else {
        format!("'{key}' has no effect: the app is another program than uWSGI")
    };
    let found = if strict { found.error(&setting.at, message) } else { found.warning(&setting.at, message) };
    if let Some(close) = close {
        found.hint(if setting.key.contains(&b' ') && setting.text().is_empty() {
            format!("write '{close} = ...'")
        } else {
            format!("did you mean '{close}'?")
        });
    }
}

/// Whether no option, of these programs or of uWSGI, has this byte in its name.
fn is_in_no_name(byte: &u8) -> bool {
    !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')
}

/// Keys of other supervisors, with the key here that means the same.
const FOREIGN: &[(&str, &str)] = &[("group", "gid"), ("user", "uid")];

/// The option that a key was probably meant to be.
pub(super) fn lookalike(key: &[u8], program: &Program) -> Option<String> {
    if names::contains(UWSGI_LOOKALIKES, key) {
        return None;
    }
    // Leave out what a name cannot contain, so that `UID`, `uid nobody`, `uid: nobody` and `uid` with a
    // no-break space are recognised.
    let word = key.split(|byte| matches!(byte, b' ' | b'\t' | b':')).next().unwrap_or_default();
    let plain: Vec<u8> =
        word.iter().filter(|byte| byte.is_ascii_graphic()).map(u8::to_ascii_lowercase).collect();
    if plain != key && program.find(&plain).is_some() {
        return String::from_utf8(plain).ok();
    }
    let foreign = FOREIGN.iter().find(|(word, _)| word.as_bytes() == plain).map(|(_, name)| *name);
    let mut names = program.names();
    names.retain(|name| !name.ends_with("PHASE"));
    foreign.or_else(|| suggest::closest(&plain, &names)).map(str::to_owned)
}
