//! The supervisor: tells the registry what happens, and carries out what the registry decides.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions};

use super::handles::Handles;
use super::leftovers::Leftovers;
use crate::emperor::commands::as_emperor::Commands;
use crate::emperor::commands::config_check::{Checked, Checks, Verdict};
use crate::emperor::commands::fuse_abort::Freeing;
use crate::emperor::commands::on_demand_exec::{Questions, Reply};
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::event::Event;
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::machine::State;
use crate::emperor::core::order::Order;
use crate::emperor::core::registry::{Registry, Rules};
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::file_removal::FileRemoval;
use crate::emperor::instance::readers::Readers;
use crate::emperor::instance::spawner::Spawner;
use crate::error::{Error, Result};
use crate::log;
use crate::mount::fusectl::Fusectl;
use crate::protocol::{ToVassal, WaitStatus};
use crate::running_time::earliest;

/// How long an emperor that ends may take to remove the cgroups of its vassals.
const FINISHING: Duration = Duration::from_secs(2);

/// Supervises all vassals.
pub struct Supervisor {
    /// Knows the vassals, and decides.
    pub(super) registry: Registry,
    /// The descriptors that are held for them.
    pub(super) handles: Handles,
    pub(super) spawner: Spawner,
    pub(super) commands: Commands,
    pub(super) questions: Questions,
    pub(super) checks: Checks,
    pub(super) freeing: Freeing,
    pub(super) readers: Readers,
    removal: FileRemoval,
    leftovers: Leftovers,
    pub(super) fusectl: Fusectl,
    /// The directories whose vassals another emperor runs, and a sentence that says so.
    of_others: Vec<(PathBuf, Error)>,
    /// Children that have ended and are no instance, command or check: the trial of an upgrade is one.
    other_children: Vec<(Pid, WaitStatus)>,
}

