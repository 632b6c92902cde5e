//! Messages of PID 1 over its link.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Registry;
use crate::emperor::core::machine::{Answer, Input, State};
use crate::emperor::core::vassal_file::VassalFile;
use crate::log::Elapsed;
use crate::protocol::{Announcement, FromVassal};

impl Registry {
    /// Takes in a message of PID 1.
    pub(super) fn said(&mut self, file: &Rc<VassalFile>, message: FromVassal, now: Instant) {
        let Some(process) = self.process_mut(file) else { return };
        match message {
            FromVassal::Running => {
                let took = Elapsed(now.saturating_duration_since(process.born));
                process.waits = None;
                if process.running.is_none() {
                    process.running = Some(now);
                    self.log(file, format!("running after {took}"));
                }
                self.step(file, Input::Running, now);
            }
            FromVassal::Stopping(within) => {
                let within = within.min(self.rules.stop_timeout);
                self.step(file, Input::Leaving(within), now);
            }
            FromVassal::Exiting(reason) => process.exit_reason = Some(reason),
            FromVassal::Announced(announcement) => self.announced(file, announcement, now),
            FromVassal::Reloading(within) => {
                process.ready = None;
                self.step(file, Input::Reloading(within), now);
            }
            FromVassal::Reloaded => self.answered(file, Answer::Reloaded, String::new(), now),
            FromVassal::Refused(why) => self.answered(file, Answer::Refused, why, now),
            FromVassal::NeedsRespawn(why) => self.answered(file, Answer::NeedsRespawn, why, now),
            FromVassal::Mountpoints(reports) => {
                if let Some(vassal) = self.vassals.get_mut(file) {
                    vassal.mountpoints.report(reports);
                }
            }
            FromVassal::Replication(_) => {}
            // The supervisor keeps the sockets.
            FromVassal::Sockets(_) | FromVassal::Keep(_) => {}
        }
    }

    /// Takes in which file PID 1 waits for during a long setup, if for one. A file takes milliseconds, so the
    /// instance is killed if it waits for the same file at the next look.
    pub(super) fn waits(&mut self, file: &Rc<VassalFile>, what: Option<String>, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(file) else { return };
        let (State::Starting { since, .. }, Some(process)) =
            (vassal.instance.machine.state(), &mut vassal.instance.process)
        else {
            return;
        };
        let waits = what.map(|what| "waits for ".to_owned() + &what);
        let is_stuck = waits.is_some() && waits == process.waits;
        process.waits = waits;
        if is_stuck {
            process.condemn_for_waiting();
            return self.step(file, Input::Stuck, now);
        }
        let took = Elapsed(now.saturating_duration_since(since));
        let mut line = format!("still setting up after {took}");
        if let Some(waits) = &process.waits {
            line = line + ": it " + waits;
        }
        self.log(file, line);
    }

    /// Takes in that the link was closed. The instance is ending, or must end: it takes the closed link for
    /// the end of the emperor.
    pub(super) fn link_closed(&mut self, file: &Rc<VassalFile>, mistake: Option<String>, now: Instant) {
        let Some(process) = self.process_mut(file) else { return };
        process.is_linked = false;
        if let Some(mistake) = mistake {
            self.log(file, format!("{mistake}: link closed"));
        }
        self.step(file, Input::Leaving(Duration::ZERO), now);
    }

    /// Takes in a message of the app.
    fn announced(&mut self, file: &Rc<VassalFile>, announcement: Announcement, now: Instant) {
        let Some(process) = self.process_mut(file) else { return };
        let after = Elapsed(now.saturating_duration_since(process.app_began()));
        match announcement {
            Announcement::Heartbeat => {
                process.heartbeat = Some(now);
                self.step(file, Input::Heartbeat(self.rules.heartbeat), now);
            }
            Announcement::Leave => {
                let is_on_demand = self.vassal(file).is_some_and(|vassal| vassal.on_demand.is_some());
                let until =
                    if is_on_demand { "somebody connects" } else { "its file changes, or 'emperor start'" };
                self.log(file, format!("the app wants to be stopped: stopping until {until}"));
                self.step(file, Input::Leave, now);
            }
            Announcement::Status(text) => process.status = text,
            Announcement::Stuck => {
                process.condemned = Some("the app has triggered its watchdog".to_owned());
                self.step(file, Input::Stuck, now);
            }
            Announcement::Reloading => {
                // The app accepts no requests for now.
                process.ready = None;
                self.log(file, format!("the app reloads itself, {after} after its start"));
            }
            Announcement::Stopping => {
                process.ready = None;
                self.log(file, format!("the app is stopping by itself, {after} after its start"));
                self.step(file, Input::Quiet, now);
            }
            Announcement::Ready => {
                process.ready = Some(now);
                if let Some(vassal) = self.vassals.get_mut(file) {
                    vassal.history.announces = true;
                }
                self.log(file, format!("ready to accept requests after {after}"));
            }
            Announcement::Loyal => {
                process.loyal = Some(now);
                self.log(file, format!("loyal after {after}"));
            }
        }
    }
}
