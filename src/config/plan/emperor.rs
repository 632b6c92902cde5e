//! The plan of an emperor, and its parts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::common::{Address, CgroupOption, Id, Located, MapsPlan, RunAs};

/// How an emperor is to be run. The default of this struct holds where the file says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmperorPlan {
    /// Where vassals are looked for, and when.
    pub discovery: DiscoveryPlan,
    /// The settings that all vassals are started with.
    pub vassals: VassalsPlan,
    /// The cgroups of the vassals.
    pub cgroups: CgroupsPlan,
    /// The user and groups that it changes to, once it has opened what only root can open.
    pub run_as: RunAs,
    /// The capabilities that it keeps then (`cap`, bits as in capabilities(7)); `None` without the key.
    pub capabilities: Option<u64>,
    /// Whether vassals run as the owners of their files (`emperor-tyrant`), and how.
    pub tyrant: Option<Tyrant>,
    /// The first backoff after a vassal that failed early, doubled with each failure (`emperor-throttle`).
    pub throttle: Duration,
    /// How many vassals are set up at a time (`emperor-max-starts`); `None` for two per processor.
    pub max_starts: Option<u32>,
    /// How many vassals replace their instances at a time (`emperor-max-reloads`); `None` for two per
    /// processor.
    pub max_reloads: Option<u32>,
    /// Longest backoff (`emperor-max-throttle`).
    pub max_throttle: Duration,
    /// Commands the emperor runs when a vassal was started (`hook-as-emperor = exec:...`, `exec-as-emperor`).
    pub as_emperor: Vec<Located<OsString>>,
    /// The socket for commands (`control`); `None` for the default path, if it is free.
    pub control: Option<Located<PathBuf>>,
    /// The address of the stats in the format of uWSGI's emperor (`emperor-stats`).
    pub stats: Option<Located<Address>>,
    /// The address of the metrics (`metrics`).
    pub metrics: Option<Located<Address>>,
    /// The file for all output of the emperor and the vassals (`logto`); `None` to leave it as it is.
    pub log: Option<Located<PathBuf>>,
    /// Whether the lines of the emperor and of `vassal-init` are JSON (`log-format`).
    pub json_log: bool,
    /// The file for the emperor's pid (`emperor-pidfile`).
    pub pid_file: Option<Located<PathBuf>>,
}

/// Where an emperor looks for vassals, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryPlan {
    /// Where the vassals' files are (`emperor`).
    pub sources: Vec<Located<Source>>,
    /// Suffixes of vassal files besides `.ini` (`emperor-extra-extension`).
    pub extra_suffixes: Vec<OsString>,
    /// Whether the time of a symbolic link itself counts, not that of the file it leads to
    /// (`emperor-nofollow`).
    pub nofollow: bool,
    /// Time between two scans of the directories when no event asks for one (`emperor-freq`).
    pub scan_interval: Duration,
}

/// The settings that all vassals of an emperor are started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VassalsPlan {
    /// The program that runs as PID 1 of a vassal (`vassal-init`); `None` for the one beside the emperor's
    /// own file.
    pub program: Option<Located<PathBuf>>,
    /// `CLONE_NEW*` bits of the namespaces each vassal gets (`emperor-use-clone`).
    pub namespaces: u64,
    /// The IDs of a user namespace among them.
    pub maps: MapsPlan,
    /// Directories whose files belong to the IDs of a vassal's user namespace in it (`map-tree`).
    pub map_trees: Vec<Located<PathBuf>>,
    /// `hook-as-vassal` and its kin, as text (`KEY`, `VALUE`): handed to each vassal's PID 1, which runs them
    /// first.
    pub as_vassal: Vec<(String, OsString)>,
    /// The directory of the files that vassals write to (`log-dir`), unless their own files say otherwise.
    pub log_dir: Option<PathBuf>,
    /// Options for every vassal, read before its own file, as text (`KEY`, `VALUE`), in order.
    pub before: Vec<(String, OsString)>,
    /// Options for every vassal, read after its own file.
    pub behind: Vec<(String, OsString)>,
    /// Which vassals are started by the first connection, and to which address (`emperor-on-demand-*`).
    pub on_demand: Option<Located<OnDemand>>,
    /// Whether a vassal file that is executable is run and its output is the configuration.
    pub magic_exec: bool,
    /// How long an app that has sent a heartbeat may go without the next one (`emperor-required-heartbeat`);
    /// `None` without the key.
    pub heartbeat: Option<Duration>,
    /// The longest time that a vassal gets for its stop (`emperor-stop-timeout`); `None` without the key.
    pub stop_timeout: Option<Duration>,
}

