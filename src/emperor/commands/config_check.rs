//! Checks a changed configuration that only a fresh start can read, because it is below another root or is
//! the output of a program. A separate process reads it before the running app is stopped for it.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::emperor::at_work::{self, Work};
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::machine::Answer;
use crate::emperor::deputy;
use crate::emperor::instance::spawner::{ReadFile, Spawner};
use crate::error::Result;
use crate::protocol::{ExitReason, FromVassal, Received, receive};
use crate::sys::signal;

/// If a check takes longer, the reload is refused, but a later result still counts. Programs in a
/// configuration have less time than this ([`crate::command`]).
pub const TIMEOUT: Duration = Duration::from_secs(11);

/// The checks that run now.
#[derive(Default)]
pub struct Checks(Vec<Check>);

struct Check {
    pid: Pid,
    link: OwnedFd,
    id: InstanceId,
    /// Why a fresh start is needed; `None` if the result is no longer needed.
    why: Option<String>,
    /// When the reload is refused without a result.
    until: Instant,
    /// Whether it was killed and has not ended in time.
    hangs: bool,
}

/// A check that has ended.
pub struct Checked {
    /// The instance.
    pub id: InstanceId,
    /// The result; `None` if it is no longer needed.
    pub verdict: Option<Verdict>,
    /// Whether another check was refused because this one hung.
    pub hung: bool,
}

/// The result of a check.
pub struct Verdict {
    /// The answer to the reload.
    pub answer: Answer,
    /// The reason for it.
    pub reason: String,
}

impl Checks {
    /// Whether an earlier check of this instance was given up and does not end: what it reads hangs, and
    /// another one would do so, too.
    pub fn hangs(&mut self, id: &InstanceId) -> bool {
        self.forget(id);
        self.0.iter_mut().filter(|check| check.id == *id).any(|check| {
            let time = if check.hangs { Duration::ZERO } else { deputy::PATIENCE };
            // Not reaped yet, so the number is its own.
            let pidfd = pidfd_open(check.pid, PidfdFlags::empty());
            check.hangs = pidfd.is_ok_and(|pidfd| !deputy::ends_within(&pidfd, time));
            check.hangs
        })
    }

    /// Begins to check the configuration of an instance that needs a fresh start because of `why`. None of
    /// its earlier checks [hangs](Self::hangs).
    ///
    /// # Errors
    /// As [`Spawner::check`].
    pub fn begin(
        &mut self,
        spawner: &Spawner,
        id: &InstanceId,
        file: &ReadFile,
        why: &str,
        now: Instant,
    ) -> Result<()> {
        let (pid, link) = spawner.check(id, file)?;
        let (id, why) = (id.clone(), Some(why.to_owned()));
        self.0.push(Check { pid, link, id, why, until: now + TIMEOUT, hangs: false });
        Ok(())
    }

    /// Notes that the result for this instance is no longer needed.
    pub fn forget(&mut self, id: &InstanceId) {
        for check in self.0.iter_mut().filter(|check| check.id == *id) {
            if check.why.take().is_some() {
                let _ = signal::kill(check.pid.as_raw_pid(), libc::SIGKILL);
            }
        }
    }

    /// Whether the check for this instance does anything but wait; `None` if there is none.
    pub fn is_at_work(&self, id: &InstanceId) -> Option<bool> {
        let check = self.0.iter().find(|check| check.id == *id && check.why.is_some())?;
        Some(at_work::look(check.pid.as_raw_pid()) != Work::Waits)
    }

    /// The number of checks that run.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether no result is waited for. A check may still run, as it may hang for ever.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.0.iter().all(|check| check.why.is_none() || check.until <= now)
    }

    /// Called for each child that has ended and is not an instance. Returns the result if the child was a
    /// check. After a check without a result, the fresh start has to find out.
    pub fn ended(&mut self, pid: Pid) -> Option<Checked> {
        let index = self.0.iter().position(|check| check.pid == pid)?;
        let Check { link, id, why, hangs: hung, .. } = self.0.swap_remove(index);
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
        Some(Checked { id, verdict, hung })
    }
}
