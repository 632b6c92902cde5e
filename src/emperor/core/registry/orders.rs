//! Orders to vassals, and their outcomes.

use std::ffi::OsStr;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::machine::{Input, State, UP};
use crate::emperor::core::order::{Order, Outcome};
use crate::emperor::core::text::readable;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::vassal_name;

impl Registry {
    /// Carries out an order, and returns the first answer to it.
    ///
    /// # Errors
    /// There is no such vassal, or its state does not allow the order.
    pub fn handle_order(&mut self, order: Order, name: &OsStr, now: Instant) -> Result<String, String> {
        let Some(file) = self.names.get(name).cloned() else {
            return Err(self.unknown(name));
        };
        let Some(vassal) = self.vassals.get(&file) else { return Ok(String::new()) };
        let (is_up, is_held) = (vassal.instance.process.is_some(), vassal.is_held());
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
            Order::Stop if is_up => "stopping",
            Order::Stop => "stopped",
            Order::Start => match vassal.state() {
                State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => "started already",
                State::Stopping { .. } => "starting again as soon as it has stopped",
                State::Idle | State::Backoff { .. } | State::Invalid { .. } => "starting",
                State::Held | State::Waiting => "starting",
            },
        };
        let (word, input) = match order {
            Order::Stop => ("stop", Input::Hold),
            Order::Start | Order::Reload => ("start", Input::Release),
        };
        self.log(&file, format!("{word} by command: {how}"));
        self.step(&file, input, now);
        Ok(format!("{}: {how}", file.shown()))
    }

    /// The outcome of an order that was [given](Self::handle_order), and the status of the vassal.
    pub fn outcome(&self, order: Order, name: &OsStr, now: Instant) -> (Outcome, String) {
        let shown = readable(name);
        let found = self.names.get(name).and_then(|file| Some((file, self.vassals.get(file)?)));
        let Some((file, vassal)) = found else {
            // The vassal existed, and has been removed since.
            let outcome = if order == Order::Stop { Outcome::Done } else { Outcome::Failed };
            return (outcome, format!("{shown}: its file is gone"));
        };
        (outcome_of(order, vassal, now), format!("{shown}: {}", vassal.status(file, now).line()))
    }

    /// The answer about a name that no vassal has. A client may have used uWSGI's id, which is the name of
    /// the file.
    pub(super) fn unknown(&self, name: &OsStr) -> String {
        let mut text = format!("there is no vassal '{}'", name.display());
        let meant = vassal_name(name);
        if self.names.get(meant).is_some() {
            text = text + ": did you mean '" + &readable(meant) + "'?";
        }
        text
    }
}

/// An app counts as started when it has been up for a moment. If apps of this vassal say that they are ready,
/// that is waited for.
fn outcome_of(order: Order, vassal: &Vassal, now: Instant) -> Outcome {
    match vassal.state() {
        _ if vassal.is_asking => Outcome::Pending,
        State::Stopping { .. } => Outcome::Pending,
        State::Held if order == Order::Stop => Outcome::Done,
        // Another order was given since.
        State::Held => Outcome::Failed,
        _ if order == Order::Stop => Outcome::Failed,
        State::Starting { .. } | State::Reloading { .. } => Outcome::Pending,
        State::Running { .. } if order == Order::Reload && vassal.history.refused.is_some() => {
            Outcome::Failed
        }
        State::Running { since } => {
            let is_ready = vassal.instance.process.as_ref().is_some_and(|process| process.ready.is_some());
            // An app that was only told to read its configuration again may still end because of it.
            let told = vassal.instance.process.as_ref().and_then(|process| process.asked_to_reload);
            let began = told.map_or(since, |told| told.max(since));
            let is_up = !vassal.history.announces && now.saturating_duration_since(began) >= UP;
            if is_ready || is_up { Outcome::Done } else { Outcome::Pending }
        }
        State::Waiting => Outcome::Done,
        State::Idle | State::Backoff { .. } | State::Invalid { .. } => Outcome::Failed,
    }
}
