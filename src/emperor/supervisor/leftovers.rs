//! What a PID 1 has left behind that was killed, where no pid namespace ends everything with it.
//!
//! While it lives, vassal-init is the subreaper of its descendants. When it dies they become children of the
//! emperor, beside others that are none of its business: daemons that commands of as-emperor have left, or
//! that were there before it. They are told apart by their [mark](crate::emperor::instance::mark).

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use crate::emperor::core::event::Event;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::mark::instance_of;
use crate::files;
use crate::log::Elapsed;
use crate::log_of;
use crate::sys::signal;

/// What is still there after this time is stuck in the kernel.
const GIVE_UP: Duration = Duration::from_secs(2);

/// Instances that were killed, until what they have left is gone.
#[derive(Default)]
pub(super) struct Leftovers(Vec<Dead>);

struct Dead {
    pid: i32,
    file: Rc<VassalFile>,
    /// What the registry is told when all is gone.
    event: Event,
    until: Instant,
    /// What was left at the last look, each pid behind a space.
    left: String,
    killed: Vec<i32>,
}

impl Leftovers {
    /// An instance was killed. The next one is to be started when nothing is left of it, at `event`.
    pub(super) fn add(&mut self, pid: Pid, file: &Rc<VassalFile>, event: Event, now: Instant) {
        let (pid, file) = (pid.as_raw_pid(), Rc::clone(file));
        self.0.push(Dead { pid, file, event, until: now + GIVE_UP, left: String::new(), killed: Vec::new() });
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|dead| dead.until).min()
    }

    /// Kills what is left, and returns the events of those of which nothing is, or nothing that can be ended.
    /// To be called when children have ended: what these have left has become ours, too. The children that
    /// are instances are known.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        is_known: impl Fn(i32) -> bool,
    ) -> Vec<(Rc<VassalFile>, Event)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.iter_mut().for_each(|dead| dead.left.clear());
        // No child is reaped meanwhile, so that each of these pids stays that of the process.
        for pid in children() {
            if is_known(pid) {
                continue;
            }
            let of = instance_of(pid);
            if let Some(dead) = self.0.iter_mut().find(|dead| of == Some(dead.pid)) {
                let _ = signal::kill(pid, libc::SIGKILL);
                dead.left.push_str(&format!(" {pid}"));
                if !dead.killed.contains(&pid) {
                    dead.killed.push(pid);
                }
            }
        }
        let mut gone = Vec::new();
        while let Some(index) = self.0.iter().position(|dead| dead.left.is_empty() || dead.until <= now) {
            let Dead { pid, file, event, left, killed, .. } = self.0.swap_remove(index);
            if !left.is_empty() {
                let time = Elapsed(GIVE_UP);
                log_of!(file, "pid {pid} has left processes that are not gone {time} after SIGKILL:{left}");
            } else if !killed.is_empty() {
                log_of!(file, "killed what pid {pid} has left, in all {}", killed.len());
            }
            gone.push((file, event));
        }
        gone
    }
}

/// The children of this process.
fn children() -> Vec<i32> {
    let path = format!("/proc/self/task/{}/children", getpid());
    let text = files::read_file(&path).unwrap_or_default();
    String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
