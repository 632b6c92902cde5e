//! Deputies: processes of the emperor's that do what may hang.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::emperor::core::file_version::FileVersion;
use crate::error::{Context, Result};
use crate::files;
use crate::protocol::{Received, receive, send};
use crate::running_time;
use crate::sys::clone::{self, Child, Side, clone3};
use crate::sys::fd;
use crate::sys::signal::kill_pidfd;

/// How long the emperor waits at its end for a deputy that it has killed. A deputy that hangs ends only when
/// its system call does.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// The number of descriptors that are passed to one deputy. Its link has room for some more.
const PASSED_MAX: usize = 64;

/// A process that is a copy of the emperor and does one thing. It ends with the emperor.
#[derive(Debug)]
pub struct Deputy {
    child: Child,
    /// The link to it.
    pub link: OwnedFd,
}

impl Deputy {
    /// Starts a process with the name `name`, which runs `life`. It has only the standard descriptors and its
    /// end of the link, which `life` gets. It must not drop a value copied from the emperor: that could undo
    /// something of the emperor's.
    ///
    /// # Errors
    /// EAGAIN at the limit of processes, ENOMEM, EMFILE.
    pub fn start(name: &CStr, life: impl FnOnce(OwnedFd)) -> Result<Self> {
        let mut life = Some(life);
        Self::start_one(name, &mut |link| life.take().map_or((), |life| life(link)))
    }

    /// The same for all kinds of lives, so that the program has it once.
    fn start_one(name: &CStr, life: &mut dyn FnMut(OwnedFd)) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (link, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context("create", "link")?;
        Ok(Self { child: start_one(name, theirs, life)?, link })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.child.pid
    }

    /// The process, without the link to it.
    pub fn into_child(self) -> Child {
        self.child
    }

    /// Waits for what the deputy sends; `None` if it does not do so in time. Time in which it runs does not
    /// count.
    pub fn hear(&self, time: Duration) -> Option<Result<Received, Errno>> {
        let limit = Timespec::try_from(time).ok();
        let is_ready = || {
            poll(&mut [PollFd::new(&self.link, PollFlags::IN)], limit.as_ref()).is_ok_and(|ready| ready > 0)
        };
        while !is_ready() {
            if !self.is_at_work() {
                return None;
            }
        }
        Some(receive(&self.link))
    }

    /// Whether the deputy has sent something, or has ended.
    pub fn has_said(&self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.link, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// Whether the deputy has sent something, is running, or only waits for a processor.
    pub fn is_at_work(&self) -> bool {
        if self.has_said() {
            return true;
        }
        let stat = files::read_file(&format!("/proc/{}/stat", self.child.pid.as_raw_pid()));
        // The state follows the number and the name in parentheses.
        stat.is_ok_and(|stat| stat.windows(3).any(|text| text == b") R"))
    }

    /// Sends SIGKILL. A deputy that hangs ends when its system call does. Without a pidfd, it ends when its
    /// link is closed.
    pub fn kill(&self) {
        if let Some(pidfd) = &self.child.pidfd {
            let _ = kill_pidfd(pidfd, libc::SIGKILL);
        }
    }

    /// Whether it has ended; it is no zombie then.
    pub fn is_reaped(&self) -> bool {
        !matches!(waitpid(Some(self.child.pid), WaitOptions::NOHANG), Ok(None))
    }

    /// Waits until it has ended, or the time is over.
    pub fn finish(self, until: Instant) {
        if let Some(pidfd) = &self.child.pidfd {
            ends_within(pidfd, until.saturating_duration_since(running_time::now()));
        }
        self.end();
    }

    /// Kills it, and waits a short time for its end. Returns whether it has ended.
    pub fn end(self) -> bool {
        self.kill();
        if let Some(pidfd) = &self.child.pidfd {
            ends_within(pidfd, PATIENCE);
        }
        self.is_reaped()
    }
}

/// Waits for the end of a process; returns whether it has ended.
pub fn ends_within(pidfd: &OwnedFd, time: Duration) -> bool {
    let time = Timespec::try_from(time).ok();
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], time.as_ref()).is_ok_and(|ready| ready > 0)
}

/// Starts a process that is a copy of the emperor and does one thing, as [`Deputy::start`] does. It has only
/// the standard descriptors and `kept`, which `life` gets.
///
/// # Errors
/// EAGAIN at the limit of processes, ENOMEM.
pub fn start(name: &CStr, kept: OwnedFd, life: impl FnOnce(OwnedFd)) -> Result<Child> {
    let mut life = Some(life);
    start_one(name, kept, &mut |kept| life.take().map_or((), |life| life(kept)))
}

/// The same for all kinds of lives.
fn start_one(name: &CStr, kept: OwnedFd, life: &mut dyn FnMut(OwnedFd)) -> Result<Child> {
    let emperor = rustix::process::getpid();
    match clone3(0).context("create", "process")? {
        Side::Parent(child) => Ok(child),
        Side::Child => {
            let _ = clone::die_with(emperor);
            // A search for processes named like the emperor must find the emperor only.
            let _ = rustix::thread::set_name(name);
            if let Ok(kept) = fd::keep_only(kept) {
                life(kept);
            }
            clone::exit(0)
        }
    }
}

/// Closes descriptors that other processes share with the emperor. The close of a TCP socket may take as
/// long as such a process likes (SO_LINGER, socket(7)), even if the socket is in the queue of a unix socket
/// that is closed. So the descriptors are passed to a deputy, which is killed: a process that ends does not
/// linger. Waits up to 100 ms for the end of the deputy. If no deputy can be started, the emperor closes the
/// descriptors itself.
pub fn close_apart(shared: Vec<OwnedFd>) {
    let mut closers = Vec::new();
    for part in shared.chunks(PASSED_MAX) {
        let life = |_link| {
            let _ = poll(&mut [], None);
        };
        let Ok(closer) = Deputy::start(c"emperor-closer", life) else { break };
        for fd in part {
            let _ = send(&closer.link, b"-", Some(fd));
        }
        closers.push(closer);
    }
    drop(shared);
    closers.into_iter().for_each(|closer| _ = closer.end());
}

/// Takes a number off the beginning of a packet.
pub fn pull(rest: &mut &[u8]) -> Option<u64> {
    let (number, more) = rest.split_first_chunk()?;
    *rest = more;
    Some(u64::from_le_bytes(*number))
}

/// Takes the numbers of a version off the beginning of a packet.
pub fn pull_version(rest: &mut &[u8]) -> Option<FileVersion> {
    FileVersion::from_numbers(&mut || pull(rest))
}

/// In a deputy: sends a packet as soon as there is room. Returns whether the emperor still exists.
pub fn tell(link: &OwnedFd, packet: &[u8], file: Option<&OwnedFd>) -> bool {
    loop {
        match send(link, packet, file) {
            Ok(()) => return true,
            Err(Errno::AGAIN | Errno::NOBUFS) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
}
