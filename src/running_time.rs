//! The time by which deadlines are judged: the time in which this process could run.
//!
//! A frozen container, a paused machine or SIGSTOP stops all processes, but not the clock. A deadline that
//! passed meanwhile says nothing about the app, which was frozen, too. If this process wakes up later than it
//! asked for, it was not running, and that time does not count. If the delay is as long as the whole wait,
//! the wait does not count either, because nobody knows how much of it other processes could use.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec};
use rustix::io::Result;

/// A busy machine may wake a process up as late as this.
const LATE: Duration = Duration::from_millis(100);
/// A delay above this means that the process was stopped.
const STOPPED: Duration = Duration::from_millis(500);

/// The time that does not count, in nanoseconds.
static SKIPPED: AtomicU64 = AtomicU64::new(0);
/// Whether the last wait ended late.
static WAS_LATE: AtomicBool = AtomicBool::new(false);
/// Whether the last wait does not count.
static WAS_FORGIVEN: AtomicBool = AtomicBool::new(false);

/// The present time. Must not be compared with [`Instant::now`].
pub fn now() -> Instant {
    let skipped = Duration::from_nanos(SKIPPED.load(Ordering::Relaxed));
    Instant::now().checked_sub(skipped).unwrap_or_else(Instant::now)
}

/// The time since then.
pub fn since(then: Instant) -> Duration {
    now().saturating_duration_since(then)
}

/// The earliest of some deadlines.
pub fn earliest(deadlines: &[Option<Instant>]) -> Option<Instant> {
    deadlines.iter().copied().flatten().min()
}

/// poll(2) until a deadline. [`was_late`] tells whether it ended late.
///
/// # Errors
/// As poll(2).
pub fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> Result<usize> {
    let began = now();
    let time = until.and_then(|until| Timespec::try_from(until.saturating_duration_since(began)).ok());
    let result = rustix::event::poll(fds, time.as_ref());
    waited(began, until);
    result
}

/// Whether the last wait has ended late.
pub fn was_late() -> bool {
    WAS_LATE.load(Ordering::Relaxed)
}

/// Takes in another wait than [`poll`], which began then and should have ended by `until`.
pub fn waited(began: Instant, until: Option<Instant>) {
    let late = until.map_or(Duration::ZERO, since);
    let time = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(began));
    let (skipped, is_forgiven) = uncounted(time, late, WAS_FORGIVEN.load(Ordering::Relaxed));
    WAS_LATE.store(!skipped.is_zero(), Ordering::Relaxed);
    WAS_FORGIVEN.store(is_forgiven, Ordering::Relaxed);
    SKIPPED.fetch_add(u64::try_from(skipped.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// How much of a wait for `time` that ended `late` does not count, and whether that is all of it. The next
/// wait counts in that case, so that a machine that is always late still reaches its deadlines.
fn uncounted(time: Duration, late: Duration, was_forgiven: bool) -> (Duration, bool) {
    match late {
        _ if late < LATE => (Duration::ZERO, false),
        _ if late < time.max(STOPPED) || was_forgiven => (late, false),
        _ => (late + time, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn a_wait_that_ends_late_does_not_count() {
        // Stopped for twice the time: the deadline is as far away as before.
        assert_eq!(uncounted(ms(2000), ms(4000), false), (ms(6000), true));
        // A little late: the deadline moves a little.
        assert_eq!(uncounted(ms(2000), ms(150), false), (ms(150), false));
        assert_eq!(uncounted(ms(2000), ms(50), false), (ms(0), false));
        // Late each time: the deadline comes nearer.
        assert_eq!(uncounted(ms(50), ms(400), false), (ms(400), false));
        assert_eq!(uncounted(ms(50), ms(800), true), (ms(800), false));
    }

    #[test]
    fn time_goes_on_where_nothing_is_late() {
        let began = now();
        for until in [Some(began + Duration::from_secs(60)), None] {
            waited(began, until);
            assert!(!was_late() && since(began) < Duration::from_secs(60));
        }
    }
}
