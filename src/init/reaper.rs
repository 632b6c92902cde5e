//! Dead children, and the end of all living ones.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};

use crate::mount::ops;
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
    let reaped = std::iter::from_fn(next_dead).collect();
    (reaped, !is_childless())
}

/// Reaps one child that has ended by now.
pub fn next_dead() -> Option<Reaped> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                if let Some(status) = WaitStatus::of(status) {
                    return Some(Reaped { pid, status });
                }
            }
            Err(Errno::INTR) => {}
            // Nobody has ended, or nobody is there.
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Whether there are no children, neither living nor dead ones.
pub fn is_childless() -> bool {
    let looking = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    rustix::process::waitid(WaitId::All, looking).is_err_and(|errno| errno == Errno::CHILD)
}

/// Signals everything that is left below us; false if that is nobody we know of.
///
/// As PID 1 that is every process of the pid namespace. Otherwise it is our descendants, found through /proc: we are
/// their subreaper, so those that were missed turn up as our children later.
pub fn kill_all(signal: i32) -> bool {
    let own = rustix::process::getpid();
    if own.is_init() {
        // ESRCH: nobody is left.
        return signal::kill_everyone(signal).is_ok();
    }
    let below = Processes::open().below_us(&[]);
    kill(&below, signal);
    !below.is_empty()
}

/// Signals processes that [`Processes`] found.
pub fn kill(pids: &[Pid], signal: i32) {
    for pid in pids {
        // ESRCH: it has just ended.
        let _ = signal::kill(pid.as_raw_nonzero().get(), signal);
    }
}

/// The processes below us, as procfs lists them.
#[derive(Debug)]
pub struct Processes {
    /// As PID 1 an instance of our own, mounted nowhere: /proc may be that of the namespace we come from, where the same
    /// numbers are other processes. It is opened while we may mount.
    proc: Option<OwnedFd>,
}

impl Processes {
    /// Without the right to mount there may be /proc, or nothing will be found.
    pub fn open() -> Self {
        let is_init = rustix::process::getpid().is_init();
        Self { proc: if is_init { ops::detached("proc").ok() } else { None } }
    }

    /// All processes below us, parents before children, without `spared` and what is below those.
    pub fn below_us(&self, spared: &[Pid]) -> Vec<Pid> {
        let own = rustix::process::getpid();
        match &self.proc {
            Some(proc) => descendants(own, spared, proc, ""),
            // It calls us by another number if it is not of our namespace.
            None if !proc_is_ours(own) => Vec::new(),
            None => descendants(own, spared, CWD, "/proc/"),
        }
    }
}

fn proc_is_ours(own: Pid) -> bool {
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|pid| pid.to_bytes() == own.to_string().as_bytes())
}

/// All processes below `root` (`PID/task/TID/children` in procfs, CONFIG_PROC_CHILDREN). Children of other threads than
/// the first are not listed; they turn up as ours when their parent has gone.
fn descendants(root: Pid, spared: &[Pid], proc: impl AsFd, prefix: &str) -> Vec<Pid> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        next += 1;
        let path = format!("{prefix}{pid}/task/{pid}/children");
        let children = world::read_file_at(&proc, &path).unwrap_or_default();
        let children = String::from_utf8_lossy(&children);
        let children = children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        found.extend(children.filter(|pid| !spared.contains(pid)));
    }
    found.remove(0);
    found
}
