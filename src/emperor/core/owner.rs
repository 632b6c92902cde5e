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

/// Which owner of a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// None: the owner does not matter.
    #[default]
    Ignored,
    /// The owner of the file; a symbolic link is followed to it.
    OfFiles,
    /// The owner of the symbolic link, if it is one (`emperor-tyrant-nofollow`).
    OfLinks,
}

impl Owners {
    /// The rule of tyrant mode, or of an emperor without it.
    pub fn of(tyrant: Option<Tyrant>) -> Self {
        match tyrant {
            None => Self::Ignored,
            Some(Tyrant { nofollow: false, .. }) => Self::OfFiles,
            Some(Tyrant { nofollow: true, .. }) => Self::OfLinks,
        }
    }
}
