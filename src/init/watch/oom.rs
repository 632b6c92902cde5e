//! Processes of the vassal's cgroups that the kernel has killed because memory ran out.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::counters::Counters;
use crate::cgroup;

/// The time after which a killed process is gone: if it was the app, its end is known by then.
const OOM_SETTLES: Duration = Duration::from_secs(1);

/// Counts the processes that the kernel has killed because memory ran out. The kernel does not say which.
pub struct OomKills {
    counters: Counters,
    /// Whether a counter does not announce a change, so that it has to be read from time to time.
    silent: bool,
    /// Since when there are kills that were not told.
    since: Option<Instant>,
}

impl OomKills {
    /// Counts the kills in these cgroups from now on. The counters are opened here, as later there may be no
    /// way to them.
    pub fn new(cgroups: &[&Path]) -> Self {
        let mut silent = false;
        let files = cgroups.iter().filter_map(|directory| {
            let (file, tells) = cgroup::oom_counter(directory)?;
            silent |= !tells;
            Some(file)
        });
        let counters = Counters::new(files, |file| cgroup::oom_kills(file));
        Self { counters, silent, since: None }
    }

    /// The counters, which announce a change by `POLLPRI` until they are read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.descriptors()
    }

    /// When to call [`OomKills::look`] at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.since.or(self.silent.then_some(now)).map(|from| from + OOM_SETTLES)
    }

    /// Looks for kills, and tells them if the app outlives them.
    pub fn look(&mut self, app_is_alive: bool, now: Instant) {
        if self.counters.count() == 0 || !app_is_alive {
            self.since = None;
        } else if now.saturating_duration_since(*self.since.get_or_insert(now)) >= OOM_SETTLES {
            let kills = self.take();
            crate::log!(
                "out of memory: processes of the cgroup that the kernel has killed: {kills}; the app goes on"
            );
        }
    }

    /// The number of kills that were not told, which count as told from now on.
    pub fn take(&mut self) -> u64 {
        self.since = None;
        self.counters.take()
    }
}
