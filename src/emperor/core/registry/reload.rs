//! The answers to reloads.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Registry;
use crate::emperor::core::effect::Effect;
use crate::emperor::core::instance::{Check, Instance};
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::machine::{Answer, Input, Output, State, Then};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::error::Error;

impl Registry {
    /// The file of a vassal has another version. If only what it says counts, that is found out first;
    /// but an app does not go on for a user whose file it is not any more, whatever that says.
    pub(super) fn touched(&mut self, file: &Rc<VassalFile>, why: &str, owner: Option<Owner>) {
        if let Some(vassal) = self.vassals.get_mut(file).filter(|_| owner.is_some()) {
            (vassal.owner, vassal.file_version.owner) = (owner.map(|owner| owner.uid), owner);
        }
        let compares = |vassal: &Vassal| vassal.text().is_some() && vassal.is_own();
        match self.vassals.get_mut(file).filter(|vassal| compares(vassal)) {
            Some(vassal) => {
                vassal.is_comparing = true;
                self.push(file, Effect::Compare);
            }
            None => self.refresh(file, why),
        }
    }

    /// Takes in what the file of a vassal says by now.
    pub(super) fn compared(&mut self, file: &Rc<VassalFile>, text: Option<u64>) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        if !std::mem::take(&mut vassal.is_comparing) {
            return;
        }
        if text.is_none() || text != vassal.text() {
            return self.refresh(file, "file changed");
        }
        // The refused one is gone.
        vassal.refused = None;
        self.log(file, "file touched: it says what it said before, and the app goes on".to_owned());
    }

    /// Takes in that the file cannot be read, so that nothing was sent. The app goes on.
    pub(super) fn reload_failed(&mut self, id: &InstanceId, error: &Error, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        vassal.refused = Some(error.to_string());
        let output = vassal.step(id.number, Input::Answered(Answer::Refused), now);
        self.log_of(id, format!("cannot reload: {error}; the app goes on as it was"));
        self.follow(id, output, now);
    }

    /// Takes in the answer to a reload. If it asks for a fresh start, a separate process first checks whether
    /// the new file can be used at all, so that the app is not stopped for a file that cannot. The check
    /// waits for its turn, as a start does.
    pub(super) fn answered(&mut self, id: &InstanceId, answer: Answer, why: String, now: Instant) {
        let checks_config = self.rules.checks_config;
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        let owner = vassal.owner;
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        let is_asked = matches!(instance.state(), State::Reloading { .. });
        if is_asked && answer == Answer::NeedsRespawn && checks_config {
            instance.check = Some(Box::new(Check { why, is_late: false }));
            // Its time begins with its turn.
            instance.machine.step(Input::Checking(Duration::MAX), now);
            self.set_timer(id, now);
            self.starts.end(id);
            // It may have been said twice.
            self.starts.give_up(id);
            self.starts.wait(id, owner, false);
            self.begin_starts(now);
        } else {
            self.conclude(id, answer, why, now);
        }
    }

    /// Takes in that no process can be created to read the new configuration.
    pub(super) fn check_failed(&mut self, id: &InstanceId, error: &Error, why: String, now: Instant) {
        self.log_of(id, format!("{error}: its file is not read before it is restarted"));
        self.checked(id, Answer::NeedsRespawn, why, now);
    }

    /// Takes in the result of the process that read the new configuration.
    pub(super) fn checked(&mut self, id: &InstanceId, answer: Answer, why: String, now: Instant) {
        let Some(instance) = self.of(id) else { return };
        let Some(check) = instance.check.take() else { return };
        if check.is_late && matches!(instance.state(), State::Running { .. }) {
            // The app need not be asked a second time.
            instance.machine.step(Input::Refresh, now);
        }
        self.conclude(id, answer, why, now);
    }

    /// Whether the vassal's time is over because the check of its new configuration takes too long. It is not
    /// known then whether the configuration can be used, so the reload is refused.
    pub(super) fn refuses_late_check(&mut self, id: &InstanceId, now: Instant) -> bool {
        let Some(instance) = self.of(id) else { return false };
        let (State::Reloading { .. }, Some(check)) = (instance.state(), &mut instance.check) else {
            return false;
        };
        check.is_late = true;
        let why = format!("reading the new file takes too long: {}", check.why);
        self.conclude(id, Answer::Refused, why, now);
        true
    }

    /// Carries out the final answer to a reload, if a reload was requested.
    fn conclude(&mut self, id: &InstanceId, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(&id.file) else { return };
        // As at the first start, one instance binds what is new, and the others follow it.
        let is_before = |it: &Instance| match it.state() {
            State::Starting { .. } | State::Stopping { then: Then::Respawn, .. } => it.number != id.number,
            _ => false,
        };
        let binds_first = vassal.instances.iter().any(is_before);
        let Some(instance) = vassal.instance_mut(id.number) else { return };
        let (state, replication) = (instance.state(), instance.replication());
        let (State::Reloading { .. }, Some(process)) = (state, &mut instance.process) else { return };
        if answer == Answer::NeedsRespawn && binds_first {
            self.log_of(id, format!("needs a fresh jail: {why}: stopping until another one runs"));
            return self.step(id, Input::Stop, now);
        }
        let took = process.reloading_for(now);
        if let (true, Some(said)) = (std::mem::take(&mut instance.is_late), &mut process.said.0) {
            said.status.clear();
        }
        let history = &mut instance.history;
        if let (Answer::Reloaded, Some(runs)) = (answer, &mut history.runs) {
            if let Some(sent) = process.sent.take() {
                (process.file, process.transcript) = (*sent, None);
            }
            history.reloads += 1;
            runs.last = now;
            vassal.replication = replication;
            // Nobody has told what the app is made of by now.
            vassal.proven = None;
        }
        let output = vassal.step(id.number, Input::Answered(answer), now);
        let what = match answer {
            Answer::Reloaded => format!("reloaded after {took}"),
            Answer::Refused => format!("reload refused: {why}"),
            Answer::NeedsRespawn => format!("needs a fresh jail: {why}"),
        };
        let next = match (output, answer) {
            (Output::Reload, _) => "; reloading once more",
            (Output::AskToStop, _) => ": restarting",
            (_, Answer::Refused) => "; the app goes on as it was",
            _ => "",
        };
        vassal.refused = (answer == Answer::Refused && output == Output::None).then_some(why);
        self.log_of(id, format!("{what}{next}"));
        self.follow(id, output, now);
    }
}
