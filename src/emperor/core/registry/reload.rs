//! The answers to reloads.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Registry;
use crate::emperor::core::instance::Check;
use crate::emperor::core::machine::{Answer, Input, Output, State};
use crate::emperor::core::vassal_file::VassalFile;
use crate::error::Error;

impl Registry {
    /// Takes in that the file cannot be read, so that nothing was sent. The app goes on.
    pub(super) fn reload_failed(&mut self, file: &Rc<VassalFile>, error: &Error, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        vassal.history.refused = Some(error.to_string());
        let output = vassal.instance.machine.step(Input::Answered(Answer::Refused), now);
        self.log(file, format!("cannot reload: {error}; the app goes on as it was"));
        self.follow(file, output, now);
    }

    /// Takes in the answer to a reload. If it asks for a fresh start, a separate process first checks whether
    /// the new file can be used at all, so that the app is not stopped for a file that cannot. The check
    /// waits for its turn, as a start does.
    pub(super) fn answered(&mut self, file: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let is_asked = matches!(vassal.state(), State::Reloading { .. });
        if is_asked && answer == Answer::NeedsRespawn && self.rules.checks_config {
            vassal.instance.check = Some(Check { why, is_late: false });
            // Its time begins with its turn.
            vassal.instance.machine.step(Input::Checking(Duration::MAX), now);
            self.timers.set(file, vassal.deadline(file));
            // It may have been said twice.
            self.starts.give_up(file);
            self.starts.wait(file, vassal.owner, false);
            self.begin_starts(now);
        } else {
            self.conclude(file, answer, why, now);
        }
    }

    /// Takes in that no process can be created to read the new configuration.
    pub(super) fn check_failed(&mut self, file: &Rc<VassalFile>, error: &Error, why: String, now: Instant) {
        self.log(file, format!("{error}: its file is not read before it is restarted"));
        self.checked(file, Answer::NeedsRespawn, why, now);
    }

    /// Takes in the result of the process that read the new configuration.
    pub(super) fn checked(&mut self, file: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let Some(check) = vassal.instance.check.take() else { return };
        if check.is_late && matches!(vassal.state(), State::Running { .. }) {
            // The app need not be asked a second time.
            vassal.instance.machine.step(Input::Refresh, now);
        }
        self.conclude(file, answer, why, now);
    }

    /// Whether the vassal's time is over because the check of its new configuration takes too long. It is not
    /// known then whether the configuration can be used, so the reload is refused.
    pub(super) fn refuses_late_check(&mut self, file: &Rc<VassalFile>, now: Instant) -> bool {
        let Some(vassal) = self.vassals.get_mut(file) else { return false };
        let (State::Reloading { .. }, Some(check)) = (vassal.state(), &mut vassal.instance.check) else {
            return false;
        };
        check.is_late = true;
        let why = format!("reading the new file takes too long: {}", check.why);
        self.conclude(file, Answer::Refused, why, now);
        true
    }

    /// Carries out the final answer to a reload, if a reload was requested.
    fn conclude(&mut self, file: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let (State::Reloading { .. }, Some(process)) = (vassal.state(), &vassal.instance.process) else {
            return;
        };
        let took = process.reloading_for(now);
        let history = &mut vassal.history;
        if let (Answer::Reloaded, Some(runs)) = (answer, &mut history.runs) {
            history.reloads += 1;
            runs.last = now;
        }
        let output = vassal.instance.machine.step(Input::Answered(answer), now);
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
        history.refused = (answer == Answer::Refused && output == Output::None).then_some(why);
        self.log(file, format!("{what}{next}"));
        self.follow(file, output, now);
    }
}
