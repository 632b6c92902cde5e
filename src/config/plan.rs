//! The typed plans: what the executors run. They read no options and know no option names.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::mount::request::{Mount, PivotRoot, Umount};
use crate::place::Place;

/// Where in a configuration something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named, or what stands for one, such as `command line`.
    pub file: Rc<str>,
    /// Line, from 1; 0 where the source has no lines.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A value with the place it came from and the key it was given under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its key, as written.
    pub key: Rc<str>,
    /// Where it was written.
    pub at: Location,
}

/// A user and groups to become, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunAs {
    /// The user; `None` stays what we are.
    pub uid: Option<Located<Id>>,
    /// The group; `None` is the user's primary group.
    pub gid: Option<Located<Id>>,
    /// Further supplementary groups (`add-gid`).
    pub add_gids: Vec<Located<Id>>,
    /// Whether the groups that the group database gives the user are left out.
    pub no_initgroups: bool,
}

/// How a vassal is to be run: everything decided, nothing done yet. Its default is what holds where the file says
/// nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VassalPlan {
    /// All hooks, by phase; within a phase the families in uWSGI's order (`hook-`, then `exec-`), each in the order of
    /// the file. Run them as they come.
    pub hooks: Vec<Hook>,
    /// How long a command of a hook may take before it is killed with its process group (`hook-timeout`).
    pub hook_timeout: Duration,
    /// The namespaces and the root that the vassal gets.
    pub jail: JailPlan,
    /// The user and groups to become.
    pub run_as: RunAs,
    /// What the app may do beyond what its user may.
    pub privileges: Privileges,
    /// Changes to the environment, in order.
    pub environment: Vec<EnvChange>,
    /// The app's working directory.
    pub chdir: Option<Located<PathBuf>>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// What to run.
    pub app: App,
    /// Where it says so, and under which key: `command`, a `*-binary-patch*`, or `binary-path` for uWSGI; the file as a
    /// whole (line 0) where no line does.
    pub app_source: Located<()>,
    /// The mountpoints that are checked.
    pub mountpoints: MountpointPlan,
    /// How the app and what hooks left running are stopped.
    pub stop: StopPlan,
    /// The signal that makes the app read its own configuration again.
    pub reload_signal: Option<i32>,
    /// The sockets that PID 1 binds for the app.
    pub listen: Vec<Located<Listen>>,
    /// Whether they outlive the instance, in the emperor's keeping (not `keep-sockets = false`).
    pub keep_sockets: bool,
    /// How much it may use.
    pub resources: ResourcePlan,
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
    /// What asks the app to stop; `None` leaves it to the app's kind ([`VassalPlan::signal_to_stop`]).
    pub signal: Option<i32>,
    /// How long the app may take to stop before SIGKILL.
    pub timeout: Duration,
    /// How long what hooks left running may take to flush and exit by itself once the app is gone and the hooks for the
    /// exit have run (`unmount-timeout`).
    pub unmount_timeout: Duration,
}

/// The namespaces and the root of a vassal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JailPlan {
    /// `CLONE_NEW*` bits of the namespaces that `vassal-init` makes for itself (`unshare`).
    pub unshare: u64,
    /// The new root directory (`chroot`), entered between `pre-jail` and `post-jail`.
    pub chroot: Option<Located<PathBuf>>,
    /// The new root and where the old one goes (`pivot_root`), at the same place in the order.
    pub pivot_root: Option<Located<PivotRoot>>,
    /// The host name in the vassal's uts namespace (`hostname`).
    pub hostname: Option<Located<OsString>>,
}

/// What an app may do beyond what its user may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Capabilities the app keeps across the privilege drop (`cap`), by number (capabilities(7)).
    pub capabilities: Vec<Located<u32>>,
    /// Capabilities that are taken from the app, as bits (`cap-drop`).
    pub cap_drop: Option<Located<u64>>,
    /// Whether the app is barred from gaining privileges by executing files (not `no-new-privs = false`).
    pub no_new_privs: bool,
}

/// How much of the machine a vassal and its app may use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourcePlan {
    /// Cgroups that PID 1 enters before anything else (`cgroup`).
    pub cgroups: Vec<Located<PathBuf>>,
    /// What is written to these cgroups, and to the one that the emperor has made (`cgroup-opt`, `memory-max`, …).
    pub cgroup_options: Vec<Located<CgroupOption>>,
    /// Whether the vassal also starts without its cgroups and their options (`cgroup-optional`).
    pub cgroup_optional: bool,
    /// Limits of the app (`limit-*`).
    pub limits: Vec<Located<Limit>>,
    /// The app's nice value, -20 to 19 (`nice`, setpriority(2)).
    pub nice: Option<Located<i32>>,
    /// How soon the kernel ends it when memory runs out, -1000 to 1000 (`oom-score-adj`, proc(5)).
    pub oom_score_adj: Option<Located<i32>>,
}

