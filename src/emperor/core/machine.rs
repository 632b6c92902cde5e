//! The life of one vassal: a pure state machine.
//!
//! It knows neither processes nor files. What happened comes in as an [`Event`] with the time, what is to be
//! done goes out as an [`Action`]; every pair of state and event is written out.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::text::later;
use crate::log::Elapsed;

/// An instance that has been up this long is respawned at once; one that dies sooner backs off.
pub const UP: Duration = Duration::from_secs(1);
/// How long a vassal may take to answer a request to stop or to reload.
const ANSWER: Duration = Duration::from_secs(5);
/// What it gets on top of the time it has announced.
const GRACE: Duration = Duration::from_secs(1);
/// What one gets that has closed its link: PID 1 has ended then, and the kernel takes down the rest. Who is not gone by
/// that time waits for a filesystem, and has to be freed from it; all of it within a second.
const FREE: Duration = Duration::from_millis(500);
/// The longest announcement that is believed: the time comes from the tenant's side.
const LONGEST: Duration = Duration::from_secs(3600);
/// SIGKILL is repeated, and so logged again, while the kernel does not get the process out; by then the process may
/// also be given up.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// Setting up for longer than this is worth a line, and another one each time that it has taken twice as long.
const SETUP: Duration = Duration::from_secs(10);

/// Where a vassal is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No instance, and none wanted.
    Idle,
    /// An instance was created and is setting up, which may take as long as it likes; its app does not run yet.
    Starting {
        /// Since when.
        since: Instant,
        /// When that is worth a line.
        remind_at: Instant,
    },
    /// The app runs.
    Running {
        /// Since when.
        since: Instant,
    },
    /// The app ran when its PID 1 was sent the changed file; what that makes of it is not known yet.
    Reloading {
        /// Since when the app runs.
        since: Instant,
        /// When it is stopped and started instead.
        answer_by: Instant,
        /// Whether that time is final: the vassal has said how long it takes.
        settled: bool,
        /// Whether the file has changed since it was sent: it is sent again after the answer.
        again: bool,
    },
    /// The instance is on its way out.
    Stopping {
        /// What follows.
        then: Then,
        /// When SIGKILL ends it.
        kill_at: Instant,
        /// How far it is.
        end: End,
    },
    /// No instance until then.
    Backoff {
        /// When the next one starts.
        until: Instant,
    },
    /// The file is invalid: trying again is in vain until it changes.
    Invalid {
        /// When that is done all the same: a file that it includes may have changed.
        until: Instant,
    },
    /// Stopped by command: there is no instance until a command starts it, whatever its file does.
    Held,
    /// No instance until somebody connects.
    Waiting,
}

/// How an instance is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Asked,
    /// It has said how long it takes, and cannot take longer any more.
    Announced,
    /// It was sent SIGKILL.
    Killed,
}

/// What follows the end of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next one, at once.
    Respawn,
    /// The next one, after a delay.
    Backoff,
    /// Nothing.
    Nothing,
    /// Nothing, until a command starts it.
    Hold,
    /// Nothing, until its file changes or a command starts it: it did not want to go on.
    Rest,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The vassal is to run as its file says now: the file appeared or changed, or somebody asked for it.
    Start,
    /// No instance is wanted any more.
    Stop,
    /// A command stops it until another one starts it.
    Hold,
    /// A command starts it, which means nothing to one that is up.
    Release,
    /// The vassal says that its app runs.
    Running,
    /// The app says that it is alive; it will say so again within this time, or it is not.
    Heartbeat(Duration),
    /// The app says that it is beyond help.
    Stuck,
    /// The app has nothing to do, and wants to be stopped.
    Leave,
    /// Somebody connects to the socket of a vassal on demand.
    Connected,
    /// The vassal says that it will be gone within this time, asked or unasked.
    Leaving(Duration),
    /// The vassal says that it will have answered the reload within this time.
    Reloading(Duration),
    /// The answer to the reload is found out without the vassal within this time. The app goes on meanwhile.
    Checking(Duration),
    /// The vassal answers a reload.
    Answered(Answer),
    /// The instance has ended and was reaped.
    Died,
    /// The same, and it said that its file is invalid.
    DiedInvalid,
    /// The instance that [`Action::Spawn`] asked for could not be created, or there is no listening for [`Action::Listen`].
    SpawnFailed,
    /// Time has passed.
    Time,
    /// Failures so far do not count any more.
    ClearBackoff,
    /// No more patience.
    Kill,
    /// No more patience even with the kernel: as [`Event::Time`], but an instance that SIGKILL has not ended by then is
    /// left behind.
    GiveUp,
}

