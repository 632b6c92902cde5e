//! The command of `emperor-on-demand-exec`: it is asked at which address a vassal is waited for.
//!
//! Nothing waits for the answer. A few commands run at a time; with hundreds of vassals the others are asked
//! for later.

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
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::on_demand;
use crate::emperor::instance::origin::Origin;
use crate::error::{Context, Error, Result};
use crate::protocol::WaitStatus;
use crate::shell::Shell;

/// How many commands run at the same time.
const AT_ONCE: usize = 8;
/// A command that has not ended after this time is killed, with its process group.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The vassals that the command was not asked for yet, and those that it runs for.
pub struct Questions {
    command: Option<OsString>,
    /// Whether the files are in directories of users, where nothing of the emperor's is to run.
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
    /// `None` when the answer is not needed any more.
    question: Option<Question>,
    output: OwnedFd,
    /// `None` once it was killed.
    kill_at: Option<Instant>,
}

/// What the command has said.
pub struct Reply {
    /// The vassal's file.
    pub path: Rc<VassalFile>,
    /// Why it was asked, for the log.
    pub why: String,
    /// Where the vassal is waited for; `None` if it is not.
    pub address: Result<Option<Address>>,
}

impl Questions {
    /// Without a command in `rule` nothing can be asked.
    pub fn new(rule: Option<&OnDemand>, is_tyrant: bool, origin: Rc<Origin>) -> Self {
        let command = match rule {
            Some(OnDemand::Command(command)) => {
                // As in uWSGI, the file is one more word behind the command.
                let mut command = command.clone();
                command.push(" \"$1\"");
                Some(command)
            }
            Some(OnDemand::Directory(_) | OnDemand::Extension(_)) | None => None,
        };
        Self { command, is_tyrant, origin, waiting: Vec::new(), running: Vec::new(), replies: Vec::new() }
    }

    /// Whether there is a command that can be asked.
    pub fn can_ask(&self) -> bool {
        self.command.is_some()
    }

    /// Asks for the vassal whose file is at `path`; `false` if nothing can be asked. An earlier question for
    /// it is not answered any more.
    pub fn ask(&mut self, path: &Rc<VassalFile>, why: &str, now: Instant) -> bool {
        if !self.can_ask() {
            return false;
        }
        self.forget(path);
        self.waiting.push(Question { path: Rc::clone(path), why: why.to_owned() });
        self.begin(now);
        true
    }

    /// The answer for this vassal is not needed any more.
    pub fn forget(&mut self, path: &VassalFile) {
        self.waiting.retain(|question| *question.path != *path);
        self.replies.retain(|reply| *reply.path != *path);
        for running in &mut self.running {
            if running.question.take_if(|question| *question.path == *path).is_some() {
                running.kill();
            }
        }
    }

    /// No answer is needed any more.
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

    /// A child has ended that is not an instance. Returns whether it was one of these.
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

    /// The answers since the last time.
    pub fn replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut self.replies)
    }

    /// When [`Questions::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.iter().filter_map(|running| running.kill_at).min()
    }

    /// Kills commands that have run for too long.
    pub fn time(&mut self, now: Instant) {
        for running in &mut self.running {
            if running.kill_at.is_some_and(|deadline| deadline <= now) {
                running.kill();
            }
        }
    }

    /// Begins as many commands as may run.
    fn begin(&mut self, now: Instant) {
        while self.running.len() < AT_ONCE && !self.waiting.is_empty() {
            let question = self.waiting.remove(0);
            match self.start(&question.path) {
                Ok((pid, output)) => {
                    let (question, kill_at) = (Some(question), Some(now + TIMEOUT));
                    self.running.push(Running { pid, question, output, kill_at });
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

/// The address that a command which has ended has printed; `None` if it has printed nothing. A process that
/// it has left behind may still have the pipe, the end of which is not waited for.
fn address(output: &OwnedFd, path: &Path) -> Result<Option<Address>> {
    let mut text = [0; on_demand::ADDRESS_MAX];
    match read(output, &mut text) {
        Ok(count @ 1..) => on_demand::parse(text.get(..count).unwrap_or_default(), path).map(Some),
        Ok(_) | Err(_) => Ok(None),
    }
}
