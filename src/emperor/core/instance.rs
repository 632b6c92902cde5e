//! One instance of a vassal: its state machine, and the facts about its process.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::history::{Ended, Failures, History};
use super::machine::{End, Input, Machine, State, Then, next};
use super::mountpoints::Mountpoints;
use super::owner::Owner;
use super::rare::{Facts, Rare};
use super::replicas::{Member, Stage};
use super::rolls::SLOW;
use super::status::LONG;
use super::text::later;
use crate::log::Elapsed;
use crate::protocol::{EXIT_CONFIG, ExitReason, Replication, WaitStatus};

/// A program that goes into the background does so within this time after its start.
const LEAVING: Duration = Duration::from_secs(5);

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its number among the instances of its vassal.
    pub(super) number: u16,
    /// Whether a new instance is to take its place, because the file has changed since it was started.
    pub(super) is_old: bool,
    /// Whether others are stopped for it once it is ready, and go on otherwise.
    pub(super) is_on_trial: bool,
    /// Whether its file is on trial or was refused when it was started, and it has not been ready since: how
    /// many instances there are to be is not up to that file yet.
    pub(super) is_unproven: bool,
    /// Whether its app was ready and fails its check now, and it waits for its turn to be replaced.
    pub(super) is_unready: bool,
    /// Whether its last start was refused for want of something that all vassals need.
    pub(super) is_refused: bool,
    /// Its state machine.
    pub(super) machine: Machine,
    /// Whether it was told of that its end, or its reload, takes long.
    pub(super) is_late: bool,
    /// The pid of the last app of its process, as PID 1 sees it.
    pub(super) app: Option<i32>,
    /// Its process, if there is one.
    pub(super) process: Option<ProcessFacts>,
    /// The check of its new configuration by a separate process, while one runs.
    pub(super) check: Option<Box<Check>>,
    /// Since when its app is gone without having been asked to, if no other one runs yet.
    pub(super) down_since: Option<Instant>,
    /// Its history, with that of the instances whose place it has taken.
    pub(super) history: History,
    /// The checked mountpoints.
    pub(super) mountpoints: Mountpoints,
}

impl Instance {
    /// An instance without a process.
    pub fn new(number: u16, backoff: Backoff) -> Self {
        Self {
            number,
            is_old: false,
            is_on_trial: false,
            is_unproven: false,
            is_unready: false,
            is_refused: false,
            machine: Machine::new(backoff),
            is_late: false,
            app: None,
            process: None,
            check: None,
            down_since: None,
            history: History::default(),
            mountpoints: Mountpoints::none(),
        }
    }

    /// Its number among the instances of its vassal.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether it is one of those that the vassal is to have: neither on trial nor about to be replaced.
    pub fn is_one_for_good(&self) -> bool {
        !self.is_old && !self.is_on_trial
    }

