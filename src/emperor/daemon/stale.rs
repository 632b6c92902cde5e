//! An emperor that could not use its new configuration at an upgrade, and goes on with the old one.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::log;
use crate::running_time;

/// The pause between two tries of the new configuration.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the old configuration is still in use, and when the new one is tried again.
#[derive(Debug)]
pub struct Stale {
    /// The mistake in the new configuration: the lines as they were logged.
    mistake: String,
    try_at: Instant,
}

impl Stale {
    /// The mistake, in one line.
    pub fn reason(&self) -> &str {
        let line = self.mistake.lines().next().unwrap_or_default();
        line.strip_prefix(PREFIX).unwrap_or(line)
    }

    /// When the new configuration is to be tried again.
    pub fn try_at(&self) -> Instant {
        self.try_at
    }

    /// Notes that the new configuration is tried at `now`. The next try follows after the pause.
    pub fn put_off(&mut self, now: Instant) {
        self.try_at = now + AGAIN;
    }
}

/// The prefix of this program's lines on standard error.
const PREFIX: &str = "emperor: ";

/// An error in the form in which the trial of an upgrade prints it, so that the two can be compared.
pub fn line(error: &Error) -> String {
    format!("{PREFIX}{error}\n")
}

/// Notes that the new configuration cannot be used, and logs the mistake unless it is known.
pub fn tell(stale: &mut Option<Stale>, mistake: String) {
    if stale.as_ref().is_none_or(|known| known.mistake != mistake) {
        log_lines(&mistake);
        *stale = Some(Stale { mistake, try_at: running_time::now() + AGAIN });
    }
}

/// Writes lines that were meant for standard error to the log, which does not block.
pub fn log_lines(text: &str) {
    for line in text.lines() {
        log!("{}", line.strip_prefix(PREFIX).unwrap_or(line));
    }
}
