//! Messages of PID 1 over its link.

use std::time::{Duration, Instant};

use super::Registry;
use crate::emperor::core::instance::{Transcript, Wait};
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::machine::{Answer, Input, State};
use crate::log::Elapsed;
use crate::protocol::{Announcement, FromVassal};

impl Registry {
    /// Takes in a message of PID 1.
    pub(super) fn said(&mut self, id: &InstanceId, message: FromVassal, now: Instant) {
        let Some(instance) = self.vassals.get_mut(&id.file).and_then(|all| all.instance_mut(id.number))
        else {
            return;
        };
        instance.is_unready = match &message {
            FromVassal::Unready => true,
            FromVassal::Announced(Announcement::Ready | Announcement::Reloading) => false,
            FromVassal::Reloading(_) | FromVassal::Reloaded => false,
            _ => instance.is_unready,
        };
        let Some(process) = &mut instance.process else { return };
        match message {
            FromVassal::App(pid) => {
                if let Some(instance) = self.of(id) {
                    instance.app = Some(pid).filter(|pid| *pid > 0);
                }
            }
            FromVassal::Running => {
                let took = Elapsed(now.saturating_duration_since(process.born));
                process.wait = None;
                if process.running.is_none() {
                    process.running = Some(now);
                    self.log_of(id, format!("running after {took}"));
                }
                self.step(id, Input::Running, now);
                self.adopt_replication(id, now);
                if self.vassal(&id.file).is_some_and(|vassal| !vassal.announces) {
                    self.is_back(id, now);
                }
            }
            FromVassal::Stopping(within) => {
                let within = within.min(self.rules.stop_timeout);
                self.step(id, Input::Leaving(within), now);
            }
            FromVassal::Exiting(reason) => {
                process.ending.exit_reason = Some(reason);
                instance.down_since.get_or_insert(now);
            }
            FromVassal::Unready => process.said.ready = None,
            FromVassal::NotReady(why) => process.said.unready = Some(why.into()),
            FromVassal::Announced(announcement) => self.announced(id, announcement, now),
            FromVassal::Reloading(within) => {
                if let Some(said) = &mut process.said.0 {
                    (said.ready, said.unready) = (None, None);
                }
                self.step(id, Input::Reloading(within), now);
            }
            FromVassal::Reloaded => self.answered(id, Answer::Reloaded, String::new(), now),
            FromVassal::Refused(why) => self.answered(id, Answer::Refused, why, now),
            FromVassal::NeedsRespawn(why) => self.answered(id, Answer::NeedsRespawn, why, now),
            FromVassal::Mountpoints(reports) => {
                self.tally.lost(&instance.mountpoints, &reports);
                instance.mountpoints.report(reports);
            }
            FromVassal::Replication(replication) => process.replication = Some(Box::new(replication)),
            FromVassal::Output(place) => {
                if let Some(instance) = self.of(id) {
                    instance.history.output = place;
                }
            }
            FromVassal::Warnings(text) => {
                if let Some(instance) = self.of(id) {
                    instance.history.warnings = text;
                }
            }
            // The supervisor keeps the sockets, and reads the transcript.
            FromVassal::Sockets(_) | FromVassal::Keep(_) | FromVassal::Transcript => {}
        }
        self.set_timer(id, now);
    }

    /// Takes in what the configuration of an instance was made of. That counts only before anything of the
    /// vassal's own can run.
    pub(super) fn said_transcript(&mut self, id: &InstanceId, text: Vec<u8>) {
        let Some(process) = self.process_mut(id).filter(|it| it.transcript.is_none()) else { return };
        if process.replication.is_none() && process.running.is_none() {
            process.transcript = Some(Box::new(Transcript(text.into())));
        }
    }

    /// Counts how long there was no app, if there is one again.
    fn is_back(&mut self, id: &InstanceId, now: Instant) {
        if let Some(since) = self.of(id).and_then(|instance| instance.down_since.take()) {
            self.tally.recoveries.add(now.saturating_duration_since(since));
        }
    }

