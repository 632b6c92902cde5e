//! The emperor's main loop: waits for a signal, a change, a vassal's word or the nearest deadline.

use std::collections::VecDeque;
use std::fmt::Display;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::files::{PidFile, is_log, log_to};
use super::privileges::User;
use super::systemd::Notifier;
use super::upgrade::{Handover, UNDERSTOOD, Upgrade};
use crate::config::plan::{Address, EmperorPlan};
use crate::emperor::api::control::Command;
use crate::emperor::api::server::{Server, Service};
use crate::emperor::api::{control, metrics, render, stats};
use crate::emperor::commands::as_emperor::Commands;
use crate::emperor::commands::on_demand_exec::Questions;
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::saved::Saved;
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::discovery::directories::Directories;
use crate::emperor::instance::{origin::Origin, spawner::Spawner};
use crate::emperor::supervisor::supervisor::Supervisor;
use crate::emperor::{
    core::owner::Owners,
    discovery::scan::{Change, Rules},
};
use crate::error::{Context, Error, Result};
use crate::log;
use crate::log::{Elapsed, push_printable};
use crate::log_of;
use crate::signal_names;
use crate::sys::clone;
use crate::sys::signal::{Inherited, Signal, SignalFd};

use super::upgrade_flow::Upgrading;

/// So many changed files are acted on before signals and vassals get their turn again.
const CHANGES_PER_TURN: usize = 32;

/// A signal to stop that is repeated within this time is the same request: timeout(1) signals its child and then the
/// group that it is in, and a Ctrl-C can arrive by two ways.
const SAME_REQUEST: Duration = Duration::from_secs(1);

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What could not be had is asked for again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs an emperor until a signal ends it; `inherited` is what [`signal::block_all`] returned.
///
/// An upgrade is tried by coming here up to the place from which on others would notice: all that can fail before has
/// failed by then. From there on nothing ends an emperor that has taken over vassals, since they would end with it.
///
/// # Errors
/// When it cannot begin (vassal-init missing, no descriptors). Also when a vassal could not even be killed.
pub fn run(plan: &EmperorPlan, inherited: Inherited) -> Result<()> {
    // Whatever our starter left open is no business of the vassals.
    crate::sys::fd::cloexec_from(3);
    let now = Instant::now();
    let handover = Handover::take(now)?;
    let origin = Rc::new(Origin::new(inherited, handover.as_ref().map(|handover| &handover.saved))?);
    let trial = handover.as_ref().is_some_and(|handover| handover.trial);
    let upgraded = handover.is_some() && !trial;
    if plan.json_log {
        log::as_json();
    }
    let mut emperor = need(upgraded, || Emperor::new(plan, &origin, trial, now))?;
    emperor.begin(plan, handover, now)?;
    while emperor.goes_on() {
        emperor.turn();
    }
    match emperor.supervisor.registry().given_up() {
        0 => Ok(()),
        stuck => Err(Error::new("stop", Count(stuck, "vassal"), "killed, but stuck in the kernel")),
    }
}

/// What no emperor can do without: one that has taken over vassals waits for it.
fn need<T>(upgraded: bool, make: impl Fn() -> Result<T>) -> Result<T> {
    loop {
        match make() {
            Err(error) if upgraded => try_again(&error),
            result => return result,
        }
    }
}

/// Waits before the next try of what has failed.
pub fn try_again(failed: &dyn Display) {
    log!("{failed}: trying again in {}", Elapsed(AGAIN));
    std::thread::sleep(AGAIN);
}

/// What an emperor that starts cannot do without, one that has taken over vassals can.
fn insist<T>(upgraded: bool, result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if upgraded => {
            log!("{error}: going on without");
            Ok(None)
        }
        result => result.map(Some),
    }
}

pub(super) struct Emperor {
    pub(super) signals: SignalFd,
    pub(super) directories: Directories,
    pub(super) supervisor: Supervisor,
    pub(super) server: Server,
    pub(super) notifier: Notifier,
    /// Found by a scan and not acted on yet.
    pub(super) changes: VecDeque<(Rc<VassalFile>, Change)>,
    /// Since when everything is being stopped.
    pub(super) stopping: Option<Instant>,
    /// Until when changes are not listened to, once there has been one too early.
    pub(super) deaf_until: Option<Instant>,
    pub(super) began: Instant,
    /// The directories as they were configured, for the stats.
    pub(super) sources: Vec<PathBuf>,
    /// Whether vassals run as the owners of their files.
    pub(super) tyrant: bool,
    pub(super) pid_file: Option<PidFile>,
    pub(super) origin: Rc<Origin>,
    pub(super) upgrade: Upgrade,
    /// An upgrade that is under way.
    pub(super) upgrading: Option<Upgrading>,
    /// When we took over from another program, while there may be vassals left that are not claimed.
    pub(super) taken_over: Option<Instant>,
}

