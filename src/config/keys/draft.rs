//! What the settings read so far have come to: a plan, and what several keys decide together in the end.

use std::ffi::OsString;

use super::sockets::Common;
use crate::config::plan::{Address, App, EmperorPlan, Located, Tyrant, VassalPlan};

/// What the settings of a vassal have come to so far.
#[derive(Debug, Default)]
pub(crate) struct VassalDraft {
    /// The plan, but for what several keys decide together.
    pub plan: VassalPlan,
    /// The app, where a key names another one than uWSGI.
    pub program: Option<Located<App>>,
    /// uWSGI's own program.
    pub binary: Option<Located<OsString>>,
    /// What all sockets have in common.
    pub sockets: Common,
    /// The addresses to listen at.
    pub addresses: Vec<Located<Address>>,
}

/// What the settings of an emperor have come to so far.
#[derive(Debug, Default)]
pub(crate) struct EmperorDraft {
    /// The plan, but for what several keys decide together.
    pub plan: EmperorPlan,
    /// Whether vassals run as the owners of their files, and how.
    pub is_tyrant: bool,
    pub tyrant: Tyrant,
    /// The last key that says how, at the place of the key.
    pub tyrant_kind: Option<Located<()>>,
    /// What all vassals are told before their own file is read: files that are inherited and included, and options.
    pub inherit_before: Vec<(String, OsString)>,
    pub include_before: Vec<(String, OsString)>,
    pub set: Vec<(String, OsString)>,
    /// The same behind it.
    pub inherit: Vec<(String, OsString)>,
    pub include: Vec<(String, OsString)>,
}
