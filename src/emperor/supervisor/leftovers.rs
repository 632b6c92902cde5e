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
/// The pids that are not gone are shown in about so many bytes.
const SHOWN_MAX: usize = 200;

/// So many processes are looked at in one turn of the main loop: a tenant may have left thousands.
const LOOKS_PER_TURN: usize = 300;

/// Instances that were killed, until what they have left is gone.
#[derive(Default)]
pub(super) struct Leftovers {
    dead: Vec<Dead>,
    /// The children that were looked at. The kernel tells of the oldest first, so these are ahead of all that
    /// were not.
    known: Vec<Known>,
    /// When the next look goes on with the others.
    more_at: Option<Instant>,
}

struct Dead {
    pid: i32,
    file: Rc<VassalFile>,
    /// What the registry is told when all is gone.
    event: Event,
    until: Instant,
    /// Some of what was left at the last look, each pid behind a space.
    left: String,
    killed: usize,
}

struct Known {
    pid: i32,
    /// The instance that it was started by; 0 if that is none of ours.
    of: i32,
    is_killed: bool,
}

impl Leftovers {
    /// An instance was killed. The next one is to be started when nothing is left of it, at `event`.
    pub(super) fn add(&mut self, pid: Pid, file: &Rc<VassalFile>, event: Event, now: Instant) {
        let (pid, file) = (pid.as_raw_pid(), Rc::clone(file));
        self.dead.push(Dead { pid, file, event, until: now + GIVE_UP, left: String::new(), killed: 0 });
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.dead.iter().map(|dead| dead.until).chain(self.more_at).min()
    }

    /// Kills what is left, or a part of it, and returns the events of those of which nothing is, or nothing
    /// that can be ended. To be called when children have ended: what these have left has become ours, too.
    /// The children that are instances are known.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        is_known: impl Fn(i32) -> bool,
    ) -> Vec<(Rc<VassalFile>, Event)> {
        let before = std::mem::take(&mut self.known);
        self.more_at = None;
        if self.dead.is_empty() {
            return Vec::new();
        }
        self.dead.iter_mut().for_each(|dead| dead.left.clear());
        let mut before = before.into_iter();
        let mut looks = 0..LOOKS_PER_TURN;
        // No child is reaped meanwhile, so that each of these pids stays that of the process.
        for pid in children() {
            if is_known(pid) {
                continue;
            }
            let new = || Known { pid, of: instance_of(pid).unwrap_or(0), is_killed: false };
            let look = before.find(|known| known.pid == pid).or_else(|| looks.next().map(|_| new()));
            let Some(mut known) = look else {
                self.more_at = Some(now);
                break;
            };
            if let Some(dead) = self.dead.iter_mut().find(|dead| known.of == dead.pid) {
                let _ = signal::kill(pid, libc::SIGKILL);
                if dead.left.len() < SHOWN_MAX {
                    dead.left.push_str(&format!(" {pid}"));
                }
                dead.killed += usize::from(!std::mem::replace(&mut known.is_killed, true));
            }
            self.known.push(known);
        }
        let is_complete = self.more_at.is_none();
        let is_over = |dead: &Dead| is_complete && dead.left.is_empty() || dead.until <= now;
        let mut gone = Vec::new();
        while let Some(index) = self.dead.iter().position(is_over) {
            let Dead { pid, file, event, left, killed, .. } = self.dead.swap_remove(index);
            if !left.is_empty() {
                let time = Elapsed(GIVE_UP);
                log_of!(file, "pid {pid} has left processes that are not gone {time} after SIGKILL:{left}");
            } else if killed > 0 {
                log_of!(file, "killed what pid {pid} has left, in all {killed}");
            }
            gone.push((file, event));
        }
        if self.dead.is_empty() {
            self.more_at = None;
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