/// The cgroups of an emperor's vassals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupsPlan {
    /// The directory that each vassal gets a cgroup in (`emperor-cgroup`).
    pub directory: Option<Located<PathBuf>>,
    /// The values that are written to files of each of these cgroups (`cgroup-opt`, `memory-max`, …).
    pub options: Vec<Located<CgroupOption>>,
    /// Whether a vassal also starts if its cgroup cannot be made (`cgroup-optional`).
    pub is_optional: bool,
}

/// The capabilities that an emperor needs to run vassals as the owners of their files and to end them: kill,
/// setgid, setuid (bits of capabilities(7)).
const OF_TYRANTS: u64 = 1 << 5 | 1 << 6 | 1 << 7;
/// The capability that an emperor needs to make namespaces other than those of users: sys_admin.
const OF_JAILERS: u64 = 1 << 21;

impl VassalsPlan {
    /// Whether each vassal gets a namespace of this kind (`CLONE_NEW*`).
    pub fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind as u64 != 0
    }
}

impl EmperorPlan {
    /// The key for which the emperor needs capabilities that are not in `kept` (bits), and the names of
    /// these: without them no vassal could be started.
    pub fn lacks(&self, kept: u64) -> Option<(&'static str, &'static str)> {
        if self.tyrant.is_some() && OF_TYRANTS & !kept != 0 {
            Some(("emperor-tyrant", "kill,setgid,setuid"))
        } else if !self.vassals.has_namespace(libc::CLONE_NEWUSER)
            && self.vassals.namespaces != 0
            && OF_JAILERS & !kept != 0
        {
            Some(("emperor-use-clone", "sys_admin"))
        } else {
            None
        }
    }

    /// The capabilities that the configuration leaves to the emperor, as bits; `None` if it keeps those that
    /// it was started with.
    pub fn kept_capabilities(&self) -> Option<u64> {
        let is_root = |uid: &Located<Id>| match &uid.value {
            Id::Number(number) => *number == 0,
            Id::Name(name) => name == "root",
        };
        let is_other = self.run_as.uid.as_ref().is_some_and(|uid| !is_root(uid));
        self.capabilities.or_else(|| is_other.then_some(0))
    }
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
            max_starts: None,
            max_reloads: None,
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

/// The variants of tyrant mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tyrant {
    /// Whether the owner of a symbolic link itself counts, not that of the file it leads to
    /// (`emperor-tyrant-nofollow`).
    pub nofollow: bool,
    /// Whether the owner's groups from the group database are taken on (`emperor-tyrant-initgroups`).
    pub initgroups: bool,
    /// How many vassals an owner may have (`emperor-tyrant-max`).
    pub max: Option<u32>,
}

/// How the address of a vassal on demand is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnDemand {
    /// The file that has the vassal's name and this suffix contains the address, if there is such a file
    /// (`emperor-on-demand-extension`).
    Extension(OsString),
    /// The address is `NAME.socket` in this directory (`emperor-on-demand-directory`).
    Directory(PathBuf),
    /// This shell command, called with the vassal's file, prints the address (`emperor-on-demand-exec`).
    Command(OsString),
}

/// A place of vassal files.
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
