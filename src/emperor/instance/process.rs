//! The process of an instance: its descriptors, and the messages on its link.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::event::epoll;
use rustix::fs::readlink;
use rustix::process::Pid;

use super::cgroup_removal::Removals;
use super::cgroups::Cgroup;
use super::id_shares::Share;
use crate::cgroup;
use crate::emperor::at_work::{self, Work};
use crate::emperor::core::instance::ProcessFacts;
use crate::emperor::core::owner::Owner;
use crate::emperor::core::saved::SavedProcess;
use crate::error::{Context, Described, Error, Result};
use crate::files;
use crate::protocol::{self, FromVassal, Received, SocketId, ToVassal};
use crate::sys::{child, fd};

/// System calls that look for a file and have its path as their first argument.
const BY_FIRST: [libc::c_long; 2] = [libc::SYS_chdir, libc::SYS_execve];
/// Those that have it as their second argument.
const BY_PATH: [libc::c_long; 4] =
    [libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_statx];
/// System calls that read a file and have its descriptor as their first argument.
const BY_FD: [libc::c_long; 4] = [libc::SYS_read, libc::SYS_pread64, libc::SYS_getdents64, libc::SYS_fchdir];

/// A longer path is cut off.
const PATH_MAX: usize = 1024;

/// The process of an instance; takes one descriptor.
#[derive(Debug)]
pub struct Process {
    /// The pid as seen by the emperor.
    pub pid: Pid,
    /// The emperor's end of its link; `None` once it is closed.
    pub link: Option<OwnedFd>,
    /// The owner of the vassal's file.
    pub owner: Owner,
    /// Whether the process runs as the owner.
    pub owned: bool,
    /// Its cgroup, if the emperor has made one.
    pub cgroup: Option<Cgroup>,
    /// The FUSE connections that were [noted](crate::mount::fuse::note) for the process.
    pub noted: Vec<u64>,
    /// The sockets that it uses, if it has said so to this program.
    pub sockets: Option<Vec<SocketId>>,
    /// The IDs that no other vassal has, if the emperor has shares of its IDs for them.
    pub ids: Option<Share>,
    /// How often those of its processes have waited that waited for a disk when they were last looked at.
    pub reads: Cell<u64>,
}

/// The next packet of a link.
#[derive(Debug)]
pub enum Packet {
    /// There is none for now.
    Nothing,
    /// A message, with the descriptor that came with it.
    Message(FromVassal, Option<OwnedFd>),
    /// The link has ended and is closed now; the text is the mistake that was the reason, if any.
    End(Option<String>),
}

impl Process {
    /// The process in the form for the next program.
    pub fn save(&self) -> SavedProcess {
        let cgroup = self.cgroup.as_ref().map(|cgroup| cgroup.path().as_os_str().as_bytes().to_vec());
        SavedProcess {
            link: self.link.as_ref().map(|link| link.as_raw_fd()),
            owned: self.owned,
            cgroup: cgroup.unwrap_or_default(),
        }
    }

    /// Takes over a process of the program before the upgrade.
    ///
    /// # Errors
    /// EBADF: its descriptor is missing.
    pub fn resume(facts: &ProcessFacts, saved: &SavedProcess, removals: &Rc<Removals>) -> Result<Self> {
        let take = |number| fd::inherited(number).context("take over", "a descriptor");
        let pid = Pid::from_raw(facts.pid);
        let cgroup = Some(&*saved.cgroup).filter(|path| !path.is_empty());
        // Taken before anything is checked, so that it does not stay open.
        let link = saved.link.map(take).transpose();
        Ok(Self {
            pid: pid.ok_or_else(|| Error::new("take over", "a process", "it has no pid"))?,
            link: link?,
            owner: facts.owner,
            owned: saved.owned,
            cgroup: cgroup.map(|path| Cgroup::new(OsStr::from_bytes(path).into(), removals)),
            noted: Vec::new(),
            sockets: None,
            ids: None,
            reads: Cell::default(),
        })
    }

    /// The user as whom PID 1 binds sockets: root, or else the owner of the vassal's file.
    pub fn user(&self) -> Owner {
        if self.owned { self.owner } else { Owner::default() }
    }

