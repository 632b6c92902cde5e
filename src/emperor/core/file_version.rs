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

    /// The version of a file, from the result of statx(2).
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

    /// Whether this is the version of `before`, on a filesystem that was mounted anew and has another device
    /// number. A time without nanoseconds proves nothing: images give one time to all their files.
    pub fn is_remounted(&self, before: &Self) -> bool {
        let device = self.device;
        device != before.device && self.modified_nanos != 0 && *self == Self { device, ..*before }
    }

    /// The identity of the file.
    pub fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }

    /// Calls `push` with the numbers of the version, for another process of the emperor's, which reads them
    /// with [`FileVersion::from_numbers`].
    pub fn each_number(&self, push: &mut dyn FnMut(u64)) {
        let Self { modified, modified_nanos, device, inode, size, owner } = *self;
        push(modified.cast_unsigned());
        push(modified_nanos.into());
        push(device);
        push(inode);
        push(size);
        push(owner.is_some().into());
        let Owner { uid, gid } = owner.unwrap_or_default();
        push(uid.into());
        push(gid.into());
    }

    /// The version with the numbers that `next` returns; `None` if there are too few.
    pub fn from_numbers(next: &mut dyn FnMut() -> Option<u64>) -> Option<Self> {
        let (modified, modified_nanos) = (next()?.cast_signed(), next()? as u32);
        let (device, inode, size) = (next()?, next()?, next()?);
        let is_owned = next()? == 1;
        let owner = Owner { uid: next()? as u32, gid: next()? as u32 };
        Some(Self { modified, modified_nanos, device, inode, size, owner: is_owned.then_some(owner) })
    }
}
