//! The relay: a process that appends to a file what the app and the commands of hooks write.
//!
//! They keep their standard output for as long as they live, so that a file could neither be rotated nor hang
//! without them. So they have a pipe, and the relay copies. It is created before the change of root, and
//! keeps the directory of the file, in which it makes the file anew when that was renamed. For that it has
//! the rights of PID 1 from before the privilege drop.
//!
//! Its filesystem may be one that others serve. Then a second process writes, and the relay drops lines while
//! that one waits, so that the app never does. How many were dropped is told in the file.
//!
//! Nobody waits for a relay: PID 1 hears of its end neither by a signal nor by wait(2), so that it is no
//! process of the vassal's that would have to end. It ends with the last one who has the pipe: what a command
//! leaves running goes on to write.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fcntl_setfl, fstat, statat};
use rustix::io::{Errno, read};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, set_parent_process_death_signal, waitpid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::error::{Cause, Context, Error, Result};
use crate::identity::held;
use crate::log;
use crate::mount::ops;
use crate::outside;
use crate::path::{self, Walk};
use crate::protocol::{Received, receive, send};
use crate::sys::clone::{self, Child, Side, clone3_unheard};
use crate::sys::fd;

/// How much is copied at a time: as much as a pipe holds.
const COPIED_MAX: usize = 64 << 10;
/// How much is copied before a question is answered, as somebody may write without end.
const TURNS_MAX: usize = 64;
/// How much of the end of the output is kept, for its last line.
const END_MAX: usize = 512;
/// The longest line that is quoted.
const QUOTED_MAX: usize = 240;
/// How long PID 1 waits for an answer, and at its end for the last lines to be in the file.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long the relay itself waits for the process that writes.
const PATIENCE_OF_RELAY: Duration = Duration::from_millis(200);
/// How long a relay that has nothing more to do takes to end.
const ENDING: Duration = Duration::from_millis(5);

/// The question of PID 1 for the last line, and the beginning of the answer.
const LAST_LINE: &[u8] = b"?";

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    link: OwnedFd,
    /// The file.
    pub path: PathBuf,
}

impl Relay {
    /// Starts a relay to a file, or to standard error if the path is empty. Returns it with the end of the
    /// pipe to write to.
    ///
    /// # Errors
    /// No pipe, socket or process can be created.
    pub fn start(path: &Path) -> Result<(Self, OwnedFd)> {
        Self::try_start(path).context("start", "the relay of the output")
    }

