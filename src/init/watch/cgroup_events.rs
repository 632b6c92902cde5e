//! Counters of the kernel for the vassal's cgroups: of processes that it killed because memory ran out, and
//! of processes that it refused to create.

use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

use super::oom::OomKills;
use super::refused_processes::RefusedProcesses;
use crate::running_time;

/// The counters of all cgroups of the vassal.
pub struct CgroupEvents {
    /// Kills for lack of memory.
    pub oom: OomKills,
    refused: RefusedProcesses,
}

impl CgroupEvents {
    /// Counts in these cgroups from now on. The counters are opened now, because they may be out of reach
    /// later.
    pub fn new(cgroups: &[&Path]) -> Self {
        Self { oom: OomKills::new(cgroups), refused: RefusedProcesses::new(cgroups) }
    }

    /// The counters, which announce a change by `POLLPRI` until they are read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.oom.descriptors().chain(self.refused.descriptors())
    }

    /// When to call [`CgroupEvents::look`] at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        running_time::earliest(&[self.oom.deadline(now), self.refused.deadline()])
    }

    /// Logs new events. A kill is logged only if the app outlives it.
    pub fn look(&mut self, app_is_alive: bool, now: Instant) {
        self.oom.look(app_is_alive, now);
        self.refused.look(now);
    }
}