    /// Whether it is one of those that the vassal is to have for now.
    pub(super) fn stays(&self) -> bool {
        !self.is_on_trial && !self.is_leaving()
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// The facts about its process, if there is one.
    pub fn process(&self) -> Option<&ProcessFacts> {
        self.process.as_ref()
    }

    /// Since when it is in its state, where its app does not run; `None` if that is not known.
    pub(super) fn entered(&self) -> Option<Instant> {
        let process = self.process.as_ref();
        match self.state() {
            State::Starting { since, .. } => Some(since),
            State::Reloading { .. } => process.and_then(|process| process.asked_to_reload),
            State::Stopping { .. } => process.and_then(ProcessFacts::stopping),
            State::Running { .. } => None,
            _ => self.history.past.ends.last().map(|end| end.at),
        }
    }

    /// When its end or its reload has taken long, if it was asked for that and nobody was told yet.
    pub(super) fn late_at(&self) -> Option<Instant> {
        let process = self.process.as_ref().filter(|process| !self.is_late && !process.has_ended)?;
        let asked = match self.state() {
            State::Stopping { end: End::Asked | End::Announced, .. } => process.ending.asked_to_stop,
            // A check has a limit of its own, and may wait for its turn.
            State::Reloading { .. } if self.check.is_none() => process.asked_to_reload,
            _ => None,
        };
        Some(asked? + LONG)
    }

    /// The line for the log that its end or its reload takes long, once. From then on it stands for what its
    /// app does.
    pub(super) fn tell_late(&mut self, now: Instant) -> Option<String> {
        let asked = self.late_at().filter(|at| *at <= now)? - LONG;
        self.is_late = true;
        let (what, until) = match self.state() {
            State::Stopping { kill_at, .. } => ("stopping", kill_at),
            State::Reloading { answer_by, .. } => ("reloading", answer_by),
            _ => return None,
        };
        let [took, left] = [now.saturating_duration_since(asked), until.saturating_duration_since(now)];
        let line = format!("still {what} after {}; it is given {} more", Elapsed(took), Elapsed(left));
        self.process.as_mut()?.said.status.clone_from(&line);
        Some(line)
    }

    /// Whether its file is to be sent to its PID 1, or was sent and is not answered yet.
    pub(super) fn is_reloading(&self) -> bool {
        matches!(self.state(), State::Reloading { .. })
    }

    /// Whether its app runs.
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state(), State::Running { .. } | State::Reloading { .. })
    }

    /// Whether it is being started and has no process yet, because it waits for its turn.
    pub fn lacks_process(&self) -> bool {
        matches!(self.state(), State::Starting { .. }) && self.process.is_none()
    }

    /// Whether its process has ended, and its remaining processes are being ended.
    pub(super) fn has_ended(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.has_ended)
    }

    /// Whether it is ending for good.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state(), State::Stopping { then: Then::Nothing, .. })
    }

    /// Whether its next process comes by itself, or is on its way.
    pub(super) fn comes_back(&self) -> bool {
        match self.state() {
            State::Starting { .. } | State::Backoff { .. } => true,
            State::Stopping { then, .. } => matches!(then, Then::Respawn | Then::Again | Then::Backoff),
            _ => false,
        }
    }

    /// Whether it was stopped by command.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.state(), State::Held | State::Stopping { then: Then::Hold, .. })
    }

    /// What its PID 1 has said about the number of instances.
    pub(super) fn replication(&self) -> Replication {
        self.process.as_ref().and_then(|process| process.replication.as_deref()).copied().unwrap_or_default()
    }

    /// From when on its app counts as ready; `None` if that depends on a word of the app's, or if the app
    /// does not run. `announces` tells whether apps of the vassal say that they are ready.
    pub(super) fn ready_at(&self, announces: bool) -> Option<Instant> {
        let State::Running { since } = self.state() else { return None };
        let process = self.process.as_ref()?;
        let replication = self.replication();
        match process.said.ready {
            Some(_) => Some(since),
            None if announces || replication.says_ready => None,
            // One that was only told to read its own configuration again may still end because of it.
            None => {
                let began = process.asked_to_reload.map_or(since, |told| told.max(since));
                Some(later(began, replication.ready_after))
            }
        }
    }

    /// From when on others may be stopped for it: its app has been ready for `ready-after` then. One that
    /// says that it is ready may still end at once, as a server does whose workers cannot load their program.
    /// `announces` as in [`Instance::ready_at`].
    pub(super) fn relied_on_at(&self, announces: bool) -> Option<Instant> {
        let ready_at = self.ready_at(announces)?;
        let said = self.process.as_ref()?.said.ready;
        Some(said.map_or(ready_at, |said| later(said, self.replication().ready_after)))
    }

    /// Whether others may be stopped for it. `announces` as in [`Instance::ready_at`].
    pub(super) fn is_relied_on(&self, announces: bool, now: Instant) -> bool {
        self.is_reloading() || self.relied_on_at(announces).is_some_and(|at| at <= now)
    }

    /// Whether its app is ready. `announces` as in [`Instance::ready_at`].
    pub(super) fn is_ready(&self, announces: bool, now: Instant) -> bool {
        self.ready_at(announces).is_some_and(|at| at <= now)
    }

    /// Whether its app runs, was ready, and fails its ready check.
    pub(super) fn is_unready(&self) -> bool {
        matches!(self.state(), State::Running { .. }) && self.is_unready
    }

    /// From when on nobody waits any more for its app, which runs, to become ready.
    pub(super) fn not_ready_until(&self) -> Option<Instant> {
        let State::Running { since } = self.state() else { return None };
        Some(later(since, self.replication().ready_timeout))
    }

    /// When it is given up because it is not ready, if it is on trial or its file is. One that became ready
    /// in time has `ready-after` in any case.
    pub(super) fn trial_until(&self) -> Option<Instant> {
        let process = self.process.as_ref().filter(|_| self.is_on_trial || self.is_unproven)?;
        let replication = self.replication();
        let until = later(process.born, replication.ready_timeout);
        Some(process.said.ready.map_or(until, |said| later(said, replication.ready_after).max(until)))
    }

    /// Until when others wait for its end, if it is ending for good.
    pub(super) fn waited_for_until(&self) -> Option<Instant> {
        let process = self.process.as_ref().filter(|_| self.is_leaving())?;
        Some(later(process.stopping()?, SLOW))
    }

    /// Its place among the others. `announces` as in [`Instance::ready_at`]; `goes_back` if one of before
    /// comes back as such.
    pub(super) fn member(&self, announces: bool, goes_back: bool, now: Instant) -> Member {
        let stage = match self.state() {
            _ if self.waited_for_until().is_some_and(|at| at <= now) => Stage::Stuck,
            _ if self.is_leaving() => Stage::Leaving,
            // It serves again before a new one can be relied on.
            _ if self.is_old && goes_back && self.comes_back() => Stage::Up,
            _ if self.is_relied_on(announces, now) => Stage::Ready,
            State::Running { .. } | State::Reloading { .. } => Stage::Up,
            // Nothing is wanted of it before something happens.
            State::Idle | State::Waiting | State::Held => Stage::Resting,
            State::Starting { .. } | State::Stopping { .. } => Stage::Down,
            State::Backoff { .. } | State::Invalid { .. } => Stage::Down,
        };
        // The next process has the present file.
        let comes_back = matches!(self.state(), State::Stopping { then, .. } if then != Then::Nothing);
        Member { number: self.number, is_old: self.is_old && (goes_back || !comes_back), stage }
    }

    /// What follows the end of its process, for the log. One on trial does not come back.
    pub(super) fn what_follows(&self, now: Instant) -> String {
        if self.is_on_trial { String::new() } else { "; ".to_owned() + &next(self.state(), now) }
    }

    /// Notes that a process has ended or could not be created, and why. `is_asked`, `date` as in [`Ended`].
    /// The state that follows tells whether this was a failure.
    pub(super) fn ended(&mut self, why: String, is_asked: bool, (now, date): (Instant, Duration)) {
        let (state, past) = (self.state(), &mut *self.history.past);
        past.last_end = Some(why.clone());
        past.ended(Ended { at: now, date, why, is_asked });
        past.failures = match state {
            State::Backoff { until } | State::Invalid { until } => {
                let before = past.failures;
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
}

/// A check of the new configuration by a separate process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Why the new configuration needs a fresh start.
    pub(super) why: String,
    /// Whether the reload was refused meanwhile, because the check takes too long. Its result still counts.
    pub(super) is_late: bool,
}

/// What the setup of a process waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The file that PID 1 was waiting for: `waits for FILE`.
    pub on: String,
    /// Whether it waited for nothing at the last look, but for that file at the one before.
    pub was_moving: bool,
}

