//! What the plans of vassals and emperors have in common: values with their places, users, addresses.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;

use crate::place::Place;

/// Where in a configuration something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named, or `command line`.
    pub file: Rc<str>,
    /// Line, from 1; 0 where the source has no lines.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A value with the place it came from and the key it was given under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its key, as written.
    pub key: Rc<str>,
    /// Where it was written.
    pub at: Location,
}

/// A user and groups to become, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunAs {
    /// The user; `None` for no change.
    pub uid: Option<Located<Id>>,
    /// The group; `None` is the user's primary group.
    pub gid: Option<Located<Id>>,
    /// Further supplementary groups (`add-gid`).
    pub add_gids: Vec<Located<Id>>,
    /// Whether the user's groups in the group database are left out (`no-initgroups`).
    pub no_initgroups: bool,
}

/// The IDs of a user namespace, as configured. Without any, the starter is root inside, and nobody else has
/// an ID there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MapsPlan {
    /// Those of users (`map-users`).
    pub users: Vec<Located<IdMap>>,
    /// Those of groups (`map-groups`); if there are none, those of users.
    pub groups: Vec<Located<IdMap>>,
}

/// A part of the map of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMap {
    /// What /etc/subuid and /etc/subgid grant (`auto`).
    Auto,
    /// These IDs.
    Range(IdRange),
}

/// Consecutive IDs inside a user namespace, and those that they are outside (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first ID inside.
    pub inside: u32,
    /// The first ID outside.
    pub outside: u32,
    /// How many there are, at least one. None of them is above 4294967294.
    pub count: u32,
}

impl IdRange {
    /// How many the kernel takes (user_namespaces(7)).
    pub const MOST: usize = 340;

    /// The first ID that is in both, and whether it is inside or outside.
    pub fn meets(&self, other: &Self) -> Option<(u32, &'static str)> {
        let turned = |range: &Self| Self { outside: range.inside, ..*range };
        if self.meets_outside(other) {
            return Some((self.outside.max(other.outside), "outside"));
        }
        let is_met = turned(self).meets_outside(&turned(other));
        is_met.then(|| (self.inside.max(other.inside), "inside"))
    }

    /// Whether an ID outside is in both.
    pub fn meets_outside(&self, other: &Self) -> bool {
        let (a, b) = (u64::from(self.outside), u64::from(other.outside));
        a < b + u64::from(other.count) && b < a + u64::from(self.count)
    }
}

/// A value for a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupOption {
    /// The file's name.
    pub file: String,
    /// The value.
    pub value: Vec<u8>,
}

/// A user or group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// A number.
    Number(u32),
    /// A name, resolved when the vassal runs.
    Name(String),
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As it was written.
    pub name: String,
    /// The parsed place.
    pub place: Place,
}

impl Address {
    /// A unix socket in the file system.
    pub fn file(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into_owned(), place: Place::File(path) }
    }
}
