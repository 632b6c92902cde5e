//! The surroundings of the vassal's children: root directory, working directory, umask, environment, identity
//! and namespaces.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::accounts::{Accounts, User};
use crate::config::plan::{Action, Phase, VassalPlan};
use crate::error::Context;
use crate::error::Result;
use crate::error::{Described, Error};
use crate::identity::Identity;
use crate::init::child::environment::{self, Environment};
use crate::init::child::launch::{Launch, Workdir};
use crate::init::child::outputs::{Outputs, Stream};
use crate::init::child::seccomp::NO_TYPING;
use crate::init::event_loop::notify;
use crate::init::watch::procfs::Procfs;
use crate::log;
use crate::mount::mountinfo::Mount;
use crate::path::Walk;
use crate::protocol;
use crate::protocol::FileOwner;
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{fd, signal};

/// The surroundings of the vassal's processes.
pub struct Jail {
    /// The walk along paths, which keeps links of a tenant from leading root astray.
    pub(in crate::init) walk: Walk,
    /// The working directory of children. PID 1 itself is in the root directory after the privilege drop.
    pub(in crate::init) workdir: Workdir,
    /// The working directory at the privilege drop, from which a reload starts.
    pub(in crate::init) jail_workdir: Workdir,
    /// The file mode creation mask for everything that comes later.
    pub(in crate::init) umask: Option<u32>,
    pub(in crate::init) environment: Environment,
    /// The variables of a clean environment that are about the app's user.
    pub(in crate::init) user_variables: Vec<(OsString, OsString)>,
    /// The process that the starter has started: this one, or the one that waits outside of the namespaces.
    pub(in crate::init) started: Pid,
    /// Whether the app is the command of an entrypoint. A command gets the environment and the descriptors of
    /// its starter.
    pub(in crate::init) is_command: bool,
    /// The descriptors that the starter has opened for a command, until the command has them; `None` for a
    /// vassal.
    pub(in crate::init) inherited: Option<fd::Inherited>,
    /// Whether PID 1 is still in the directory that it was started in. A command then starts there.
    pub(in crate::init) is_at_start: bool,
    /// The identity of children from `as-user` on. In tyrant mode, the owner's identity until then.
    pub(in crate::init) identity: Option<Identity>,
    /// The namespaces that this process was created in (`CLONE_NEW*` bits).
    pub(in crate::init) namespaces: u64,
    /// The owner of the vassal's file, in tyrant mode.
    pub(in crate::init) owner: Option<FileOwner>,
    /// The cgroup that the emperor has made; empty without one.
    pub(in crate::init) cgroup: PathBuf,
    /// Whether the vassal is on its starter's terminal.
    pub(in crate::init) is_on_terminal: bool,
    /// The filter of the app's system calls.
    pub(in crate::init) filter: Option<Vec<Instruction>>,
    /// What all children are given.
    pub(in crate::init) given: Given,
    /// Whether a hook has run a command, which may have left the daemon of a filesystem. The plan does not
    /// tell: the plan of a reload lacks the hooks that only a fresh start runs.
    pub(in crate::init) has_run_commands: bool,
    /// The FUSE connections that existed before the first hook, if they are known. Other processes may use
    /// them.
    pub(in crate::init) foreign_fuse: Option<Vec<u64>>,
    /// The accounts of the host, if they were noted before the root changed.
    pub(in crate::init) host_accounts: Option<Rc<Accounts>>,
    pub(in crate::init) procfs: Rc<Procfs>,
}

/// What all children are given.
pub struct Given {
    /// Signal mask and dispositions for the app.
    pub signals: signal::Inherited,
    /// Where programs write to.
    pub outputs: Outputs,
}

