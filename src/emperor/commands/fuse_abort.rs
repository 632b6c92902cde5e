//! Aborts FUSE connections that only a killed instance uses, because such a connection may keep the instance
//! from ending.
//!
//! To find them, all processes and mount tables of the machine are read, and tenants can make both long. So a
//! separate process does it, for all instances that were killed at about the same time. The main loop does
//! not wait for it.

use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::read;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::deputy;
use crate::emperor::instance::process::Process;
use crate::error::{Context, Result};
use crate::log;
use crate::mount::fuse::{self, Dying};
use crate::sys::{fd, signal};

/// When the process is killed. Instances that are still there get SIGKILL again, and are looked at again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest report that is read, with the numbers of connections.
const REPORT_MAX: usize = 4096;

/// The instances that were killed, and the process that looks for their connections.
#[derive(Default)]
pub struct Freeing {
    killed: Vec<Killed>,
    running: Option<Running>,
}

/// An instance that was sent SIGKILL.
struct Killed {
    pid: Pid,
    id: InstanceId,
    /// Its name, as log lines show it.
    name: String,
    noted: Vec<u64>,
}

struct Running {
    pid: Pid,
    report: OwnedFd,
    /// The names of the instances, as log lines show them.
    names: Vec<String>,
    /// The pid namespaces of the instances, kept open so that no other namespace gets their numbers.
    _held: Vec<OwnedFd>,
    /// When to kill the process; `None` once it was killed.
    kill_at: Option<Instant>,
}

impl Freeing {
    /// Notes that an instance was sent SIGKILL.
    pub fn killed(&mut self, process: &Process, id: &InstanceId, name: String) {
        let (id, noted) = (id.clone(), process.noted.clone());
        self.killed.push(Killed { pid: process.pid, id, name, noted });
    }

    /// Starts the process for the instances that were killed since the last call. `is_there` tells whether a
    /// pid still belongs to its instance.
    pub fn begin(&mut self, now: Instant, is_there: impl Fn(Pid, &InstanceId) -> bool) {
        if self.running.is_some() || self.killed.is_empty() {
            return;
        }
        let (mut names, mut held, mut dying) = (Vec::new(), Vec::new(), Vec::new());
        for Killed { pid, id, name, noted } in std::mem::take(&mut self.killed) {
            if is_there(pid, &id)
                && let Some((namespace, pid_namespace)) = fuse::hold_namespace(pid)
            {
                names.push(name);
                held.push(namespace);
                dying.push(Dying { pid_namespace, noted });
            }
        }
        if names.is_empty() {
            return;
        }
        match start(&dying) {
            Ok((pid, report)) => {
                self.running =
                    Some(Running { pid, report, names, _held: held, kill_at: Some(now + TIMEOUT) });
            }
            Err(error) => left_alone(&error.to_string()),
        }
    }

    /// Called for each child that has ended and is not an instance. Returns whether it was this process.
    pub fn ended(&mut self, pid: Pid) -> bool {
        let Some(Running { report, names, .. }) = self.running.take_if(|running| running.pid == pid) else {
            return false;
        };
        let mut text = [0; REPORT_MAX];
        let count = read(&report, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..count).unwrap_or_default());
        if let Some(why) = text.strip_prefix('!') {
            left_alone(why);
        }
        for (index, name) in names.iter().enumerate() {
            let index = index.to_string();
            let of_it = text.lines().filter_map(|line| line.split_once(' ')).filter(|(of, _)| *of == index);
            let own: Vec<_> = of_it.map(|(_, number)| number).collect();
            if !own.is_empty() {
                log::line(name, format_args!("aborted its own FUSE connections: {}", own.join(", ")));
            }
        }
        true
    }

    /// When [`Freeing::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(|running| running.kill_at)
    }

    /// Kills the process if it has run for too long.
    pub fn time(&mut self, now: Instant) {
        if let Some(running) = &mut self.running
            && running.kill_at.take_if(|deadline| *deadline <= now).is_some()
        {
            let _ = signal::kill(running.pid.as_raw_pid(), libc::SIGKILL);
            left_alone(&format!("not done after {} s", TIMEOUT.as_secs()));
        }
    }
}

fn left_alone(why: &str) {
    log!("{why}: FUSE connections of killed vassals are left alone");
}

/// Starts the process; returns the end of the pipe for its report.
fn start(dying: &[Dying]) -> Result<(Pid, OwnedFd)> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe")?;
    rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK).context("create", "a pipe")?;
    let child = deputy::start(c"emperor-freer", to, |to| {
        let mut report = String::new();
        let _ = match fuse::abort_private(dying) {
            Ok(aborted) => {
                aborted.iter().try_for_each(|(index, number)| writeln!(report, "{index} {number}"))
            }
            Err(error) => write!(report, "!{error}"),
        };
        let _ = fd::write_all(to.as_fd(), report.as_bytes());
    })?;
    Ok((child.pid, from))
}
