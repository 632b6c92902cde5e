//! The history of a vassal, over all its instances.

use std::time::{Duration, Instant};

/// The history of a vassal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How many instances were created.
    pub instances: u64,
    /// How often an instance was reloaded without a new process.
    pub reloads: u64,
    /// When the first and the latest app were started.
    pub runs: Option<Runs>,
    /// The present series of failures.
    pub failures: Option<Failures>,
    /// Why the last instance ended or could not start.
    pub last_end: Option<String>,
    /// Why the running instance refused the present version of the file, and goes on with an older one.
    pub refused: Option<String>,
    /// Whether an app of the vassal has ever said that it is ready.
    pub announces: bool,
}

/// When the apps of a vassal were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// When the first instance was created.
    pub first: Instant,
    /// When the latest instance was created or reloaded.
    pub last: Instant,
}

/// A series of failures, without a success in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// How many failures.
    pub count: u32,
    /// When the first one was.
    pub first: Instant,
    /// When the last one was.
    pub last: Instant,
    /// The delay after the last one.
    pub wait: Duration,
}

impl History {
    /// How many instances there were before the present one.
    pub fn restarts(&self) -> u64 {
        self.instances.saturating_sub(1)
    }
}