/// The answers to a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The app runs as the new file says.
    Reloaded,
    /// The new file cannot be used, or could not even be sent; the app goes on as it was.
    Refused,
    /// The new file asks for another jail; the app goes on as it was.
    NeedsRespawn,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Create an instance.
    Spawn,
    /// Tell of the first connection.
    Listen,
    /// Send the instance its file.
    Reload,
    /// Ask the instance to stop.
    AskToStop,
    /// SIGKILL.
    Kill,
    /// Say that the instance is still setting up.
    Remind,
    /// There is no instance that counts, and will be none.
    Forget,
}

/// The machine of one vassal.
#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    backoff: Backoff,
    /// When the running app is given up, unless it says before that it is alive. None before it has said so once.
    alive_until: Option<Instant>,
    /// Whether an instance is only created when somebody connects.
    on_demand: bool,
}

impl Machine {
    /// A vassal without an instance.
    pub fn new(backoff: Backoff) -> Self {
        Self::resume(State::Idle, backoff, None)
    }

    /// One whose life was watched by another program until now; `alive_until` as that has had it.
    pub fn resume(state: State, backoff: Backoff, alive_until: Option<Instant>) -> Self {
        Self { state, backoff, alive_until, on_demand: false }
    }

    /// Whether an instance is only created when somebody connects, from now on.
    pub fn set_on_demand(&mut self, on_demand: bool) {
        self.on_demand = on_demand;
    }

    /// The delay after its next failure.
    pub fn next_delay(&self) -> Duration {
        self.backoff.next()
    }

