//! The supervisor: reports events to the registry, and carries out its effects.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::handles::Handles;
use super::leftovers::Leftovers;
use crate::cgroup::{self, Usage};
use crate::emperor::commands::as_emperor::Commands;
use crate::emperor::commands::config_check::{Checked, Checks, Verdict};
use crate::emperor::commands::fuse_abort::Freeing;
use crate::emperor::commands::on_demand_exec::{Questions, Reply};
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::event::{Event, InstanceEvent};
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::instance_id::{FIRST, InstanceId};
use crate::emperor::core::order::Order;
use crate::emperor::core::registry::{Registry, Rules};
use crate::emperor::core::status::Status;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::file_removal::FileRemoval;
use crate::emperor::instance::process::Process;
use crate::emperor::instance::readers::{About, News, Purpose, Readers};
use crate::emperor::instance::reading::Job;
use crate::emperor::instance::spawner::Spawner;
use crate::error::{Error, Result};
use crate::log;
use crate::mount::fusectl::Fusectl;
use crate::protocol::{ToVassal, WaitStatus};
use crate::running_time::earliest;

/// How long an emperor that ends may take to remove its vassals' cgroups.
const FINISHING: Duration = Duration::from_secs(2);

/// How often it is looked whether the cgroup of the vassals is still frozen, or instances of another owner
/// are left.
pub(super) const BLOCKED: Duration = Duration::from_secs(1);

/// To look for children that have ended may take one part in so many of the time, but is put off for
/// [`REAPING`] at most.
const SHARE: u32 = 10;
const REAPING: Duration = Duration::from_millis(100);

/// Supervises all vassals.
pub struct Supervisor {
    /// Knows the vassals, and decides about them.
    pub(super) registry: Registry,
    /// The descriptors of the vassals.
    pub(super) handles: Handles,
    pub(super) spawner: Spawner,
    pub(super) commands: Commands,
    pub(super) questions: Questions,
    pub(super) checks: Checks,
    pub(super) freeing: Freeing,
    pub(super) readers: Readers,
    /// The instances that may not start yet, and when to look.
    pub(super) blocked: Vec<InstanceId>,
    pub(super) look_at: Option<Instant>,
    /// What readers have done for the emperor itself.
    pub(super) own_news: Vec<(Rc<VassalFile>, News)>,
    removal: FileRemoval,
    leftovers: Leftovers,
    pub(super) fusectl: Fusectl,
    /// The directories whose vassals another emperor runs, each with a message that says so.
    of_others: Vec<(PathBuf, Error)>,
    /// Children that have ended and are not an instance, command or check, such as the trial of an upgrade.
    other_children: Vec<(Pid, WaitStatus)>,
    /// When to look for children that have ended, and for how long that is put off after a death.
    reap_at: Option<Instant>,
    reap_after: Duration,
}

