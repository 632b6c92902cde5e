//! The life of one instance: a pure state machine.
//!
//! The machine knows neither processes nor files. Each [step](Machine::step) takes an [`Input`] and the time,
//! and returns an [`Output`]. Every pair of state and input is written out, so that the compiler asks for a
//! decision where a new one is added.

use std::time::{Duration, Instant};

use State::{Backoff, Held, Idle, Invalid, Reloading, Running, Starting, Stopping, Waiting};

use super::backoff;
use super::text::later;
use crate::log::Elapsed;

/// An instance that has been up this long is respawned at once, as long as that does not happen again and
/// again; one that ends sooner backs off.
pub const UP: Duration = Duration::from_secs(1);
/// One that has been up this long has got over its earlier failures.
const LASTING: Duration = Duration::from_secs(30);
/// How long an instance may take to answer a request to stop or to reload.
const ANSWER: Duration = Duration::from_secs(5);
/// How long one that has no app yet may take to answer a request to stop: there is nothing to lose, and it
/// may hang.
const ANSWER_AT_START: Duration = Duration::from_secs(2);
/// The time that an instance gets on top of the time that it has announced.
const GRACE: Duration = Duration::from_secs(1);
/// The time that an instance gets after it has closed its link: its PID 1 has ended then, and the kernel
/// takes down the rest. An instance that is still there after this time waits for a filesystem, and has to be
/// freed from it; all of it within a second.
const FREE: Duration = Duration::from_millis(500);
/// The longest announcement that is believed: the time comes from the tenant's side.
const LONGEST: Duration = Duration::from_secs(3600);
/// SIGKILL is repeated, and so logged again, at this interval while the kernel does not get the process out.
/// After the first interval the process may also be given up.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// An instance that sets up for longer than this is worth a log line, and another one each time that the
/// setup has taken twice as long.
const SETUP: Duration = Duration::from_secs(10);

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no process, and none is wanted.
    Idle,
    /// A process is setting up, which may take as long as it likes; its app does not run yet. Or it is still
    /// to be created.
    Starting {
        /// When the process was created, or asked for.
        since: Instant,
        /// When the time that this takes is logged.
        remind_at: Instant,
    },
    /// The app runs.
    Running {
        /// Since when.
        since: Instant,
    },
    /// The app ran when its PID 1 was sent the changed file; the answer is not known yet.
    Reloading {
        /// Since when the app runs.
        since: Instant,
        /// When the instance is stopped and started instead.
        answer_by: Instant,
        /// Whether `answer_by` is final: PID 1 has announced how long it takes to start the app anew.
        settled: bool,
        /// Whether the file has changed since it was sent: it is sent again after the answer.
        again: bool,
    },
    /// The process is on its way out.
    Stopping {
        /// The next step after the end.
        then: Then,
        /// When SIGKILL ends it.
        kill_at: Instant,
        /// How far it is.
        end: End,
    },
    /// There is no process until then.
    Backoff {
        /// When the next one is created.
        until: Instant,
    },
    /// The file is invalid: another try is in vain until it changes.
    Invalid {
        /// When it is tried again: a file that it includes may have changed.
        until: Instant,
    },
    /// Stopped by command: there is no process until a command starts it, whatever happens to the file.
    Held,
    /// There is no process until a client connects.
    Waiting,
}

/// How a process is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Asked,
    /// It has announced how long it takes, and cannot prolong that any more.
    Announced,
    /// It was sent SIGKILL.
    Killed,
}

/// The next step after the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next process, at once.
    Respawn,
    /// The next process, at once: the instance was up for long enough.
    Again,
    /// The next process, after a delay.
    Backoff,
    /// Nothing.
    Nothing,
    /// Nothing, until a command starts the vassal.
    Hold,
    /// Nothing, until the file changes or a command starts the vassal: the app did not want to go on.
    Rest,
}

