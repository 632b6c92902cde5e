//! The keys of sockets: addresses, and the settings of all sockets of a vassal.

use super::values::{self, Parsed};
use crate::config::bytes::split_once;
use crate::config::plan::Owner;
use crate::config::setting::Setting;

/// The settings of all sockets of a vassal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Common {
    /// How many connections may wait to be accepted (`listen = NUMBER`).
    pub backlog: Option<u32>,
    /// The mode of unix sockets (`chmod-socket`).
    pub mode: Option<u32>,
    /// The owner of unix sockets (`chown-socket`).
    pub owner: Option<Owner>,
    /// Whether others may bind the same port (`reuse-port`).
    pub reuse_port: bool,
}

/// A socket's mode, octal; without a value, and for 1, it is 666, as in uWSGI.
pub(crate) fn mode(text: &[u8]) -> Parsed<u32> {
    if matches!(text, b"" | b"1") { Ok(0o666) } else { values::octal(text, 0o777) }
}

/// `USER[:GROUP]`; as in uWSGI, one of them may be empty.
pub(crate) fn owner(text: &[u8]) -> Parsed<Owner> {
    let (user, group) = split_once(text, b':').unwrap_or((text, b""));
    let one = |text: &[u8]| Some(text).filter(|text| !text.is_empty()).map(values::id).transpose();
    match (one(user)?, one(group)?) {
        (None, None) => values::id(user).map(|_| Owner { user: None, group: None }),
        (user, group) => Ok(Owner { user, group }),
    }
}

/// Whether `listen` has a number: the length of the queue, as in uWSGI.
pub(crate) fn is_backlog(setting: &Setting) -> bool {
    !setting.text().is_empty() && setting.text().iter().all(u8::is_ascii_digit)
}