/// Variables by which the starter of a vassal talks to PID 1. The app does not inherit them, but may get its
/// own.
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
    /// Sets the environment of hooks and app: that of PID 1, with the changes of the plan. For a vassal, the
    /// variables by which its starter talks to PID 1 are removed. For a command all variables stay, because
    /// its starter talks to the command.
    pub fn set_environment(&mut self, plan: &VassalPlan) {
        self.environment = self.environment_of(plan);
    }

    /// The environment that a plan sets.
    pub fn environment_of(&self, plan: &VassalPlan) -> Environment {
        let mut environment = match self.is_command {
            _ if plan.clean_env => Environment::clean(&self.user_variables),
            true => Environment::inherited(self.started),
            false => {
                let mut environment = Environment::default();
                environment.remove(|name| NOT_INHERITED.iter().any(|known| name == *known));
                environment
            }
        };
        environment.change(&plan.environment);
        environment
    }

    /// Takes over the settings of a plan, before anything has been done for it.
    pub fn take_on(&mut self, plan: &VassalPlan) {
        self.walk.new_root = plan.jail.new_root().map(Path::to_owned);
        self.umask = plan.umask;
        self.set_environment(plan);
    }

    /// Takes the jail back to its state at the privilege drop, for an app with another plan. The hooks of the
    /// jail do not run again, but the variables and the umask that they have set stay: `fresh` is the plan of
    /// a fresh start.
    pub fn start_over(&mut self, plan: &VassalPlan, fresh: &VassalPlan) {
        self.umask = plan.umask;
        self.workdir = self.jail_workdir.clone();
        self.set_environment(plan);
        for hook in fresh.hooks.iter().filter(|hook| hook.phase <= Phase::AsRoot) {
            match &hook.action {
                Action::Putenv(name, value) => self.set_variable(name, value),
                Action::Umask(mask) => self.set_umask(*mask),
                _ => {}
            }
        }
    }

    /// Notes the FUSE connections that are older than the first hook. Called at the start, and at the first
    /// reload that has hooks. Returns all mounts there were, if it has looked at them.
    pub fn note_foreign_fuse(&mut self, plan: &VassalPlan) -> Vec<Mount> {
        if self.foreign_fuse.is_some() || plan.hooks.is_empty() {
            return Vec::new();
        }
        let mounts = self.procfs.mounts().ok();
        let connections = |mounts: &Vec<Mount>| mounts.iter().filter_map(Mount::connection).collect();
        self.foreign_fuse = mounts.as_ref().map(connections);
        mounts.unwrap_or_default()
    }

    /// Notes that a hook has run a command, which may have left a daemon behind.
    pub fn note_command(&mut self) {
        self.has_run_commands = true;
    }

    /// Notes the accounts of the host, before the root changes, unless that was done already.
    pub fn note_accounts(&mut self) {
        self.host_accounts.get_or_insert_with(|| Rc::new(Accounts::read()));
    }

    /// The accounts of the present root, which take precedence, and those of the host, if they were noted.
    pub fn accounts(&self) -> Option<Accounts> {
        let host = self.host_accounts.as_ref()?;
        Some(Accounts::read_in_jail(Rc::clone(host), &self.walk))
    }

    /// Notes that the root directory has changed, and where the old root is, if it is still mounted.
    pub fn root_changed(&mut self, old_root: Option<PathBuf>) {
        self.workdir = Workdir::Chosen("/".into());
        self.walk = Walk { old_root, is_inside: true, ..Walk::default() };
    }

    /// Notes that the old root directory was unmounted.
    pub fn forget_old_root(&mut self) {
        self.walk.old_root = None;
    }

    /// Sets the identity of children from `as-user` on.
    pub fn set_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// Sets the variables of a clean environment that are about the app's user, unless a hook or the plan has
    /// set them.
    pub fn set_user(&mut self, plan: &VassalPlan, user: User) {
        let or =
            |text: String, default: &str| OsString::from(if text.is_empty() { default.into() } else { text });
        let mut variables =
            vec![("HOME".into(), or(user.home, "/")), ("SHELL".into(), or(user.shell, "/bin/sh"))];
        if let Some(name) = user.name {
            variables.extend(["USER", "LOGNAME"].map(|variable| (variable.into(), OsString::from(&name))));
        }
        let before = std::mem::take(&mut self.environment);
        self.user_variables = variables;
        self.set_environment(plan);
        for (name, value) in before.variables() {
            self.environment.set(name, Some(value.clone()));
        }
    }

    /// Sets the filter of the app's system calls.
    pub fn set_filter(&mut self, filter: Option<Vec<Instruction>>) {
        self.filter = filter;
    }

    /// Sets the file mode creation mask of everything that comes later.
    pub fn set_umask(&mut self, mask: u32) {
        self.umask = Some(mask);
    }

    /// Sets a variable in the environment of everything that comes later.
    pub fn set_variable(&mut self, name: &OsStr, value: &OsStr) {
        self.environment.set(name, Some(value.to_owned()));
    }

    /// Sets the working directory of children, unless a hook sets another one later.
    pub fn begin_in(&mut self, directory: &Path) {
        if let Workdir::Inherited(_) = self.workdir {
            self.workdir = Workdir::Inherited(directory.to_owned());
        }
    }

    /// Changes the working directory of children.
    pub fn change_workdir(&mut self, path: &Path) {
        self.workdir.change(path);
    }

    /// Keeps a vassal with fewer rights than its starter from pushing input into the starter's terminal,
    /// because the shell there would execute it. Hooks have sessions of their own, without a terminal.
    pub fn forbid_typing(&mut self, plan: &VassalPlan, identity: &Identity) {
        let is_less = !identity.is_ours()
            || plan.privileges.dropped() != 0
            || self.namespaces != 0
            || plan.jail.new_root().is_some();
        if !self.is_on_terminal || !is_less {
            return;
        }
        match seccomp::install(&NO_TYPING) {
            Ok(()) => {}
            // The app can install the filter, since it gets no_new_privs.
            Err(Errno::ACCESS) if plan.privileges.no_new_privs && self.app_is_users(plan) => {
                self.filter.get_or_insert_with(|| NO_TYPING.to_vec());
            }
            // Without a process that started this one, as in a container, no shell reads the terminal
            // afterwards.
            Err(_) if self.started.is_init() => {}
            Err(errno) => {
                let why = Described(errno);
                log!(
                    "the app can type into this terminal, as a shell's input: {why}; no-new-privs prevents it"
                );
            }
        }
    }

    /// Sets where programs write to, and to the same place what they write of errors.
    pub fn set_output(&mut self, out: Stream) {
        let outputs = &mut self.given.outputs;
        (outputs.out, outputs.err) = (out, None);
    }

    /// Sets where programs write errors to; `None` for where they write to.
    pub fn set_errors(&mut self, err: Option<Stream>) {
        self.given.outputs.err = err;
    }

    /// Ends the relays of the output, once they have copied what was written.
    pub fn finish_outputs(&mut self) {
        self.given.outputs = Outputs::default();
    }

    /// Notes the working directory at the privilege drop.
    pub fn note_workdir(&mut self) {
        self.jail_workdir = self.workdir.clone();
    }

    /// Whether the app runs as its user, confined as the plan says. In tyrant mode it always does: an owner
    /// has no privileges to keep.
    pub fn app_is_users(&self, plan: &VassalPlan) -> bool {
        self.owner.is_some() || !plan.app.is_privileged()
    }

    /// Whether PID 1 stays in the directory that it was started in, because a command of the same user starts
    /// there.
    pub fn stays_at_start(&mut self, plan: &VassalPlan) -> bool {
        let changes_user = self.identity.as_ref().is_some_and(|identity| !identity.is_unchanged());
        let is_chosen = matches!(self.workdir, Workdir::Chosen(_));
        self.is_at_start &= !is_chosen && !changes_user && !plan.remounts();
        self.is_at_start
    }

    /// The working directory of the app; `None` for that of PID 1.
    pub fn workdir_of_app(&self) -> Option<&Workdir> {
        let stays = self.is_at_start && matches!(self.workdir, Workdir::Inherited(_));
        Some(&self.workdir).filter(|_| !stays)
    }

    /// Gives up everything that was only needed for the command. As working directory of PID 1, a directory
    /// would keep its filesystem from being unmounted; an open descriptor would keep the other end of a pipe
    /// from seeing the end of the pipe.
    pub fn let_go(&mut self) {
        if std::mem::take(&mut self.is_at_start) {
            let _ = rustix::process::chdir(c"/");
        }
        if let Some(inherited) = self.inherited.take() {
            inherited.close();
        }
    }

    /// Whether this process was created in a new namespace of this kind.
    pub fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind as u64 != 0
    }

    /// Namespaces that the plan asks for and that this process does not have.
    pub fn missing_namespaces(&self, plan: &VassalPlan) -> u64 {
        plan.jail.unshare & !self.namespaces
    }

    /// Sets the host name of the vassal's uts namespace.
    ///
    /// # Errors
    /// The vassal has no uts namespace, so that the host would be renamed; or as sethostname(2).
    pub fn set_hostname(&self, name: &OsStr) -> Result<()> {
        if !self.has_namespace(libc::CLONE_NEWUTS) {
            let reason = "needs a uts namespace (unshare = uts, or uts in emperor-use-clone): without one it \
                          renames the host";
            return Err(Error::new("set the host name", name.display(), reason));
        }
        rustix::system::sethostname(name.as_bytes()).context("set the host name", name.display())
    }

    /// The state of a child for a command of a hook, with the identity of the app's user or of PID 1. The
    /// child leads a session and has only the standard descriptors.
    pub fn helper(&self, as_user: bool) -> Launch<'_> {
        Launch {
            first: None,
            identity: self.identity.as_ref().filter(|_| as_user),
            confinement: None,
            // As long as PID 1 works as root, it is in this directory already, and must not enter it again by
            // a path.
            workdir: Some(&self.workdir).filter(|_| as_user),
            environment: &self.environment,
            is_named: false,
            umask: self.umask,
            own_session: true,
            dies_with_us: false,
            may_be_waited_for: false,
            stand: None,
            unexecutable: None,
            passed: &[],
            sockets: &[],
            resources: None,
            outputs: &self.given.outputs,
            signals: &self.given.signals,
            filter: None,
            heard: None,
        }
    }

    /// The state of a child for a part of the setup. The child dies with PID 1, because it may wait for a
    /// filesystem that hangs.
    pub fn worker(&self, as_user: bool) -> Launch<'_> {
        Launch { dies_with_us: !rustix::process::getpid().is_init(), ..self.helper(as_user) }
    }
}
