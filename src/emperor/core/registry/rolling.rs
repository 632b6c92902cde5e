//! The instances of a vassal that has several, or that replaces one by another.
//!
//! [`replicas`](crate::emperor::core::replicas) decides which one is started or stopped next. Here its
//! decisions are carried out, and it is decided when a new instance is good enough for others to be stopped.

use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::effect::InstanceEffect;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::machine::{Input, State};
use crate::emperor::core::replicas::{Member, Stage, Step, next_step};
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal::{Proven, Vassal};
use crate::emperor::core::vassal_file::VassalFile;
use crate::log::Elapsed;

impl Registry {
    /// Begins to replace all instances of a vassal by new ones, one after another.
    pub(super) fn roll(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        for instance in &mut vassal.instances {
            (instance.is_old, instance.is_on_trial, instance.is_unproven) = (true, false, false);
        }
        vassal.refused = None;
        if let Some(proven) = &mut vassal.proven {
            proven.is_of_before = true;
        }
        self.set_timers(file, now);
    }

    /// The instances of a vassal are not replaced any further. One that is on trial is stopped, unless there
    /// is no other one by now.
    pub(super) fn stop_rolling(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassal(file) else { return };
        let has_others = vassal.instances.iter().any(Instance::stays);
        let on_trial = self.those(file, |instance| instance.is_on_trial && has_others);
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        for instance in &mut vassal.instances {
            (instance.is_old, instance.is_on_trial) = (false, false);
        }
        for id in on_trial {
            self.step(&id, Input::Stop, now);
        }
    }

    /// Starts and stops instances until there is nothing to do but to wait. To be called after each event.
    pub(super) fn settle(&mut self, file: &Rc<VassalFile>, now: Instant) {
        self.replace_unready(file, now);
        loop {
            self.accept_trial(file, now);
            self.prove(file, now);
            let Some(vassal) = self.vassal(file).filter(|_| !self.is_ending) else { return };
            let is_rolling = vassal.is_rolling();
            if !(vassal.is_set() || is_rolling) || vassal.is_held() || vassal.has_lost_its_file() {
                return self.rolls.end(file);
            }
            let (announces, goes_back) = (vassal.announces, vassal.goes_back());
            let member = |it: &Instance| it.member(announces, goes_back, now);
            let members: Vec<_> = vassal.instances.iter().map(member).collect();
            let owner = vassal.owner;
            let is_old = |number| members.iter().any(|member| member.is_old && member.number == number);
            let is_on_trial = vassal.instances.iter().any(|instance| instance.is_on_trial);
            let is_reloading = |instance: &Instance| matches!(instance.state(), State::Reloading { .. });
            let is_unanswered = vassal.instances.iter().any(is_reloading);
            let next = next_step(&members, self.wanted(vassal));
            match next {
                // If it needs a fresh jail, as others did, it has not the sockets that a new one is to get.
                Step::Start(_) if !is_rolling && is_unanswered => return self.set_timers(file, now),
                Step::Start(_) if is_rolling && self.has_one_beside(owner, file) => {
                    return self.set_timers(file, now);
                }
                Step::Start(_) | Step::Stop(_) if is_rolling && !self.rolls.may(file, owner, now) => {
                    return self.set_timers(file, now);
                }
                // An old one that has come back is not one too many before the trial is over.
                Step::Stop(number) if is_on_trial && !is_old(number) => {
                    return self.set_timers(file, now);
                }
                Step::Start(number) => self.add(&InstanceId::new(file, number), now),
                Step::Stop(number) => {
                    let id = InstanceId::new(file, number);
                    let is_new_ready = |member: &Member| !member.is_old && member.stage == Stage::Ready;
                    let why = match is_old(number) {
                        true if !members.iter().any(is_new_ready) => "a later reload replaces it",
                        true => "another one has taken its place",
                        false => "fewer are wanted",
                    };
                    self.log_of(&id, format!("stopping: {why}"));
                    self.step(&id, Input::Stop, now);
                }
                Step::Wait => {
                    if !is_rolling {
                        self.rolls.end(file);
                    }
                    return self.set_timers(file, now);
                }
            }
        }
    }