impl Emperor {
    /// An emperor that nobody has noticed yet.
    fn new(plan: &EmperorPlan, origin: &Rc<Origin>, trial: bool, now: Instant) -> Result<Self> {
        let spawner = Spawner::new(plan, Rc::clone(origin))?;
        if trial {
            spawner.try_out()?;
        }
        let commands = Commands::new(plan.as_emperor.clone(), Rc::clone(origin));
        let questions = Questions::new(plan.on_demand.as_ref().map(|rule| &rule.value), Rc::clone(origin));
        let backoff = Backoff::new(plan.throttle, plan.max_throttle);
        let rules = Rules {
            extra_suffixes: plan.extra_suffixes.clone(),
            nofollow: plan.nofollow,
            owners: Owners::of(plan.tyrant),
        };
        Ok(Self {
            signals: SignalFd::new().context("create", "signalfd")?,
            directories: Directories::new(&plan.sources, rules, plan.scan_interval)?,
            server: Server::new()?,
            upgrade: Upgrade::new(Rc::clone(origin))?,
            supervisor: Supervisor::new(spawner, commands, questions, backoff)?,
            notifier: Notifier::new(&origin.environment, now),
            changes: VecDeque::new(),
            stopping: None,
            deaf_until: None,
            began: now,
            sources: plan.sources.iter().map(|source| source.value.path().to_owned()).collect(),
            tyrant: plan.tyrant.is_some(),
            pid_file: None,
            origin: Rc::clone(origin),
            upgrading: None,
            taken_over: None,
        })
    }

    /// Takes its place in the world; a trial ends here.
    fn begin(&mut self, plan: &EmperorPlan, handover: Option<Handover>, now: Instant) -> Result<()> {
        let trial = handover.as_ref().is_some_and(|handover| handover.trial);
        let saved = handover.as_ref().filter(|_| !trial).map(|handover| &handover.saved);
        let upgraded = saved.is_some();
        let user = insist(upgraded, User::of(plan, handover.is_some()))?.flatten();
        // What our groups may read, a vassal's owner may not have us read for him.
        let drop_groups = || match plan.tyrant {
            Some(_) => crate::sys::creds::set_groups(&[]).context("emperor-tyrant: drop", "our groups"),
            None => Ok(()),
        };
        if trial {
            drop_groups()?;
            clone::exit(UNDERSTOOD);
        }
        if let Some(file) = &plan.log
            && !(upgraded && is_log(&file.value))
        {
            insist(upgraded, log_to(&file.value))?;
        }
        if plan.namespaces & libc::CLONE_NEWPID as u64 == 0 {
            log!("emperor-use-clone has no pid: processes of a vassal can outlive it");
        }
        self.listen(plan, saved)?;
        let pid_file = plan.pid_file.as_ref().map(|file| &*file.value);
        if let Some(saved) = saved {
            PidFile::moves(&saved.pid_file, pid_file);
        }
        if let Some(path) = pid_file {
            self.pid_file = insist(upgraded, PidFile::new(path))?;
        }
        // What only root can open is open.
        if let Some(user) = user {
            user.assume(&self.server)?;
        }
        need(upgraded, drop_groups)?;
        match handover {
            Some(Handover { saved, .. }) => self.take_over(saved, now),
            None => {
                let first = self.sources.first().map(|source| source.display());
                let others = if self.sources.len() > 1 { " and others" } else { "" };
                if let Some(first) = first {
                    log!("version {VERSION}: watching {first}{others}");
                }
            }
        }
        Ok(())
    }

