//! `proc = safe`: a `/proc` through which root in a jail can neither change the machine nor read its secrets.
//!
//! The files of `/proc` that belong to the machine check for the user ID of root, and not for a capability.
//! The lists are those of runc's default specification.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::ops::{attach, change, detached, walked};
use crate::error::{Cause, Context, Error, Result};
use crate::path::Walk;
use crate::sys::mount::Attributes;

const PROC: &str = "/proc";
/// The file that is mounted over files that must be empty.
const NULL: &str = "/dev/null";

const READ_ONLY: &str = "bus fs irq sys sysrq-trigger";
/// Entries that are covered by an empty file or an empty directory.
const MASKED: &str = "acpi asound kcore keys latency_stats sched_debug scsi timer_list timer_stats";

/// Makes the procfs at `/proc` safe, in the mount namespace of this process.
///
/// # Errors
/// There is no procfs; or the mount that failed.
pub fn protect(walk: &Walk) -> Result<()> {
    let open = |path: &str| walked(walk.open_mount(path.as_ref()), "proc = safe", path.as_ref());
    let proc = open(PROC)?;
    if fstatfs(&proc).context("look at", PROC)?.f_type != PROC_SUPER_MAGIC {
        let reason =
            "no procfs is mounted there: write 'mount-as-root = proc none /proc nosuid,nodev,noexec'";
        return Err(Error::new("proc = safe:", PROC, reason));
    }
    let null = open(NULL)?;
    let read_only = READ_ONLY.split(' ').map(|name| (name, false));
    for (name, is_masked) in read_only.chain(MASKED.split(' ').map(|name| (name, true))) {
        protect_entry(proc.as_fd(), null.as_fd(), name, is_masked).context("proc = safe: /proc", name)?;
    }
    Ok(())
}

/// Protects an entry. One that this kernel does not have is skipped.
fn protect_entry(proc: impl AsFd, null: impl AsFd, name: &str, is_masked: bool) -> Result<(), Cause> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = match openat(proc, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        entry => entry?,
    };
    let is_directory = FileType::from_raw_mode(fstat(&entry)?.st_mode) == FileType::Directory;
    let copy = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let cover = match (is_masked, is_directory) {
        (false, _) => open_tree(&entry, c"", copy)?,
        (true, false) => open_tree(null, c"", copy)?,
        (true, true) => detached("tmpfs")?,
    };
    // Without NODEV, with which the null device could not be opened; reading an empty file is no error.
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    change(&cover, true, Attributes { set, ..Attributes::default() })?;
    Ok(attach(&cover, &entry)?)
}
