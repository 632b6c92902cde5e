//! The app while it runs: its process, its sockets, and what it has told of itself.

use std::time::{Duration, Instant};

use crate::init::child::launch::Launched;
use crate::init::event_loop::notify::Listener;
use crate::protocol::{Announcement, WaitStatus};

/// The status is passed on this often at most: an app may talk as much as it likes.
const STATUS: Duration = Duration::from_secs(1);

/// The app, once it was started.
pub struct RunningApp {
    /// Its process.
    pub launched: Launched,
    /// Where it tells of itself.
    pub listener: Listener,
    /// What it has told already, but for heartbeats and its status.
    pub announced: Vec<Announcement>,
    /// When its last heartbeat was passed on.
    pub beat: Option<Instant>,
    /// The same for a reload of its own.
    pub reloaded: Option<Instant>,
    /// Its status, when it was last passed on, and one that is to be.
    pub said: (Option<Instant>, Option<String>),
    /// When it was started.
    pub since: Instant,
    /// Whether it is known to have executed its program.
    pub is_started: bool,
    /// How it ended, once it has.
    pub status: Option<WaitStatus>,
}

impl RunningApp {
    /// When its status, if it has changed, is to be passed on.
    pub fn status_due(&self) -> Option<Instant> {
        self.said.1.as_ref().map(|_| self.said.0.map_or(self.since, |last| last + STATUS))
    }
}
