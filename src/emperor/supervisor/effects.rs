//! The actions of the state machine, carried out.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use rustix::event::epoll;

use super::supervisor::{DEMAND, Roster, Vassal};
use crate::emperor::core::machine::{Action, Answer, Event, State, next};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::sorted_map::Table;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::instance::Instance;
use crate::error::Described;
use crate::log::Elapsed;
use crate::log_of;

impl Roster {
    pub(super) fn perform(&mut self, path: &Rc<VassalFile>, action: Action, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        let listens = if matches!(action, Action::Spawn | Action::Listen) {
            disarm(vassal, &self.links, &mut self.waiting);
            let (operation, object, new) = if action == Action::Spawn {
                ("create", "a process", 1)
            } else {
                ("wait for", "a connection", 0)
            };
            let sockets = self.sockets + vassal.missing();
            let room = self.spawner.has_room(operation, object, self.pids.len() + new, sockets);
            room.and_then(|()| vassal.listen())
        } else {
            Ok(())
        };
        if matches!(action, Action::Spawn | Action::Reload) {
            // Before it is read: a change in between counts as one that was not seen.
            vassal.seen = self.spawner.version(path);
        }
        if !matches!(action, Action::None | Action::Remind) {
            self.checks.forget(path);
        }
        match action {
            Action::None => {}
            Action::Listen => match (&vassal.demand, listens) {
                (Some(address), Ok(())) => {
                    log_of!(path, "waiting for a connection to {}", address.name)
                }
                (None, Ok(())) => {}
                (_, Err(error)) => {
                    vassal.machine.step(Event::SpawnFailed, now);
                    log_of!(path, "{error}; {}", next(vassal.machine.state(), now));
                    vassal.last = Some(error.to_string());
                    vassal.count_failure(now);
                }
            },
            Action::Spawn => {
                let spawned = listens.and_then(|()| self.spawner.spawn(path, &mut vassal.kept));
                match spawned.and_then(|process| Instance::new(process, &self.links)) {
                    Ok(instance) => {
                        log_of!(path, "started (pid {})", instance.pid());
                        if let Some(why) = vassal.refused.take() {
                            log_of!(path, "it was started with the file whose reload was refused: {why}");
                        }
                        self.commands.begin(path, instance.process(), now);
                        self.pids.insert(instance.pid(), Rc::clone(path));
                        vassal.instances += 1;
                        vassal.runs = Some((vassal.runs.map_or(now, |(first, _)| first), now));
                        vassal.instance = Some(instance);
                    }
                    Err(error) => {
                        vassal.machine.step(Event::SpawnFailed, now);
                        log_of!(path, "cannot start: {error}; {}", next(vassal.machine.state(), now));
                        vassal.last = Some(error.to_string());
                        vassal.count_failure(now);
                    }
                }
            }
            Action::Reload if !vassal.listens_right() => {
                let why = if vassal.kept.is_lost() {
                    "nobody can connect to its on-demand socket any more"
                } else {
                    "another on-demand address"
                };
                return self.answered(path, Answer::NeedsRespawn, why.to_owned(), now);
            }
            Action::Reload if self.spawner.is_program(path) => {
                // It can only be run where there is no jail yet.
                let why = "its file is a program".to_owned();
                return self.answered(path, Answer::NeedsRespawn, why, now);
            }
            Action::Reload => {
                if let Some(instance) = &mut vassal.instance {
                    match self.spawner.copy(path) {
                        Ok((file, owner)) if self.spawner.may_run(instance.process(), owner) => {
                            instance.reload(&file, now);
                        }
                        // It may have become somebody else's, or root's: then it must not go on as it was.
                        Err(error) if !self.spawner.is_tyrant() => {
                            vassal.machine.step(Event::Answered(Answer::Refused), now);
                            log_of!(path, "cannot reload: {error}; the app goes on as it was");
                            vassal.refused = Some(error.to_string());
                        }
                        other => {
                            let why = other.map_or_else(
                                |error| error.to_string(),
                                |(_, Owner { uid, gid })| {
                                    format!("its file belongs to user {uid}, group {gid} now")
                                },
                            );
                            return self.answered(path, Answer::NeedsRespawn, why, now);
                        }
                    }
                }
            }
            Action::AskToStop => {
                if let Some(instance) = &mut vassal.instance {
                    instance.ask_to_stop(now);
                }
            }
            Action::Kill => {
                if let Some(instance) = &mut vassal.instance {
                    instance.kill(path, now);
                    self.killed.push(instance.process().pid);
                }
            }
            Action::Remind => {
                if let State::Starting { since, .. } = vassal.machine.state() {
                    log_of!(path, "still setting up after {}", Elapsed(now - since));
                }
            }
            Action::Forget => {
                if let Some(mut instance) = vassal.instance.take() {
                    let (pid, killed) = (instance.pid(), instance.killed_for(now));
                    log_of!(
                        path,
                        "pid {pid} is stuck in the kernel: not gone {killed} after SIGKILL: given up"
                    );
                    instance.close_link(&self.links);
                    self.pids.remove(&pid);
                    self.given_up += 1;
                }
            }
        }
        let armed = match (vassal.machine.state(), vassal.kept.demand()) {
            (State::Waiting, Some((_, socket))) => Some(socket.as_raw_fd()),
            _ => None,
        };
        if vassal.armed != armed {
            disarm(vassal, &self.links, &mut self.waiting);
            if let Some((new, (_, socket))) = armed.zip(vassal.kept.demand()) {
                let data = epoll::EventData::new_u64(DEMAND | new as u64);
                if let Err(errno) = epoll::add(&self.links, socket, data, epoll::EventFlags::IN) {
                    vassal.machine.step(Event::SpawnFailed, now);
                    let next = next(vassal.machine.state(), now);
                    log_of!(path, "wait for a connection: {}; {next}", Described(errno));
                } else {
                    self.waiting.insert(new, Rc::clone(path));
                    vassal.armed = armed;
                }
            }
        }
        if vassal.machine.state() == State::Held {
            // Who connects is to be told that nobody is there.
            vassal.kept.set_demand(None);
        }
        vassal.count_sockets(&mut self.sockets);
        let deadline = vassal.machine.deadline();
        if vassal.timer != deadline {
            if let Some(old) = vassal.timer {
                self.timers.remove(&(old, Rc::clone(path)));
            }
            if let Some(new) = deadline {
                self.timers.insert((new, Rc::clone(path)), ());
            }
            vassal.timer = deadline;
        }
        if action == Action::Forget {
            self.forget(path, now);
        }
    }

    /// There is no such vassal any more; its name is free.
    fn forget(&mut self, path: &Rc<VassalFile>, now: Instant) {
        let gone = self.vassals.remove(path);
        self.sockets -= gone.map_or(0, |vassal| vassal.counted);
        self.names.remove(path.name());
        if self.ending {
            return;
        }
        if let Some(index) = self.shadowed.iter().position(|other| other.name() == path.name()) {
            let next = self.shadowed.remove(index);
            log_of!(next, "{}: its turn has come", next.display());
            self.start(&next, "", now);
        }
    }
}

/// Waits for no connection any more. The registration is taken back by hand: an instance has the socket too, which would
/// keep it alive.
fn disarm(vassal: &mut Vassal, links: &OwnedFd, waiting: &mut Table<i32, Rc<VassalFile>>) {
    if let Some((number, (_, socket))) = vassal.armed.take().zip(vassal.kept.demand()) {
        let _ = epoll::delete(links, socket);
        waiting.remove(&number);
    }
}
