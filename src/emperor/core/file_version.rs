//! Versions of files, by which a change is noticed.

use rustix::fs::{Stat, Statx, makedev};

use super::owner::Owner;
pub use crate::protocol::FileId;

/// A version of a vassal's file. The default stands for a file that cannot be looked at.
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
    /// The owner, in tyrant mode only, where another owner makes another version.
    pub owner: Option<Owner>,
}

impl FileVersion {
    /// The version of a file, from the result of stat(2).
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

    /// The same, by what statx(2) says of it.
    pub fn of_known(file: &Statx, owner: Option<Owner>) -> Self {
        Self {
            modified: file.stx_mtime.tv_sec,
            modified_nanos: file.stx_mtime.tv_nsec,
            device: makedev(file.stx_dev_major, file.stx_dev_minor),
            inode: file.stx_ino,
            size: file.stx_size,
            owner,
        }
    }

    /// Which file it is a version of.
    pub fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }

    /// For another process of the emperor's, which makes it a version again with
    /// [`FileVersion::of_numbers`].
    pub fn numbers(&self) -> [u64; 8] {
        let [is_owned, uid, gid] = self.owner.map_or([0; 3], |it| [1, it.uid.into(), it.gid.into()]);
        let modified = self.modified.cast_unsigned();
        [modified, self.modified_nanos.into(), self.device, self.inode, self.size, is_owned, uid, gid]
    }

    /// The version that has these numbers.
    pub fn of_numbers([modified, nanos, device, inode, size, is_owned, uid, gid]: [u64; 8]) -> Self {
        Self {
            modified: modified.cast_signed(),
            modified_nanos: nanos as u32,
            device,
            inode,
            size,
            owner: (is_owned == 1).then_some(Owner { uid: uid as u32, gid: gid as u32 }),
        }
    }
}
