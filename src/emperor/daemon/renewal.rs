//! Names that others can remove: of the emperor's sockets, of its pid file and of the sockets on demand.
//! Nobody could reach what has lost its name, so they are looked at now and then, and made anew.

use std::time::{Duration, Instant};

use super::files::PidFile;
use crate::emperor::api::server::Server;
use crate::emperor::core::text::later;

/// When to look, and where to go on.
pub struct Renewal {
    due: Option<Instant>,
    interval: Duration,
    /// The place of the vassal whose socket on demand is looked at next: of thousands a part at a time is.
    pub next: usize,
}

impl Renewal {
    /// The first look is one interval away.
    pub fn new(interval: Duration, now: Instant) -> Self {
        Self { due: Some(later(now, interval)), interval, next: 0 }
    }

    /// When the next look is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a look is due; the next one is so an interval later.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = Some(later(now, self.interval));
        }
        is_due
    }

    /// The emperor ends: it looks no more.
    pub fn stop(&mut self) {
        self.due = None;
    }
}

/// Looks at what is the emperor's own.
pub fn renew_own(server: &mut Server, pid_file: &mut Option<PidFile>) {
    server.renew();
    if let Some(file) = pid_file {
        file.renew();
    }
}