/// An event in the life of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The vassal is to run as its file says now: the file appeared or changed, or a command asked for a
    /// reload.
    Refresh,
    /// No instance is wanted any more.
    Stop,
    /// A command stops the vassal until another command starts it.
    Hold,
    /// A command starts the vassal; an instance that is up stays as it is.
    Release,
    /// The process that [`Output::Spawn`] has asked for was created.
    Spawned,
    /// The file that [`Output::Reload`] has asked for was sent.
    Sent,
    /// PID 1 says that its app runs.
    Running,
    /// The app says that it is alive, and will say so again within this time.
    Heartbeat(Duration),
    /// The app is about to end by itself: no heartbeats are expected from it any more.
    Quiet,
    /// The app says that it is beyond help.
    Stuck,
    /// The app has nothing to do, and wants to be stopped.
    Leave,
    /// A client connects to the socket of a vassal on demand.
    Connected,
    /// PID 1 says that it will be gone within this time, asked or unasked.
    Leaving(Duration),
    /// PID 1 says that it will have answered the reload within this time.
    Reloading(Duration),
    /// The answer to the reload is found out by another process within this time. The app goes on meanwhile.
    Checking(Duration),
    /// The answer to a reload.
    Answered(Answer),
    /// The process has ended and was reaped.
    Died,
    /// The process has ended and was reaped, and had said that its file is invalid.
    DiedInvalid,
    /// The process has ended and was reaped, and had said that it has lost a mount, which is no fault of the
    /// app.
    DiedOfLoss,
    /// The process that [`Output::Spawn`] asked for could not be created, or the socket that
    /// [`Output::Listen`] asked for cannot be listened on.
    SpawnFailed,
    /// Time has passed.
    Time,
    /// Earlier failures do not count any more.
    ClearBackoff,
    /// The process is to be killed at once.
    Kill,
    /// As [`Input::Time`], but a process that SIGKILL has not ended by then is left behind.
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

/// An action that a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    None,
    /// Create a process.
    Spawn,
    /// Wait for the first connection.
    Listen,
    /// Send PID 1 the file.
    Reload,
    /// Ask PID 1 to stop.
    AskToStop,
    /// Send SIGKILL.
    Kill,
    /// Log that the instance is still setting up.
    Remind,
    /// There is no process that counts, and there will be none.
    Forget,
}

/// The machine of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    state: State,
    backoff: backoff::Backoff,
    /// When the running app is given up, unless it says before that it is alive. None before its first
    /// heartbeat.
    alive_until: Option<Instant>,
    /// Whether a process is only created when a client connects.
    on_demand: bool,
}

impl Machine {
    /// An instance without a process.
    pub fn new(backoff: backoff::Backoff) -> Self {
        Self::resume(Idle, backoff, None)
    }

    /// An instance that another program has supervised until now; `alive_until` is that program's.
    pub fn resume(state: State, backoff: backoff::Backoff, alive_until: Option<Instant>) -> Self {
        Self { state, backoff, alive_until, on_demand: false }
    }

    /// Whether a process is only created when a client connects, from now on.
    pub fn set_on_demand(&mut self, on_demand: bool) {
        self.on_demand = on_demand;
    }

    /// Takes the limits of the delays from `backoff`, and goes on with the present delay as far as they
    /// allow.
    pub fn set_backoff(&mut self, backoff: backoff::Backoff) {
        self.backoff = backoff.resume(self.next_delay());
    }

    /// The delay after the next failure.
    pub fn next_delay(&self) -> Duration {
        self.backoff.next()
    }

