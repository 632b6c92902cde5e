//! The settings read so far: a plan, and the values that several keys decide together in the end.

use std::ffi::OsString;

use super::sockets::Common;
use crate::config::plan::{Address, App, EmperorPlan, Located, Tyrant, VassalPlan};

/// The settings of a vassal that have been read so far.
#[derive(Debug, Default)]
pub(crate) struct VassalDraft {
    /// The plan, except for values that several keys decide together.
    pub plan: VassalPlan,
    /// The app, if a key names a program other than uWSGI.
    pub program: Option<Located<App>>,
    /// uWSGI's own program.
    pub binary: Option<Located<OsString>>,
    /// The settings of all sockets.
    pub sockets: Common,
    /// Whether `/proc` is made safe.
    pub safe_proc: Option<Located<bool>>,
    /// Whether instances are replaced one by one, a new one beside the old one (`reload-strategy`).
    pub is_rolling: Option<bool>,
    /// The addresses to listen at.
    pub addresses: Vec<Located<Address>>,
}

/// The settings of an emperor that have been read so far.
#[derive(Debug, Default)]
pub(crate) struct EmperorDraft {
    /// The plan, except for values that several keys decide together.
    pub plan: EmperorPlan,
    /// Whether vassals run as the owners of their files, and how.
    pub is_tyrant: bool,
    pub tyrant: Tyrant,
    /// The last key of a variant of tyrant mode, with the place of the key itself.
    pub tyrant_kind: Option<Located<()>>,
    /// For all vassals, before their own file: files to inherit, files to include, and options.
    pub inherit_before: Vec<(String, OsString)>,
    pub include_before: Vec<(String, OsString)>,
    pub set: Vec<(String, OsString)>,
    /// For all vassals, after their own file.
    pub inherit: Vec<(String, OsString)>,
    pub include: Vec<(String, OsString)>,
}
