//! What a child of the vassal gets: root directory, working directory, umask, environment, identity; and the
//! namespaces around it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::process::Pid;

use crate::config::plan::VassalPlan;
use crate::error::Context;
use crate::error::Error;
use crate::error::Result;
use crate::identity::Identity;
use crate::init::child::environment::{self, Environment};
use crate::init::child::launch::{Launch, Workdir};
use crate::init::event_loop::notify;
use crate::init::watch::procfs::Procfs;
use crate::log;
use crate::mount::ops::Walk;
use crate::protocol;
use crate::protocol::FileOwner;
use crate::sys::{fd, signal};

/// The surroundings of the vassal's processes.
pub struct Jail {
    /// The directories in which the links of a tenant must not redirect a mount.
    pub(in crate::init) walk: Walk,
    /// Where children run. PID 1 itself is in the root directory after the privilege drop.
    pub(in crate::init) workdir: Workdir,
    /// The working directory at the privilege drop, where a reload starts from.
    pub(in crate::init) jail_workdir: Workdir,
    /// Whether the root directory is another than at the start.
    pub(in crate::init) is_inside: bool,
    /// File mode creation mask of everything that comes later.
    pub(in crate::init) umask: Option<u32>,
    pub(in crate::init) environment: Environment,
    /// The process that the starter has started: this one, or the one that waits outside of our namespaces.
    pub(in crate::init) started: Pid,
    /// Whether the app is the command of an entrypoint, which gets what its starter gave to it.
    pub(in crate::init) is_command: bool,
    /// The descriptors that the starter of a command has opened for it, until the command has them; `None`
    /// where there are none.
    pub(in crate::init) inherited: Option<fd::Inherited>,
    /// Whether PID 1 still is in the directory it was started in, so that a command starts there.
    pub(in crate::init) is_at_start: bool,
    /// The identity of children from `as-user` on.
    pub(in crate::init) identity: Option<Identity>,
    /// The namespaces this process was created in (`CLONE_NEW*` bits).
    pub(in crate::init) namespaces: u64,
    /// The owner of the vassal's file, in tyrant mode.
    pub(in crate::init) owner: Option<FileOwner>,
    /// The cgroup that the emperor has made; empty for none.
    pub(in crate::init) cgroup: PathBuf,
    /// Signal mask and dispositions for the app.
    pub(in crate::init) signals: signal::Inherited,
    /// Whether a hook has run a command: it may have left the daemon of a filesystem. The plan does not tell,
    /// because that of a reload lacks the hooks that only a fresh start runs.
    pub(in crate::init) has_run_commands: bool,
    /// The FUSE connections that were there before the first hook, if they are known. Other processes may use
    /// them.
    pub(in crate::init) foreign_fuse: Option<Vec<u64>>,
    pub(in crate::init) procfs: Rc<Procfs>,
}

/// Variables by which the starter of a vassal talks to PID 1. The app gets its own, if any.
const NOT_INHERITED: [&str; 8] = [
    protocol::LINK_VARIABLE,
    log::VARIABLE,
    notify::EMPEROR_FD,
    notify::NOTIFY_SOCKET,
    environment::LISTEN_PID,
    environment::LISTEN_PIDFDID,
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

impl Jail {
    /// Sets the environment of hooks and app: ours, with the changes of the plan. The starter of a vassal
    /// talks to PID 1 by some variables, which are removed. The starter of a command talks to the command,
    /// which gets all of them.
    pub(in crate::init) fn set_environment(&mut self, plan: &VassalPlan) {
        self.environment = match self.is_command {
            true => Environment::inherited(self.started),
            false => {
                let mut environment = Environment::default();
                environment.remove(|name| NOT_INHERITED.iter().any(|known| name == *known));
                environment
            }
        };
        self.environment.change(&plan.environment);
    }

    /// Where the app is to start; `None` for where PID 1 is.
    pub(in crate::init) fn workdir_of_app(&self) -> Option<&Workdir> {
        let stays = self.is_at_start && matches!(self.workdir, Workdir::Inherited(_));
        Some(&self.workdir).filter(|_| !stays)
    }

    /// Lets go of everything that was only for the command. The working directory of PID 1 would keep a
    /// filesystem from being unmounted, and an open descriptor would keep the other end of a pipe from seeing
    /// the end.
    pub(in crate::init) fn let_go(&mut self) {
        if std::mem::take(&mut self.is_at_start) {
            let _ = rustix::process::chdir("/");
        }
        if let Some(inherited) = self.inherited.take() {
            inherited.close();
        }
    }

    /// Whether this process was created in a new namespace of this kind.
    pub(in crate::init) fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind as u64 != 0
    }

    /// Namespaces that the plan asks for and this process is not in.
    pub(in crate::init) fn missing_namespaces(&self, plan: &VassalPlan) -> u64 {
        plan.jail.unshare & !self.namespaces
    }

    /// Sets the host name, unless that would rename the host.
    pub(in crate::init) fn set_hostname(&self, name: &OsStr) -> Result<()> {
        if !self.has_namespace(libc::CLONE_NEWUTS) {
            let reason = "needs a uts namespace (unshare = uts, or uts in emperor-use-clone): without one it \
                          renames the host";
            return Err(Error::new("set the host name", name.display(), reason));
        }
        rustix::system::sethostname(name.as_bytes()).context("set the host name", name.display())
    }

    /// A child for a command of a hook, as the app's user or with the identity of PID 1. It leads a process
    /// group and has only the standard descriptors.
    pub(in crate::init) fn helper(&self, as_user: bool) -> Launch<'_> {
        Launch {
            identity: self.identity.as_ref().filter(|_| as_user),
            confinement: None,
            workdir: Some(&self.workdir),
            environment: &self.environment,
            is_named: false,
            umask: self.umask,
            own_group: true,
            dies_with_us: false,
            stand: None,
            unexecutable: None,
            passed: &[],
            sockets: &[],
            resources: None,
            signals: &self.signals,
            heard: None,
        }
    }

    /// A child for a part of the setup. It dies with PID 1, as it may wait for a filesystem that hangs.
    pub(in crate::init) fn worker(&self, as_user: bool) -> Launch<'_> {
        Launch { dies_with_us: !rustix::process::getpid().is_init(), ..self.helper(as_user) }
    }
}
