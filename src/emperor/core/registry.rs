//! All vassals: events come in, effects go out.
//!
//! The registry decides, and does nothing: it holds no descriptor, makes no system call, and is told the
//! time. The supervisor carries the effects out in their order; the result of an effect returns as an event.
//! So no effect is carried out inside of another one, and everything that an event leads to can be read, and
//! tested, here.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::effect::Effect;
use super::event::Event;
use super::file_version::FileVersion;
use super::history::Runs;
use super::instance::{Check, ProcessFacts};
use super::machine::{Answer, Input, Output, State, Then, next};
use super::names::{Claim, Names, Renamed};
use super::sorted_map::SortedMap;
use super::starts::Starts;
use super::text::Count;
use super::timers::Timers;
use super::vassal::Vassal;
use super::vassal_file::VassalFile;
use crate::config::plan::Address;
use crate::error::Error;
use crate::protocol::WaitStatus;
use crate::running_time::earliest;

mod messages;
mod orders;
mod reload;
mod renames;
mod report;

/// The number of vassals with due timers that get their turn at a time.
const TIMERS_PER_TURN: usize = 32;

/// Settings that all vassals have in common.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The delays after failures.
    pub backoff: Backoff,
    /// How long an app that has given a heartbeat may go without one.
    pub heartbeat: Duration,
    /// The longest time to stop that is granted to an instance.
    pub stop_timeout: Duration,
    /// How many vassals an owner may have.
    pub max_per_owner: usize,
    /// How many instances are set up at a time.
    pub max_starts: usize,
    /// Whether a new configuration may be read by a process of its own before the app is stopped for it. In
    /// tyrant mode a file is only read with the rights of its owner.
    pub checks_config: bool,
}

/// The vassals by their files.
#[derive(Debug)]
pub struct Registry {
    rules: Rules,
    vassals: SortedMap<Rc<VassalFile>, Box<Vassal>>,
    names: Names,
    /// The files of owners who have as many vassals as they may, with the owners, in the order in which they
    /// came.
    held_back: Vec<(Rc<VassalFile>, u32)>,
    /// The files that have another name now, while their vassals have not ended under the old one.
    renamed: Vec<Renamed>,
    timers: Timers<Rc<VassalFile>>,
    /// The vassals whose state is [`State::Starting`]: they set up, or wait for their turn.
    starts: Starts,
    /// The effects that are to be carried out, the next first.
    effects: VecDeque<(Rc<VassalFile>, Effect)>,
    /// Whether all vassals are to end for good.
    is_ending: bool,
    /// How many processes could not even be killed, and were left behind.
    given_up: u64,
}

