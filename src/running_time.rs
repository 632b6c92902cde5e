//! The time by which deadlines are judged: the time in which this process could run.
//!
//! A frozen container, a paused machine or SIGSTOP stops all processes, but not the clock of the machine. A
//! deadline that passed meanwhile says nothing about the app, which did not run, either.
//!
//! What counts:
//!
//! - In a wait for descriptors, the kernel measures how long this process waited, and leaves out the time in
//!   which it was stopped or frozen ([`sys::poll`](crate::sys::poll)). How long that was and where in the
//!   wait it began makes no difference.
//! - The kernel knows nothing of a pause of the whole machine. That is noticed if a wait ends late, so a wait
//!   for a deadline is made in parts: half of what is left is lost at most, or a second. So it is with a wait
//!   for signals alone.
//! - Between two looks at this clock, which does not wait meanwhile, half a second counts at most.
//! - After such a time others may go on later than this process. So the clock stands still for a second, at
//!   most once in two: a process that is always late still comes to its deadlines.
//!
//! How long this process itself works without a break is judged by [`Instant::now`], which never stands
//! still.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::PollFd;
use rustix::io::Result;

use crate::sys::poll;
use crate::sys::signal::{self, Signal};

/// A busy machine may wake a process up as late as this.
const LATE: Duration = Duration::from_millis(100);
/// A delay above this means that the process was stopped.
const STOPPED: Duration = Duration::from_millis(500);
/// How long the clock stands still after that.
const GRACE: Duration = Duration::from_secs(1);
/// How far it goes before it stands still again.
const GRACES_APART: Duration = Duration::from_secs(2);
/// The shortest part of a wait. Each part wakes this process up, also one that has nothing to do.
const PART: Duration = Duration::from_secs(1);
/// A wait without a deadline is one for this long, so that the kernel measures it.
const LONG: Duration = Duration::from_secs(24 * 3600);

static CLOCK: Mutex<Clock> = Mutex::new(Clock::new());

/// The present time. Must not be compared with [`Instant::now`].
pub fn now() -> Instant {
    clock().look(Instant::now())
}

/// The time since then.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The earliest of some deadlines.
pub fn earliest(deadlines: &[Option<Instant>]) -> Option<Instant> {
    deadlines.iter().copied().flatten().min()
}

/// poll(2) until a deadline. Ends before if this process did not run for a time, which [`was_late`] tells.
///
/// # Errors
/// As poll(2).
pub fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> Result<usize> {
    in_parts(until, |time| {
        let (ready, left) = poll::poll(fds, time);
        (ready, ready == Ok(0), time.saturating_sub(left))
    })
}

/// Waits for the next blocked signal until a deadline. Returns `None` then, and sometimes before.
///
/// # Errors
/// As [`signal::wait`].
pub fn signal(until: Option<Instant>) -> Result<Option<Signal>> {
    in_parts(until, |time| {
        let heard = signal::wait(Some(time));
        (heard, heard == Ok(None), time)
    })
}

/// Whether this process did not run for a part of the last wait.
pub fn was_late() -> bool {
    clock().was_late
}

/// Waits in parts: `wait` waits for the time that it is given, and returns whether nothing has come, and how
/// long this process may have waited.
fn in_parts<T>(until: Option<Instant>, mut wait: impl FnMut(Duration) -> (T, bool, Duration)) -> T {
    loop {
        now();
        let time = clock().next_part(until);
        let (result, is_over, ran) = wait(time);
        let mut clock = clock();
        let now = clock.advance(Instant::now(), ran);
        if !is_over || clock.was_late || until.is_none_or(|until| now >= until) {
            return result;
        }
    }
}

/// There is one thread, which never holds the lock when it asks for it.
fn clock() -> MutexGuard<'static, Clock> {
    CLOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The clock itself. Is told what the clock of the machine shows.
struct Clock {
    /// When it was last looked at.
    seen: Option<Instant>,
    /// The time that does not count.
    skipped: Duration,
    /// How long it still stands still.
    grace: Duration,
    /// How far it has gone since it last stood still.
    gone: Duration,
    /// Whether a part of the last wait does not count.
    was_late: bool,
}

impl Clock {
    const fn new() -> Self {
        let (skipped, grace) = (Duration::ZERO, Duration::ZERO);
        Self { seen: None, skipped, grace, gone: GRACES_APART, was_late: false }
    }

    /// The time, after something else than a wait.
    fn look(&mut self, machine: Instant) -> Instant {
        let was_late = self.was_late;
        let now = self.advance(machine, STOPPED);
        self.was_late = was_late;
        now
    }

