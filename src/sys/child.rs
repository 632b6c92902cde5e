//! A child that may have ended, and is not reaped here.

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::signal;

/// How a child has ended, which stays to be reaped; `None` while it lives.
///
/// # Errors
/// ECHILD: it is no child of this process, or was reaped.
pub fn end(pid: Pid) -> Result<Option<WaitIdStatus>, Errno> {
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)
}

/// Whether a process is a child of this one, as far as the kernel tells.
pub fn is_child(pid: Pid) -> bool {
    !matches!(end(pid), Err(Errno::CHILD))
}

/// Kills a child, unless it was reaped, after which its pid may be another process's. Returns whether it was
/// not. Nobody else reaps the children of a process, so the pid stays the child's meanwhile.
pub fn kill(pid: Pid) -> bool {
    let is_child = is_child(pid);
    if is_child {
        let _ = signal::kill(pid.as_raw_pid(), libc::SIGKILL);
    }
    is_child
}