impl Supervisor {
    /// A supervisor without vassals. Each vassal will start with `backoff`; `max_starts` are set up at a
    /// time, and `max_rolls` replace their instances.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub fn new(
        spawner: Spawner,
        commands: Commands,
        questions: Questions,
        backoff: Backoff,
        max_starts: usize,
        max_rolls: usize,
    ) -> Result<Self> {
        let rules = Rules {
            backoff,
            heartbeat: spawner.heartbeat(),
            stop_timeout: spawner.stop_timeout(),
            max_per_owner: spawner.max_per_owner(),
            max_starts,
            max_rolls,
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
            blocked: Vec::new(),
            look_at: None,
            own_news: Vec::new(),
            removal: FileRemoval::default(),
            leftovers: Leftovers::default(),
            fusectl: Fusectl::default(),
            of_others: Vec::new(),
            other_children: Vec::new(),
            reap_at: None,
            reap_after: Duration::ZERO,
        })
    }

    /// The registry, for reading.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Notes the date, as time since 1970.
    pub fn note_date(&mut self, date: Duration) {
        self.registry.note_date(date);
    }

    /// How many processes of instances there are.
    pub fn processes(&self) -> u64 {
        self.handles.processes() as u64
    }

    /// What the cgroup of an instance uses; nothing is known where the emperor has made none.
    pub fn usage(&self, instance: &Status<'_>) -> Usage {
        self.handles.cgroup(instance.path, instance.replica).map(cgroup::usage).unwrap_or_default()
    }

    /// The emperor's limit of open files, and how many instances it has room for.
    pub fn room(&self) -> (u64, u64) {
        Spawner::room(self.handles.sockets())
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
            self.look_at,
            self.reap_at,
        ])
    }

    /// A scan has found a new file. A vassal that was taken over may already have this file.
    pub fn found(&mut self, file: &Rc<VassalFile>, version: FileVersion, owner: Option<u32>, now: Instant) {
        let unclaimed = self.registry.vassal(file).filter(|vassal| vassal.is_unclaimed());
        let has_old_address = unclaimed.is_some_and(|vassal| self.has_old_address(file, vassal));
        self.apply(file, Event::Found { version: Some(version), has_old_address, owner }, now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// The scout that found these files has ended. The next one will report them again, as after an upgrade.
    pub fn unclaim(&mut self, files: &[Rc<VassalFile>]) {
        self.registry.unclaim(files);
    }

    /// Whether a vassal waits for a connection at another address than the present configuration has. An
    /// address from a command or a file is only known once that has been asked.
    fn has_old_address(&self, file: &VassalFile, vassal: &Vassal) -> bool {
        let is_right = || self.spawner.demand(file).as_ref() == vassal.on_demand();
        vassal.is_waiting() && !is_right()
    }

    /// A scan has found that a file was renamed.
    pub fn renamed(
        &mut self,
        file: &Rc<VassalFile>,
        before: &OsStr,
        version: FileVersion,
        owner: Option<u32>,
        now: Instant,
    ) {
        let from = Rc::new(file.beside(before));
        self.apply(file, Event::Renamed { from, version, owner }, now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// A scan has found a new version of a file.
    pub fn changed(&mut self, file: &Rc<VassalFile>, version: FileVersion, now: Instant) {
        if self.registry.is_remounted(file, version) {
            return;
        }
        self.apply(file, Event::Touched("file changed", version.owner), now);
        self.registry.apply(file, Event::Seen(version), now);
    }

    /// The vassal must not run any longer. `why` is for the log.
    pub fn removed(&mut self, file: &Rc<VassalFile>, why: &'static str, now: Instant) {
        self.apply(file, Event::Removed(why), now);
    }

    /// Carries out an order, and returns the first answer to it.
    ///
    /// # Errors
    /// As [`Registry::handle_order`].
    pub fn handle_order(
        &mut self,
        order: (Order, bool),
        name: &OsStr,
        now: Instant,
    ) -> Result<String, String> {
        let answer = self.registry.handle_order(order, name, now);
        self.run_effects(now);
        answer
    }

    /// Every vassal must run as its file says now.
    pub fn reload_all(&mut self, now: Instant) {
        self.registry.reload_all();
        self.run_effects(now);
    }

    /// Replaces the instances of all vassals that are up, one after another. Returns how many vassals these
    /// are, for the answer.
    pub fn roll_all(&mut self, now: Instant) -> String {
        let text = format!("{} will replace their instances, one after another", self.registry.roll_all(now));
        self.run_effects(now);
        text
    }

    /// Has a reader do something with a file of the emperor's own, unless one does already.
    pub fn have_done(&mut self, path: &Path, job: Job, now: Instant) {
        let id = InstanceId::new(&Rc::new(VassalFile::new(path.to_owned(), 0)), FIRST);
        if !self.readers.is_asked(&id, About::Own) {
            self.readers.ask(&id, None, None, Purpose::Own(job), now);
            self.run_effects(now);
        }
    }

    /// What readers have done for the emperor itself, since the last call.
    pub fn take_own_news(&mut self) -> Vec<(Rc<VassalFile>, News)> {
        std::mem::take(&mut self.own_news)
    }

    /// Forgets earlier failures.
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

    /// Does everything that is due, or some of it. [`Supervisor::deadline`] stays in the past while more is
    /// due.
    pub fn time(&mut self, now: Instant) {
        if self.reap_at.is_some_and(|at| at <= now) {
            self.reap(now);
        }
        self.spawner.tidy();
        self.commands.time(now);
        self.questions.time(now);
        self.freeing.time(now);
        self.spawner.removals().time(now);
        if self.leftovers.deadline().is_some_and(|due| due <= now) {
            self.sweep(now);
        }
        if self.look_at.take_if(|at| *at <= now).is_some() {
            if self.spawner.is_frozen() {
                self.look_at = Some(now + BLOCKED);
            } else {
                for id in std::mem::take(&mut self.blocked) {
                    self.registry.apply_to(&id, InstanceEvent::Unblocked, now);
                }
            }
        }
        let (handles, checks) = (&self.handles, &self.checks);
        let is_frozen = |id: &InstanceId| handles.process(id).is_some_and(Process::is_frozen);
        let starts = |id: &InstanceId| handles.process(id).is_none_or(Process::is_at_work);
        let is_at_work = |id: &InstanceId| checks.is_at_work(id).unwrap_or_else(|| starts(id));
        self.registry.time(now, &is_frozen, &is_at_work);
        self.run_effects(now);
    }

    /// Asks the instances of these vassals, or all instances if there is no name, how fast their mountpoints
    /// answer. The result is known at the next call. Instances report everything else unasked.
    pub fn ask_for_mountpoints(&self, of: &[&OsStr]) {
        let named = |file: &Rc<VassalFile>| {
            of.iter().any(|name| self.registry.meant(name).is_some_and(|(meant, _)| meant == file))
        };
        let is_meant = |(file, vassal): &(&Rc<VassalFile>, &Vassal)| {
            vassal.has_mountpoints() && (of.is_empty() || named(file))
        };
        for (file, vassal) in self.registry.vassals().filter(is_meant) {
            for instance in vassal.instances() {
                if let Some(process) = self.handles.process(&InstanceId::new(file, instance.number())) {
                    process.send(&ToVassal::Mountpoints, None);
                }
            }
        }
    }

    /// How much memory the processes of an instance take, in bytes, if its PID 1 has this pid and a cgroup of
    /// its own.
    pub fn memory_of(&self, pid: i32) -> Option<u64> {
        self.handles.process(self.handles.instance_of(pid)?)?.memory()
    }

    /// Reaps the child that SIGCHLD names, and soon all others that have ended, as one signal may stand for
    /// several. To find these, the kernel looks at all children: with a thousand of them, that takes a tenth
    /// of the time in which the one that has ended is back.
    pub fn child_ended(&mut self, child: u32, now: Instant) {
        self.spawner.tidy();
        if let Some(child) = Pid::from_raw(child.cast_signed())
            && let Ok(Some(ended)) = waitpid(Some(child), WaitOptions::NOHANG)
        {
            self.take_in_end(ended, now);
            self.follow_ends(now);
        }
        self.reap_at.get_or_insert(now + self.reap_after);
    }

    /// Reaps all children that have ended.
    pub fn reap(&mut self, now: Instant) {
        self.spawner.tidy();
        let mut start = Instant::now();
        while let Ok(Some(ended)) = rustix::process::wait(WaitOptions::NOHANG) {
            self.take_in_end(ended, now);
            start = Instant::now();
        }
        (self.reap_at, self.reap_after) = (None, (start.elapsed() * SHARE).min(REAPING));
        self.follow_ends(now);
    }

    /// Takes in that a child has ended, which was reaped.
    fn take_in_end(&mut self, (pid, status): (Pid, rustix::process::WaitStatus), now: Instant) {
        let Some(status) = WaitStatus::of(status) else { return };
        if let Some(id) = self.handles.instance_of(pid.as_raw_pid()).cloned() {
            self.reaped(&id, status, now);
        } else if let Some(Checked { id, verdict, hung }) = self.checks.ended(pid) {
            if let Some(Verdict { answer, reason }) = verdict {
                self.apply_to(&id, InstanceEvent::Checked(answer, reason), now);
            } else if hung && self.registry.vassal(&id.file).is_some_and(Vassal::is_running) {
                self.apply(&id.file, Event::Changed("what its file reads answers by now"), now);
            }
        } else if !self.commands.ended(pid, status, now)
            && !self.questions.ended(pid, status, now)
            && !self.freeing.ended(pid)
            && !self.removal.ended(pid)
        {
            self.other_children.push((pid, status));
        }
    }

    /// Goes on after children have ended.
    fn follow_ends(&mut self, now: Instant) {
        if !self.blocked.is_empty() {
            self.look_at = Some(now);
        }
        self.take_replies(now);
        self.run_effects(now);
        self.sweep(now);
    }

    /// Ends the remaining processes of killed instances.
    fn sweep(&mut self, now: Instant) {
        let handles = &self.handles;
        for (id, event) in self.leftovers.sweep(now, |pid| handles.instance_of(pid).is_some()) {
            self.apply_to(&id, event, now);
        }
    }

    /// Takes in that the process of an instance has ended.
    fn reaped(&mut self, id: &InstanceId, status: WaitStatus, now: Instant) {
        // First the last messages, which say why it ended.
        self.read_messages(id, now);
        let pid = self.handles.process(id).map(|process| process.pid);
        let Some((event, pid)) = self.release(id, status).zip(pid) else { return };
        // An instance that ends by itself has ended all its processes before.
        if self.spawner.shares_pids() && status.signal().is_some() {
            self.leftovers.add(pid, (id, self.registry.name_of(id)), event, now);
            self.apply_to(id, InstanceEvent::Ended, now);
        } else {
            self.apply_to(id, event, now);
        }
    }

    /// Forgets a process that has ended. Its cgroup, if it has one, is killed and removed before the next
    /// instance gets its own.
    pub(super) fn release(&mut self, id: &InstanceId, status: WaitStatus) -> Option<InstanceEvent> {
        let process = self.handles.take_process(id)?;
        self.commands.instance_ended(process.pid);
        self.handles.give_up_unused(&id.file);
        let is_killed = status == WaitStatus::Signaled(libc::SIGKILL);
        Some(InstanceEvent::Died { status, out_of_memory: is_killed && process.oom_kills() > 0 })
    }

    /// Frees the instances that were just killed from FUSE connections that may keep them from ending. One
    /// search does it for all, because hundreds may hang at the same moment.
    pub fn free_killed(&mut self, now: Instant) {
        let is_its = |pid, id: &InstanceId| self.handles.process(id).is_some_and(|one| one.pid == pid);
        self.freeing.begin(now, is_its);
    }

    /// Removes the files of sockets that were closed for good.
    pub fn remove_files(&mut self) {
        self.removal.begin(self.handles.take_left());
    }

    /// Children that have ended and are not an instance, command or check.
    pub fn take_other_children(&mut self) -> Vec<(Pid, WaitStatus)> {
        std::mem::take(&mut self.other_children)
    }

    /// Whether no file or cgroup of an ended instance is still being removed.
    pub fn has_tidied_up(&self) -> bool {
        self.spawner.removals().deadline().is_none() && self.removal.is_idle() && self.spawner.tidy()
    }

    /// All vassals have ended: finishes the work that was put off.
    pub fn finish(&mut self) {
        self.remove_files();
        self.readers.finish();
        self.removal.finish(Instant::now() + FINISHING);
        self.spawner.removals().finish(FINISHING);
    }

    /// Another emperor runs the vassals of these directories, so no process is created for one.
    pub fn leave_to_others(&mut self, directories: Vec<(PathBuf, Error)>) {
        self.of_others = directories;
    }

    /// Checks that this emperor is the one that runs a vassal.
    ///
    /// # Errors
    /// Another emperor does.
    pub(super) fn is_ours(&self, file: &VassalFile) -> Result<()> {
        let of_other = self.of_others.iter().find(|(directory, _)| file.parent() == Some(directory));
        of_other.map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Whether no command of the emperor's own configuration runs, no file is being read, and no death has
    /// yet to be reported.
    pub fn commands_are_idle(&self, now: Instant) -> bool {
        let is_sweeping = self.leftovers.has_news();
        let is_reading = !self.readers.is_idle() || !self.checks.is_idle(now) || self.registry.is_checking();
        !is_sweeping && !is_reading && self.commands.is_idle() && self.questions.is_idle()
    }

    /// Reports an event to the registry, and carries out its effects.
    pub(super) fn apply(&mut self, file: &Rc<VassalFile>, event: Event, now: Instant) {
        self.registry.apply(file, event, now);
        self.run_effects(now);
    }

    /// Reports an event of an instance to the registry, and carries out its effects.
    pub(super) fn apply_to(&mut self, id: &InstanceId, event: InstanceEvent, now: Instant) {
        self.registry.apply_to(id, event, now);
        self.run_effects(now);
    }

    /// Reports addresses to the registry that have become known.
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
