//! Orders to vassals, and their outcomes.

use std::ffi::OsStr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Registry;
use crate::config::keys::suggest;
use crate::emperor::core::effect::InstanceEffect;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::machine::{End, Input, State};
use crate::emperor::core::order::{Order, Outcome};
use crate::emperor::core::text::readable;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::{VassalFile, vassal_name};

/// A request to stop that comes so much later is a second one, also for PID 1.
const AGAIN: Duration = Duration::from_secs(1);

impl Registry {
    /// Carries out an order, and returns the first answer to it. With `at_once` a stop kills the app.
    ///
    /// # Errors
    /// There is no such vassal, or its state does not allow the order.
    pub fn handle_order(
        &mut self,
        (order, at_once): (Order, bool),
        name: &OsStr,
        now: Instant,
    ) -> Result<String, String> {
        let Some(file) = self.names.get(name).cloned() else {
            return Err(self.unknown(name));
        };
        let insists = order == Order::Stop && (self.insists(&file, now) || at_once);
        let Some(vassal) = self.vassals.get(&file) else { return Ok(String::new()) };
        let (is_up, is_held) = (vassal.has_process(), vassal.is_held());
        let how = match order {
            Order::Reload | Order::Start if vassal.has_lost_its_file() => {
                return Err(format!("{}: its file is gone", file.shown()));
            }
            Order::Reload if is_held => {
                return Err(format!("{} was stopped by command: 'emperor start' starts it", file.shown()));
            }
            Order::Reload => {
                self.refresh(&file, "reload by command");
                return Ok(format!("{}: told to reload", file.shown()));
            }
            Order::Stop if is_held && !is_up => "stopped already",
            Order::Stop if insists && is_up => "stopping: its app is killed",
            Order::Stop if is_up => "stopping",
            Order::Stop => "stopped",
            Order::Start if vassal.has(|state| matches!(state, State::Starting { .. })) => "started already",
            Order::Start if vassal.instances.iter().any(Instance::is_up) => "started already",
            Order::Start if vassal.has(|state| matches!(state, State::Stopping { .. })) => {
                "starting again as soon as it has stopped"
            }
            Order::Start => "starting",
        };
        let (word, input) = match order {
            Order::Stop => ("stop", Input::Hold),
            Order::Start | Order::Reload => ("start", Input::Release),
        };
        self.log(&file, format!("{word} by command: {how}"));
        if order == Order::Stop {
            if let Some(vassal) = self.vassals.get_mut(&file) {
                // The apps of a file that was refused may be others, which do not say that they are ready.
                vassal.announces &= vassal.refused.is_none();
                vassal.proven = None;
            }
            self.stop_rolling(&file, now);
        }
        for id in self.staying(&file) {
            self.step(&id, input, now);
        }
        if order == Order::Stop && at_once {
            for id in self.those(&file, |it| it.process().is_some() && !it.has_ended()) {
                self.push_to(&id, InstanceEffect::KillApp);
            }
        }
        self.reduce(&file, now);
        self.settle(&file, now);
        Ok(format!("{}: {how}", file.shown()))
    }

    /// Asks the instances once more that a command has stopped a while ago: their PID 1s then kill their
    /// apps. Returns whether there is one.
    fn insists(&mut self, file: &Rc<VassalFile>, now: Instant) -> bool {
        let is_asked = |instance: &Instance| {
            let asked = instance.process().and_then(|process| process.ending.asked_to_stop);
            instance.is_held()
                && matches!(instance.state(), State::Stopping { end: End::Asked | End::Announced, .. })
                && asked.is_some_and(|at| now.saturating_duration_since(at) > AGAIN)
        };
        let late = self.those(file, is_asked);
        late.iter().for_each(|id| self.push_to(id, InstanceEffect::AskToStop));
        !late.is_empty()
    }

    /// The outcome of an order that was [given](Self::handle_order), and the status of the vassal.
    pub fn outcome(&self, order: Order, name: &OsStr, now: Instant) -> (Outcome, String) {
        let shown = readable(name);
        let found = self.meant(name).and_then(|(file, one)| Some((file, one, self.vassals.get(file)?)));
        let Some((file, one, vassal)) = found else {
            // What was told to stop existed, and has been removed since.
            return match order {
                Order::Stop => (Outcome::Done, format!("{shown}: its file is gone")),
                Order::Reload | Order::Start => (Outcome::Failed, self.unknown(name)),
            };
        };
        let all = vassal.instances.iter().filter(|it| one.is_none_or(|one| one == it.number));
        let outcomes = all.clone().map(|instance| outcome_of(order, vassal, instance, now));
        // One that is still waited for, or else one that has failed, says more than the others.
        let telling = |outcome: &Outcome| match outcome {
            Outcome::Pending => 2,
            Outcome::Failed => 1,
            Outcome::Done => 0,
        };
        let outcomes = outcomes.zip(all);
        let found = match order {
            // A vassal is up if one of its instances is.
            Order::Start => outcomes.min_by_key(|(outcome, _)| telling(outcome)),
            Order::Reload | Order::Stop => outcomes.max_by_key(|(outcome, _)| telling(outcome)),
        };
        let Some((outcome, instance)) = found else { return (Outcome::Pending, shown.into_owned()) };
        (outcome, format!("{shown}: {}", vassal.status(instance, file, now).line()))
    }

    /// The answer about a name that no vassal has. A client may have used uWSGI's id, which is the name of
    /// the file.
    pub(super) fn unknown(&self, name: &OsStr) -> String {
        let shown = name.display();
        if let Some((file, _)) = self.meant(name) {
            let all = file.shown();
            let what = "is one of several instances, which are reloaded, stopped and started together";
            return format!("{shown} {what}: '{all}'");
        }
        let mut text = format!("there is no vassal '{shown}'");
        if self.is_pattern_of_some(name) {
            return text + ": one NAME is taken here, and no pattern";
        }
        let close = || {
            let names: Vec<_> = self.vassals().filter_map(|(file, _)| file.name().to_str()).collect();
            suggest::probable(name.to_str()?, &names).map(OsStr::new)
        };
        let meant = Some(vassal_name(name)).filter(|meant| self.names.get(meant).is_some());
        if let Some(meant) = meant.or_else(close) {
            text = text + ": did you mean '" + &readable(meant) + "'?";
        }
        text
    }
}

/// A vassal whose app is to start is waited for until that is ready.
fn outcome_of(order: Order, vassal: &Vassal, instance: &Instance, now: Instant) -> Outcome {
    match instance.state() {
        _ if vassal.is_asking => Outcome::Pending,
        State::Stopping { .. } => Outcome::Pending,
        State::Held if order == Order::Stop => Outcome::Done,
        // Another order was given since.
        State::Held => Outcome::Failed,
        _ if order == Order::Stop => Outcome::Failed,
        State::Backoff { .. } | State::Invalid { .. } => Outcome::Failed,
        _ if instance.is_old || instance.is_on_trial => Outcome::Pending,
        State::Starting { .. } | State::Reloading { .. } => Outcome::Pending,
        State::Running { .. } if order == Order::Reload && vassal.refused.is_some() => Outcome::Failed,
        // A new app may still end soon after it has said that it is ready.
        State::Running { .. } if order == Order::Reload => match instance.is_relied_on(vassal.announces, now)
        {
            true => Outcome::Done,
            false => Outcome::Pending,
        },
        State::Running { .. } if instance.is_ready(vassal.announces, now) => Outcome::Done,
        State::Running { .. } => Outcome::Pending,
        State::Waiting => Outcome::Done,
        State::Idle => Outcome::Failed,
    }
}
