//! Decides whether a checked mountpoint is still the mount that it was. Pure: answers and times in,
//! judgements out.
//!
//! The prober asks at every interval by itself and reports changes. PID 1 has it ask at once when a child
//! died or the mount table changed. Only one question is open at a time. An event that comes meanwhile makes
//! the next question follow directly.
//!
//! # Errors
//!
//! An error may come from the filesystem, or from the path that leads to it; the two look the same. So the
//! prober asks again, until the error has lasted too long. How long that is depends on the error: see
//! [`Watchdog::patience_with`]. When an answer comes without an error, all is well again.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::plan::MountpointPlan;
use crate::error::Described;
use crate::log::Elapsed;
use crate::protocol::{NO_ANSWER, NOT_MOUNTED, REPLACED};

/// The longest time after which a filesystem that answered with an error is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// The answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The filesystem answered.
    Found(Found),
    /// statx(2) failed.
    Failed(Errno),
}

/// A path that answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The ID of the mount it is on (STATX_MNT_ID_UNIQUE where the kernel has it: never reused).
    pub mount_id: u64,
    /// Whether it is that mount's root (STATX_ATTR_MOUNT_ROOT).
    pub is_mount_root: bool,
}

/// Why a mountpoint counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The connection of the filesystem has ended: every call fails with this error.
    Dead(Errno),
    /// It has answered with errors for this long; this was the last one.
    Failing(Errno, Duration),
    /// Nothing is mounted there any more.
    NotMounted,
    /// Another filesystem is mounted there now.
    Replaced,
    /// There was no answer for this long.
    NoAnswer(Duration),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(errno) => write!(f, "{}", Described(*errno)),
            Self::Failing(errno, time) => write!(f, "{} for {}", Described(*errno), Elapsed(*time)),
            Self::NotMounted => f.write_str(NOT_MOUNTED),
            Self::Replaced => f.write_str(REPLACED),
            Self::NoAnswer(time) => write!(f, "{NO_ANSWER}{}", Elapsed(*time)),
        }
    }
}

/// The judgement of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The same mount is there, and answers.
    Alive,
    /// There was an error, which is no loss yet.
    Unclear(Errno),
    /// The mount is gone.
    Lost(Loss),
}

/// The watchdog of one path.
#[derive(Debug, Clone)]
pub struct Watchdog {
    interval: Duration,
    timeout: Duration,
    /// How long errors may last that a healthy filesystem may also answer with.
    tolerance: Duration,
    /// How long errors have lasted, and when the latest one was seen.
    failing: Option<(Duration, Instant)>,
    /// The mount that was found when the path was first up; `None` after a loss.
    mount_id: Option<u64>,
    state: State,
    /// When the last question was asked that was answered.
    answered: Option<Instant>,
    /// Whether the open question was given more time because this process had woken up late. That is done
    /// once for each question: otherwise a process that is always late would never notice a loss.
    is_forgiven: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No question is open. The next one is due at `due`, if at all.
    Idle { due: Option<Instant> },
    /// A question has been open since `since`. With `again`, another one follows, because the answer may be
    /// out of date.
    Asked { since: Instant, again: bool },
}

impl Watchdog {
    /// A watchdog with the times of a plan. The first question is due now.
    pub fn new(plan: &MountpointPlan, now: Instant) -> Self {
        Self {
            interval: plan.check_interval,
            timeout: plan.check_timeout,
            tolerance: plan.timeout,
            failing: None,
            mount_id: None,
            state: State::Idle { due: Some(now) },
            answered: None,
            is_forgiven: false,
        }
    }

    /// Uses the times of this plan from now on, also for an open question.
    pub fn set_times(&mut self, plan: &MountpointPlan) {
        (self.interval, self.timeout, self.tolerance) =
            (plan.check_interval, plan.check_timeout, plan.timeout);
    }

    /// Whether the path was found mounted and answering, and has not been lost since.
    pub fn is_up(&self) -> bool {
        self.mount_id.is_some()
    }

