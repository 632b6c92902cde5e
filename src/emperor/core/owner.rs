//! Whose a vassal's file is, and whether that matters.

use crate::config::plan::Tyrant;

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// It does not matter.
    #[default]
    Ignored,
    /// The owner of the file; a symbolic link is followed to it.
    OfFiles,
    /// The owner of the symbolic link, if it is one (`emperor-tyrant-nofollow`).
    OfLinks,
}

impl Owners {
    /// What tyrant mode, or none, makes of it.
    pub fn of(tyrant: Option<Tyrant>) -> Self {
        match tyrant {
            None => Self::Ignored,
            Some(Tyrant { nofollow: false, .. }) => Self::OfFiles,
            Some(Tyrant { nofollow: true, .. }) => Self::OfLinks,
        }
    }
}
