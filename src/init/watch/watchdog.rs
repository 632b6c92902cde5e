//! Whether a checked mountpoint still is what it was. Pure: answers and times in, judgements out.
//!
//! The prober asks at every interval by itself and tells what has changed. It is asked at once when a child
//! died or the mount table changed. One question is out at a time; an event that arrives meanwhile makes the
//! next one follow directly.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::error::Described;
use crate::log::Elapsed;

/// What a probe saw at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The filesystem answered.
    Found(Found),
    /// `statx` failed.
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
    /// The filesystem is dead: every call fails with this error.
    Dead(Errno),
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
            Self::NotMounted => write!(f, "no longer mounted"),
            Self::Replaced => write!(f, "replaced by another mount"),
            Self::NoAnswer(time) => write!(f, "no answer for {}", Elapsed(*time)),
        }
    }
}

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// The mount that was there is there, and answers.
    Alive,
    /// The answer says nothing about the filesystem: the prober may not go there, or had no memory.
    Unclear(Errno),
    /// The mount is gone.
    Lost(Loss),
}

/// The watchdog of one path.
#[derive(Debug, Clone)]
pub struct Watchdog {
    interval: Duration,
    timeout: Duration,
    /// The mount that was there when the path was first found mounted; none after a loss.
    mount_id: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No question is out; the next one is due at `due`, if there is to be one.
    Idle { due: Option<Instant> },
    /// A question is out since `since`; another follows it if `again`, as its answer may be stale.
    Asked { since: Instant, again: bool },
}