impl Default for VassalPlan {
    fn default() -> Self {
        Self {
            hooks: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            jail: JailPlan::default(),
            run_as: RunAs::default(),
            privileges: Privileges { capabilities: Vec::new(), cap_drop: None, no_new_privs: true },
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
            reload_signal: None,
            listen: Vec::new(),
            keep_sockets: true,
            resources: ResourcePlan::default(),
        }
    }
}

/// What follows the loss of a checked mountpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountpointLost {
    /// The end of the instance.
    Destroy,
    /// The commands of the phase that mounted it run again, and the app is restarted.
    Remount,
    /// This runs, and the app goes on.
    Hook(Box<Hook>),
}

/// What is to be written to a file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupOption {
    /// The file's name.
    pub file: String,
    /// What.
    pub value: Vec<u8>,
}

/// A limit of the app's (setrlimit(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub resource: Limited,
    /// How much, in bytes or pieces.
    pub value: u64,
}

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// Address space (`limit-as`).
    AddressSpace,
    /// The highest descriptor, and one (`limit-nofile`).
    Descriptors,
    /// The user's processes (`limit-nproc`).
    Processes,
}

/// A user or group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// A number.
    Number(u32),
    /// A name, resolved when the vassal runs.
    Name(String),
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
        /// Whether it keeps our privileges (`privileged-binary-patch`).
        privileged: bool,
    },
    /// Real uWSGI, configured by an ini that holds the options we do not consume, already expanded.
    Uwsgi {
        /// The program (`binary-path`, default `uwsgi`).
        binary: OsString,
        /// The ini's bytes.
        ini: Vec<u8>,
    },
}

/// A phase of a vassal's life, in the order they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// In the new process before anything else; configured in the emperor.
    AsVassal,
    /// As soon as the configuration is read.
    Asap,
    /// Before the root changes, all privileges.
    PreJail,
    /// After the root changed.
    PostJail,
    /// Inside the jail.
    InJail,
    /// Last chance with root's privileges.
    AsRoot,
    /// After the privilege drop.
    AsUser,
    /// Right before the app starts.
    PreApp,
    /// When the app was started.
    PostApp,
    /// When the app says that it accepts requests.
    Accepting,
    /// After the app ended, as its user.
    AsUserAtexit,
    /// When a checked mountpoint was lost, as the user; has no keys but `mountpoint-lost`.
    MountpointLost,
}

/// One action in one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub phase: Phase,
    /// What it does.
    pub action: Action,
    /// Whether its failure is logged and forgotten (`safeexec`, `call`).
    pub tolerant: bool,
    /// Whether its text is kept out of the log (`!exec:...`).
    pub private: bool,
    /// Its text, key and place, for errors.
    pub source: Located<String>,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs `/bin/sh -c COMMAND` and waits; a status other than 0 is a failure.
    Exec(OsString),
    /// Changes the working directory of everything that comes later.
    Chdir(PathBuf),
    /// Writes a line to the log (`print`, `log`, `alarm`).
    Print(String),
    /// Mounts a filesystem.
    Mount(Mount),
    /// Unmounts one, or all below it.
    Umount(Umount),
    /// Creates a directory; one that is there is no failure.
    Mkdir(PathBuf),
    /// Removes an empty directory.
    Rmdir(PathBuf),
    /// Removes a file.
    Unlink(PathBuf),
    /// Creates an empty file, or empties one.
    Create(PathBuf),
    /// Writes to a file.
    Write {
        /// Which.
        path: PathBuf,
        /// All of it, a line break included where the action adds one.
        text: OsString,
        /// Whether it is added at the end; else it replaces what was there.
        append: bool,
    },
    /// Writes to a named pipe that somebody reads.
    WriteFifo {
        /// Which.
        path: PathBuf,
        /// What.
        text: OsString,
        /// Whether to wait for a pipe or a reader that is not there yet (`spinningfifo`).
        wait: bool,
    },
    /// Changes a file's mode.
    Chmod {
        /// Which.
        path: PathBuf,
        /// The mode bits.
        mode: u32,
    },
    /// Changes a file's owner.
    Chown {
        /// Which.
        path: PathBuf,
        /// The new owner.
        user: Id,
        /// The new group; `None` leaves it.
        group: Option<Id>,
    },
    /// Sets the sticky bit.
    Sticky(PathBuf),
    /// Sets an environment variable for everything that comes later.
    Putenv(OsString, OsString),
    /// Sets the host name.
    Hostname(OsString),
    /// Changes the root directory of everything that comes later.
    Chroot(PathBuf),
    /// Sets the file mode creation mask of everything that comes later.
    Umask(u32),
    /// Waits until something is there.
    WaitFor {
        /// What.
        kind: WaitKind,
        /// Where.
        path: PathBuf,
    },
    /// Ends the vassal with this status.
    Exit(i32),
}

