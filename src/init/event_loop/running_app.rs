//! The app while it runs: its process, its sockets, and its messages so far.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::init::child::launch::Launched;
use crate::init::event_loop::notify::Listener;
use crate::log::Elapsed;
use crate::protocol::{Announcement, WaitStatus};
use crate::running_time;

/// An app's own reloads within this time are passed on as one.
const RELOADS: Duration = Duration::from_millis(500);

/// The shortest time between two heartbeats that are passed on.
const HEARTBEATS: Duration = Duration::from_millis(500);

/// The shortest time between two statuses that are passed on: an app may send as many as it likes.
const STATUS: Duration = Duration::from_secs(1);

/// The app, once it was started.
pub struct RunningApp {
    /// Its process.
    pub launched: Launched,
    /// The sockets over which the app sends messages.
    pub listener: Listener,
    /// When it was started.
    pub since: Instant,
    /// Whether a step waits for the app to execute its program.
    is_awaited: bool,
    is_started: bool,
    /// Whether a check tells that it is ready, and not the app itself.
    is_checked: bool,
    is_leaving: bool,
    /// How the app ended, once it has.
    pub status: Option<WaitStatus>,
    /// The messages of the app so far, without heartbeats and statuses.
    announced: Vec<Announcement>,
    /// Whether the app has become ready since the last call of `take_ready`.
    is_newly_ready: bool,
    heartbeat: Heartbeat,
    /// When a reload of the app's own was last passed on.
    last_reload: Option<Instant>,
    /// When a status of the app was last passed on.
    last_status: Option<Instant>,
    /// A status that has not been passed on yet.
    next_status: Option<String>,
}

impl RunningApp {
    /// An app that was started at `since` and has sent nothing yet.
    pub fn new(launched: Launched, listener: Listener, since: Instant) -> Self {
        Self {
            launched,
            listener,
            since,
            is_awaited: false,
            is_started: false,
            is_checked: false,
            is_leaving: false,
            status: None,
            announced: Vec::new(),
            is_newly_ready: false,
            heartbeat: Heartbeat::default(),
            last_reload: None,
            last_status: None,
            next_status: None,
        }
    }

    /// Adds the descriptors that are readable when the app has sent something, or when a step that waits for
    /// the app's program may go on.
    pub fn add_descriptors<'a>(&'a self, to: &mut Vec<BorrowedFd<'a>>) {
        if self.is_started {
            to.extend(self.listener.descriptors().into_iter().flatten());
        }
        if self.is_awaited {
            to.extend(self.launched.report());
        }
    }

    /// A step waits for the app to execute its program, or does not any more.
    pub fn set_awaited(&mut self, is_awaited: bool) {
        self.is_awaited = is_awaited;
    }

    /// The app has executed its program. With `is_checked`, it is not believed that it is ready.
    pub fn set_started(&mut self, is_checked: bool) {
        (self.is_started, self.is_checked) = (true, is_checked);
    }

    /// Whether the app has executed its program, as far as is known.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// The app was asked to stop in order to be started anew.
    pub fn set_leaving(&mut self) {
        self.is_leaving = true;
    }

    /// Whether the app was asked to stop in order to be started anew.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether it has said that it is ready to serve.
    pub fn is_ready(&self) -> bool {
        self.announced.contains(&Announcement::Ready)
    }

    /// Whether it has become ready since the last call.
    pub fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.is_newly_ready)
    }

    /// Forgets the messages of the app: it was told to reload itself, and may send all of them again.
    pub fn forget_announced(&mut self) {
        self.announced.clear();
    }

    /// Passes on one more heartbeat. The emperor may have taken those so far for heartbeats of the app before
    /// this one.
    pub fn repeat_heartbeat(&mut self) {
        self.heartbeat.is_new |= self.heartbeat.last.is_some();
    }

    /// It is ready to serve.
    pub fn become_ready(&mut self) {
        crate::log!("the app is ready, {} after its start", Elapsed(running_time::since(self.since)));
        self.announced.push(Announcement::Ready);
        self.is_newly_ready = true;
    }

    /// When a message must be passed on that came too soon after the one before.
    pub fn due(&self) -> Option<Instant> {
        running_time::earliest(&[self.status_due(), self.heartbeat.due()])
    }

    fn status_due(&self) -> Option<Instant> {
        self.next_status.as_ref().map(|_| self.last_status.map_or(self.since, |last| last + STATUS))
    }

    /// Reads the messages of the app, and returns those to pass on. Repeated messages are left out: an app
    /// may send them as often as it likes.
    pub fn hear(&mut self) -> Vec<Announcement> {
        // The emperor must first hear that this app runs. Messages before that would be taken for messages of
        // the last app.
        if !self.is_started {
            return Vec::new();
        }
        let mut news = Vec::new();
        for announcement in self.listener.news() {
            let is_recent =
                |last: Option<Instant>| last.is_some_and(|last| running_time::since(last) < RELOADS);
            match &announcement {
                Announcement::Status(text) => {
                    self.next_status = Some(text.clone());
                    continue;
                }
                Announcement::Heartbeat => {
                    self.heartbeat.is_new = true;
                    if !self.heartbeat.pass_on(running_time::now()) {
                        continue;
                    }
                }
                Announcement::Ready if self.is_checked => continue,
                Announcement::Reloading if is_recent(self.last_reload) => continue,
                Announcement::Reloading => {
                    self.last_reload = Some(running_time::now());
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
                    match announcement {
                        Announcement::Ready => self.become_ready(),
                        _ => self.announced.push(announcement.clone()),
                    }
                    // An app that is stopping sends no more heartbeats, and one that came before the message
                    // no longer counts.
                    self.heartbeat.is_new &= announcement != Announcement::Stopping;
                }
            }
            news.push(announcement);
        }
        if self.heartbeat.pass_on(running_time::now()) {
            news.push(Announcement::Heartbeat);
        }
        if self.status_due().is_some_and(|due| due <= running_time::now()) {
            self.last_status = Some(running_time::now());
            news.extend(self.next_status.take().map(Announcement::Status));
        }
        news
    }
}

/// The heartbeats of an app, which may send as many as it likes.
#[derive(Debug, Default)]
struct Heartbeat {
    /// When a heartbeat was last passed on.
    last: Option<Instant>,
    /// Whether a heartbeat has come since.
    is_new: bool,
}

impl Heartbeat {
    /// When to pass on the new heartbeat, if there is one. It must not be dropped: the app may send the next
    /// one as late as the emperor allows.
    fn due(&self) -> Option<Instant> {
        Some(self.last? + HEARTBEATS).filter(|_| self.is_new)
    }

    /// Whether to pass a heartbeat on now.
    fn pass_on(&mut self, now: Instant) -> bool {
        let is_due = self.is_new && self.due().is_none_or(|due| due <= now);
        if is_due {
            (self.last, self.is_new) = (Some(now), false);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_comes_early_is_passed_on_later_and_not_dropped() {
        let (mut heartbeat, now) = (Heartbeat::default(), running_time::now());
        assert!(!heartbeat.pass_on(now));
        heartbeat.is_new = true;
        assert!(heartbeat.pass_on(now));
        assert_eq!(heartbeat.due(), None);
        heartbeat.is_new = true;
        assert!(!heartbeat.pass_on(now + HEARTBEATS / 2));
        assert_eq!(heartbeat.due(), Some(now + HEARTBEATS));
        assert!(heartbeat.pass_on(now + HEARTBEATS));
        assert!(!heartbeat.pass_on(now + HEARTBEATS * 2));
        assert_eq!(heartbeat.due(), None);
    }
}
