//! What takes a process outside of a user namespace.
//!
//! All users without a number in a user namespace look alike there: root of the host, which is trusted, and
//! everybody else. So whoever lives in a new one asks a process that has stayed outside. That process gets
//! the file as a descriptor and answers with the owner as it sees it. It does not wait for a filesystem that
//! another process serves.
//!
//! That process also sets the limits of the cgroup that the emperor has made, until it is told that there
//! are no more. Only PID 1 asks for them, before anything of the vassal's runs.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, PROC_SUPER_MAGIC, StatxFlags, fstatfs, statx};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::geteuid;

use crate::error::{Context, Result};
use crate::protocol::{Received, receive, send};

/// The number that a user namespace shows for every user without one (`/proc/sys/kernel/overflowuid`).
const OVERFLOW_UID: u32 = 65534;
/// How long an answer may take. Who does not get it in time does not trust the file.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// The socket to the process outside, if there is one.
static OUTSIDE: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The number of the user, outside if it has none here.
    pub uid: u32,
    /// Whether it is root, or the user of the process that was asked.
    pub is_ours: bool,
}

impl Owner {
    /// The owner of a file that was opened with O_PATH, which is `uid` here.
    pub fn of(file: &OwnedFd, uid: u32) -> Self {
        if uid != OVERFLOW_UID {
            return Self::here(uid);
        }
        // The names in a procfs, and what its links lead to, are the kernel's word.
        let is_kernels = || fstatfs(file).is_ok_and(|there| there.f_type == PROC_SUPER_MAGIC);
        let of_kernel = || is_kernels().then_some(Self { uid, is_ours: true });
        ask(file).or_else(of_kernel).unwrap_or_else(|| Self::here(uid))
    }

    fn here(uid: u32) -> Self {
        Self { uid, is_ours: uid == 0 || uid == geteuid().as_raw() }
    }

    fn to_bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.uid.to_le_bytes();
        [a, b, c, d, self.is_ours.into()]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, is_ours] = bytes.try_into().ok()?;
        Some(Self { uid: u32::from_le_bytes([a, b, c, d]), is_ours: is_ours == 1 })
    }
}

/// A connection between a process that asks and one that answers.
///
/// # Errors
/// EMFILE, ENFILE (socketpair(2)).
pub fn connection() -> Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).context("create", "a pair of sockets")
}

/// Has this process, and those that it creates, ask over this socket from now on; `None` ends that.
pub fn ask_over(socket: Option<OwnedFd>) {
    if let Ok(mut outside) = OUTSIDE.lock() {
        *outside = socket;
    }
}

/// Asks whose a file is; `None` if nobody answers.
fn ask(file: &OwnedFd) -> Option<Owner> {
    Owner::from_bytes(&consult(b"?", Some(file))?)
}

/// Asks something; `None` if nobody answers.
fn consult(question: &[u8], file: Option<&OwnedFd>) -> Option<Vec<u8>> {
    let outside = OUTSIDE.lock().ok()?;
    // A connection for each question: an answer to another process, or one that came too late, is no answer
    // to this one.
    let (ours, theirs) = outside.as_ref().and_then(|_| connection().ok())?;
    send(&ours, question, file).ok()?;
    send(outside.as_ref()?, b"?", Some(&theirs)).ok()?;
    drop(theirs);
    retry_on_intr(|| poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&PATIENCE))).ok()?;
    match receive(&ours).ok()? {
        Received::Packet(answer, None) => Some(answer),
        Received::Packet(_, Some(_)) | Received::Nothing | Received::Closed => None,
    }
}

/// Has the process outside write to a file of the vassal's cgroup.
///
/// # Errors
/// As write(2); EACCES if nobody does it.
pub fn set_limit(file: &Path, value: &[u8]) -> Result<(), Errno> {
    let answer = consult(&[file.as_os_str().as_bytes(), b"\0", value].concat(), None);
    match answer.and_then(|answer| Some(i32::from_le_bytes(answer.try_into().ok()?))) {
        Some(0) => Ok(()),
        Some(errno) => Err(Errno::from_raw_os_error(errno)),
        None => Err(Errno::ACCESS),
    }
}

/// Tells the process outside that all limits are set.
pub fn end_limits() {
    if let Ok(outside) = OUTSIDE.lock() {
        let _ = outside.as_ref().map(|outside| send(outside, b".", None));
    }
}

/// Sets a limit of a vassal's cgroup: the file and its value.
pub type SetLimit<'a> = dyn Fn(&Path, &[u8]) -> Result<(), Errno> + 'a;

/// Outside: answers until nobody can ask any more.
pub fn serve(socket: &OwnedFd, mut set_limit: Option<&SetLimit<'_>>) {
    loop {
        // ENOMEM is a wake-up without news.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], None);
        if !answer(socket, &mut set_limit) {
            return;
        }
    }
}

/// Outside: answers the next question, if there is one. Returns whether there can be more.
pub fn answer(socket: impl AsFd, set_limit: &mut Option<&SetLimit<'_>>) -> bool {
    let client = match receive(socket) {
        Ok(Received::Packet(_, Some(client))) => client,
        Ok(Received::Packet(_, None)) => {
            *set_limit = None;
            return true;
        }
        Ok(Received::Nothing) => return true,
        Ok(Received::Closed) | Err(_) => return false,
    };
    match receive(&client) {
        Ok(Received::Packet(_, Some(file))) => {
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            if let Ok(there) = statx(&file, c"", flags, StatxFlags::UID) {
                let _ = send(&client, &Owner::here(there.stx_uid).to_bytes(), None);
            }
        }
        Ok(Received::Packet(limit, None)) => {
            let mut parts = limit.splitn(2, |byte| *byte == 0);
            if let (Some(set_limit), Some(file), Some(value)) = (set_limit, parts.next(), parts.next()) {
                let file = Path::new(OsStr::from_bytes(file));
                let errno = set_limit(file, value).err().map_or(0, Errno::raw_os_error);
                let _ = send(&client, &errno.to_le_bytes(), None);
            }
        }
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn limits_are_set_until_all_are_and_owners_told_to_the_end() {
        let (ours, theirs) = connection().unwrap();
        let written = std::thread::spawn(move || {
            let written = RefCell::new(Vec::new());
            let set = |file: &Path, value: &[u8]| {
                written.borrow_mut().push((file.to_owned(), value.to_vec()));
                if value == b"x" { Err(Errno::INVAL) } else { Ok(()) }
            };
            serve(&theirs, Some(&set));
            written.into_inner()
        });
        let file = rustix::fs::open(c"/run", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
        ask_over(Some(ours));
        assert_eq!(set_limit(Path::new("/c=g/pids.max"), b"7 \n"), Ok(()));
        assert_eq!(set_limit(Path::new("/c=g/pids.max"), b"x"), Err(Errno::INVAL));
        end_limits();
        assert_eq!(set_limit(Path::new("/c=g/pids.max"), b"8"), Err(Errno::ACCESS));
        assert_eq!(Owner::of(&file, OVERFLOW_UID), Owner { uid: 0, is_ours: true });
        ask_over(None);
        assert_eq!(set_limit(Path::new("/c=g/pids.max"), b"8"), Err(Errno::ACCESS));
        assert_eq!(Owner::of(&file, 7), Owner { uid: 7, is_ours: geteuid().as_raw() == 7 });
        let path = || Path::new("/c=g/pids.max").to_owned();
        assert_eq!(written.join().unwrap(), [(path(), b"7 \n".to_vec()), (path(), b"x".to_vec())]);
    }
}