/// What an action touches, as far as a symbolic link of a tenant could lead root to something else; with the operation,
/// for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched<'a> {
    /// Nothing that it changes or enters by a path.
    Nothing,
    /// A file or directory: the path must not be a link, nor lead through one.
    File(&'static str, &'a Path),
    /// The entry of a directory: it may be a link, but its path must not lead through one.
    Entry(&'static str, &'a Path),
    /// A directory that PID 1 itself enters: the path must not be a link, nor lead through one.
    Directory(&'static str, &'a Path),
    /// A mountpoint: [`mount::ops`](crate::mount::ops) has rules of its own for the way to it.
    Mountpoint,
}

impl Action {
    /// What it touches. There is no arm for the rest: a new action does not compile before it is decided here.
    pub fn touched(&self) -> Touched<'_> {
        use Touched::{Directory, Entry, File, Mountpoint, Nothing};
        match self {
            Self::Mkdir(path) => File("mkdir", path),
            Self::Rmdir(path) => File("rmdir", path),
            Self::Create(path) => File("create", path),
            Self::Write { path, .. } => File("write", path),
            Self::WriteFifo { path, .. } => File("writefifo", path),
            Self::Chmod { path, .. } => File("chmod", path),
            Self::Chown { path, .. } => File("chown", path),
            Self::Sticky(path) => File("sticky", path),
            Self::Unlink(path) => Entry("unlink", path),
            Self::Chdir(path) => Directory("chdir", path),
            Self::Chroot(path) => Directory("chroot", path),
            Self::Mount(_) | Self::Umount(_) => Mountpoint,
            Self::Print(_) | Self::Putenv(..) | Self::Hostname(_) | Self::Umask(_) | Self::Exit(_) => Nothing,
            // A command goes where it likes.
            Self::Exec(_) => Nothing,
            // Only looked at.
            Self::WaitFor { .. } => Nothing,
        }
    }
}

/// What [`Action::WaitFor`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// Anything.
    Any,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
}

/// How an emperor is to be run. Its default is what holds where the file says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmperorPlan {
    /// Where vassals are looked for, and when.
    pub discovery: DiscoveryPlan,
    /// What all vassals are started with.
    pub vassals: VassalsPlan,
    /// The cgroups of the vassals.
    pub cgroups: CgroupsPlan,
    /// Whom it becomes once it has what only its starter could open.
    pub run_as: RunAs,
    /// The capabilities that it keeps then (`cap`, bits as in capabilities(7)); `None` if that is not said.
    pub capabilities: Option<u64>,
    /// Whether vassals run as the owners of their files (`emperor-tyrant`), and how.
    pub tyrant: Option<Tyrant>,
    /// First backoff after a vassal that failed early; doubles with every failure (`emperor-throttle`).
    pub throttle: Duration,
    /// Longest backoff (`emperor-max-throttle`).
    pub max_throttle: Duration,
    /// Commands the emperor runs when a vassal was started (`hook-as-emperor = exec:...`, `exec-as-emperor`).
    pub as_emperor: Vec<Located<OsString>>,
    /// Where commands for it are taken (`control`); `None` for the usual place, if that is free.
    pub control: Option<Located<PathBuf>>,
    /// Where its state is told as uWSGI's emperor tells it (`emperor-stats`).
    pub stats: Option<Located<Address>>,
    /// Where its metrics are (`metrics`).
    pub metrics: Option<Located<Address>>,
    /// Where what the emperor and the vassals write goes (`logto`); `None` for where it goes anyway.
    pub log: Option<Located<PathBuf>>,
    /// Whether the lines of the emperor and of `vassal-init` are JSON (`log-format`).
    pub json_log: bool,
    /// Where the emperor's pid is written (`emperor-pidfile`).
    pub pid_file: Option<Located<PathBuf>>,
}

/// Where an emperor looks for vassals, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryPlan {
    /// Where the vassals' files are (`emperor`).
    pub sources: Vec<Located<Source>>,
    /// Ends of names that make a file a vassal's, besides `.ini` (`emperor-extra-extension`).
    pub extra_suffixes: Vec<OsString>,
    /// Whether a symbolic link's own time counts, and not that of the file it leads to (`emperor-nofollow`).
    pub nofollow: bool,
    /// Time between two scans of the directories when no event asks for one (`emperor-freq`).
    pub scan_interval: Duration,
}

