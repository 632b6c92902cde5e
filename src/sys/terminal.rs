//! Terminals: their settings, the process group in the foreground of the controlling one, and the session
//! that it belongs to.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// The settings of a terminal (termios(3)).
#[derive(Debug, Clone, Copy)]
pub struct Settings(libc::termios);

impl Settings {
    /// The present ones of a terminal.
    ///
    /// # Errors
    /// ENOTTY if it is none; EIO if it has hung up.
    pub fn of(terminal: impl AsFd) -> Result<Self, Errno> {
        // SAFETY: plain numbers, for which all zero is a value.
        let mut settings = unsafe { std::mem::zeroed() };
        // SAFETY: a live descriptor, and a structure that is filled in.
        check(unsafe { libc::tcgetattr(terminal.as_fd().as_raw_fd(), &raw mut settings) })?;
        Ok(Self(settings))
    }

    /// Those with which each byte passes as it is (cfmakeraw(3)).
    #[must_use]
    pub fn raw(mut self) -> Self {
        // SAFETY: a structure that the kernel has filled in.
        unsafe { libc::cfmakeraw(&raw mut self.0) };
        self
    }

    /// Gives a terminal these.
    ///
    /// # Errors
    /// As [`Settings::of`].
    pub fn set(&self, terminal: impl AsFd) -> Result<(), Errno> {
        // SAFETY: a live descriptor, and a structure that the kernel has filled in.
        check(unsafe { libc::tcsetattr(terminal.as_fd().as_raw_fd(), libc::TCSANOW, &raw const self.0) })
            .map(drop)
    }
}

/// The process group in the foreground (tcgetpgrp(3)); 0 for a group of another pid namespace.
///
/// # Errors
/// ENOTTY if it is not a terminal, or not that of this session; EIO if it has hung up.
pub fn foreground(terminal: impl AsFd) -> Result<i32, Errno> {
    // SAFETY: a live descriptor.
    check(unsafe { libc::tcgetpgrp(terminal.as_fd().as_raw_fd()) })
}

/// Brings a process group of this session to the foreground (tcsetpgrp(3)). SIGTTOU must be blocked, because
/// it would stop a caller in the background.
///
/// # Errors
/// As [`foreground`]; EPERM for a group of another session.
pub fn set_foreground(terminal: impl AsFd, group: i32) -> Result<(), Errno> {
    // SAFETY: a live descriptor and an integer.
    check(unsafe { libc::tcsetpgrp(terminal.as_fd().as_raw_fd(), group) }).map(drop)
}

/// The process group of this process; 0 for a group of another pid namespace (getpgrp(2)).
pub fn own_group() -> i32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::getpgrp() }
}

/// The session of a process, 0 for this one (getsid(2)). It is 0 itself if it began in another pid namespace,
/// and -1 if there is no such process.
pub fn session_of(pid: i32) -> i32 {
    // SAFETY: a plain integer.
    unsafe { libc::getsid(pid) }
}

/// The process group of a process (getpgid(2)), as in [`session_of`].
pub fn group_of(pid: i32) -> i32 {
    // SAFETY: a plain integer.
    unsafe { libc::getpgid(pid) }
}

/// Whether this process leads its session.
pub fn leads_session() -> bool {
    // SAFETY: it takes nothing and cannot fail.
    session_of(0) == unsafe { libc::getpid() }
}

/// Gives up the terminal on `fd`, if it is the controlling one (TIOCNOTTY, ioctl_tty(2)). If the leader of a
/// session does this, the kernel sends SIGHUP and SIGCONT to the foreground group.
///
/// # Errors
/// ENOTTY if it is not the controlling terminal.
pub fn let_go(fd: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a live descriptor, and a request without an argument.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCNOTTY as _) }).map(drop)
}

/// Makes the terminal on `fd` the controlling one of this session, which has none (TIOCSCTTY).
///
/// # Errors
/// ENOTTY if it is not a terminal, EPERM if it belongs to another session.
pub fn adopt(fd: impl AsFd) -> Result<(), Errno> {
    // SAFETY: a live descriptor and an integer.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

fn check(result: i32) -> Result<i32, Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}
