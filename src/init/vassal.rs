//! The parts of a vassal.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use crate::config::Input;
use crate::config::cmdline::entrypoint::Entrypoint;
use crate::config::plan::VassalPlan;
use crate::error::{Context, Result};
use crate::init::child::launch::Workdir;
use crate::init::child::listen_fds::Socket;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::sources::Sources;
use crate::init::jail::Jail;
use crate::init::source::careful_world::Start;
use crate::init::source::source::Source;
use crate::init::steps::root;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::oom::OomKills;
use crate::init::watch::procfs::Procfs;
use crate::mount::ops::Walk;
use crate::protocol::{FileOwner, KeptSocket};
use crate::sys::signal;

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
    pub(in crate::init) kept: Vec<KeptSocket>,
}

impl Vassal {
    pub(in crate::init) fn new(setup: Setup) -> Result<Self> {
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
                mountpoints: Mountpoints::new(&setup.plan.mountpoints, Rc::clone(&procfs), Instant::now()),
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
        vassal.jail.set_environment(&vassal.source.plan);
        Ok(vassal)
    }
}