    fn try_start(path: &Path) -> rustix::io::Result<(Self, OwnedFd)> {
        let (link, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        // The app's user may open /dev/stderr by name.
        let _ = fchmod(&to, Mode::from_raw_mode(0o622));
        match clone3_unheard()? {
            Side::Parent(child) => Ok((Self { child, link, path: path.to_owned() }, to)),
            Side::Child => {
                serve(path, from, theirs);
                clone::exit(0)
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// What is readable when [`Relay::opened`] has an answer.
    pub fn link(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }

    /// Whether the file could be opened, once that is known.
    pub fn opened(&self) -> Option<Result<()>> {
        let failed = || Error::new("open", "the file", "the process that was to do it has ended");
        match receive(&self.link) {
            Ok(Received::Nothing) => None,
            Ok(Received::Packet(error, _)) if error.is_empty() || error == [0] => Some(Ok(())),
            Ok(Received::Packet(error, _)) => Some(Err(Error::from_bytes(&error).unwrap_or_else(failed))),
            _ => Some(Err(failed())),
        }
    }

    /// The last line that came through the pipe, once all that is in it was copied; empty if nothing came.
    /// `None` without an answer within 250 ms, as when the filesystem of the file does not answer.
    pub fn last_line(&self) -> Option<String> {
        let _ = send(&self.link, LAST_LINE, None);
        is_ready(&self.link, PATIENCE);
        match receive(&self.link) {
            Ok(Received::Packet(line, _)) => Some(String::from_utf8_lossy(line.get(1..)?).into_owned()),
            _ => None,
        }
    }
}

/// Waits until all that is in the pipe was copied, up to 250 ms, as [`Relay::last_line`]. The relay ends when
/// nobody is left who could write.
impl Drop for Relay {
    fn drop(&mut self) {
        let _ = shutdown(&self.link, Shutdown::Write);
        is_ready(&self.link, PATIENCE);
        if let Some(pidfd) = &self.child.pidfd {
            is_ready(pidfd, ENDING);
        }
        let unheard = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());
        let _ = waitpid(Some(self.child.pid), WaitOptions::NOHANG | unheard);
    }
}

/// Waits until there is something to read; returns whether there is.
fn is_ready(fd: &OwnedFd, time: Duration) -> bool {
    let limit = Timespec::try_from(time).ok();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0)
}

/// The file, by its directory, in which it may be renamed.
struct File {
    directory: OwnedFd,
    name: CString,
    /// Device and inode of the file that is open.
    id: (u64, u64),
}

impl File {
    /// Opens the file, as the standard output and error of this process.
    fn open(directory: OwnedFd, name: CString) -> Result<Self, Cause> {
        // A copy of the mount that is in no namespace: the old root can be unmounted all the same.
        let copy =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let directory = open_tree(&directory, c"", copy).unwrap_or(directory);
        let mut file = Self { directory, name, id: (0, 0) };
        file.open_anew()?;
        Ok(file)
    }

    fn open_anew(&mut self) -> Result<(), Cause> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        let because = |why: &str| Err(Cause::Because(why.into()));
        let opened = match path::open_to_change_in(&self.directory, &self.name, flags, mode) {
            Err(Cause::Os(Errno::LOOP)) => return because("it is a symbolic link: write what it leads to"),
            Err(Cause::Os(Errno::NXIO)) => return because("it is no regular file"),
            opened => opened?,
        };
        let there = fstat(&opened)?;
        if FileType::from_raw_mode(there.st_mode) != FileType::RegularFile {
            return because("it is no regular file");
        }
        become_output(&opened)?;
        self.id = (there.st_dev, there.st_ino);
        Ok(())
    }

    /// Opens the file anew if another one, or none, has its name. Goes on with the old one if that fails.
    fn renew(&mut self) {
        let there = statat(&self.directory, &*self.name, AtFlags::SYMLINK_NOFOLLOW);
        if there.map(|there| (there.st_dev, there.st_ino)) != Ok(self.id) {
            let _ = self.open_anew();
        }
    }
}

/// The life of the relay.
fn serve(path: &Path, from: OwnedFd, link: OwnedFd) {
    let _ = rustix::thread::set_name(c"vassal-log");
    // Answers are for PID 1 alone. The link to the emperor tells of the end of PID 1, and the pipe has to end
    // with those who write.
    outside::ask_over(None);
    fd::close_all_but([from.as_raw_fd(), link.as_raw_fd()]);
    let _ = rustix::process::chdir(c"/");
    let _ = fcntl_setfl(&from, OFlags::NONBLOCK);
    let entry = Walk::default().entry(path);
    let is_local =
        |directory: &OwnedFd| ops::mount_of(directory.as_fd()).is_some_and(|mount| mount.is_local());
    if entry.as_ref().map_or(true, |(directory, _)| is_local(directory)) {
        let is_stream = path.as_os_str().is_empty();
        let file = if is_stream { None } else { open(path, entry, &link) };
        if is_stream || file.is_some() {
            give_up_rights();
            copy(&from, &mut Some(link), file);
        }
        return;
    }
    let Ok((inner, to)) = pipe_with(PipeFlags::CLOEXEC) else { return };
    let relay = rustix::process::getpid();
    match clone3_unheard() {
        Ok(Side::Child) => {
            drop((from, to));
            // Without the relay it would be a child of PID 1's, which PID 1 would wait for at its end. The
            // relay ends first if the file cannot be opened in time.
            let _ = clone::die_with(relay);
            if let Some(file) = open(path, entry, &link) {
                let _ = set_parent_process_death_signal(None);
                drop(link);
                copy(&inner, &mut None, Some(file));
            }
        }
        Ok(Side::Parent(writer)) => {
            drop((entry, inner));
            let _ = become_output(&to);
            drop(to);
            give_up_rights();
            let mut link = Some(link);
            copy(&from, &mut link, None);
            if let (Some(link), Some(pidfd)) = (&link, &writer.pidfd) {
                // Nobody has the inner pipe any more: that process ends when it has written all.
                let _ = become_output(link);
                is_ready(pidfd, PATIENCE_OF_RELAY);
            }
        }
        Err(_) => {}
    }
}

/// Opens the file, and tells PID 1 whether it could be opened.
fn open(path: &Path, entry: Result<(OwnedFd, CString), Cause>, link: &OwnedFd) -> Option<File> {
    let opened =
        entry.and_then(|(directory, name)| File::open(directory, name)).context("open", path.display());
    let _ = send(link, &opened.as_ref().map_or_else(Error::to_bytes, |_| vec![0]), None);
    give_up_rights();
    opened.ok()
}

/// Makes a file all three standard descriptors, so that nothing of the starter's stays open.
fn become_output(file: &OwnedFd) -> rustix::io::Result<()> {
    (0..3).try_for_each(|number| fd::place(file, number))
}

/// Keeps only the right to open the file anew in a directory of another user's. The app may be root in its
/// jail.
fn give_up_rights() {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let kept = held().map_or(CapabilitySet::empty(), |has| has.permitted & CapabilitySet::DAC_OVERRIDE);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    let _ = set_capabilities(None, sets);
}

/// Copies until nobody is left who could write. Closes the link as soon as all was copied after PID 1 has
/// shut it down.
fn copy(from: &OwnedFd, link: &mut Option<OwnedFd>, mut file: Option<File>) {
    let (mut buffer, mut end) = (vec![0; COPIED_MAX], Vec::new());
    loop {
        // Without a link, the pipe twice.
        let mut fds = [from, link.as_ref().unwrap_or(from)].map(|fd| PollFd::new(fd, PollFlags::IN));
        let _ = poll(&mut fds, None);
        let is_asked = link.is_some() && !fds[1].revents().is_empty();
        for _ in 0..if is_asked { TURNS_MAX } else { 1 } {
            let text = match read(from, &mut buffer) {
                // Tells at least how many lines were lost.
                Ok(0) => return log::copy(b""),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(_) => break,
            };
            file.iter_mut().for_each(File::renew);
            log::copy(text);
            // A line may come in pieces.
            end.extend_from_slice(text.get(text.len().saturating_sub(END_MAX)..).unwrap_or_default());
            end.drain(..end.len().saturating_sub(END_MAX));
        }
        if let (true, Some(asker)) = (is_asked, &*link) {
            if let Ok(Received::Packet(..)) = receive(asker) {
                let _ = send(asker, &[LAST_LINE, last_line(&end)].concat(), None);
            } else {
                log::copy(b"");
                *link = None;
            }
        }
    }
}

/// The last line of a text that has more than blanks in it.
fn last_line(text: &[u8]) -> &[u8] {
    let mut lines = text.rsplit(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    line.get(..QUOTED_MAX).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_with_something_in_it_is_quoted() {
        for (text, line) in [
            ("", ""),
            ("\n \n", ""),
            ("one\ntwo", "two"),
            ("one\n  two \r\n\n", "two"),
            (&*"x".repeat(300), &*"x".repeat(QUOTED_MAX)),
        ] {
            assert_eq!(last_line(text.as_bytes()), line.as_bytes(), "{text:?}");
        }
    }
}
