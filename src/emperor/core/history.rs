//! The history of an instance, with that of the instances whose place it has taken.

use std::time::{Duration, Instant};

/// The history of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// How many processes were created.
    pub instances: u64,
    /// How often an instance was reloaded without a new process, or took the place of another one.
    pub reloads: u64,
    /// When the first and the latest app were started.
    pub runs: Option<Runs>,
    /// The present series of failures.
    pub failures: Option<Failures>,
    /// Why the last process ended or could not be created.
    pub last_end: Option<String>,
    /// Where the output of the last process goes, as PID 1 has told it; empty for where that of the emperor
    /// goes.
    pub output: String,
}

/// When apps were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// When the first process was created.
    pub first: Instant,
    /// When the latest process was created, or reloaded its file.
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
    /// How many processes there were before the present one, except those that others took the place of.
    pub fn restarts(&self) -> u64 {
        self.instances.saturating_sub(1)
    }

    /// Takes the place of another instance.
    pub(super) fn follow(&mut self, other: &Self) {
        // Its first process counts as a reload of the other one, as a reload in place does.
        self.instances += other.restarts();
        self.reloads += other.reloads + 1;
        if let (Some(runs), Some(before)) = (&mut self.runs, other.runs) {
            runs.first = before.first;
        }
    }
}
