//! Decides when the ready check is run, and what its end means. Pure: ends and times in, decisions out.
//!
//! One check runs at a time. Until the first one succeeds, the app is not ready, and failures mean nothing:
//! the checks come sooner then, since somebody waits. An app that was ready is given up after so many
//! failures in a row as the plan says.

use std::time::{Duration, Instant};

use crate::config::plan::ReadinessPlan;

/// The time between the first two checks of an app that is not ready. It doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What the end of a check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The app is ready, for the first time.
    Ready,
    /// It is not ready yet.
    NotYet,
    /// It still is ready.
    StillReady,
    /// It is ready again, after so many failures.
    Recovered(u32),
    /// It was ready, and this is the failure of this number in a row.
    Failing(u32),
    /// It was ready, and has failed so often in a row that it is given up.
    GivenUp(u32),
}

/// The decisions about one run of an app.
#[derive(Debug, Clone)]
pub struct Readiness {
    interval: Duration,
    timeout: Duration,
    /// 0 for any number.
    most_failures: u32,
    is_ready: bool,
    /// In a row.
    failures: u32,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No check runs. The next one is due then.
    Idle { due: Instant },
    /// A check runs, and has time until then.
    Running { until: Instant, is_forgiven: bool },
    /// A check was killed and has not ended. If it has not by then, that is one more failure.
    Killed { until: Instant },
}

impl Readiness {
    /// An app that was started now. With `is_busy`, the check of an earlier app was killed and has not ended.
    pub fn new(plan: &ReadinessPlan, is_busy: bool, now: Instant) -> Self {
        let (interval, timeout) = (plan.interval, plan.timeout);
        let state = if is_busy { State::Killed { until: now + timeout } } else { State::Idle { due: now } };
        Self { interval, timeout, most_failures: plan.failures, is_ready: false, failures: 0, state }
    }

