//! The checked mountpoints of an instance, over all its processes.
//!
//! A process reports its mountpoints with their losses since its own start. The losses of earlier ones are
//! added here.

use std::fmt::Write as _;

use super::text::Count;
use crate::protocol::{MountReport, MountState};

/// The checked mountpoints, in the order of the vassal's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mountpoints(pub(super) Vec<Mountpoint>);

/// A checked mountpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mountpoint {
    /// The report of the latest instance.
    pub(super) report: MountReport,
    /// How many times earlier instances have lost it.
    pub(super) before: u64,
}

impl Mountpoints {
    /// The mountpoints of a vassal that has not reported any.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Takes in a report of the running instance. Paths that the instance no longer checks are forgotten.
    pub fn report(&mut self, reports: Vec<MountReport>) {
        let old = std::mem::take(&mut self.0);
        self.0 = reports
            .into_iter()
            .map(|mut report| {
                let known = old.iter().find(|known| known.report.path == report.path);
                if let (Some(known), true) = (known, report.last.is_empty()) {
                    report.last.clone_from(&known.report.last);
                }
                Mountpoint { report, before: known.map_or(0, |known| known.before) }
            })
            .collect();
    }

    /// Takes the place of another instance's.
    pub fn follow(&mut self, other: &Self) {
        for mountpoint in &mut self.0 {
            let known = other.0.iter().find(|known| known.report.path == mountpoint.report.path);
            mountpoint.before += known.map_or(0, Mountpoint::lost);
        }
    }

    /// Notes that the instance has ended.
    pub fn instance_ended(&mut self) {
        for mountpoint in &mut self.0 {
            mountpoint.before = mountpoint.lost();
            let report = &mut mountpoint.report;
            (report.lost, report.daemon, report.round_trip) = (0, 0, None);
            report.state = MountState::Awaited;
        }
    }

    /// Whether no mountpoint is checked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The losses so far as text, such as `/app lost 3 times`; empty without losses.
    pub fn losses(&self) -> String {
        let lost = self.0.iter().filter(|mountpoint| mountpoint.lost() > 0);
        let texts: Vec<_> = lost
            .map(|mountpoint| {
                let times = Count(mountpoint.lost(), "time");
                format!("{} lost {times}", mountpoint.report.path.display())
            })
            .collect();
        texts.join(", ")
    }

    /// How many mountpoints are in which state, such as `2 up` or `1 up 1 lost`; `-` if none is checked.
    pub fn counts(&self) -> String {
        let mut text = String::new();
        for state in MountState::ALL {
            let count = self.0.iter().filter(|mountpoint| mountpoint.report.state == state).count();
            if count > 0 {
                let space = if text.is_empty() { "" } else { " " };
                let _ = write!(text, "{space}{count} {}", state.name());
            }
        }
        if text.is_empty() { "-".to_owned() } else { text }
    }

    /// Each mountpoint: its latest report, and the number of all its losses.
    pub fn all(&self) -> impl Iterator<Item = (&MountReport, u64)> {
        self.0.iter().map(|mountpoint| (&mountpoint.report, mountpoint.lost()))
    }
}

impl Mountpoint {
    fn lost(&self) -> u64 {
        self.before.saturating_add(self.report.lost.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_over_instances() {
        let mut all = Mountpoints::none();
        assert!(all.is_empty() && all.losses().is_empty() && all.counts() == "-");
        all.report(vec![MountReport::sample("/a", 0, ""), MountReport::sample("/b", 0, "")]);
        all.report(vec![MountReport::sample("/a", 1, "hung"), MountReport::sample("/b", 0, "")]);
        all.instance_ended();
        assert_eq!((all.losses().as_str(), all.counts().as_str()), ("/a lost 1 time", "2 awaited"));
        all.report(vec![MountReport::sample("/a", 0, ""), MountReport::sample("/b", 0, "")]);
        all.report(vec![MountReport::sample("/a", 2, "dead"), MountReport::sample("/b", 0, "")]);
        assert_eq!((all.losses().as_str(), all.counts().as_str()), ("/a lost 3 times", "2 up"));
        all.report(vec![MountReport::sample("/a", 1, "dead"), MountReport::sample("/b", 0, "")]);
        assert_eq!(all.losses(), "/a lost 2 times");
        all.instance_ended();
        assert_eq!(all.losses(), "/a lost 2 times");
        all.report(vec![MountReport::sample("/b", 0, "")]);
        assert_eq!(all.losses(), "");
    }
}
