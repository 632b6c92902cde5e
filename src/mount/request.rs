//! Requests to change the mount table: a mount, an unmount, another root. Values only; `ops` carries them
//! out.

use std::ffi::OsString;
use std::path::PathBuf;

/// A mount, with the arguments of mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRequest {
    /// Filesystem type; `none` for bind mounts and changes.
    pub fs_type: OsString,
    /// The source.
    pub source: OsString,
    /// The mount point.
    pub target: PathBuf,
    /// `MS_*` bits.
    pub flags: u64,
    /// The filesystem's own options, empty for none.
    pub data: OsString,
}

/// A FUSE mount, and the program that serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fuse {
    /// The mount point.
    pub target: PathBuf,
    /// `MS_*` bits, and those of [`flags::FUSE`](super::flags::FUSE).
    pub flags: u64,
    /// The command before the mountpoint (`{}`), and after it.
    pub command: [OsString; 2],
}

/// An unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Umount {
    /// The mount point.
    pub target: PathBuf,
    /// Whether all mounts below it go first, deepest first (`rec`).
    pub recursive: bool,
    /// `MNT_*` bits.
    pub flags: u32,
}

/// The two directories of pivot_root(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PivotRoot {
    /// The new root: a mount point.
    pub new_root: PathBuf,
    /// Where the old root is mounted: at or below the new root, written as seen before the pivot.
    pub put_old: PathBuf,
}
