//! The life of one instance, as a pure state machine.
//!
//! The machine knows neither processes nor files. Each [step](Machine::step) takes an [`Input`] and the time,
//! and returns an [`Output`]. Every pair of state and input is written out, so that the compiler asks for a
//! decision when a state or an input is added.

use std::time::{Duration, Instant};

use State::{Backoff, Held, Idle, Invalid, Reloading, Running, Starting, Stopping, Waiting};

use super::backoff;
use super::text::later;
use crate::log::Elapsed;

/// An instance that was up for at least this long is respawned at once, unless this repeats itself; one that
/// ended sooner backs off.
const UP: Duration = Duration::from_secs(1);
/// An instance that has been up for this long has recovered from its earlier failures.
const LASTING: Duration = Duration::from_secs(30);
/// How long an instance may take to answer a request to stop or to reload.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an instance without an app may take to answer a request to stop: it has nothing to lose, and
/// may hang.
const ANSWER_AT_START: Duration = Duration::from_secs(2);
/// The time that an instance gets on top of the time that it has announced.
const GRACE: Duration = Duration::from_secs(1);
/// The time for an instance to end after it has closed its link. Its PID 1 has ended then, and the kernel
/// takes down the rest. An instance that is still there after this time waits for a filesystem, and must be
/// freed from it, all within a second.
const FREE: Duration = Duration::from_millis(500);
/// The longest announced time that is accepted: the announcement comes from the tenant's side.
const LONGEST: Duration = Duration::from_secs(3600);
/// While the kernel does not end the process, SIGKILL is sent and logged again at this interval. After the
/// first interval the process may also be given up.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// A setup that takes longer than this is logged, and again each time that it has taken twice as long.
const SETUP: Duration = Duration::from_secs(10);

/// The state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no process, and none is wanted.
    Idle,
    /// The process sets up, for which there is no time limit, and its app does not run yet; or the process is
    /// still to be created.
    Starting {
        /// When the process was created, or asked for.
        since: Instant,
        /// When the long setup is logged next.
        remind_at: Instant,
    },
    /// The app runs.
    Running {
        /// Since when the app runs.
        since: Instant,
    },
    /// The app ran when its PID 1 was sent the changed file; the answer is not known yet.
    Reloading {
        /// Since when the app runs.
        since: Instant,
        /// When the emperor stops waiting for an answer, and restarts the instance instead.
        answer_by: Instant,
        /// Whether `answer_by` is final: PID 1 has announced how long the restart of the app takes.
        settled: bool,
        /// Whether the file has changed since it was sent. It is then sent again after the answer.
        again: bool,
    },
    /// The process is ending.
    Stopping {
        /// The next step after the end.
        then: Then,
        /// When SIGKILL is sent.
        kill_at: Instant,
        /// How far the end has come.
        end: End,
    },
    /// There is no process until the end of the backoff.
    Backoff {
        /// When the next one is created.
        until: Instant,
    },
    /// The file is invalid, so another start would fail until the file changes.
    Invalid {
        /// When a start is tried anyway: a file that it includes may have changed.
        until: Instant,
    },
    /// Stopped by command. There is no process until a command starts the vassal, even if its file changes.
    Held,
    /// There is no process until a client connects.
    Waiting,
}

/// How a process is being ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Asked,
    /// It has announced how long it takes, and cannot extend that time.
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
    /// No process.
    Nothing,
    /// No process until a command starts the vassal.
    Hold,
    /// No process until the file changes or a command starts the vassal: the app has asked to be stopped.
    Rest,
}

/// An input: something that happened to the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The vassal must run as its file says now: the file appeared or changed, or a command asked for a
    /// reload.
    Refresh,
    /// No instance is wanted any longer.
    Stop,
    /// A command stops the vassal until another command starts it.
    Hold,
    /// A command starts the vassal. An instance that is up stays as it is.
    Release,
    /// The process that [`Output::Spawn`] has asked for was created.
    Spawned,
    /// The file that [`Output::Reload`] has asked for was sent.
    Sent,
    /// PID 1 says that its app runs.
    Running,
    /// The app has sent a heartbeat, and must send another one within this time.
    Heartbeat(Duration),
    /// The app is about to end by itself. No heartbeats are expected from it any longer.
    Quiet,
    /// The app says that it cannot recover.
    Stuck,
    /// The app has nothing to do, and wants to be stopped.
    Leave,
    /// A client connects to the socket of a vassal on demand.
    Connected,
    /// PID 1 says that it will have ended within this time, whether it was asked to or not.
    Leaving(Duration),
    /// PID 1 says that it will answer the reload within this time.
    Reloading(Duration),
    /// Another process will find out the answer to the reload within this time. The app goes on meanwhile.
    Checking(Duration),
    /// The answer to a reload.
    Answered(Answer),
    /// The process has ended and was reaped.
    Died,
    /// The process has ended and was reaped, after it had said that its file is invalid.
    DiedInvalid,
    /// The process has ended and was reaped, after it had said that a mount was lost, for which the app is
    /// not to blame.
    DiedOfLoss,
    /// The process has ended and was reaped, after its app had ended with status 0, or was asked to stop.
    Left,
    /// The process for [`Output::Spawn`] could not be created, or the socket for [`Output::Listen`] could not
    /// listen.
    SpawnFailed,
    /// A look at a long setup has shown nothing that lasts: the next one comes soon.
    Unsure,
    /// Time has passed.
    Time,
    /// Earlier failures no longer count.
    ClearBackoff,
    /// The process must be killed at once.
    Kill,
    /// As [`Input::Time`], but a process that has outlived SIGKILL by then is left behind.
    GiveUp,
}