impl Watchdog {
    /// A watchdog whose first question is due now.
    pub fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, mount_id: None, state: State::Idle { due: Some(now) } }
    }

    /// From now on these times count, also for a question that is out.
    pub fn set_times(&mut self, interval: Duration, timeout: Duration) {
        (self.interval, self.timeout) = (interval, timeout);
    }

    /// Whether the path has been found mounted and answering, and was not lost since.
    pub fn is_up(&self) -> bool {
        self.mount_id.is_some()
    }

    /// Forgets the mount that was there: the one that is found next is watched.
    pub fn forget_mount(&mut self) {
        self.mount_id = None;
    }

    /// Has a question asked as soon as possible, since something happened that may have killed the mount.
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

    /// Whether a question is out.
    pub fn is_asking(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// A question was sent.
    pub fn ask(&mut self, now: Instant) {
        self.state = State::Asked { since: now, again: false };
    }

    /// Notes that the prober's own question has been out for [`Self::patience`]; it has the rest of the
    /// timeout for an answer. Returns whether the prober is to be asked once more.
    pub fn late(&mut self, now: Instant) -> bool {
        let is_idle = matches!(self.state, State::Idle { .. });
        if is_idle {
            let since = now.checked_sub(self.patience()).unwrap_or(now);
            self.state = State::Asked { since, again: false };
        }
        is_idle
    }

    /// The time after which the prober's alarm goes off. A part of the timeout is left then: after a time in
    /// which no process ran (a frozen container) the alarm goes off although the filesystem will answer at
    /// once.
    pub fn patience(&self) -> Duration {
        self.timeout * 3 / 4
    }

    /// Has the question asked again after an interval, since its prober died.
    pub fn forget_question(&mut self, now: Instant) {
        self.state = State::Idle { due: Some(now + self.interval) };
    }

    /// Judges an answer. The first one from a mounted path sets what later ones are compared with.
    pub fn answer(&mut self, answer: Answer, now: Instant) -> Judgement {
        let again = matches!(self.state, State::Asked { again: true, .. });
        self.state = State::Idle { due: again.then_some(now) };
        match (answer, self.mount_id) {
            (Answer::Failed(errno), _) => match errno {
                // The prober may not go there, or lacks something. That says nothing about the filesystem.
                Errno::ACCESS | Errno::PERM | Errno::NOMEM | Errno::INTR | Errno::AGAIN | Errno::NOSYS => {
                    Judgement::Unclear(errno)
                }
                // The directory below the mount is visible again, and was removed.
                Errno::NOENT | Errno::NOTDIR => Judgement::Lost(Loss::NotMounted),
                errno => Judgement::Lost(Loss::Dead(errno)),
            },
            (Answer::Found(Found { is_mount_root: false, .. }), _) => Judgement::Lost(Loss::NotMounted),
            (Answer::Found(found), None) => {
                self.mount_id = Some(found.mount_id);
                Judgement::Alive
            }
            (Answer::Found(found), Some(known)) if found.mount_id == known => Judgement::Alive,
            (Answer::Found(_), Some(_)) => Judgement::Lost(Loss::Replaced),
        }
    }

    /// The loss by silence, once a question has been out for the whole timeout. If this is called much later
    /// than that, no process has run meanwhile (a frozen container): then the rest of the timeout begins
    /// again.
    pub fn overdue(&mut self, now: Instant) -> Option<Loss> {
        let State::Asked { since, again } = self.state else { return None };
        let (waited, rest) = (now.saturating_duration_since(since), self.timeout - self.patience());
        if waited > self.timeout + rest {
            self.state = State::Asked { since: now.checked_sub(self.patience()).unwrap_or(now), again };
            return None;
        }
        (waited >= self.timeout).then_some(Loss::NoAnswer(waited))
    }

    /// When [`Self::is_due`] or [`Self::overdue`] has something to say next.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { due } => due,
            // After a loss the answer is not waited for, though it may still come.
            State::Asked { since, .. } => self.mount_id.map(|_| since + self.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);
    const TIMEOUT: Duration = Duration::from_secs(5);

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

    fn up(now: Instant) -> Watchdog {
        let mut dog = Watchdog::new(INTERVAL, TIMEOUT, now);
        assert!(ask(&mut dog, now) && !dog.is_up());
        assert_eq!(dog.answer(found(7), now), Judgement::Alive);
        assert!(dog.is_up());
        dog
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
        assert_eq!((dog.deadline(), dog.overdue(alarm)), (Some(start + TIMEOUT), None));
        let mut forgiven = up(start);
        forgiven.late(alarm);
        assert_eq!(forgiven.answer(found(7), alarm), Judgement::Alive);
        assert_eq!(forgiven.overdue(start + TIMEOUT), None);
        assert_eq!(dog.overdue(start + TIMEOUT), Some(Loss::NoAnswer(TIMEOUT)));
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
            (Answer::Failed(Errno::IO), Loss::Dead(Errno::IO)),
            (Answer::Failed(Errno::NOENT), Loss::NotMounted),
            (underneath, Loss::NotMounted),
            (found(8), Loss::Replaced),
        ] {
            assert_eq!(up(start).answer(answer, start), Judgement::Lost(loss));
        }
    }

    #[test]
    fn an_answer_about_the_prober_is_no_loss() {
        let start = Instant::now();
        let mut dog = up(start);
        assert_eq!(dog.answer(Answer::Failed(Errno::ACCESS), start), Judgement::Unclear(Errno::ACCESS));
        assert!(dog.is_up());
    }

    #[test]
    fn silence_is_a_loss_only_after_the_whole_timeout() {
        let start = Instant::now();
        let mut dog = up(start);
        assert_eq!(dog.overdue(start + TIMEOUT), None, "nothing is out");
        let asked = start + INTERVAL;
        dog.suspect(asked);
        assert!(ask(&mut dog, asked));
        assert_eq!(dog.deadline(), Some(asked + TIMEOUT));
        assert_eq!(dog.overdue(asked + TIMEOUT * 8 / 10), None);
        assert_eq!(dog.overdue(asked + TIMEOUT), Some(Loss::NoAnswer(TIMEOUT)));
    }

    #[test]
    fn who_has_not_run_meanwhile_gives_a_rest_of_the_timeout_again() {
        let start = Instant::now();
        let mut dog = up(start);
        dog.suspect(start);
        assert!(ask(&mut dog, start));
        let thawed = start + TIMEOUT * 3;
        assert_eq!(dog.overdue(thawed), None);
        let end = thawed + (TIMEOUT - dog.patience());
        assert_eq!((dog.deadline(), dog.overdue(thawed)), (Some(end), None));
        assert_eq!(dog.overdue(end), Some(Loss::NoAnswer(TIMEOUT)));
    }

    #[test]
    fn new_times_count_for_the_question_that_is_out() {
        for new in [TIMEOUT / 5, TIMEOUT * 5] {
            let start = Instant::now();
            let mut dog = up(start);
            dog.suspect(start);
            assert!(ask(&mut dog, start));
            dog.set_times(INTERVAL, new);
            assert_eq!(dog.deadline(), Some(start + new));
            assert_eq!(dog.overdue(start + new * 9 / 10), None);
            assert_eq!(dog.overdue(start + new), Some(Loss::NoAnswer(new)));
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
