//! How instances have ended, lost mounts and come back since the emperor's start, counted for metrics. An
//! upgrade begins anew, as a counter may.

use std::time::Duration;

use crate::protocol::{ExitReason, LOSSES, MountReport};

use super::mountpoints::Mountpoints;

/// What is counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Ends of instances, by [`ENDS`].
    pub ends: [u64; ENDS.len()],
    /// Losses of mountpoints, by [`LOST`].
    pub losses: [u64; LOST.len()],
    /// The times without an app.
    pub recoveries: Histogram,
}

/// The labels of losses.
pub const LOST: [&str; LOSSES.len() + 1] = [LOSSES[0].1, LOSSES[1].1, LOSSES[2].1, "error"];

/// The reasons for which instances end, as labels.
pub const ENDS: [&str; 8] =
    ["app", "stopped", "config", "setup", "mount-lost", "not-ready", "out-of-memory", "killed"];

/// The upper limits of a histogram's buckets, in milliseconds.
pub const BUCKETS_MS: [u16; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000];

/// How long something took.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many were at most as long as each limit, and longer than the one before.
    pub counts: [u64; BUCKETS_MS.len()],
    /// How many there were.
    pub count: u64,
    /// All together.
    pub sum: Duration,
}

impl Tally {
    /// Counts the end of an instance; `None` if its PID 1 has given no reason, as it was killed itself:
    /// perhaps because it was `out_of_memory`.
    pub(super) fn ended(&mut self, reason: Option<&ExitReason>, out_of_memory: bool) {
        let index = match reason {
            Some(ExitReason::App(_) | ExitReason::AppSaid(..)) => 0,
            Some(ExitReason::Stopped) => 1,
            Some(ExitReason::Config(_)) => 2,
            Some(ExitReason::Setup(_)) => 3,
            Some(ExitReason::MountLost(_)) => 4,
            Some(ExitReason::NotReady(_)) => 5,
            Some(ExitReason::OutOfMemory(_)) => 6,
            None if out_of_memory => 6,
            None => 7,
        };
        add(&mut self.ends, index, 1);
    }

    /// Counts the losses that are new in these reports.
    pub(super) fn lost(&mut self, before: &Mountpoints, reports: &[MountReport]) {
        for report in reports {
            let known = before.all().find(|(known, _)| known.path == report.path);
            let more = report.lost.saturating_sub(known.map_or(0, |(known, _)| known.lost));
            let is_it = |(how, _): &(&str, &str)| report.last.contains(how);
            add(&mut self.losses, LOSSES.iter().position(is_it).unwrap_or(LOSSES.len()), more.into());
        }
    }
}

impl Histogram {
    /// Counts this time.
    pub(super) fn add(&mut self, time: Duration) {
        let index = BUCKETS_MS.iter().position(|limit| time <= Duration::from_millis((*limit).into()));
        add(&mut self.counts, index.unwrap_or(BUCKETS_MS.len()), 1);
        self.count += 1;
        self.sum += time;
    }
}

fn add(counts: &mut [u64], index: usize, number: u64) {
    if let Some(count) = counts.get_mut(index) {
        *count += number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_one_bucket_and_longer_ones_in_none() {
        let mut histogram = Histogram::default();
        for ms in [0, 5, 6, 30, 9_999, 10_001, 60_000] {
            histogram.add(Duration::from_millis(ms));
        }
        assert_eq!(histogram.counts, [2, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((histogram.count, histogram.sum), (7, Duration::from_millis(80_041)));
        assert!(BUCKETS_MS.is_sorted());
    }

    #[test]
    fn a_loss_counts_once_by_what_the_report_says() {
        let (mut tally, mut known) = (Tally::default(), Mountpoints::none());
        let mut report = |reports: Vec<MountReport>| {
            tally.lost(&known, &reports);
            known.report(reports);
            tally.losses
        };
        let of = |lost, last: &str| MountReport::sample("/a", lost, last);
        assert_eq!(report(vec![of(0, "")]), [0; 4]);
        assert_eq!(report(vec![of(1, "no longer mounted")]), [1, 0, 0, 0]);
        assert_eq!(report(vec![of(1, "no longer mounted")]), [1, 0, 0, 0]);
        assert_eq!(report(vec![of(3, "no answer for 15 s")]), [1, 0, 2, 0]);
        assert_eq!(report(vec![of(4, "replaced by another mount")]), [1, 1, 2, 0]);
        let others = [of(5, "Transport endpoint is not connected (ENOTCONN)")];
        assert_eq!(report(others.to_vec()), [1, 1, 2, 1]);
    }
}