    /// Goes on to the present time, of which this process can have used `ran`.
    fn advance(&mut self, machine: Instant, ran: Duration) -> Instant {
        let passed = machine.saturating_duration_since(*self.seen.get_or_insert(machine));
        self.seen = Some(machine);
        let lost = passed.saturating_sub(ran);
        self.was_late = lost >= LATE;
        let mut counted = if self.was_late { ran } else { passed };
        let still = counted.min(self.grace);
        self.grace -= still;
        counted -= still;
        self.gone += counted;
        self.skipped += passed - counted;
        if lost >= STOPPED && self.gone >= GRACES_APART {
            (self.grace, self.gone) = (GRACE, Duration::ZERO);
        }
        self.shown(machine)
    }

    /// What it shows when that of the machine shows this.
    fn shown(&self, machine: Instant) -> Instant {
        machine.checked_sub(self.skipped).unwrap_or(machine)
    }

    /// How long to wait next for a deadline.
    fn next_part(&self, until: Option<Instant>) -> Duration {
        let Some((until, seen)) = until.zip(self.seen) else { return LONG };
        let left = until.saturating_duration_since(self.shown(seen));
        if left.is_zero() { left } else { (left / 2).max(PART).min(left) + self.grace }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    /// A clock with its own time, and the machine's.
    struct Fixture {
        clock: Clock,
        machine: Instant,
        start: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let (mut clock, machine) = (Clock::new(), Instant::now());
            let start = clock.look(machine);
            Self { clock, machine, start }
        }

        /// A wait of which the kernel says that this process waited for `ran`, and what is then the time.
        fn waits(&mut self, passed: Duration, ran: Duration) -> Duration {
            self.machine += passed;
            self.clock.advance(self.machine, ran) - self.start
        }

        /// Something else than a wait.
        fn works(&mut self, passed: Duration) -> Duration {
            self.machine += passed;
            self.clock.look(self.machine) - self.start
        }

        /// How long it waits for a deadline that is that far from the start.
        fn part(&self, until: Duration) -> Duration {
            self.clock.next_part(Some(self.start + until))
        }
    }

    #[test]
    fn only_what_ran_of_a_wait_counts() {
        let mut time = Fixture::new();
        assert_eq!(time.waits(ms(1000), ms(1000)), ms(1000));
        // It was woken up a little late.
        assert_eq!(time.waits(ms(1050), ms(1000)), ms(2050));
        assert!(!time.clock.was_late);
        // Stopped for a moment, wherever in the wait.
        assert_eq!(time.waits(ms(500), ms(350)), ms(2400));
        assert!(time.clock.was_late);
        // Stopped for long, also for less than the wait.
        assert_eq!(time.waits(ms(9000), ms(300)), ms(2700));
    }

    #[test]
    fn the_clock_stands_still_after_a_stop_but_not_always() {
        let mut time = Fixture::new();
        assert_eq!(time.waits(ms(5000), ms(300)), ms(300));
        // A deadline is that much farther away.
        assert_eq!(time.part(ms(400)), ms(100) + GRACE);
        assert_eq!(time.works(ms(400)), ms(300));
        assert_eq!(time.part(ms(400)), ms(100) + ms(600));
        assert_eq!(time.waits(ms(700), ms(700)), ms(400));
        assert_eq!(time.part(ms(400)), ms(0));
        // A process that is late each time comes to its deadlines.
        let mut last = ms(400);
        for _ in 0..100 {
            time.waits(ms(1000), ms(250));
        }
        for _ in 0..10 {
            let now = time.waits(ms(3000), ms(1500));
            assert!(now >= last);
            last = now;
        }
        assert!(last > ms(400) + ms(100 * 250 + 10 * 1500) / 2, "{last:?}");
    }

    #[test]
    fn work_that_takes_long_counts_half_a_second_at_most() {
        let mut time = Fixture::new();
        assert_eq!(time.works(ms(400)), ms(400));
        assert_eq!(time.works(ms(400)), ms(800));
        assert_eq!(time.works(ms(60_000)), ms(1300));
        assert!(!time.clock.was_late, "that is for waits");
    }

    #[test]
    fn a_wait_for_a_deadline_is_made_in_parts() {
        let time = Fixture::new();
        assert_eq!(time.part(ms(30_000)), ms(15_000));
        assert_eq!(time.part(ms(1500)), ms(1000));
        assert_eq!(time.part(ms(100)), ms(100));
        assert_eq!(time.part(ms(0)), ms(0));
        assert_eq!(time.clock.next_part(None), LONG);
    }

    #[test]
    fn a_wait_ends_at_its_deadline() {
        let began = now();
        poll(&mut [], Some(began + ms(600))).unwrap();
        assert!(since(began) >= ms(600) || was_late());
        assert_eq!(poll(&mut [], Some(began)), Ok(0));
    }
}
