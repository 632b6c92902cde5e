//! What may be asked of the mount table: a mount, an unmount, another root. Values only; `ops` carries them
//! out.

use std::ffi::OsString;
use std::path::PathBuf;

/// One mount, as mount(2) takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Filesystem type; `none` for bind mounts and changes.
    pub fs_type: OsString,
    /// What is mounted.
    pub source: OsString,
    /// Where.
    pub target: PathBuf,
    /// `MS_*` bits.
    pub flags: u64,
    /// The filesystem's own options, empty for none.
    pub data: OsString,
}

/// One FUSE mount, and the program that serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fuse {
    /// Where.
    pub target: PathBuf,
    /// `MS_*` bits, and those of [`flags::FUSE`](super::flags::FUSE).
    pub flags: u64,
    /// The command, up to the mountpoint that it names (`{}`), and from there.
    pub command: [OsString; 2],
}

/// One unmount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Umount {
    /// What.
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
