//! One instance of a vassal: its process, what it says over its link, and how it ended.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::Pid;

use super::cgroups::Cgroup;
use super::process::Process;
use crate::emperor::core::machine::{Answer, Event};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::saved::SavedInstance;
use crate::emperor::core::vassal_file::VassalFile;
use crate::error::{Context, Described, Error, Result};
use crate::log::Elapsed;
use crate::log_of;
use crate::protocol::{
    self, Announcement, EXIT_CONFIG, ExitReason, FromVassal, KeptSocket, MountReport, Received, ToVassal,
    WaitStatus,
};
use crate::sys::fd;
use crate::sys::signal::kill_pidfd;

/// A running process and what is known of it.
pub struct Instance {
    process: Process,
    born: Instant,
    running: Option<Instant>,
    asked_to_reload: Option<Instant>,
    asked_to_stop: Option<Instant>,
    killed: Option<Instant>,
    /// Why it was, or is to be.
    condemned: Option<String>,
    /// When the app said so itself.
    ready: Option<Instant>,
    loyal: Option<Instant>,
    heartbeat: Option<Instant>,
    status: String,
    reason: Option<ExitReason>,
}

/// What was on the link.
pub enum Heard {
    /// Nothing more for now.
    Nothing,
    /// What changes nothing for now, such as the reason of an end that is yet to come.
    News,
    /// The app is alive.
    Heartbeat,
    /// The app wants to be stopped.
    Leave,
    /// How its checked mountpoints are.
    Mountpoints(Vec<MountReport>),
    /// Something that changes its vassal's life.
    Event(Event),
    /// The sockets that are in use, by their labels.
    Sockets(Vec<String>),
    /// A socket to be kept.
    Keep(KeptSocket),
    /// The answer to a reload, asked for or not, and the reason for it.
    Answer(Answer, String),
}

impl Instance {
    /// A process that was just created; `links` will report its packets with its pid.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC at the user's limit of watches (epoll_ctl(2)). The process then sees its link close, and ends.
    pub fn new(process: Process, links: &OwnedFd) -> Result<Self> {
        if let Some(link) = &process.link {
            let pid = epoll::EventData::new_u64(process.pid.as_raw_nonzero().get() as u64);
            epoll::add(links, link, pid, epoll::EventFlags::IN).context("listen to", "link")?;
        }
        Ok(Self {
            process,
            born: Instant::now(),
            running: None,
            asked_to_reload: None,
            asked_to_stop: None,
            killed: None,
            condemned: None,
            ready: None,
            loyal: None,
            heartbeat: None,
            status: String::new(),
            reason: None,
        })
    }

    /// What a program that takes our place needs to know.
    pub fn save(&self) -> SavedInstance {
        let cgroup = self.process.cgroup.as_ref();
        SavedInstance {
            pid: self.pid(),
            pidfd: self.process.pidfd.as_raw_fd(),
            link: self.process.link.as_ref().map(|link| link.as_raw_fd()),
            owner: self.process.owner.save(),
            owned: self.process.owned.into(),
            times: [
                Some(self.born),
                self.running,
                self.asked_to_reload,
                self.asked_to_stop,
                self.killed,
                self.ready,
                self.loyal,
                self.heartbeat,
            ],
            status: self.status.clone().into_bytes(),
            condemned: self.condemned.clone().unwrap_or_default().into_bytes(),
            reason: self.reason.as_ref().map(ExitReason::encode).unwrap_or_default(),
            cgroup: cgroup.map(|cgroup| cgroup.path().as_os_str().as_bytes().to_vec()).unwrap_or_default(),
        }
    }

    /// Goes on with a process of the program in whose place we are.
    ///
    /// # Errors
    /// EBADF: its descriptors are not there; as [`Instance::new`].
    pub fn resume(saved: &SavedInstance, links: &OwnedFd) -> Result<Self> {
        let take = |number| fd::inherited(number).context("take over", "a descriptor");
        let pid =
            Pid::from_raw(saved.pid).ok_or_else(|| Error::new("take over", "a process", "it has no pid"))?;
        let link = saved.link.map(take).transpose()?;
        let (owner, owned) = (Owner::resume(saved.owner), saved.owned == 1);
        let cgroup = Some(&*saved.cgroup).filter(|path| !path.is_empty());
        let cgroup = cgroup.map(|path| Cgroup::resume(OsStr::from_bytes(path).into()));
        let process = Process { pid, pidfd: take(saved.pidfd)?, link, owner, owned, cgroup };
        let [born, running, asked_to_reload, asked_to_stop, killed, ready, loyal, heartbeat] = saved.times;
        let reason = match FromVassal::decode(&saved.reason) {
            Some(FromVassal::Exiting(reason)) => Some(reason),
            _ => None,
        };
        let new = Self::new(process, links)?;
        let born = born.unwrap_or(new.born);
        let status = String::from_utf8_lossy(&saved.status).into_owned();
        let condemned = String::from_utf8_lossy(&saved.condemned).into_owned();
        let condemned = Some(condemned).filter(|why| !why.is_empty());
        Ok(Self {
            born,
            running,
            asked_to_reload,
            asked_to_stop,
            killed,
            condemned,
            ready,
            loyal,
            heartbeat,
            status,
            reason,
            ..new
        })
    }

