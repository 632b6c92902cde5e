//! The births of processes, and their deaths, up to that of a vassal.

use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::effect::{Effect, InstanceEffect};
use crate::emperor::core::history::Runs;
use crate::emperor::core::instance::ProcessFacts;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::machine::{Input, State};
use crate::emperor::core::vassal_file::VassalFile;
use crate::error::Error;
use crate::protocol::WaitStatus;

/// How that begins which is told of an instance that may not start yet.
const WAITS: &str = "waits: ";

impl Registry {
    pub(super) fn spawned(
        &mut self,
        id: &InstanceId,
        mut process: ProcessFacts,
        is_of_before: bool,
        now: Instant,
    ) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let (owner, refused, is_roll) = (vassal.owner, vassal.refused.clone(), vassal.is_roll);
        let is_only = vassal.instances.len() == 1;
        let is_doubtful = !is_of_before && !is_only && (refused.is_some() || vassal.is_rolling());
        process.file = match &vassal.proven {
            Some(proven) if is_of_before => proven.file,
            _ => vassal.used_file(process.file.text),
        };
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        let pid = process.pid;
        (instance.process, instance.app, instance.is_late) = (Some(process), None, false);
        instance.is_unproven = is_doubtful && !instance.is_on_trial;
        instance.is_unready = false;
        let refused_before = self.refusals.end(&mut instance.is_refused);
        instance.machine.step(Input::Spawned, now);
        if matches!(instance.state(), State::Starting { .. }) {
            self.starts.set_up(id, owner, now);
        }
        let history = &mut instance.history;
        if history.past.last_end.as_ref().is_some_and(|why| why.starts_with(WAITS)) {
            history.past.last_end = None;
        }
        if history.instances > 0 {
            history.past.recent.add(now);
        }
        history.instances += 1;
        history.output.clear();
        history.warnings.clear();
        history.runs = Some(Runs { first: history.runs.map_or(now, |runs| runs.first), last: now });
        if is_only && !is_of_before {
            vassal.refused = None;
        }
        self.set_timer(id, now);
        self.log_of(id, format!("started (pid {pid})"));
        // One alone has told all of it.
        if refused_before > 1 {
            self.log_of(id, format!("it was the last of up to {refused_before} that could not start"));
        }
        let which = match (is_of_before, is_roll) {
            (true, true) => "of before, as the roll",
            (true, false) => "of before, as the reload",
            (false, _) => "whose reload",
        };
        if let Some(why) = refused.filter(|_| is_of_before || !is_roll) {
            self.log_of(id, format!("it was started with the file {which} was refused: {why}"));
        } else if is_of_before {
            self.log_of(id, "it was started with the file of before, as the new one is on trial".to_owned());
        }
        self.push_to(id, InstanceEffect::RunCommands);
    }

    /// No process may be created until something has happened.
    pub(super) fn blocked(&mut self, id: &InstanceId, what: &str, now: Instant) {
        self.starts.end(id);
        let waits = WAITS.to_owned() + what;
        let Some(instance) = self.of(id) else { return };
        if instance.history.past.last_end.as_ref() != Some(&waits) {
            instance.history.past.last_end = Some(waits.clone());
            self.log_of(id, waits);
        }
        self.begin_starts(now);
    }

    /// An instance that something has kept from starting waits for its turn again.
    pub(super) fn unblocked(&mut self, id: &InstanceId, now: Instant) {
        let Some(vassal) = self.vassal(&id.file) else { return };
        let Some(instance) = vassal.instance(id.number).filter(|one| one.lacks_process()) else { return };
        let (owner, is_urgent) = (vassal.owner, vassal.is_urgent(instance));
        self.starts.give_up(id);
        self.starts.wait(id, owner, is_urgent);
        self.begin_starts(now);
    }

    pub(super) fn spawn_failed(&mut self, id: &InstanceId, what: &str, error: &Error, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let output = vassal.step(id.number, Input::SpawnFailed, now);
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        let next = instance.what_follows(now);
        instance.ended(error.to_string(), false, (now, self.date));
        if self.refusals.add(&mut instance.is_refused, error) {
            self.log_of(id, format!("{what}{error}{next}"));
        }
        self.follow(id, output, now);
        self.trial_failed(id, error.to_string(), now);
    }

    pub(super) fn died(&mut self, id: &InstanceId, status: WaitStatus, out_of_memory: bool, now: Instant) {
        let file = &id.file;
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let is_on_demand = vassal.on_demand.is_some();
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        let Some(process) = instance.process.take() else { return };
        // Its next process has the present file, or that of before where the vassal has it.
        let was_old = std::mem::take(&mut instance.is_old);
        let is_kernels = out_of_memory && process.ending.killed.is_none();
        self.tally.ended(process.ending.exit_reason.as_ref(), is_kernels);
        let is_meant = process.ending.asked_to_stop.is_some();
        instance.down_since = instance.down_since.or(Some(now)).filter(|_| !is_meant);
        let mut why = process.why_it_ended(status, out_of_memory);
        if !is_on_demand && process.seems_to_have_left(now) {
            why += ": does it go into the background?";
        }
        let input = process.end(status);
        let is_asked = process.ending.asked_to_stop.is_some() || is_on_demand && input == Input::Left;
        let output = vassal.step(id.number, input, now);
        let (is_only, goes_back) = (vassal.instances.len() == 1, vassal.goes_back());
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        // New instances do not wait until one of the file of before has been tried again.
        let waits = matches!(instance.state(), State::Backoff { .. } | State::Invalid { .. });
        instance.is_old = was_old && (waits && !is_only || goes_back && instance.comes_back());
        let line = format!("{why}; {}{}", process.how_long(now), instance.what_follows(now));
        instance.mountpoints.instance_ended();
        instance.ended(why.clone(), is_asked, (now, self.date));
        let comes_back = !instance.is_on_trial && instance.machine.deadline().is_some();
        let is_refused = vassal.refused.is_some() && !vassal.is_roll;
        let goes_back = vassal.instance(id.number).and_then(|it| vassal.proven_for(it)).is_some();
        let with = match comes_back {
            true if goes_back => " with the file of before",
            true if is_refused => " with the file that was refused",
            _ => "",
        };
        let is_back_soon = vassal.is_back_soon(now);
        let for_good = !vassal.has(|state| state != State::Idle);
        self.log_of(id, line + with);
        if !is_back_soon && !self.has_another_name(file) {
            self.push(file, Effect::CloseSockets { for_good });
        }
        self.follow(id, output, now);
        self.trial_failed(id, why, now);
        if !is_back_soon {
            self.reduce(file, now);
            self.wait_for_clients(file, now);
        }
        self.begin_beside(file, now);
    }

    /// There is no such instance any more. A process that is still there is left behind.
    pub(super) fn forget_instance(&mut self, id: &InstanceId, now: Instant) {
        self.timers.set(id, None);
        let stuck = self.of(id).and_then(|instance| instance.process.take());
        if let Some(process) = stuck {
            let (pid, killed) = (process.pid, process.killed_for(now));
            self.given_up += 1;
            let line = format!("pid {pid} is stuck in the kernel: not gone {killed} after SIGKILL: given up");
            self.log_of(id, line);
        }
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        // Its file is back, and the last one starts again once its address is known.
        let is_back = vassal.is_asking && vassal.instances.len() == 1 && !self.is_ending;
        vassal.instances.retain(|instance| is_back || instance.number != id.number);
        let owner = vassal.owner;
        if vassal.instances.is_empty() {
            self.forget(&id.file, now);
        }
        self.set_timers(&id.file, now);
        if !self.is_ending {
            self.admit(owner);
            self.freed.extend(owner);
        }
    }

    /// There is no such vassal any more; its name is free.
    fn forget(&mut self, file: &Rc<VassalFile>, now: Instant) {
        self.vassals.remove(file);
        self.rolls.end(file);
        let named = self.names.release(file);
        let mut has_them = true;
        while !self.is_ending
            && let Some(renamed) = self.take_renamed(file)
        {
            self.go_on_as(renamed, has_them, now);
            has_them = false;
        }
        self.push(file, Effect::Remove);
        if !self.is_ending {
            self.begin_parked(file, now);
        }
        if let Some(next) = named.filter(|_| !self.is_ending) {
            self.begin_turn(&next);
        }
    }
}