    /// Our sockets. Several emperors can run on a machine: only one that was given a place of its own
    /// for commands insists on it.
    fn listen(&mut self, plan: &EmperorPlan, saved: Option<&Saved>) -> Result<()> {
        let (server, upgraded) = (&mut self.server, saved.is_some());
        server.inherit(saved.map_or(&[], |saved| &saved.listeners));
        match &plan.control {
            Some(path) => {
                insist(upgraded, server.add(Service::Control, &Address::file(path.value.clone())))?;
            }
            None => {
                if let Err(error) = server.add(Service::Control, &Address::file(control::DEFAULT.into())) {
                    log!(
                        "{error}: this emperor takes no commands; 'control = PATH' gives it a place of its own"
                    );
                }
            }
        }
        for (service, address) in [(Service::Stats, &plan.stats), (Service::Metrics, &plan.metrics)] {
            if let Some(address) = address {
                insist(upgraded, server.add(service, &address.value))?;
            }
        }
        server.settle();
        Ok(())
    }

    fn goes_on(&self) -> bool {
        match self.stopping {
            Some(since) if self.supervisor.registry().is_empty() => {
                if self.supervisor.registry().given_up() == 0 {
                    log!("all vassals stopped in {}", Elapsed(since.elapsed()));
                }
                false
            }
            _ => true,
        }
    }

