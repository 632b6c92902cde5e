//! Owners of vassals' files.

use crate::config::plan::Tyrant;

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Whose owner counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Nobody's: owners do not matter.
    #[default]
    Ignored,
    /// The owner of the file. A symbolic link is followed.
    OfFiles,
    /// The owner of the symbolic link, if the file is one (`emperor-tyrant-nofollow`).
    OfLinks,
}

impl Owners {
    /// The rule of this tyrant mode; without tyrant mode, that owners do not matter.
    pub fn of(tyrant: Option<Tyrant>) -> Self {
        match tyrant {
            None => Self::Ignored,
            Some(Tyrant { nofollow: false, .. }) => Self::OfFiles,
            Some(Tyrant { nofollow: true, .. }) => Self::OfLinks,
        }
    }
}
