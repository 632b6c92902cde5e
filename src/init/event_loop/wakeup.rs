//! What the event loop hands to its caller: the events of one wake-up, or the one that interrupts a step.

use std::time::Instant;

use crate::init::event_loop::sources::NewFile;
use crate::init::watch::mountpoints::Lost;
use crate::protocol::WaitStatus;
use crate::signal_names;
use crate::sys::signal;

/// The events of one wake-up. The caller takes it apart and decides about each of them; what it cannot deal with now it
/// gives back ([`EventLoop::put_back`](super::event_loop::EventLoop::put_back)).
#[must_use = "nobody else hears of these events"]
#[derive(Debug, Default)]
pub struct Wakeup {
    /// The first request to stop.
    pub stop: Option<StopRequest>,
    /// Mountpoints that were lost, in the order in which that was noticed.
    pub lost: Vec<Lost>,
    /// A new file, or a request to read the old one again; the latest.
    pub reload: Option<NewFile>,
    /// Signals for a command that does not run yet, or no more. The signals for one that runs are handed on already.
    pub signals: Vec<i32>,
}

impl Wakeup {
    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        let Self { stop, lost, reload, signals } = self;
        stop.is_none() && lost.is_empty() && reload.is_none() && signals.is_empty()
    }

    /// These events, and then others that came later.
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
    /// Who asks.
    pub who: String,
    /// When the request came.
    pub since: Instant,
}

impl StopRequest {
    /// A request that has just come.
    pub fn now(who: String) -> Self {
        Self { who, since: Instant::now() }
    }

    /// Takes the requests to stop out of signals that a command does not get; the first of them counts.
    pub fn among(signals: &mut Vec<i32>) -> Option<Self> {
        let first = signals.iter().copied().find(|number| signal::asks_to_stop(*number))?;
        signals.retain(|number| !signal::asks_to_stop(*number));
        Some(Self::now(signal_names::name(first)))
    }

    /// Whether `later` is a demand, and not the same request once more: a terminal signals a whole process group, and so
    /// does timeout(1), so one request can arrive twice.
    pub fn is_repeated_by(&self, later: &Self) -> bool {
        later.since.saturating_duration_since(self.since) >= signal::SAME_REQUEST
    }
}

/// What makes the rest of a step pointless.
#[derive(Debug)]
pub enum Interruption {
    /// A request to stop.
    Stop(StopRequest),
    /// A checked mountpoint was lost.
    Lost(Lost),
    /// The app has ended after it was ready to serve.
    AppEnded(WaitStatus),
}

/// Why a child was not waited for to its end.
#[derive(Debug)]
pub enum Unfinished {
    /// Something came up that makes the child's work pointless.
    Interrupted(Interruption),
    /// The deadline has come.
    Deadline,
}

/// What interrupts a step, by the stage of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// The app is being started, or runs: whatever makes that pointless.
    All,
    /// A loss is being dealt with that the app survives: not another loss.
    Repairing,
    /// The end has begun: nothing.
    Ending,
}