    /// When the running app is given up, unless it says before that it is alive.
    pub fn alive_until(&self) -> Option<Instant> {
        self.alive_until
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Event::Time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Backoff { until } | State::Invalid { until } => Some(until),
            State::Reloading { answer_by, .. } => Some(answer_by),
            State::Starting { remind_at, .. } => Some(remind_at),
            State::Running { .. } => self.alive_until,
            State::Idle | State::Held | State::Waiting => None,
        }
    }

    /// Takes one event in.
    pub fn step(&mut self, event: Event, now: Instant) -> Action {
        let (state, action) = match event {
            Event::Start => self.start(now),
            Event::Stop => self.stop(now),
            Event::Hold => self.hold(now),
            Event::Release => self.release(now),
            Event::Running => (self.running(now), Action::None),
            Event::Heartbeat(within) => {
                self.alive_until = Some(later(now, within));
                self.stay()
            }
            Event::Stuck => match self.state {
                State::Starting { .. } => kill(Then::Backoff, now),
                State::Running { since } => kill(after_running(since, now), now),
                State::Reloading { .. } => kill(Then::Respawn, now),
                State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
                State::Idle | State::Held | State::Waiting => self.stay(),
            },
            Event::Leave => self.leave(now),
            Event::Connected => match self.state {
                State::Waiting => spawn(now),
                State::Idle | State::Starting { .. } | State::Running { .. } | State::Held => self.stay(),
                State::Reloading { .. } | State::Stopping { .. } => self.stay(),
                State::Backoff { .. } | State::Invalid { .. } => self.stay(),
            },
            Event::Leaving(within) => (self.leaving(within, now), Action::None),
            Event::Reloading(within) | Event::Checking(within) => (self.reloading(within, now), Action::None),
            Event::Answered(answer) => self.answered(answer, now),
            Event::Died => self.died(false, now),
            Event::DiedInvalid => self.died(true, now),
            Event::SpawnFailed => match self.state {
                State::Starting { .. } | State::Waiting => self.back_off(now),
                State::Idle | State::Running { .. } | State::Reloading { .. } => self.stay(),
                State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
                State::Held => self.stay(),
            },
            Event::Time => self.time(now),
            Event::ClearBackoff => self.clear_backoff(now),
            Event::Kill => match self.state {
                State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => {
                    kill(Then::Nothing, now)
                }
                // Asking again and again must not put off giving up.
                State::Stopping { end: End::Killed, .. } => (self.state, Action::Kill),
                State::Stopping { then, end: End::Asked | End::Announced, .. } => kill(then, now),
                State::Idle | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
                State::Held | State::Waiting => self.stay(),
            },
            Event::GiveUp => match self.state {
                State::Stopping { end: End::Killed, kill_at, .. } if kill_at <= now => {
                    (State::Idle, Action::Forget)
                }
                State::Idle | State::Starting { .. } | State::Running { .. } => self.time(now),
                State::Reloading { .. } | State::Stopping { .. } => self.time(now),
                State::Backoff { .. } | State::Invalid { .. } => self.time(now),
                State::Held | State::Waiting => self.time(now),
            },
        };
        self.state = state;
        // The new app has not said anything yet.
        let is_other =
            matches!(event, Event::Answered(Answer::Reloaded) | Event::Reloading(_) | Event::Running);
        if is_other || !matches!(state, State::Running { .. } | State::Reloading { .. }) {
            self.alive_until = None;
        }
        action
    }

    fn start(&mut self, now: Instant) -> (State, Action) {
        self.backoff.reset();
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Waiting => self.next(now),
            State::Running { since } => reload(since, now),
            State::Reloading { since, answer_by, settled, .. } => {
                (State::Reloading { since, answer_by, settled, again: true }, Action::None)
            }
            // There is no app yet that a reload could spare.
            State::Starting { .. } => ask_to_stop(Then::Respawn, now),
            // It is stopped on purpose; a touched file does not undo that.
            State::Stopping { then: Then::Hold, .. } | State::Held => self.stay(),
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Respawn, kill_at, end }, Action::None)
            }
        }
    }

    fn stop(&mut self, now: Instant) -> (State, Action) {
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Held | State::Waiting => {
                (State::Idle, Action::Forget)
            }
            State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => {
                ask_to_stop(Then::Nothing, now)
            }
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Nothing, kill_at, end }, Action::None)
            }
        }
    }

    fn hold(&self, now: Instant) -> (State, Action) {
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Held | State::Waiting => {
                (State::Held, Action::None)
            }
            State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => {
                ask_to_stop(Then::Hold, now)
            }
            // Its file is gone: there is nothing left to hold.
            State::Stopping { then: Then::Nothing, .. } => self.stay(),
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Hold, kill_at, end }, Action::None)
            }
        }
    }

    fn release(&mut self, now: Instant) -> (State, Action) {
        self.backoff.reset();
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => spawn(now),
            State::Held | State::Waiting => spawn(now),
            State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => self.stay(),
            State::Stopping { then: Then::Nothing, .. } => self.stay(),
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Respawn, kill_at, end }, Action::None)
            }
        }
    }

    fn running(&self, now: Instant) -> State {
        match self.state {
            State::Starting { .. } => State::Running { since: now },
            // Said before our request to stop arrived, or said twice.
            State::Running { .. } | State::Reloading { .. } | State::Stopping { .. } => self.state,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => self.state,
            State::Held | State::Waiting => self.state,
        }
    }

    /// Without a socket it stays away for good; with one, whoever connects next finds it.
    fn leave(&self, now: Instant) -> (State, Action) {
        match self.state {
            State::Starting { .. } if self.on_demand => ask_to_stop(Then::Backoff, now),
            // The socket may still be readable: it must not spin.
            State::Running { since } if self.on_demand => ask_to_stop(after_running(since, now), now),
            State::Starting { .. } | State::Running { .. } => ask_to_stop(Then::Rest, now),
            // It has not seen the changed file yet.
            State::Reloading { .. } => ask_to_stop(Then::Respawn, now),
            State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
            State::Idle | State::Held | State::Waiting => self.stay(),
        }
    }

    fn reloading(&self, within: Duration, now: Instant) -> State {
        match self.state {
            State::Reloading { since, settled: false, again, .. } => {
                let answer_by = later(now, within.min(LONGEST) + GRACE);
                State::Reloading { since, answer_by, settled: true, again }
            }
            // Saying it again and again must not put off the end of our patience.
            State::Reloading { settled: true, .. } => self.state,
            // Not asked for.
            State::Idle | State::Starting { .. } | State::Running { .. } | State::Held => self.state,
            State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.state,
            State::Waiting => self.state,
        }
    }

    fn answered(&self, answer: Answer, now: Instant) -> (State, Action) {
        match self.state {
            State::Reloading { since, again, .. } => {
                let since = match answer {
                    Answer::Reloaded => now,
                    Answer::Refused | Answer::NeedsRespawn => since,
                };
                match answer {
                    // It answers a file that is gone; the newer one may be fit for this jail.
                    _ if again => reload(since, now),
                    Answer::Reloaded | Answer::Refused => (State::Running { since }, Action::None),
                    Answer::NeedsRespawn => ask_to_stop(Then::Respawn, now),
                }
            }
            // Too late, or not asked for.
            State::Idle | State::Starting { .. } | State::Running { .. } | State::Held => self.stay(),
            State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
            State::Waiting => self.stay(),
        }
    }

    fn leaving(&self, within: Duration, now: Instant) -> State {
        let grace = if within.is_zero() { FREE } else { GRACE };
        let kill_at = later(now, within.min(LONGEST) + grace);
        let end = End::Announced;
        match self.state {
            State::Starting { .. } => State::Stopping { then: Then::Backoff, kill_at, end },
            State::Running { since } => State::Stopping { then: after_running(since, now), kill_at, end },
            // Whatever it leaves for, the changed file is to be tried at once.
            State::Reloading { .. } => State::Stopping { then: Then::Respawn, kill_at, end },
            State::Stopping { then, end: End::Asked, .. } => State::Stopping { then, kill_at, end },
            // Saying it again and again must not put off the end. It can come sooner: the link is closed.
            State::Stopping { then, kill_at: before, end: End::Announced } => {
                State::Stopping { then, kill_at: kill_at.min(before), end }
            }
            State::Stopping { end: End::Killed, .. } => self.state,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => self.state,
            State::Held | State::Waiting => self.state,
        }
    }

    fn died(&mut self, invalid: bool, now: Instant) -> (State, Action) {
        let then = match self.state {
            // Setting up took its time; only an app that ran earns a respawn at once.
            State::Starting { .. } => Then::Backoff,
            State::Running { since } => after_running(since, now),
            State::Reloading { .. } => Then::Respawn,
            State::Stopping { then, .. } => then,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => return self.stay(),
            State::Held | State::Waiting => return self.stay(),
        };
        match then {
            Then::Respawn => {
                self.backoff.reset();
                self.next(now)
            }
            Then::Backoff if invalid => {
                (State::Invalid { until: later(now, self.backoff.longest()) }, Action::None)
            }
            Then::Backoff => self.back_off(now),
            Then::Nothing => (State::Idle, Action::Forget),
            Then::Hold => (State::Held, Action::None),
            Then::Rest => (State::Idle, Action::None),
        }
    }

    fn time(&self, now: Instant) -> (State, Action) {
        match self.state {
            State::Stopping { then, kill_at, .. } if kill_at <= now => kill(then, now),
            State::Backoff { until } | State::Invalid { until } if until <= now => self.next(now),
            State::Reloading { answer_by, .. } if answer_by <= now => ask_to_stop(Then::Respawn, now),
            State::Running { since } if self.alive_until.is_some_and(|until| until <= now) => {
                kill(after_running(since, now), now)
            }
            State::Starting { since, remind_at } if remind_at <= now => {
                let remind_at = later(now, now.saturating_duration_since(since));
                (State::Starting { since, remind_at }, Action::Remind)
            }
            State::Reloading { .. } | State::Stopping { .. } | State::Backoff { .. } => self.stay(),
            State::Idle | State::Starting { .. } | State::Running { .. } => self.stay(),
            State::Invalid { .. } | State::Held | State::Waiting => self.stay(),
        }
    }

    fn clear_backoff(&mut self, now: Instant) -> (State, Action) {
        self.backoff.reset();
        match self.state {
            State::Backoff { .. } | State::Invalid { .. } => self.next(now),
            State::Idle | State::Starting { .. } | State::Running { .. } => self.stay(),
            State::Reloading { .. } | State::Stopping { .. } | State::Held => self.stay(),
            State::Waiting => self.stay(),
        }
    }

    /// The next instance, as soon as it is wanted.
    fn next(&self, now: Instant) -> (State, Action) {
        if self.on_demand { (State::Waiting, Action::Listen) } else { spawn(now) }
    }

    fn back_off(&mut self, now: Instant) -> (State, Action) {
        (State::Backoff { until: later(now, self.backoff.fail()) }, Action::None)
    }

    fn stay(&self) -> (State, Action) {
        (self.state, Action::None)
    }
}

