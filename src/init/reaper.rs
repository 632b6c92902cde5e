//! Dead children, and the end of all living ones.

use rustix::process::{Pid, WaitOptions};

use crate::protocol::WaitStatus;
use crate::sys::signal;
use crate::world;

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
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return (reaped, false),
        }
    }
}

/// Signals everything that is left below us.
///
/// As PID 1 that is every process of the pid namespace. Otherwise it is our descendants, found through /proc: we are
/// their subreaper, so those that were missed turn up as our children later.
pub fn kill_all(signal: i32) {
    let own = rustix::process::getpid();
    if own.is_init() {
        // ESRCH: nobody is left, which is what we want.
        let _ = signal::kill_everyone(signal);
    } else {
        for pid in descendants(own) {
            let _ = signal::kill(pid.as_raw_nonzero().get(), signal);
        }
    }
}

/// All processes below `root`, parents before children (`/proc/PID/task/TID/children`, CONFIG_PROC_CHILDREN). Children of
/// other threads than the first are not listed; they turn up as ours when their parent has gone.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        next += 1;
        let children = world::read_file(&format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = String::from_utf8_lossy(&children);
        found.extend(children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    found.remove(0);
    found
}