    /// Its pid here.
    pub fn pid(&self) -> i32 {
        self.process.pid.as_raw_nonzero().get()
    }

    /// The process itself.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// When it was created.
    pub fn born(&self) -> Instant {
        self.born
    }

    /// Since when the app is ready to accept requests, and since when it is loyal, as far as it says so.
    pub fn announced(&self) -> [Option<Instant>; 2] {
        [self.ready, self.loyal]
    }

    /// Whether the app has said that it is ready since it was started, or restarted by a reload.
    pub fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// When the app last said that it is alive.
    pub fn heartbeat(&self) -> Option<Instant> {
        self.heartbeat
    }

    /// What the app does at present, in its own words; empty if it has not said.
    pub fn status(&self) -> &str {
        &self.status
    }

    /// Takes the next packet off the link. `path` is for the log.
    pub fn hear(&mut self, links: &OwnedFd, path: &VassalFile, now: Instant) -> Heard {
        let Some(link) = &self.process.link else { return Heard::Nothing };
        match protocol::receive(link) {
            Ok(Received::Nothing) => return Heard::Nothing,
            Ok(Received::Packet(packet, file)) => match FromVassal::decode(&packet) {
                Some(FromVassal::Sockets(labels)) => return Heard::Sockets(labels),
                Some(FromVassal::Keep(label)) => {
                    return file.map_or(Heard::News, |fd| Heard::Keep(KeptSocket { label, fd }));
                }
                Some(FromVassal::Running) => {
                    if self.running.is_none() {
                        self.running = Some(now);
                        log_of!(path, "running after {}", Elapsed(now.saturating_duration_since(self.born)));
                    }
                    return Heard::Event(Event::Running);
                }
                Some(FromVassal::Stopping(within)) => return Heard::Event(Event::Leaving(within)),
                Some(FromVassal::Exiting(reason)) => {
                    self.reason = Some(reason);
                    return Heard::News;
                }
                Some(FromVassal::Announced(news)) => {
                    let since = |since: Instant| Elapsed(now.saturating_duration_since(since));
                    let what = match news {
                        Announcement::Heartbeat => {
                            self.heartbeat = Some(now);
                            return Heard::Heartbeat;
                        }
                        Announcement::Leave => return Heard::Leave,
                        Announcement::Status(text) => {
                            self.status = text;
                            return Heard::News;
                        }
                        Announcement::Stuck => {
                            self.condemned = Some("the app has triggered its watchdog".to_owned());
                            return Heard::Event(Event::Stuck);
                        }
                        Announcement::Reloading | Announcement::Stopping => {
                            // It does not accept requests any more, or not for now.
                            self.ready = None;
                            let is_reload = news == Announcement::Reloading;
                            let what = if is_reload { "reloads itself" } else { "is stopping by itself" };
                            log_of!(path, "the app {what}, {} after its start", since(self.began()));
                            // Who is stopping need not say that he is alive.
                            let quiet = Event::Heartbeat(Duration::MAX);
                            return if is_reload { Heard::News } else { Heard::Event(quiet) };
                        }
                        Announcement::Ready => {
                            self.ready = Some(now);
                            "ready to accept requests"
                        }
                        Announcement::Loyal => {
                            self.loyal = Some(now);
                            "loyal"
                        }
                    };
                    log_of!(path, "{what} after {}", since(self.began()));
                    return Heard::News;
                }
                Some(FromVassal::Reloading(within)) => {
                    self.ready = None;
                    return Heard::Event(Event::Reloading(within));
                }
                Some(FromVassal::Reloaded) => return Heard::Answer(Answer::Reloaded, String::new()),
                Some(FromVassal::Refused(why)) => return Heard::Answer(Answer::Refused, why),
                Some(FromVassal::NeedsRespawn(why)) => return Heard::Answer(Answer::NeedsRespawn, why),
                Some(FromVassal::Mountpoints(reports)) => return Heard::Mountpoints(reports),
                None => log_of!(path, "sent {} bytes that are no message: link closed", packet.len()),
            },
            Ok(Received::Closed) => {}
            Err(errno) => log_of!(path, "read from its link: {}: link closed", Described(errno)),
        }
        self.close_link(links);
        // Without its link it is ending, or must: it takes the end of the link for the end of the emperor.
        Heard::Event(Event::Leaving(Duration::ZERO))
    }

