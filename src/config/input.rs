//! The sources of options: files, texts, the command line, and the hooks of the emperor.

use std::ffi::OsString;
use std::path::PathBuf;

use super::diagnostic::COMMAND_LINE;

/// One source of options. Several are read in order, and a later one overrides an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, as `FILE` or `FILE:SECTION`.
    File(OsString),
    /// A file whose content is already there.
    Text {
        /// Its path, for messages and magic variables.
        path: PathBuf,
        /// The section to read; `None` for `uwsgi`.
        section: Option<OsString>,
        /// Its content.
        text: Vec<u8>,
    },
    /// An option of the command line, or of an emperor's file for all its vassals.
    Option {
        /// Its key; with the place where an emperor's file has it as [`placed`] has it.
        key: String,
        /// Its value, if it was given one.
        value: Option<OsString>,
    },
    /// A hook that an emperor gives to its vassals (`hook-as-vassal` and its kin). The emperor has expanded
    /// it already.
    FromEmperor {
        /// Its name.
        key: String,
        /// Its value.
        value: OsString,
    },
    /// The number that an emperor has given this instance among those of its vassal, from 1. `%(replica)`
    /// stands for it, where no setting is called so.
    Replica(u16),
}

/// The key of an option, and the place where it was written, which is behind an `@`: `set@/v.ini:3:1`. The
/// place is [`COMMAND_LINE`] for an option without one.
pub fn placed(key: &str) -> (&str, &str) {
    key.split_once('@').unwrap_or((key, COMMAND_LINE))
}

/// What is to be checked: a file, with what stands around it on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ToCheck {
    /// The options before it.
    pub before: Vec<Input>,
    /// The file, as `FILE` or `FILE:SECTION`; `None` for the options alone.
    pub file: Option<OsString>,
    /// The options behind it.
    pub behind: Vec<Input>,
}
