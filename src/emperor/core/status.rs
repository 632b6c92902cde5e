//! The status of vassals, for logs, commands, stats and metrics.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::history::History;
use super::mountpoints::Mountpoints;
use super::owner::Owner;
use super::text::Count;
use super::vassal_file::VassalFile;
use crate::log::Elapsed;

/// The text about a vassal that waits until others have set up.
pub const AWAITS_TURN: &str = "waits for its turn (emperor-max-starts)";

/// The problem of an app that is to say that it is ready, or to show it, and does not.
pub const NOT_READY: &str = "not ready";

/// The problem of an instance that has failed, and waits or tries again.
pub const NOT_UP: &str = "not up";

/// The problem of an instance that ends by itself again and again.
pub const FLAPPING: &str = "flapping";

/// The problem of an app whose log cannot be opened, so that it writes where the emperor does.
pub const NO_LOG: &str = "no log";

/// The words for the states of an instance.
pub const STATES: [&str; 12] = [
    "idle",
    "starting",
    "running",
    "reloading",
    "killed",
    "restarting",
    "stopping",
    "backoff",
    "invalid",
    "stopped",
    "waiting",
    IGNORED,
];

/// The state of a file that cannot be a vassal.
pub const IGNORED: &str = "ignored";

/// What takes longer than this takes long.
pub const LONG: Duration = Duration::from_secs(5);

/// The status of one instance of a vassal.
#[derive(Clone)]
pub struct Status<'a> {
    /// The name of the vassal, with the number of the instance if there may be several.
    pub name: Cow<'a, str>,
    /// Its file.
    pub path: &'a VassalFile,
    /// The number of the instance.
    pub replica: u16,
    /// Its state, in one word.
    pub state: &'static str,
    /// Whether it waits until others have set up.
    pub awaits_turn: bool,
    /// Since when its instance is ending.
    pub stopping: Option<Instant>,
    /// Its PID 1.
    pub pid: Option<i32>,
    /// How long its app has been running.
    pub uptime: Option<Duration>,
    /// How long until the next start.
    pub next_try: Option<Duration>,
    /// Its history.
    pub history: &'a History,
    /// Why the vassal's file was refused, so that the instance goes on with an older version of it; or why
    /// the one that was to replace it by command has failed.
    pub refused: Option<Refused<'a>>,
    /// Which versions of its file count.
    pub version: Versions,
    /// Its checked mountpoints.
    pub mountpoints: &'a Mountpoints,
    /// When its app began to run.
    pub since: Option<Instant>,
    /// What is known of its app.
    pub app: App<'a>,
    /// How long its state has lasted, if that is known.
    pub in_state: Option<Duration>,
    /// How many restarts there were in the last hour.
    pub recent: u64,
    /// What is wrong with it, if anything is.
    pub problem: Option<&'static str>,
    /// When the instance was created.
    pub born: Option<Instant>,
    /// The owner of the instance's file.
    pub owner: Option<Owner>,
    /// The address at which the emperor listens for it.
    pub on_demand: Option<&'a str>,
}

/// Which versions of its file count for an instance.
#[derive(Clone, Copy, Default)]
pub struct Versions {
    /// When its file was modified, in seconds since 1970; 0 if it could not be looked at.
    pub modified: u64,
    /// When the file was that its configuration was made of, if that is known.
    pub used: Option<u64>,
    /// Whether its next start is with the file of before.
    pub goes_back: bool,
}

/// What is known of an app that runs: mostly what it has said of itself.
#[derive(Clone, Copy, Default)]
pub struct App<'a> {
    /// Its pid in the vassal.
    pub pid: Option<i32>,
    /// Since when it is ready to accept requests.
    pub ready: Option<Instant>,
    /// Whether it is to say so: an app of the vassal ever did, or its file has it do so.
    pub announces: bool,
    /// Since when it is loyal.
    pub loyal: Option<Instant>,
    /// When it last said that it is alive.
    pub heartbeat: Option<Instant>,
    /// Its present activity, in its own words.
    pub status: Option<&'a str>,
}

impl Status<'_> {
    /// Whether its vassal may have several instances.
    pub fn is_one_of_several(&self) -> bool {
        self.name != self.path.shown()
    }

    /// With which file the next start is, if its app runs and the present version of its file was refused, or
    /// if that of before counts.
    pub fn next_start(&self) -> Option<&'static str> {
        if self.version.goes_back {
            return Some("with the file of before");
        }
        self.refused.filter(|_| self.uptime.is_some()).map(|refused| match refused.is_roll {
            true => "with the new vassal-init, and its file as it is now",
            false => "with that file",
        })
    }

    /// When the file was modified that it runs with, in seconds since 1970, if the present one was refused.
    pub fn runs_with(&self) -> Option<u64> {
        self.version.used.filter(|_| self.refused.is_some_and(|refused| !refused.is_roll))
    }

    /// The whole status as one line, for the log.
    pub fn line(&self) -> String {
        let mut line = self.state.to_owned();
        if self.awaits_turn {
            let _ = write!(line, ", {AWAITS_TURN}");
        }
        if let Some(uptime) = self.uptime {
            let _ = write!(line, ", up {}", Elapsed(uptime));
        }
        if let Some(wait) = self.next_try {
            let _ = write!(line, ", next try in {}", Elapsed(wait));
        }
        if let Some(pid) = self.pid {
            let _ = write!(line, ", pid {pid}");
        }
        let _ = write!(line, ", {}", Count(self.history.restarts(), "restart"));
        let losses = self.mountpoints.losses();
        let losses = Some(losses.as_str()).filter(|losses| !losses.is_empty());
        for (what, why) in [
            (", says: ", self.app.status),
            (", last: ", self.history.past.last_end.as_deref()),
            (", ", self.refused.map(|refused| refused.what())),
            (": ", self.refused.map(|refused| refused.why)),
            (", mountpoint ", losses),
        ] {
            if let Some(why) = why {
                line.push_str(what);
                line.push_str(why);
            }
        }
        line
    }
}

/// Why the instances of a vassal were not reloaded, or replaced by command.
#[derive(Clone, Copy)]
pub struct Refused<'a> {
    /// Why.
    pub why: &'a str,
    /// Whether they were to be replaced by command.
    pub is_roll: bool,
}

impl Refused<'_> {
    /// What was refused, in two words.
    pub fn what(&self) -> &'static str {
        if self.is_roll { "roll refused" } else { "reload refused" }
    }
}

impl<'a> Status<'a> {
    /// The status of a vassal without a process.
    pub fn down(
        path: &'a VassalFile,
        state: &'static str,
        history: &'a History,
        mountpoints: &'a Mountpoints,
    ) -> Self {
        Self {
            name: path.shown(),
            path,
            replica: 1,
            state,
            awaits_turn: false,
            stopping: None,
            pid: None,
            uptime: None,
            next_try: None,
            history,
            refused: None,
            version: Versions::default(),
            mountpoints,
            since: None,
            app: App::default(),
            in_state: None,
            recent: 0,
            problem: None,
            born: None,
            owner: None,
            on_demand: None,
        }
    }
}
