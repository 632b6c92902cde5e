//! The file that an emperor writes its log to.
//!
//! Its filesystem may hang. Who has the file open then hangs with each line, and even at the end, when the
//! file is closed. So a deputy opens the file. If the filesystem is one that others serve (NFS, FUSE), only
//! the deputy has the file: it copies what it reads from a pipe, which is the standard output and error of
//! the emperor and its vassals. Otherwise these have the file itself, and the deputy ends.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, fcntl_getfl, fcntl_setfl, fstat, open, stat, statx,
};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open, set_parent_process_death_signal};

use crate::config::PlainSetting;
use crate::emperor::deputy::{self, Deputy, tell};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::log;
use crate::log::Elapsed;
use crate::mount::ops::mount_of;
use crate::path::Walk;
use crate::protocol::{Received, receive, send};
use crate::sys::clone::Child;

/// The name of the process that copies.
const NAME: &CStr = c"emperor-log";

/// How long the file may take to be opened.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an emperor waits at its end for its last lines to be copied.
const FINISHING: Duration = Duration::from_millis(100);

/// The answers of the deputy that opens the file: the file comes along, it stays with the deputy, or it is
/// the log already. An error follows [`FAILED`].
const OPENED: u8 = b'>';
const RELAYED: u8 = b'|';
const KEPT: u8 = b'=';
const FAILED: u8 = b'!';

/// The process that copies lines to the file.
pub struct Relay {
    child: Child,
    /// The end of the pipe that it reads. While somebody has this, nobody who writes is told that there is no
    /// reader, if the process is killed.
    from: OwnedFd,
    /// The file; `None` if only the process has it.
    path: Option<PathBuf>,
}

impl Relay {
    /// The file that `logto` names; `None` if it is that of the starter.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// Makes a file the standard output and error of the emperor, and thereby of the vassals. The lines of both
/// programs and of the apps are appended to it. If another program truncates the file (logrotate's
/// `copytruncate`), the next line goes to its beginning. If `has_log`, the file may be the log already.
///
/// # Errors
/// open(2); ENXIO for a fifo without a reader; its filesystem does not answer.
pub fn log_to(path: &Path, has_log: bool) -> Result<Option<Relay>> {
    let deputy = Deputy::start(NAME, |link| serve(path, has_log, &link))?;
    let failed = |why: &str| Error::new("open", path.display(), why);
    let (answer, file) = match deputy.hear(PATIENCE) {
        Some(Ok(Received::Packet(answer, file))) => (answer, file),
        None => {
            deputy.end();
            return Err(failed(&format!(
                "not done after {}: does its filesystem answer?",
                Elapsed(PATIENCE)
            )));
        }
        Some(_) => return Err(failed("who was to open it has ended")),
    };
    let log = || format!("to {}", path.display());
    match (answer.split_first(), file) {
        (Some((&OPENED, _)), Some(file)) => {
            become_output(&file).context("log", log())?;
            Ok(None)
        }
        (Some((&RELAYED, _)), _) => {
            let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("log", log())?;
            send(&deputy.link, &[RELAYED], Some(&from)).context("log", log())?;
            become_output(&to).context("log", log())?;
            Ok(Some(Relay { child: deputy.into_child(), from, path: Some(path.to_owned()) }))
        }
        (Some((&KEPT, _)), _) => Ok(None),
        (Some((&FAILED, error)), _) => Err(Error::from_bytes(error).unwrap_or_else(|| failed("no reason"))),
        _ => Err(failed("who was to open it is not understood")),
    }
}

/// Where standard error is a file of a filesystem that others serve, leaves it to a process that copies lines
/// to it, as [`log_to`] does. No filesystem is asked.
///
/// # Errors
/// EMFILE, ENFILE (pipe2(2)); as [`deputy::start`].
pub fn relay_standard_error() -> Result<Option<Relay>> {
    let (output, log) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let look = |fd: BorrowedFd<'_>| {
        statx(fd, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO)
    };
    let Ok(file) = look(log) else { return Ok(None) };
    let is_regular = FileType::from_raw_mode(file.stx_mode.into()) == FileType::RegularFile;
    if !is_regular || mount_of(log).is_none_or(|mount| mount.is_local()) {
        return Ok(None);
    }
    let id = |file: &Statx| (file.stx_dev_major, file.stx_dev_minor, file.stx_ino);
    let is_output = look(output).is_ok_and(|other| id(&other) == id(&file));
    let what = "the copying of standard error";
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("start", what)?;
    let kept = fcntl_dupfd_cloexec(&from, 3).context("start", what)?;
    let child = deputy::start(NAME, kept, |from| {
        let _ = set_parent_process_death_signal(None);
        log::copy_from(&from);
    })?;
    rustix::stdio::dup2_stderr(&to).context("start", what)?;
    if is_output {
        rustix::stdio::dup2_stdout(&to).context("start", what)?;
    }
    Ok(Some(Relay { child, from, path: None }))
}