    /// Has an instance replaced whose app fails its ready check, if others serve meanwhile. They may fail the
    /// same check, so the next one has to wait until this one is ready, or has had the time for that.
    fn replace_unready(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassal(file).filter(|_| !self.is_ending) else { return };
        let asks = |it: &&Instance| it.is_unready();
        let Some(number) = vassal.instances.iter().find(asks).map(|it| it.number) else { return };
        let others = || vassal.instances.iter().filter(|it| it.number != number && !it.is_leaving());
        let serves = |it: &Instance| {
            it.is_ready(vassal.announces, now) || it.not_ready_until().is_some_and(|at| at <= now)
        };
        // One that fails again and again is not waited for.
        let is_busy = |it: &Instance| match it.state() {
            State::Backoff { .. } => it.history.past.failures.is_some_and(|failures| failures.count == 1),
            _ => it.process().is_some() || it.lacks_process(),
        };
        if others().any(|it| is_busy(it) && !serves(it)) || others().next().is_some() && !others().any(serves)
        {
            return;
        }
        let id = InstanceId::new(file, number);
        self.push_to(&id, InstanceEffect::GiveUp);
        self.step(&id, Input::Leaving(self.rules.stop_timeout), now);
    }

    /// Lets vassals replace their instances whose turn has come, and those of a user have more of them who
    /// has room again.
    pub(super) fn begin_rolls(&mut self, now: Instant) {
        while let Some(owner) = self.freed.pop() {
            for file in self.files() {
                if self.vassal(&file).is_some_and(|vassal| vassal.owner == Some(owner)) {
                    self.settle(&file, now);
                }
            }
        }
        while let Some(file) = self.rolls.next(now) {
            self.settle(&file, now);
        }
    }

    /// Replaces the instances of all vassals that are up, one after another. Returns how many vassals these
    /// are.
    pub fn roll_all(&mut self, now: Instant) -> Count {
        let mut count = 0;
        for file in self.files() {
            let is_up = |vassal: &Vassal| vassal.instances.iter().any(Instance::is_up) && !vassal.is_held();
            if self.vassal(&file).is_some_and(is_up) {
                count += 1;
                self.log(&file, "its instances are replaced by command".to_owned());
                if let Some(vassal) = self.vassals.get_mut(&file) {
                    vassal.is_roll = true;
                }
                self.roll(&file, now);
                self.settle(&file, now);
            }
        }
        Count(count, "vassal")
    }

    /// Whether a vassal is to go on when one of its instances stops, with another one or with a new one.
    pub fn goes_on(&self, file: &VassalFile) -> bool {
        !self.is_ending && self.vassal(file).is_some_and(|it| !it.is_held() && !it.has_lost_its_file())
    }

    /// How many instances a vassal is to have. Its user may have only so many, of all vassals together.
    fn wanted(&self, vassal: &Vassal) -> u16 {
        let wanted = vassal.replication.replicas;
        let Some(owner) = vassal.owner else { return wanted };
        let left = |others: usize| self.rules.max_per_owner.saturating_sub(others);
        let all = left(self.instances_of(owner, |_| true).saturating_sub(vassal.instances.len()));
        // What is there for a moment only, as in a rolling reload, costs no other vassal an instance.
        let own = vassal.instances.iter().filter(|it| it.stays()).count();
        let kept = left(self.instances_of(owner, Instance::stays).saturating_sub(own)).min(own);
        wanted.min(u16::try_from(all.max(kept).max(1)).unwrap_or(u16::MAX))
    }

