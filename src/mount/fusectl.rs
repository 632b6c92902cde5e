//! The control filesystem of FUSE (kernel: filesystems/fuse/fuse, "Control filesystem").

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::ops;
use crate::error::{Context, Result};

/// Aborts connections by their numbers, as [`super::mountinfo::Mount::connection`] has them: whoever waits
/// for an answer gets an error instead, and can be killed. No path is walked.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENODEV without FUSE.
pub fn abort(connections: &[u64]) -> Result<()> {
    // Mounted nowhere: it is gone with the descriptor.
    let directory = ops::detached("fusectl").context("open", "fusectl")?;
    for connection in connections {
        let name = format!("{connection}/abort");
        let file = openat(&directory, &name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        match file.and_then(|file| rustix::io::write(&file, b"1")) {
            // It went by itself just now.
            Ok(_) | Err(Errno::NOENT) => {}
            written => drop(written.context("abort FUSE connection", connection)?),
        }
    }
    Ok(())
}
