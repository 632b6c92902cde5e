//! The state that this program was started with, and that the programs it starts get back.

use std::ffi::OsString;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::emperor::core::saved::SavedOrigin;
use crate::error::{Context, Result};
use crate::log;
use crate::protocol::LINK_VARIABLE;
use crate::sys::environment;
use crate::sys::signal::{self, Inherited};

/// The variable by which the new program of an upgrade finds the memory file with the state.
pub const STATE_VARIABLE: &str = "EMPEROR_STATE";
/// The same variable for a trial.
pub const TRIAL_VARIABLE: &str = "EMPEROR_TRIAL";

/// The state that this program was started with, and that the programs it starts get back.
pub struct Origin {
    /// The environment, without the variables that are meant for this program itself.
    pub environment: Vec<(OsString, OsString)>,
    inherited: Inherited,
    nofile: Rlimit,
}

impl Origin {
    /// Raises this process's soft limit of descriptors to the hard limit, since each vassal takes two
    /// descriptors. Programs that it starts get the original limit, which after an upgrade comes from
    /// `saved`.
    ///
    /// # Errors
    /// setrlimit(2). No error if vassals were taken over: they may fit in without it.
    pub fn new(inherited: Inherited, saved: Option<&SavedOrigin>) -> Result<Self> {
        let ours = [LINK_VARIABLE, STATE_VARIABLE, TRIAL_VARIABLE];
        let mut environment = environment::variables();
        environment.retain(|(name, _)| !ours.iter().any(|our| name == our));
        let nofile = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: nofile.maximum, maximum: nofile.maximum };
        match setrlimit(Resource::Nofile, raised).context("raise", "the limit of open files") {
            Err(error) if saved.is_some() => log!("{error}: going on without"),
            result => result?,
        }
        Ok(match saved {
            None => Self { environment, inherited, nofile },
            Some(saved) => {
                let nofile = Rlimit { current: saved.nofile_soft, maximum: saved.nofile_hard };
                Self { environment, inherited: inherited.with_mask(saved.signal_mask), nofile }
            }
        })
    }

    /// The state in the form for the next program.
    pub fn save(&self) -> SavedOrigin {
        SavedOrigin {
            signal_mask: self.inherited.mask(),
            nofile_soft: self.nofile.current,
            nofile_hard: self.nofile.maximum,
        }
    }

    /// Undoes this program's changes of signal dispositions. All signals stay blocked.
    pub fn restore_dispositions(&self) {
        self.inherited.restore_dispositions();
    }

    /// In a child before its exec; allocates nothing. The child leads a session of its own, so that the
    /// Ctrl-C that stops an emperor on a terminal does not reach the child directly.
    pub fn restore(&self) {
        // setsid(2) fails only in a process group leader, which a new process is not.
        let _ = rustix::process::setsid();
        let _ = setrlimit(Resource::Nofile, self.nofile);
        self.inherited.restore();
    }

    /// As [`Origin::restore`], for a vassal or a command, with all dispositions set to the default: signals
    /// that the emperor's starter ignored (nohup(1), a script's background) were ignored for the emperor
    /// only.
    pub fn begin_anew(&self) {
        self.restore();
        signal::set_defaults();
    }
}
