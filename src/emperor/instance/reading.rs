//! What a reader does: the question, the work, and the answer.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, getppid, wait};

use super::on_demand;
use super::socket_file::{Bound, Clients, SocketFile, listen_on, look};
use super::spawner::{ReadFile, Spawner};
use crate::config::plan::Address;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::owner::Owner;
use crate::emperor::deputy::{Deputy, pull, pull_version, tell};
use crate::emperor::{links, pid_file};
use crate::error::{Context, Error, Result};
use crate::log::Elapsed;
use crate::protocol::{Received, receive};

/// How long a job may take before there is an event loop.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Likewise for a job without whose outcome the emperor would be of little use for as long as it runs. On a
/// machine that starts hundreds of programs at once, the process that does the job can have to wait for its
/// own memory.
pub const LONG_PATIENCE: Duration = Duration::from_secs(20);

/// What a reader does with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Reads a vassal's file.
    Read,
    /// Likewise, without finding out the number of its text.
    ReadOnly,
    /// Reads a file with an address.
    ReadAddress,
    /// Looks which file is there: the answer is its version, as of [`look`].
    Look,
    /// Listens there, for a vassal on demand. The answer is the socket, in the place of a copy.
    Listen,
    /// Listens there for commands to the emperor; likewise.
    ListenForCommands,
    /// Listens there for other questions to the emperor; likewise.
    ListenForQuestions,
    /// Writes the emperor's pid there.
    WritePid,
}

/// The jobs, in the order of their numbers in questions.
const JOBS: [Job; 8] = [
    Job::Read,
    Job::ReadOnly,
    Job::ReadAddress,
    Job::Look,
    Job::Listen,
    Job::ListenForCommands,
    Job::ListenForQuestions,
    Job::WritePid,
];

/// What a reader says first for each link to another directory: that directory.
const LEADS_TO: u64 = 2;
/// The emperor's answer: the link may be followed.
pub const GO_ON: &[u8] = b"go on";
/// The emperor's answer: it must not be followed, and the question is withdrawn.
pub const STAY: &[u8] = b"stay";

/// The main function of a reader: does one job after another, until the emperor has ended.
pub fn run(spawner: &Spawner, link: &OwnedFd) {
    loop {
        let _ = poll(&mut [PollFd::new(link, PollFlags::IN)], None);
        // Who hung over an earlier job may have ended.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        match receive(link) {
            Ok(Received::Packet(question, _)) => {
                let (job, path) = question.split_first().unwrap_or((&0, b""));
                let Some(job) = JOBS.get(usize::from(*job)) else { return };
                let path = Path::new(OsStr::from_bytes(path));
                if !may_follow(*job, path, link) {
                    continue;
                }
                let (packet, copy) = encode(do_job(*job, path, spawner));
                if !tell(link, &packet, copy.as_ref()) {
                    return;
                }
            }
            Ok(Received::Nothing) => {}
            Ok(Received::Closed) | Err(_) => return,
        }
    }
}

/// Tells the emperor where the file is that a job is about, if that is not the directory of its name, before
/// anybody waits there. Returns whether to go on. What hangs there says nothing of the directory, and the
/// emperor may know of it already.
fn may_follow(job: Job, path: &Path, link: &OwnedFd) -> bool {
    let (Job::Read | Job::ReadOnly | Job::ReadAddress) = job else { return true };
    links::follow(path, &mut |place| {
        let packet = [&LEADS_TO.to_le_bytes(), place.as_os_str().as_bytes()].concat();
        if !tell(link, &packet, None) {
            return true;
        }
        let _ = poll(&mut [PollFd::new(link, PollFlags::IN)], None);
        matches!(receive(link), Ok(Received::Packet(answer, _)) if answer == GO_ON)
    })
}

/// The directory to which the file is a link, if that is what the reader says. It waits for [`GO_ON`] or
/// [`STAY`].
pub fn leads_to(packet: &[u8]) -> Option<PathBuf> {
    let mut rest = packet;
    (pull(&mut rest)? == LEADS_TO).then(|| OsStr::from_bytes(rest).into())
}

/// Does a job of the emperor's own in a deputy, before there is an event loop that could wait for it. It may
/// take `patience`.
///
/// # Errors
/// Those of the job; the filesystem does not answer; or no process can be created.
pub fn do_apart(job: Job, path: &Path, patience: Duration) -> Result<ReadFile> {
    let life = |link| {
        let (packet, copy) = encode(do_own(job, path));
        tell(&link, &packet, copy.as_ref());
    };
    let deputy = Deputy::start(c"emperor-reader", life)?;
    let operation = if job == Job::WritePid { "write" } else { "listen on" };
    let failed = |reason: &str| Error::new(operation, path.display(), reason);
    let heard = deputy.hear(patience);
    deputy.end();
    match heard {
        Some(Ok(Received::Packet(packet, copy))) => decode(&packet, copy),
        Some(_) => None,
        None => {
            Some(Err(failed(&format!("not done after {}: does its filesystem answer?", Elapsed(patience)))))
        }
    }
    .unwrap_or_else(|| Err(failed("who was to do it has ended")))
}