impl Registry {
    /// No vassals yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            starts: Starts::new(rules.max_starts),
            rules,
            vassals: SortedMap::default(),
            names: Names::default(),
            held_back: Vec::new(),
            renamed: Vec::new(),
            timers: Timers::default(),
            effects: VecDeque::new(),
            is_ending: false,
            given_up: 0,
        }
    }

    /// How many vassals there are, for the log.
    pub fn count(&self) -> Count {
        Count(self.vassals.len() as u64, "vassal")
    }

    /// Whether there is no vassal.
    pub fn is_empty(&self) -> bool {
        self.vassals.is_empty()
    }

    /// How many processes could not even be killed, and were left behind.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The vassals by their files.
    pub fn vassals(&self) -> impl Iterator<Item = (&Rc<VassalFile>, &Vassal)> {
        self.vassals.iter().map(|(file, vassal)| (file, &**vassal))
    }

    /// The vassal of a file.
    pub fn vassal(&self, file: &VassalFile) -> Option<&Vassal> {
        self.vassals.get(file).map(|vassal| &**vassal)
    }

    /// Whether the file of any vassal is to be checked that has not been given up.
    pub fn is_checking(&self) -> bool {
        self.vassals().any(|(_, vassal)| vassal.instance.check.as_ref().is_some_and(|check| !check.is_late))
    }

    /// Whether any vassal has a reload before it.
    pub fn is_reloading(&self) -> bool {
        self.vassals().any(|(_, vassal)| vassal.is_reloading())
    }

    /// The next thing to do.
    pub fn next_effect(&mut self) -> Option<(Rc<VassalFile>, Effect)> {
        while let Some((file, effect)) = self.effects.pop_front() {
            // The vassal may have been stopped since it was decided to start it.
            if effect != Effect::Spawn || self.vassal(&file).is_some_and(Vassal::lacks_process) {
                return Some((file, effect));
            }
        }
        None
    }

    /// When [`Registry::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(&[self.timers.next(), self.starts.deadline()])
    }

    /// Goes on with a vassal of another program.
    pub fn take_over(&mut self, file: &Rc<VassalFile>, mut vassal: Box<Vassal>) {
        vassal.instance.machine.set_backoff(self.rules.backoff.clone());
        self.names.claim(file);
        self.timers.set(file, vassal.deadline(file));
        if vassal.state() == State::Waiting {
            self.push(file, Effect::Poll);
        }
        if vassal.lacks_process() {
            self.starts.wait(file, vassal.owner, vassal.is_urgent());
        }
        self.vassals.insert(Rc::clone(file), vassal);
    }

    /// Who has found these files is gone: they are as those of vassals that were taken over until they are
    /// found once more.
    pub fn unclaim(&mut self, files: &[Rc<VassalFile>]) {
        for file in files {
            if let Some(vassal) = self.vassals.get_mut(file) {
                vassal.is_unclaimed = true;
            }
        }
    }

    /// Takes in an event of the vassal of a file.
    pub fn apply(&mut self, file: &Rc<VassalFile>, event: Event, now: Instant) {
        match event {
            Event::Found { version, has_old_address, owner } => {
                self.found(file, version, has_old_address, owner);
            }
            Event::Renamed { from, owner } => self.renamed(&from, file, owner, now),
            Event::Changed(why) => self.refresh(file, why),
            Event::Removed(why) => self.removed(file, why, now),
            Event::Address { why, address } => self.address_known(file, &why, address, now),
            Event::AddressLate(error) => self.address_late(file, &error),
            // What has a process has used another version.
            Event::Seen(_) if self.process_mut(file).is_some() => {}
            Event::Seen(version) | Event::Reading(version) => {
                if let Some(vassal) = self.vassals.get_mut(file) {
                    vassal.file_version = version;
                }
            }
            Event::ReadsSlowly => {
                // Those that wait for their turn do not wait for a filesystem. It sets up once it was read.
                self.starts.end(file);
                self.begin_starts(now);
            }
            Event::Spawned { pid, owner } => self.spawned(file, ProcessFacts::new(pid, owner, now), now),
            Event::SpawnFailed(error) => self.spawn_failed(file, "cannot start: ", &error, now),
            Event::Listening(address) => {
                self.log(file, format!("waiting for a connection to {address}"));
                self.push(file, Effect::Poll);
            }
            Event::ListenFailed(error) => self.spawn_failed(file, "", &error, now),
            Event::Connected => self.connected(file, now),
            Event::ReloadSent => {
                if let Some(process) = self.process_mut(file) {
                    process.asked_to_reload = Some(now);
                }
                self.step(file, Input::Sent, now);
            }
            Event::ReloadFailed(error) => self.reload_failed(file, &error, now),
            Event::ReloadImpossible(why) => self.answered(file, Answer::NeedsRespawn, why, now),
            Event::CheckBegun(within) => self.step(file, Input::Checking(within), now),
            Event::CheckFailed { error, why } => self.check_failed(file, &error, why, now),
            Event::Checked(answer, why) => self.checked(file, answer, why, now),
            Event::Said(message) => self.said(file, message, now),
            Event::Waits(what) => self.waits(file, what, now),
            Event::LinkClosed(mistake) => self.link_closed(file, mistake, now),
            Event::Ended => {
                if let Some(process) = self.process_mut(file) {
                    process.has_ended = true;
                }
                self.timers.set(file, None);
            }
            Event::Died { status, out_of_memory } => self.died(file, status, out_of_memory, now),
        }
    }

    /// Every vassal is to run as its file says now.
    pub fn reload_all(&mut self) {
        for file in self.files() {
            if self.vassals.get(&file).is_some_and(|vassal| !vassal.has_lost_its_file()) {
                self.refresh(&file, "reload");
            }
        }
    }

    /// Earlier failures do not count any more.
    pub fn clear_backoffs(&mut self, now: Instant) {
        self.step_all(Input::ClearBackoff, now);
    }

    /// Ends everything for good: asks the vassals to stop, or kills them.
    pub fn end(&mut self, kill: bool, now: Instant) {
        self.is_ending = true;
        self.step_all(if kill { Input::Kill } else { Input::Stop }, now);
    }

    /// Takes in that timers are due, or a part of them; [`Registry::deadline`] stays in the past while there
    /// are more.
    pub fn time(&mut self, now: Instant) {
        self.begin_starts(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(file) = self.timers.due(now) else { return };
            let silence = self.rules.heartbeat;
            if self.refuses_late_check(&file, now) {
                continue;
            }
            match self.vassals.get_mut(&file).map(|vassal| (vassal.state(), &mut vassal.instance.process)) {
                Some((State::Reloading { .. }, _)) => {
                    self.log(&file, "the reload was not answered in time: restarting".to_owned());
                }
                Some((State::Running { .. }, Some(process))) => process.condemn(silence),
                _ => {}
            }
            // A process that does not die only gets more SIGKILLs until everything ends: a second instance
            // beside it could not work.
            self.step(&file, if self.is_ending { Input::GiveUp } else { Input::Time }, now);
        }
    }

    fn found(
        &mut self,
        file: &Rc<VassalFile>,
        version: Option<FileVersion>,
        has_old_address: bool,
        owner: Option<u32>,
    ) {
        if !self.admits(file, owner) {
            return;
        }
        let is_known = self.vassals.get_mut(file).is_some_and(|vassal| {
            std::mem::take(&mut vassal.is_unclaimed) && version == Some(vassal.file_version)
        });
        match (is_known, has_old_address) {
            (false, _) => self.refresh(file, "file is back"),
            (true, true) => self.refresh(file, "its address may have changed"),
            (true, false) => {}
        }
        self.note_owner(file, owner);
    }

    /// Whether the owner of a file may have one more vassal. Otherwise the file waits for the end of one.
    fn admits(&mut self, file: &Rc<VassalFile>, owner: Option<u32>) -> bool {
        let Some(owner) = owner.filter(|_| self.vassals.get(file).is_none()) else { return true };
        let count = self.vassals().filter(|(_, vassal)| vassal.is_of(owner)).count();
        if count < self.rules.max_per_owner {
            return true;
        }
        if !self.held_back.iter().any(|(_, other)| *other == owner) {
            let (shown, count) = (file.display(), Count(count as u64, "vassal"));
            let line = format!("{shown} has to wait: user {owner} has {count} (emperor-tyrant-max)");
            self.log(file, format!("{line}; further files of the user are not told of"));
        }
        self.held_back.push((Rc::clone(file), owner));
        false
    }

    fn note_owner(&mut self, file: &VassalFile, owner: Option<u32>) {
        if let Some(vassal) = self.vassals.get_mut(file) {
            vassal.owner = owner;
        }
    }

    /// The vassal is to run as its file says now: start, reload or restart it, once its address is known.
    fn refresh(&mut self, file: &Rc<VassalFile>, why: &str) {
        let file = &self.known(file);
        if self.held_back.iter().any(|(other, _)| other == file) || self.waits_for_its_old_name(file) {
            return;
        }
        match self.names.claim(file) {
            Claim::Taken => {}
            Claim::StillWaits => return,
            Claim::WaitsFor(owner) => {
                let (shown, owner) = (file.display(), owner.display());
                return self.log(file, format!("{shown} has to wait: {owner} has the same name"));
            }
        }
        if self.vassals.get(file).is_none() {
            let vassal = Vassal::new(self.rules.backoff.clone());
            self.vassals.insert(Rc::clone(file), Box::new(vassal));
        }
        if let Some(vassal) = self.vassals.get_mut(file) {
            vassal.is_asking = true;
        }
        self.push(file, Effect::FindAddress { why: why.to_owned() });
    }

    /// Goes on with a refresh.
    fn address_known(
        &mut self,
        file: &Rc<VassalFile>,
        why: &str,
        address: Result<Option<Address>, Error>,
        now: Instant,
    ) {
        let Some(vassal) = self.vassals.get_mut(file).filter(|vassal| vassal.is_asking) else { return };
        vassal.is_asking = false;
        vassal.history.refused = None;
        let mistake = address.as_ref().err().map(|error| format!("{error}: not on demand"));
        vassal.on_demand = address.unwrap_or_default();
        let is_on_demand = vassal.on_demand.is_some();
        vassal.instance.machine.set_on_demand(is_on_demand);
        let how = match vassal.state() {
            State::Idle if vassal.history.instances == 0 => None,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Waiting => {
                Some(if is_on_demand { "listening" } else { "starting" })
            }
            State::Running { .. } => Some("reloading"),
            State::Reloading { .. } => Some("reloading once more after the reload that is going on"),
            State::Starting { .. } if vassal.lacks_process() => Some("starting"),
            State::Starting { .. } => Some("restarting"),
            State::Held | State::Stopping { then: Then::Hold, .. } => Some("stays stopped, as commanded"),
            State::Stopping { .. } => Some("starting again as soon as it has stopped"),
        };
        if let Some(mistake) = mistake {
            self.log(file, mistake);
        }
        if let Some(how) = how {
            self.log(file, format!("{why}: {how}"));
        }
        self.step(file, Input::Refresh, now);
    }

    /// Nobody knows where it is to be waited for: whatever there is stays as it is.
    fn address_late(&mut self, file: &Rc<VassalFile>, error: &Error) {
        let Some(vassal) = self.vassals.get_mut(file).filter(|vassal| vassal.is_asking) else { return };
        vassal.is_asking = false;
        let history = &mut vassal.history;
        let told =
            if vassal.instance.process.is_some() { &mut history.refused } else { &mut history.last_end };
        *told = Some(error.to_string());
        self.log(file, format!("{error}; it stays as it is"));
    }

    fn removed(&mut self, file: &Rc<VassalFile>, why: &str, now: Instant) {
        let file = &self.known(file);
        self.names.stop_waiting(file);
        self.held_back.retain(|(other, _)| other != file);
        self.forget_new_name(file);
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        vassal.is_unclaimed = false;
        let how = if vassal.instance.process.is_some() { "stopping" } else { "forgotten" };
        if std::mem::take(&mut vassal.is_asking) {
            self.push(file, Effect::ForgetAddress);
        }
        self.log(file, format!("{why}: {how}"));
        self.step(file, Input::Stop, now);
    }

    fn connected(&mut self, file: &Rc<VassalFile>, now: Instant) {
        if self.vassal(file).is_some_and(|vassal| vassal.state() == State::Waiting) {
            self.log(file, "somebody connects: starting".to_owned());
            self.step(file, Input::Connected, now);
        }
    }

    fn spawned(&mut self, file: &Rc<VassalFile>, process: ProcessFacts, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let pid = process.pid;
        vassal.instance.process = Some(process);
        vassal.instance.machine.step(Input::Spawned, now);
        if matches!(vassal.state(), State::Starting { .. }) {
            self.starts.set_up(file, vassal.owner, now);
        }
        self.timers.set(file, vassal.instance.machine.deadline());
        let history = &mut vassal.history;
        history.instances += 1;
        history.runs = Some(Runs { first: history.runs.map_or(now, |runs| runs.first), last: now });
        let refused = history.refused.take();
        self.log(file, format!("started (pid {pid})"));
        if let Some(why) = refused {
            self.log(file, format!("it was started with the file whose reload was refused: {why}"));
        }
        self.push(file, Effect::RunCommands);
    }

    fn spawn_failed(&mut self, file: &Rc<VassalFile>, what: &str, error: &Error, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let output = vassal.instance.machine.step(Input::SpawnFailed, now);
        let next = next(vassal.state(), now);
        vassal.ended(error.to_string(), now);
        self.log(file, format!("{what}{error}; {next}"));
        self.follow(file, output, now);
    }

    fn died(&mut self, file: &Rc<VassalFile>, status: WaitStatus, out_of_memory: bool, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let Some(process) = vassal.instance.process.take() else { return };
        let mut why = process.why_it_ended(status, out_of_memory);
        if vassal.on_demand.is_none() && process.seems_to_have_left(now) {
            why += ": does it go into the background?";
        }
        let output = vassal.instance.machine.step(process.end(status), now);
        let next = next(vassal.state(), now);
        let line = format!("{why}; {}; {next}", process.how_long(now));
        vassal.mountpoints.instance_ended();
        vassal.ended(why, now);
        let (is_back_soon, for_good) = (vassal.is_back_soon(now), vassal.state() == State::Idle);
        self.log(file, line);
        if !is_back_soon && !self.has_another_name(file) {
            self.push(file, Effect::CloseSockets { for_good });
        }
        self.follow(file, output, now);
        self.begin_beside(file, now);
    }

    /// The file under the name that its vassal has. A vassal that was taken over keeps its name, whatever a
    /// directory or pattern of the new configuration makes of it.
    fn known(&self, file: &Rc<VassalFile>) -> Rc<VassalFile> {
        Rc::clone(self.vassals.key(file).unwrap_or(file))
    }

    fn files(&self) -> Vec<Rc<VassalFile>> {
        self.vassals().map(|(file, _)| Rc::clone(file)).collect()
    }

    fn process_mut(&mut self, file: &VassalFile) -> Option<&mut ProcessFacts> {
        self.vassals.get_mut(file)?.instance.process.as_mut()
    }

    fn push(&mut self, file: &Rc<VassalFile>, effect: Effect) {
        self.effects.push_back((Rc::clone(file), effect));
    }

    fn log(&mut self, file: &Rc<VassalFile>, line: String) {
        self.push(file, Effect::Log(line));
    }

    fn step_all(&mut self, input: Input, now: Instant) {
        for file in self.files() {
            self.step(&file, input, now);
        }
    }

    fn step(&mut self, file: &Rc<VassalFile>, input: Input, now: Instant) {
        if let Some(vassal) = self.vassals.get_mut(file) {
            let had_process = !vassal.lacks_process();
            let mut output = vassal.instance.machine.step(input, now);
            if !had_process && matches!(vassal.state(), State::Stopping { .. }) {
                // No death would ever be told.
                self.starts.give_up(file);
                self.effects.push_back((Rc::clone(file), Effect::ForgetFile));
                output = vassal.instance.machine.step(Input::Died, now);
            }
            self.follow(file, output, now);
        }
    }

    /// Starts vassals that wait for their turn, or checks their files, as many as may at a time.
    fn begin_starts(&mut self, now: Instant) {
        while let Some(file) = self.starts.begin(now) {
            let check = self.vassals.get(&file).and_then(|vassal| vassal.instance.check.as_ref());
            let checks = |check: &Check| Effect::CheckConfig { why: check.why.clone() };
            self.push(&file, check.map_or(Effect::Spawn, checks));
        }
    }

    /// Queues the effects of a step of the state machine. To be called after each step.
    fn follow(&mut self, file: &Rc<VassalFile>, output: Output, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let (state, deadline) = (vassal.state(), vassal.deadline(file));
        let (is_starting, is_urgent) = (matches!(state, State::Starting { .. }), vassal.is_urgent());
        let owner = vassal.owner;
        if !matches!(output, Output::None | Output::Remind) && vassal.instance.check.take().is_some() {
            self.starts.give_up(file);
            self.effects.push_back((Rc::clone(file), Effect::ForgetFile));
        }
        let is_checking = vassal.instance.check.is_some();
        match (output, &mut vassal.instance.process) {
            (Output::Spawn, _) => {
                self.starts.end(file);
                self.starts.wait(file, owner, is_urgent);
            }
            (Output::Listen, _) => self.push(file, Effect::Listen),
            (Output::Reload, Some(_)) => self.push(file, Effect::Reload),
            // It would not hear of it.
            (Output::AskToStop, Some(process)) if process.waits.is_some() => {
                process.condemn_for_waiting();
                return self.step(file, Input::Kill, now);
            }
            (Output::AskToStop, Some(process)) => {
                process.asked_to_stop = Some(now);
                self.push(file, Effect::AskToStop);
            }
            (Output::Kill, Some(process)) if !process.has_ended => {
                let (why, pid) = (process.kill(now), process.pid);
                self.log(file, format!("{why}: killing pid {pid}"));
                self.push(file, Effect::Kill);
            }
            (Output::Remind, Some(_)) => self.push(file, Effect::Look),
            (Output::Forget, process) => {
                let stuck = process.take();
                self.starts.end(file);
                self.forget(file, stuck, now);
                return self.begin_starts(now);
            }
            (Output::None | Output::Reload | Output::AskToStop | Output::Kill | Output::Remind, _) => {}
        }
        if !is_starting && !is_checking {
            self.starts.end(file);
        }
        self.begin_starts(now);
        if state == State::Held {
            // Clients are to be refused.
            self.push(file, Effect::CloseDemand);
        }
        self.timers.set(file, deadline);
    }

    /// There is no such vassal any more; its name is free. A process that is still there is left behind.
    fn forget(&mut self, file: &Rc<VassalFile>, stuck: Option<ProcessFacts>, now: Instant) {
        if let Some(process) = stuck {
            let (pid, killed) = (process.pid, process.killed_for(now));
            self.given_up += 1;
            self.log(
                file,
                format!("pid {pid} is stuck in the kernel: not gone {killed} after SIGKILL: given up"),
            );
        }
        self.timers.set(file, None);
        let owner = self.vassals.remove(file).and_then(|vassal| vassal.owner);
        let named = self.names.release(file);
        let (mut goes_on, mut has_them) = (0, true);
        while !self.is_ending
            && let Some(renamed) = self.take_renamed(file)
        {
            goes_on += usize::from(self.go_on_as(renamed, has_them, now));
            has_them = false;
        }
        self.push(file, Effect::Remove);
        if self.is_ending {
            return;
        }
        let of_owner = self.held_back.iter().position(|(_, other)| Some(*other) == owner);
        let admitted = of_owner.filter(|_| goes_on == 0).map(|index| self.held_back.remove(index).0);
        for next in named.iter().chain(&admitted) {
            self.log(next, format!("{}: its turn has come", next.display()));
            self.refresh(next, "");
        }
        if let Some(admitted) = admitted {
            self.note_owner(&admitted, owner);
        }
    }
}

#[cfg(test)]
mod tests;
