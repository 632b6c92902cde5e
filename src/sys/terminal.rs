//! The controlling terminal: whose process group is in the foreground, and whose session it belongs to.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// The process group in the foreground (tcgetpgrp(3)), 0 for one of another pid namespace.
///
/// # Errors
/// ENOTTY if it is no terminal, or not ours; EIO if it hung up.
pub fn foreground(terminal: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: a live descriptor.
    check(unsafe { libc::tcgetpgrp(terminal.as_fd().as_raw_fd()) })
}

/// Brings a process group of our session to the foreground (tcsetpgrp(3)). SIGTTOU must be blocked: it would
/// stop whoever does that from the background.
///
/// # Errors
/// As [`foreground`]; EPERM for a group of another session.
pub fn set_foreground(terminal: impl AsFd, group: i32) -> Result<(), Errno> {
    // SAFETY: a live descriptor and an integer.
    check(unsafe { libc::tcsetpgrp(terminal.as_fd().as_raw_fd(), group) }).map(drop)
}

/// Our process group, 0 for one of another pid namespace (getpgrp(2)).
pub fn own_group() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpgrp() }
}

/// Whether we lead our session (getsid(2)).
pub fn leads_session() -> bool {
    // SAFETY: plain integers.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Lets go of the terminal on `fd`, if it is our controlling one (TIOCNOTTY, ioctl_tty(2)). The kernel sends
/// the foreground group of a session whose leader does so SIGHUP and SIGCONT.
///
/// # Errors
/// ENOTTY if it is none.
pub fn let_go(fd: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a live descriptor, and a request without an argument.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCNOTTY as _) }).map(drop)
}

/// Makes the terminal on `fd` the controlling one of our session, which has none (TIOCSCTTY).
///
/// # Errors
/// ENOTTY if it is no terminal, EPERM if it belongs to another session.
pub fn adopt(fd: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a live descriptor and an integer.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

fn check(result: i32) -> Result<i32, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}
