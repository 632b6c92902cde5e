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
use super::effect::{Decision, Effect, InstanceEffect};
use super::event::{Event, InstanceEvent};
use super::file_version::{FileId, FileVersion};
use super::instance::{Instance, ProcessFacts};
use super::instance_id::InstanceId;
use super::machine::{Answer, Input, Output, State};
use super::names::{Claim, Names, Renamed};
use super::refusals::Refusals;
use super::rolls::Rolls;
use super::sorted_map::SortedMap;
use super::starts::Starts;
use super::tally::Tally;
use super::text::Count;
use super::timers::Timers;
use super::vassal::{Proven, Vassal};
use super::vassal_file::VassalFile;
use crate::config::plan::Address;
use crate::error::Error;
use crate::running_time::earliest;

mod births;
mod messages;
mod orders;
mod owners;
mod reload;
mod renames;
mod report;
mod rolling;

/// The number of instances with due timers that get their turn at a time.
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
    /// How many instances an owner may have, of all vassals together.
    pub max_per_owner: usize,
    /// How many instances are set up at a time.
    pub max_starts: usize,
    /// How many vassals replace their instances at a time.
    pub max_rolls: usize,
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
    timers: Timers<InstanceId>,
    /// The instances whose state is [`State::Starting`] or [`State::Reloading`]: they set up, or wait for
    /// their turn.
    starts: Starts,
    /// The instances that cannot start for want of what all of them need.
    refusals: Refusals,
    /// The vassals that replace their instances, and those that wait for their turn.
    rolls: Rolls,
    /// The users of whom an instance is gone, so that others may have room.
    freed: Vec<u32>,
    /// What is to be carried out, the next first.
    decisions: VecDeque<Decision>,
    /// Whether all vassals are to end for good.
    is_ending: bool,
    /// How many processes could not even be killed, and were left behind.
    given_up: u64,
    /// What has happened to all of them.
    tally: Tally,
    /// The date, as time since 1970.
    date: Duration,
}