/// A version of a vassal's file that was read for a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsedFile {
    /// What it says, as in [`Event::Compared`](super::event::Event::Compared).
    pub text: Option<u64>,
    /// When it was modified, in seconds since 1970.
    pub modified: i64,
    /// Its owner, as in [`FileVersion`](super::file_version::FileVersion). The process may belong to another
    /// one: to the user of a link to the file, or to a group of a user who is not in that of the file.
    pub owner: Option<Owner>,
}

/// What the configuration of a process was made of, as its PID 1 has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript(pub Rc<[u8]>);

/// The facts about a process, from the supervisor and from its PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The pid as seen by the emperor.
    pub pid: i32,
    /// The owner of its file.
    pub owner: Owner,
    /// Whether its link is open.
    pub is_linked: bool,
    /// Whether the process has ended, and its remaining processes are being ended.
    pub has_ended: bool,
    /// When it was created.
    pub born: Instant,
    /// Since when its app runs.
    pub running: Option<Instant>,
    /// When it was last sent its file; `None` also while another one waits for its turn.
    pub asked_to_reload: Option<Instant>,
    /// How it is being ended.
    pub ending: Rare<Ending>,
    /// What its app has said of itself, or shown.
    pub said: Rare<Said>,
    /// Whether only half of the time for the next heartbeat is over when its deadline comes.
    pub is_half: bool,
    /// What its setup waited for at the last look.
    pub wait: Option<Box<Wait>>,
    /// What its PID 1 has said about the number of instances; `None` for the default.
    pub replication: Option<Box<Replication>>,
    /// The file that it runs with.
    pub file: UsedFile,
    /// The file that it was sent for a reload, before it has answered.
    pub sent: Option<Box<UsedFile>>,
    /// What its configuration was made of, if new instances take the place of old ones; `None` once the
    /// vassal has it.
    pub transcript: Option<Box<Transcript>>,
}