    /// When the next check is to be started; `None` while one runs.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Idle { due } => Some(due),
            State::Running { .. } | State::Killed { .. } => None,
        }
    }

    /// A check was started.
    pub fn started(&mut self, now: Instant) {
        self.state = State::Running { until: now + self.timeout, is_forgiven: false };
    }

    /// When [`Self::is_overdue`] may next be true.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { .. } => None,
            State::Running { until, .. } | State::Killed { until } => Some(until),
        }
    }

    /// Whether the time of the check that runs is over, so that it is to be killed. If this process has just
    /// woken up late (`was_late`), the check may not have run either, and gets its time once more.
    pub fn is_overdue(&mut self, was_late: bool, now: Instant) -> bool {
        match &mut self.state {
            State::Running { until, is_forgiven } if now >= *until && was_late && !*is_forgiven => {
                (*until, *is_forgiven) = (now + self.timeout, true);
                false
            }
            State::Running { until, .. } | State::Killed { until } => now >= *until,
            State::Idle { .. } => false,
        }
    }

    /// The check was killed because its time was over.
    pub fn killed(&mut self, now: Instant) -> Verdict {
        self.state = State::Killed { until: now + self.timeout };
        self.judge(false)
    }

    /// The check has ended. `None` if that means nothing, because it was killed.
    pub fn ended(&mut self, is_good: bool, now: Instant) -> Option<Verdict> {
        let verdict = matches!(self.state, State::Running { .. }).then(|| self.judge(is_good));
        let pause = if self.is_ready {
            self.interval
        } else {
            let doubled = self.failures.saturating_sub(1).min(16);
            self.interval.min(FIRST_PAUSE * (1 << doubled))
        };
        self.state = State::Idle { due: now + pause };
        verdict
    }

    /// The app is to show anew that it is ready. A check that runs was killed.
    pub fn begin_anew(&mut self, now: Instant) {
        (self.is_ready, self.failures) = (false, 0);
        self.state = match self.state {
            State::Idle { .. } => State::Idle { due: now },
            State::Running { .. } | State::Killed { .. } => State::Killed { until: now + self.timeout },
        };
    }

    fn judge(&mut self, is_good: bool) -> Verdict {
        let (was_ready, before) = (self.is_ready, self.failures);
        self.is_ready |= is_good;
        self.failures = if is_good { 0 } else { before.saturating_add(1) };
        match (was_ready, is_good) {
            (false, true) => Verdict::Ready,
            (false, false) => Verdict::NotYet,
            (true, true) if before == 0 => Verdict::StillReady,
            (true, true) => Verdict::Recovered(before),
            (true, false) if self.failures == self.most_failures => Verdict::GivenUp(self.failures),
            (true, false) => Verdict::Failing(self.failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn of(failures: u32, now: Instant) -> Readiness {
        let plan =
            ReadinessPlan { check: None, interval: INTERVAL, timeout: TIMEOUT, failures, takes_turns: false };
        Readiness::new(&plan, false, now)
    }

    /// Runs a check as soon as it is due, and returns what its end means and when that was.
    fn run(app: &mut Readiness, is_good: bool) -> (Option<Verdict>, Instant) {
        let due = app.due().expect("no check is due");
        app.started(due);
        assert_eq!((app.due(), app.deadline()), (None, Some(due + TIMEOUT)));
        (app.ended(is_good, due), due)
    }

    fn verdicts(app: &mut Readiness, ends: &[bool]) -> Vec<Verdict> {
        ends.iter().filter_map(|&is_good| run(app, is_good).0).collect()
    }

    #[test]
    fn an_app_that_was_ready_is_given_up_after_failures_in_a_row() {
        use Verdict::{Failing, GivenUp, NotYet, Ready, Recovered, StillReady};
        let now = Instant::now();
        let before = [false, false, false, false, true, true];
        let expected = [NotYet, NotYet, NotYet, NotYet, Ready, StillReady];
        assert_eq!(verdicts(&mut of(3, now), &before), expected);
        for (most, ends, expected) in [
            (
                3,
                &[true, false, false, true, false, true][..],
                &[Ready, Failing(1), Failing(2), Recovered(2)][..],
            ),
            (3, &[true, false, false, false], &[Ready, Failing(1), Failing(2), GivenUp(3)]),
            (1, &[true, false], &[Ready, GivenUp(1)]),
            (0, &[true, false, false], &[Ready, Failing(1), Failing(2)]),
        ] {
            let told = verdicts(&mut of(most, now), ends);
            assert_eq!(told.get(..expected.len()), Some(expected), "{most} {ends:?}");
        }
    }

    #[test]
    fn checks_come_sooner_until_the_app_is_ready() {
        let start = Instant::now();
        let mut app = of(3, start);
        let pauses: Vec<_> = (0..7)
            .map(|_| {
                let at = run(&mut app, false).1;
                (app.due().unwrap() - at).as_millis()
            })
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        for is_good in [true, true, false] {
            let at = run(&mut app, is_good).1;
            assert_eq!(app.due(), Some(at + INTERVAL));
        }
        let mut hasty = of(3, start);
        hasty.interval = Duration::from_millis(10);
        run(&mut hasty, false);
        assert_eq!(hasty.due(), Some(start + hasty.interval));
    }

    #[test]
    fn a_check_that_takes_too_long_has_failed_and_its_end_means_nothing() {
        let start = Instant::now();
        let mut app = of(2, start);
        run(&mut app, true);
        let asked = app.due().unwrap();
        app.started(asked);
        assert!(!app.is_overdue(false, asked + TIMEOUT / 2));
        let end = asked + TIMEOUT;
        assert!(app.is_overdue(false, end));
        assert_eq!(app.killed(end), Verdict::Failing(1));
        assert_eq!((app.due(), app.deadline()), (None, Some(end + TIMEOUT)), "a second one beside it");
        let mut ended = app.clone();
        assert_eq!(ended.ended(true, end), None);
        assert_eq!(ended.due(), Some(end + INTERVAL));
        // One that not even SIGKILL ends fails again.
        assert!(!app.is_overdue(false, end) && app.is_overdue(true, end + TIMEOUT));
        assert_eq!(app.killed(end + TIMEOUT), Verdict::GivenUp(2));
    }

    #[test]
    fn a_check_gets_its_time_once_more_if_nobody_may_have_run() {
        let start = Instant::now();
        let mut app = of(3, start);
        app.started(start);
        let end = start + TIMEOUT;
        assert!(!app.is_overdue(true, end));
        assert_eq!(app.deadline(), Some(end + TIMEOUT));
        // A process that is late each time notices it as well.
        assert!(!app.is_overdue(true, end + TIMEOUT / 2) && app.is_overdue(true, end + TIMEOUT));
    }

    #[test]
    fn an_app_that_begins_anew_shows_anew_that_it_is_ready() {
        let start = Instant::now();
        let mut app = of(3, start);
        assert_eq!(verdicts(&mut app, &[true, false]), [Verdict::Ready, Verdict::Failing(1)]);
        app.begin_anew(start);
        assert_eq!(app.due(), Some(start));
        assert_eq!(verdicts(&mut app, &[false, true]), [Verdict::NotYet, Verdict::Ready]);
        app.started(start);
        app.begin_anew(start);
        assert_eq!((app.due(), app.ended(true, start)), (None, None), "the old app has answered");
        assert_eq!(app.due(), Some(start + FIRST_PAUSE));
        let plan = ReadinessPlan {
            check: None,
            interval: INTERVAL,
            timeout: TIMEOUT,
            failures: 3,
            takes_turns: false,
        };
        let mut next = Readiness::new(&plan, true, start);
        assert_eq!((next.due(), next.ended(true, start)), (None, None));
        assert_eq!(verdicts(&mut next, &[true]), [Verdict::Ready]);
    }
}
