//! Names that others can remove: of the emperor's sockets, of its pid file and of on-demand sockets. A socket
//! that has lost its name cannot be reached, so the names are checked now and then, and made anew.

use std::time::{Duration, Instant};

use crate::emperor::core::text::later;

/// When to check next, and where to continue.
pub struct Renewal {
    due: Option<Instant>,
    interval: Duration,
    /// The index of the vassal whose on-demand socket is checked next: of thousands, only some are checked at
    /// a time.
    pub next: usize,
}

impl Renewal {
    /// The first check comes after one interval.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { due: Some(later(now, interval)), interval, next: 0 }
    }

    /// When the next check is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a check is due. If so, the next one is due an interval later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = Some(later(now, self.interval));
        }
        is_due
    }

    /// Brings the next check forward.
    pub fn hurry(&mut self, now: Instant) {
        self.due = self.due.map(|_| now);
    }

    /// No more checks, because the emperor ends.
    pub fn stop(&mut self) {
        self.due = None;
    }
}