    /// Takes in which file PID 1 waits for during a long setup, if for one. A file takes milliseconds, so the
    /// instance is killed if it waits for the same file at the next look. Who moves then may do so for an
    /// instant only, as when one that waited for the same answer is killed, and is looked at once more.
    pub(super) fn waits(&mut self, id: &InstanceId, what: Option<String>, now: Instant) {
        let Some(instance) = self.of(id) else { return };
        let (State::Starting { since, .. }, Some(process)) = (instance.state(), &mut instance.process) else {
            return;
        };
        let waits = what.map(|what| "waits for ".to_owned() + &what);
        if waits.is_none()
            && let Some(wait) = process.wait.as_mut().filter(|wait| !wait.was_moving)
        {
            wait.was_moving = true;
            return self.step(id, Input::Unsure, now);
        }
        let is_stuck = waits.is_some() && waits.as_ref() == process.wait.as_ref().map(|wait| &wait.on);
        process.wait = waits.map(|on| Box::new(Wait { on, was_moving: false }));
        if is_stuck {
            process.condemn_for_waiting();
            return self.step(id, Input::Stuck, now);
        }
        let took = Elapsed(now.saturating_duration_since(since));
        let mut line = format!("still setting up after {took}");
        if let Some(wait) = &process.wait {
            line = line + ": it " + &wait.on;
        }
        self.log_of(id, line);
    }

    /// Takes in that the link was closed. The instance is ending, or must end: it takes the closed link for
    /// the end of the emperor.
    pub(super) fn link_closed(&mut self, id: &InstanceId, mistake: Option<String>, now: Instant) {
        let Some(process) = self.process_mut(id) else { return };
        process.is_linked = false;
        if let Some(mistake) = mistake {
            self.log_of(id, format!("{mistake}: link closed"));
        }
        self.step(id, Input::Leaving(Duration::ZERO), now);
    }

    /// Takes in a message of the app.
    fn announced(&mut self, id: &InstanceId, announcement: Announcement, now: Instant) {
        let Some(process) = self.process_mut(id) else { return };
        let after = Elapsed(now.saturating_duration_since(process.app_began()));
        match announcement {
            Announcement::Heartbeat => {
                (process.said.heartbeat, process.is_half) = (Some(now), true);
                self.step(id, Input::Heartbeat(self.rules.heartbeat / 2), now);
            }
            Announcement::Leave => {
                let is_on_demand = self.vassal(&id.file).is_some_and(|vassal| vassal.on_demand.is_some());
                let until =
                    if is_on_demand { "somebody connects" } else { "its file changes, or 'emperor start'" };
                self.log_of(id, format!("the app wants to be stopped: stopping until {until}"));
                self.step(id, Input::Leave, now);
            }
            Announcement::Status(text) => process.said.status = text,
            Announcement::Stuck => {
                process.ending.condemned = Some("the app has triggered its watchdog".to_owned());
                self.step(id, Input::Stuck, now);
            }
            Announcement::Reloading => {
                // The app accepts no requests for now.
                process.said.ready = None;
                self.log_of(id, format!("the app reloads itself, {after} after its start"));
            }
            Announcement::Stopping => {
                process.said.ready = None;
                self.log_of(id, format!("the app is stopping by itself, {after} after its start"));
                self.step(id, Input::Quiet, now);
            }
            Announcement::Ready => {
                (process.said.ready, process.said.unready) = (Some(now), None);
                if let Some(vassal) = self.vassals.get_mut(&id.file) {
                    vassal.announces = true;
                }
                self.is_back(id, now);
                self.log_of(id, format!("ready to accept requests after {after}"));
            }
            Announcement::Loyal => {
                process.said.loyal = Some(now);
                self.log_of(id, format!("loyal after {after}"));
            }
        }
    }
}
