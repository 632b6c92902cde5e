//! The delays after failures: each is twice as long as the last one, up to a longest delay.

use std::time::Duration;

/// The shortest delay, in milliseconds. Without one, a vassal that fails at once would be started in a tight
/// loop.
const SHORTEST: u32 = 1;

/// So many lost mounts in a row do not count as failures, because the app is not to blame.
const LOSSES: u32 = 3;

/// The delays of one vassal, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    first: u32,
    longest: u32,
    next: u32,
    /// How many mounts were lost.
    losses: u32,
}

impl Backoff {
    /// Delays from `first` up to `longest`, both of at most seven weeks.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let longest = millis(longest).max(SHORTEST);
        let first = millis(first).clamp(SHORTEST, longest);
        Self { first, longest, next: first, losses: 0 }
    }

    /// Counts a failure, and returns the delay that follows.
    pub fn fail(&mut self) -> Duration {
        let delay = self.next();
        self.next = self.next.saturating_mul(2).min(self.longest);
        delay
    }

    /// Counts a lost mount.
    pub fn lose(&mut self) {
        self.losses = self.losses.saturating_add(1);
        if self.losses > LOSSES {
            self.fail();
        }
    }

    /// The delay after the next failure.
    pub fn next(&self) -> Duration {
        Duration::from_millis(self.next.into())
    }

    /// Whether failures are counted.
    pub fn has_failed(&self) -> bool {
        self.next > self.first
    }

    /// Continues with `next` as the delay after the next failure, within the limits.
    pub fn resume(mut self, next: Duration) -> Self {
        self.next = millis(next).clamp(self.first, self.longest);
        self
    }

    /// The longest delay.
    pub fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.into())
    }

    /// Forgets all failures.
    pub fn reset(&mut self) {
        (self.next, self.losses) = (self.first, 0);
    }
}

fn millis(delay: Duration) -> u32 {
    u32::try_from(delay.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(first: u64, longest: u64) -> Vec<u64> {
        let mut backoff = Backoff::new(Duration::from_millis(first), Duration::from_millis(longest));
        (0..5).map(|_| backoff.fail().as_millis() as u64).collect()
    }

    #[test]
    fn doubles_up_to_the_longest() {
        assert_eq!(delays(1000, 5000), [1000, 2000, 4000, 5000, 5000]);
        assert_eq!(delays(9000, 5000), [5000; 5]);
        assert_eq!(delays(0, 3), [1, 2, 3, 3, 3]);
        assert_eq!(delays(0, 0), [1; 5]);
    }

    #[test]
    fn extremes_do_not_overflow_and_a_reset_starts_over() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!([backoff.fail(), backoff.fail()], [Duration::from_millis(u32::MAX.into()); 2]);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
        backoff.fail();
        backoff.reset();
        assert_eq!(backoff.fail(), Duration::from_secs(1));
    }
}