    /// When the running app is given up, unless it says before that it is alive.
    pub fn alive_until(&self) -> Option<Instant> {
        self.alive_until
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Input::Time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            Stopping { kill_at, .. } => Some(kill_at),
            Backoff { until } | Invalid { until } => Some(until),
            Reloading { answer_by, .. } => Some(answer_by),
            Starting { remind_at, .. } => Some(remind_at),
            Running { .. } => self.alive_until,
            Idle | Held | Waiting => None,
        }
    }

    /// Takes in an event, and returns the action to take.
    pub fn step(&mut self, input: Input, now: Instant) -> Output {
        let (state, output) = match input {
            Input::Refresh => self.refresh(now),
            Input::Stop => self.stop(now),
            Input::Hold => self.hold(now),
            Input::Release => self.release(now),
            Input::Spawned => self.spawned(now),
            Input::Sent => self.sent(now),
            Input::Running => self.running(now),
            Input::Heartbeat(within) => self.heartbeat(Some(later(now, within))),
            Input::Quiet => self.heartbeat(None),
            Input::Stuck => self.stuck(now),
            Input::Leave => self.leave(now),
            Input::Connected => self.connected(now),
            Input::Leaving(within) => self.leaving(within, now),
            Input::Reloading(within) | Input::Checking(within) => self.reloading(within, now),
            Input::Answered(answer) => self.answered(answer, now),
            Input::Died | Input::DiedInvalid | Input::DiedOfLoss => self.died(input, now),
            Input::SpawnFailed => self.spawn_failed(now),
            Input::Time => self.time(now),
            Input::ClearBackoff => self.clear_backoff(now),
            Input::Kill => self.kill(now),
            Input::GiveUp => self.give_up(now),
        };
        self.state = state;
        // Another app has not given a heartbeat yet.
        let is_other_app =
            matches!(input, Input::Answered(Answer::Reloaded) | Input::Reloading(_) | Input::Running);
        if is_other_app || !matches!(state, Running { .. } | Reloading { .. }) {
            self.alive_until = None;
        }
        output
    }

    fn refresh(&mut self, now: Instant) -> (State, Output) {
        self.backoff.reset();
        match self.state {
            Idle | Waiting | Backoff { .. } | Invalid { .. } => self.next(now),
            Running { since } => reload(since, now),
            Reloading { since, answer_by, settled, .. } => {
                (Reloading { since, answer_by, settled, again: true }, Output::None)
            }
            // There is no app yet that a reload could spare.
            Starting { .. } => ask_at_start(Then::Respawn, now),
            // The vassal is stopped on purpose; a touched file does not undo that.
            Held | Stopping { then: Then::Hold, .. } => self.stay(),
            Stopping { kill_at, end, .. } => (Stopping { then: Then::Respawn, kill_at, end }, Output::None),
        }
    }

    fn stop(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => (Idle, Output::Forget),
            Starting { .. } => ask_at_start(Then::Nothing, now),
            Running { .. } | Reloading { .. } => ask_to_stop(Then::Nothing, now),
            Stopping { kill_at, end, .. } => (Stopping { then: Then::Nothing, kill_at, end }, Output::None),
        }
    }

    fn hold(&self, now: Instant) -> (State, Output) {
        match self.state {
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => (Held, Output::None),
            Starting { .. } => ask_at_start(Then::Hold, now),
            Running { .. } | Reloading { .. } => ask_to_stop(Then::Hold, now),
            // Its file is gone: there is nothing left to hold.
            Stopping { then: Then::Nothing, .. } => self.stay(),
            Stopping { kill_at, end, .. } => (Stopping { then: Then::Hold, kill_at, end }, Output::None),
        }
    }

    fn release(&mut self, now: Instant) -> (State, Output) {
        self.backoff.reset();
        match self.state {
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => spawn(now),
            Starting { .. } | Running { .. } | Reloading { .. } => self.stay(),
            Stopping { then: Then::Nothing, .. } => self.stay(),
            Stopping { kill_at, end, .. } => (Stopping { then: Then::Respawn, kill_at, end }, Output::None),
        }
    }

    /// The setup begins now: what has asked for it may have had to wait for its turn.
    fn spawned(&self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } => (spawn(now).0, Output::None),
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    /// PID 1 has all of the time to answer: reading the file took some.
    fn sent(&self, now: Instant) -> (State, Output) {
        match self.state {
            Reloading { since, settled: false, again, .. } => {
                let answer_by = later(now, ANSWER);
                (Reloading { since, answer_by, settled: false, again }, Output::None)
            }
            Reloading { settled: true, .. } | Starting { .. } | Running { .. } | Stopping { .. } => {
                self.stay()
            }
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn running(&self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } => (Running { since: now }, Output::None),
            // Said before our request to stop arrived, or said twice.
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    /// Sets a time for the next heartbeat; [`Machine::step`] takes it back in a state where no app runs.
    fn heartbeat(&mut self, alive_until: Option<Instant>) -> (State, Output) {
        self.alive_until = alive_until;
        self.stay()
    }

    fn stuck(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } => kill(Then::Backoff, now),
            Running { since } => kill(self.after_running(since, now), now),
            Reloading { .. } => kill(Then::Respawn, now),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } | Stopping { .. } => self.stay(),
        }
    }

    /// Without a socket the app stays away for good; with one, the next client finds it.
    fn leave(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } if self.on_demand => ask_to_stop(Then::Backoff, now),
            // The socket may still be readable: an app that leaves at once must not be started in a tight
            // loop.
            Running { since } if self.on_demand => ask_to_stop(self.after_running(since, now), now),
            Starting { .. } | Running { .. } => ask_to_stop(Then::Rest, now),
            // The app has not seen the changed file yet.
            Reloading { .. } => ask_to_stop(Then::Respawn, now),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } | Stopping { .. } => self.stay(),
        }
    }

    fn connected(&self, now: Instant) -> (State, Output) {
        match self.state {
            Waiting => spawn(now),
            Idle | Held | Backoff { .. } | Invalid { .. } => self.stay(),
            Starting { .. } | Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
        }
    }

    fn leaving(&mut self, within: Duration, now: Instant) -> (State, Output) {
        let grace = if within.is_zero() { FREE } else { GRACE };
        let kill_at = later(now, within.min(LONGEST) + grace);
        let announced = |then, kill_at| (Stopping { then, kill_at, end: End::Announced }, Output::None);
        match self.state {
            Starting { .. } => announced(Then::Backoff, kill_at),
            Running { since } => announced(self.after_running(since, now), kill_at),
            // Whatever the instance leaves for, the changed file is to be tried at once.
            Reloading { .. } => announced(Then::Respawn, kill_at),
            Stopping { then, end: End::Asked, .. } => announced(then, kill_at),
            // An announcement that is repeated must not put off the end. A closed link can bring it forward.
            Stopping { then, kill_at: before, end: End::Announced } => announced(then, kill_at.min(before)),
            Stopping { end: End::Killed, .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn reloading(&self, within: Duration, now: Instant) -> (State, Output) {
        match self.state {
            Reloading { since, settled: false, again, .. } => {
                let answer_by = later(now, within.min(LONGEST) + GRACE);
                (Reloading { since, answer_by, settled: true, again }, Output::None)
            }
            // An announcement that is repeated must not put off the end of our patience.
            Reloading { settled: true, .. } => self.stay(),
            // Nothing was asked for.
            Starting { .. } | Running { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn answered(&self, answer: Answer, now: Instant) -> (State, Output) {
        match self.state {
            Reloading { since, again, settled, .. } => {
                let since = match answer {
                    Answer::Reloaded if settled => now,
                    // The app was only told to read its own configuration again.
                    Answer::Reloaded | Answer::Refused | Answer::NeedsRespawn => since,
                };
                match answer {
                    // The answer is about a file that is gone; the newer one may be fit for this jail.
                    _ if again => reload(since, now),
                    Answer::Reloaded | Answer::Refused => (Running { since }, Output::None),
                    Answer::NeedsRespawn => ask_to_stop(Then::Respawn, now),
                }
            }
            // The answer comes too late, or was not asked for.
            Starting { .. } | Running { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn died(&mut self, how: Input, now: Instant) -> (State, Output) {
        let then = match self.state {
            // The setup may have taken long; only an app that ran earns a respawn at once.
            Starting { .. } => Then::Backoff,
            Running { since } => self.after_running(since, now),
            Reloading { .. } => Then::Respawn,
            Stopping { then, .. } => then,
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => return self.stay(),
        };
        match then {
            Then::Respawn => {
                self.backoff.reset();
                self.next(now)
            }
            Then::Again => {
                if how != Input::DiedOfLoss && !self.on_demand {
                    self.backoff.fail();
                }
                self.next(now)
            }
            Then::Backoff if how == Input::DiedInvalid => {
                (Invalid { until: later(now, self.backoff.longest()) }, Output::None)
            }
            Then::Backoff => self.back_off(now),
            Then::Nothing => (Idle, Output::Forget),
            Then::Hold => (Held, Output::None),
            Then::Rest => (Idle, Output::None),
        }
    }

    fn spawn_failed(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } | Waiting => self.back_off(now),
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn time(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Stopping { then, kill_at, .. } if kill_at <= now => kill(then, now),
            Backoff { until } | Invalid { until } if until <= now => self.next(now),
            Reloading { answer_by, .. } if answer_by <= now => ask_to_stop(Then::Respawn, now),
            Running { since } if self.alive_until.is_some_and(|until| until <= now) => {
                kill(self.after_running(since, now), now)
            }
            Starting { since, remind_at } if remind_at <= now => {
                let remind_at = later(now, now.saturating_duration_since(since));
                (Starting { since, remind_at }, Output::Remind)
            }
            Starting { .. } | Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn give_up(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Stopping { end: End::Killed, kill_at, .. } if kill_at <= now => (Idle, Output::Forget),
            Starting { .. } | Running { .. } | Reloading { .. } | Stopping { .. } => self.time(now),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.time(now),
        }
    }

    fn kill(&self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } | Running { .. } | Reloading { .. } => kill(Then::Nothing, now),
            // A request that is repeated must not put off giving up.
            Stopping { end: End::Killed, .. } => (self.state, Output::Kill),
            Stopping { then, end: End::Asked | End::Announced, .. } => kill(then, now),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    fn clear_backoff(&mut self, now: Instant) -> (State, Output) {
        self.backoff.reset();
        match self.state {
            Backoff { .. } | Invalid { .. } => self.next(now),
            Starting { .. } | Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting => self.stay(),
        }
    }

    /// The next step after an app that has run. After failures it has to have run for as long as the wait
    /// that would follow: one that fails after some seconds each time must not keep the machine busy. An app
    /// that waits for clients is not started without one.
    fn after_running(&mut self, since: Instant, now: Instant) -> Then {
        if now.saturating_duration_since(since) >= LASTING {
            self.backoff.reset();
        }
        let has_failed = self.backoff.has_failed() && !self.on_demand;
        let enough = if has_failed { UP.max(self.backoff.next()) } else { UP };
        if now.saturating_duration_since(since) >= enough { Then::Again } else { Then::Backoff }
    }

    /// The next process, as soon as it is wanted.
    fn next(&self, now: Instant) -> (State, Output) {
        if self.on_demand { (Waiting, Output::Listen) } else { spawn(now) }
    }

    fn back_off(&mut self, now: Instant) -> (State, Output) {
        (Backoff { until: later(now, self.backoff.fail()) }, Output::None)
    }

    fn stay(&self) -> (State, Output) {
        (self.state, Output::None)
    }
}

fn spawn(now: Instant) -> (State, Output) {
    (Starting { since: now, remind_at: later(now, SETUP) }, Output::Spawn)
}

fn reload(since: Instant, now: Instant) -> (State, Output) {
    let answer_by = later(now, ANSWER);
    (Reloading { since, answer_by, settled: false, again: false }, Output::Reload)
}

fn ask_to_stop(then: Then, now: Instant) -> (State, Output) {
    (Stopping { then, kill_at: later(now, ANSWER), end: End::Asked }, Output::AskToStop)
}

fn ask_at_start(then: Then, now: Instant) -> (State, Output) {
    (Stopping { then, kill_at: later(now, ANSWER_AT_START), end: End::Asked }, Output::AskToStop)
}

fn kill(then: Then, now: Instant) -> (State, Output) {
    (Stopping { then, kill_at: later(now, KILL_AGAIN), end: End::Killed }, Output::Kill)
}

/// The next step of an instance without a process, for the log.
pub fn next(state: State, now: Instant) -> String {
    match state {
        Backoff { until } => format!("next try in {}", Elapsed(until.saturating_duration_since(now))),
        Invalid { until } => {
            let wait = Elapsed(until.saturating_duration_since(now));
            format!("waiting for the file to change, next try in {wait}")
        }
        Starting { .. } => "respawning now".to_owned(),
        Idle => "not respawned".to_owned(),
        Waiting => "waiting for the next connection".to_owned(),
        Held => "not respawned before 'emperor start'".to_owned(),
        Running { .. } | Reloading { .. } | Stopping { .. } => "still there".to_owned(),
    }
}

#[cfg(test)]
mod tests;
