//! Identity and version of files.

use rustix::fs::Stat;

use super::owner::Owner;
pub use crate::protocol::FileId;

/// A version of a vassal's file. The default one stands for a file that cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileVersion {
    /// When the content was last modified, in seconds since 1970.
    pub modified: i64,
    /// The nanoseconds of that time.
    pub modified_nanos: u32,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// The owner, in tyrant mode only: a change of owner makes another version there.
    pub owner: Option<Owner>,
}

impl FileVersion {
    /// The version of a file by what stat(2) says of it.
    pub fn of(file: &Stat, owner: Option<Owner>) -> Self {
        Self {
            modified: file.st_mtime,
            modified_nanos: file.st_mtime_nsec as u32,
            device: file.st_dev,
            inode: file.st_ino,
            size: file.st_size as u64,
            owner,
        }
    }
}
