//! An emperor that could not take its new configuration at an upgrade, and goes on with the one of before.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::log;
use crate::running_time;

/// The pause between two tries of the new configuration.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the configuration is that of before the upgrade, and when the new one is tried again.
#[derive(Debug)]
pub struct Stale {
    /// The mistake in the new one: lines, as they were logged.
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

    /// The new configuration is tried at `now`; the next try is after the pause.
    pub fn put_off(&mut self, now: Instant) {
        self.try_at = now + AGAIN;
    }
}

/// How the lines of this program begin on standard error.
const PREFIX: &str = "emperor: ";

/// An error as the trial of an upgrade prints it, so that both look the same.
pub fn line(error: &Error) -> String {
    format!("{PREFIX}{error}\n")
}

/// The new configuration cannot be used; the mistake is logged unless it is known.
pub fn tell(stale: &mut Option<Stale>, mistake: String) {
    if stale.as_ref().is_none_or(|known| known.mistake != mistake) {
        log_lines(&mistake);
        *stale = Some(Stale { mistake, try_at: running_time::now() + AGAIN });
    }
}

/// Writes lines that were meant for standard error to the log, which never waits for its reader.
pub fn log_lines(text: &str) {
    for line in text.lines() {
        log!("{}", line.strip_prefix(PREFIX).unwrap_or(line));
    }
}
