//! The plan of a vassal, and its parts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{Address, CgroupOption, Id, Located, Location, MapsPlan, RunAs};
use super::hooks::Hook;
use crate::mount::request::PivotRoot;
use crate::protocol::Replication;

/// How a vassal is to be run: everything decided, nothing done yet. The default of this struct holds where
/// the file says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VassalPlan {
    /// All hooks, by phase; within a phase the families in uWSGI's order (`hook-`, then `exec-`), each in the
    /// order of the file. They run in the order of this list.
    pub hooks: Vec<Hook>,
    /// How long a command of a hook may take before it is killed with its process group (`hook-timeout`).
    pub hook_timeout: Duration,
    /// The namespaces and the root that the vassal gets.
    pub jail: JailPlan,
    /// The user and groups that the app runs as.
    pub run_as: RunAs,
    /// What the app may do beyond the rights of its user.
    pub privileges: Privileges,
    /// Whether the environment begins without that of the starter.
    pub clean_env: bool,
    /// Changes to the environment, in order.
    pub environment: Vec<EnvChange>,
    /// The app's working directory.
    pub chdir: Option<Located<PathBuf>>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// The app.
    pub app: App,
    /// The key and place of the app: `command`, a `*-binary-patch*`, or `binary-path` for uWSGI; the file as
    /// a whole (line 0) if no line names the app.
    pub app_source: Located<()>,
    /// The mountpoints that are checked.
    pub mountpoints: MountpointPlan,
    /// How the app and what hooks left running are stopped.
    pub stop: StopPlan,
    /// What a reload is for.
    pub reload: ReloadPlan,
    /// The sockets that PID 1 binds for the app.
    pub listen: Vec<Located<Listen>>,
    /// Whether the emperor keeps the sockets between instances (off with `keep-sockets = false`).
    pub keep_sockets: bool,
    /// How much the vassal and the app may use.
    pub resources: ResourcePlan,
    /// How many instances an emperor runs of it, and how it replaces them.
    pub replication: Replication,
    /// How it is found out whether the app is ready.
    pub readiness: ReadinessPlan,
    /// Where the output of the app and of hooks goes.
    pub output: OutputPlan,
}

/// What a reload is for, and whether there is a reason for one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadPlan {
    /// The signal that makes the app read its own configuration again (`reload-signal`).
    pub signal: Option<i32>,
    /// Whether only another text is a reason (`reload-on`). The emperor asks that before there is a plan.
    pub on_content: bool,
    /// A number for what all settings say, and where: plans with the same one are the same.
    pub fingerprint: u64,
}

/// Where the output of the app and of hooks goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputPlan {
    /// Standard output (`standard-output`); `None` for that of PID 1.
    pub out: Option<Located<Output>>,
    /// Standard error (`standard-error`); `None` for the same as standard output.
    pub err: Option<Located<Output>>,
    /// Files that uWSGI opens before it becomes its user: those of certificates (`https-socket` and its kin)
    /// to read them, the others (`pidfile` and its kin) to write them.
    pub of_uwsgi: Vec<Located<PathBuf>>,
}

/// A place for output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The output of PID 1.
    Inherit,
    /// The journal.
    Journal,
    /// Nowhere.
    Null,
    /// The end of this file.
    File(PathBuf),
}

/// How it is found out whether the app is ready, and still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessPlan {
    /// What tells (`ready-check`).
    pub check: Option<Located<ReadyCheck>>,
    /// The time between two checks (`ready-check-interval`).
    pub interval: Duration,
    /// How long a check may take (`ready-check-timeout`).
    pub timeout: Duration,
    /// After how many failed checks in a row an app that was ready is given up; 0 for never
    /// (`ready-check-failures`).
    pub failures: u32,
    /// Whether the emperor decides when, as other instances may fail the same check (`replicas`).
    pub takes_turns: bool,
}

/// What tells whether an app is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadyCheck {
    /// The app says so itself.
    Notify,
    /// A command that ends with status 0.
    Exec(OsString),
    /// A connection to this address.
    Connect(Address),
}