    /// Closes our end. The registration is taken back by hand: a child that has not reached its exec yet holds a copy of
    /// the descriptor, which would keep it alive.
    pub fn close_link(&mut self, links: &OwnedFd) {
        if let Some(link) = self.process.link.take() {
            let _ = epoll::delete(links, &link);
        }
    }

    /// Sends it a copy of its file as it is now. One that does not read, or is gone, does not answer either: the deadline
    /// for that is set.
    pub fn reload(&mut self, file: &OwnedFd, now: Instant) {
        self.asked_to_reload = Some(now);
        if let Some(link) = &self.process.link {
            let _ = protocol::send(link, &ToVassal::Reload.encode(), Some(file));
        }
    }

    /// How long ago it was sent its file last, for the log.
    pub fn reloading_for(&self, now: Instant) -> Elapsed {
        Elapsed(self.asked_to_reload.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked)))
    }

    /// Asks how its checked mountpoints are. One that does not read has told before.
    pub fn ask_for_mountpoints(&self) {
        if let Some(link) = &self.process.link {
            let _ = protocol::send(link, &ToVassal::Mountpoints.encode(), None);
        }
    }

    /// Asks it to stop. One that does not read, or is gone, does not answer either: the deadline for that is set.
    pub fn ask_to_stop(&mut self, now: Instant) {
        self.asked_to_stop = Some(now);
        if let Some(link) = &self.process.link {
            let _ = protocol::send(link, &ToVassal::Stop.encode(), None);
        }
    }

    /// Since when it is to end, as far as we have asked for that.
    pub fn stopping(&self) -> Option<Instant> {
        self.asked_to_stop.or(self.killed)
    }

    /// When its present app was begun with.
    fn began(&self) -> Instant {
        self.asked_to_reload.unwrap_or(self.born)
    }

    /// It is to be killed, as its app does not say that it is alive.
    pub fn condemn(&mut self, within: Duration) {
        self.condemned
            .get_or_insert_with(|| format!("the app has given no heartbeat for {}", Elapsed(within)));
    }

    /// SIGKILL, and in a pid namespace of its own everything it has started goes with it; what waits for a FUSE daemon goes
    /// when its connection does ([`crate::emperor::supervisor::supervisor::Roster::free_killed`]).
    pub fn kill(&mut self, path: &VassalFile, now: Instant) {
        let why = match (self.asked_to_stop, &self.condemned) {
            _ if self.killed.is_some() => format!("not gone {} after SIGKILL", self.killed_for(now)),
            (None, Some(why)) => why.clone(),
            (Some(asked), _) => format!("not gone {} after the request to stop", Elapsed(now - asked)),
            (None, None) if self.process.link.is_none() => "not gone after it closed its link".to_owned(),
            (None, None) => "not gone in the time it announced".to_owned(),
        };
        log_of!(path, "{why}: killing pid {}", self.pid());
        if self.killed.is_none() {
            (self.killed, self.condemned) = (Some(now), Some(why));
        }
        // It may have ended just now; then its death is on its way.
        let _ = kill_pidfd(&self.process.pidfd, libc::SIGKILL);
    }

    /// How long ago it was sent SIGKILL first, for the log.
    pub fn killed_for(&self, now: Instant) -> Elapsed {
        Elapsed(self.killed.map_or(Duration::ZERO, |killed| now.saturating_duration_since(killed)))
    }

    /// Its end, for the state machine.
    pub fn ended(&self, status: WaitStatus) -> Event {
        match (&self.reason, status) {
            (Some(ExitReason::Config(_)), _) | (None, WaitStatus::Exited(EXIT_CONFIG)) => Event::DiedInvalid,
            _ => Event::Died,
        }
    }

    /// Why it ended: in its own words where it had any.
    pub fn why_it_ended(&self, status: WaitStatus) -> String {
        match &self.reason {
            Some(reason) => reason.to_string(),
            None => match &self.condemned {
                Some(why) if self.killed.is_some() => format!("killed: {why}"),
                // It cannot tell any more itself.
                _ if status == WaitStatus::Signaled(libc::SIGKILL)
                    && self.process.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills() > 0) =>
                {
                    format!("vassal-init {status}: out of memory")
                }
                _ => format!("vassal-init {status} without a reason"),
            },
        }
    }

    /// How long it took to get there, for the log.
    pub fn how_long(&self, now: Instant) -> String {
        let took = |since| Elapsed(now.saturating_duration_since(since));
        match (self.asked_to_stop, self.running) {
            (Some(asked), _) => format!("{} after the request", took(asked)),
            (None, Some(since)) => format!("up {}", took(since)),
            (None, None) => format!("{} after its start, never ran", took(self.born)),
        }
    }
}
