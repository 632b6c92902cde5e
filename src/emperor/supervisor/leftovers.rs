//! The leftovers of a killed PID 1: processes that remain if it had no pid namespace to end them.
//!
//! While vassal-init lives, it is the subreaper of its descendants. When it dies, they become children of the
//! emperor, beside other children such as daemons left by commands of as-emperor, or processes from before
//! the emperor. The [mark](crate::emperor::instance::mark) tells them apart.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid};

use crate::emperor::core::event::InstanceEvent;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::instance::mark::instance_of;
use crate::files;
use crate::log::{self, Elapsed};
use crate::sys::{signal, terminal};

/// For processes that remain for longer than this no next instance waits.
const GIVE_UP: Duration = Duration::from_secs(2);
/// When to look again for processes that remain.
const AGAIN: Duration = Duration::from_millis(500);
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
    /// The event for the registry when no process is left; `None` if that is not waited for any more.
    event: Option<InstanceEvent>,
    until: Instant,
    /// Some of the remaining processes at the last look, each pid after a space.
    left: String,
    has_killed: bool,
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
        let event = Some(event);
        self.dead.push(Dead { pid, id, name, event, until, left, has_killed: false });
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.dead.iter().map(|dead| dead.until).chain(self.more_at).min()
    }

    /// Whether the registry has yet to learn of the end of an instance.
    pub(super) fn has_news(&self) -> bool {
        self.dead.iter().any(|dead| dead.event.is_some())
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
        // Another instance has this number now, so that the mark does not tell their processes apart.
        self.dead.retain(|dead| dead.event.is_some() || !is_known(dead.pid));
        if self.dead.is_empty() {
            return Vec::new();
        }
        let Ok(proc) = files::open_proc() else { return Vec::new() };
        self.dead.iter_mut().for_each(|dead| dead.left.clear());
        let mut before = before.into_iter();
        let mut looks = 0..LOOKS_PER_TURN;
        // No child is reaped meanwhile, so each pid stays that of its process.
        for pid in files::children_of(proc.as_fd(), getpid().as_raw_pid()) {
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
                if !known.is_killed {
                    kill_tree(&proc, pid);
                }
                if dead.left.len() < SHOWN_MAX {
                    dead.left.push_str(&format!(" {pid}"));
                }
                (dead.has_killed, known.is_killed) = (true, true);
            }
            self.known.push(known);
        }
        let is_complete = self.more_at.is_none();
        let mut gone = Vec::new();
        self.dead.retain_mut(|Dead { pid, id, name, event, until, left, has_killed }| {
            let is_gone = is_complete && left.is_empty();
            if !is_gone && *until > now {
                return true;
            }
            if is_gone {
                if *has_killed {
                    log::line(name, format_args!("killed what pid {pid} has left"));
                }
            } else if event.is_some() {
                let time = Elapsed(GIVE_UP);
                let what = format_args!(
                    "pid {pid} has left processes that are not gone {time} after SIGKILL:{left}"
                );
                log::line(name, what);
            }
            *until = now + AGAIN;
            gone.extend(event.take().map(|event| (id.clone(), event)));
            !is_gone
        });
        if self.dead.is_empty() {
            self.more_at = None;
        }
        gone
    }
}

/// Kills a process and what is below it, with their process groups: no process is born in a group while that
/// is signalled.
fn kill_tree(proc: &OwnedFd, root: i32) {
    let own = terminal::session_of(0);
    let (mut found, mut next) = (vec![root], 0);
    while let Some(&pid) = found.get(next) {
        next += 1;
        let (session, group) = (terminal::session_of(pid), terminal::group_of(pid));
        // Each instance has a session of its own, so the group has no process of anybody else's. A session or
        // group without a number here may be the emperor's.
        if session > 0 && session != own && group > 1 {
            let _ = signal::kill(-group, libc::SIGKILL);
        }
        let _ = signal::kill(pid, libc::SIGKILL);
        if next < LOOKS_PER_TURN {
            found.extend(files::children_of(proc.as_fd(), pid));
        }
    }
}
