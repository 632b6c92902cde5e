//! Whether a changed configuration can be read at all, where only a fresh start can tell: it is below another
//! root, or a program's output. Before the running app is stopped for it, a process that does nothing else
//! reads it.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::emperor::core::machine::Answer;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::spawner::{ReadFile, Spawner};
use crate::error::Result;
use crate::protocol::{ExitReason, FromVassal, Received, receive};
use crate::sys::signal;

/// The reload is refused if a check takes longer; what it finds later still counts. Programs in a
/// configuration are given less
/// ([`crate::command`]).
pub const TIMEOUT: Duration = Duration::from_secs(11);

/// The checks that run.
#[derive(Default)]
pub struct Checks(Vec<Check>);

struct Check {
    pid: Pid,
    link: OwnedFd,
    path: Rc<VassalFile>,
    /// Why a fresh start is needed; `None` when the answer is not needed any more.
    why: Option<String>,
    /// Until when it is waited for.
    until: Instant,
}

/// A check that has ended.
pub struct Checked {
    /// The vassal's file.
    pub path: Rc<VassalFile>,
    /// What it has found; `None` when that is not needed any more.
    pub verdict: Option<Verdict>,
}

/// What a check has found.
pub struct Verdict {
    /// The answer to the reload.
    pub answer: Answer,
    /// The reason for it.
    pub reason: String,
}

impl Checks {
    /// Begins to check the configuration of a vassal that needs a fresh start because of `why`.
    ///
    /// # Errors
    /// As [`Spawner::check`].
    pub fn begin(
        &mut self,
        spawner: &Spawner,
        path: &Rc<VassalFile>,
        file: &ReadFile,
        why: &str,
        now: Instant,
    ) -> Result<()> {
        self.forget(path);
        let (pid, link) = spawner.check(path, file)?;
        let (path, why) = (Rc::clone(path), Some(why.to_owned()));
        self.0.push(Check { pid, link, path, why, until: now + TIMEOUT });
        Ok(())
    }

    /// The check of this vassal is not needed any more.
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

    /// Whether none is waited for: one may hang for ever.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.0.iter().all(|check| check.why.is_none() || check.until <= now)
    }

    /// A child has ended that is not an instance. Returns what it has found, if it was a check. One that has
    /// not said anything leaves it to the fresh start.
    pub fn ended(&mut self, pid: Pid) -> Option<Checked> {
        let index = self.0.iter().position(|check| check.pid == pid)?;
        let Check { link, path, why, .. } = self.0.swap_remove(index);
        let said = match receive(&link) {
            Ok(Received::Packet(packet, _)) => FromVassal::decode(&packet),
            Ok(Received::Nothing | Received::Closed) | Err(_) => None,
        };
        let verdict = why.map(|why| match said {
            Some(FromVassal::Exiting(ExitReason::Config(reason))) => {
                Verdict { answer: Answer::Refused, reason }
            }
            Some(FromVassal::Exiting(ExitReason::Setup(failure))) => {
                Verdict { answer: Answer::Refused, reason: failure.to_string() }
            }
            _ => Verdict { answer: Answer::NeedsRespawn, reason: why },
        });
        Some(Checked { path, verdict })
    }
}