/// What all vassals of an emperor are started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VassalsPlan {
    /// What runs as PID 1 of a vassal (`vassal-init`); `None` for the one beside the emperor's own file.
    pub program: Option<Located<PathBuf>>,
    /// `CLONE_NEW*` bits of the namespaces each vassal gets (`emperor-use-clone`).
    pub namespaces: u64,
    /// `hook-as-vassal` and its kin, as text (`KEY`, `VALUE`): handed to each vassal's PID 1, which runs them first.
    pub as_vassal: Vec<(String, OsString)>,
    /// What every vassal is told before its own file is read: options as text (`KEY`, `VALUE`), in order.
    pub before: Vec<(String, OsString)>,
    /// The same behind its file.
    pub behind: Vec<(String, OsString)>,
    /// Which vassals are only started when somebody connects, and to which address (`emperor-on-demand-*`).
    pub on_demand: Option<Located<OnDemand>>,
    /// Whether a vassal's file that is executable is run, and what it prints is the configuration.
    pub magic_exec: bool,
    /// How long an app that has given a heartbeat may go without one (`emperor-required-heartbeat`), if that was said.
    pub heartbeat: Option<Duration>,
}

/// The cgroups of an emperor's vassals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupsPlan {
    /// The directory that each vassal gets a cgroup in (`emperor-cgroup`).
    pub directory: Option<Located<PathBuf>>,
    /// What is written to each of them (`cgroup-opt`, `memory-max`, …).
    pub options: Vec<Located<CgroupOption>>,
    /// Whether vassals also start without (`cgroup-optional`).
    pub is_optional: bool,
}

impl Default for EmperorPlan {
    fn default() -> Self {
        Self {
            discovery: DiscoveryPlan::default(),
            vassals: VassalsPlan::default(),
            cgroups: CgroupsPlan::default(),
            run_as: RunAs::default(),
            capabilities: None,
            tyrant: None,
            throttle: Duration::from_millis(1000),
            max_throttle: Duration::from_millis(180_000),
            as_emperor: Vec::new(),
            control: None,
            stats: None,
            metrics: None,
            log: None,
            json_log: false,
            pid_file: None,
        }
    }
}

impl Default for DiscoveryPlan {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            extra_suffixes: Vec::new(),
            nofollow: false,
            scan_interval: Duration::from_secs(3),
        }
    }
}

/// One socket that PID 1 binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub address: Address,
    /// How many connections may wait to be accepted.
    pub backlog: u32,
    /// The mode of a unix socket's file (`chmod-socket`).
    pub mode: Option<u32>,
    /// Whose that file is (`chown-socket`); the app's user binds it otherwise.
    pub owner: Option<Owner>,
    /// Whether others may bind the same port (`reuse-port`).
    pub reuse_port: bool,
}

/// A user and a group as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user, if it is to be another one than root.
    pub user: Option<Id>,
    /// The group, if it is to be another one.
    pub group: Option<Id>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As it was written.
    pub name: String,
    /// What that means.
    pub place: Place,
}

impl Address {
    /// A unix socket in the file system.
    pub fn file(path: PathBuf) -> Self {
        Self { name: path.to_string_lossy().into_owned(), place: Place::File(path) }
    }
}

impl VassalPlan {
    /// Whether hooks run commands, which may leave daemons behind that filesystems depend on.
    pub fn starts_daemons(&self) -> bool {
        self.hooks.iter().any(|hook| matches!(hook.action, Action::Exec(_)))
    }
}

/// What is particular about tyrant mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tyrant {
    /// Whether a symbolic link's own owner counts, and not that of the file it leads to (`emperor-tyrant-nofollow`).
    pub nofollow: bool,
    /// Whether the owner's groups from the group database are taken on (`emperor-tyrant-initgroups`).
    pub initgroups: bool,
}

/// How the address of a vassal on demand is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDemand {
    /// It is in the file beside the vassal's whose name is longer by this, if there is one
    /// (`emperor-on-demand-extension`).
    Extension(OsString),
    /// It is `NAME.socket` in this directory (`emperor-on-demand-directory`).
    Directory(PathBuf),
    /// This shell command prints it when it gets the vassal's file as an argument (`emperor-on-demand-exec`).
    Command(OsString),
}

/// Where vassals' files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// All vassal files of this directory.
    Directory(PathBuf),
    /// The vassal files that match this pattern (glob(7)).
    Pattern(PathBuf),
}

impl Source {
    /// The directory or the pattern.
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Pattern(path) => path,
        }
    }
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

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsVassal => "as-vassal",
            Self::Asap => "asap",
            Self::PreJail => "pre-jail",
            Self::PostJail => "post-jail",
            Self::InJail => "in-jail",
            Self::AsRoot => "as-root",
            Self::AsUser => "as-user",
            Self::PreApp => "pre-app",
            Self::PostApp => "post-app",
            Self::Accepting => "accepting",
            Self::AsUserAtexit => "as-user-atexit",
            Self::MountpointLost => "mountpoint-lost",
        })
    }
}
