//! Which file it is, whatever is in it and whatever its name.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, makedev, statx};

use crate::emperor::core::file_version::FileId;
use crate::emperor::deputy::pull;

/// What statx(2) is asked for.
pub const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// The identity of a file; the default if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// The file.
    pub id: FileId,
    /// When it was created, in seconds since 1970 and nanoseconds: another file can get its inode number. If
    /// the filesystem does not tell, when it was last modified.
    pub born: (i64, u32),
}

impl Identity {
    /// Of a file, from the result of statx(2).
    pub fn of(file: &Statx) -> Self {
        let tells = file.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = if tells { file.stx_btime } else { file.stx_mtime };
        let id = FileId { device: makedev(file.stx_dev_major, file.stx_dev_minor), inode: file.stx_ino };
        Self { id, born: (born.tv_sec, born.tv_nsec) }
    }

    /// Of a name, which may be a link.
    pub fn of_name(path: &Path) -> Self {
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, MASK).map_or(Self::default(), |file| Self::of(&file))
    }

    /// Calls `push` with its numbers, for another process, which reads them with [`Identity::pull`].
    pub fn each_number(&self, push: &mut dyn FnMut(u64)) {
        let Self { id, born: (seconds, nanos) } = *self;
        [id.device, id.inode, seconds.cast_unsigned(), nanos.into()].into_iter().for_each(push);
    }

    /// Takes it off the beginning of a packet.
    pub fn pull(rest: &mut &[u8]) -> Option<Self> {
        let id = FileId { device: pull(rest)?, inode: pull(rest)? };
        Some(Self { id, born: (pull(rest)?.cast_signed(), pull(rest)? as u32) })
    }
}