impl Registry {
    /// No vassals yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            starts: Starts::new(rules.max_starts),
            rolls: Rolls::new(rules.max_rolls),
            rules,
            vassals: SortedMap::default(),
            names: Names::default(),
            held_back: Vec::new(),
            renamed: Vec::new(),
            timers: Timers::default(),
            refusals: Refusals::default(),
            freed: Vec::new(),
            decisions: VecDeque::new(),
            is_ending: false,
            given_up: 0,
            tally: Tally::default(),
            date: Duration::ZERO,
        }
    }

    /// What has happened to all instances, for metrics.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Notes the date, as time since 1970.
    pub fn note_date(&mut self, date: Duration) {
        self.date = date;
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

    /// An instance.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.vassal(&id.file)?.instance(id.number)
    }

    /// Whether any vassal has another name from now on, and has not ended under its old one.
    pub fn is_renaming(&self) -> bool {
        !self.renamed.is_empty()
    }

    /// The file of a vassal that was taken over and that no scan has found yet, if it is this file, whose
    /// name no vassal has.
    pub fn unclaimed(&self, file: &VassalFile, id: FileId) -> Option<&Rc<VassalFile>> {
        let is_it = |vassal: &Vassal| vassal.is_unclaimed && vassal.file_version.id() == id;
        let is_new = id.inode != 0 && self.vassal(file).is_none();
        self.vassals().find(|(_, vassal)| is_new && is_it(vassal)).map(|(file, _)| file)
    }

    /// What an instance is to be started with instead of its file.
    pub fn proven(&self, id: &InstanceId) -> Option<&Proven> {
        let vassal = self.vassal(&id.file)?;
        vassal.proven_for(vassal.instance(id.number)?)
    }

    /// The name of an instance, as log lines show it.
    pub fn name_of(&self, id: &InstanceId) -> String {
        let vassal = self.vassal(&id.file);
        vassal.map_or_else(|| id.file.shown(), |vassal| vassal.name_of(&id.file, id.number)).into_owned()
    }

    /// Whether the file of any vassal is to be checked that has not been given up, or waits to be sent.
    pub fn is_checking(&self) -> bool {
        let is_checked = |instance: &Instance| instance.check.as_ref().is_some_and(|check| !check.is_late);
        self.vassals().any(|(_, vassal)| vassal.instances.iter().any(is_checked))
            || self.starts.waiting().any(|id| self.instance(id).is_some_and(Instance::is_reloading))
    }

    /// Whether any vassal has a reload before it.
    pub fn is_reloading(&self) -> bool {
        self.vassals().any(|(_, vassal)| vassal.is_reloading())
    }

    /// The next thing to do.
    pub fn next_decision(&mut self) -> Option<Decision> {
        while let Some(decision) = self.decisions.pop_front() {
            // The instance may have been stopped since it was decided to start it.
            let is_due = match &decision {
                Decision::OfInstance(id, InstanceEffect::Spawn) => {
                    self.instance(id).is_some_and(Instance::lacks_process)
                }
                _ => true,
            };
            if is_due {
                return Some(decision);
            }
        }
        None
    }

    /// When [`Registry::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(&[self.timers.next(), self.starts.deadline(), self.rolls.deadline()])
    }

    /// Goes on with a vassal of another program.
    pub fn take_over(&mut self, file: &Rc<VassalFile>, mut vassal: Box<Vassal>, now: Instant) {
        for instance in &mut vassal.instances {
            instance.machine.set_backoff(self.rules.backoff.clone());
        }
        self.names.claim(file);
        if vassal.is_waiting() {
            self.push(file, Effect::Poll);
        }
        for instance in &vassal.instances {
            let id = InstanceId::new(file, instance.number);
            // What was under way goes on when its turn comes, and all others are known: how many instances a
            // vassal may have depends on all of its user's.
            self.timers.set(&id, Some(now));
            if instance.lacks_process() {
                self.starts.wait(&id, vassal.owner, vassal.is_urgent(instance));
            }
        }
        if vassal.instances.iter().any(|instance| instance.is_on_trial) {
            self.rolls.may(file, vassal.owner, now);
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
            Event::Renamed { from, version, owner } => self.renamed(&from, file, version, owner, now),
            Event::Touched(why, owner) => self.touched(file, why, owner),
            Event::Compared(text) => self.compared(file, text),
            Event::Changed(why) => self.refresh(file, why),
            Event::Removed(why) => self.removed(file, why, now),
            Event::Address { why, address } => self.address_known(file, &why, address, now),
            Event::AddressLate(error) => self.address_late(file, &error),
            // What has a process has used another version.
            Event::Seen(_) if self.vassal(file).is_some_and(Vassal::has_process) => {}
            Event::Seen(version) | Event::Reading(version) => {
                if let Some(vassal) = self.vassals.get_mut(file) {
                    vassal.file_version = version;
                }
                // Nothing else is decided: the process for which it was read is created next.
                return;
            }
            Event::Listening(address) => {
                self.log(file, format!("waiting for a connection to {address}"));
                self.push(file, Effect::Poll);
            }
            Event::ListenFailed(error) => {
                for id in self.those(file, |instance| instance.state() == State::Waiting) {
                    self.spawn_failed(&id, "", &error, now);
                }
            }
            Event::Connected => self.connected(file, now),
        }
        self.settle(file, now);
        self.begin_rolls(now);
    }

    /// Takes in an event of an instance.
    pub fn apply_to(&mut self, id: &InstanceId, event: InstanceEvent, now: Instant) {
        match event {
            InstanceEvent::ReadsSlowly => {
                // Those that wait for their turn do not wait for a filesystem. It sets up once it was read.
                self.starts.end(id);
                self.begin_starts(now);
            }
            InstanceEvent::Blocked(waits) => self.blocked(id, waits, now),
            InstanceEvent::Unblocked => self.unblocked(id, now),
            InstanceEvent::Spawned { pid, owner, text, is_of_before } => {
                self.spawned(id, ProcessFacts::new(pid, owner, text, now), is_of_before, now);
            }
            InstanceEvent::SpawnFailed(error) => self.spawn_failed(id, "cannot start: ", &error, now),
            InstanceEvent::ReloadSent(text) => {
                let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
                let sent = Box::new(vassal.used_file(text));
                if let Some(process) = self.process_mut(id) {
                    (process.asked_to_reload, process.sent) = (Some(now), Some(sent));
                }
                self.step(id, Input::Sent, now);
            }
            InstanceEvent::ReloadFailed(error) => self.reload_failed(id, &error, now),
            InstanceEvent::ReloadImpossible(why) => self.answered(id, Answer::NeedsRespawn, why, now),
            InstanceEvent::CheckBegun(within) => self.step(id, Input::Checking(within), now),
            InstanceEvent::CheckFailed { error, why } => self.check_failed(id, &error, why, now),
            InstanceEvent::Checked(answer, why) => self.checked(id, answer, why, now),
            InstanceEvent::Said(message) => self.said(id, message, now),
            InstanceEvent::Transcript(text) => self.said_transcript(id, text),
            InstanceEvent::Waits(what) => self.waits(id, what, now),
            InstanceEvent::LinkClosed(mistake) => self.link_closed(id, mistake, now),
            InstanceEvent::Ended => {
                if let Some(process) = self.process_mut(id) {
                    process.has_ended = true;
                }
                self.timers.set(id, None);
            }
            InstanceEvent::Died { status, out_of_memory } => self.died(id, status, out_of_memory, now),
        }
        self.settle(&id.file, now);
        self.begin_rolls(now);
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
    /// are more. `is_frozen` tells whether the process of an instance cannot run now, `is_at_work` whether it
    /// does anything but wait.
    pub fn time(
        &mut self,
        now: Instant,
        is_frozen: &dyn Fn(&InstanceId) -> bool,
        is_at_work: &dyn Fn(&InstanceId) -> bool,
    ) {
        self.starts.look(is_at_work, now);
        self.begin_starts(now);
        self.begin_rolls(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(id) = self.timers.due(now) else { break };
            self.time_of(&id, is_frozen, now);
            self.settle(&id.file, now);
        }
        self.begin_rolls(now);
    }

    /// Takes in that the timer of an instance is due.
    fn time_of(&mut self, id: &InstanceId, is_frozen: &dyn Fn(&InstanceId) -> bool, now: Instant) {
        let silence = self.rules.heartbeat;
        if self.refuses_late_check(id, now) || self.ends_trial(id, now) {
            return;
        }
        let Some(instance) = self.of(id) else { return self.timers.set(id, None) };
        if instance.has_ended() || instance.machine.deadline().is_none_or(|at| at > now) {
            if let Some(line) = instance.tell_late(now) {
                self.log_of(id, line);
            }
            return self.set_timer(id, now);
        }
        if self.has_more_time(id, is_frozen, now) {
            return;
        }
        let Some(instance) = self.of(id) else { return };
        match (instance.state(), &mut instance.process) {
            (State::Reloading { .. }, _) => {
                self.log_of(id, "the reload was not answered in time: restarting".to_owned());
            }
            (State::Running { .. }, Some(process)) => process.condemn(silence),
            _ => {}
        }
        // A process that does not die only gets more SIGKILLs until everything ends: a second instance in
        // its place could not work.
        self.step(id, if self.is_ending { Input::GiveUp } else { Input::Time }, now);
    }

    /// Whether an app that has given no heartbeat, or a reload without an answer, has more time. The time in
    /// which an instance is frozen does not count. It is looked for in the middle of the time between two
    /// heartbeats, too, so an app has at least half of that for itself.
    fn has_more_time(
        &mut self,
        id: &InstanceId,
        is_frozen: &dyn Fn(&InstanceId) -> bool,
        now: Instant,
    ) -> bool {
        let half = self.rules.heartbeat / 2;
        let is_ending = self.is_ending;
        let Some(instance) = self.of(id).filter(|_| !is_ending) else { return false };
        let (state, Some(process)) = (instance.machine.state(), &mut instance.process) else { return false };
        let input = match state {
            State::Running { .. } if is_frozen(id) => {
                process.is_half = true;
                Input::Heartbeat(half)
            }
            State::Running { .. } if std::mem::take(&mut process.is_half) => Input::Heartbeat(half),
            State::Reloading { settled: false, .. } if is_frozen(id) => Input::Sent,
            State::Reloading { settled: true, .. } if is_frozen(id) => Input::Checking(Duration::ZERO),
            _ => return false,
        };
        self.step(id, input, now);
        true
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
            let is_it = |version| version == vassal.file_version || vassal.is_remounted(version);
            let is_known = version.is_some_and(is_it);
            // One whose file was gone is ending, and one of another owner has to.
            std::mem::take(&mut vassal.is_unclaimed)
                && is_known
                && !vassal.has_lost_its_file()
                && vassal.is_own()
        });
        match (is_known, has_old_address) {
            (false, _) => self.touched(file, "file is back", version.and_then(|version| version.owner)),
            (true, true) => self.refresh(file, "its address may have changed"),
            (true, false) => {}
        }
        self.note_owner(file, owner);
    }

    /// Whether a new version of a file is the one of before, only on a filesystem that was mounted anew. From
    /// then on that is the vassal's.
    pub fn is_remounted(&mut self, file: &VassalFile, version: FileVersion) -> bool {
        self.vassals.get_mut(file).is_some_and(|vassal| vassal.is_remounted(version))
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
            (vassal.is_asking, vassal.is_comparing) = (true, false);
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
        (vassal.is_asking, vassal.is_roll) = (false, false);
        vassal.refused = None;
        vassal.instances.iter_mut().for_each(|instance| instance.is_unproven = false);
        let mistake = address.as_ref().err().map(|error| format!("{error}: not on demand"));
        vassal.on_demand = address.unwrap_or_default().map(Box::new);
        let (rolls, how) = (vassal.rolls(), vassal.how_it_is_refreshed());
        let is_own = vassal.is_own();
        if let Some(mistake) = mistake {
            self.log(file, mistake);
        }
        if let Some(how) = how {
            self.log(file, format!("{why}: {how}"));
        }
        if rolls {
            return self.roll(file, now);
        }
        self.stop_rolling(file, now);
        for (index, id) in self.staying(file).into_iter().enumerate() {
            // Another owner has none of the sockets: the first one binds them, and the others follow it.
            self.step(&id, if is_own || index == 0 { Input::Refresh } else { Input::Stop }, now);
        }
    }

    /// Nobody knows where it is to be waited for: whatever there is stays as it is.
    fn address_late(&mut self, file: &Rc<VassalFile>, error: &Error) {
        let Some(vassal) = self.vassals.get_mut(file).filter(|vassal| vassal.is_asking) else { return };
        vassal.is_asking = false;
        let told = match (vassal.has_process(), vassal.instances.first_mut()) {
            (false, Some(instance)) => &mut instance.history.past.last_end,
            _ => &mut vassal.refused,
        };
        *told = Some(error.to_string());
        self.log(file, format!("{error}; it stays as it is"));
    }

    fn removed(&mut self, file: &Rc<VassalFile>, why: &str, now: Instant) {
        let file = &self.known(file);
        self.forget_new_name(file);
        self.give_up(file, why, now);
    }

    /// The vassal of a file is to end for good.
    fn give_up(&mut self, file: &Rc<VassalFile>, why: &str, now: Instant) {
        self.names.stop_waiting(file);
        self.held_back.retain(|(other, _)| other != file);
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        (vassal.is_unclaimed, vassal.is_comparing) = (false, false);
        let how = if vassal.has_process() { "stopping" } else { "forgotten" };
        if std::mem::take(&mut vassal.is_asking) {
            self.push(file, Effect::ForgetAddress);
        }
        self.log(file, format!("{why}: {how}"));
        for id in self.those(file, |_| true) {
            self.step(&id, Input::Stop, now);
        }
    }

    fn connected(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let waiting = self.those(file, |instance| instance.state() == State::Waiting);
        if !waiting.is_empty() {
            self.log(file, "somebody connects: starting".to_owned());
        }
        for id in waiting {
            self.step(&id, Input::Connected, now);
        }
    }

    /// The file under the name that its vassal has. A vassal that was taken over keeps its name, whatever a
    /// directory or pattern of the new configuration makes of it.
    fn known(&self, file: &Rc<VassalFile>) -> Rc<VassalFile> {
        Rc::clone(self.vassals.key(file).unwrap_or(file))
    }

    fn files(&self) -> Vec<Rc<VassalFile>> {
        self.vassals().map(|(file, _)| Rc::clone(file)).collect()
    }

    /// The instances of a vassal that are so.
    fn those(&self, file: &Rc<VassalFile>, are_so: impl Fn(&Instance) -> bool) -> Vec<InstanceId> {
        let all = self.vassal(file).map(Vassal::instances).unwrap_or_default();
        all.iter().filter(|one| are_so(one)).map(|one| InstanceId::new(file, one.number)).collect()
    }

    /// The instances of a vassal, without those that are stopped because others have taken their place.
    fn staying(&self, file: &Rc<VassalFile>) -> Vec<InstanceId> {
        let all_leave = self.vassal(file).is_some_and(Vassal::has_lost_its_file);
        self.those(file, |instance| all_leave || !instance.is_leaving())
    }

    fn of(&mut self, id: &InstanceId) -> Option<&mut Instance> {
        self.vassals.get_mut(&id.file)?.instance_mut(id.number)
    }

    fn process_mut(&mut self, id: &InstanceId) -> Option<&mut ProcessFacts> {
        self.of(id)?.process.as_mut()
    }

    fn push(&mut self, file: &Rc<VassalFile>, effect: Effect) {
        self.decisions.push_back(Decision::OfVassal(Rc::clone(file), effect));
    }

    fn push_to(&mut self, id: &InstanceId, effect: InstanceEffect) {
        self.decisions.push_back(Decision::OfInstance(id.clone(), effect));
    }

    fn log(&mut self, file: &VassalFile, line: String) {
        self.decisions.push_back(Decision::Log { of: file.shown().into_owned(), line });
    }

    fn log_of(&mut self, id: &InstanceId, line: String) {
        let of = self.name_of(id);
        self.decisions.push_back(Decision::Log { of, line });
    }

    fn set_timer(&mut self, id: &InstanceId, now: Instant) {
        let vassal = self.vassals.get(&id.file);
        let at = vassal.and_then(|vassal| vassal.deadline(vassal.instance(id.number)?, &id.file, now));
        self.timers.set(id, at);
    }

    fn set_timers(&mut self, file: &Rc<VassalFile>, now: Instant) {
        for id in self.those(file, |_| true) {
            self.set_timer(&id, now);
        }
    }

    fn step_all(&mut self, input: Input, now: Instant) {
        for file in self.files() {
            for id in self.those(&file, |_| true) {
                self.step(&id, input, now);
            }
            self.settle(&file, now);
        }
    }

    fn step(&mut self, id: &InstanceId, input: Input, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let Some(instance) = vassal.instance(id.number) else { return };
        let (had_process, was_reloading) = (!instance.lacks_process(), instance.is_reloading());
        let mut output = vassal.step(id.number, input, now);
        let is_stopping = |instance: &Instance| matches!(instance.state(), State::Stopping { .. });
        if was_reloading && !vassal.instance(id.number).is_some_and(Instance::is_reloading) {
            self.starts.give_up(id);
        }
        if !had_process && vassal.instance(id.number).is_some_and(is_stopping) {
            // No death would ever be told.
            output = vassal.step(id.number, Input::Died, now);
            let others_start = vassal.instances.iter().any(Instance::lacks_process);
            self.give_up_start(id);
            if !others_start {
                self.push(&id.file, Effect::ForgetSocket);
            }
        }
        self.follow(id, output, now);
    }

    /// An instance is not to be created, or its file not to be checked, as was decided: only a later decision
    /// counts.
    fn give_up_start(&mut self, id: &InstanceId) {
        self.starts.give_up(id);
        self.decisions.retain(|decision| match decision {
            Decision::OfInstance(of, InstanceEffect::Spawn) => of != id,
            _ => true,
        });
        self.push_to(id, InstanceEffect::ForgetFile);
    }

    /// Starts instances that wait for their turn, or checks or sends their files, as many as may at a time.
    fn begin_starts(&mut self, now: Instant) {
        while let Some(id) = self.starts.begin(now) {
            let instance = self.instance(&id);
            let effect = match instance.and_then(|instance| instance.check.as_deref()) {
                Some(check) => InstanceEffect::CheckConfig { why: check.why.clone() },
                None if instance.is_some_and(Instance::is_reloading) => InstanceEffect::Reload,
                None => InstanceEffect::Spawn,
            };
            self.push_to(&id, effect);
        }
    }

    /// Queues the effects of a step of the state machine. To be called after each step.
    fn follow(&mut self, id: &InstanceId, output: Output, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let (owner, is_held) = (vassal.owner, !vassal.has(|state| state != State::Held));
        let Some(instance) = vassal.instance(id.number) else { return };
        let is_starting = matches!(instance.state(), State::Starting { .. });
        let is_reloading = instance.is_reloading();
        // The app of one that reloads is up.
        let is_urgent = is_starting && vassal.is_urgent(instance);
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        if instance.machine.deadline().is_none() {
            self.refusals.end(&mut instance.is_refused);
        }
        let is_stopping = matches!(instance.state(), State::Stopping { .. });
        let is_over = is_stopping || !matches!(output, Output::None | Output::Remind);
        let drops_check = is_over && instance.check.take().is_some();
        let is_checking = instance.check.is_some();
        let mut process = instance.process.as_mut();
        let mut effect = None;
        match (output, &mut process) {
            // It has to wait for its turn.
            (Output::Reload, Some(process)) => process.asked_to_reload = None,
            // It would not hear of it.
            (Output::AskToStop, Some(process)) if process.wait.is_some() => {
                process.condemn_for_waiting();
                return self.step(id, Input::Kill, now);
            }
            (Output::AskToStop, Some(process)) => {
                (process.ending.asked_to_stop, instance.is_late) = (Some(now), false);
                effect = Some(InstanceEffect::AskToStop);
            }
            (Output::Kill, Some(process)) if !process.has_ended => {
                let (why, pid) = (process.kill(now), process.pid);
                self.log_of(id, format!("{why}: killing pid {pid}"));
                effect = Some(InstanceEffect::Kill);
            }
            (Output::Remind, Some(_)) => effect = Some(InstanceEffect::Look),
            _ => {}
        }
        if drops_check {
            self.give_up_start(id);
        }
        match output {
            Output::Spawn | Output::Reload => {
                self.starts.end(id);
                self.starts.wait(id, owner, is_urgent);
            }
            Output::Listen => self.push(&id.file, Effect::Listen),
            Output::Forget => {
                self.starts.end(id);
                self.forget_instance(id, now);
                return self.begin_starts(now);
            }
            _ => {}
        }
        if let Some(effect) = effect {
            self.push_to(id, effect);
        }
        if !is_starting && !is_checking && !is_reloading {
            self.starts.end(id);
        }
        self.begin_starts(now);
        if is_held {
            // Clients are to be refused.
            self.push(&id.file, Effect::CloseDemand);
        }
        self.set_timer(id, now);
    }
}

#[cfg(test)]
mod tests;
