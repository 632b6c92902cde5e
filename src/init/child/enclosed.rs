//! A command of which nothing is left behind, and which may say as much as it likes.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait, waitpid};

use crate::error::{Context, Result};
use crate::init::child::reaper;
use crate::init::watch::procfs::Procfs;
use crate::protocol::{WaitStatus, send};
use crate::sys::clone::{self, Child, Side, clone3};
use crate::sys::{fd, signal};

/// How much of the end of its output is kept.
const OUTPUT_MAX: usize = 200;
/// How often the command is looked at where the kernel does not tell of its end.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// In a child, before it becomes the command: goes on in a child of its own. The first one stays with the
/// rights of PID 1 and becomes the parent of all that the command leaves behind. It reads the output, and
/// kills everything when the command has ended or PID 1 shuts `link` down. Then it says over `link` what was
/// written last, and has the command's exit status.
///
/// # Errors
/// No pipe or process can be created.
pub fn enclose(link: &OwnedFd) -> Result<()> {
    set_child_subreaper(Some(getpid())).context("become", "subreaper")?;
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe for the output")?;
    match clone3(0).context("start", "a child process")? {
        Side::Child => {
            // What it says each time would drown the log.
            fd::place(&theirs, 1).and_then(|()| fd::place(&theirs, 2)).context("redirect", "the output")
        }
        Side::Parent(command) => attend(&command, &output, link),
    }
}

fn attend(command: &Child, output: &OwnedFd, link: &OwnedFd) -> ! {
    let _ = rustix::thread::set_name(c"ready-check");
    let number = |fd: &OwnedFd| fd.as_raw_fd();
    fd::close_all_but([number(output), number(link), command.pidfd.as_ref().map_or(-1, number)]);
    let _ = fcntl_setfl(output, OFlags::NONBLOCK);
    let (mut said, mut has_more, mut result) = (Vec::new(), true, None);
    let limit = command.pidfd.is_none().then_some(&INTERVAL);
    while result.is_none() {
        let mut fds = vec![PollFd::new(link, PollFlags::empty())];
        fds.extend(command.pidfd.as_ref().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)));
        fds.extend(has_more.then(|| PollFd::new(output, PollFlags::IN)));
        let _ = poll(&mut fds, limit);
        if fds.first().is_some_and(|link| !link.revents().is_empty()) {
            break;
        }
        has_more = has_more && read_some(output, &mut said);
        let ended = waitpid(Some(command.pid), WaitOptions::NOHANG).ok().flatten();
        result = ended.and_then(|(_, status)| WaitStatus::of(status));
    }
    // What `/proc` does not show is left to PID 1.
    let procfs = Procfs::at_proc();
    while reaper::kill_found(&procfs, libc::SIGKILL) {
        let _ = wait(WaitOptions::empty());
    }
    if result.is_none() {
        // This process, too. PID 1 does not listen to it any more.
        let _ = signal::kill(0, libc::SIGKILL);
    }
    // As much as there is room for in a pipe.
    let _ = (0..16).all(|_| read_some(output, &mut said));
    let _ = send(link, &said, None);
    clone::exit(match result {
        Some(WaitStatus::Exited(status)) => status,
        Some(WaitStatus::Signaled(number) | WaitStatus::Dumped(number)) => 128 + number,
        None => 1,
    })
}

/// Reads what there is, and keeps the end of all. Returns whether there may be more some time.
fn read_some(output: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut bytes = [0; 4096];
    let length = match rustix::io::read(output, &mut bytes) {
        Ok(0) => return false,
        Ok(length) => length,
        Err(_) => return true,
    };
    said.extend(bytes.get(..length).unwrap_or_default());
    let old = said.len().saturating_sub(OUTPUT_MAX);
    said.drain(..old);
    true
}