/// The answers to a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The app runs as the new file says.
    Reloaded,
    /// The new file cannot be used, or could not be sent; the app goes on unchanged.
    Refused,
    /// The new file needs another jail; the app goes on unchanged.
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
    /// Send PID 1 the file, and tell when it was sent.
    Reload,
    /// Ask PID 1 to stop.
    AskToStop,
    /// Send SIGKILL.
    Kill,
    /// Log that the instance is still setting up.
    Remind,
    /// No process is left that counts, and none will follow.
    Forget,
}

/// The state machine of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    state: State,
    backoff: backoff::Backoff,
    /// When the running app is given up, unless it sends a heartbeat before. `None` until its first
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

    /// An instance that was supervised by the program before the upgrade; `alive_until` comes from that
    /// program.
    pub fn resume(state: State, backoff: backoff::Backoff, alive_until: Option<Instant>) -> Self {
        Self { state, backoff, alive_until, on_demand: false }
    }

    /// Sets whether a process is only created when a client connects.
    pub fn set_on_demand(&mut self, on_demand: bool) {
        self.on_demand = on_demand;
    }

    /// Sets the limits of the delays, and keeps the present delay as far as they allow.
    pub fn set_backoff(&mut self, backoff: backoff::Backoff) {
        self.backoff = backoff.resume(self.next_delay());
    }

    /// The delay after the next failure.
    pub fn next_delay(&self) -> Duration {
        self.backoff.next()
    }

    /// When the running app is given up, unless it sends a heartbeat before.
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

    /// Takes an input, and returns the action to take.
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
            Input::Reloading(within) => self.reloading(within, false, now),
            Input::Checking(within) => self.reloading(within, true, now),
            Input::Answered(answer) => self.answered(answer, now),
            Input::Died | Input::DiedInvalid | Input::DiedOfLoss | Input::Left => self.died(input, now),
            Input::SpawnFailed => self.spawn_failed(now),
            Input::Unsure => self.unsure(now),
            Input::Time => self.time(now),
            Input::ClearBackoff => self.clear_backoff(now),
            Input::Kill => self.kill(now),
            Input::GiveUp => self.give_up(now),
        };
        self.state = state;
        // Another app has not sent a heartbeat yet.
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
            // There is no running app that a reload could spare.
            Starting { .. } => ask_at_start(Then::Respawn, now),
            // The vassal was stopped on purpose, and a touched file does not undo that.
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
            // The file is gone, so there is nothing to hold.
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

    /// The setup begins now. The decision to start may be older, because the vassal had to wait for its turn.
    fn spawned(&self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } => (spawn(now).0, Output::None),
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    /// The time for the answer begins now: the file had to wait for its turn, and to be read.
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
            // PID 1 sent this before our request to stop arrived, or sent it twice.
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    /// Sets the time for the next heartbeat. [`Machine::step`] clears it in a state where no app runs.
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

    /// Without an on-demand socket the app stays away. With one, the next client starts it.
    fn leave(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { .. } if self.on_demand => ask_to_stop(Then::Backoff, now),
            // The socket may still be readable. An app that leaves at once must not be started in a tight
            // loop.
            Running { since } if self.on_demand => {
                let is_short = now.saturating_duration_since(since) < UP;
                ask_to_stop(if is_short { Then::Backoff } else { Then::Again }, now)
            }
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
            // Whatever the reason for which the instance ends, the changed file is tried at once.
            Reloading { .. } => announced(Then::Respawn, kill_at),
            Stopping { then, end: End::Asked, .. } => announced(then, kill_at),
            // A repeated announcement must not put off the end, but a closed link can bring it forward.
            Stopping { then, kill_at: before, end: End::Announced } => announced(then, kill_at.min(before)),
            Stopping { end: End::Killed, .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
        }
    }

    /// `is_ours` means that the announcement is the emperor's own.
    fn reloading(&self, within: Duration, is_ours: bool, now: Instant) -> (State, Output) {
        match self.state {
            Reloading { since, settled, again, .. } if is_ours || !settled => {
                let answer_by = later(now, within.min(LONGEST) + GRACE);
                (Reloading { since, answer_by, settled: true, again }, Output::None)
            }
            // A repeated announcement must not put off the deadline.
            Reloading { .. } => self.stay(),
            // No reload was requested.
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
                    // The answer is about an older file. The newer one may fit this jail.
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
            // The setup may have taken long. Only an app that ran is respawned at once.
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
                match how {
                    Input::DiedOfLoss => self.backoff.lose(),
                    // An app on demand may leave as often as it likes.
                    Input::Left if self.on_demand => {}
                    _ => drop(self.backoff.fail()),
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

    fn unsure(&mut self, now: Instant) -> (State, Output) {
        match self.state {
            Starting { since, .. } => (Starting { since, remind_at: later(now, GRACE) }, Output::None),
            Running { .. } | Reloading { .. } | Stopping { .. } => self.stay(),
            Idle | Held | Waiting | Backoff { .. } | Invalid { .. } => self.stay(),
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
            // A repeated request must not put off giving up.
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
    /// that would follow: one that fails after some seconds each time must not keep the machine busy.
    fn after_running(&mut self, since: Instant, now: Instant) -> Then {
        if now.saturating_duration_since(since) >= LASTING {
            self.backoff.reset();
        }
        let enough = if self.backoff.has_failed() { UP.max(self.backoff.next()) } else { UP };
        if now.saturating_duration_since(since) >= enough { Then::Again } else { Then::Backoff }
    }

    /// The state after the end: the next process as soon as it is wanted.
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

/// The time for the answer begins when the file was sent.
fn reload(since: Instant, now: Instant) -> (State, Output) {
    let answer_by = later(now, LONGEST);
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