    /// Whether a user who has as many instances as allowed has one more already, of another vassal, which
    /// takes or leaves the place of another one. Otherwise all of a user's vassals could have one more, for
    /// as long as a new one takes to become ready.
    fn has_one_beside(&self, owner: Option<u32>, file: &VassalFile) -> bool {
        let is_beside = |it: &Instance| it.is_on_trial || it.is_leaving();
        owner.is_some_and(|owner| {
            self.instances_of(owner, |_| true) >= self.rules.max_per_owner
                && self.vassals().any(|(other, vassal)| {
                    **other != *file && vassal.is_of(owner) && vassal.instances.iter().any(is_beside)
                })
        })
    }

    /// Adds an instance, and starts it. If it is to take the place of another one, it is on trial.
    fn add(&mut self, id: &InstanceId, now: Instant) {
        let backoff = self.rules.backoff.clone();
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let mut instance = Instance::new(id.number, backoff);
        instance.is_on_trial = vassal.instances.iter().any(|other| other.is_old);
        vassal.instances.push(instance);
        self.step(id, Input::Release, now);
    }

    /// Takes in that an app runs: its vassal has as many instances as its file says. If others are to be
    /// stopped for it, or its file was not good enough for that, it has to be ready before.
    pub(super) fn adopt_replication(&mut self, id: &InstanceId, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let Some(instance) = vassal.instance(id.number) else { return };
        let (replication, is_tried) = (instance.replication(), instance.is_on_trial || instance.is_unproven);
        if is_tried || instance.is_old || !instance.is_up() || vassal.replication == replication {
            return;
        }
        vassal.replication = replication;
        vassal.proven.take_if(|_| !replication.is_rolling);
        let Some(vassal) = self.vassal(&id.file) else { return };
        let (wanted, asked) = (self.wanted(vassal), replication.replicas);
        if wanted < asked {
            let line =
                format!("{wanted} of {asked} replicas: its user may have no more (emperor-tyrant-max)");
            self.log(&id.file, line);
        }
        self.set_timers(&id.file, now);
    }

    /// Ends the trial of an instance that is ready: it is one of the vassal's, and others are stopped for it.
    /// One that has come back with a file that was not good enough so far is only one of them.
    fn accept_trial(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let announces = vassal.announces;
        let is_ready = |instance: &&mut Instance| {
            (instance.is_on_trial || instance.is_unproven) && instance.is_relied_on(announces, now)
        };
        let Some(instance) = vassal.instances.iter_mut().find(is_ready) else { return };
        let id = InstanceId::new(file, instance.number);
        if std::mem::take(&mut instance.is_unproven) {
            self.adopt_replication(&id, now);
            return self.set_timer(&id, now);
        }
        let is_replaced = |instance: &&Instance| instance.is_old && !instance.is_leaving();
        let before = vassal.instances.iter().rfind(is_replaced);
        let before = before.map(|old| (old.history.clone(), old.mountpoints.clone()));
        // Its own is taken next, if there is one.
        vassal.proven = None;
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        instance.is_on_trial = false;
        if let Some((history, mountpoints)) = before {
            instance.history.follow(&history);
            instance.mountpoints.follow(&mountpoints);
        }
        let born = instance.process().map_or(now, |process| process.born);
        let after = Elapsed(now.saturating_duration_since(born));
        self.log_of(&id, format!("takes over {after} after its start"));
        self.push_to(&id, InstanceEffect::TakeOver);
        self.adopt_replication(&id, now);
        self.set_timer(&id, now);
    }