    /// The pid as a number.
    pub fn number(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Has `links` report packets on the link, with the pid.
    ///
    /// # Errors
    /// ENOMEM, ENOSPC at the user's limit of watches (epoll_ctl(2)).
    pub fn watch_link(&self, links: &OwnedFd) -> Result<()> {
        let Some(link) = &self.link else { return Ok(()) };
        let pid = epoll::EventData::new_u64(self.number() as u64);
        epoll::add(links, link, pid, epoll::EventFlags::IN).context("listen to", "link")
    }

    /// Takes the next packet off the link.
    pub fn receive(&mut self, links: &OwnedFd) -> Packet {
        let Some(link) = &self.link else { return Packet::Nothing };
        let mistake = match protocol::receive(link) {
            Ok(Received::Nothing) => return Packet::Nothing,
            Ok(Received::Packet(packet, file)) => match FromVassal::decode(&packet) {
                Some(message) => return Packet::Message(message, file),
                None => Some(format!("sent {} bytes that are no message", packet.len())),
            },
            Ok(Received::Closed) => None,
            Err(errno) => Some(format!("read from its link: {}", Described(errno))),
        };
        self.close_link(links);
        Packet::End(mistake)
    }

    /// Closes the emperor's end of the link. The registration is removed explicitly: a child that has not
    /// reached its exec yet holds a copy of the descriptor, which would keep the registration alive.
    pub fn close_link(&mut self, links: &OwnedFd) {
        if let Some(link) = self.link.take() {
            let _ = epoll::delete(links, &link);
        }
    }

    /// Sends a message. A failure is ignored: a process that does not read, or is gone, does not answer, and
    /// every wait for an answer has a deadline.
    pub fn send(&self, message: &ToVassal, file: Option<&OwnedFd>) {
        if let Some(link) = &self.link {
            let _ = protocol::send(link, &message.encode(), file);
        }
    }

    /// Sends SIGKILL. In a pid namespace of its own, all processes that it has started end with it. Processes
    /// that wait for a FUSE daemon end when the connection does.
    ///
    /// Returns whether its death will be reported. It will not if the process has ended and was reaped by
    /// another program, such as a shell script that was in the place of this program for a moment during an
    /// upgrade.
    pub fn kill(&self) -> bool {
        child::kill(self.pid)
    }

    /// The file that PID 1 looks for, or reads, in a system call, if it is in one. Before its hooks PID 1
    /// reads its configuration, which may be on a filesystem that hangs. `None` also if the kernel does not
    /// tell.
    pub fn waits_for(&self) -> Option<String> {
        let of_process = |file: &str| format!("/proc/{}/{file}", self.number());
        let call = files::read_file(&of_process("syscall")).ok()?;
        // The number of the call, and its arguments in the form `0x7f...`.
        let mut words = call.split(|&byte| byte == b' ');
        let number = std::str::from_utf8(words.next()?).ok()?.parse::<i32>().ok()?;
        let call = libc::c_long::from(number);
        let (is_by_fd, is_second) = (BY_FD.contains(&call), BY_PATH.contains(&call));
        if !(is_by_fd || is_second || BY_FIRST.contains(&call)) {
            return None;
        }
        let argument = words.nth(is_second.into())?;
        let digits = argument.iter().filter_map(|&byte| char::from(byte).to_digit(16));
        let path = digits.fold(0, |sum: u64, digit| sum << 4 | u64::from(digit));
        if is_by_fd {
            let name = readlink(of_process(&format!("fd/{path}")), Vec::new()).ok()?;
            return Some(name.to_string_lossy().into_owned()).filter(|name| name.starts_with('/'));
        }
        let memory = files::open_file_of_system(&of_process("mem")).ok()?;
        let mut text = [0; PATH_MAX];
        let length = rustix::io::pread(memory, &mut text, path).ok()?;
        let text = text.get(..length)?.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// Whether a cgroup has frozen it: one of its own, or one above.
    pub fn is_frozen(&self) -> bool {
        cgroup::is_frozen(self.number(), self.cgroup.as_ref().map(Cgroup::path))
    }

    /// Whether it, or a process that it has started, does anything but wait since the last call.
    pub fn is_at_work(&self) -> bool {
        match at_work::look(self.number()) {
            Work::Runs => true,
            Work::Reads(count) => self.reads.replace(count) != count,
            Work::Waits => false,
        }
    }

    /// How much memory its cgroup takes, in bytes; `None` if there is none, or the kernel does not say.
    pub fn memory(&self) -> Option<u64> {
        cgroup::number(&self.cgroup.as_ref()?.path().join("memory.current"))
    }

    /// How many processes of its cgroup the kernel has killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, Cgroup::oom_kills)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    use std::os::fd::IntoRawFd;
    use std::time::Instant;

    #[test]
    fn a_process_that_cannot_be_taken_over_leaves_no_descriptor_open() {
        // The end of a pipe shows that the other end was closed.
        let (end, link) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let saved = SavedProcess { link: Some(link.into_raw_fd()), owned: false, cgroup: Vec::new() };
        let facts = ProcessFacts::new(0, Owner::default(), None, Instant::now());
        assert!(Process::resume(&facts, &saved, &Rc::default()).is_err());
        assert_eq!(rustix::io::read(end, &mut [0; 1]), Ok(0));
    }

    #[test]
    fn only_a_child_that_is_not_reaped_is_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let facts = ProcessFacts::new(child.id() as i32, Owner::default(), None, Instant::now());
        let process = Process::resume(&facts, &SavedProcess::default(), &Rc::default()).unwrap();
        assert!(process.kill());
        while waitid(WaitId::Pid(process.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).is_err() {}
        assert!(process.kill(), "its death will be reported");
        child.wait().unwrap();
        assert!(!process.kill(), "it was reaped");
    }
}