/// After an upgrade: watches the process that copies lines to the file already.
pub fn resume(path: &Path) -> Option<Relay> {
    let own = format!("/proc/self/task/{}/children", getpid());
    let children = String::from_utf8_lossy(&files::read_file(&own).ok()?).into_owned();
    let is_it = |pid: &&str| {
        let name = files::read_file(&format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_ascii_end() == NAME.to_bytes())
    };
    let pid =
        children.split_ascii_whitespace().find(is_it).and_then(|pid| Pid::from_raw(pid.parse().ok()?))?;
    let from = open(c"/proc/self/fd/1", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
    Some(Relay { child: Child { pid, pidfd }, from, path: Some(path.to_owned()) })
}

/// Whether lines are copied to the same file as before an upgrade, by the settings of then and of now. The
/// emperor may have become another user since, who cannot open the file again.
pub fn is_relayed(before: &[PlainSetting], now: &[PlainSetting]) -> bool {
    let file = |settings: &[PlainSetting]| {
        settings.iter().rfind(|setting| setting.key == b"logto").map(|setting| setting.value.clone())
    };
    let is_pipe = fstat(rustix::stdio::stdout())
        .is_ok_and(|log| FileType::from_raw_mode(log.st_mode) == FileType::Fifo);
    is_pipe && file(before).is_some_and(|before| Some(before) == file(now))
}

/// Called for each child that has ended: starts the process that copies anew if the child was it.
pub fn ended(relay: &mut Option<Relay>, pid: Pid) {
    let Some(Relay { child, from, path }) = relay.as_mut().filter(|relay| relay.child.pid == pid) else {
        return;
    };
    // Lines that nobody reads are counted as lost.
    let Some(path) = path else { return };
    let began = fcntl_dupfd_cloexec(&*from, 3).context("start", "the copying of the log");
    match began.and_then(|from| deputy::start(NAME, from, |from| copy(&from, open_log(path)))) {
        Ok(begun) => {
            *child = begun;
            log!("pid {pid}, which copied lines to {}, has ended: started anew", path.display());
        }
        Err(error) => {
            *relay = None;
            log!("{error}");
        }
    }
}

/// At the emperor's end: gives up the log, and waits a short time until the last lines are in the file.
pub fn finish(relay: Option<Relay>) {
    let Some(Relay { child: Child { pidfd: Some(pidfd), .. }, .. }) = relay else { return };
    log::finish();
    if open(c"/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|null| become_output(&null))
        .is_ok()
    {
        wait_for(&pidfd, FINISHING);
    }
}

/// In the deputy: opens the file, answers, and copies lines if nobody else is to have the file.
fn serve(path: &Path, has_log: bool, link: &OwnedFd) {
    if has_log && is_log(path) {
        tell(link, &[KEPT], None);
        return;
    }
    match open_log(path) {
        Ok(file) if is_local(&file) => {
            tell(link, &[OPENED], Some(&file));
        }
        Ok(file) => {
            if tell(link, &[RELAYED], None)
                && wait_for(link, PATIENCE)
                && let Ok(Received::Packet(_, Some(from))) = receive(link)
            {
                copy(&from, Ok(file));
            }
        }
        Err(error) => {
            tell(link, &[&[FAILED], &*error.to_bytes()].concat(), None);
        }
    }
}

/// In the deputy: copies until nobody has the other end of the pipe. Without the file, reads only: otherwise
/// the pipe would be full, and apps would wait.
fn copy(from: &OwnedFd, to: Result<OwnedFd>) {
    // The last lines come when the emperor has ended.
    let _ = set_parent_process_death_signal(None);
    let to = to.or_else(|_| open(c"/dev/null", OFlags::WRONLY, Mode::empty()).context("open", "/dev/null"));
    // This process itself must not have the other end.
    if let Ok(to) = to
        && become_output(&to).is_ok()
    {
        log::copy_from(from);
    }
}

fn open_log(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
    // Opening a fifo must not wait for a reader. The descriptor itself must block, because apps expect that.
    let file = Walk::default().open_to_change(path, flags | OFlags::NONBLOCK, mode);
    let file = file.context("open", path.display())?;
    let blocking = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags - OFlags::NONBLOCK));
    blocking.context("open", path.display())?;
    Ok(file)
}

/// Whether nobody serves the filesystem of a file but this kernel. A file that is not regular is no
/// filesystem's.
fn is_local(file: &OwnedFd) -> bool {
    let is_regular =
        fstat(file).is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::RegularFile);
    !is_regular || mount_of(file.as_fd()).is_some_and(|mount| mount.is_local())
}

/// Whether a file is the log already, as after an upgrade.
fn is_log(path: &Path) -> bool {
    let (log, there) = (fstat(rustix::stdio::stdout()), stat(path));
    log.and_then(|log| there.map(|there| (log.st_dev, log.st_ino) == (there.st_dev, there.st_ino)))
        == Ok(true)
}

fn become_output(file: &OwnedFd) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdout(file)?;
    rustix::stdio::dup2_stderr(file)
}

/// Waits until a descriptor is ready, or the time is over.
fn wait_for(fd: &OwnedFd, time: Duration) -> bool {
    let limit = Timespec::try_from(time).ok();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], limit.as_ref()).is_ok_and(|count| count > 0)
}
