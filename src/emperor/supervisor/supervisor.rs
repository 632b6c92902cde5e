//! All vassals: events in, the state machine's actions carried out, one log line for everything that happens.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use rustix::event::epoll;
use rustix::process::{Pid, WaitOptions};

use crate::config::plan::Address;
use crate::emperor::commands::as_emperor::Commands;
use crate::emperor::commands::config_check::{Checked, Checks};
use crate::emperor::commands::on_demand_exec::{Questions, Reply};
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::machine::{Event, Machine, State, Then, next};
use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::sorted_map::Table;
use crate::emperor::core::status::Failures;
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::instance::Instance;
use crate::emperor::instance::kept_sockets::{self, Kept};
use crate::emperor::instance::on_demand;
use crate::emperor::instance::spawner::Spawner;
use crate::error::{Context, Result};
use crate::log;
use crate::log_of;
use crate::mount::fuse;
use crate::protocol::WaitStatus;

/// How many vassals whose time has come get it per turn.
const TIMERS_PER_TURN: usize = 32;

/// What tells the events of on-demand sockets from those of links; the socket's number follows.
pub(super) const DEMAND: u64 = 1 << 32;

/// The vassals by the paths of their files.
pub struct Roster {
    pub(super) spawner: Spawner,
    pub(super) commands: Commands,
    pub(super) questions: Questions,
    pub(super) checks: Checks,
    pub(super) backoff: Backoff,
    /// Readable when a link is; its events carry the pid.
    pub(super) links: OwnedFd,
    pub(super) vassals: Table<Rc<VassalFile>, Box<Vassal>>,
    pub(super) pids: Table<i32, Rc<VassalFile>>,
    /// Those that wait for a connection, by the descriptor of their socket.
    pub(super) waiting: Table<i32, Rc<VassalFile>>,
    /// Which of them each name means.
    pub(super) names: Table<OsString, Rc<VassalFile>>,
    /// Files whose name is taken by a vassal of another directory. They wait for its end.
    pub(super) shadowed: Vec<Rc<VassalFile>>,
    pub(super) timers: Table<(Instant, Rc<VassalFile>), ()>,
    /// How many sockets are kept for all vassals together: the sum of their [`Vassal::counted`].
    pub(super) sockets: u64,
    /// Children that have ended and are none of ours or of the commands'.
    pub(super) strangers: Vec<(Pid, WaitStatus)>,
    /// Instances that were just sent SIGKILL.
    pub(super) killed: Vec<Pid>,
    /// Whether all vassals are to end for good.
    pub(super) ending: bool,
    pub(super) given_up: u64,
}

pub(super) struct Vassal {
    pub(super) machine: Machine,
    /// Which version of its file was used last ([`Spawner::version`]).
    pub(super) seen: [u64; 6],
    /// Whether it is from the program in whose place we are, and its file was not found yet.
    pub(super) unclaimed: bool,
    /// Its deadline, as it stands in [`Roster::timers`].
    pub(super) timer: Option<Instant>,
    pub(super) instance: Option<Instance>,
    /// How many instances there have been.
    pub(super) instances: u64,
    /// How often one was reloaded without another one.
    pub(super) reloads: u64,
    /// When the first one was created, and when the latest one, or when that was reloaded.
    pub(super) runs: Option<(Instant, Instant)>,
    /// Its failures in a row.
    pub(super) failures: Option<Failures>,
    /// Why the last one ended or could not start.
    pub(super) last: Option<String>,
    /// Why the file, as it is now, was not taken by the running instance, which goes on with an older one.
    pub(super) refused: Option<String>,
    /// Its listening sockets.
    pub(super) kept: Kept,
    /// How many of them are counted in [`Roster::sockets`].
    pub(super) counted: u64,
    pub(super) mountpoints: Mountpoints,
    /// Whether its app has ever said that it is ready.
    pub(super) announces: bool,
    /// Where the first connection is waited for; `None` where it is not on demand.
    pub(super) demand: Option<Address>,
    /// The descriptor of its socket while we do, as it stands in [`Roster::waiting`].
    pub(super) armed: Option<i32>,
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
    pub(super) fn start_at(
        &mut self,
        path: &Rc<VassalFile>,
        why: &str,
        address: Result<Option<Address>>,
        now: Instant,
    ) {
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
    pub(super) fn hear_replies(&mut self, now: Instant) {
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
        self.commands.is_idle() && self.questions.is_idle() && self.checks.count() == 0
    }

    /// The file by the name that its vassal has. One that was taken over keeps its name, whatever a directory or pattern of the
    /// new configuration makes of it.
    pub(super) fn known(&self, path: &Rc<VassalFile>) -> Rc<VassalFile> {
        Rc::clone(self.vassals.key(path).unwrap_or(path))
    }

    pub(super) fn paths(&self) -> Vec<Rc<VassalFile>> {
        self.vassals.iter().map(|(path, _)| Rc::clone(path)).collect()
    }

    pub(super) fn apply(&mut self, path: &Rc<VassalFile>, event: Event, now: Instant) {
        if let Some(vassal) = self.vassals.get_mut(path) {
            let action = vassal.machine.step(event, now);
            self.perform(path, action, now);
        }
    }

    pub(super) fn bury(&mut self, path: &Rc<VassalFile>, status: WaitStatus, now: Instant) {
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
    pub(super) fn listen(&mut self) -> Result<()> {
        if !self.listens_right() {
            self.kept.set_demand(None);
            if let Some(address) = &self.demand {
                let (socket, file) = on_demand::open(address)?;
                self.kept.set_demand(Some((&address.name, socket, file)));
            }
        }
        Ok(())
    }

    /// How many sockets more than now it has once it [listens](Self::listen).
    pub(super) fn missing(&self) -> u64 {
        (self.demand.is_some() && self.kept.demand().is_none()).into()
    }

    /// Whether it is on its way out for good: started again it would fail for ever, as no scan would find its file gone.
    pub(super) fn has_lost_its_file(&self) -> bool {
        matches!(self.machine.state(), State::Stopping { then: Then::Nothing, .. })
    }

    /// Brings the total up to date with the sockets that are kept for this one.
    pub(super) fn count_sockets(&mut self, total: &mut u64) {
        let now = self.kept.count();
        *total = *total - self.counted + now;
        self.counted = now;
    }

    /// Whether the socket that we listen on is the one it is to have.
    pub(super) fn listens_right(&self) -> bool {
        let wanted = self.demand.as_ref().map(|address| address.name.as_str());
        wanted == self.kept.demand().map(|(address, _)| address) && !self.kept.is_lost()
    }

    /// Whether connections are worth to wait for the next instance.
    pub(super) fn is_back_soon(&self, now: Instant) -> bool {
        match self.machine.state() {
            State::Starting { .. } => true,
            State::Backoff { until } => until.saturating_duration_since(now) <= kept_sockets::LONG,
            _ => false,
        }
    }

    /// An instance is gone: whether that was a failure is to be seen by what comes next.
    pub(super) fn count_failure(&mut self, now: Instant) {
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
