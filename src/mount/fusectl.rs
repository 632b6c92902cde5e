//! The control filesystem of FUSE (kernel: filesystems/fuse/fuse, "Control filesystem").

use std::cell::OnceCell;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{mountinfo, ops};
use crate::error::{Context, Result};

/// An open fusectl, for repeated use.
#[derive(Debug, Default)]
pub struct Fusectl(OnceCell<Option<OwnedFd>>);

impl Fusectl {
    /// Whether a FUSE filesystem on a block device (`fuseblk`) is mounted anywhere on the machine; `false` if
    /// that cannot be found out.
    pub fn has_fuseblk(&self) -> bool {
        let directory = self.0.get_or_init(|| ops::detached("fusectl").ok());
        // The descriptor from fsmount(2) cannot be read, so the directory is opened once more.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |directory| openat(directory, c".", flags, Mode::empty()).and_then(Dir::new).ok();
        let entries = directory.as_ref().and_then(open);
        let number = |name: &std::ffi::CStr| name.to_str().ok()?.parse().ok();
        let is_fuseblk = |name: &std::ffi::CStr| number(name).is_some_and(mountinfo::is_of_block_device);
        entries.into_iter().flatten().flatten().any(|entry| is_fuseblk(entry.file_name()))
    }
}

/// Aborts connections by their numbers ([`super::mountinfo::Mount::connection`]): processes that wait for an
/// answer get an error instead, and can be killed. No path is walked.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENODEV without FUSE.
pub fn abort(connections: &[u64]) -> Result<()> {
    // It is mounted nowhere, and vanishes with the descriptor.
    let directory = ops::detached("fusectl").context("open", "fusectl")?;
    for connection in connections {
        let name = format!("{connection}/abort");
        let file = openat(&directory, &name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        match file.and_then(|file| rustix::io::write(&file, b"1")) {
            // The connection has just ended by itself.
            Ok(_) | Err(Errno::NOENT) => {}
            written => drop(written.context("abort FUSE connection", connection)?),
        }
    }
    Ok(())
}
