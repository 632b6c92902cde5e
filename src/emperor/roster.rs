//! All vassals: events in, the state machine's actions carried out, one log line for everything that happens.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, WaitOptions};

use super::Count;
use super::backoff::Backoff;
use super::checks::{self, Checked, Checks};
use super::commands::Commands;
use super::demand;
use super::file::VassalFile;
use super::instance::{Heard, Instance};
use super::kept::{self, Kept};
use super::losses::Mountpoints;
use super::questions::{Questions, Reply};
use super::spawn::{Owner, Spawner};
use super::status::Failures;
use super::table::Table;
use super::vassal::{Action, Answer, Event, Machine, State, Then};
use crate::config::plan::Address;
use crate::error::{Context, Described, Result};
use crate::log;
use crate::log::Elapsed;
use crate::log_of;
use crate::mount::fuse;
use crate::protocol::WaitStatus;

mod orders;
mod report;
mod takeover;

pub use orders::Order;

/// How many packets of one vassal are read before it is somebody else's turn: more than a socket's buffer holds, so
/// that a dead vassal's link is read to its end, yet no flood keeps us busy. A sane vassal sends three in its life
/// and two for each reload.
const PACKETS_PER_TURN: usize = 512;

/// How many links are looked at per turn.
const LINKS_PER_TURN: usize = 64;

/// How many vassals whose time has come get it per turn.
const TIMERS_PER_TURN: usize = 32;

/// What tells the events of on-demand sockets from those of links; the socket's number follows.
const DEMAND: u64 = 1 << 32;

/// The vassals by the paths of their files.
pub struct Roster {
    spawner: Spawner,
    commands: Commands,
    questions: Questions,
    checks: Checks,
    backoff: Backoff,
    /// Readable when a link is; its events carry the pid.
    links: OwnedFd,
    vassals: Table<Rc<VassalFile>, Box<Vassal>>,
    pids: Table<i32, Rc<VassalFile>>,
    /// Those that wait for a connection, by the descriptor of their socket.
    waiting: Table<i32, Rc<VassalFile>>,
    /// Which of them each name means.
    names: Table<OsString, Rc<VassalFile>>,
    /// Files whose name is taken by a vassal of another directory. They wait for its end.
    shadowed: Vec<Rc<VassalFile>>,
    timers: Table<(Instant, Rc<VassalFile>), ()>,
    /// How many sockets are kept for all vassals together: the sum of their [`Vassal::counted`].
    sockets: u64,
    /// Children that have ended and are none of ours or of the commands'.
    strangers: Vec<(Pid, WaitStatus)>,
    /// Instances that were just sent SIGKILL.
    killed: Vec<Pid>,
    /// Whether all vassals are to end for good.
    ending: bool,
    given_up: u64,
}

struct Vassal {
    machine: Machine,
    /// Which version of its file was used last ([`Spawner::version`]).
    seen: [u64; 6],
    /// Whether it is from the program in whose place we are, and its file was not found yet.
    unclaimed: bool,
    /// Its deadline, as it stands in [`Roster::timers`].
    timer: Option<Instant>,
    instance: Option<Instance>,
    /// How many instances there have been.
    instances: u64,
    /// How often one was reloaded without another one.
    reloads: u64,
    /// When the first one was created, and when the latest one, or when that was reloaded.
    runs: Option<(Instant, Instant)>,
    /// Its failures in a row.
    failures: Option<Failures>,
    /// Why the last one ended or could not start.
    last: Option<String>,
    /// Why the file, as it is now, was not taken by the running instance, which goes on with an older one.
    refused: Option<String>,
    /// Its listening sockets.
    kept: Kept,
    /// How many of them are counted in [`Roster::sockets`].
    counted: u64,
    mountpoints: Mountpoints,
    /// Whether its app has ever said that it is ready.
    announces: bool,
    /// Where the first connection is waited for; `None` where it is not on demand.
    demand: Option<Address>,
    /// The descriptor of its socket while we do, as it stands in [`Roster::waiting`].
    armed: Option<i32>,
}

