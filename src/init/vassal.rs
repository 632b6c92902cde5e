//! The parts of a vassal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use rustix::process::Pid;

use crate::config::Input;
use crate::config::cmdline::entrypoint::{Entrypoint, Event, Orphans};
use crate::config::plan::VassalPlan;
use crate::error::{Context, Error};
use crate::init::child::environment::Environment;
use crate::init::child::foreground::Terminal;
use crate::init::child::launch::Workdir;
use crate::init::child::listen_fds::Socket;
use crate::init::child::notices::{self, Facts, WARNINGS};
use crate::init::child::outputs::Outputs;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::{Given, Jail};
use crate::init::source::careful_world::Start;
use crate::init::source::source::Source;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::procfs::Procfs;
use crate::path::Walk;
use crate::protocol::{self, EXIT_SETUP, ExitReason, FileOwner, KeptSocket, SetupFailure};
use crate::running_time;
use crate::sys::{fd, signal};
use crate::transcript::Transcript;

/// Everything that a vassal is started with.
pub struct Setup {
    /// The plan of the vassal.
    pub plan: Rc<VassalPlan>,
    /// The inputs that the plan was read from, for a reload.
    pub inputs: Vec<Input>,
    /// What the init does for a command; `None` if the app is not one.
    pub entry: Option<Rc<Entrypoint>>,
    /// The process that the starter has started: this one, or the one that waits outside of the namespaces.
    pub started: Pid,
    /// The namespaces that this process was created in (`CLONE_NEW*` bits).
    pub namespaces: u64,
    /// The cgroup that the emperor has made; empty without one.
    pub cgroup: PathBuf,
    /// The owner to become before the inputs are read (tyrant mode). Until then the plan has only the
    /// emperor's hooks.
    pub owner: Option<FileOwner>,
    /// The link to the emperor, if there is one.
    pub link: Option<OwnedFd>,
    /// Signal mask and dispositions for the app.
    pub signals: signal::Inherited,
    /// The descriptors that the starter has opened for a command; `None` for a vassal.
    pub inherited: Option<fd::Inherited>,
    /// Sockets of an earlier instance.
    pub kept: Vec<KeptSocket>,
    /// What the inputs are read with after the change of identity, if there is an owner.
    pub transcript: Transcript,
}

/// A vassal, from its first step to its end.
pub struct Vassal {
    pub(in crate::init) events: EventLoop,
    pub(in crate::init) jail: Jail,
    pub(in crate::init) source: Source,
    pub(in crate::init) life: Life,
}

/// Facts that become known in the course of a life.
pub struct Life {
    /// Whether an app was ever started, so that the hooks for the exit have something to undo.
    pub(in crate::init) had_app: bool,
    /// When a lost mount was last mounted anew.
    pub(in crate::init) remounted: Option<Instant>,
    /// The sockets that the app listens on.
    pub(in crate::init) sockets: Vec<Socket>,
    /// Sockets of an earlier instance, until the app's sockets are opened.
    pub(in crate::init) kept: Vec<KeptSocket>,
}

impl Vassal {
    /// A vassal before its first step.
    pub fn new(setup: Setup) -> Self {
        let procfs = Rc::new(match setup.inherited {
            // A command that needs no preparation leaves /proc as it is.
            Some(fd::Inherited::All) => Procfs::at_proc(),
            // Without hooks and without a change of root, /proc stays as it is.
            _ => Procfs::open(setup.plan.hooks.is_empty() && setup.plan.jail.new_root().is_none()),
        });
        let start = Start::of(&setup.inputs, setup.transcript);
        let workdir = Workdir::Inherited(start.cwd().to_owned());
        let mountpoints = Mountpoints::new(&setup.plan.mountpoints, Rc::clone(&procfs), running_time::now());
        let is_command = setup.entry.is_some();
        // The vassals of an emperor lead sessions of their own.
        let is_alone = matches!(setup.inherited, Some(fd::Inherited::All));
        let is_on_terminal = setup.link.is_none() && !is_alone && Terminal::is_there();
        let mut vassal = Self {
            events: EventLoop::new(setup.entry, setup.link, mountpoints),
            jail: Jail {
                walk: Walk::default(),
                umask: None,
                namespaces: setup.namespaces,
                owner: setup.owner,
                cgroup: setup.cgroup,
                given: Given { signals: setup.signals, outputs: Outputs::default() },
                is_on_terminal,
                filter: None,
                environment: Environment::default(),
                user_variables: Vec::new(),
                started: setup.started,
                is_command,
                is_at_start: is_command,
                inherited: setup.inherited,
                jail_workdir: workdir.clone(),
                workdir,
                identity: None,
                procfs,
                has_run_commands: false,
                foreign_fuse: None,
                host_accounts: None,
            },
            source: Source { fresh: Rc::clone(&setup.plan), plan: setup.plan, start, inputs: setup.inputs },
            life: Life { had_app: false, remounted: None, sockets: Vec::new(), kept: setup.kept },
        };
        vassal.jail.take_on(&vassal.source.plan);
        vassal
    }
}

/// Makes this process adopt orphans as PID 1 does, unless the starter of a command does not want it.
///
/// # Errors
/// EINVAL before Linux 3.4.
pub fn adopt_orphans(entry: Option<&Entrypoint>) -> crate::error::Result<()> {
    let own = rustix::process::getpid();
    if own.is_init() {
        return Ok(());
    }
    let adopt = || rustix::process::set_child_subreaper(Some(own)).context("become", "subreaper");
    let Some(entry) = entry else { return adopt() };
    match entry.orphans {
        Orphans::Adopt => notices::warn_of(entry, adopt()),
        Orphans::Warn if !matches!(rustix::process::child_subreaper(), Ok(Some(_))) => {
            notices::tell(
                entry,
                WARNINGS,
                Event::NotAdopted,
                Facts::default(),
                format_args!("orphans will not be reaped"),
            );
        }
        Orphans::Warn | Orphans::Leave => {}
    }
    Ok(())
}

/// Tells the log and the emperor why the vassal does not start; returns the exit status.
pub fn start_failed(link: Option<&OwnedFd>, phase: &str, error: &Error) -> i32 {
    crate::log!("{error}");
    if let Some(link) = link {
        let failure =
            SetupFailure { phase: phase.into(), index: 0, what: error.to_string(), errno: error.errno() };
        // If the link is full, the emperor still sees the exit status.
        let _ = protocol::send(link, &ExitReason::Setup(failure).encode(), None);
    }
    EXIT_SETUP
}
