//! Reaping dead children, and signalling living ones.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use crate::init::watch::procfs::Procfs;
use crate::protocol::WaitStatus;
use crate::sys::{child, signal};

/// A child that has ended and was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid.
    pub pid: Pid,
    /// How it ended.
    pub status: WaitStatus,
}

/// Reaps every child that has ended by now: one SIGCHLD can stand for many deaths. The flag tells whether
/// living children are left.
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

/// How a child that is not reaped yet has ended. Waits up to `time` for its end.
pub fn end_of(pid: Pid, time: Duration) -> Option<WaitStatus> {
    if let (false, Ok(pidfd)) = (time.is_zero(), pidfd_open(pid, PidfdFlags::empty())) {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        // After an error the question below has the answer: the child has not ended.
        let _ = poll(&mut fds, Timespec::try_from(time).ok().as_ref());
    }
    let status = child::end(pid).ok()??;
    let exited = status.exit_status().map(WaitStatus::Exited);
    exited.or(status.terminating_signal().map(WaitStatus::Signaled))
}

/// Signals all descendants. Returns false if none was found.
///
/// For a PID 1 these are all processes of the pid namespace. Any other process is a subreaper here, so a
/// descendant that was missed becomes its child later.
pub fn kill_all(procfs: &Procfs, signal: i32) -> bool {
    if rustix::process::getpid().is_init() {
        // ESRCH: no process is left.
        return signal::kill_everyone(signal).is_ok();
    }
    kill_found(procfs, signal)
}

/// Signals all descendants that `/proc` shows. Returns false if none was found.
pub fn kill_found(procfs: &Procfs, signal: i32) -> bool {
    let below = procfs.below_us(&[]);
    kill_below_us(procfs, &below, signal);
    !below.is_empty()
}

/// Signals processes that [`Procfs::below_us`] has found, if they still exist. The pid of a process that is
/// not a child of this one may have been given to another process since.
pub fn kill_below_us(procfs: &Procfs, pids: &[Pid], signal: i32) {
    for &pid in pids {
        if child::is_child(pid) {
            let _ = signal::kill(pid.as_raw_pid(), signal);
            continue;
        }
        // The pidfd is opened before the check, so that the check is about the process that gets the signal.
        let held = pidfd_open(pid, PidfdFlags::empty());
        if matches!(held, Err(Errno::SRCH)) || !procfs.is_below_us(pid) {
            continue;
        }
        let _ = match held {
            Ok(pidfd) => signal::kill_pidfd(pidfd, signal),
            // The kernel has no pidfd, or a filter refuses it.
            Err(_) => signal::kill(pid.as_raw_pid(), signal),
        };
    }
}
