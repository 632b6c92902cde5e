//! `mount_setattr(2)`: changing mounts by descriptor, a whole tree at once.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// What to change (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

/// Whether the kernel has mount_setattr(2).
pub fn can_set_attributes() -> bool {
    // A call that changes nothing: it succeeds, or fails for another reason.
    set_attributes(rustix::stdio::stdin(), false, Attributes::default()) != Err(Errno::NOSYS)
}

/// Changes the mount that `mount` is the root of, and those below it if `recursive`.
///
/// # Errors
/// EPERM, EINVAL if it is no mount's root; ENOSYS before Linux 5.12.
pub fn set_attributes(mount: impl AsFd, recursive: bool, attributes: Attributes) -> Result<(), Errno> {
    let Attributes { set, clear, propagation } = attributes;
    call(mount, recursive, libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 })
}

/// Has a mount that is not attached yet show the owners of its files as IDs of a user namespace (id-mapped
/// mounts, mount_setattr(2)): the file of user 0 belongs to root of that namespace there.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN on the filesystem; EINVAL if the filesystem has no such mounts; ENOSYS before
/// Linux 5.12.
pub fn map_ids(mount: impl AsFd, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    let set = libc::MOUNT_ATTR_IDMAP;
    call(mount, false, libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd })
}

fn call(mount: impl AsFd, recursive: bool, attr: libc::mount_attr) -> Result<(), Errno> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: an open descriptor, an empty path, and a valid mount_attr of the size passed, all outliving the
    // call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
