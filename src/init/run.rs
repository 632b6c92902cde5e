//! The life of a vassal, in order.
//!
//! From [`run`] on this process may be PID 1 of a namespace: it does not leave on an error, it ends the vassal.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Pid;

use super::creds::Identity;
use super::events::Events;
use super::hook::Failed;
use super::launch::{Launch, Launched};
use super::mountpoints::Mountpoints;
use super::reaper::Reaped;
use crate::config::plan::{App, EnvChange, Phase, VassalPlan};
use crate::error::{Context, Result};
use crate::log::Elapsed;
use crate::protocol::{self, EXIT_SETUP, FromVassal, SetupFailure, WaitStatus};
use crate::sys::memfd::{self, Use};
use crate::sys::signal;

/// All that a vassal needs to live.
pub struct Setup {
    /// What to do.
    pub plan: VassalPlan,
    /// The namespaces this process was created in (`CLONE_NEW*` bits).
    pub namespaces: u64,
    /// The link to the emperor, if one started us.
    pub link: Option<OwnedFd>,
    /// Signal mask and dispositions for the app.
    pub signals: signal::Inherited,
}

/// A vassal, from its first phase to its end.
pub struct Vassal {
    pub(super) plan: VassalPlan,
    pub(super) events: Events,
    pub(super) mountpoints: Mountpoints,
    /// Where children run; ours is the root directory once the app's user matters.
    pub(super) workdir: PathBuf,
    pub(super) app: Option<RunningApp>,
    /// Who wants us to stop, once somebody does.
    pub(super) stop: Option<String>,
    /// The latest death of a child that was no prober of ours.
    pub(super) last_death: Option<(Instant, Reaped)>,
    /// Set when no child is left.
    pub(super) childless: bool,
    signals: signal::Inherited,
    environment: Vec<(OsString, OsString)>,
    /// Whom children become from `as-user` on.
    identity: Option<Identity>,
}

/// The app, once it was started.
pub struct RunningApp {
    /// Its process.
    pub launched: Launched,
    /// How it ended, once it has.
    pub status: Option<WaitStatus>,
}

/// How the vassal's life ended.
pub enum End {
    /// The app ended by itself.
    App(WaitStatus),
    /// It was told to stop.
    Stopped,
    /// A fatal step failed; with the exit status that says so.
    Setup(SetupFailure, i32),
    /// A checked mountpoint was lost.
    Lost(String),
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
    /// Somebody wants us to stop.
    Stop,
    /// The deadline has come.
    Deadline,
}

/// Runs a vassal to its end and returns the exit status. All signals are blocked already.
pub fn run(setup: Setup) -> i32 {
    let namespaces = setup.namespaces;
    let mut vassal = match Vassal::new(setup) {
        Ok(vassal) => vassal,
        Err(error) => {
            crate::log!("{error}");
            return EXIT_SETUP;
        }
    };
    // From here on nothing returns early: whatever happens becomes an End.
    let end = match vassal.set_up(namespaces) {
        Ok(()) => vassal.main_loop(),
        Err(end) => end,
    };
    vassal.finish(end)
}

impl Vassal {
    fn new(setup: Setup) -> Result<Self> {
        if !rustix::process::getpid().is_init() {
            // Orphans come to us, as they would to PID 1.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .context("become", "subreaper")?;
        }
        let mut environment: Vec<_> =
            std::env::vars_os().filter(|(name, _)| name != protocol::LINK_VARIABLE).collect();
        for change in &setup.plan.environment {
            let (EnvChange::Set(name, _) | EnvChange::Unset(name)) = change;
            environment.retain(|(known, _)| known != name);
            if let EnvChange::Set(name, value) = change {
                environment.push((name.clone(), value.clone()));
            }
        }
        Ok(Self {
            mountpoints: Mountpoints::new(&setup.plan, Instant::now()),
            events: Events::new(setup.link)?,
            plan: setup.plan,
            signals: setup.signals,
            environment,
            workdir: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            identity: None,
            app: None,
            stop: None,
            last_death: None,
            childless: false,
        })
    }

    /// Everything up to the running app.
    fn set_up(&mut self, namespaces: u64) -> std::result::Result<(), End> {
        self.phase(Phase::Asap)?;
        if namespaces & libc::CLONE_NEWNS as u64 != 0 {
            // Before the first hook that may mount: the namespace began as a copy of one where mounts may be shared, and
            // nothing mounted here may turn up there.
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            step("namespaces", mount_change("/", flags).context("make private", "all mounts"))?;
        }
        for phase in [Phase::PreJail, Phase::PostJail, Phase::InJail, Phase::AsRoot] {
            self.phase(phase)?;
        }
        // The names are looked up under the root that the app will see.
        self.identity = Some(step("privilege drop", Identity::resolve(&self.plan))?);
        // A working directory would pin whatever is mounted there.
        step("privilege drop", rustix::process::chdir("/").context("chdir", "/"))?;
        self.phase(Phase::AsUser)?;
        self.pass_gate()?;
        self.phase(Phase::PreApp)?;
        self.start_app()?;
        self.phase(Phase::PostApp)
    }

    /// Runs the hooks of one phase; the first that fails ends the vassal.
    fn phase(&mut self, phase: Phase) -> std::result::Result<(), End> {
        let hooks: Vec<_> = self.plan.hooks.iter().filter(|hook| hook.phase == phase).cloned().collect();
        for (index, hook) in (1..).zip(&hooks) {
            let start = Instant::now();
            match self.run_hook(hook) {
                Ok(()) => {
                    crate::log!(
                        "{phase} #{index}: {}: done in {}",
                        hook.source.value,
                        Elapsed(start.elapsed())
                    );
                }
                Err(Failed::Interrupted) => return Err(End::Stopped),
                Err(Failed::Error(error)) => {
                    let what = format!("{error} ({}: {})", hook.source.at, hook.source.key);
                    return Err(setup_failure(&phase.to_string(), index, what, error.errno()));
                }
            }
        }
        Ok(())
    }

