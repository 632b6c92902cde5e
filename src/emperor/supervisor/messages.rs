//! What the vassals say over their links, and that somebody connects to one on demand.

use std::rc::Rc;
use std::time::Instant;

use rustix::event::{Timespec, epoll};

use super::supervisor::{DEMAND, Roster};
use crate::emperor::commands::config_check;
use crate::emperor::core::machine::{Action, Answer, Event, State};
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::instance::{Heard, Instance};
use crate::log_of;

/// How many packets of one vassal are read before it is somebody else's turn: more than a socket's buffer holds, so
/// that a dead vassal's link is read to its end, yet no flood keeps us busy. A sane vassal sends three in its life
/// and two for each reload.
const PACKETS_PER_TURN: usize = 512;

/// How many links are looked at per turn.
const LINKS_PER_TURN: usize = 64;

impl Roster {
    /// Reads what vassals say.
    pub fn listen(&mut self, now: Instant) {
        let mut ready = Vec::with_capacity(LINKS_PER_TURN);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if epoll::wait(&self.links, rustix::buffer::spare_capacity(&mut ready), Some(&at_once)).is_err() {
            return;
        }
        for event in ready {
            let pid = event.data.u64() as i32;
            if event.data.u64() >= DEMAND {
                if let Some(path) = self.waiting.get(&pid).cloned() {
                    log_of!(path, "somebody connects: starting");
                    self.apply(&path, Event::Connected, now);
                }
            } else if let Some(path) = self.pids.get(&pid).cloned() {
                self.read_link(&path, now);
            }
        }
    }

    pub(super) fn read_link(&mut self, path: &Rc<VassalFile>, now: Instant) {
        for _ in 0..PACKETS_PER_TURN {
            let instance = self.vassals.get_mut(path).and_then(|vassal| vassal.instance.as_mut());
            let Some(instance) = instance else { return };
            match instance.hear(&self.links, path, now) {
                Heard::Nothing => return,
                Heard::News => {
                    if let Some(vassal) = self.vassals.get_mut(path) {
                        vassal.announces |= vassal.instance.as_ref().is_some_and(Instance::is_ready);
                    }
                }
                Heard::Heartbeat => self.apply(path, Event::Heartbeat(self.spawner.heartbeat()), now),
                Heard::Mountpoints(reports) => {
                    if let Some(vassal) = self.vassals.get_mut(path) {
                        vassal.mountpoints.told(reports);
                    }
                }
                Heard::Leave => {
                    let on_demand = self.vassals.get(path).is_some_and(|vassal| vassal.demand.is_some());
                    let until =
                        if on_demand { "somebody connects" } else { "its file changes, or 'emperor start'" };
                    log_of!(path, "the app wants to be stopped: stopping until {until}");
                    self.apply(path, Event::Leave, now);
                }
                Heard::Sockets(labels) => {
                    if let Some(vassal) = self.vassals.get_mut(path) {
                        vassal.kept.retain(&labels);
                        vassal.count_sockets(&mut self.sockets);
                    }
                }
                Heard::Keep(socket) => {
                    let (processes, sockets) = (self.pids.len(), self.sockets + 1);
                    let room = self.spawner.has_room("keep", &socket.label, processes, sockets);
                    if let Some(vassal) = self.vassals.get_mut(path) {
                        match room {
                            Ok(()) => {
                                vassal.kept.keep(socket);
                                vassal.count_sockets(&mut self.sockets);
                            }
                            Err(error) => log_of!(path, "{error}: it is not kept"),
                        }
                    }
                }
                Heard::Event(event) => self.apply(path, event, now),
                Heard::Answer(answer, why) => self.answered(path, answer, why, now),
            }
        }
    }

    /// A vassal has answered a reload. The app that runs is not stopped for a file that nobody can run.
    pub(super) fn answered(&mut self, path: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        let is_asked = matches!(vassal.machine.state(), State::Reloading { .. });
        // In tyrant mode nothing of a file is read but by its owner.
        if is_asked && answer == Answer::NeedsRespawn && !self.spawner.is_tyrant() {
            let processes = self.pids.len() + self.checks.count() + 1;
            let room = self.spawner.has_room("create", "a process", processes, self.sockets);
            match room.and_then(|()| self.checks.begin(&self.spawner, path, &why)) {
                Ok(()) => return self.apply(path, Event::Checking(config_check::TIMEOUT), now),
                Err(error) => log_of!(path, "{error}: its file is not read before it is restarted"),
            }
        }
        self.conclude(path, answer, why, now);
    }

    /// The answer to a reload is known, which counts only if one was asked for.
    pub(super) fn conclude(&mut self, path: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        let (State::Reloading { .. }, Some(instance)) = (vassal.machine.state(), &vassal.instance) else {
            return;
        };
        let took = instance.reloading_for(now);
        if let (Answer::Reloaded, Some((_, last))) = (answer, &mut vassal.runs) {
            vassal.reloads += 1;
            *last = now;
        }
        let action = vassal.machine.step(Event::Answered(answer), now);
        let what = match answer {
            Answer::Reloaded => format!("reloaded after {took}"),
            Answer::Refused => format!("reload refused: {why}"),
            Answer::NeedsRespawn => format!("needs a fresh jail: {why}"),
        };
        let next = match (action, answer) {
            (Action::Reload, _) => "; its file has changed since: reloading",
            (Action::AskToStop, _) => ": restarting",
            (_, Answer::Refused) => "; the app goes on as it was",
            _ => "",
        };
        log_of!(path, "{what}{next}");
        vassal.refused = (answer == Answer::Refused && action == Action::None).then_some(why);
        self.perform(path, action, now);
    }
}