/// How a process is being ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ending {
    /// When it was asked to stop.
    pub asked_to_stop: Option<Instant>,
    /// When it was first sent SIGKILL.
    pub killed: Option<Instant>,
    /// Why it was killed, or will be.
    pub condemned: Option<String>,
    /// The last message of its PID 1.
    pub exit_reason: Option<ExitReason>,
}

impl Facts for Ending {
    const NONE: &'static Self =
        &Self { asked_to_stop: None, killed: None, condemned: None, exit_reason: None };
}

/// What an app has said of itself, or shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Since when it is ready to accept requests.
    pub ready: Option<Instant>,
    /// Since when it is loyal.
    pub loyal: Option<Instant>,
    /// When it last said that it is alive.
    pub heartbeat: Option<Instant>,
    /// Its present activity, in its own words; empty if it has not said.
    pub status: String,
    /// Why it is not ready, if that is known: its ready check fails.
    pub unready: Option<Box<str>>,
}

impl Facts for Said {
    const NONE: &'static Self =
        &Self { ready: None, loyal: None, heartbeat: None, status: String::new(), unready: None };
}

impl ProcessFacts {
    /// A process that was just created.
    pub fn new(pid: i32, owner: Owner, text: Option<u64>, now: Instant) -> Self {
        Self {
            pid,
            owner,
            is_linked: true,
            has_ended: false,
            born: now,
            running: None,
            asked_to_reload: None,
            ending: Rare::default(),
            said: Rare::default(),
            is_half: true,
            wait: None,
            replication: None,
            file: UsedFile { text, ..UsedFile::default() },
            sent: None,
            transcript: None,
        }
    }

    /// When the present app was started, or its start began.
    pub(super) fn app_began(&self) -> Instant {
        self.asked_to_reload.unwrap_or(self.born)
    }

    /// How long ago the file was last sent, for the log.
    pub(super) fn reloading_for(&self, now: Instant) -> Elapsed {
        since(self.asked_to_reload, now)
    }

    /// How long ago SIGKILL was first sent, for the log.
    pub(super) fn killed_for(&self, now: Instant) -> Elapsed {
        since(self.ending.killed, now)
    }