    /// The app starts only when every checked path is a mount that answers.
    fn pass_gate(&mut self) -> std::result::Result<(), End> {
        if self.mountpoints.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let deadline = start + self.plan.mountpoint_timeout;
        step("mountpoint-check", self.events.watch_mounts())?;
        loop {
            let now = Instant::now();
            if let Some(lost) = step("mountpoint-check", self.mountpoints.judge(now))? {
                return Err(End::Lost(self.describe(&lost, now)));
            }
            if step("mountpoint-check", self.mountpoints.look(now))? {
                let paths: Vec<_> =
                    self.plan.checks.iter().map(|path| path.value.display().to_string()).collect();
                crate::log!("mountpoint {} answers after {}", paths.join(", "), Elapsed(start.elapsed()));
                return Ok(());
            }
            if let (true, Some((path, trouble))) = (now >= deadline, self.mountpoints.trouble()) {
                let what =
                    format!("mountpoint {}: {trouble}, after {}", path.display(), Elapsed(now - start));
                return Err(setup_failure("mountpoint-check", 0, what, 0));
            }
            self.wait(Some(deadline));
            if self.stop.is_some() {
                return Err(End::Stopped);
            }
        }
    }

    fn start_app(&mut self) -> std::result::Result<(), End> {
        if let Some(path) = &self.plan.chdir {
            self.workdir.push(&path.value);
        }
        let launched = step("app", self.launch_app())?;
        crate::log!("app started: {} (pid {})", self.plan.app.program().display(), launched.pid);
        self.app = Some(RunningApp { launched, status: None });
        self.tell(&FromVassal::Running);
        Ok(())
    }

    fn launch_app(&self) -> Result<Launched> {
        match &self.plan.app {
            App::Program { argv, privileged } => self.launch(Role::App, !privileged, argv, None),
            App::Uwsgi { binary, ini } => {
                let ini =
                    memfd::sealed("vassal.ini", ini, Use::Read).context("create", "the ini of uwsgi")?;
                let argv = [binary.clone(), "--ini".into(), format!("fd://{}", ini.as_raw_fd()).into()];
                self.launch(Role::App, true, &argv, Some(&ini))
            }
        }
    }

    /// Starts a child, as the app's user or as ourselves; `passed` is inherited.
    pub(super) fn launch(
        &self,
        role: Role,
        as_user: bool,
        argv: &[OsString],
        passed: Option<&OwnedFd>,
    ) -> Result<Launched> {
        Launch {
            argv,
            identity: self.identity.as_ref().filter(|_| as_user),
            workdir: &self.workdir,
            environment: &self.environment,
            umask: self.plan.umask,
            own_group: role == Role::Hook,
            // What a hook leaves behind, such as a FUSE daemon, is ended by us, in order.
            dies_with_us: role == Role::App && !rustix::process::getpid().is_init(),
            passed: passed.map(AsFd::as_fd),
            signals: &self.signals,
        }
        .start()
    }

    /// Waits for one child, unless a request to stop or the deadline comes first.
    pub(super) fn wait_for(
        &mut self,
        pid: Pid,
        deadline: Instant,
    ) -> std::result::Result<WaitStatus, Interrupted> {
        let already_stopping = self.stop.is_some();
        loop {
            let reaped = self.wait(Some(deadline));
            if let Some(reaped) = reaped.iter().find(|reaped| reaped.pid == pid) {
                return Ok(reaped.status);
            }
            if self.stop.is_some() && !already_stopping {
                return Err(Interrupted::Stop);
            }
            if Instant::now() >= deadline {
                return Err(Interrupted::Deadline);
            }
        }
    }

    /// Waits for the next events and keeps the books: who died, who wants us to stop, what may have happened to the
    /// mounts. Returns the children that were reaped, without the probers.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> Vec<Reaped> {
        let now = Instant::now();
        let deadline = [deadline, self.mountpoints.deadline(now)].into_iter().flatten().min();
        let wakeup = self.events.wait(self.mountpoints.descriptors(), deadline);
        let now = Instant::now();
        let mut reaped = wakeup.reaped;
        reaped.retain(|child| !self.mountpoints.probe_died(child.pid, now));
        for child in &reaped {
            self.last_death = Some((now, *child));
            if let Some(app) = self.app.as_mut().filter(|app| app.launched.pid == child.pid) {
                app.status = Some(child.status);
            }
        }
        if wakeup.mounts_changed || !reaped.is_empty() {
            self.mountpoints.suspect(now);
        }
        self.childless |= wakeup.childless;
        if let Some(who) = wakeup.stop {
            self.stop_requested(who);
        }
        for number in wakeup.signals {
            self.forward(number);
        }
        reaped
    }

    /// Tells the emperor, if there is one. It learns of our end anyway, so a full or closed link is no failure.
    pub(super) fn tell(&self, message: &FromVassal) {
        if let Some(link) = self.events.link() {
            let _ = protocol::send(link, &message.encode(), None);
        }
    }
}

/// Makes the error of a step that is no hook the vassal's end.
fn step<T>(phase: &str, result: Result<T>) -> std::result::Result<T, End> {
    result.map_err(|error| setup_failure(phase, 0, error.to_string(), error.errno()))
}

fn setup_failure(phase: &str, index: u32, what: String, errno: i32) -> End {
    End::Setup(SetupFailure { phase: phase.to_owned(), index, what, errno }, EXIT_SETUP)
}
