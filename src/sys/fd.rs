//! Descriptors: inherited ones taken over, unwanted ones closed.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// Takes over a descriptor that this process was started with and that its starter named to us.
///
/// # Errors
/// EBADF if there is no such descriptor.
pub fn inherited(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(Errno::BADF);
    }
    // SAFETY: the descriptor is open, and by the contract with the starter it is ours alone: no code in this process
    // opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks every descriptor from `first` up as close-on-exec (close_range(2)).
///
/// # Errors
/// ENOSYS, EPERM under a seccomp filter that does not know the call.
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: plain integers; no descriptor is closed, only flagged.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