/// Which mountpoints are checked, how often, and what follows when one is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountpointPlan {
    /// Paths that must be answering mounts for as long as the app runs (`mountpoint-check`).
    pub checks: Vec<Located<PathBuf>>,
    /// How long a checked path may take to become an answering mount before the app starts.
    pub timeout: Duration,
    /// Time between two probes of the checked paths.
    pub check_interval: Duration,
    /// How long a probe may go unanswered.
    pub check_timeout: Duration,
    /// What happens when one of them is lost while the app runs (`mountpoint-lost`).
    pub lost: MountpointLost,
}

/// How the app and what hooks left running are stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopPlan {
    /// The signal that asks the app to stop; `None` for the usual one of this kind of app
    /// ([`VassalPlan::signal_to_stop`]).
    pub signal: Option<i32>,
    /// How long the app may take to stop before SIGKILL.
    pub timeout: Duration,
    /// How long processes that hooks left running may take to write their data and exit by themselves, once
    /// the app has ended and the hooks for the exit have run (`unmount-timeout`).
    pub unmount_timeout: Duration,
}

/// The namespaces and the root of a vassal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JailPlan {
    /// `CLONE_NEW*` bits of the namespaces that `vassal-init` makes for itself (`unshare`).
    pub unshare: u64,
    /// The IDs of a user namespace among them.
    pub maps: MapsPlan,
    /// The new root directory (`chroot`), entered between `pre-jail` and `post-jail`.
    pub chroot: Option<Located<PathBuf>>,
    /// The new root and where the old one goes (`pivot_root`), at the same place in the order.
    pub pivot_root: Option<Located<PivotRoot>>,
    /// The host name in the vassal's uts namespace (`hostname`).
    pub hostname: Option<Located<OsString>>,
    /// Whether `/proc` stays mounted as it is in a vassal with its own namespaces fs and pid (`mount-proc =
    /// false`).
    pub keeps_proc: bool,
}

impl JailPlan {
    /// The new root directory, of `chroot` or `pivot_root`.
    pub fn new_root(&self) -> Option<&Path> {
        match (&self.pivot_root, &self.chroot) {
            (Some(pivot), _) => Some(&pivot.value.new_root),
            (None, Some(chroot)) => Some(&chroot.value),
            (None, None) => None,
        }
    }
}

/// What an app may do beyond the rights of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Capabilities the app keeps across the privilege drop (`cap`), by number (capabilities(7)).
    pub capabilities: Vec<Located<u32>>,
    /// Capabilities that are taken from the app, as bits (`cap-drop`).
    pub cap_drop: Option<Located<u64>>,
    /// Whether the app cannot gain privileges by executing files (off with `no-new-privs = false`).
    pub no_new_privs: bool,
    /// The filter of system calls that the app runs under (`seccomp`).
    pub seccomp: Option<Located<Seccomp>>,
    /// Whether commands of the user's hooks are confined as the app is (`confine-hooks`).
    pub confine_hooks: bool,
}

/// A filter of system calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// None.
    None,
    /// The one that is built in.
    Default,
    /// The one in this file, as the kernel takes it.
    File(PathBuf),
}

impl Privileges {
    /// The filter that the app runs under, with the key that asks for it.
    pub fn filter(&self) -> Option<&Located<Seccomp>> {
        self.seccomp.as_ref().filter(|seccomp| seccomp.value != Seccomp::None)
    }
}

/// How much of the machine a vassal and its app may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourcePlan {
    /// Cgroups that PID 1 enters before anything else (`cgroup`).
    pub cgroups: Vec<Located<PathBuf>>,
    /// The values that are written to files of these cgroups, and of the one that the emperor has made
    /// (`cgroup-opt`, `memory-max`, …).
    pub cgroup_options: Vec<Located<CgroupOption>>,
    /// Whether the vassal also starts without its cgroups and their options (`cgroup-optional`).
    pub cgroup_optional: bool,
    /// Limits of the app (`limit-*`).
    pub limits: Vec<Located<Limit>>,
    /// The app's nice value, -20 to 19 (`nice`, setpriority(2)).
    pub nice: Option<Located<i32>>,
    /// How readily the kernel kills the app when memory runs out, -1000 to 1000 (`oom-score-adj`, proc(5)).
    pub oom_score_adj: Option<Located<i32>>,
}