impl Roster {
    /// No vassals yet; each will start out with `backoff`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub fn new(spawner: Spawner, commands: Commands, questions: Questions, backoff: Backoff) -> Result<Self> {
        let links = epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?;
        let (vassals, pids, waiting, names, timers) = Default::default();
        let (shadowed, strangers, killed, ending, given_up) = (Vec::new(), Vec::new(), Vec::new(), false, 0);
        Ok(Self {
            spawner,
            commands,
            questions,
            checks: Checks::default(),
            backoff,
            links,
            vassals,
            pids,
            waiting,
            names,
            shadowed,
            strangers,
            killed,
            timers,
            sockets: 0,
            ending,
            given_up,
        })
    }

    /// How many vassals there are, for the log.
    pub fn count(&self) -> Count {
        Count(self.vassals.len() as u64, "vassal")
    }

    /// How many instances could not even be killed, and were left behind.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.vassals.is_empty()
    }

    /// Asks all instances that check mountpoints how fast those answer, which is known the next time; everything else they
    /// tell by themselves.
    pub fn ask_for_mountpoints(&self) {
        for (_, vassal) in self.vassals.iter() {
            if let Some(instance) = vassal.instance.as_ref().filter(|_| !vassal.mountpoints.is_empty()) {
                instance.ask_for_mountpoints();
            }
        }
    }

    /// When [`Roster::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let vassals = self.timers.iter().next().map(|((deadline, _), ())| *deadline);
        let commands = self.commands.deadline().into_iter().chain(self.questions.deadline());
        vassals.into_iter().chain(commands).min()
    }

    /// A scan has found a file that it did not know. That may be no news of a vassal that was taken over.
    pub fn found(&mut self, path: &Rc<VassalFile>, now: Instant) {
        let is_known = self.vassals.get_mut(path).is_some_and(|vassal| {
            std::mem::take(&mut vassal.unclaimed) && vassal.seen == self.spawner.version(path)
        });
        if !is_known {
            self.start(path, "file is back", now);
        }
    }

    /// The vassal is to run as its file says now: start, reload or restart it. `why` is for the log.
    pub fn start(&mut self, path: &Rc<VassalFile>, why: &str, now: Instant) {
        let path = &self.known(path);
        match self.names.get(path.name()) {
            Some(owner) if owner != path => {
                if !self.shadowed.contains(path) {
                    self.shadowed.push(Rc::clone(path));
                    let (file, owner) = (path.display(), owner.display());
                    log_of!(path, "{file} has to wait: {owner} has the same name");
                }
                return;
            }
            Some(_) => {}
            None => self.names.insert(path.name().to_owned(), Rc::clone(path)),
        }
        if self.vassals.get(path).is_none() {
            let vassal = Vassal {
                machine: Machine::new(self.backoff.clone()),
                seen: [0; 6],
                unclaimed: false,
                timer: None,
                instance: None,
                instances: 0,
                reloads: 0,
                runs: None,
                failures: None,
                last: None,
                refused: None,
                kept: Kept::default(),
                counted: 0,
                mountpoints: Mountpoints::none(),
                announces: false,
                demand: None,
                armed: None,
            };
            self.vassals.insert(Rc::clone(path), Box::new(vassal));
        }
        if self.questions.ask(path, why, now) {
            self.hear_replies(now);
        } else {
            let address = self.spawner.demand(path);
            self.start_at(path, why, address, now);
        }
    }

    /// The same, when it is known where the first connection is to be waited for, if that is to be.
    fn start_at(&mut self, path: &Rc<VassalFile>, why: &str, address: Result<Option<Address>>, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        vassal.refused = None;
        match address {
            Ok(demand) => vassal.demand = demand,
            Err(error) => {
                log_of!(path, "{error}: not on demand");
                vassal.demand = None;
            }
        }
        vassal.machine.set_on_demand(vassal.demand.is_some());
        let how = match vassal.machine.state() {
            State::Idle if vassal.instances == 0 => None,
            State::Idle | State::Backoff { .. } | State::Invalid { .. } | State::Waiting => {
                Some(if vassal.demand.is_some() { "listening" } else { "starting" })
            }
            State::Running { .. } => Some("reloading"),
            State::Reloading { .. } => Some("reloading once more after the reload that is going on"),
            State::Starting { .. } => Some("restarting"),
            State::Stopping { then: Then::Hold, .. } | State::Held => Some("stays stopped, as commanded"),
            State::Stopping { .. } => Some("starting again as soon as it has stopped"),
        };
        if let Some(how) = how {
            log_of!(path, "{why}: {how}");
        }
        self.apply(path, Event::Start, now);
    }

    /// Goes on with the vassals whose addresses are known now.
    fn hear_replies(&mut self, now: Instant) {
        for Reply { path, why, address } in self.questions.replies() {
            self.start_at(&path, &why, address, now);
        }
    }

    /// The vassal is not to run any more. `why` is for the log.
    pub fn stop(&mut self, path: &Rc<VassalFile>, why: &str, now: Instant) {
        let path = &self.known(path);
        self.questions.forget(path);
        self.shadowed.retain(|shadowed| shadowed != path);
        if let Some(vassal) = self.vassals.get(path) {
            let how = if vassal.instance.is_some() { "stopping" } else { "forgotten" };
            log_of!(path, "{why}: {how}");
        }
        self.apply(path, Event::Stop, now);
    }

    /// Every vassal is to run as its file says now.
    pub fn reload_all(&mut self, now: Instant) {
        for path in self.paths() {
            if self.vassals.get(&path).is_some_and(|vassal| !vassal.has_lost_its_file()) {
                self.start(&path, "reload", now);
            }
        }
    }

    /// Whether any vassal has a reload before it.
    pub fn is_reloading(&self) -> bool {
        let is_reloading = |vassal: &Vassal| {
            let state = vassal.machine.state();
            matches!(state, State::Reloading { .. } | State::Stopping { then: Then::Respawn, .. })
        };
        !self.questions.is_idle() || self.vassals.iter().any(|(_, vassal)| is_reloading(vassal))
    }

    /// The same event for every vassal, without a line for each.
    pub fn apply_to_all(&mut self, event: Event, now: Instant) {
        for path in self.paths() {
            self.apply(&path, event, now);
        }
    }

    /// Does what is due, or a part of it; [`Roster::deadline`] stays in the past while there is more.
    pub fn time(&mut self, now: Instant) {
        self.commands.time(now);
        self.questions.time(now);
        for _ in 0..TIMERS_PER_TURN {
            let path = match self.timers.iter().next() {
                Some(((deadline, path), ())) if *deadline <= now => Rc::clone(path),
                _ => return,
            };
            let state = self.vassals.get(&path).map(|vassal| vassal.machine.state());
            if let Some(State::Reloading { .. }) = state {
                log_of!(path, "the reload was not answered in time: restarting");
            }
            let instance = self.vassals.get_mut(&path).and_then(|vassal| vassal.instance.as_mut());
            if let (Some(State::Running { .. }), Some(instance)) = (state, instance) {
                instance.condemn(self.spawner.heartbeat());
            }
            // Until then a process that does not die only gets more SIGKILLs: a second instance beside it could not work.
            self.apply(&path, if self.ending { Event::GiveUp } else { Event::Time }, now);
        }
    }

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

    /// Takes in all children that have ended: SIGCHLD says that there is one, not how many.
    pub fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(status) = WaitStatus::of(status) else { continue };
            if let Some(path) = self.pids.remove(&pid.as_raw_nonzero().get()) {
                // Its last words first: they say why it ended.
                self.read_link(&path, now);
                self.commands.instance_ended(pid);
                self.bury(&path, status, now);
            } else if let Some(Checked { path, answer }) = self.checks.ended(pid) {
                if let Some((answer, why)) = answer {
                    self.conclude(&path, answer, why, now);
                }
            } else if !self.commands.ended(pid, status, now) && !self.questions.ended(pid, status, now) {
                self.strangers.push((pid, status));
            }
        }
        self.hear_replies(now);
    }

    /// Ends everything for good: asks the vassals to stop, or kills them.
    pub fn end(&mut self, kill: bool, now: Instant) {
        self.ending = true;
        self.commands.stop();
        self.questions.stop();
        self.apply_to_all(if kill { Event::Kill } else { Event::Stop }, now);
    }

    /// Frees those that were just killed from FUSE connections of their own, which may hold them for ever. All with one look
    /// at the machine, since hundreds may hang in the same moment.
    pub fn free_killed(&mut self) {
        let killed = std::mem::take(&mut self.killed);
        if killed.is_empty() {
            return;
        }
        match fuse::abort_private(&killed) {
            Ok(aborted) => {
                for pid in killed {
                    let own = aborted.iter().filter(|(of, _)| *of == pid);
                    let numbers: Vec<_> = own.map(|(_, connection)| connection.to_string()).collect();
                    if let (false, Some(path)) =
                        (numbers.is_empty(), self.pids.get(&pid.as_raw_nonzero().get()))
                    {
                        log_of!(path, "aborted its own FUSE connections: {}", numbers.join(", "));
                    }
                }
            }
            Err(error) => log!("{error}: FUSE connections of killed vassals are left alone"),
        }
    }

    /// Children that have ended and are none of ours or of the commands'.
    pub fn strangers(&mut self) -> Vec<(Pid, WaitStatus)> {
        std::mem::take(&mut self.strangers)
    }

    /// Whether no command of the emperor's own configuration runs.
    pub fn commands_are_idle(&self) -> bool {
        self.commands.is_idle() && self.questions.is_idle() && self.checks.is_idle()
    }

    /// The file by the name that its vassal has. One that was taken over keeps its name, whatever a directory or pattern of the
    /// new configuration makes of it.
    fn known(&self, path: &Rc<VassalFile>) -> Rc<VassalFile> {
        Rc::clone(self.vassals.key(path).unwrap_or(path))
    }

    fn paths(&self) -> Vec<Rc<VassalFile>> {
        self.vassals.iter().map(|(path, _)| Rc::clone(path)).collect()
    }

    fn apply(&mut self, path: &Rc<VassalFile>, event: Event, now: Instant) {
        if let Some(vassal) = self.vassals.get_mut(path) {
            let action = vassal.machine.step(event, now);
            self.perform(path, action, now);
        }
    }

    fn perform(&mut self, path: &Rc<VassalFile>, action: Action, now: Instant) {
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

    fn read_link(&mut self, path: &Rc<VassalFile>, now: Instant) {
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
    fn answered(&mut self, path: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        let is_asked = matches!(vassal.machine.state(), State::Reloading { .. });
        // In tyrant mode nothing of a file is read but by its owner.
        if is_asked && answer == Answer::NeedsRespawn && !self.spawner.is_tyrant() {
            match self.checks.begin(&self.spawner, path, &why) {
                Ok(()) => {
                    vassal.machine.step(Event::Reloading(checks::TIMEOUT), now);
                    return;
                }
                Err(error) => log_of!(path, "{error}: its file is not read before it is restarted"),
            }
        }
        self.conclude(path, answer, why, now);
    }

    /// The answer to a reload is known, which counts only if one was asked for.
    fn conclude(&mut self, path: &Rc<VassalFile>, answer: Answer, why: String, now: Instant) {
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

    fn bury(&mut self, path: &Rc<VassalFile>, status: WaitStatus, now: Instant) {
        let Some(vassal) = self.vassals.get_mut(path) else { return };
        let Some(mut instance) = vassal.instance.take() else { return };
        instance.close_link(&self.links);
        let why = instance.why_it_ended(status);
        let action = vassal.machine.step(instance.ended(status), now);
        let next = next(vassal.machine.state(), now);
        log_of!(path, "{why}; {}; {next}", instance.how_long(now));
        vassal.last = Some(why);
        vassal.mountpoints.instance_ended();
        vassal.count_failure(now);
        // Its cgroup, if it has one, must be gone before the next instance gets its own.
        drop(instance);
        if !vassal.is_back_soon(now) && vassal.kept.close() > 0 {
            let until = if vassal.machine.state() == State::Idle { "" } else { " until it runs again" };
            log_of!(path, "its sockets are closed{until}");
        }
        self.perform(path, action, now);
    }
}

impl AsFd for Roster {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.links.as_fd()
    }
}

impl Vassal {
    /// Makes the socket that it is to have, unless it is there already.
    fn listen(&mut self) -> Result<()> {
        if !self.listens_right() {
            self.kept.set_demand(None);
            if let Some(address) = &self.demand {
                let (socket, file) = demand::open(address)?;
                self.kept.set_demand(Some((&address.name, socket, file)));
            }
        }
        Ok(())
    }

    /// How many sockets more than now it has once it [listens](Self::listen).
    fn missing(&self) -> u64 {
        (self.demand.is_some() && self.kept.demand().is_none()).into()
    }

    /// Whether it is on its way out for good: started again it would fail for ever, as no scan would find its file gone.
    fn has_lost_its_file(&self) -> bool {
        matches!(self.machine.state(), State::Stopping { then: Then::Nothing, .. })
    }

    /// Brings the total up to date with the sockets that are kept for this one.
    fn count_sockets(&mut self, total: &mut u64) {
        let now = self.kept.count();
        *total = *total - self.counted + now;
        self.counted = now;
    }

    /// Whether the socket that we listen on is the one it is to have.
    fn listens_right(&self) -> bool {
        let wanted = self.demand.as_ref().map(|address| address.name.as_str());
        wanted == self.kept.demand().map(|(address, _)| address) && !self.kept.is_lost()
    }

    /// Whether connections are worth to wait for the next instance.
    fn is_back_soon(&self, now: Instant) -> bool {
        match self.machine.state() {
            State::Starting { .. } => true,
            State::Backoff { until } => until.saturating_duration_since(now) <= kept::LONG,
            _ => false,
        }
    }

    /// An instance is gone: whether that was a failure is to be seen by what comes next.
    fn count_failure(&mut self, now: Instant) {
        self.failures = match self.machine.state() {
            State::Backoff { until } | State::Invalid { until } => {
                let (count, first) =
                    self.failures.map_or((0, now), |failures| (failures.count, failures.first));
                let wait = until.saturating_duration_since(now);
                Some(Failures { count: count.saturating_add(1), first, last: now, wait })
            }
            _ => None,
        };
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

/// What comes next for a vassal without an instance.
fn next(state: State, now: Instant) -> String {
    match state {
        State::Backoff { until } => format!("next try in {}", Elapsed(until.saturating_duration_since(now))),
        State::Invalid { until } => {
            let wait = Elapsed(until.saturating_duration_since(now));
            format!("waiting for the file to change, next try in {wait}")
        }
        State::Starting { .. } => "respawning now".to_owned(),
        State::Idle => "not respawned".to_owned(),
        State::Waiting => "waiting for the next connection".to_owned(),
        State::Held => "not respawned before 'emperor start'".to_owned(),
        State::Running { .. } | State::Reloading { .. } | State::Stopping { .. } => "still there".to_owned(),
    }
}
