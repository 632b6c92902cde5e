//! The life of a vassal, in order.
//!
//! From [`run`] on this process may be PID 1 of a namespace: it does not leave on an error, it ends the vassal.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;

use super::announce::{self, Listener, Offer};
use super::creds::{self, MountPower};
use super::entrypoint;
use super::events::{Events, NewFile};
use super::hook::{Failed, SLOW};
use super::jail;
use super::job::{Job, Stand};
use super::launch::{Launch, Launched, Progress, Work, Workdir};
use super::limits::{OOM_SCORE, OomKills};
use super::look::Start;
use super::mountpoints::{Lost, Maker, Mountpoints};
use super::procfs::Procfs;
use super::reaper::Reaped;
use super::sockets::{self, Socket};
use super::watchdog::Loss;
use crate::accounts::Accounts;
use crate::config::Input;
use crate::config::entrypoint::Entrypoint;
use crate::config::plan::{Action, App, EnvChange, Located, Phase, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::identity::{Confinement, Identity};
use crate::log::Elapsed;
use crate::mount::mountinfo::Mount;
use crate::mount::ops::{self, Walk};
use crate::protocol::{
    self, Announcement, EXIT_SETUP, FileOwner, FromVassal, KeptSocket, SetupFailure, WaitStatus,
};
use crate::sys::memfd::{self, Use};
use crate::sys::signal;
use crate::world;

/// Variables that are between us and our own starter.
const NOT_INHERITED: [&str; 7] = [
    protocol::LINK_VARIABLE,
    protocol::LOG_VARIABLE,
    announce::EMPEROR_FD,
    announce::NOTIFY_SOCKET,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// A loss found this soon after a child's death is put down to it.
const BLAME: Duration = Duration::from_millis(100);

/// How long the answers of the mountpoints are waited for when the emperor asks for a report.
const REPORT_TIME: Duration = Duration::from_millis(100);

/// Heartbeats, and reloads of its own, that come faster say nothing more.
const BEAT: Duration = Duration::from_millis(500);

/// The status is passed on this often at most: an app may talk as much as it likes.
const STATUS: Duration = Duration::from_secs(1);

/// All that a vassal needs to live.
pub struct Setup {
    /// What to do.
    pub plan: Rc<VassalPlan>,
    /// Where that was written, for a reload.
    pub inputs: Vec<Input>,
    /// For a command that is the app: what we are to it.
    pub entry: Option<Rc<Entrypoint>>,
    /// The namespaces this process was created in (`CLONE_NEW*` bits).
    pub namespaces: u64,
    /// The cgroup that the emperor has made for us; empty for none.
    pub cgroup: PathBuf,
    /// Whom to become before the inputs are read; until then the plan is only what the emperor itself has to say.
    pub owner: Option<FileOwner>,
    /// The link to the emperor, if one started us.
    pub link: Option<OwnedFd>,
    /// Signal mask and dispositions for the app.
    pub signals: signal::Inherited,
    /// Sockets of an earlier instance.
    pub kept: Vec<KeptSocket>,
}

/// A vassal, from its first phase to its end.
pub struct Vassal {
    pub(super) plan: Rc<VassalPlan>,
    /// The plan of a fresh start, which a new file is compared with.
    pub(super) fresh: Rc<VassalPlan>,
    pub(super) inputs: Vec<Input>,
    /// What the machine told when they were read first.
    pub(super) start: Start,
    pub(super) entry: Option<Rc<Entrypoint>>,
    /// The app, if it is the command of an entrypoint.
    pub(super) job: Option<Job>,
    /// Signals for it that came before it ran.
    early_signals: Vec<i32>,
    pub(super) events: Events,
    pub(super) mountpoints: Mountpoints,
    /// What mounts must not be led astray by.
    pub(super) walk: Walk,
    /// Where children run; ours is the root directory once the app's user matters.
    pub(super) workdir: Workdir,
    /// Whether the root directory is another than at the start.
    pub(super) is_inside: bool,
    pub(super) app: Option<RunningApp>,
    /// Whether an app ever ran in this jail: then the hooks for the exit have something to undo.
    pub(super) had_app: bool,
    pub(super) procfs: Rc<Procfs>,
    /// The FUSE connections that were there before the first hook, if that is known: they are others' too.
    pub(super) foreign_fuse: Option<Vec<u64>>,
    /// What ran when the app was started, such as the daemons of hooks: that is not the app's.
    pub(super) not_the_apps: Vec<Pid>,
    /// Who wants us to stop, and since when, once somebody does.
    pub(super) stop: Option<(String, Instant)>,
    /// Set when the end has begun: nothing interrupts it.
    pub(super) is_ending: bool,
    /// The child that a hook waits for.
    pub(super) hook: Option<Pid>,
    /// The latest death of a child that we did not start ourselves, such as a daemon.
    pub(super) last_death: Option<(Instant, Reaped)>,
    /// Set when no child is left.
    pub(super) childless: bool,
    /// The mountpoints that were lost and not seen to yet, in the order in which that was noticed.
    pub(super) lost: Vec<Lost>,
    /// Set while a loss is being dealt with that the app survives: another one has to wait.
    pub(super) is_repairing: bool,
    /// When a lost mount was made anew the last time.
    pub(super) remounted: Option<Instant>,
    /// Since when the emperor waits for a report on the mountpoints.
    report_asked: Option<Instant>,
    /// Set when the app has said that it accepts requests, and the hooks for that are to run.
    pub(super) is_accepting: bool,
    /// A new file, or a request to read the old one again.
    pub(super) reload: Option<NewFile>,
    pub(super) environment: Vec<(OsString, OsString)>,
    /// What the app listens on.
    pub(super) sockets: Vec<Socket>,
    /// Those of an earlier instance, until they are opened.
    kept: Vec<KeptSocket>,
    /// File mode creation mask of everything that comes later.
    pub(super) umask: Option<u32>,
    namespaces: u64,
    pub(super) owner: Option<FileOwner>,
    pub(super) cgroup: PathBuf,
    pub(super) oom: OomKills,
    signals: signal::Inherited,
    /// The working directory at the privilege drop, where a reload starts from.
    jail_workdir: Workdir,
    /// Whom children become from `as-user` on.
    identity: Option<Identity>,
}

/// The app, once it was started.
pub struct RunningApp {
    /// Its process.
    pub launched: Launched,
    /// Where it tells of itself.
    pub listener: Listener,
    /// What it has told already, but for heartbeats and its status.
    pub announced: Vec<Announcement>,
    /// When its last heartbeat was passed on.
    pub beat: Option<Instant>,
    /// The same for a reload of its own.
    pub reloaded: Option<Instant>,
    /// Its status, when it was last passed on, and one that is to be.
    pub said: (Option<Instant>, Option<String>),
    /// When it was started.
    pub since: Instant,
    /// Whether it is known to have executed its program.
    pub is_started: bool,
    /// How it ended, once it has.
    pub status: Option<WaitStatus>,
}

impl RunningApp {
    /// When its status, if it has changed, is to be passed on.
    fn status_due(&self) -> Option<Instant> {
        self.said.1.as_ref().map(|_| self.said.0.map_or(self.since, |last| last + STATUS))
    }
}

/// How the vassal's life ended.
pub enum End {
    /// The app ended by itself.
    App(WaitStatus),
    /// It was told to stop.
    Stopped,
    /// A hook ended it with this exit status.
    Hook(i32),
    /// A fatal step failed; with the exit status that says so.
    Setup(Box<SetupFailure>, i32),
    /// A checked mountpoint was lost.
    Lost(String),
    /// The configuration is invalid; the first mistake.
    Invalid(String),
}

/// What a child is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The app itself.
    App,
    /// A command of a hook.
    Hook,
}

/// Why a child was not waited for to its end.
pub enum Interrupted {
    /// Somebody wants us to stop, or a mountpoint was lost.
    Stop,
    /// The deadline has come.
    Deadline,
}

/// Runs a vassal to its end and returns the exit status. All signals are blocked already.
pub fn run(setup: Setup) -> i32 {
    let mut vassal = match Vassal::new(setup) {
        Ok(vassal) => vassal,
        Err(error) => {
            crate::log!("{error}");
            return EXIT_SETUP;
        }
    };
    // From here on nothing returns early: whatever happens becomes an End.
    let end = match vassal.set_up() {
        Ok(()) => vassal.main_loop(),
        Err(end) => end,
    };
    let status = vassal.finish(end);
    // The process ends now, and the kernel takes everything back at once.
    std::mem::forget(vassal);
    status
}

impl Vassal {
    fn new(setup: Setup) -> Result<Self> {
        if !rustix::process::getpid().is_init() {
            // Orphans come to us, as they would to PID 1.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .context("become", "subreaper")?;
        }
        // No hook and no change of root: nobody puts anything else at /proc, or in front of it.
        let is_lasting = setup.plan.hooks.is_empty() && jail::coming_root(&setup.plan).is_none();
        let procfs = Rc::new(Procfs::open(is_lasting));
        let workdir = Workdir::Inherited(std::env::current_dir().unwrap_or_else(|_| "/".into()));
        let mut vassal = Self {
            mountpoints: Mountpoints::new(&setup.plan, Rc::clone(&procfs), Instant::now()),
            events: Events::new(setup.link, setup.entry.is_some())?,
            walk: Walk { new_root: jail::coming_root(&setup.plan), old_root: None },
            fresh: Rc::clone(&setup.plan),
            umask: setup.plan.umask,
            plan: setup.plan,
            start: Start::of(&setup.inputs),
            inputs: setup.inputs,
            entry: setup.entry,
            job: None,
            early_signals: Vec::new(),
            namespaces: setup.namespaces,
            owner: setup.owner,
            cgroup: setup.cgroup,
            oom: OomKills::default(),
            signals: setup.signals,
            environment: Vec::new(),
            sockets: Vec::new(),
            kept: setup.kept,
            jail_workdir: workdir.clone(),
            workdir,
            is_inside: false,
            identity: None,
            app: None,
            had_app: false,
            procfs,
            foreign_fuse: None,
            not_the_apps: Vec::new(),
            stop: None,
            is_ending: false,
            hook: None,
            lost: Vec::new(),
            is_repairing: false,
            remounted: None,
            report_asked: None,
            is_accepting: false,
            reload: None,
            last_death: None,
            childless: false,
        };
        vassal.set_environment();
        Ok(vassal)
    }

    /// Ours, with the plan's changes.
    pub(super) fn set_environment(&mut self) {
        // What our starter wants to hear of us is not for the app to say: it gets its own.
        let is_ours = |name: &OsString| !NOT_INHERITED.iter().any(|known| name == known);
        self.environment = world::environment();
        self.environment.retain(|(name, _)| is_ours(name));
        for change in &Rc::clone(&self.plan).environment {
            match change {
                EnvChange::Set(name, value) => self.set_variable(name, Some(value.clone())),
                EnvChange::Unset(name) => self.set_variable(name, None),
            }
        }
    }

    /// Everything up to the running app.
    fn set_up(&mut self) -> std::result::Result<(), End> {
        if self.has_namespace(libc::CLONE_NEWNS) {
            // Before the first hook: nothing that is mounted here may turn up where we come from.
            step("namespaces", ops::make_all_private())?;
        }
        // The kernel keeps it from a process that has become another user; what may be written to it, it decides anew.
        let oom_score = open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        if let Some(owner) = self.owner {
            self.phase(Phase::AsVassal)?;
            self.become_owner(owner)?;
        }
        step("limits", self.limit(oom_score))?;
        if !self.plan.hooks.is_empty() {
            let mounts = self.procfs.mounts().ok();
            self.foreign_fuse = mounts.map(|mounts| mounts.iter().filter_map(Mount::connection).collect());
        }
        if let Some(name) = &self.plan.hostname {
            step_of("namespaces", name, self.set_hostname(&name.value))?;
        }
        self.note_maker(Maker::Outside)?;
        for phase in [Phase::AsVassal, Phase::Asap, Phase::PreJail] {
            self.phase(phase)?;
        }
        let host = Accounts::read();
        let plan = Rc::clone(&self.plan);
        if let Some(path) = &plan.chroot {
            step_of("jail", path, self.change_root(&path.value))?;
        }
        if let Some(pivot) = &plan.pivot_root {
            step_of("jail", pivot, self.pivot_root(&pivot.value))?;
        }
        if plan.chroot.is_some() || plan.pivot_root.is_some() {
            // What was mounted before cannot be mounted again from in here.
            self.note_maker(Maker::Outside)?;
        }
        for phase in [Phase::PostJail, Phase::InJail, Phase::AsRoot] {
            self.phase(phase)?;
        }
        // Under the root that the app will see, if that answers at all.
        if jail::coming_root(&self.plan).is_some() {
            step("privilege drop", self.ask_about("read", Path::new("/etc/passwd")))?;
        }
        let accounts = Accounts::read_in_jail(host);
        let mut identity = step("privilege drop", Identity::resolve(&self.plan.run_as, &accounts))?;
        if let Some(owner) = self.owner {
            step("privilege drop", identity.must_be(owner.uid, owner.gid))?;
        }
        let own = rustix::process::geteuid();
        if identity.uid.is_none()
            && !own.is_root()
            && self.events.link().is_some()
            && !self.has_namespace(libc::CLONE_NEWUSER)
        {
            // An emperor that is not root leaves us capabilities for the jail. They are not for the app.
            identity.uid = Some(own.as_raw());
        }
        self.identity = Some(identity.clone());
        let kept = std::mem::take(&mut self.kept);
        let opened = self.open_sockets(&accounts, kept);
        if opened.is_err() && self.is_interrupted() {
            return Err(self.interrupted());
        }
        step("sockets", opened)?;
        if identity.is_ordinary() && !self.plan.app.is_privileged() {
            step("privilege drop", creds::reduce_pid1(Confinement::of(&self.plan), self.mount_power()))?;
        }
        self.mountpoints.set_user(identity);
        // A working directory would pin whatever is mounted there.
        step("privilege drop", self.go_to_root("working directory:"))?;
        self.jail_workdir = self.workdir.clone();
        self.run_app()
    }

    /// What is left to do about mounts. By now it is known which of them root has made.
    fn mount_power(&self) -> MountPower {
        let by_root = |maker| matches!(maker, Maker::Phase(phase) if phase <= Phase::AsRoot);
        match self.plan.remounts() {
            true if self.mountpoints.makers().any(by_root) => MountPower::All,
            true => MountPower::Unmount,
            // Nobody else takes the dead mount away, and the next instance needs the place.
            false if !self.has_namespace(libc::CLONE_NEWNS) => MountPower::Unmount,
            false => MountPower::None,
        }
    }

    /// From the privilege drop to the running app: what a reload does again, in the same jail.
    fn run_app(&mut self) -> std::result::Result<(), End> {
        self.phase(Phase::AsUser)?;
        self.pass_gate()?;
        self.phase(Phase::PreApp)?;
        self.start_app()?;
        match self.phase(Phase::PostApp) {
            // The app runs, or has ended: the main loop knows what follows.
            Err(End::Stopped) => Ok(()),
            result => result,
        }
    }

    /// Runs the app as another plan says, once the old one is gone.
    pub(super) fn run_again(&mut self, plan: Rc<VassalPlan>) -> std::result::Result<(), End> {
        self.umask = plan.umask;
        self.plan = plan;
        self.app = None;
        // The one before said it, on its way out.
        self.is_accepting = false;
        self.workdir = self.jail_workdir.clone();
        self.set_environment();
        // What the hooks of the jail have set lasts, though they do not run again.
        for hook in Rc::clone(&self.fresh).hooks.iter().filter(|hook| hook.phase <= Phase::AsRoot) {
            match &hook.action {
                Action::Putenv(name, value) => self.set_variable(name, Some(value.clone())),
                Action::Umask(mask) => self.umask = Some(*mask),
                _ => {}
            }
        }
        self.run_app()
    }

    pub(super) fn phase(&mut self, phase: Phase) -> std::result::Result<(), End> {
        self.run_hooks(phase).map_err(|failed| match failed {
            Failed::Hook(failure) => End::Setup(failure, EXIT_SETUP),
            Failed::Interrupted => self.interrupted(),
            Failed::Exit(status) => End::Hook(status),
        })?;
        self.note_maker(Maker::Phase(phase))
    }

    /// Keeps in mind who has mounted what, where that decides whether it can be mounted again.
    fn note_maker(&mut self, maker: Maker) -> std::result::Result<(), End> {
        if !self.plan.remounts() || self.mountpoints.is_empty() {
            return Ok(());
        }
        step("mountpoint-lost", self.mountpoints.note_maker(maker))
    }

    /// Whether something came up that makes further preparations pointless. The end of an app that was ready to serve does;
    /// one that does its work and ends at once may well do so before its hooks have run.
    pub(super) fn is_interrupted(&self) -> bool {
        let has_ended =
            |app: &RunningApp| app.status.is_some() && app.announced.contains(&Announcement::Ready);
        let app_has_ended = self.app.as_ref().is_some_and(has_ended);
        let is_lost = !self.lost.is_empty() && !self.is_repairing;
        !self.is_ending && (self.stop.is_some() || is_lost || app_has_ended)
    }

    /// The end that came in between.
    fn interrupted(&mut self) -> End {
        self.lost.first().map_or(End::Stopped, |lost| End::Lost(lost.what.clone()))
    }

    /// Whether we live in a namespace of our own of this kind.
    pub(super) fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind as u64 != 0
    }

    /// Namespaces that the plan asks for and this process is not in.
    pub(super) fn missing_namespaces(&self, plan: &VassalPlan) -> u64 {
        plan.unshare & !self.namespaces
    }

    /// Sets the host name, unless that would rename the host.
    pub(super) fn set_hostname(&self, name: &OsStr) -> Result<()> {
        if !self.has_namespace(libc::CLONE_NEWUTS) {
            let reason = "needs a uts namespace (unshare = uts, or uts in emperor-use-clone): else it renames the host";
            return Err(Error::new("set the host name", name.display(), reason));
        }
        rustix::system::sethostname(name.as_bytes()).context("set the host name", name.display())
    }

    /// The app starts only when every checked path is a mount that answers.
    fn pass_gate(&mut self) -> std::result::Result<(), End> {
        if self.mountpoints.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let deadline = start + self.plan.mountpoint_timeout;
        let mut slow = Some(start + SLOW);
        step("mountpoint-check", self.events.watch_mounts(&self.procfs))?;
        loop {
            let now = Instant::now();
            if step("mountpoint-check", self.mountpoints.look(now))? {
                let paths: Vec<_> =
                    self.plan.checks.iter().map(|path| path.value.display().to_string()).collect();
                crate::log!("mountpoint {} answers after {}", paths.join(", "), Elapsed(start.elapsed()));
                // What a hook of as-user has left to a process in the background counts as made by as-user.
                return self.note_maker(Maker::Phase(Phase::AsUser));
            }
            if let (true, Some((check, trouble))) = (now >= deadline, self.mountpoints.trouble()) {
                let (path, waited) = (check.value.display(), Elapsed(now - start));
                let what =
                    format!("mountpoint {path}: {trouble}, after {waited} ({}: {})", check.at, check.key);
                return Err(setup_failure("mountpoint-check", 0, what, 0));
            }
            if slow.take_if(|slow| now >= *slow).is_some()
                && let Some((check, trouble)) = self.mountpoints.trouble()
            {
                let (path, most) = (check.value.display(), Elapsed(self.plan.mountpoint_timeout));
                crate::log!(
                    "mountpoint {path}: {trouble}, after {}; it is given {most}",
                    Elapsed(now - start)
                );
            }
            self.wait(None, slow.into_iter().chain([deadline]).min());
            if self.is_interrupted() {
                return Err(self.interrupted());
            }
        }
    }

    /// Starts the app, and waits until it is one: until the child has executed its program.
    fn start_app(&mut self) -> std::result::Result<(), End> {
        if self.stop.is_some() {
            return Err(End::Stopped);
        }
        if let Some(path) = &self.plan.chdir {
            self.workdir.change(&path.value);
        }
        if self.plan.starts_daemons() {
            self.not_the_apps = self.procfs.below_us(&[]);
        }
        let stand = self.entry.as_ref().map(|entry| Stand::prepare(entry.standing));
        let app = step("app", self.launch_app(stand.as_ref()))?;
        if let (Some(entry), Some(stand)) = (&self.entry, stand) {
            let mut job = Job::of(Rc::clone(entry), app.launched.pid, stand);
            for number in std::mem::take(&mut self.early_signals) {
                let _ = job.forward(number);
            }
            self.job = Some(job);
        }
        self.app = Some(app);
        self.had_app = true;
        loop {
            let Some(app) = &self.app else { return Ok(()) };
            match (app.launched.progress(), app.status) {
                (Progress::AtWork | Progress::Said(_), _) => break,
                (Progress::Failed(error, code), _) => return Err(self.not_started(&error, code)),
                (Progress::Preparing, Some(status)) => return Err(End::App(status)),
                (Progress::Preparing, None) if !self.lost.is_empty() => return Err(self.interrupted()),
                // Its program is on a filesystem that hangs: the main loop knows what to do.
                (Progress::Preparing, None) if self.stop.is_some() => return Ok(()),
                (Progress::Preparing, None) => {}
            }
            self.wait(None, None);
        }
        if let Some(app) = &mut self.app {
            app.is_started = true;
            let (pid, program) = (app.launched.pid, self.plan.app.program().display());
            if self.entry.as_ref().is_none_or(|entry| entry.verbosity > 1) {
                crate::log!(
                    "app started: {program} (pid {pid}), {} after the fork",
                    Elapsed(app.since.elapsed())
                );
            }
        }
        self.tell(&FromVassal::Running);
        if let Some(number) = self.entry.as_ref().and_then(|entry| entry.ready_fd) {
            entrypoint::tell_ready(number);
        }
        Ok(())
    }

    /// Whether what goes as it should is worth a line. The starter of a command did not ask for it.
    pub(super) fn is_talkative(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| entry.verbosity > 1)
    }

    /// The app could not be executed, or not even prepared for it.
    fn not_started(&self, error: &Error, code: i32) -> End {
        let key = match (&self.plan.chdir, code) {
            (Some(chdir), EXIT_SETUP) => format!("{}: {}", chdir.at, chdir.key),
            _ => format!("{}: {}", self.plan.app_source.at, self.plan.app_source.key),
        };
        let (what, errno) = (format!("{error} ({key})"), error.errno());
        End::Setup(Box::new(SetupFailure { phase: "app".into(), index: 0, what, errno }), code)
    }

    /// What the app can announce itself with. A command keeps what its starter gave it for that, unless a hook waits for it.
    fn offer(&self, above: i32) -> Result<(Listener, Offer)> {
        let is_awaited = self.plan.hooks.iter().any(|hook| hook.phase == Phase::Accepting);
        if self.entry.is_some() && !is_awaited {
            return Ok(Default::default());
        }
        let identity = self.identity.as_ref().filter(|_| !self.plan.app.is_privileged());
        let user = identity.and_then(|identity| identity.uid);
        let user = user.unwrap_or_else(|| rustix::process::getuid().as_raw());
        announce::open(&self.plan, user, above)
    }

    fn launch_app(&self, stand: Option<&Stand>) -> Result<RunningApp> {
        let since = Instant::now();
        let above = sockets::FIRST + self.sockets.len() as i32;
        let (listener, offer) = self.offer(above)?;
        let mut environment =
            [&self.environment[..], &offer.variables, &sockets::variables(&self.sockets)].concat();
        let mut passed: Vec<_> = offer.pipe.iter().map(AsFd::as_fd).collect();
        let launched = match &self.plan.app {
            App::Program { argv, privileged } => {
                self.launch(Role::App, !privileged, &Work::Program(argv), stand, &environment, &passed)?
            }
            App::Uwsgi { binary, ini } => {
                let ini =
                    memfd::sealed("vassal.ini", ini, Use::Read).context("create", "the ini of uwsgi")?;
                let ini = rustix::io::fcntl_dupfd_cloexec(&ini, above)
                    .context("keep free for the app", "its descriptors")?;
                let argv = [binary.clone(), "--ini".into(), format!("fd://{}", ini.as_raw_fd()).into()];
                passed.push(ini.as_fd());
                // They are in the ini. Read twice, a socket would be bound twice.
                environment.retain(|(name, _)| world::environment_option(name).is_none());
                self.launch(Role::App, true, &Work::Program(&argv), stand, &environment, &passed)?
            }
        };
        Ok(RunningApp {
            launched,
            listener,
            announced: Vec::new(),
            beat: None,
            reloaded: None,
            said: (None, None),
            since,
            is_started: false,
            status: None,
        })
    }

    /// Starts a child, as the app's user or as ourselves; the descriptors `passed` are inherited.
    pub(super) fn launch(
        &self,
        role: Role,
        as_user: bool,
        work: &Work<'_>,
        stand: Option<&Stand>,
        environment: &[(OsString, OsString)],
        passed: &[BorrowedFd<'_>],
    ) -> Result<Launched> {
        let is_confined = role == Role::App && as_user;
        let is_uwsgi = role == Role::App && matches!(self.plan.app, App::Uwsgi { .. });
        Launch {
            work,
            confinement: is_confined.then(|| Confinement::of(&self.plan)),
            identity: self.identity.as_ref().filter(|_| as_user),
            workdir: &self.workdir,
            environment,
            umask: self.umask,
            own_group: role == Role::Hook,
            // What a hook leaves behind, such as a FUSE daemon, is ended by us, in order; an action would wait for ever.
            dies_with_us: (role == Role::App || matches!(work, Work::Action(..)))
                && !rustix::process::getpid().is_init(),
            stand,
            passed,
            sockets: if role == Role::App { &self.sockets } else { &[] },
            limits: if role == Role::App { &self.plan.limits } else { &[] },
            signals: &self.signals,
            // A shell has what it starts in the background ignore SIGINT, and uWSGI leaves it at that until it is up.
            heard: is_uwsgi.then(|| self.plan.signal_to_stop()),
        }
        .start()
    }

    /// Waits for one child, unless a request to stop or the deadline comes first.
    pub(super) fn wait_for(
        &mut self,
        pid: Pid,
        deadline: Instant,
    ) -> std::result::Result<WaitStatus, Interrupted> {
        self.hook = Some(pid);
        let result = loop {
            let reaped = self.wait(None, Some(deadline));
            if let Some(reaped) = reaped.iter().find(|reaped| reaped.pid == pid) {
                break Ok(reaped.status);
            }
            if self.is_interrupted() {
                break Err(Interrupted::Stop);
            }
            if Instant::now() >= deadline {
                break Err(Interrupted::Deadline);
            }
        };
        self.hook = None;
        result
    }

    /// Waits for the next events and keeps the books: who died, who wants us to stop, what may have happened to the
    /// mounts. Returns the children that were reaped, without the probers. `other` is one more thing to wake up for.
    pub(super) fn wait(&mut self, other: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Vec<Reaped> {
        let now = Instant::now();
        let report = self.report_asked.map(|asked| asked + REPORT_TIME);
        let status_due = self.app.as_ref().and_then(RunningApp::status_due);
        let oom_due = self.oom.deadline(now);
        let lines_due = crate::log::deadline(now);
        let deadline = [deadline, status_due, self.mountpoints.deadline(now), report, oom_due, lines_due]
            .into_iter()
            .flatten()
            .min();
        // Nobody waits for its start any more once it is to stop, and its report stays readable.
        let starting = self.app.as_ref().filter(|app| !app.is_started && app.status.is_none());
        let starting = starting.filter(|_| self.stop.is_none());
        let starting = starting.map(|app| app.launched.as_fd());
        let said = self.app.iter().flat_map(|app| app.listener.descriptors());
        let others = self.mountpoints.descriptors().chain(other).chain(starting).chain(said);
        let wakeup = self.events.wait(others, self.oom.descriptors(), deadline);
        crate::log::flush();
        let now = Instant::now();
        let mut reaped = wakeup.reaped;
        reaped.retain(|child| !self.mountpoints.probe_died(child.pid, now));
        for child in &reaped {
            self.not_the_apps.retain(|&pid| pid != child.pid);
            self.mountpoints.child_died(child.pid);
            match &mut self.app {
                Some(app) if app.launched.pid == child.pid => app.status = Some(child.status),
                _ if self.hook == Some(child.pid) => {}
                _ => {
                    self.last_death = Some((now, *child));
                    if let Some(entry) = &self.entry {
                        entrypoint::say_reaped(entry, child);
                    }
                }
            }
        }
        self.oom.look(self.app.as_ref().is_some_and(|app| app.status.is_none()), now);
        if wakeup.mounts_changed || !reaped.is_empty() {
            self.mountpoints.suspect(now);
        }
        let known = self.lost.len();
        if let Err(error) = self.mountpoints.judge(&mut self.lost, now) {
            // The watch is broken, the mounts may be fine. It is tried again at the next interval.
            crate::log!("mountpoint-check: {error}");
        }
        let death = self.last_death;
        self.lost.iter_mut().skip(known).for_each(|lost| blame(lost, death, now));
        self.report_mountpoints(wakeup.report, now);
        self.childless |= wakeup.childless;
        if let Some(who) = wakeup.stop {
            self.stop_requested(who);
        }
        if wakeup.reload.is_some() {
            self.reload = wakeup.reload;
        }
        if let Some(job) = self.job.as_ref().filter(|_| wakeup.child_changed) {
            job.look_for_stop();
        }
        for number in wakeup.signals {
            self.handle_signal(number);
        }
        self.hear_app();
        reaped
    }

    /// Takes in what the app tells of itself. Only what is new is passed on: it may say it as often as it likes.
    fn hear_app(&mut self) {
        let Some(app) = &mut self.app else { return };
        let mut wants_to_leave = false;
        for news in app.listener.news() {
            match news {
                Announcement::Status(text) => {
                    app.said.1 = Some(text);
                    continue;
                }
                Announcement::Heartbeat if app.beat.is_some_and(|beat| beat.elapsed() < BEAT) => continue,
                Announcement::Heartbeat => app.beat = Some(Instant::now()),
                Announcement::Reloading if app.reloaded.is_some_and(|last| last.elapsed() < BEAT) => continue,
                Announcement::Reloading => {
                    app.reloaded = Some(Instant::now());
                    app.announced.retain(|known| *known != Announcement::Ready);
                }
                Announcement::Ready
                | Announcement::Loyal
                | Announcement::Leave
                | Announcement::Stopping
                | Announcement::Stuck => {
                    if app.announced.contains(&news) {
                        continue;
                    }
                    app.announced.push(news.clone());
                    wants_to_leave |= news == Announcement::Leave;
                }
            }
            if news == Announcement::Ready {
                crate::log!("the app is ready, {} after its start", Elapsed(app.since.elapsed()));
                self.is_accepting = true;
            }
            if let Some(link) = self.events.link() {
                let _ = protocol::send(link, &FromVassal::Announced(news).encode(), None);
            }
        }
        if app.status_due().is_some_and(|due| due <= Instant::now())
            && let Some(text) = app.said.1.take()
        {
            app.said.0 = Some(Instant::now());
            self.tell(&FromVassal::Announced(Announcement::Status(text)));
        }
        if wants_to_leave && self.events.link().is_none() {
            // There is no emperor that could decide on it, and uWSGI does not exit by itself then.
            self.stop_requested("the app itself".to_owned());
        }
    }

    /// Tells the emperor of the mountpoints: what is new at once, the rest when it asks and they have answered, or soon in
    /// any case.
    fn report_mountpoints(&mut self, is_asked: bool, now: Instant) {
        if self.events.link().is_none() {
            return;
        }
        if let Some(reports) = self.mountpoints.news() {
            self.tell(&FromVassal::Mountpoints(reports));
        }
        if is_asked && self.report_asked.is_none() {
            self.report_asked = Some(now);
            self.mountpoints.suspect(now);
            if let Err(error) = self.mountpoints.ask(now) {
                crate::log!("mountpoint-check: {error}");
            }
        }
        let Some(asked) = self.report_asked else { return };
        if !self.mountpoints.is_asking() || now >= asked + REPORT_TIME {
            self.report_asked = None;
            self.tell(&FromVassal::Mountpoints(self.mountpoints.report()));
        }
    }

    /// A signal that is none of our own business. To a command all are handed on, as they came; before it runs, a request to stop is
    /// for us, and the rest can wait.
    fn handle_signal(&mut self, number: i32) {
        let is_running = self.app.as_ref().is_some_and(|app| app.status.is_none());
        match (&self.entry, &mut self.job) {
            (None, _) => self.signal_app(number),
            // ESRCH: it has just ended.
            (Some(_), Some(job)) if is_running => drop(job.forward(number)),
            (Some(_), None) if ![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&number) => {
                self.early_signals.push(number);
            }
            (Some(_), _) => self.stop_requested(signal::name(number)),
        }
    }

    /// Tells the emperor, if there is one. It learns of our end anyway, so a full or closed link is no failure.
    pub(super) fn tell(&self, message: &FromVassal) {
        if let Some(link) = self.events.link() {
            let _ = protocol::send(link, &message.encode(), None);
        }
    }
}

/// Puts a loss that was noticed right after a child's death down to it.
fn blame(lost: &mut Lost, death: Option<(Instant, Reaped)>, now: Instant) {
    let is_dead = matches!(lost.loss, Loss::Dead(_) | Loss::NotMounted);
    if let Some((at, child)) = death.filter(|(at, _)| is_dead && now.saturating_duration_since(*at) <= BLAME)
    {
        let after = Elapsed(now.saturating_duration_since(at));
        lost.what += &format!(", {after} after the daemon died (pid {}, {})", child.pid, child.status);
    }
}

/// Makes the error of a step that is no hook the vassal's end.
#[inline(never)]
pub(super) fn step<T>(phase: &str, result: Result<T>) -> std::result::Result<T, End> {
    result.map_err(|error| setup_failure(phase, 0, error.to_string(), error.errno()))
}

/// The same for what one line of the file asks for: where that is.
pub(super) fn step_of<T, S>(
    phase: &str,
    source: &Located<S>,
    result: Result<T>,
) -> std::result::Result<T, End> {
    result.map_err(|error| {
        let what = format!("{error} ({}: {})", source.at, source.key);
        setup_failure(phase, 0, what, error.errno())
    })
}

#[inline(never)]
fn setup_failure(phase: &str, index: u32, what: String, errno: i32) -> End {
    End::Setup(Box::new(SetupFailure { phase: phase.to_owned(), index, what, errno }), EXIT_SETUP)
}
