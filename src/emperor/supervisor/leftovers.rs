//! The leftovers of a killed PID 1: processes that remain if it had no pid namespace to end them.
//!
//! While vassal-init lives, it is the subreaper of its descendants. When it dies, they become children of the
//! emperor, beside other children such as daemons left by commands of as-emperor, or processes from before
//! the emperor. The [mark](crate::emperor::instance::mark) tells them apart.

use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use crate::emperor::core::event::InstanceEvent;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::instance::mark::instance_of;
use crate::files;
use crate::log::{self, Elapsed};
use crate::sys::signal;

/// Processes that remain for longer than this are stuck in the kernel.
const GIVE_UP: Duration = Duration::from_secs(2);
/// About how many bytes of pids a message shows.
const SHOWN_MAX: usize = 200;

/// How many processes are examined in one turn of the main loop: a tenant may have left thousands.
const LOOKS_PER_TURN: usize = 300;

/// Killed instances with remaining processes.
#[derive(Default)]
pub(super) struct Leftovers {
    dead: Vec<Dead>,
    /// The children that were examined. The kernel lists the oldest first, so these come before all others.
    known: Vec<Known>,
    /// When to continue with the other children.
    more_at: Option<Instant>,
}

struct Dead {
    pid: i32,
    id: InstanceId,
    /// Its name, as log lines show it.
    name: String,
    /// The event for the registry when no process is left.
    event: InstanceEvent,
    until: Instant,
    /// Some of the remaining processes at the last look, each pid after a space.
    left: String,
    killed: usize,
}

struct Known {
    pid: i32,
    /// The instance that started it; 0 if no instance did.
    of: i32,
    is_killed: bool,
}

impl Leftovers {
    /// Notes that an instance, with its name for log lines, was killed. When none of its processes is left,
    /// `event` goes to the registry, which then starts the next one.
    pub(super) fn add(
        &mut self,
        pid: Pid,
        (id, name): (&InstanceId, String),
        event: InstanceEvent,
        now: Instant,
    ) {
        let (pid, id, until, left) = (pid.as_raw_pid(), id.clone(), now + GIVE_UP, String::new());
        self.dead.push(Dead { pid, id, name, event, until, left, killed: 0 });
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.dead.iter().map(|dead| dead.until).chain(self.more_at).min()
    }

    /// Kills remaining processes, or some of them. Returns the events of instances of which no process is
    /// left, or none that can be killed. Must be called after children have ended, because children of those
    /// are now children of the emperor. `is_known` is true for children that are instances.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        is_known: impl Fn(i32) -> bool,
    ) -> Vec<(InstanceId, InstanceEvent)> {
        let before = std::mem::take(&mut self.known);
        self.more_at = None;
        if self.dead.is_empty() {
            return Vec::new();
        }
        self.dead.iter_mut().for_each(|dead| dead.left.clear());
        let mut before = before.into_iter();
        let mut looks = 0..LOOKS_PER_TURN;
        // No child is reaped meanwhile, so each pid stays that of its process.
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
            let Dead { pid, id, name, event, left, killed, .. } = self.dead.swap_remove(index);
            if !left.is_empty() {
                let time = Elapsed(GIVE_UP);
                let what = format_args!(
                    "pid {pid} has left processes that are not gone {time} after SIGKILL:{left}"
                );
                log::line(&name, what);
            } else if killed > 0 {
                log::line(&name, format_args!("killed what pid {pid} has left, in all {killed}"));
            }
            gone.push((id, event));
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
