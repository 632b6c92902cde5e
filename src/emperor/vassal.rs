//! The life of one vassal: a pure state machine.
//!
//! It knows neither processes nor files. What happened comes in as an [`Event`] with the time, what is to be
//! done goes out as an [`Action`]; every pair of state and event is written out.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::later;

/// An instance that has been up this long is respawned at once; one that dies sooner backs off.
pub const UP: Duration = Duration::from_secs(1);
/// How long a vassal may take to answer a request to stop or to reload.
const ANSWER: Duration = Duration::from_secs(5);
/// What it gets on top of the time it has announced.
const GRACE: Duration = Duration::from_secs(1);
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
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The vassal is to run as its file says now: the file appeared or changed, or somebody asked for it.
    Start,
    /// No instance is wanted any more.
    Stop,
    /// The vassal says that its app runs.
    Running,
    /// The vassal says that it will be gone within this time, asked or unasked.
    Leaving(Duration),
    /// The vassal says that it will have answered the reload within this time.
    Reloading(Duration),
    /// The vassal answers a reload.
    Answered(Answer),
    /// The instance has ended and was reaped.
    Died,
    /// The same, and it said that its file is invalid.
    DiedInvalid,
    /// The instance that [`Action::Spawn`] asked for could not be created.
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
}

impl Machine {
    /// A vassal without an instance.
    pub fn new(backoff: Backoff) -> Self {
        Self { state: State::Idle, backoff }
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
            State::Idle | State::Running { .. } => None,
        }
    }

    /// Takes one event in.
    pub fn step(&mut self, event: Event, now: Instant) -> Action {
        let (state, action) = match event {
            Event::Start => self.start(now),
            Event::Stop => self.stop(now),
            Event::Running => (self.running(now), Action::None),
            Event::Leaving(within) => (self.leaving(within, now), Action::None),
            Event::Reloading(within) => (self.reloading(within, now), Action::None),
            Event::Answered(answer) => self.answered(answer, now),
            Event::Died => self.died(false, now),
            Event::DiedInvalid => self.died(true, now),
            Event::SpawnFailed => match self.state {
                State::Starting { .. } => self.back_off(now),
                State::Idle | State::Running { .. } | State::Reloading { .. } => self.stay(),
                State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
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
            },
            Event::GiveUp => match self.state {
                State::Stopping { end: End::Killed, kill_at, .. } if kill_at <= now => {
                    (State::Idle, Action::Forget)
                }
                State::Idle | State::Starting { .. } | State::Running { .. } => self.time(now),
                State::Reloading { .. } | State::Stopping { .. } => self.time(now),
                State::Backoff { .. } | State::Invalid { .. } => self.time(now),
            },
        };
        self.state = state;
        action
    }

    fn start(&mut self, now: Instant) -> (State, Action) {
        self.backoff.reset();
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => spawn(now),
            State::Running { since } => reload(since, now),
            State::Reloading { since, answer_by, settled, .. } => {
                (State::Reloading { since, answer_by, settled, again: true }, Action::None)
            }
            // There is no app yet that a reload could spare.
            State::Starting { .. } => ask_to_stop(Then::Respawn, now),
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Respawn, kill_at, end }, Action::None)
            }
        }
    }

    fn stop(&mut self, now: Instant) -> (State, Action) {
        match self.state {
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => (State::Idle, Action::Forget),
            State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => {
                ask_to_stop(Then::Nothing, now)
            }
            State::Stopping { kill_at, end, .. } => {
                (State::Stopping { then: Then::Nothing, kill_at, end }, Action::None)
            }
        }
    }

    fn running(&self, now: Instant) -> State {
        match self.state {
            State::Starting { .. } => State::Running { since: now },
            // Said before our request to stop arrived, or said twice.
            State::Running { .. } | State::Reloading { .. } | State::Stopping { .. } => self.state,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => self.state,
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
            State::Idle | State::Starting { .. } | State::Running { .. } => self.state,
            State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.state,
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
            State::Idle | State::Starting { .. } | State::Running { .. } => self.stay(),
            State::Stopping { .. } | State::Backoff { .. } | State::Invalid { .. } => self.stay(),
        }
    }

    fn leaving(&self, within: Duration, now: Instant) -> State {
        let kill_at = later(now, within.min(LONGEST) + GRACE);
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
        };
        match then {
            Then::Respawn => {
                self.backoff.reset();
                spawn(now)
            }
            Then::Backoff if invalid => {
                (State::Invalid { until: later(now, self.backoff.longest()) }, Action::None)
            }
            Then::Backoff => self.back_off(now),
            Then::Nothing => (State::Idle, Action::Forget),
        }
    }

    fn time(&self, now: Instant) -> (State, Action) {
        match self.state {
            State::Stopping { then, kill_at, .. } if kill_at <= now => kill(then, now),
            State::Backoff { until } | State::Invalid { until } if until <= now => spawn(now),
            State::Reloading { answer_by, .. } if answer_by <= now => ask_to_stop(Then::Respawn, now),
            State::Starting { since, remind_at } if remind_at <= now => {
                let remind_at = later(now, now.saturating_duration_since(since));
                (State::Starting { since, remind_at }, Action::Remind)
            }
            State::Reloading { .. } | State::Stopping { .. } | State::Backoff { .. } => self.stay(),
            State::Idle | State::Starting { .. } | State::Running { .. } => self.stay(),
            State::Invalid { .. } => self.stay(),
        }
    }

    fn clear_backoff(&mut self, now: Instant) -> (State, Action) {
        self.backoff.reset();
        match self.state {
            State::Backoff { .. } | State::Invalid { .. } => spawn(now),
            State::Idle | State::Starting { .. } | State::Running { .. } => self.stay(),
            State::Reloading { .. } | State::Stopping { .. } => self.stay(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const THROTTLE: Duration = Duration::from_secs(2);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn machine(state: State) -> Machine {
        Machine { state, backoff: Backoff::new(THROTTLE, seconds(60)) }
    }

    /// Every pair: what the state becomes and what is done, at second 100 of the test's clock.
    #[test]
    fn every_state_and_event() {
        let zero = Instant::now();
        let now = zero + seconds(100);
        let old = State::Running { since: zero };
        let young = State::Running { since: now - Duration::from_millis(999) };
        let kill_at = now + seconds(3);
        let asked = |then| State::Stopping { then, kill_at, end: End::Asked };
        let fresh = |then| State::Stopping { then, kill_at: now + ANSWER, end: End::Asked };
        let settled = |then| State::Stopping { then, kill_at, end: End::Announced };
        let gone = |then| State::Stopping { then, kill_at: now + GRACE, end: End::Announced };
        let leaving =
            |then| State::Stopping { then, kill_at: now + seconds(10) + GRACE, end: End::Announced };
        let killed = |then| State::Stopping { then, kill_at: now + KILL_AGAIN, end: End::Killed };
        // Killed before, and in vain: with some time to go, and with none.
        let undead = |then| State::Stopping { then, kill_at, end: End::Killed };
        let stuck = |then| State::Stopping { then, kill_at: now, end: End::Killed };
        let overdue = |then| State::Stopping { then, kill_at: now, end: End::Announced };
        let waiting = State::Backoff { until: kill_at };
        let throttled = State::Backoff { until: now + THROTTLE };
        let (idle, starting) = (State::Idle, State::Starting { since: now, remind_at: now + SETUP });
        let slow = State::Starting { since: zero, remind_at: now };
        let reminded = State::Starting { since: zero, remind_at: now + seconds(100) };
        let invalid = State::Invalid { until: kill_at };
        let untried = State::Invalid { until: now };
        let found_invalid = State::Invalid { until: now + seconds(60) };
        use {Action as A, Event as E, Then as T};
        let within = E::Leaving(seconds(10));
        let [done, refused, other_jail] =
            [Answer::Reloaded, Answer::Refused, Answer::NeedsRespawn].map(E::Answered);
        let soon = E::Reloading(seconds(10));
        let answer_by = now + seconds(3);
        let reload = |again| State::Reloading { since: zero, answer_by, settled: false, again };
        let accepted = |again| State::Reloading { since: zero, answer_by, settled: true, again };
        let sent = |since| State::Reloading { since, answer_by: now + ANSWER, settled: false, again: false };
        let late = State::Reloading { since: zero, answer_by: now, settled: true, again: true };
        let until =
            |again| State::Reloading { since: zero, answer_by: now + seconds(11), settled: true, again };
        let table = [
            (idle, E::Start, starting, A::Spawn),
            (idle, E::Stop, idle, A::Forget),
            (idle, E::Running, idle, A::None),
            (idle, within, idle, A::None),
            (idle, E::Died, idle, A::None),
            (idle, E::SpawnFailed, idle, A::None),
            (idle, E::Time, idle, A::None),
            (idle, E::ClearBackoff, idle, A::None),
            (idle, E::Kill, idle, A::None),
            (starting, E::Start, fresh(T::Respawn), A::AskToStop),
            (starting, E::Stop, fresh(T::Nothing), A::AskToStop),
            (starting, E::Running, State::Running { since: now }, A::None),
            (starting, within, leaving(T::Backoff), A::None),
            (starting, E::Died, throttled, A::None),
            (starting, E::SpawnFailed, throttled, A::None),
            (starting, E::Time, starting, A::None),
            (starting, E::ClearBackoff, starting, A::None),
            (starting, E::Kill, killed(T::Nothing), A::Kill),
            (old, E::Start, sent(zero), A::Reload),
            (old, E::Stop, fresh(T::Nothing), A::AskToStop),
            (old, E::Running, old, A::None),
            (old, within, leaving(T::Respawn), A::None),
            (young, within, leaving(T::Backoff), A::None),
            (old, E::Died, starting, A::Spawn),
            (young, E::Died, throttled, A::None),
            (old, E::SpawnFailed, old, A::None),
            (old, E::Time, old, A::None),
            (old, E::ClearBackoff, old, A::None),
            (old, E::Kill, killed(T::Nothing), A::Kill),
            (asked(T::Nothing), E::Start, asked(T::Respawn), A::None),
            (asked(T::Respawn), E::Start, asked(T::Respawn), A::None),
            (settled(T::Backoff), E::Start, settled(T::Respawn), A::None),
            (asked(T::Respawn), E::Stop, asked(T::Nothing), A::None),
            (asked(T::Respawn), E::Running, asked(T::Respawn), A::None),
            (asked(T::Respawn), within, leaving(T::Respawn), A::None),
            (settled(T::Respawn), within, settled(T::Respawn), A::None),
            (settled(T::Respawn), E::Leaving(Duration::ZERO), gone(T::Respawn), A::None),
            (asked(T::Respawn), E::Died, starting, A::Spawn),
            (asked(T::Nothing), E::Died, idle, A::Forget),
            (settled(T::Backoff), E::Died, throttled, A::None),
            (asked(T::Respawn), E::SpawnFailed, asked(T::Respawn), A::None),
            (asked(T::Respawn), E::Time, asked(T::Respawn), A::None),
            (asked(T::Respawn), E::ClearBackoff, asked(T::Respawn), A::None),
            (asked(T::Respawn), E::Kill, killed(T::Respawn), A::Kill),
            (waiting, E::Start, starting, A::Spawn),
            (waiting, E::Stop, idle, A::Forget),
            (waiting, E::Running, waiting, A::None),
            (waiting, within, waiting, A::None),
            (waiting, E::Died, waiting, A::None),
            (waiting, E::SpawnFailed, waiting, A::None),
            (waiting, E::Time, waiting, A::None),
            (waiting, E::ClearBackoff, starting, A::Spawn),
            (waiting, E::Kill, waiting, A::None),
            (idle, soon, idle, A::None),
            (idle, done, idle, A::None),
            (idle, refused, idle, A::None),
            (idle, other_jail, idle, A::None),
            (starting, soon, starting, A::None),
            (starting, done, starting, A::None),
            (starting, refused, starting, A::None),
            (starting, other_jail, starting, A::None),
            (old, soon, old, A::None),
            (old, done, old, A::None),
            (old, refused, old, A::None),
            (old, other_jail, old, A::None),
            (asked(T::Respawn), soon, asked(T::Respawn), A::None),
            (asked(T::Respawn), done, asked(T::Respawn), A::None),
            (asked(T::Respawn), refused, asked(T::Respawn), A::None),
            (asked(T::Respawn), other_jail, asked(T::Respawn), A::None),
            (waiting, soon, waiting, A::None),
            (waiting, done, waiting, A::None),
            (waiting, refused, waiting, A::None),
            (waiting, other_jail, waiting, A::None),
            (reload(false), E::Start, reload(true), A::None),
            (reload(true), E::Start, reload(true), A::None),
            (accepted(false), E::Start, accepted(true), A::None),
            (reload(true), E::Stop, fresh(T::Nothing), A::AskToStop),
            (reload(true), E::Running, reload(true), A::None),
            (reload(true), within, leaving(T::Respawn), A::None),
            (reload(false), soon, until(false), A::None),
            (reload(true), soon, until(true), A::None),
            (accepted(true), soon, accepted(true), A::None),
            (reload(false), done, State::Running { since: now }, A::None),
            (reload(true), done, sent(now), A::Reload),
            (accepted(true), done, sent(now), A::Reload),
            (reload(false), refused, old, A::None),
            (reload(true), refused, sent(zero), A::Reload),
            (reload(false), other_jail, fresh(T::Respawn), A::AskToStop),
            (reload(true), other_jail, sent(zero), A::Reload),
            (reload(false), E::Died, starting, A::Spawn),
            (reload(true), E::Died, starting, A::Spawn),
            (reload(true), E::SpawnFailed, reload(true), A::None),
            (reload(true), E::Time, reload(true), A::None),
            (late, E::Time, fresh(T::Respawn), A::AskToStop),
            (reload(true), E::ClearBackoff, reload(true), A::None),
            (reload(true), E::Kill, killed(T::Nothing), A::Kill),
            (slow, E::Time, reminded, A::Remind),
            (slow, E::GiveUp, reminded, A::Remind),
            (slow, E::Died, throttled, A::None),
            (idle, E::DiedInvalid, idle, A::None),
            (starting, E::DiedInvalid, found_invalid, A::None),
            (old, E::DiedInvalid, starting, A::Spawn),
            (young, E::DiedInvalid, found_invalid, A::None),
            (reload(false), E::DiedInvalid, starting, A::Spawn),
            (settled(T::Backoff), E::DiedInvalid, found_invalid, A::None),
            (asked(T::Respawn), E::DiedInvalid, starting, A::Spawn),
            (asked(T::Nothing), E::DiedInvalid, idle, A::Forget),
            (waiting, E::DiedInvalid, waiting, A::None),
            (invalid, E::DiedInvalid, invalid, A::None),
            (invalid, E::Start, starting, A::Spawn),
            (invalid, E::Stop, idle, A::Forget),
            (invalid, E::Running, invalid, A::None),
            (invalid, within, invalid, A::None),
            (invalid, soon, invalid, A::None),
            (invalid, done, invalid, A::None),
            (invalid, refused, invalid, A::None),
            (invalid, other_jail, invalid, A::None),
            (invalid, E::Died, invalid, A::None),
            (invalid, E::SpawnFailed, invalid, A::None),
            (invalid, E::Time, invalid, A::None),
            (untried, E::Time, starting, A::Spawn),
            (invalid, E::ClearBackoff, starting, A::Spawn),
            (invalid, E::Kill, invalid, A::None),
            (invalid, E::GiveUp, invalid, A::None),
            (idle, E::GiveUp, idle, A::None),
            (starting, E::GiveUp, starting, A::None),
            (old, E::GiveUp, old, A::None),
            (reload(true), E::GiveUp, reload(true), A::None),
            (waiting, E::GiveUp, waiting, A::None),
            (asked(T::Nothing), E::GiveUp, asked(T::Nothing), A::None),
            (overdue(T::Nothing), E::Time, killed(T::Nothing), A::Kill),
            (overdue(T::Nothing), E::GiveUp, killed(T::Nothing), A::Kill),
            (undead(T::Nothing), E::Start, undead(T::Respawn), A::None),
            (undead(T::Respawn), E::Stop, undead(T::Nothing), A::None),
            (undead(T::Nothing), within, undead(T::Nothing), A::None),
            (undead(T::Nothing), E::Kill, undead(T::Nothing), A::Kill),
            (undead(T::Nothing), E::Time, undead(T::Nothing), A::None),
            (undead(T::Nothing), E::GiveUp, undead(T::Nothing), A::None),
            (undead(T::Nothing), E::Died, idle, A::Forget),
            (stuck(T::Nothing), E::Time, killed(T::Nothing), A::Kill),
            (stuck(T::Nothing), E::GiveUp, idle, A::Forget),
            (stuck(T::Respawn), E::GiveUp, idle, A::Forget),
        ];
        for (before, event, after, action) in table {
            let mut machine = machine(before);
            let done = machine.step(event, now);
            assert_eq!((machine.state(), done), (after, action), "{before:?} + {event:?}");
        }
    }

    #[test]
    fn a_vassal_that_does_not_stop_is_killed_again_and_again() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        assert_eq!(vassal.step(Event::Stop, now), Action::AskToStop);
        assert_eq!(vassal.deadline(), Some(now + ANSWER));
        vassal.step(Event::Leaving(seconds(10)), now + seconds(1));
        assert_eq!(vassal.deadline(), Some(now + seconds(12)));
        assert_eq!(vassal.step(Event::Time, now + seconds(11)), Action::None);
        assert_eq!(vassal.step(Event::Time, now + seconds(12)), Action::Kill);
        assert_eq!(vassal.step(Event::Time, now + seconds(22)), Action::Kill);
        assert_eq!(vassal.step(Event::Died, now + seconds(22)), Action::Forget);
        assert_eq!(vassal.deadline(), None);
    }

    #[test]
    fn one_that_survives_sigkill_is_given_up_in_bounded_time() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        vassal.step(Event::Stop, now);
        assert_eq!(vassal.step(Event::GiveUp, now + ANSWER), Action::Kill);
        // However often somebody asks again.
        assert_eq!(vassal.step(Event::Kill, now + ANSWER + seconds(9)), Action::Kill);
        assert_eq!(vassal.deadline(), Some(now + ANSWER + KILL_AGAIN));
        assert_eq!(vassal.step(Event::GiveUp, now + ANSWER + KILL_AGAIN), Action::Forget);
    }

    #[test]
    fn a_long_start_is_told_at_doubled_intervals_and_never_ended() {
        let zero = Instant::now();
        let mut vassal = machine(State::Idle);
        vassal.step(Event::Start, zero);
        for told in [10, 20, 40, 80] {
            assert_eq!(vassal.deadline(), Some(zero + seconds(told)));
            assert_eq!(vassal.step(Event::Time, zero + seconds(told - 1)), Action::None);
            assert_eq!(vassal.step(Event::Time, zero + seconds(told)), Action::Remind);
        }
        vassal.step(Event::Running, zero + seconds(81));
        assert_eq!(vassal.deadline(), None);
    }

    #[test]
    fn an_invalid_file_is_not_tried_again_before_the_longest_delay_and_is_no_failure() {
        let now = Instant::now();
        let mut vassal = machine(State::Idle);
        vassal.step(Event::Start, now);
        // It closes its link before it is gone.
        vassal.step(Event::Leaving(Duration::ZERO), now);
        assert_eq!(vassal.step(Event::DiedInvalid, now), Action::None);
        assert_eq!(vassal.deadline(), Some(now + seconds(60)));
        assert_eq!(vassal.step(Event::Start, now), Action::Spawn);
        vassal.step(Event::Died, now);
        assert_eq!(vassal.deadline(), Some(now + THROTTLE));
    }

    #[test]
    fn an_absurd_announcement_is_cut() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        vassal.step(Event::Stop, now);
        vassal.step(Event::Leaving(Duration::MAX), now);
        assert_eq!(vassal.deadline(), Some(now + LONGEST + GRACE));
    }

    #[test]
    fn failures_double_the_delay_until_an_edit_or_a_second_of_running() {
        let mut now = Instant::now();
        let mut vassal = machine(State::Idle);
        assert_eq!(vassal.step(Event::Start, now), Action::Spawn);
        for delay in [2, 4, 8] {
            assert_eq!(vassal.step(Event::Died, now), Action::None);
            assert_eq!(vassal.deadline(), Some(now + seconds(delay)));
            now += seconds(delay);
            assert_eq!(vassal.step(Event::Time, now), Action::Spawn);
        }
        vassal.step(Event::SpawnFailed, now);
        assert_eq!(vassal.deadline(), Some(now + seconds(16)));
        assert_eq!(vassal.step(Event::Start, now), Action::Spawn);
        vassal.step(Event::Died, now);
        assert_eq!(vassal.deadline(), Some(now + seconds(2)));
        now += seconds(2);
        vassal.step(Event::Time, now);
        vassal.step(Event::Running, now);
        assert_eq!(vassal.step(Event::Died, now + UP), Action::Spawn);
        vassal.step(Event::Died, now + UP);
        assert_eq!(vassal.deadline(), Some(now + UP + seconds(2)));
    }

    #[test]
    fn a_change_while_a_reload_is_pending_is_sent_after_the_answer() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        assert_eq!(vassal.step(Event::Start, now), Action::Reload);
        assert_eq!(vassal.step(Event::Start, now), Action::None);
        assert_eq!(vassal.step(Event::Start, now), Action::None);
        assert_eq!(vassal.step(Event::Answered(Answer::NeedsRespawn), now), Action::Reload);
        assert_eq!(vassal.step(Event::Answered(Answer::Refused), now), Action::None);
        assert_eq!(vassal.state(), State::Running { since: now });
        assert_eq!(vassal.step(Event::Start, now), Action::Reload);
        assert_eq!(vassal.step(Event::Answered(Answer::Reloaded), now + seconds(1)), Action::None);
        assert_eq!(vassal.state(), State::Running { since: now + seconds(1) });
    }

    #[test]
    fn a_reload_without_an_answer_becomes_a_restart() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        vassal.step(Event::Start, now);
        assert_eq!(vassal.deadline(), Some(now + ANSWER));
        vassal.step(Event::Reloading(Duration::MAX), now);
        assert_eq!(vassal.deadline(), Some(now + LONGEST + GRACE));
        vassal.step(Event::Reloading(Duration::MAX), now + seconds(1));
        assert_eq!(vassal.step(Event::Time, now + LONGEST), Action::None);
        assert_eq!(vassal.step(Event::Time, now + LONGEST + GRACE), Action::AskToStop);
        // Now it answers.
        assert_eq!(vassal.step(Event::Answered(Answer::Reloaded), now + LONGEST + GRACE), Action::None);
        assert_eq!(vassal.step(Event::Died, now + LONGEST + GRACE), Action::Spawn);
    }

    #[test]
    fn a_removal_or_a_death_ends_a_pending_reload() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        vassal.step(Event::Start, now);
        assert_eq!(vassal.step(Event::Stop, now), Action::AskToStop);
        assert_eq!(vassal.step(Event::Answered(Answer::NeedsRespawn), now), Action::None);
        assert_eq!(vassal.step(Event::Died, now), Action::Forget);

        let mut vassal = machine(State::Running { since: now });
        vassal.step(Event::Start, now);
        // It has not been up for a second, and yet the new file is tried at once; but only once.
        assert_eq!(vassal.step(Event::Died, now), Action::Spawn);
        assert_eq!(vassal.step(Event::Died, now), Action::None);
        assert_eq!(vassal.deadline(), Some(now + THROTTLE));
    }

    #[test]
    fn removed_and_created_again_while_stopping_is_one_restart() {
        let now = Instant::now();
        let mut vassal = machine(State::Running { since: now });
        assert_eq!(vassal.step(Event::Stop, now), Action::AskToStop);
        assert_eq!(vassal.step(Event::Start, now), Action::None);
        assert_eq!(vassal.step(Event::Start, now), Action::None);
        assert_eq!(vassal.step(Event::Died, now), Action::Spawn);
    }
}
