//! The life of a vassal, in order.
//!
//! From [`run`] on this process may be PID 1 of a namespace: it does not leave on an error, it ends the vassal.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, open};

use crate::accounts::Accounts;
use crate::config::Input;
use crate::config::cmdline::entrypoint::Entrypoint;
use crate::config::plan::{Action, EnvChange, Located, Phase, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::identity::{Confinement, Identity};
use crate::init::child::launch::Workdir;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::notify;
use crate::init::event_loop::sources::Sources;
use crate::init::jail::Jail;
use crate::init::source::careful_world::Start;
use crate::init::source::source::Source;
use crate::init::steps::app::RunningApp;
use crate::init::steps::capabilities::{self, MountPower};
use crate::init::steps::cgroups::{OOM_SCORE, OomKills};
use crate::init::steps::hooks::{Failed, SLOW};
use crate::init::steps::root;
use crate::init::steps::sockets::Socket;
use crate::init::watch::mountpoints::{Maker, Mountpoints};
use crate::init::watch::procfs::Procfs;
use crate::log::Elapsed;
use crate::mount::mountinfo::Mount;
use crate::mount::ops::{self, Walk};
use crate::protocol::{self, Announcement, EXIT_SETUP, FileOwner, KeptSocket, SetupFailure, WaitStatus};
use crate::sys::signal;
use crate::world;

/// Variables that are between us and our own starter.
const NOT_INHERITED: [&str; 7] = [
    protocol::LINK_VARIABLE,
    protocol::LOG_VARIABLE,
    notify::EMPEROR_FD,
    notify::NOTIFY_SOCKET,
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

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
    pub(in crate::init) events: EventLoop,
    pub(in crate::init) jail: Jail,
    pub(in crate::init) source: Source,
    pub(in crate::init) life: Life,
}

/// What is only known in the course of a life.
pub struct Life {
    /// Whether an app ever ran in this jail: then the hooks for the exit have something to undo.
    pub(in crate::init) had_app: bool,
    /// When a lost mount was made anew the last time.
    pub(in crate::init) remounted: Option<Instant>,
    /// What the app listens on.
    pub(in crate::init) sockets: Vec<Socket>,
    /// Those of an earlier instance, until they are opened.
    kept: Vec<KeptSocket>,
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
        let is_lasting = setup.plan.hooks.is_empty() && root::coming_root(&setup.plan).is_none();
        let procfs = Rc::new(Procfs::open(is_lasting));
        let workdir = Workdir::Inherited(std::env::current_dir().unwrap_or_else(|_| "/".into()));
        let mut vassal = Self {
            events: EventLoop {
                sources: Sources::new(setup.link, setup.entry.is_some())?,
                mountpoints: Mountpoints::new(&setup.plan, Rc::clone(&procfs), Instant::now()),
                oom: OomKills::default(),
                entry: setup.entry,
                job: None,
                early_signals: Vec::new(),
                app: None,
                helper_pids: Vec::new(),
                hook: None,
                last_death: None,
                childless: false,
                stop: None,
                lost: Vec::new(),
                reload: None,
                is_accepting: false,
                is_repairing: false,
                is_ending: false,
                report_asked: None,
            },
            jail: Jail {
                walk: Walk { new_root: root::coming_root(&setup.plan), old_root: None },
                umask: setup.plan.umask,
                namespaces: setup.namespaces,
                owner: setup.owner,
                cgroup: setup.cgroup,
                signals: setup.signals,
                environment: Vec::new(),
                jail_workdir: workdir.clone(),
                workdir,
                is_inside: false,
                identity: None,
                procfs,
                foreign_fuse: None,
            },
            source: Source {
                fresh: Rc::clone(&setup.plan),
                plan: setup.plan,
                start: Start::of(&setup.inputs),
                inputs: setup.inputs,
            },
            life: Life { had_app: false, remounted: None, sockets: Vec::new(), kept: setup.kept },
        };
        vassal.set_environment();
        Ok(vassal)
    }

    /// Ours, with the plan's changes.
    pub(in crate::init) fn set_environment(&mut self) {
        // What our starter wants to hear of us is not for the app to say: it gets its own.
        let is_ours = |name: &OsString| !NOT_INHERITED.iter().any(|known| name == known);
        self.jail.environment = world::environment();
        self.jail.environment.retain(|(name, _)| is_ours(name));
        for change in &Rc::clone(&self.source.plan).environment {
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
        // The kernel keeps it from a process that has become another user; what may be written to it, it decides anew. What an
        // owner's file asks for is not known yet.
        let may_be_wanted = self.jail.owner.is_some() || self.source.plan.oom_score_adj.is_some();
        let oom_score =
            may_be_wanted.then(|| open(OOM_SCORE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()));
        if let Some(owner) = self.jail.owner {
            self.phase(Phase::AsVassal)?;
            self.become_owner(owner)?;
        }
        step("limits", self.limit(oom_score))?;
        if !self.source.plan.hooks.is_empty() {
            let mounts = self.jail.procfs.mounts().ok();
            self.jail.foreign_fuse =
                mounts.map(|mounts| mounts.iter().filter_map(Mount::connection).collect());
        }
        if let Some(name) = &self.source.plan.hostname {
            step_of("namespaces", name, self.set_hostname(&name.value))?;
        }
        self.note_maker(Maker::Outside)?;
        for phase in [Phase::AsVassal, Phase::Asap, Phase::PreJail] {
            self.phase(phase)?;
        }
        let host = Accounts::read();
        let plan = Rc::clone(&self.source.plan);
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
        if root::coming_root(&self.source.plan).is_some() {
            step("privilege drop", self.ask_about("read", Path::new("/etc/passwd")))?;
        }
        let accounts = Accounts::read_in_jail(host);
        let mut identity = step("privilege drop", Identity::resolve(&self.source.plan.run_as, &accounts))?;
        if let Some(owner) = self.jail.owner {
            step("privilege drop", identity.must_be(owner.uid, owner.gid))?;
        }
        let own = rustix::process::geteuid();
        if identity.uid.is_none()
            && !own.is_root()
            && self.events.sources.link().is_some()
            && !self.has_namespace(libc::CLONE_NEWUSER)
        {
            // An emperor that is not root leaves us capabilities for the jail. They are not for the app.
            identity.uid = Some(own.as_raw());
        }
        self.jail.identity = Some(identity.clone());
        let kept = std::mem::take(&mut self.life.kept);
        let opened = self.open_sockets(&accounts, kept);
        if opened.is_err() && self.is_interrupted() {
            return Err(self.interrupted());
        }
        step("sockets", opened)?;
        if identity.is_ordinary() && !self.source.plan.app.is_privileged() {
            step(
                "privilege drop",
                capabilities::reduce_pid1(Confinement::of(&self.source.plan), self.mount_power()),
            )?;
        }
        self.events.mountpoints.set_user(identity);
        // A working directory would pin whatever is mounted there.
        step("privilege drop", self.go_to_root("working directory:"))?;
        self.jail.jail_workdir = self.jail.workdir.clone();
        self.run_app()
    }

    /// What is left to do about mounts. By now it is known which of them root has made.
    fn mount_power(&self) -> MountPower {
        let by_root = |maker| matches!(maker, Maker::Phase(phase) if phase <= Phase::AsRoot);
        match self.source.plan.remounts() {
            true if self.events.mountpoints.makers().any(by_root) => MountPower::All,
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
    pub(in crate::init) fn run_again(&mut self, plan: Rc<VassalPlan>) -> std::result::Result<(), End> {
        self.jail.umask = plan.umask;
        self.source.plan = plan;
        self.events.app = None;
        // The one before said it, on its way out.
        self.events.is_accepting = false;
        self.jail.workdir = self.jail.jail_workdir.clone();
        self.set_environment();
        // What the hooks of the jail have set lasts, though they do not run again.
        for hook in Rc::clone(&self.source.fresh).hooks.iter().filter(|hook| hook.phase <= Phase::AsRoot) {
            match &hook.action {
                Action::Putenv(name, value) => self.set_variable(name, Some(value.clone())),
                Action::Umask(mask) => self.jail.umask = Some(*mask),
                _ => {}
            }
        }
        self.run_app()
    }

    pub(in crate::init) fn phase(&mut self, phase: Phase) -> std::result::Result<(), End> {
        self.run_hooks(phase).map_err(|failed| match failed {
            Failed::Hook(failure) => End::Setup(failure, EXIT_SETUP),
            Failed::Interrupted => self.interrupted(),
            Failed::Exit(status) => End::Hook(status),
        })?;
        self.note_maker(Maker::Phase(phase))
    }

    /// Keeps in mind who has mounted what, where that decides whether it can be mounted again.
    fn note_maker(&mut self, maker: Maker) -> std::result::Result<(), End> {
        if !self.source.plan.remounts() || self.events.mountpoints.is_empty() {
            return Ok(());
        }
        step("mountpoint-lost", self.events.mountpoints.note_maker(maker))
    }

    /// Whether something came up that makes further preparations pointless. The end of an app that was ready to serve does;
    /// one that does its work and ends at once may well do so before its hooks have run.
    pub(in crate::init) fn is_interrupted(&self) -> bool {
        let has_ended =
            |app: &RunningApp| app.status.is_some() && app.announced.contains(&Announcement::Ready);
        let app_has_ended = self.events.app.as_ref().is_some_and(has_ended);
        let is_lost = !self.events.lost.is_empty() && !self.events.is_repairing;
        !self.events.is_ending && (self.events.stop.is_some() || is_lost || app_has_ended)
    }

    /// The end that came in between.
    pub(in crate::init) fn interrupted(&mut self) -> End {
        self.events.lost.first().map_or(End::Stopped, |lost| End::Lost(lost.what.clone()))
    }

    /// Whether we live in a namespace of our own of this kind.
    pub(in crate::init) fn has_namespace(&self, kind: i32) -> bool {
        self.jail.namespaces & kind as u64 != 0
    }

    /// Namespaces that the plan asks for and this process is not in.
    pub(in crate::init) fn missing_namespaces(&self, plan: &VassalPlan) -> u64 {
        plan.unshare & !self.jail.namespaces
    }

    /// Sets the host name, unless that would rename the host.
    pub(in crate::init) fn set_hostname(&self, name: &OsStr) -> Result<()> {
        if !self.has_namespace(libc::CLONE_NEWUTS) {
            let reason = "needs a uts namespace (unshare = uts, or uts in emperor-use-clone): else it renames the host";
            return Err(Error::new("set the host name", name.display(), reason));
        }
        rustix::system::sethostname(name.as_bytes()).context("set the host name", name.display())
    }

    /// The app starts only when every checked path is a mount that answers.
    fn pass_gate(&mut self) -> std::result::Result<(), End> {
        if self.events.mountpoints.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let deadline = start + self.source.plan.mountpoint_timeout;
        let mut slow = Some(start + SLOW);
        step("mountpoint-check", self.events.sources.watch_mounts(&self.jail.procfs))?;
        loop {
            let now = Instant::now();
            if step("mountpoint-check", self.events.mountpoints.look(now))? {
                let paths: Vec<_> =
                    self.source.plan.checks.iter().map(|path| path.value.display().to_string()).collect();
                crate::log!("mountpoint {} answers after {}", paths.join(", "), Elapsed(start.elapsed()));
                // What a hook of as-user has left to a process in the background counts as made by as-user.
                return self.note_maker(Maker::Phase(Phase::AsUser));
            }
            if let (true, Some((check, trouble))) = (now >= deadline, self.events.mountpoints.trouble()) {
                let (path, waited) = (check.value.display(), Elapsed(now - start));
                let what =
                    format!("mountpoint {path}: {trouble}, after {waited} ({}: {})", check.at, check.key);
                return Err(setup_failure("mountpoint-check", 0, what, 0));
            }
            if slow.take_if(|slow| now >= *slow).is_some()
                && let Some((check, trouble)) = self.events.mountpoints.trouble()
            {
                let (path, most) = (check.value.display(), Elapsed(self.source.plan.mountpoint_timeout));
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
}

/// Makes the error of a step that is no hook the vassal's end.
#[inline(never)]
pub(in crate::init) fn step<T>(phase: &str, result: Result<T>) -> std::result::Result<T, End> {
    result.map_err(|error| setup_failure(phase, 0, error.to_string(), error.errno()))
}

/// The same for what one line of the file asks for: where that is.
pub(in crate::init) fn step_of<T, S>(
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
