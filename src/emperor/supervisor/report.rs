//! How the vassals are: for the log, for commands, stats and metrics.

use std::ffi::OsStr;
use std::rc::Rc;
use std::time::Instant;

use super::orders::unknown;
use super::supervisor::{Roster, Vassal};
use crate::emperor::core::machine::{End, State, Then};
use crate::emperor::core::status::Status;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::instance::Instance;
use crate::log;
use crate::log_of;

impl Roster {
    /// Logs one line for every vassal.
    pub fn status(&self, now: Instant) {
        log!("{}", self.count());
        for (path, vassal) in self.vassals.iter() {
            log_of!(path, "{}", vassal.status(path, now).line());
        }
    }

    /// How many there are, run and wait, in one line.
    pub fn summary(&self) -> String {
        let (mut running, mut waiting) = (0, 0);
        for (_, vassal) in self.vassals.iter() {
            match vassal.machine.state() {
                State::Running { .. } | State::Reloading { .. } => running += 1,
                State::Backoff { .. } | State::Invalid { .. } => waiting += 1,
                State::Idle | State::Starting { .. } | State::Stopping { .. } => {}
                State::Held | State::Waiting => {}
            }
        }
        format!("{}: {running} running, {waiting} waiting to be tried again", self.count())
    }

    /// How the vassal of that name is, or all of them if it is empty.
    ///
    /// # Errors
    /// There is no such vassal.
    pub fn statuses_of(
        &self,
        name: &OsStr,
        now: Instant,
    ) -> Result<impl Iterator<Item = Status<'_>>, String> {
        if !name.is_empty() && self.names.get(name).is_none() {
            return Err(unknown(name));
        }
        let wanted = move |(path, _): &&(Rc<VassalFile>, Box<Vassal>)| name.is_empty() || path.name() == name;
        Ok(self.vassals.iter().filter(wanted).map(move |(path, vassal)| vassal.status(path, now)))
    }

    /// How all of them are.
    pub fn statuses(&self, now: Instant) -> impl Iterator<Item = Status<'_>> {
        self.vassals.iter().map(move |(path, vassal)| vassal.status(path, now))
    }
}

impl Vassal {
    pub(super) fn status<'a>(&'a self, path: &'a VassalFile, now: Instant) -> Status<'a> {
        let (state, since, until) = match self.machine.state() {
            State::Idle => ("idle", None, None),
            State::Starting { .. } => ("starting", None, None),
            State::Running { since } => ("running", Some(since), None),
            State::Reloading { since, .. } => ("reloading", Some(since), None),
            State::Stopping { end: End::Killed, .. } => ("killed", None, None),
            State::Stopping { then: Then::Respawn | Then::Backoff, .. } if self.demand.is_none() => {
                ("restarting", None, None)
            }
            State::Stopping { .. } => ("stopping", None, None),
            State::Backoff { until } => ("backoff", None, Some(until)),
            State::Invalid { until } => ("invalid", None, Some(until)),
            State::Held => ("stopped", None, None),
            State::Waiting => ("waiting", None, None),
        };
        Status {
            name: path.shown(),
            path,
            state,
            stopping: match (self.machine.state(), &self.instance) {
                (State::Stopping { .. }, Some(instance)) => Some(instance.stopping().unwrap_or(now)),
                _ => None,
            },
            pid: self.instance.as_ref().map(Instance::pid),
            uptime: since.map(|since| now.saturating_duration_since(since)),
            restarts: self.instances.saturating_sub(1),
            next_try: until.map(|until| until.saturating_duration_since(now)),
            last: self.last.as_deref(),
            refused: self.refused.as_deref(),
            modified: self.seen[0],
            mountpoints: &self.mountpoints,
            since,
            announced: self.instance.as_ref().map_or([None; 2], Instance::announced),
            heartbeat: self.instance.as_ref().and_then(Instance::heartbeat),
            said: self.instance.as_ref().map(Instance::status).filter(|said| !said.is_empty()),
            reloads: self.reloads,
            runs: self.runs,
            born: self.instance.as_ref().map(Instance::born),
            owner: self.instance.as_ref().map(|instance| instance.process().owner),
            failures: self.failures,
            on_demand: self.demand.as_ref().map(|address| address.name.as_str()),
        }
    }
}
