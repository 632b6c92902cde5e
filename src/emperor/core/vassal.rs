//! What the emperor knows of one vassal.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::file_version::FileVersion;
use super::history::{Failures, History};
use super::instance::{Instance, ProcessFacts};
use super::machine::{End, State, Then};
use super::mountpoints::Mountpoints;
use super::status::Status;
use super::text::later;
use super::vassal_file::VassalFile;
use crate::config::plan::Address;

/// The sockets of a vassal that will be down for longer than this are closed, so that clients are refused at
/// once.
const SOCKETS_WAIT: Duration = Duration::from_secs(10);

/// A vassal, and its only instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vassal {
    /// The version of its file that was last used.
    pub(super) file_version: FileVersion,
    /// Whether the vassal was taken over in an upgrade, and no scan has found its file since.
    pub(super) is_unclaimed: bool,
    /// The owner of its file, in tyrant mode.
    pub(super) owner: Option<u32>,
    /// The address of the on-demand socket; `None` if the vassal is not on demand.
    pub(super) on_demand: Option<Address>,
    /// Whether that address was asked for and is not known yet.
    pub(super) is_asking: bool,
    /// Its history.
    pub(super) history: History,
    /// The checked mountpoints.
    pub(super) mountpoints: Mountpoints,
    /// The instance.
    pub(super) instance: Instance,
}

impl Vassal {
    /// A vassal that was never started.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            file_version: FileVersion::default(),
            is_unclaimed: false,
            owner: None,
            on_demand: None,
            is_asking: false,
            history: History::default(),
            mountpoints: Mountpoints::none(),
            instance: Instance::new(backoff),
        }
    }

    /// The state of its instance.
    pub fn state(&self) -> State {
        self.instance.machine.state()
    }

    /// The facts about its process, if there is one.
    pub fn process(&self) -> Option<&ProcessFacts> {
        self.instance.process.as_ref()
    }

    /// The address of the on-demand socket; `None` if the vassal is not on demand.
    pub fn on_demand(&self) -> Option<&Address> {
        self.on_demand.as_ref()
    }

    /// Whether it was taken over in an upgrade, and no scan has found its file since.
    pub fn is_unclaimed(&self) -> bool {
        self.is_unclaimed
    }

    /// Whether its instances have reported checked mountpoints.
    pub fn has_mountpoints(&self) -> bool {
        !self.mountpoints.is_empty()
    }

    /// Whether it is being started and has no process yet, because it waits for its turn.
    pub(super) fn lacks_process(&self) -> bool {
        matches!(self.state(), State::Starting { .. }) && self.instance.process.is_none()
    }

    /// Whether clients know it already: it ran before, or one of them waits at its socket. Not if it keeps
    /// failing, so that it does not come before all others each time.
    pub(super) fn is_urgent(&self) -> bool {
        self.history.failures.is_none() && (self.history.instances > 0 || self.on_demand.is_some())
    }

    /// When [`Input::Time`](super::machine::Input::Time) has something to do. From the second failure in a
    /// row on, the delay is up to a tenth longer, by chance, so that vassals that failed together do not
    /// start together.
    pub(super) fn deadline(&self, file: &VassalFile) -> Option<Instant> {
        // The process has ended, so none of its own deadlines applies.
        if self.process().is_some_and(|process| process.has_ended) {
            return None;
        }
        let at = self.instance.machine.deadline()?;
        match self.history.failures {
            Some(failures) if failures.count > 1 && matches!(self.state(), State::Backoff { .. }) => {
                Some(later(at, failures.wait / 1000 * (file.chance(failures.count) % 100)))
            }
            _ => Some(at),
        }
    }

    /// The owner of its file; `None` if owners do not matter.
    pub fn user(&self) -> Option<u32> {
        self.owner
    }

    /// Whether it counts as one of the vassals of this user.
    pub(super) fn is_of(&self, owner: u32) -> bool {
        let process = self.instance.process.as_ref();
        self.owner.or_else(|| process.map(|process| process.owner.uid)) == Some(owner)
    }

    /// Whether it is being refreshed.
    pub(super) fn is_reloading(&self) -> bool {
        self.is_asking
            || matches!(self.state(), State::Reloading { .. } | State::Stopping { then: Then::Respawn, .. })
    }

    /// Whether it is ending for good because its file is gone. A start would then fail for ever, because no
    /// scan would report the file as gone again.
    pub(super) fn has_lost_its_file(&self) -> bool {
        matches!(self.state(), State::Stopping { then: Then::Nothing, .. })
    }

    /// Whether it was stopped by command.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state(), State::Held | State::Stopping { then: Then::Hold, .. })
    }

    /// Whether connections are worth keeping until the next instance.
    pub(super) fn is_back_soon(&self, now: Instant) -> bool {
        match self.state() {
            State::Starting { .. } => true,
            State::Backoff { until } => until.saturating_duration_since(now) <= SOCKETS_WAIT,
            _ => false,
        }
    }

    /// Notes that an instance ended or could not be created, and why. The state that follows tells whether
    /// this was a failure.
    pub(super) fn ended(&mut self, why: String, now: Instant) {
        self.history.last_end = Some(why);
        self.history.failures = match self.state() {
            State::Backoff { until } | State::Invalid { until } => {
                let before = self.history.failures;
                Some(Failures {
                    count: before.map_or(0, |before| before.count).saturating_add(1),
                    first: before.map_or(now, |before| before.first),
                    last: now,
                    wait: until.saturating_duration_since(now),
                })
            }
            _ => None,
        };
    }

    /// The status, for logs, commands, stats and metrics.
    pub(super) fn status<'a>(&'a self, file: &'a VassalFile, now: Instant) -> Status<'a> {
        let process = self.instance.process.as_ref();
        let (mut since, mut next_try) = (None, None);
        let state = match self.state() {
            State::Idle => "idle",
            State::Starting { .. } => "starting",
            State::Running { since: began } => {
                since = Some(began);
                "running"
            }
            State::Reloading { since: began, .. } => {
                since = Some(began);
                "reloading"
            }
            State::Stopping { end: End::Killed, .. } => "killed",
            State::Stopping { then: Then::Respawn | Then::Backoff, .. } if self.on_demand.is_none() => {
                "restarting"
            }
            State::Stopping { .. } => "stopping",
            State::Backoff { until } => {
                next_try = Some(until);
                "backoff"
            }
            State::Invalid { until } => {
                next_try = Some(until);
                "invalid"
            }
            State::Held => "stopped",
            State::Waiting => "waiting",
        };
        let is_stopping = matches!(self.state(), State::Stopping { .. });
        Status {
            name: file.shown(),
            path: file,
            state,
            awaits_turn: self.lacks_process(),
            stopping: process.filter(|_| is_stopping).map(|process| process.stopping().unwrap_or(now)),
            pid: process.map(|process| process.pid),
            uptime: since.map(|since| now.saturating_duration_since(since)),
            next_try: next_try.map(|until| until.saturating_duration_since(now)),
            history: &self.history,
            modified: u64::try_from(self.file_version.modified).unwrap_or(0),
            mountpoints: &self.mountpoints,
            since,
            ready: process.and_then(|process| process.ready),
            loyal: process.and_then(|process| process.loyal),
            heartbeat: process.and_then(|process| process.heartbeat),
            said: process.and_then(|process| {
                process.waits.as_deref().or(Some(process.status.as_str()).filter(|said| !said.is_empty()))
            }),
            born: process.map(|process| process.born),
            owner: process.map(|process| process.owner),
            on_demand: self.on_demand.as_ref().map(|address| address.name.as_str()),
        }
    }
}
