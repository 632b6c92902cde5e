//! The seam between the emperor and whatever looks at the files of vassals: it is asked to look, and answers
//! by events.
//!
//! At present the looks are done here, while the main loop waits. Where a directory hangs they are to be done
//! by another process: that is asked in [`Discovery::time`], its descriptor is then one more to wait for, and
//! the main loop stays as it is.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::stat;
use rustix::io::Errno;

use super::directories::{Directories, FileChange};
use super::scan::Rules;
use crate::config::plan::{Located, Source};
use crate::log;

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A file has changed.
    Changed(FileChange),
    /// A look at all directories is complete: every change that it has found was told before.
    Complete {
        /// How many changes that were.
        changes: usize,
    },
}

/// Asks for looks at the directories when they are due, and keeps what they have found until it is taken.
pub struct Discovery {
    directories: Directories,
    found: VecDeque<Found>,
    /// Until when events are left alone, once there has been one too early.
    deaf_until: Option<Instant>,
    /// Whether nothing is looked for any more.
    stopped: bool,
}

impl Discovery {
    /// Nothing was looked at yet: the first look is due at once. Relative paths begin at `cwd`.
    pub fn new(sources: &[Located<Source>], rules: Rules, interval: Duration, cwd: &Path) -> Self {
        let directories = Directories::new(sources, rules, interval, cwd);
        Self { directories, found: VecDeque::new(), deaf_until: None, stopped: false }
    }

    /// Readable when something has happened in a directory. `None` where nothing tells of that, or it is too
    /// early to listen.
    pub fn descriptor(&mut self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        let listens = self.deaf_until.is_none() && !self.stopped;
        self.directories.watch.descriptor().filter(|_| listens)
    }

    /// When [`Discovery::time`] or [`Discovery::take`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match (self.stopped, self.found.is_empty()) {
            (true, _) => None,
            (false, false) => Some(now),
            (false, true) => Some(self.directories.due(now)).into_iter().chain(self.deaf_until).min(),
        }
    }

    /// Takes in the events of the [descriptor](Self::descriptor), or leaves them for a moment.
    pub fn read_events(&mut self, now: Instant) {
        self.deaf_until = self.directories.quiet_until().filter(|until| *until > now);
        if self.deaf_until.is_none()
            && let Err(error) = self.directories.watch.read(now)
        {
            log!("{error}");
        }
    }

    /// Looks at the directories if that is due; not before everything that the last look has found was taken.
    pub fn time(&mut self, now: Instant) {
        if self.stopped || !self.found.is_empty() || self.directories.due(now) > now {
            return;
        }
        let changes = self.directories.scan(now);
        let complete = Found::Complete { changes: changes.len() };
        self.found.extend(changes.into_iter().map(Found::Changed));
        self.found.push_back(complete);
    }

    /// The next result.
    pub fn take(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// Whether everything that was found has been taken.
    pub fn is_idle(&self) -> bool {
        self.found.is_empty()
    }

    /// Why a file that no look has found is given up; `None` while it may still be found. A file that is
    /// there is given up when it `is_late` and no directory has it.
    pub fn given_up(&self, file: &Path, is_late: bool) -> Option<&'static str> {
        let is_there = !matches!(stat(file), Err(Errno::NOENT));
        let has_directory = file.parent().is_some_and(|directory| stat(directory).is_ok());
        if !is_there && has_directory {
            Some("file removed")
        } else if is_there && is_late && self.directories.looked_for(file) {
            Some("its directory is not watched any more")
        } else {
            None
        }
    }

    /// Looks for nothing any more.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.found.clear();
    }
}
