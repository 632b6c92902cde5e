//! The history of an instance, with that of the instances whose place it has taken.

use std::time::{Duration, Instant};

use super::rare::{Facts, Rare};

/// How many ends are remembered.
const ENDS_MAX: usize = 10;
/// An hour is counted in parts, of which the oldest is forgotten at a time.
const PARTS: usize = 6;
const PART: Duration = Duration::from_secs(600);
/// A vassal whose processes have ended by themselves so often within [`HOUR`] flaps.
const FLAPPING: usize = 3;
const HOUR: Duration = Duration::from_secs(3600);

/// The history of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How many processes were created.
    pub instances: u64,
    /// How often an instance was reloaded without a new process, or took the place of another one.
    pub reloads: u64,
    /// When the first and the latest app were started.
    pub runs: Option<Runs>,
    /// What is known since the end of the first process.
    pub past: Rare<Past>,
    /// Where the output of the last process goes, as PID 1 has told it; empty for where that of the emperor
    /// goes.
    pub output: String,
    /// The first warning about the file that its app was started with, and how many more there are; empty if
    /// there are none.
    pub warnings: String,
}

/// How processes have ended, or could not be created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// The present series of failures.
    pub failures: Option<Failures>,
    /// Why the last process ended or could not be created.
    pub last_end: Option<String>,
    /// The last ends, the latest one last.
    pub ends: Vec<Ended>,
    /// The restarts of the last hour.
    pub recent: Recent,
}

impl Facts for Past {
    const NONE: &'static Self = &Self {
        failures: None,
        last_end: None,
        ends: Vec::new(),
        recent: Recent { since: None, counts: [0; PARTS] },
    };
}

/// The end of a process, or that none could be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// When it ended.
    pub at: Instant,
    /// The same as time since 1970, by the clock of then, which may have been set since.
    pub date: Duration,
    /// Why.
    pub why: String,
    /// Whether it was asked to end, or may do so whenever it likes.
    pub is_asked: bool,
}

/// How many events there were in the last hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recent {
    /// When the latest part of the hour began.
    pub(super) since: Option<Instant>,
    /// The events of each part, the latest part first.
    pub(super) counts: [u32; PARTS],
}

impl Recent {
    /// Counts an event.
    pub(super) fn add(&mut self, now: Instant) {
        *self = self.at(now);
        self.since.get_or_insert(now);
        if let Some(count) = self.counts.first_mut() {
            *count = count.saturating_add(1);
        }
    }

    /// How many there were in the last hour, or a little less.
    pub fn count(&self, now: Instant) -> u64 {
        self.at(now).counts.iter().copied().map(u64::from).sum()
    }

    /// The same, as it is at a later time.
    fn at(mut self, now: Instant) -> Self {
        let Some(since) = self.since else { return self };
        let parts = now.saturating_duration_since(since).as_secs() / PART.as_secs();
        let gone = usize::try_from(parts).unwrap_or(PARTS).min(PARTS);
        self.counts.copy_within(..PARTS - gone, gone);
        self.counts.iter_mut().take(gone).for_each(|count| *count = 0);
        self.since = if gone == PARTS { None } else { Some(since + PART * gone as u32) };
        self
    }
}

/// When apps were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// When the first process was created.
    pub first: Instant,
    /// When the latest process was created, or reloaded its file.
    pub last: Instant,
}

/// A series of failures, without a success in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// How many failures.
    pub count: u32,
    /// When the first one was.
    pub first: Instant,
    /// When the last one was.
    pub last: Instant,
    /// The delay after the last one.
    pub wait: Duration,
}

impl History {
    /// How many processes there were before the present one, except those that others took the place of.
    pub fn restarts(&self) -> u64 {
        self.instances.saturating_sub(1)
    }

    /// Whether processes end by themselves again and again.
    pub(super) fn flaps(&self, now: Instant) -> bool {
        let is_one = |end: &&Ended| !end.is_asked && now.saturating_duration_since(end.at) < HOUR;
        self.past.ends.iter().filter(is_one).count() >= FLAPPING
    }

    /// Takes the place of another instance.
    pub(super) fn follow(&mut self, other: &Self) {
        // Its first process counts as a reload of the other one, as a reload in place does.
        self.instances += other.restarts();
        self.reloads += other.reloads + 1;
        let past = &mut *self.past;
        past.recent = other.past.recent;
        let own = std::mem::replace(&mut past.ends, other.past.ends.clone());
        own.into_iter().for_each(|end| past.ended(end));
        if let (Some(runs), Some(before)) = (&mut self.runs, other.runs) {
            runs.first = before.first;
        }
    }
}

impl Past {
    /// Remembers an end.
    pub(super) fn ended(&mut self, end: Ended) {
        if self.ends.len() == ENDS_MAX {
            self.ends.remove(0);
        }
        self.ends.push(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_forgets_what_is_older() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert_eq!(recent.count(at(0)), 0);
        for minutes in [0, 1, 25, 59] {
            recent.add(at(minutes));
        }
        assert_eq!(
            [59, 60, 79, 80, 109, 110, 1000].map(|minutes| recent.count(at(minutes))),
            [4, 2, 2, 1, 1, 0, 0]
        );
        recent.add(at(1000));
        assert_eq!((recent.count(at(1000)), recent.since), (1, Some(at(1000))));
    }

    #[test]
    fn ten_ends_are_remembered_and_three_by_itself_are_flapping() {
        let (mut history, now) = (History::default(), Instant::now());
        let mut end = |number: usize, is_asked| {
            history.past.ended(Ended { at: now, date: Duration::ZERO, why: number.to_string(), is_asked });
            history.flaps(now)
        };
        assert_eq!([end(0, false), end(1, true), end(2, false), end(3, false)], [false, false, false, true]);
        (4..12).for_each(|number| _ = end(number, true));
        let ends = &history.past.ends;
        assert_eq!((ends.len(), ends[0].why.as_str(), history.flaps(now)), (10, "2", false));
        history.past.ended(Ended { at: now, date: Duration::ZERO, why: String::new(), is_asked: false });
        assert!(!history.flaps(now));
        let mut next = History { instances: 1, ..History::default() };
        next.follow(&history);
        assert_eq!(next.past.ends, history.past.ends);
    }
}
