//! Whose a file is, where a user namespace does not tell.
//!
//! All users without a number in a user namespace look alike there: root of the host, which is trusted, and
//! everybody else. So whoever lives in a new one asks a process that has stayed outside. That process gets
//! the file as a descriptor and answers with the owner as it sees it. It does not wait for a filesystem that
//! another process serves.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::retry_on_intr;
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
        let told = if uid == OVERFLOW_UID { ask(file) } else { None };
        told.unwrap_or_else(|| Self::here(uid))
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
    let outside = OUTSIDE.lock().ok()?;
    // A connection for each question: an answer to another process, or one that came too late, is no answer
    // to this one.
    let (ours, theirs) = outside.as_ref().and_then(|_| connection().ok())?;
    send(&ours, b"?", Some(file)).ok()?;
    send(outside.as_ref()?, b"?", Some(&theirs)).ok()?;
    drop(theirs);
    retry_on_intr(|| poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&PATIENCE))).ok()?;
    match receive(&ours).ok()? {
        Received::Packet(answer, None) => Owner::from_bytes(&answer),
        Received::Packet(_, Some(_)) | Received::Nothing | Received::Closed => None,
    }
}

/// Outside: answers until nobody can ask any more.
pub fn serve(socket: &OwnedFd) {
    loop {
        // ENOMEM is a wake-up without news.
        let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], None);
        if !answer(socket) {
            return;
        }
    }
}

/// Outside: answers the next question, if there is one. Returns whether there can be more.
pub fn answer(socket: impl AsFd) -> bool {
    let asker = match receive(socket) {
        Ok(Received::Packet(_, Some(asker))) => asker,
        Ok(Received::Packet(_, None) | Received::Nothing) => return true,
        Ok(Received::Closed) | Err(_) => return false,
    };
    if let Ok(Received::Packet(_, Some(file))) = receive(&asker) {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        if let Ok(there) = statx(&file, c"", flags, StatxFlags::UID) {
            let _ = send(&asker, &Owner::here(there.stx_uid).to_bytes(), None);
        }
    }
    true
}