    /// Since when the emperor has asked it to end.
    pub(super) fn stopping(&self) -> Option<Instant> {
        self.ending.asked_to_stop.or(self.ending.killed)
    }

    /// Notes that it will be killed because its app has sent no heartbeat for this time.
    pub(super) fn condemn(&mut self, silence: Duration) {
        let why = || format!("the app has given no heartbeat for {}", Elapsed(silence));
        self.ending.condemned.get_or_insert_with(why);
    }

    /// Notes that it will be killed because its PID 1 waits for a file on a filesystem that does not answer.
    pub(super) fn condemn_for_waiting(&mut self) {
        let waits = self.wait.as_ref().map_or("", |wait| &wait.on);
        self.ending.condemned = Some("PID 1 ".to_owned() + waits + ", whose filesystem does not answer");
    }

    /// Notes that SIGKILL was sent. Returns the reason for the log.
    pub(super) fn kill(&mut self, now: Instant) -> String {
        let why = match (self.ending.asked_to_stop, &self.ending.condemned) {
            _ if self.ending.killed.is_some() => {
                return format!("not gone {} after SIGKILL", self.killed_for(now));
            }
            (None, Some(why)) => why.clone(),
            (Some(asked), _) => format!("not gone {} after the request to stop", since(Some(asked), now)),
            (None, None) if !self.is_linked => "its PID 1 does not exit".to_owned(),
            (None, None) => "not gone in the time it announced".to_owned(),
        };
        (self.ending.killed, self.ending.condemned) = (Some(now), Some(why.clone()));
        why
    }

    /// Its end as an input of the state machine.
    pub(super) fn end(&self, status: WaitStatus) -> Input {
        match (&self.ending.exit_reason, status) {
            (Some(ExitReason::Config(_)), _) | (None, WaitStatus::Exited(EXIT_CONFIG)) => Input::DiedInvalid,
            (Some(ExitReason::MountLost(_)), _) => Input::DiedOfLoss,
            (Some(reason), _) if reason.is_done() => Input::Left,
            _ if self.ending.asked_to_stop.is_some() => Input::Left,
            _ => Input::Died,
        }
    }

    /// Why it ended. The last message of its PID 1 says so, if there was one.
    pub(super) fn why_it_ended(&self, status: WaitStatus, out_of_memory: bool) -> String {
        match (&self.ending.exit_reason, &self.ending.condemned) {
            (Some(reason), _) => reason.to_string(),
            (None, Some(why)) if self.ending.killed.is_some() => format!("killed: {why}"),
            // A PID 1 that was killed itself cannot send the reason.
            (None, _) if out_of_memory && status == WaitStatus::Signaled(libc::SIGKILL) => {
                format!("vassal-init {status}: out of memory")
            }
            (None, _) => format!("vassal-init {status} without a reason"),
        }
    }

    /// Whether its app has exited with status 0 unasked soon after its start, as a program does that goes
    /// into the background.
    pub(super) fn seems_to_have_left(&self, now: Instant) -> bool {
        let is_new = self.running.is_some_and(|running| now.saturating_duration_since(running) < LEAVING);
        let is_done = self.ending.exit_reason.as_ref().is_some_and(ExitReason::is_done);
        is_new && is_done && self.ending.asked_to_stop.is_none()
    }

    /// How long the end took, for the log.
    pub(super) fn how_long(&self, now: Instant) -> String {
        match (self.ending.asked_to_stop, self.running) {
            (Some(_), _) => format!("{} after the request", since(self.ending.asked_to_stop, now)),
            (None, Some(_)) => format!("up {}", since(self.running, now)),
            (None, None) => format!("{} after its start, never ran", since(Some(self.born), now)),
        }
    }
}

/// The time from an event until now; zero if the event has not happened.
fn since(event: Option<Instant>, now: Instant) -> Elapsed {
    Elapsed(event.map_or(Duration::ZERO, |event| now.saturating_duration_since(event)))
}
