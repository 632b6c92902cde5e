//! The app while it runs: its process, its sockets, and what it has told of itself.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::init::child::launch::Launched;
use crate::init::event_loop::notify::Listener;
use crate::log::Elapsed;
use crate::protocol::{Announcement, WaitStatus};

/// Heartbeats, and reloads of its own, that come faster say nothing more.
const BEAT: Duration = Duration::from_millis(500);

/// The status is passed on this often at most: an app may talk as much as it likes.
const STATUS: Duration = Duration::from_secs(1);

/// The app, once it was started.
pub struct RunningApp {
    /// Its process.
    pub launched: Launched,
    /// Where it tells of itself.
    pub listener: Listener,
    /// When it was started.
    pub since: Instant,
    /// Whether a step waits for it to execute its program.
    pub is_awaited: bool,
    /// Whether it is known to have executed its program.
    pub is_started: bool,
    /// Whether it was asked to stop because it is to be started anew.
    pub is_leaving: bool,
    /// How it ended, once it has.
    pub status: Option<WaitStatus>,
    /// What it has told already, but for heartbeats and its status.
    announced: Vec<Announcement>,
    /// Whether it has said that it is ready since `take_ready` was asked last.
    is_newly_ready: bool,
    /// When its last heartbeat was passed on.
    last_heartbeat: Option<Instant>,
    /// When a reload of its own was passed on last.
    last_reload: Option<Instant>,
    /// When its status was passed on last.
    last_status: Option<Instant>,
    /// A status that is to be passed on.
    next_status: Option<String>,
}

impl RunningApp {
    /// An app that was started at `since` and has said nothing yet.
    pub fn new(launched: Launched, listener: Listener, since: Instant) -> Self {
        Self {
            launched,
            listener,
            since,
            is_awaited: false,
            is_started: false,
            is_leaving: false,
            status: None,
            announced: Vec::new(),
            is_newly_ready: false,
            last_heartbeat: None,
            last_reload: None,
            last_status: None,
            next_status: None,
        }
    }

    /// Readable when there is news, or when a step that waits for its program may go on.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let launched = self.launched.report().filter(|_| self.is_awaited);
        self.listener.descriptors().chain(launched)
    }

    /// Whether it has said that it is ready to serve.
    pub fn is_ready(&self) -> bool {
        self.announced.contains(&Announcement::Ready)
    }

    /// Whether it has become ready since this was asked last.
    pub fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.is_newly_ready)
    }

    /// It was told to reload itself, and may say everything again.
    pub fn forget_announced(&mut self) {
        self.announced.clear();
    }

    /// When its status, if it has changed, is to be passed on.
    pub fn status_due(&self) -> Option<Instant> {
        self.next_status.as_ref().map(|_| self.last_status.map_or(self.since, |last| last + STATUS))
    }

    /// Takes in what the app tells of itself, and returns what is to be passed on: only what is new, as an app may say the
    /// same as often as it likes.
    pub fn hear(&mut self) -> Vec<Announcement> {
        let mut news = Vec::new();
        for announcement in self.listener.news() {
            let is_recent = |last: Option<Instant>| last.is_some_and(|last| last.elapsed() < BEAT);
            match &announcement {
                Announcement::Status(text) => {
                    self.next_status = Some(text.clone());
                    continue;
                }
                Announcement::Heartbeat if is_recent(self.last_heartbeat) => continue,
                Announcement::Heartbeat => self.last_heartbeat = Some(Instant::now()),
                Announcement::Reloading if is_recent(self.last_reload) => continue,
                Announcement::Reloading => {
                    self.last_reload = Some(Instant::now());
                    self.announced.retain(|known| *known != Announcement::Ready);
                }
                Announcement::Ready
                | Announcement::Loyal
                | Announcement::Leave
                | Announcement::Stopping
                | Announcement::Stuck => {
                    if self.announced.contains(&announcement) {
                        continue;
                    }
                    self.announced.push(announcement.clone());
                }
            }
            if announcement == Announcement::Ready {
                crate::log!("the app is ready, {} after its start", Elapsed(self.since.elapsed()));
                self.is_newly_ready = true;
            }
            news.push(announcement);
        }
        if self.status_due().is_some_and(|due| due <= Instant::now()) {
            self.last_status = Some(Instant::now());
            news.extend(self.next_status.take().map(Announcement::Status));
        }
        news
    }
}
