//! The typed plans: what the executors run. They read no options and know no option names.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

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

/// How a vassal is to be run: everything decided, nothing done yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VassalPlan {
    /// All hooks, by phase; within a phase the families in uWSGI's order (`hook-`, then `exec-`), each in the order of
    /// the file. Run them as they come.
    pub hooks: Vec<Hook>,
    /// The user to become; `None` stays what we are.
    pub uid: Option<Located<Id>>,
    /// The group to become; `None` takes the user's primary group when `uid` is a name, else stays.
    pub gid: Option<Located<Id>>,
    /// Further supplementary groups (`add-gid`).
    pub add_gids: Vec<Located<Id>>,
    /// Whether the user's groups from the group database are taken on (not `no-initgroups`).
    pub initgroups: bool,
    /// Changes to the environment, in order.
    pub environment: Vec<EnvChange>,
    /// The app's working directory.
    pub chdir: Option<Located<PathBuf>>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// What to run.
    pub app: App,
    /// Paths that must be answering mounts for as long as the app runs (`mountpoint-check`).
    pub checks: Vec<Located<PathBuf>>,
    /// How long a checked path may take to become an answering mount before the app starts.
    pub mountpoint_timeout: Duration,
    /// Time between two probes of the checked paths.
    pub mountpoint_check_interval: Duration,
    /// How long a probe may go unanswered.
    pub mountpoint_check_timeout: Duration,
    /// What asks the app to stop.
    pub stop_signal: i32,
    /// How long the app may take to stop before SIGKILL.
    pub stop_timeout: Duration,
    /// `CLONE_NEW*` bits of the namespaces that `vassal-init` makes for itself (`unshare`).
    pub unshare: u64,
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
    /// After the app ended, as its user.
    AsUserAtexit,
}

/// One action in one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub phase: Phase,
    /// What it does.
    pub action: Action,
    /// Its key and place, for errors.
    pub source: Located<String>,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs `/bin/sh -c COMMAND` and waits; a status other than 0 fails the phase.
    Exec(OsString),
    /// Changes the working directory of everything that comes later.
    Chdir(PathBuf),
    /// Writes a line to the log.
    Print(String),
}

/// How an emperor is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmperorPlan {
    /// The directories that are watched for vassal files.
    pub directories: Vec<Located<PathBuf>>,
    /// `CLONE_NEW*` bits of the namespaces each vassal gets (`emperor-use-clone`).
    pub namespaces: u64,
    /// Time between two scans of the directories when no event asks for one (`emperor-freq`).
    pub scan_interval: Duration,
    /// First backoff after a vassal that failed early; doubles with every failure (`emperor-throttle`).
    pub throttle: Duration,
    /// Longest backoff (`emperor-max-throttle`).
    pub max_throttle: Duration,
    /// What runs as PID 1 of a vassal (`vassal-init`); `None` for the one beside the emperor's own file.
    pub vassal_init: Option<Located<PathBuf>>,
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
            Self::Asap => "asap",
            Self::PreJail => "pre-jail",
            Self::PostJail => "post-jail",
            Self::InJail => "in-jail",
            Self::AsRoot => "as-root",
            Self::AsUser => "as-user",
            Self::PreApp => "pre-app",
            Self::PostApp => "post-app",
            Self::AsUserAtexit => "as-user-atexit",
        })
    }
}
