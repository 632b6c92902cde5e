//! Dead children, and the end of all living ones.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use crate::init::watch::procfs::Procfs;
use crate::protocol::WaitStatus;
use crate::sys::signal;

/// A child that has ended and was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Which one.
    pub pid: Pid,
    /// How it ended.
    pub status: WaitStatus,
}

/// Reaps every child that has ended by now. One SIGCHLD can stand for many deaths.
///
/// The flag tells whether children are left, living ones.
pub fn drain() -> (Vec<Reaped>, bool) {
    let mut reaped = Vec::new();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                reaped.extend(WaitStatus::of(status).map(|status| Reaped { pid, status }));
            }
            Ok(None) => return (reaped, true),
            Err(Errno::INTR) => {}
            // ECHILD
            Err(_) => return (reaped, false),
        }
    }
}

/// Signals everything that is left below us; false if that is nobody we know of.
///
/// As PID 1 that is every process of the pid namespace. Otherwise it is our descendants: we are their subreaper, so those
/// that were missed turn up as our children later.
pub fn kill_all(procfs: &Procfs, signal: i32) -> bool {
    let own = rustix::process::getpid();
    if own.is_init() {
        // ESRCH: nobody is left.
        return signal::kill_everyone(signal).is_ok();
    }
    let below = procfs.below_us(&[]);
    kill(&below, signal);
    !below.is_empty()
}

/// Signals processes that [`Procfs`] found.
pub fn kill(pids: &[Pid], signal: i32) {
    for pid in pids {
        // ESRCH: it has just ended.
        let _ = signal::kill(pid.as_raw_pid(), signal);
    }
}