impl Supervisor {
    /// No vassals yet; each will start out with `backoff`, and `max_starts` set up at a time.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub fn new(
        spawner: Spawner,
        commands: Commands,
        questions: Questions,
        backoff: Backoff,
        max_starts: usize,
    ) -> Result<Self> {
        let rules = Rules {
            backoff,
            heartbeat: spawner.heartbeat(),
            stop_timeout: spawner.stop_timeout(),
            max_per_owner: spawner.max_per_owner(),
            max_starts,
            checks_config: !spawner.is_tyrant(),
        };
        Ok(Self {
            registry: Registry::new(rules),
            handles: Handles::new()?,
            spawner,
            commands,
            questions,
            checks: Checks::default(),
            freeing: Freeing::default(),
            readers: Readers::default(),
            removal: FileRemoval::default(),
            leftovers: Leftovers::default(),
            fusectl: Fusectl::default(),
            of_others: Vec::new(),
            other_children: Vec::new(),
        })
    }

    /// The registry, to look things up.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// When [`Supervisor::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(&[
            self.commands.deadline(),
            self.questions.deadline(),
            self.freeing.deadline(),
            self.registry.deadline(),
            self.spawner.removals().deadline(),
            self.leftovers.deadline(),
            self.readers.deadline(),
        ])
    }

    /// A scan has found a file that it did not know. That may be no news of a vassal that was taken over.
    pub fn found(&mut self, file: &Rc<VassalFile>, version: FileVersion, owner: Option<u32>, now: Instant) {
        let unclaimed = self.registry.vassal(file).filter(|vassal| vassal.is_unclaimed());
        let has_old_address = unclaimed.is_some_and(|vassal| self.has_old_address(file, vassal));
        self.apply(file, Event::Found { version: Some(version), has_old_address, owner }, now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// Who has found these files is gone: they will be found once more, as by an emperor that takes over.
    pub fn unclaim(&mut self, files: &[Rc<VassalFile>]) {
        self.registry.unclaim(files);
    }

    /// Whether a vassal waits for a connection to another address than the present configuration says. What a
    /// command or a file says is not known before that is asked.
    fn has_old_address(&self, file: &VassalFile, vassal: &Vassal) -> bool {
        let is_right = || self.spawner.demand(file).as_ref() == vassal.on_demand();
        vassal.state() == State::Waiting && !is_right()
    }

    /// A scan has found that a file has another name.
    pub fn renamed(
        &mut self,
        file: &Rc<VassalFile>,
        before: &OsStr,
        version: FileVersion,
        owner: Option<u32>,
        now: Instant,
    ) {
        let from = Rc::new(file.beside(before));
        self.apply(file, Event::Renamed { from, owner }, now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// A scan has found another version of a file.
    pub fn changed(&mut self, file: &Rc<VassalFile>, version: FileVersion, now: Instant) {
        self.apply(file, Event::Changed("file changed"), now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// The vassal is not to run any more. `why` is for the log.
    pub fn removed(&mut self, file: &Rc<VassalFile>, why: &'static str, now: Instant) {
        self.apply(file, Event::Removed(why), now);
    }

    /// Carries out an order of a command, and returns the first answer to it.
    ///
    /// # Errors
    /// As [`Registry::handle_order`].
    pub fn handle_order(&mut self, order: Order, name: &OsStr, now: Instant) -> Result<String, String> {
        let answer = self.registry.handle_order(order, name, now);
        self.run_effects(now);
        answer
    }

    /// Every vassal is to run as its file says now.
    pub fn reload_all(&mut self, now: Instant) {
        self.registry.reload_all();
        self.run_effects(now);
    }

    /// Earlier failures do not count any more.
    pub fn clear_backoffs(&mut self, now: Instant) {
        self.registry.clear_backoffs(now);
        self.run_effects(now);
    }

    /// Logs one line for every vassal.
    pub fn log_statuses(&mut self, now: Instant) {
        log!("{}", self.registry.count());
        self.registry.log_statuses(now);
        self.run_effects(now);
    }

    /// Ends everything for good: asks the vassals to stop, or kills them.
    pub fn end(&mut self, kill: bool, now: Instant) {
        self.commands.stop();
        self.questions.stop();
        self.readers.stop();
        self.registry.end(kill, now);
        self.run_effects(now);
    }

    /// Does everything that is due, or a part of it; [`Supervisor::deadline`] stays in the past while there
    /// is more.
    pub fn time(&mut self, now: Instant) {
        self.commands.time(now);
        self.questions.time(now);
        self.freeing.time(now);
        self.spawner.removals().time(now);
        if self.leftovers.deadline().is_some_and(|due| due <= now) {
            self.sweep(now);
        }
        self.registry.time(now);
        self.run_effects(now);
    }

    /// Asks the instance of this vassal, or of all if the name is empty, how fast their mountpoints answer,
    /// which is known the next time; everything else they tell by themselves.
    pub fn ask_for_mountpoints(&self, of: &OsStr) {
        let is_meant = |(file, vassal): &(&Rc<VassalFile>, &Vassal)| {
            vassal.has_mountpoints() && (of.is_empty() || file.name() == of)
        };
        for (file, _) in self.registry.vassals().filter(is_meant) {
            if let Some(process) = self.handles.process(file) {
                process.send(&ToVassal::Mountpoints, None);
            }
        }
    }

    /// Takes in all children that have ended: SIGCHLD says that there is one, not how many.
    pub fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(status) = WaitStatus::of(status) else { continue };
            if let Some(file) = self.handles.file_of(pid.as_raw_pid()).cloned() {
                self.reaped(&file, status, now);
            } else if let Some(Checked { path, verdict }) = self.checks.ended(pid) {
                if let Some(Verdict { answer, reason }) = verdict {
                    self.apply(&path, Event::Checked(answer, reason), now);
                }
            } else if !self.commands.ended(pid, status, now)
                && !self.questions.ended(pid, status, now)
                && !self.freeing.ended(pid)
                && !self.removal.ended(pid)
            {
                self.other_children.push((pid, status));
            }
        }
        self.take_replies(now);
        self.run_effects(now);
        self.sweep(now);
    }

    /// Ends what instances have left that were killed.
    fn sweep(&mut self, now: Instant) {
        let handles = &self.handles;
        for (file, event) in self.leftovers.sweep(now, |pid| handles.file_of(pid).is_some()) {
            self.apply(&file, event, now);
        }
    }

    /// The process of an instance has ended.
    fn reaped(&mut self, file: &Rc<VassalFile>, status: WaitStatus, now: Instant) {
        // Its last words first: they say why it ended.
        self.read_messages(file, now);
        let pid = self.handles.process(file).map(|process| process.pid);
        let Some((event, pid)) = self.release(file, status).zip(pid) else { return };
        // One that ends by itself has ended everything else before.
        if self.spawner.shares_pids() && status.signal().is_some() {
            self.leftovers.add(pid, file, event, now);
            self.apply(file, Event::Ended, now);
        } else {
            self.apply(file, event, now);
        }
    }

    /// Lets go of a process that has ended. Its cgroup, if it has one, is killed and removed before the next
    /// instance gets its own.
    pub(super) fn release(&mut self, file: &VassalFile, status: WaitStatus) -> Option<Event> {
        let process = self.handles.take_process(file)?;
        self.commands.instance_ended(process.pid);
        let is_killed = status == WaitStatus::Signaled(libc::SIGKILL);
        Some(Event::Died { status, out_of_memory: is_killed && process.oom_kills() > 0 })
    }

    /// Frees those that were just killed from FUSE connections of their own, which may hold them for ever.
    /// All with one look at the machine, since hundreds may hang in the same moment.
    pub fn free_killed(&mut self, now: Instant) {
        let is_its = |pid, file: &VassalFile| self.handles.process(file).is_some_and(|one| one.pid == pid);
        self.freeing.begin(now, is_its);
    }

    /// Removes the files of sockets that were closed for good.
    pub fn remove_files(&mut self) {
        self.removal.begin(self.handles.take_left());
    }

    /// Children that have ended and are no instance, command or check.
    pub fn take_other_children(&mut self) -> Vec<(Pid, WaitStatus)> {
        std::mem::take(&mut self.other_children)
    }

    /// Whether nothing that instances have left is still being removed.
    pub fn has_tidied_up(&self) -> bool {
        self.spawner.removals().deadline().is_none() && self.removal.is_idle()
    }

    /// All vassals have ended: finishes what was left for later.
    pub fn finish(&mut self) {
        self.remove_files();
        self.readers.finish();
        self.removal.finish(Instant::now() + FINISHING);
        self.spawner.removals().finish(FINISHING);
    }

    /// Another emperor runs the vassals of these directories: no process is created for one.
    pub fn leave_to_others(&mut self, directories: Vec<(PathBuf, Error)>) {
        self.of_others = directories;
    }

    /// Whether this emperor is the one that runs a vassal.
    ///
    /// # Errors
    /// Another one does.
    pub(super) fn is_ours(&self, file: &VassalFile) -> Result<()> {
        let of_other = self.of_others.iter().find(|(directory, _)| file.parent() == Some(directory));
        of_other.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Whether no command of the emperor's own configuration runs, no file is read, and no death is yet to be
    /// told.
    pub fn commands_are_idle(&self, now: Instant) -> bool {
        let is_sweeping = self.leftovers.deadline().is_some();
        let is_reading = !self.readers.is_idle() || !self.checks.is_idle(now);
        !is_sweeping && !is_reading && self.commands.is_idle() && self.questions.is_idle()
    }

    /// Tells the registry of an event, and carries out its decisions.
    pub(super) fn apply(&mut self, file: &Rc<VassalFile>, event: Event, now: Instant) {
        self.registry.apply(file, event, now);
        self.run_effects(now);
    }

    /// Tells the registry the addresses that are known now.
    pub(super) fn take_replies(&mut self, now: Instant) {
        for Reply { path, why, address } in self.questions.replies() {
            self.registry.apply(&path, Event::Address { why, address }, now);
        }
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handles.as_fd()
    }
}
