//! What somebody asks for by command, and what has become of it.

use std::ffi::OsStr;
use std::time::Instant;

use super::supervisor::Roster;
use crate::emperor::api::control::{DONE, FAILED, PENDING};
use crate::emperor::core::machine::{Event, State, Then, UP};
use crate::emperor::core::order::Order;
use crate::emperor::core::text::readable;
use crate::emperor::instance::instance::Instance;
use crate::log_of;

impl Roster {
    /// Does what a command asks for, and says what comes of it.
    ///
    /// # Errors
    /// There is no such vassal, or it is in no state for it.
    pub fn obey(&mut self, order: Order, vassal: &OsStr, now: Instant) -> Result<String, String> {
        let Some(path) = self.names.get(vassal).cloned() else {
            return Err(unknown(vassal));
        };
        let Some(vassal) = self.vassals.get(&path) else { return Ok(String::new()) };
        let (state, up) = (vassal.machine.state(), vassal.instance.is_some());
        let held = matches!(state, State::Held | State::Stopping { then: Then::Hold, .. });
        let how = match order {
            Order::Reload | Order::Start if vassal.has_lost_its_file() => {
                return Err(format!("{}: its file is gone", path.shown()));
            }
            Order::Reload if held => {
                return Err(format!("{} was stopped by command: 'emperor start' starts it", path.shown()));
            }
            Order::Reload => {
                self.start(&path, "reload by command", now);
                return Ok(format!("{}: told to reload", path.shown()));
            }
            Order::Stop if held && !up => "stopped already",
            Order::Stop if up => "stopping",
            Order::Stop => "stopped",
            Order::Start => match state {
                State::Starting { .. } | State::Running { .. } | State::Reloading { .. } => "started already",
                State::Stopping { .. } => "starting again as soon as it has stopped",
                State::Idle | State::Backoff { .. } | State::Invalid { .. } => "starting",
                State::Held | State::Waiting => "starting",
            },
        };
        let (word, event) = match order {
            Order::Stop => ("stop", Event::Hold),
            Order::Start | Order::Reload => ("start", Event::Release),
        };
        log_of!(path, "{word} by command: {how}");
        self.apply(&path, event, now);
        Ok(format!("{}: {how}", path.shown()))
    }

    /// What has become of an order that was [obeyed](Self::obey): whether it is done, by the first byte of an answer to
    /// a command, and how the vassal is. An app that is up for a moment runs; one that has ever said that it is ready is
    /// waited for to say so.
    pub fn outcome(&self, order: Order, vassal: &OsStr, now: Instant) -> (u8, String) {
        let stops = order == Order::Stop;
        let name = readable(vassal);
        let found = self.names.get(vassal).and_then(|path| Some((path, self.vassals.get(path)?)));
        let Some((path, vassal)) = found else {
            // It was there, and now it is stopped for good.
            return (if stops { DONE } else { FAILED }, format!("{name}: its file is gone"));
        };
        let status = match vassal.machine.state() {
            _ if self.questions.concern(path) => PENDING,
            State::Stopping { .. } => PENDING,
            State::Held if stops => DONE,
            // Somebody else has given another order since.
            State::Held => FAILED,
            _ if stops => FAILED,
            State::Starting { .. } | State::Reloading { .. } => PENDING,
            State::Running { .. } if order == Order::Reload && vassal.refused.is_some() => FAILED,
            State::Running { since } => {
                let is_ready = vassal.instance.as_ref().is_some_and(Instance::is_ready);
                let is_up = !vassal.announces && now.saturating_duration_since(since) >= UP;
                if is_ready || is_up { DONE } else { PENDING }
            }
            State::Waiting => DONE,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } => FAILED,
        };
        (status, format!("{name}: {}", vassal.status(path, now).line()))
    }
}

/// What is said of a name that nobody has.
pub(super) fn unknown(vassal: &OsStr) -> String {
    format!("there is no vassal '{}'", vassal.display())
}
