//! Whether a changed configuration can be read at all, where only a fresh start can tell: below another root, or from a
//! program's output. A process that does nothing else is asked before the app that runs is stopped.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Pid;

use crate::emperor::core::machine::Answer;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::spawner::Spawner;
use crate::error::Result;
use crate::protocol::{ExitReason, FromVassal, Received, receive};
use crate::sys::signal;

/// One that takes longer is not waited for. Programs are given less ([`crate::command`]).
pub const TIMEOUT: Duration = Duration::from_secs(11);

/// Those that run.
#[derive(Default)]
pub struct Checks(Vec<Check>);

struct Check {
    pid: Pid,
    link: OwnedFd,
    path: Rc<VassalFile>,
    /// Why a fresh start is needed; `None` when nobody wants to know any more.
    why: Option<String>,
}

/// What one has found.
pub struct Checked {
    /// The vassal's file.
    pub path: Rc<VassalFile>,
    /// The answer to the reload and the reason for it; `None` when nobody wants to know any more.
    pub answer: Option<(Answer, String)>,
}

impl Checks {
    /// Begins with the configuration of a vassal that needs a fresh start because of `why`.
    ///
    /// # Errors
    /// As [`Spawner::check`].
    pub fn begin(&mut self, spawner: &Spawner, path: &Rc<VassalFile>, why: &str) -> Result<()> {
        self.forget(path);
        let (pid, link) = spawner.check(path)?;
        self.0.push(Check { pid, link, path: Rc::clone(path), why: Some(why.to_owned()) });
        Ok(())
    }

    /// Nobody wants to know of this vassal any more.
    pub fn forget(&mut self, path: &VassalFile) {
        for check in self.0.iter_mut().filter(|check| *check.path == *path) {
            if check.why.take().is_some() {
                let _ = signal::kill(check.pid.as_raw_pid(), libc::SIGKILL);
            }
        }
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// A child has ended that is no instance: what it has found, if it was one of ours. One that could not say anything leaves
    /// it to the fresh start.
    pub fn ended(&mut self, pid: Pid) -> Option<Checked> {
        let index = self.0.iter().position(|check| check.pid == pid)?;
        let Check { link, path, why, .. } = self.0.swap_remove(index);
        let said = match receive(&link) {
            Ok(Received::Packet(packet, _)) => FromVassal::decode(&packet),
            Ok(Received::Nothing | Received::Closed) | Err(_) => None,
        };
        let answer = why.map(|why| match said {
            Some(FromVassal::Exiting(ExitReason::Config(mistake))) => (Answer::Refused, mistake),
            Some(FromVassal::Exiting(ExitReason::Setup(failure))) => (Answer::Refused, failure.to_string()),
            _ => (Answer::NeedsRespawn, why),
        });
        Some(Checked { path, answer })
    }
}
