//! What this program was started with, and what the programs that it starts get back.

use std::ffi::OsString;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::emperor::core::saved::SavedOrigin;
use crate::error::{Context, Result};
use crate::log;
use crate::protocol::LINK_VARIABLE;
use crate::sys::environment;
use crate::sys::signal::{self, Inherited};

/// The variable by which an upgrade names the memory file of the state to the new program.
pub const STATE_VARIABLE: &str = "EMPEROR_STATE";
/// The same for a child that only tries the new program.
pub const TRIAL_VARIABLE: &str = "EMPEROR_TRIAL";

/// What this program was started with, and what those that it starts get back.
pub struct Origin {
    /// The environment variables, without those by which our programs pass things on.
    pub environment: Vec<(OsString, OsString)>,
    inherited: Inherited,
    nofile: Rlimit,
}

impl Origin {
    /// Raises this process's own soft limit of descriptors to the hard one, since each vassal takes two;
    /// others get it as it was. The program before this one has `saved` how that was.
    ///
    /// # Errors
    /// setrlimit(2); not if vassals were taken over, which may fit in as it is.
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

    /// For a program that takes the place of this one.
    pub fn save(&self) -> SavedOrigin {
        SavedOrigin {
            signal_mask: self.inherited.mask(),
            nofile_soft: self.nofile.current,
            nofile_hard: self.nofile.maximum,
        }
    }

    /// Undoes what this program has changed about signals for itself; all of them stay blocked.
    pub fn restore_dispositions(&self) {
        self.inherited.restore_dispositions();
    }

    /// For a child that is about to exec; allocates nothing. The child leads a session of its own: the Ctrl-C
    /// that stops an emperor on a terminal must not reach it directly.
    pub fn restore(&self) {
        // This can only fail for a process group leader, which a new process is not.
        let _ = rustix::process::setsid();
        let _ = setrlimit(Resource::Nofile, self.nofile);
        self.inherited.restore();
    }

    /// The same for a vassal or a command, with all signals as they are by default: whoever has started the
    /// emperor, by nohup(1) or in the background of a script, meant the emperor by what it had ignored.
    pub fn begin_anew(&self) {
        self.restore();
        signal::set_defaults();
    }
}
