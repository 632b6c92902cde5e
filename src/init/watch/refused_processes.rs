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
    /// How many were logged. The first line comes with the first refusal, since an app may not outlive it.
    total: u64,
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
        Self { counters, total: 0, next: None, is_waiting: false }
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

    /// Logs how many processes were refused so far, if there are more than in the last line.
    pub fn look(&mut self, now: Instant) {
        if let Some(total) = self.due(now) {
            crate::log!("the cgroup may have no more processes (pids.max): {total} refused so far");
        }
    }

    fn due(&mut self, now: Instant) -> Option<u64> {
        self.is_waiting = self.counters.count() > 0;
        if !self.is_waiting || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.total += self.counters.take();
        self.next = Some(now + PAUSE);
        self.is_waiting = false;
        Some(self.total)
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;
    use crate::running_time;

    #[test]
    fn a_line_has_all_that_were_refused_so_far_and_the_next_one_a_minute_later() {
        let file = memfd_create("pids.events", MemfdFlags::CLOEXEC).unwrap();
        let counter = file.try_clone().unwrap();
        let refuse = |total: u64| rustix::io::pwrite(&file, format!("max {total}\n").as_bytes(), 0).unwrap();
        refuse(5);
        let counters = Counters::new([counter].into_iter(), |file| cgroup::refusals(file));
        let mut refused = RefusedProcesses { counters, total: 0, next: None, is_waiting: false };
        let now = running_time::now();
        assert_eq!(refused.due(now), None);
        refuse(6);
        assert_eq!(refused.due(now), Some(1));
        assert_eq!((refused.due(now), refused.deadline()), (None, None));
        refuse(4711);
        assert_eq!(refused.due(now + PAUSE / 2), None);
        assert_eq!(refused.deadline(), Some(now + PAUSE));
        assert_eq!(refused.due(now + PAUSE), Some(4706));
    }
}
