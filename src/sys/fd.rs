//! Descriptors: inherited ones taken over, unwanted ones closed.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

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

/// Closes every descriptor but the standard ones and `kept`, which may get another number.
///
/// # Errors
/// ENOSYS, EPERM under a seccomp filter that does not know close_range(2).
pub fn keep_only(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    const NUMBER: RawFd = 3;
    let old = kept.into_raw_fd();
    // SAFETY: `old` is ours; dup3 gives us `NUMBER`, closing what was there. Nothing in this process uses a
    // descriptor above it after this call: its caller starts a new life in a child process.
    unsafe {
        if old != NUMBER && libc::dup3(old, NUMBER, libc::O_CLOEXEC) == -1 {
            return Err(last_errno());
        }
        if libc::syscall(libc::SYS_close_range, NUMBER + 1, u32::MAX, 0) == -1 {
            return Err(last_errno());
        }
        Ok(OwnedFd::from_raw_fd(NUMBER))
    }
}

/// Sets or clears the close-on-exec flag of a descriptor that somebody else owns; on what is none, nothing happens.
pub fn set_cloexec(fd: RawFd, cloexec: bool) {
    // SAFETY: F_SETFD changes a flag of whatever the number refers to, and nothing in memory.
    unsafe { libc::fcntl(fd, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC } else { 0 }) };
}

/// Closes every descriptor from `first` up, in a child that uses none of them any more (close_range(2)).
///
/// # Errors
/// ENOSYS, EPERM under a seccomp filter that does not know the call.
pub fn close_from(first: u32) -> Result<(), Errno> {
    close_range(first, 0)
}

fn close_range(first: u32, flags: u32) -> Result<(), Errno> {
    // SAFETY: plain integers. The caller uses no descriptor that it closes.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Marks every descriptor from `first` up as close-on-exec (close_range(2)).
///
/// # Errors
/// ENOSYS, EPERM under a seccomp filter that does not know the call.
pub fn cloexec_from(first: u32) -> Result<(), Errno> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor but the standard ones, before this process has opened any of its own.
///
/// # Errors
/// As [`cloexec_from`].
pub fn close_inherited() -> Result<(), Errno> {
    // SAFETY: nothing in this process owns a descriptor yet; those there are, its starter left open.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Gives the program that a child is about to execute a copy of `fd` as descriptor `number`, whatever that is now.
///
/// # Errors
/// EBADF for a number beyond the limit (dup2(2)).
pub fn place(fd: impl AsFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: what was at `number` is closed. Its owner in this process is a copy that ends with the exec, or with the
    // child, and touches it no more.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } == -1 { Err(last_errno()) } else { Ok(()) }
}