    /// Waits once, and does everything that can be done without waiting.
    fn turn(&mut self) {
        // Where nothing tells of changes, or it is too early for them, what does is no news.
        let now = Instant::now();
        self.deaf_until = self.deaf_until.filter(|until| *until > now);
        let watch = self.directories.watch.descriptor().filter(|_| self.deaf_until.is_none());
        let watch = watch.unwrap_or(self.signals.as_fd());
        let mut ready = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(watch, PollFlags::IN),
            PollFd::new(&self.supervisor, PollFlags::IN),
            PollFd::new(&self.server, PollFlags::IN),
        ];
        let mut blind = false;
        match poll(&mut ready, self.timeout(now).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // No memory, or a limit of open files that was lowered: nothing of what follows waits for anybody.
            Err(errno) => {
                try_again(&Error::os("wait for", "events", errno));
                blind = true;
            }
        }
        let [signals, changes, links, clients] = ready.map(|fd| blind || !fd.revents().is_empty());
        let now = Instant::now();
        if signals {
            self.take_signals(now);
        }
        if links {
            self.supervisor.listen_to_vassals(now);
        }
        self.supervisor.time(now);
        if clients {
            self.answer(now);
        }
        self.server.time(now);
        self.notifier.time(now);
        log::flush();
        if changes {
            self.deaf_until = self.directories.quiet_until().filter(|until| *until > now);
            if self.deaf_until.is_none()
                && let Err(error) = self.directories.watch.read(now)
            {
                log!("{error}");
            }
        }
        if self.scan_at(now).is_some_and(|due| due <= now) {
            self.changes = self.directories.scan(now).into();
            self.claim(now);
        }
        for _ in 0..CHANGES_PER_TURN {
            let Some((path, change)) = self.changes.pop_front() else { break };
            self.act_on(&path, change, now);
        }
        self.supervisor.free_killed();
        if self.changes.is_empty() {
            self.notifier.ready(now, || self.supervisor.registry().is_reloading());
        }
        self.go_on_upgrading(now);
        if self.notifier.wants_status(now) {
            self.notifier.status(self.supervisor.registry().summary(), now);
        }
    }

    /// When to scan; never while stopping, and not before what the last scan found is done.
    fn scan_at(&self, now: Instant) -> Option<Instant> {
        (self.stopping.is_none() && self.changes.is_empty()).then(|| self.directories.due(now))
    }

    fn timeout(&self, now: Instant) -> Option<Timespec> {
        let nearest = match self.changes.is_empty() {
            true => {
                let (vassals, server) = (self.supervisor.deadline(), self.server.deadline());
                let (notifier, upgrade) = (self.notifier.deadline(), self.upgrade.deadline());
                let hang_up = self.upgrading.as_ref().and_then(Upgrading::hangs_up_at);
                let hang_up = hang_up.filter(|time| *time > now);
                let (scan, lines) = (self.scan_at(now), log::deadline(now));
                [scan, self.deaf_until, vassals, server, notifier, upgrade, hang_up, lines]
                    .into_iter()
                    .flatten()
                    .min()?
            }
            false => now,
        };
        Timespec::try_from(nearest.saturating_duration_since(now)).ok()
    }

    /// Answers what was asked.
    fn answer(&mut self, now: Instant) {
        let uptime = now.saturating_duration_since(self.began);
        for question in self.server.turn(now) {
            let vassals = self.supervisor.registry();
            let text = match question.service {
                Service::Stats => {
                    stats::json(&self.sources, self.tyrant, vassals.statuses(now), now).into_bytes()
                }
                Service::Metrics => metrics::answer(&question.text, || vassals.statuses(now), uptime),
                Service::Control => {
                    let command = Command::read(&question.text);
                    if let Some(Command::Status { .. }) = command {
                        self.supervisor.ask_for_mountpoints();
                    }
                    let told = match command {
                        Some(Command::Status { json, of }) => {
                            vassals.statuses_of(of, now).map_err(printable).map(|found| {
                                if json { render::json(found, uptime) } else { render::table(found) }
                            })
                        }
                        None => Err("this emperor does not know that command".to_owned()),
                        Some(_) if self.stopping.is_some() => Err("the emperor is stopping".to_owned()),
                        Some(Command::Order(order, name)) => {
                            self.supervisor.handle_order(order, name, now).map(printable).map_err(printable)
                        }
                        Some(Command::Outcome(order, name)) => {
                            let (outcome, text) = vassals.outcome(order, name, now);
                            let text = control::outcome(outcome, printable(text));
                            self.server.answer(question.client, text, now);
                            continue;
                        }
                        Some(Command::Upgrade) => match self.begin_upgrade(Some(question.client), now) {
                            Ok(()) => continue,
                            Err(why) => Err(why),
                        },
                    };
                    control::answer(told)
                }
            };
            self.server.answer(question.client, text, now);
        }
    }

    fn act_on(&mut self, path: &Rc<VassalFile>, change: Change, now: Instant) {
        match change {
            Change::Appeared => self.supervisor.found(path, now),
            Change::Changed => self.supervisor.changed(path, now),
            Change::Removed => self.supervisor.removed(path, "file removed", now),
            Change::Refused(why) => {
                log_of!(path, "{} ignored: {why}", path.display());
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        while let Some(signal) = self.signals.next() {
            match signal.number {
                libc::SIGCHLD => self.supervisor.reap(now),
                libc::SIGINT | libc::SIGTERM | libc::SIGQUIT => self.stop(signal, now),
                libc::SIGUSR1 => self.supervisor.log_statuses(now),
                libc::SIGUSR2 if self.stopping.is_none() => {
                    if let Err(why) = self.begin_upgrade(None, now) {
                        log!("{}: {why}", sent(signal));
                    }
                }
                libc::SIGHUP if self.stopping.is_none() => {
                    log!("{}: reloading {}", sent(signal), self.supervisor.registry().count());
                    self.supervisor.reload_all(now);
                    self.notifier.reloading(now);
                }
                libc::SIGURG => {
                    log!("{}: clearing all backoffs", sent(signal));
                    self.supervisor.clear_backoffs(now);
                }
                _ => {}
            }
        }
    }

    /// Stops everything at the same time; asked again, it kills.
    fn stop(&mut self, signal: Signal, now: Instant) {
        let (kill, how) = match request(self.stopping, now) {
            Request::Stop => (false, "stopping"),
            Request::Same => return,
            Request::Kill => (true, "asked again, killing"),
        };
        log!("{}: {how} {}", sent(signal), self.supervisor.registry().count());
        self.stopping.get_or_insert(now);
        self.changes.clear();
        if self.upgrading.is_some() {
            self.refuse_upgrade("the emperor is stopping", now);
        }
        self.notifier.stopping();
        self.supervisor.end(kill, now);
    }
}

/// A line for somebody's terminal: a file's name may hold anything.
fn printable(line: String) -> String {
    let mut printable = String::new();
    push_printable(&mut printable, &line);
    printable
}

/// What a signal to stop means.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Stop,
    /// Nothing more than the one before.
    Same,
    Kill,
}

/// `first` is when the first such signal came.
fn request(first: Option<Instant>, now: Instant) -> Request {
    match first {
        None => Request::Stop,
        Some(first) if now.saturating_duration_since(first) < SAME_REQUEST => Request::Same,
        Some(_) => Request::Kill,
    }
}

/// `SIGTERM from pid 42`.
fn sent(signal: Signal) -> String {
    let name = signal_names::name(signal.number);
    if signal.sender == 0 { name } else { format!("{name} from pid {}", signal.sender) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_signal_kills_only_when_it_comes_later() {
        let now = Instant::now();
        assert_eq!(request(None, now), Request::Stop);
        assert_eq!(request(Some(now), now), Request::Same);
        assert_eq!(request(Some(now), now + Duration::from_millis(999)), Request::Same);
        assert_eq!(request(Some(now), now + SAME_REQUEST), Request::Kill);
    }
}
