//! Processes of the vassal's cgroups that the kernel has killed for want of memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup;

/// A process that was killed for want of memory is gone after this time: if it was the app, we know by then.
const OOM_SETTLES: Duration = Duration::from_secs(1);

/// Processes that the kernel has killed for want of memory. It never says which.
#[derive(Default)]
pub struct OomKills {
    /// With how many were known of last.
    counters: Vec<(u64, OwnedFd)>,
    /// Whether they have to be looked at to tell.
    silent: bool,
    /// Since when there are others.
    since: Option<Instant>,
}

impl OomKills {
    /// Those of these cgroups, from now on. What counts is opened here, as there may be no way to it later.
    pub fn new(cgroups: &[&Path]) -> Self {
        let mut new = Self::default();
        for (counter, tells) in cgroups.iter().filter_map(|directory| cgroup::oom_counter(directory)) {
            new.counters.push((cgroup::oom_kills(&counter), counter));
            new.silent |= !tells;
        }
        new
    }

    /// What tells of a change, by `POLLPRI`, until it is looked at.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.iter().map(|(_, counter)| counter.as_fd())
    }

    /// When there is something to look at.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.since.or(self.silent.then_some(now)).map(|from| from + OOM_SETTLES)
    }

    /// Looks whether others were killed, and says so if the app outlives it.
    pub fn look(&mut self, app_is_alive: bool, now: Instant) {
        if self.count() == 0 || !app_is_alive {
            self.since = None;
        } else if now.saturating_duration_since(*self.since.get_or_insert(now)) >= OOM_SETTLES {
            let kills = self.take();
            crate::log!(
                "out of memory: processes of the cgroup that the kernel has killed: {kills}; the app goes on"
            );
        }
    }

    fn count(&self) -> u64 {
        let new = |(known, counter): &(u64, OwnedFd)| cgroup::oom_kills(counter).saturating_sub(*known);
        self.counters.iter().map(new).max().unwrap_or(0)
    }

    /// How many there are that nothing was said of; it is as if it were said now.
    pub fn take(&mut self) -> u64 {
        let kills = self.count();
        self.since = None;
        self.counters.iter_mut().for_each(|(known, counter)| *known = cgroup::oom_kills(counter));
        kills
    }
}
