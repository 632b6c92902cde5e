//! The command of `emperor-on-demand-exec`, which is asked for the address of each vassal on demand.
//!
//! The main loop does not wait for an answer. A few commands run at a time, which matters with hundreds of
//! vassals; the others wait for their turn.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::read;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::shell::{self, kill_group};
use crate::config::plan::{Address, OnDemand};
use crate::emperor::at_work::{self, Work};
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::on_demand;
use crate::emperor::instance::origin::Origin;
use crate::error::{Context, Error, Result};
use crate::protocol::WaitStatus;
use crate::shell::Shell;

/// How many commands run at the same time, of those that are at work.
const AT_ONCE: usize = 8;
/// How many there are at a time, with those that wait for something, such as a server that is down.
const ALL: usize = 128;
/// A command that has run for so long is looked at, whether it is at work.
const SLOW: Duration = Duration::from_millis(100);
/// A command that has not ended after this time is killed, with its process group.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The vassals that wait for the command, and those that it runs for.
pub struct Questions {
    command: Option<OsString>,
    /// Whether the files are in directories of users, where the emperor must run nothing.
    is_tyrant: bool,
    origin: Rc<Origin>,
    waiting: Vec<Question>,
    running: Vec<Running>,
    replies: Vec<Reply>,
}

struct Question {
    path: Rc<VassalFile>,
    why: String,
}

struct Running {
    pid: Pid,
    /// The question; `None` if the answer is no longer needed.
    question: Option<Question>,
    output: OwnedFd,
    /// When to kill the command; `None` once it was killed.
    kill_at: Option<Instant>,
    /// When to look whether it is at work; `None` if it only waits.
    look_at: Option<Instant>,
}

/// The answer of the command.
pub struct Reply {
    /// The vassal's file.
    pub path: Rc<VassalFile>,
    /// Why the command was asked, for the log.
    pub why: String,
    /// The address to listen at for the vassal; `None` if it is not on demand.
    pub address: Result<Option<Address>>,
}

impl Questions {
    /// If `rule` has no command, nothing can be asked.
    pub fn new(rule: Option<&OnDemand>, is_tyrant: bool, origin: Rc<Origin>) -> Self {
        let command = match rule {
            Some(OnDemand::Command(command)) => {
                // As in uWSGI, the file is appended to the command as one word.
                let mut command = command.clone();
                command.push(" \"$1\"");
                Some(command)
            }
            Some(OnDemand::Directory(_) | OnDemand::Extension(_)) | None => None,
        };
        Self { command, is_tyrant, origin, waiting: Vec::new(), running: Vec::new(), replies: Vec::new() }
    }

    /// Asks about the vassal whose file is at `path`; `false` if there is no command. An earlier question
    /// about this vassal gets no answer.
    pub fn ask(&mut self, path: &Rc<VassalFile>, why: &str, now: Instant) -> bool {
        if self.command.is_none() {
            return false;
        }
        self.forget(path);
        self.waiting.push(Question { path: Rc::clone(path), why: why.to_owned() });
        self.begin(now);
        true
    }

    /// Notes that the answer for this vassal is no longer needed.
    pub fn forget(&mut self, path: &VassalFile) {
        self.waiting.retain(|question| *question.path != *path);
        self.replies.retain(|reply| *reply.path != *path);
        for running in &mut self.running {
            if running.question.take_if(|question| *question.path == *path).is_some() {
                running.kill();
            }
        }
    }

    /// Notes that no answer is needed any longer, and kills the commands.
    pub fn stop(&mut self) {
        self.command = None;
        self.waiting.clear();
        self.replies.clear();
        for running in &mut self.running {
            running.question = None;
            running.kill();
        }
    }

    /// Whether no answer is outstanding.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.replies.is_empty()
    }

    /// Called for each child that has ended and is not an instance. Returns whether it was one of these
    /// commands.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus, now: Instant) -> bool {
        let Some(index) = self.running.iter().position(|running| running.pid == pid) else { return false };
        let Running { question, output, kill_at, .. } = self.running.swap_remove(index);
        if let Some(Question { path, why }) = question {
            let failed = |how: String| Err(Error::new("ask emperor-on-demand-exec for", path.display(), how));
            let address = match status {
                _ if kill_at.is_none() => failed(format!("not done after {} s: killed", TIMEOUT.as_secs())),
                WaitStatus::Exited(0) => address(&output, &path),
                _ => failed(status.to_string()),
            };
            self.replies.push(Reply { path, why, address });
        }
        self.begin(now);
        true
    }

    /// The answers since the last call.
    pub fn replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// When [`Questions::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let looks = self.running.iter().filter(|_| !self.waiting.is_empty());
        looks
            .filter_map(|running| running.look_at)
            .chain(self.running.iter().filter_map(|running| running.kill_at))
            .min()
    }

    /// Kills commands that have run for too long, and lets others run beside those that only wait.
    pub fn time(&mut self, now: Instant) {
        for running in &mut self.running {
            if running.look_at.take_if(|at| *at <= now).is_some()
                && at_work::look(running.pid.as_raw_pid()) == Work::Runs
            {
                running.look_at = Some(now + SLOW);
            }
            if running.kill_at.is_some_and(|deadline| deadline <= now) {
                running.kill();
            }
        }
        self.begin(now);
    }

    /// Starts as many commands as may run at a time.
    fn begin(&mut self, now: Instant) {
        let at_work = |running: &&Running| running.look_at.is_some();
        while self.running.iter().filter(at_work).count() < AT_ONCE
            && self.running.len() < ALL
            && !self.waiting.is_empty()
        {
            let question = self.waiting.remove(0);
            match self.start(&question.path) {
                Ok((pid, output)) => {
                    let question = Some(question);
                    let (kill_at, look_at) = (Some(now + TIMEOUT), Some(now + SLOW));
                    self.running.push(Running { pid, question, output, kill_at, look_at });
                }
                Err(error) => {
                    let Question { path, why } = question;
                    self.replies.push(Reply { path, why, address: Err(error) });
                }
            }
        }
    }

    fn start(&self, path: &Path) -> Result<(Pid, OwnedFd)> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe")?;
        rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK).context("create", "a pipe")?;
        let (directory, name) = match self.is_tyrant {
            true => (Some(Path::new("/")), path.as_os_str()),
            false => (path.parent(), path.file_name().unwrap_or_default()),
        };
        let arguments = [OsStr::new("sh"), name];
        let shell = Shell {
            command: self.command.as_deref().unwrap_or_default(),
            arguments: &arguments,
            directory,
            output: Some(to.as_fd()),
            ..Shell::default()
        };
        Ok((shell::start(shell, &[], &self.origin)?, from))
    }
}

impl Running {
    fn kill(&mut self) {
        if self.kill_at.take().is_some() {
            kill_group(self.pid);
        }
    }
}

/// The address that a command has printed by its end; `None` if it printed nothing. A process that it left
/// behind may keep the pipe open, so the end of the pipe is not waited for.
fn address(output: &OwnedFd, path: &Path) -> Result<Option<Address>> {
    let mut text = [0; on_demand::ADDRESS_MAX];
    match read(output, &mut text) {
        Ok(count @ 1..) => on_demand::parse(text.get(..count).unwrap_or_default(), path).map(Some),
        Ok(_) | Err(_) => Ok(None),
    }
}
