//! A disposable process that touches mounts in our place.
//!
//! A hung filesystem blocks whoever asks it, uninterruptibly, and a private FUSE mount answers only its owner. So the
//! question is asked by a child that has become the owner; PID 1 keeps the deadline and never waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{Pid, Signal};

use super::creds::Identity;
use super::watchdog::{Answer, Found};
use crate::error::{Context, Result};
use crate::mount::mountinfo::Owner;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::{fd, signal};

/// The longest question: a path (PATH_MAX).
const QUESTION_MAX: usize = 4096;

/// An answer on the wire: errno (0 for found), mount ID, whether it is a mount root.
const ANSWER_SIZE: usize = 4 + 8 + 1;

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): the mount ID that is never reused. rustix has no name for it.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The exit status of a prober that could not become the owner.
const EXIT_NOT_OWNER: i32 = 1;

/// A running prober.
#[derive(Debug)]
pub struct Probe {
    /// Its process, a child of ours.
    pub pid: Pid,
    socket: OwnedFd,
}

impl Probe {
    /// Starts a prober that has `owner`'s identity, and `user`'s groups if that is the same user: the way to the mount may
    /// lead through directories of a group.
    ///
    /// # Errors
    /// No socket or process to be had. An identity that cannot be taken on ends the prober at once.
    pub fn start(owner: Owner, user: Option<&Identity>) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("create the socket of", "the mount prober")?;
        match clone3(0).context("start", "the mount prober")? {
            Side::Parent(child) => Ok(Self { pid: child.pid, socket: ours }),
            Side::Child => {
                drop(ours);
                serve(owner, user, theirs)
            }
        }
    }

    /// Sends a question.
    ///
    /// # Errors
    /// PIPE when the prober has died.
    pub fn ask(&self, path: &Path) -> std::result::Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&self.socket, path.as_os_str().as_bytes(), flags).map(drop)
    }

    /// The answer, if it is there.
    pub fn answer(&self) -> Option<Answer> {
        let mut packet = [0; ANSWER_SIZE];
        let (_, length) = recv(&self.socket, &mut packet, RecvFlags::DONTWAIT).ok()?;
        if length == ANSWER_SIZE { decode(&packet) } else { None }
    }

    /// Ends the prober. One that hangs in a dead mount goes when the mount's connection does.
    pub fn kill(&self) {
        let _ = signal::kill(self.pid.as_raw_nonzero().get(), libc::SIGKILL);
    }
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The prober's life.
fn serve(owner: Owner, user: Option<&Identity>, socket: OwnedFd) -> ! {
    let _ = rustix::thread::set_name(c"vassal-probe");
    // Only its own socket: a copy of the emperor's link would hide our end from the emperor.
    let Ok(socket) = fd::keep_only(socket) else { clone::exit(EXIT_NOT_OWNER) };
    // Whoever is not root can ask as itself only, and is answered if it may.
    if rustix::process::geteuid().is_root() && become_owner(owner, user).is_err() {
        clone::exit(EXIT_NOT_OWNER);
    }
    // After the last change of identity, which clears it.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let mut question = [0; QUESTION_MAX];
    loop {
        match recv(&socket, &mut question, RecvFlags::empty()) {
            Ok((_, length)) if length > 0 => {
                let answer = encode(look(question.get(..length).unwrap_or_default()));
                if rustix::net::send(&socket, &answer, SendFlags::NOSIGNAL).is_err() {
                    clone::exit(0);
                }
            }
            Err(Errno::INTR) => {}
            // The end of PID 1's side, or of the socket.
            _ => clone::exit(0),
        }
    }
}

fn become_owner(owner: Owner, user: Option<&Identity>) -> Result<()> {
    let same = user.filter(|user| user.uid == Some(owner.uid)).and_then(|user| user.groups.clone());
    let groups = Some(same.unwrap_or_default());
    Identity { uid: Some(owner.uid), gid: Some(owner.gid), groups }.assume(None)
}

/// Asks the filesystem itself: FORCE_SYNC goes past the attribute cache, which survives a dead daemon. The mode is asked
/// for because the kernel answers a question for the mount ID alone without FUSE's help, FORCE_SYNC or not.
fn look(path: &[u8]) -> Answer {
    let fields = StatxFlags::MODE | StatxFlags::MNT_ID | MNT_ID_UNIQUE;
    match statx(CWD, path, AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT, fields) {
        Ok(stat) => Answer::Found(Found {
            mount_id: stat.stx_mnt_id,
            is_mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        }),
        Err(errno) => Answer::Failed(errno),
    }
}

fn encode(answer: Answer) -> Vec<u8> {
    let (errno, found) = match answer {
        Answer::Found(found) => (0, found),
        Answer::Failed(errno) => (errno.raw_os_error(), Found { mount_id: 0, is_mount_root: false }),
    };
    let mut packet = Vec::with_capacity(ANSWER_SIZE);
    packet.extend(errno.to_le_bytes());
    packet.extend(found.mount_id.to_le_bytes());
    packet.push(found.is_mount_root.into());
    packet
}

fn decode(packet: &[u8; ANSWER_SIZE]) -> Option<Answer> {
    let (errno, rest) = packet.split_first_chunk::<4>()?;
    let (mount_id, rest) = rest.split_first_chunk::<8>()?;
    Some(match i32::from_le_bytes(*errno) {
        0 => Answer::Found(Found {
            mount_id: u64::from_le_bytes(*mount_id),
            is_mount_root: rest.first().is_some_and(|&flag| flag != 0),
        }),
        errno => Answer::Failed(Errno::from_raw_os_error(errno)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_wire() {
        for answer in
            [Answer::Found(Found { mount_id: 1 << 40, is_mount_root: true }), Answer::Failed(Errno::NOTCONN)]
        {
            let packet: [u8; ANSWER_SIZE] = encode(answer).try_into().unwrap();
            assert_eq!(decode(&packet), Some(answer));
        }
    }

    #[test]
    fn the_root_directory_is_a_mount_root() {
        let Answer::Found(root) = look(b"/proc") else { panic!("/proc does not answer") };
        let Answer::Found(inside) = look(b"/proc/self") else { panic!("/proc/self does not answer") };
        assert!(root.is_mount_root && !inside.is_mount_root);
        assert_eq!(look(b"/proc/nothing"), Answer::Failed(Errno::NOENT));
    }
}