    /// Whether a question was answered that was asked at this time or later.
    pub fn has_answered_since(&self, time: Instant) -> bool {
        self.answered.is_some_and(|asked| asked >= time)
    }

    /// Forgets the mount. The one that is found next is watched.
    pub fn forget_mount(&mut self) {
        (self.mount_id, self.failing) = (None, None);
    }

    /// Asks as soon as possible, because something has happened that may have ended the mount.
    pub fn suspect(&mut self, now: Instant) {
        self.state = match self.state {
            State::Idle { .. } => State::Idle { due: Some(now) },
            State::Asked { since, .. } => State::Asked { since, again: true },
        };
    }

    /// Whether a question should be sent now.
    pub fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Idle { due } => due.is_some_and(|due| due <= now),
            State::Asked { .. } => false,
        }
    }

    /// Whether a question is open.
    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// Notes that a question was sent.
    pub fn ask(&mut self, now: Instant) {
        self.state = State::Asked { since: now, again: false };
        self.is_forgiven = false;
    }

    /// Notes that a question of the prober's own has been open for [`Self::patience`]; the rest of the
    /// timeout is left for an answer. Returns whether the prober must be asked once more.
    pub fn late(&mut self, now: Instant) -> bool {
        let is_idle = matches!(self.state, State::Idle { .. });
        if is_idle {
            let since = now.checked_sub(self.patience()).unwrap_or(now);
            self.state = State::Asked { since, again: false };
            self.is_forgiven = false;
        }
        is_idle
    }

    /// The time after which the prober's alarm goes off. A part of the timeout is left after that: if no
    /// process ran for a time (a frozen container), the alarm goes off although the filesystem would answer
    /// at once.
    pub fn patience(&self) -> Duration {
        self.timeout * 3 / 4
    }

    /// Has the question asked again after an interval, because its prober died.
    pub fn forget_question(&mut self, now: Instant) {
        self.state = State::Idle { due: Some(now + self.interval) };
    }

    /// Judges an answer. The first answer from a mounted path sets the mount that later answers are compared
    /// with.
    pub fn answer(&mut self, answer: Answer, now: Instant) -> Judgement {
        let mut again = false;
        if let State::Asked { since, again: asked_again } = self.state {
            (self.answered, again) = (Some(since), asked_again);
        }
        self.state = State::Idle { due: again.then_some(now) };
        let failing = self.failing.take();
        match (answer, self.mount_id) {
            (Answer::Failed(errno), Some(_)) => self.judge_error(errno, failing, now),
            (Answer::Failed(errno), None) => Judgement::Lost(Loss::Dead(errno)),
            (Answer::Found(Found { is_mount_root: false, .. }), _) => Judgement::Lost(Loss::NotMounted),
            (Answer::Found(found), None) => {
                self.mount_id = Some(found.mount_id);
                Judgement::Alive
            }
            (Answer::Found(found), Some(known)) if found.mount_id == known => Judgement::Alive,
            (Answer::Found(_), Some(_)) => Judgement::Lost(Loss::Replaced),
        }
    }

    fn judge_error(&mut self, errno: Errno, failing: Option<(Duration, Instant)>, now: Instant) -> Judgement {
        let most = self.patience_with(errno);
        if most.is_zero() {
            return Judgement::Lost(Loss::Dead(errno));
        }
        // The next answer was due after a part of this time. Time in which no process ran does not count.
        let (lasted, seen) = failing.unwrap_or((Duration::ZERO, now));
        let lasted = lasted + now.saturating_duration_since(seen).min(self.interval.min(most) * 2);
        if lasted >= most {
            return Judgement::Lost(Loss::Failing(errno, lasted));
        }
        self.failing = Some((lasted, now));
        if !self.is_due(now) {
            self.state = State::Idle { due: Some(now + self.interval.min(most - lasted)) };
        }
        Judgement::Unclear(errno)
    }

    /// How long a filesystem that has answered before may answer with this error, or a similar one, before it
    /// counts as lost.
    pub fn patience_with(&self, errno: Errno) -> Duration {
        match errno {
            // A FUSE connection that has ended never comes back.
            Errno::NOTCONN | Errno::CONNABORTED | Errno::CONNREFUSED => Duration::ZERO,
            // The prober may not enter the path or lacks a resource; or a server refuses the daemon for a
            // time.
            Errno::ACCESS
            | Errno::PERM
            | Errno::NOSYS
            | Errno::AGAIN
            | Errno::INTR
            | Errno::NOMEM
            | Errno::MFILE
            | Errno::NFILE => self.tolerance,
            // One such answer can be an accident, a second one cannot.
            _ => self.interval.min(AGAIN),
        }
    }

    /// Returns the loss if a question has been open for the whole timeout. If no process ran meanwhile (a
    /// frozen container), the rest of the timeout starts again. That is assumed if this call comes much later
    /// than the deadline, or if `was_late`, for a clock that does not count such a time.
    pub fn overdue(&mut self, was_late: bool, now: Instant) -> Option<Loss> {
        let State::Asked { since, again } = self.state else { return None };
        let (waited, rest) = (now.saturating_duration_since(since), self.timeout - self.patience());
        if waited < self.timeout {
            return None;
        }
        if was_late && !self.is_forgiven || waited > self.timeout + rest {
            self.is_forgiven = true;
            self.state = State::Asked { since: now.checked_sub(self.patience()).unwrap_or(now), again };
            return None;
        }
        Some(Loss::NoAnswer(waited))
    }

    /// When [`Self::is_due`] or [`Self::overdue`] may next return something.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { due } => due,
            // After a loss no deadline applies to the answer, which may still come.
            State::Asked { since, .. } => self.mount_id.map(|_| since + self.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::MountpointLost;

    const INTERVAL: Duration = Duration::from_millis(500);
    const TIMEOUT: Duration = Duration::from_secs(5);
    const TOLERANCE: Duration = Duration::from_secs(30);

    fn found(mount_id: u64) -> Answer {
        Answer::Found(Found { mount_id, is_mount_root: true })
    }

    /// Asks if a question is due.
    fn ask(dog: &mut Watchdog, now: Instant) -> bool {
        let is_due = dog.is_due(now);
        if is_due {
            dog.ask(now);
        }
        is_due
    }

    fn plan(check_interval: Duration, check_timeout: Duration) -> MountpointPlan {
        let (checks, lost) = (Vec::new(), MountpointLost::Destroy);
        MountpointPlan { checks, timeout: TOLERANCE, check_interval, check_timeout, lost }
    }

    fn up(now: Instant) -> Watchdog {
        let mut dog = Watchdog::new(&plan(INTERVAL, TIMEOUT), now);
        assert!(ask(&mut dog, now) && !dog.is_up());
        assert_eq!(dog.answer(found(7), now), Judgement::Alive);
        assert!(dog.is_up());
        dog
    }

    #[test]
    fn an_answer_tells_of_the_time_of_its_question() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.ask(start);
        dog.suspect(start + INTERVAL);
        dog.answer(found(7), start + INTERVAL);
        assert!(dog.has_answered_since(start) && !dog.has_answered_since(start + INTERVAL));
        dog.ask(start + INTERVAL);
        assert!(!dog.has_answered_since(start + INTERVAL));
        dog.answer(found(7), start + INTERVAL * 2);
        assert!(dog.has_answered_since(start + INTERVAL));
    }

    #[test]
    fn nothing_is_asked_without_a_reason() {
        let start = Instant::now();
        let mut dog = up(start);
        assert!(!ask(&mut dog, start + INTERVAL * 3));
        assert_eq!(dog.deadline(), None);
    }

    #[test]
    fn a_late_answer_has_the_rest_of_the_timeout() {
        let start = Instant::now();
        let mut dog = up(start);
        let alarm = start + dog.patience();
        assert!(dog.late(alarm) && !dog.late(alarm));
        assert!(!ask(&mut dog, alarm), "a second question while one is out");
        assert_eq!((dog.deadline(), dog.overdue(false, alarm)), (Some(start + TIMEOUT), None));
        let mut forgiven = up(start);
        forgiven.late(alarm);
        assert_eq!(forgiven.answer(found(7), alarm), Judgement::Alive);
        assert_eq!(forgiven.overdue(false, start + TIMEOUT), None);
        assert_eq!(dog.overdue(false, start + TIMEOUT), Some(Loss::NoAnswer(TIMEOUT)));
    }

    #[test]
    fn after_a_loss_another_mount_is_as_good() {
        let start = Instant::now();
        let mut dog = up(start);
        assert_eq!(
            dog.answer(Answer::Failed(Errno::NOTCONN), start),
            Judgement::Lost(Loss::Dead(Errno::NOTCONN))
        );
        dog.forget_mount();
        dog.suspect(start);
        assert!(ask(&mut dog, start) && dog.deadline().is_none());
        assert_eq!(dog.answer(found(8), start), Judgement::Alive);
        assert!(dog.is_up());
        assert_eq!(dog.answer(found(7), start), Judgement::Lost(Loss::Replaced));
    }

    #[test]
    fn a_suspicion_asks_at_once_or_right_after_the_stale_answer() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.suspect(start);
        assert!(ask(&mut dog, start));
        dog.suspect(start);
        assert!(!ask(&mut dog, start));
        assert_eq!(dog.answer(found(7), start), Judgement::Alive);
        assert!(ask(&mut dog, start));
        assert_eq!(dog.answer(found(7), start), Judgement::Alive);
        assert!(!ask(&mut dog, start));
    }

    #[test]
    fn every_way_to_be_lost_is_told_apart() {
        let start = Instant::now();
        let underneath = Answer::Found(Found { mount_id: 1, is_mount_root: false });
        for (answer, loss) in [
            (Answer::Failed(Errno::NOTCONN), Loss::Dead(Errno::NOTCONN)),
            (Answer::Failed(Errno::CONNABORTED), Loss::Dead(Errno::CONNABORTED)),
            (underneath, Loss::NotMounted),
            (found(8), Loss::Replaced),
        ] {
            assert_eq!(up(start).answer(answer, start), Judgement::Lost(loss));
        }
    }

    /// Asks when a question is due and answers with `errno`, until that is a loss.
    fn fail(dog: &mut Watchdog, errno: Errno, start: Instant) -> (Loss, Duration) {
        let mut now = start;
        loop {
            match dog.answer(Answer::Failed(errno), now) {
                Judgement::Unclear(same) => assert_eq!(same, errno),
                Judgement::Lost(loss) => return (loss, now - start),
                Judgement::Alive => panic!("alive with {errno}"),
            }
            assert!(dog.is_up());
            now = dog.deadline().unwrap();
            assert!(ask(dog, now));
        }
    }

    #[test]
    fn an_error_is_a_loss_when_it_has_lasted() {
        let start = Instant::now();
        for (errno, most) in [
            (Errno::ACCESS, TOLERANCE),
            (Errno::PERM, TOLERANCE),
            (Errno::NOSYS, TOLERANCE),
            (Errno::IO, INTERVAL),
            (Errno::NOENT, INTERVAL),
        ] {
            assert_eq!(fail(&mut up(start), errno, start), (Loss::Failing(errno, most), most));
        }
    }

    #[test]
    fn the_end_of_an_error_is_no_loss_and_the_next_one_begins_anew() {
        let start = Instant::now();
        for errno in [Errno::PERM, Errno::IO] {
            let mut dog = up(start);
            for round in 0..100 {
                let now = start + INTERVAL * round;
                assert_eq!(dog.answer(Answer::Failed(errno), now), Judgement::Unclear(errno));
                assert_eq!(dog.answer(found(7), now + INTERVAL / 2), Judgement::Alive);
                assert_eq!(dog.deadline(), None);
            }
        }
    }

    #[test]
    fn an_error_does_not_last_while_nobody_runs() {
        let start = Instant::now();
        let mut dog = up(start);
        assert_eq!(dog.answer(Answer::Failed(Errno::PERM), start), Judgement::Unclear(Errno::PERM));
        let thawed = start + TOLERANCE * 10;
        assert_eq!(dog.answer(Answer::Failed(Errno::PERM), thawed), Judgement::Unclear(Errno::PERM));
        assert!(fail(&mut dog, Errno::PERM, thawed).1 > TOLERANCE - INTERVAL * 3);
    }

    #[test]
    fn before_its_first_good_answer_nothing_can_be_lost() {
        let start = Instant::now();
        let mut dog = Watchdog::new(&plan(INTERVAL, TIMEOUT), start);
        assert!(ask(&mut dog, start));
        for errno in [Errno::ACCESS, Errno::IO] {
            assert_eq!(
                dog.answer(Answer::Failed(errno), start),
                Judgement::Lost(Loss::Dead(errno)),
                "which a path that is not up does not count as a loss"
            );
            assert!(!dog.is_up());
        }
        assert_eq!(dog.answer(found(7), start), Judgement::Alive);
    }

    #[test]
    fn silence_is_a_loss_only_after_the_whole_timeout() {
        let start = Instant::now();
        let mut dog = up(start);
        assert_eq!(dog.overdue(false, start + TIMEOUT), None, "nothing is out");
        let asked = start + INTERVAL;
        dog.suspect(asked);
        assert!(ask(&mut dog, asked));
        assert_eq!(dog.deadline(), Some(asked + TIMEOUT));
        assert_eq!(dog.overdue(false, asked + TIMEOUT * 8 / 10), None);
        assert_eq!(dog.overdue(false, asked + TIMEOUT), Some(Loss::NoAnswer(TIMEOUT)));
    }

    #[test]
    fn who_has_not_run_meanwhile_gives_a_rest_of_the_timeout_again() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.suspect(start);
        assert!(ask(&mut dog, start));
        let thawed = start + TIMEOUT * 3;
        assert_eq!(dog.overdue(false, thawed), None);
        let end = thawed + (TIMEOUT - dog.patience());
        assert_eq!((dog.deadline(), dog.overdue(false, thawed)), (Some(end), None));
        assert_eq!(dog.overdue(false, end), Some(Loss::NoAnswer(TIMEOUT)));
    }

    #[test]
    fn so_does_who_was_late_by_a_clock_that_does_not_count_that() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.suspect(start);
        assert!(ask(&mut dog, start));
        assert_eq!(dog.overdue(true, start + TIMEOUT), None);
        let end = start + TIMEOUT + (TIMEOUT - dog.patience());
        let lost = Some(Loss::NoAnswer(TIMEOUT));
        assert_eq!((dog.deadline(), dog.clone().overdue(false, end)), (Some(end), lost));
        // A process that is late each time notices it as well.
        assert_eq!(dog.overdue(true, end), lost);
        dog.answer(found(7), end);
        dog.suspect(end);
        assert!(ask(&mut dog, end));
        assert_eq!(dog.overdue(true, end + TIMEOUT), None, "this is another question");
    }

    #[test]
    fn new_times_count_for_the_question_that_is_out() {
        for new in [TIMEOUT / 5, TIMEOUT * 5] {
            let start = Instant::now();
            let mut dog = up(start);
            dog.suspect(start);
            assert!(ask(&mut dog, start));
            dog.set_times(&plan(INTERVAL, new));
            assert_eq!(dog.deadline(), Some(start + new));
            assert_eq!(dog.overdue(false, start + new * 9 / 10), None);
            assert_eq!(dog.overdue(false, start + new), Some(Loss::NoAnswer(new)));
        }
    }

    #[test]
    fn a_lost_question_is_asked_again_later() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.suspect(start);
        assert!(ask(&mut dog, start));
        dog.forget_question(start);
        assert!(!ask(&mut dog, start) && ask(&mut dog, start + INTERVAL));
    }
}
