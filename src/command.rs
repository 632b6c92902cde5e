//! The output of a command: from `exec://` in a configuration, or of a program in the place of a
//! configuration.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, setpgid, waitpid};

use crate::error::Cause;
use crate::files::FILE_MAX;
use crate::protocol::WaitStatus;
use crate::running_time;
use crate::shell::Shell;
use crate::sys::{fd, signal};

/// How long a command may take, and how long a pipe may stay open.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `/bin/sh -c COMMAND` and returns what it writes to standard output. As in uWSGI, its exit status does
/// not matter.
///
/// No other code may reap children meanwhile.
///
/// # Errors
/// No process or pipe can be created; the output is larger than [`FILE_MAX`]; or the command did not end in
/// time, and was killed with its process group.
pub fn output(command: &OsStr) -> Result<Vec<u8>, Cause> {
    run(command, &[]).map(|(text, _)| text)
}

/// As [`output`], for a program in the working directory. A shell runs a file without `#!`, as with
/// execvp(3).
///
/// # Errors
/// As [`output`]; also if the program fails.
pub fn output_of(program: &OsStr) -> Result<Vec<u8>, Cause> {
    match run(OsStr::new("exec \"./$0\""), &[program])? {
        (text, Some(WaitStatus::Exited(0))) => Ok(text),
        (_, Some(status)) => Err(Cause::Because(status.to_string().into())),
        (_, None) => Err(Errno::CHILD.into()),
    }
}

/// Runs `/bin/sh -c COMMAND` until it succeeds or fails. What it says on its standard output is the reason of
/// a failure.
///
/// # Errors
/// As [`output`]; also if the command fails.
pub fn succeed(command: &OsStr) -> Result<(), Cause> {
    match run(command, &[])? {
        (_, Some(WaitStatus::Exited(0))) => Ok(()),
        (text, Some(status)) if text.is_empty() => Err(Cause::Because(status.to_string().into())),
        (text, Some(_)) => Err(Cause::Because(String::from_utf8_lossy(&text).trim_end().into())),
        (_, None) => Err(Errno::CHILD.into()),
    }
}

/// Runs a command of the shell with these arguments. Returns what it writes, and how it ended.
///
/// # Errors
/// As [`output`].
pub fn run(command: &OsStr, arguments: &[&OsStr]) -> Result<(Vec<u8>, Option<WaitStatus>), Cause> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    let shell = Shell { command, arguments, output: Some(to.as_fd()), ..Shell::default() };
    let child = shell.start(&|| {
        let _ = setpgid(None, None);
        fd::cloexec_from(3);
        signal::set_defaults();
    })?;
    drop(to);
    // The parent does it, too, because it may have to kill the child before the child does it.
    let _ = setpgid(Some(child.pid), Some(child.pid));
    let deadline = running_time::now() + TIMEOUT;
    let ends_in_time = || child.pidfd.as_ref().is_none_or(|pidfd| wait(pidfd, deadline));
    let text = read_until(&from, deadline).and_then(|text| match ends_in_time() {
        true => Ok(text),
        false => Err(late()),
    });
    if text.is_err() {
        // The child may have left the group.
        for pid in [-child.pid.as_raw_pid(), child.pid.as_raw_pid()] {
            let _ = signal::kill(pid, libc::SIGKILL);
        }
    }
    // Does not block, because the child has ended or was killed.
    let ended = retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()));
    let status = ended.ok().flatten().and_then(|(_, status)| WaitStatus::of(status));
    text.map(|text| (text, status))
}

/// Reads a pipe to its end, for as long as a command may take.
///
/// # Errors
/// As [`output`].
pub fn read_pipe(pipe: &OwnedFd) -> Result<Vec<u8>, Cause> {
    read_until(pipe, running_time::now() + TIMEOUT)
}

fn read_until(pipe: &OwnedFd, deadline: Instant) -> Result<Vec<u8>, Cause> {
    rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if !wait(pipe, deadline) {
            return Err(late());
        }
        match read(pipe, &mut chunk) {
            Ok(0) => return Ok(text),
            Ok(count) => text.extend(chunk.iter().take(count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if text.len() > FILE_MAX {
            return Err(Cause::Because(format!("it writes more than {} MiB", FILE_MAX >> 20).into()));
        }
    }
}

/// Waits until there is something to read. `false` at the deadline.
fn wait(fd: impl AsFd, deadline: Instant) -> bool {
    loop {
        let is_over = deadline <= running_time::now();
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        match running_time::poll(&mut fds, Some(deadline)) {
            Ok(1..) => return true,
            _ if is_over => return false,
            // EINTR, ENOMEM: poll again.
            _ => {}
        }
    }
}

fn late() -> Cause {
    Cause::Because(format!("not done after {} s", TIMEOUT.as_secs()).into())
}