impl Default for VassalPlan {
    fn default() -> Self {
        Self {
            hooks: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            jail: JailPlan::default(),
            run_as: RunAs::default(),
            privileges: Privileges {
                capabilities: Vec::new(),
                cap_drop: None,
                no_new_privs: true,
                seccomp: None,
                confine_hooks: false,
            },
            clean_env: false,
            environment: Vec::new(),
            chdir: None,
            umask: None,
            app: App::Uwsgi { binary: "uwsgi".into(), ini: Vec::new() },
            app_source: Located {
                value: (),
                key: "binary-path".into(),
                at: Location { file: "".into(), line: 0, column: 0 },
            },
            mountpoints: MountpointPlan {
                checks: Vec::new(),
                timeout: Duration::from_secs(30),
                check_interval: Duration::from_secs(2),
                check_timeout: Duration::from_secs(5),
                lost: MountpointLost::Destroy,
            },
            stop: StopPlan {
                signal: None,
                timeout: Duration::from_secs(10),
                unmount_timeout: Duration::from_secs(10),
            },
            reload: ReloadPlan::default(),
            listen: Vec::new(),
            keep_sockets: true,
            resources: ResourcePlan::default(),
            replication: Replication::default(),
            readiness: ReadinessPlan {
                check: None,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(5),
                failures: 3,
                takes_turns: false,
            },
            output: OutputPlan::default(),
        }
    }
}

/// What happens when a checked mountpoint is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountpointLost {
    /// The end of the instance.
    Destroy,
    /// The commands of the phase that mounted it run again, and the app is restarted.
    Remount,
    /// This hook runs, and the app continues.
    Hook(Box<Hook>),
}

/// A resource limit of the app (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The resource.
    pub resource: Limited,
    /// The limit, in bytes or as a count.
    pub value: u64,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Address space (`limit-as`).
    AddressSpace,
    /// Open files: one more than the highest descriptor (`limit-nofile`).
    Descriptors,
    /// The user's processes (`limit-nproc`).
    Processes,
}

/// One change to the environment of hooks and app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvChange {
    /// `env = NAME=VALUE`.
    Set(OsString, OsString),
    /// `unenv = NAME`.
    Unset(OsString),
}

/// What PID 1 runs and waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum App {
    /// A program and its arguments (`command`, `*-binary-patch`).
    Program {
        /// Program and arguments; never empty.
        argv: Vec<OsString>,
        /// Whether it keeps the privileges of PID 1 (`privileged-binary-patch`).
        privileged: bool,
    },
    /// Real uWSGI, configured by an ini with the options that `vassal-init` does not read, already expanded.
    Uwsgi {
        /// The program (`binary-path`, default `uwsgi`).
        binary: OsString,
        /// The ini's bytes.
        ini: Vec<u8>,
    },
}

/// One socket that PID 1 binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: Address,
    /// How many connections may wait to be accepted.
    pub backlog: u32,
    /// The mode of a unix socket's file (`chmod-socket`).
    pub mode: Option<u32>,
    /// The owner of that file (`chown-socket`); without one, the app's user binds the socket.
    pub owner: Option<Owner>,
    /// Whether others may bind the same port (`reuse-port`).
    pub reuse_port: bool,
}

/// A user and a group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user; `None` for root.
    pub user: Option<Id>,
    /// The group; `None` for that of root.
    pub group: Option<Id>,
}

impl App {
    /// The program, for messages.
    pub fn program(&self) -> &std::ffi::OsStr {
        match self {
            Self::Program { argv, .. } => argv.first().map(OsString::as_os_str).unwrap_or_default(),
            Self::Uwsgi { binary, .. } => binary,
        }
    }
}
