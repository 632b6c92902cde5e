//! Processes that could not be created because a cgroup of the vassal may have no more (`pids-max`).

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::counters::Counters;
use crate::cgroup;

/// The shortest time between two log lines: a program that creates processes in a loop is refused
/// thousands.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts the processes that the kernel has refused to create.
pub struct RefusedProcesses {
    counters: Counters,
    /// When the next line may be written.
    next: Option<Instant>,
    /// Whether there is a number to log then.
    is_waiting: bool,
}

impl RefusedProcesses {
    /// Counts in these cgroups from now on. The counters are opened now, because they may be out of reach
    /// later.
    pub fn new(cgroups: &[&Path]) -> Self {
        let files = cgroups.iter().filter_map(|directory| cgroup::refusal_counter(directory));
        let counters = Counters::new(files, |file| cgroup::refusals(file));
        Self { counters, next: None, is_waiting: false }
    }

    /// The counters, which announce a change by `POLLPRI` until they are read. Counters of version 1 do
    /// not, and are read after other events.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.descriptors()
    }

    /// When to call [`RefusedProcesses::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| self.is_waiting)
    }

    /// Logs processes that were refused since the last line.
    pub fn look(&mut self, now: Instant) {
        self.is_waiting = self.counters.count() > 0;
        if self.is_waiting && self.next.is_none_or(|next| next <= now) {
            let new = self.counters.take();
            crate::log!("the cgroup may have no more processes (pids.max): {new} were not created");
            self.next = Some(now + PAUSE);
            self.is_waiting = false;
        }
    }
}
