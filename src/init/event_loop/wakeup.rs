//! The results of the event loop: the events of one wake-up, or the event that interrupts a step.

use std::time::Instant;

use crate::init::event_loop::sources::NewFile;
use crate::init::watch::checked_path::Lost;
use crate::protocol::WaitStatus;
use crate::running_time;
use crate::signal_names;
use crate::sys::signal;

/// The events of one wake-up. The caller takes the struct apart and decides about each event. It puts back an
/// event that it cannot deal with now ([`EventLoop::put_back`](super::event_loop::EventLoop::put_back)).
#[must_use = "these events are told once"]
#[derive(Debug, Default)]
pub struct Wakeup {
    /// The first request to stop.
    pub stop: Option<StopRequest>,
    /// Mountpoints that were lost, in the order in which the losses were noticed.
    pub lost: Vec<Lost>,
    /// A new file, or a request to read the old one again. Only the latest one is kept.
    pub reload: Option<NewFile>,
    /// Signals for a command that does not run yet, or has ended. A running command has got its signals
    /// already.
    pub signals: Vec<i32>,
}

impl Wakeup {
    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        let Self { stop, lost, reload, signals } = self;
        stop.is_none() && lost.is_empty() && reload.is_none() && signals.is_empty()
    }

    /// These events, followed by others that came later.
    pub fn followed_by(mut self, later: Self) -> Self {
        let Self { stop, lost, reload, signals } = later;
        self.stop = self.stop.or(stop);
        self.lost.extend(lost);
        self.reload = reload.or(self.reload);
        self.signals.extend(signals);
        self
    }
}

/// A request to stop.
#[derive(Debug, Clone)]
pub struct StopRequest {
    /// The sender of the request.
    pub who: String,
    /// When the request came.
    pub since: Instant,
    /// Whether the app is to answer first what it has accepted.
    pub gracefully: bool,
    /// Whether the app is to be killed at once.
    pub kills: bool,
}

impl StopRequest {
    /// A request that has just come.
    pub fn now(who: String) -> Self {
        Self { who, since: running_time::now(), gracefully: false, kills: false }
    }

    /// Takes the requests to stop out of signals that no command gets. The first request counts.
    pub fn among(signals: &mut Vec<i32>) -> Option<Self> {
        let first = signals.iter().copied().find(|number| signal::asks_to_stop(*number))?;
        signals.retain(|number| !signal::asks_to_stop(*number));
        Some(Self::now(signal_names::name(first)))
    }

    /// Whether the app is to be killed for `later`: it says so, or is a second request. One request can
    /// arrive twice within a short time, because terminals and timeout(1) signal a whole process group.
    pub fn is_repeated_by(&self, later: &Self) -> bool {
        later.kills || later.since.saturating_duration_since(self.since) >= signal::SAME_REQUEST
    }
}

/// An event that makes the rest of a step pointless.
#[derive(Debug)]
pub enum Interruption {
    /// A request to stop.
    Stop(StopRequest),
    /// A checked mountpoint was lost.
    Lost(Lost),
    /// The app has ended after it was ready to serve.
    AppEnded(WaitStatus),
}

/// An interruption as an error. Boxed, so that the results of the steps stay small.
pub type Interrupted = Box<Interruption>;

/// Why a wait ended before the child did.
#[derive(Debug)]
pub enum Unfinished {
    /// An event makes the child's work pointless.
    Interrupted(Interrupted),
    /// The deadline has come.
    Deadline,
}

/// Which events interrupt a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// All: the app is being started, or runs.
    All,
    /// All except a loss: another loss is being repaired, and the app is to survive it.
    Repairing,
    /// None: the end has begun.
    Ending,
}