fn spawn(now: Instant) -> (State, Action) {
    (State::Starting { since: now, remind_at: later(now, SETUP) }, Action::Spawn)
}

fn reload(since: Instant, now: Instant) -> (State, Action) {
    let answer_by = later(now, ANSWER);
    (State::Reloading { since, answer_by, settled: false, again: false }, Action::Reload)
}

fn ask_to_stop(then: Then, now: Instant) -> (State, Action) {
    (State::Stopping { then, kill_at: later(now, ANSWER), end: End::Asked }, Action::AskToStop)
}

fn kill(then: Then, now: Instant) -> (State, Action) {
    (State::Stopping { then, kill_at: later(now, KILL_AGAIN), end: End::Killed }, Action::Kill)
}

fn after_running(since: Instant, now: Instant) -> Then {
    if now.saturating_duration_since(since) >= UP { Then::Respawn } else { Then::Backoff }
}

/// What comes next for a vassal without an instance.
pub fn next(state: State, now: Instant) -> String {
    match state {
        State::Backoff { until } => format!("next try in {}", Elapsed(until.saturating_duration_since(now))),
        State::Invalid { until } => {
            let wait = Elapsed(until.saturating_duration_since(now));
            format!("waiting for the file to change, next try in {wait}")
        }
        State::Starting { .. } => "respawning now".to_owned(),
        State::Idle => "not respawned".to_owned(),
        State::Waiting => "waiting for the next connection".to_owned(),
        State::Held => "not respawned before 'emperor start'".to_owned(),
        State::Running { .. } | State::Reloading { .. } | State::Stopping { .. } => "still there".to_owned(),
    }
}

#[cfg(test)]
mod tests;
