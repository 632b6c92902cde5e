//! Processes that could not be created because a cgroup of the vassal may have no more (`pids-max`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup;

/// The shortest time between two log lines: a program that creates processes in a loop is refused
/// thousands.
const PAUSE: Duration = Duration::from_secs(60);

/// Counts the processes that the kernel has refused to create.
#[derive(Default)]
pub struct RefusedProcesses {
    /// The counters, each with the number that was last logged.
    counters: Vec<(u64, OwnedFd)>,
    /// When the next line may be written.
    next: Option<Instant>,
    /// Whether there is a number to log then.
    is_waiting: bool,
}

impl RefusedProcesses {
    /// Counts in these cgroups from now on. The counters are opened now, because they may be out of reach
    /// later.
    pub fn new(cgroups: &[&Path]) -> Self {
        let counters = cgroups.iter().filter_map(|directory| cgroup::refusal_counter(directory));
        let counters = counters.map(|counter| (cgroup::refusals(&counter), counter)).collect();
        Self { counters, next: None, is_waiting: false }
    }

    /// The counters, which announce a change by `POLLPRI` until they are read. Counters of version 1 do
    /// not, and are read after other events.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.iter().map(|(_, counter)| counter.as_fd())
    }

    /// When to call [`RefusedProcesses::look`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.next.filter(|_| self.is_waiting)
    }

    /// Logs processes that were refused since the last line.
    pub fn look(&mut self, now: Instant) {
        let counts: Vec<_> = self.counters.iter().map(|(_, counter)| cgroup::refusals(counter)).collect();
        let new = self.counters.iter().zip(&counts).map(|((known, _), count)| count.saturating_sub(*known));
        let new = new.max().unwrap_or(0);
        self.is_waiting = new > 0;
        if new > 0 && self.next.is_none_or(|next| next <= now) {
            crate::log!("the cgroup may have no more processes (pids.max): {new} were not created");
            self.counters.iter_mut().zip(counts).for_each(|((known, _), count)| *known = count);
            self.next = Some(now + PAUSE);
            self.is_waiting = false;
        }
    }
}