fn do_job(job: Job, path: &Path, spawner: &Spawner) -> Result<ReadFile> {
    match job {
        Job::Read => spawner.read(path, true),
        Job::ReadOnly => spawner.read(path, false),
        Job::ReadAddress => spawner.read_address(path),
        _ => do_own(job, path),
    }
}

/// Does a job that is not about a vassal's file.
fn do_own(job: Job, path: &Path) -> Result<ReadFile> {
    let found = |version| ReadFile { version, ..ReadFile::default() };
    let clients = match job {
        Job::Read | Job::ReadOnly | Job::ReadAddress | Job::Look => return look(path).map(found),
        Job::WritePid => {
            let emperor = getppid().ok_or(Errno::SRCH).context("write a pid to", path.display())?;
            return pid_file::write_anew(path, emperor).map(|()| found(FileVersion::default()));
        }
        Job::Listen => Clients::OfApp,
        Job::ListenForCommands => Clients::Commanding,
        Job::ListenForQuestions => Clients::Asking,
    };
    let address = Address::file(path.to_owned());
    let Bound { socket, file } = match clients {
        Clients::OfApp => on_demand::open(&address)?,
        _ => listen_on(&address, clients)?,
    };
    let FileId { device, inode } = file.as_ref().map(SocketFile::id).unwrap_or_default();
    // Only the emperor removes it.
    std::mem::forget(file);
    let version = FileVersion { device, inode, ..FileVersion::default() };
    Ok(ReadFile { copy: Some(socket), ..found(version) })
}

/// A question to a reader.
pub fn question(job: Job, path: &Path) -> Vec<u8> {
    [&[job as u8], path.as_os_str().as_bytes()].concat()
}

/// An answer: numbers about the file, or an error after a zero.
fn encode(read: Result<ReadFile>) -> (Vec<u8>, Option<OwnedFd>) {
    let mut packet = Vec::new();
    match read {
        Ok(ReadFile { version, owner, copy, text, hanging, .. }) => {
            let (has_text, text) = (text.is_some().into(), text.unwrap_or_default());
            let hanging = Pid::as_raw(hanging) as u64;
            let is_program = copy.is_none().into();
            let numbers = [1, owner.uid.into(), owner.gid.into(), is_program, has_text, text, hanging];
            let mut push = |number: u64| packet.extend(number.to_le_bytes());
            numbers.into_iter().for_each(&mut push);
            version.each_number(&mut push);
            (packet, copy)
        }
        Err(error) => {
            packet.extend(0_u64.to_le_bytes());
            packet.extend(error.to_bytes());
            (packet, None)
        }
    }
}

/// Reads an answer, with the descriptor that came with it; `None` if it is not one.
///
/// # Errors
/// The error that the reader met.
pub fn decode(packet: &[u8], copy: Option<OwnedFd>) -> Option<Result<ReadFile>> {
    let mut rest = packet;
    if pull(&mut rest)? == 0 {
        return Error::from_bytes(rest).map(Err);
    }
    let mut next = || pull(&mut rest);
    let owner = Owner { uid: next()? as u32, gid: next()? as u32 };
    let (is_program, has_text) = (next()? == 1, next()? == 1);
    let text = next().filter(|_| has_text);
    let hanging = Pid::from_raw(next()? as i32);
    let version = pull_version(&mut rest)?;
    // If there is no room for a descriptor, the kernel drops it.
    Some(match copy.is_none() == is_program {
        true => Ok(ReadFile { version, owner, copy, text, hanging, ..ReadFile::default() }),
        false => Err(Error::os("receive", "the vassal's file", Errno::MFILE)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, OFlags, open};

    #[test]
    fn an_answer_says_what_was_read() {
        let version = FileVersion { modified: -1, size: 5, ..FileVersion::default() };
        let owner = Owner { uid: 7, gid: u32::MAX };
        let null = || open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
        for copy in [None, Some(null())] {
            let is_program = copy.is_none();
            let text = is_program.then_some(0);
            let hanging = Pid::from_raw(if is_program { 7 } else { 0 });
            let read = ReadFile { version, owner, copy, text, hanging, ..ReadFile::default() };
            let (packet, copy) = encode(Ok(read));
            let read = decode(&packet, copy).unwrap().unwrap();
            assert_eq!((read.version, read.owner, read.copy.is_none()), (version, owner, is_program));
            assert_eq!((read.text, read.hanging), (text, hanging));
            let other = is_program.then(null);
            assert!(decode(&packet, other).unwrap().is_err());
        }
        let error = Error::new("read", "/v/a.ini", "no luck");
        let (packet, copy) = encode(Err(error.clone()));
        assert_eq!(decode(&packet, copy).unwrap().unwrap_err(), error);
        assert!(decode(&[1; 9], None).is_none());
    }
}
