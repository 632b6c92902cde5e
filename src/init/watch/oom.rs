//! Processes of the vassal's cgroups that the kernel has killed because memory ran out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroup;

/// The time after which a killed process is gone: if it was the app, its end is known by then.
const OOM_SETTLES: Duration = Duration::from_secs(1);

/// Counts the processes that the kernel has killed because memory ran out. The kernel does not say which.
#[derive(Default)]
pub struct OomKills {
    /// The counters, each with the number that was told last.
    counters: Vec<(u64, OwnedFd)>,
    /// Whether a counter does not announce a change, so that it has to be read from time to time.
    silent: bool,
    /// Since when there are kills that were not told.
    since: Option<Instant>,
}

impl OomKills {
    /// Counts the kills in these cgroups from now on. The counters are opened here, as later there may be no
    /// way to them.
    pub fn new(cgroups: &[&Path]) -> Self {
        let mut new = Self::default();
        for (counter, tells) in cgroups.iter().filter_map(|directory| cgroup::oom_counter(directory)) {
            new.counters.push((cgroup::oom_kills(&counter), counter));
            new.silent |= !tells;
        }
        new
    }

    /// The counters, which announce a change by `POLLPRI` until they are read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.iter().map(|(_, counter)| counter.as_fd())
    }

    /// When to call [`OomKills::look`] at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.since.or(self.silent.then_some(now)).map(|from| from + OOM_SETTLES)
    }

    /// Looks for kills, and tells them if the app outlives them.
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

    /// The number of kills that were not told, which count as told from now on.
    pub fn take(&mut self) -> u64 {
        let kills = self.count();
        self.since = None;
        self.counters.iter_mut().for_each(|(known, counter)| *known = cgroup::oom_kills(counter));
        kills
    }
}
