//! One action of one phase.

use std::path::Path;
use std::time::{Duration, Instant};

use super::run::{Interrupted, Role, Vassal};
use crate::config::plan::{Action, Hook, Phase};
use crate::error::{Context, Error, Result};
use crate::protocol::WaitStatus;
use crate::sys::signal;

/// A command that has not ended after this time is killed, with its whole process group.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Why a hook did not succeed.
pub enum Failed {
    /// The action failed.
    Error(Error),
    /// We were told to stop while it ran.
    Interrupted,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Vassal {
    /// Does what the hook says, and waits for it.
    ///
    /// # Errors
    /// The action's own, naming action and object; or a request to stop came first.
    pub fn run_hook(&mut self, hook: &Hook) -> std::result::Result<(), Failed> {
        match &hook.action {
            Action::Exec(command) => {
                let argv = ["/bin/sh".into(), "-c".into(), command.clone()];
                self.run_command(hook.phase, &argv, &hook.source.value)
            }
            Action::Chdir(path) => Ok(self.change_directory(hook.phase, path)?),
            Action::Print(text) => {
                crate::log!("{text}");
                Ok(())
            }
            _ => Err(Error::new("run", &hook.source.value, "not there yet").into()),
        }
    }

    /// Runs a command to its end, as the phase's user.
    fn run_command(
        &mut self,
        phase: Phase,
        argv: &[std::ffi::OsString],
        text: &str,
    ) -> std::result::Result<(), Failed> {
        let launched = self.launch(Role::Hook, phase >= Phase::AsUser, argv, None)?;
        let pid = launched.pid;
        let status = match self.wait_for(pid, Instant::now() + TIMEOUT) {
            Ok(status) => status,
            Err(interrupted) => {
                // Its group has its number. ESRCH: it ended meanwhile.
                let _ = signal::kill(-pid.as_raw_nonzero().get(), libc::SIGKILL);
                return Err(match interrupted {
                    Interrupted::Stop => Failed::Interrupted,
                    Interrupted::Deadline => {
                        let reason = format!("still running after {} s, killed", TIMEOUT.as_secs());
                        Error::new("run", text, reason).into()
                    }
                });
            }
        };
        match (launched.failure(text), status) {
            (Some(error), _) => Err(error.into()),
            (None, WaitStatus::Exited(0)) => Ok(()),
            (None, status) => Err(Error::new("run", text, status).into()),
        }
    }

    /// Changes where everything that comes later runs.
    ///
    /// While we have root's view of the tree, so do we. Later it is for our children only: PID 1 must not sit in, or
    /// even look at, a directory of a filesystem that can hang.
    fn change_directory(&mut self, phase: Phase, path: &Path) -> Result<()> {
        if phase < Phase::AsUser {
            rustix::process::chdir(path).context("chdir", path.display())?;
        }
        self.workdir.push(path);
        Ok(())
    }
}