    /// Notes what the configuration of instances was made of that can be relied on.
    fn prove(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file).filter(|it| it.replication.is_rolling) else { return };
        for instance in vassal.instances.iter_mut().filter(|it| it.is_one_for_good() && !it.is_unproven) {
            let is_relied_on = instance.is_relied_on(vassal.announces, now);
            let Some(process) = instance.process.as_mut().filter(|_| is_relied_on) else { continue };
            if let Some(transcript) = process.transcript.take() {
                let (text, owner, file) = (transcript.0, process.owner, process.file);
                vassal.proven = Some(Box::new(Proven { text, owner, file, is_of_before: false }));
            }
        }
    }

    /// Whether an instance is on trial, and its time is over.
    pub(super) fn ends_trial(&mut self, id: &InstanceId, now: Instant) -> bool {
        let Some(until) = self.of(id).and_then(|instance| instance.trial_until()) else { return false };
        if until > now {
            return false;
        }
        // It may have become ready at this very moment.
        self.accept_trial(&id.file, now);
        let announces = self.vassal(&id.file).is_some_and(|vassal| vassal.announces);
        let Some(instance) = self.of(id).filter(|it| it.trial_until().is_some()) else { return true };
        let announces = announces && !instance.replication().says_ready;
        let time = Elapsed(instance.replication().ready_timeout);
        let what = match instance.state() {
            State::Starting { .. } => "still setting up",
            _ => "not ready",
        };
        let mut why = format!("{what} after {time} (ready-timeout)");
        if announces && matches!(instance.state(), State::Running { .. }) {
            why += ": apps of this vassal have said so; 'emperor stop' forgets that";
        }
        let is_better =
            |it: &Instance| it.number != id.number && it.is_up() && !it.is_on_trial && !it.is_unproven;
        if !std::mem::take(&mut instance.is_unproven) {
            self.trial_failed(id, why, now);
        } else if self.vassal(&id.file).is_some_and(|vassal| vassal.instances.iter().any(is_better)) {
            let until = "its file changes, or 'emperor start'";
            self.log_of(id, format!("{why} with what was not taken: stopping until {until}"));
            self.step(id, Input::Leave, now);
        } else {
            // There is nothing better.
            self.adopt_replication(id, now);
            self.set_timer(id, now);
        }
        true
    }

    /// An instance on trial has failed: it is stopped, and the others go on. The next change of the file
    /// tries again.
    pub(super) fn trial_failed(&mut self, id: &InstanceId, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        if !vassal.instance(id.number).is_some_and(|instance| instance.is_on_trial) {
            return;
        }
        let is_only = !vassal.instances.iter().any(Instance::stays);
        let count = vassal.instances.iter().filter(|it| it.stays() && it.is_old).count();
        for instance in &mut vassal.instances {
            (instance.is_old, instance.is_on_trial) = (false, false);
        }
        vassal.refused = Some(why.clone());
        let (what, with) = if vassal.is_roll { ("roll", "vassal-init") } else { ("reload", "file") };
        let mut line = format!("{what} refused: {why}");
        if count > 0 {
            let count = Count(count as u64, "instance");
            line += &format!("; still with the {with} of before: {count}");
        }
        self.log_of(id, line);
        if !is_only {
            self.step(id, Input::Stop, now);
        }
    }

    /// The apps of a vassal on demand have left one after another: the next client starts it.
    pub(super) fn wait_for_clients(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassals.get(file) else { return };
        if vassal.on_demand.is_none() || vassal.has_process() || self.is_ending {
            return;
        }
        for id in self.those(file, |instance| instance.state() == State::Idle) {
            self.step(&id, Input::Refresh, now);
        }
    }

    /// No instance of a vassal is up or will be soon, and its sockets are closed: one will be the first to
    /// bind them anew, and the others follow it.
    pub(super) fn reduce(&mut self, file: &Rc<VassalFile>, now: Instant) {
        let Some(vassal) = self.vassals.get(file) else { return };
        if vassal.instances.len() < 2 || vassal.is_back_soon(now) {
            return;
        }
        let order = |instance: &&Instance| (instance.machine.deadline().is_none(), instance.number);
        let stays = vassal.instances.iter().min_by_key(order).map(|instance| instance.number);
        for id in self.those(file, |instance| Some(instance.number) != stays) {
            self.step(&id, Input::Stop, now);
        }
    }
}
