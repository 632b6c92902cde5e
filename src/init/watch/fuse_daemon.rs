//! Which process serves a FUSE connection: a child of PID 1 that has the connection's device open, left
//! behind by a hook.
//!
//! The kernel tells it to a process that may look at the descriptors of the other, by `fuse_connection` in
//! proc_pid_fdinfo(5); Linux 6.12 does not yet. That a connection has ended every kernel tells, by poll(2).

use std::os::fd::{BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::readlinkat;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::files;

/// How many descriptors of a process are searched for `/dev/fuse`, which daemons have among their first.
const DESCRIPTORS: RawFd = 64;

/// How many children of PID 1 are searched, the oldest first: a daemon is older than the app and its orphans.
const CHILDREN: usize = 256;

/// The children of a process, and the FUSE connections that each of them has open. All pids are those of
/// `proc`, a procfs.
pub fn among_children(proc: BorrowedFd<'_>, parent: i32) -> impl Iterator<Item = (i32, Vec<u64>)> {
    children(proc, parent).map(move |pid| (pid, connections_of(proc, pid)))
}

/// The children of a process that serve a FUSE connection no longer, since it has ended. A daemon that runs
/// ends by itself then; one that is stopped does not hear of it.
pub fn without_connection(proc: BorrowedFd<'_>, parent: i32) -> impl Iterator<Item = Pid> {
    children(proc, parent).filter_map(Pid::from_raw).filter(move |pid| has_ended_connection(proc, *pid))
}

fn children(proc: BorrowedFd<'_>, parent: i32) -> impl Iterator<Item = i32> {
    let children = read_text(proc, &format!("{parent}/task/{parent}/children")).unwrap_or_default();
    let children: Vec<_> = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.into_iter().take(CHILDREN)
}

/// `false` as well where we may not have a copy of the descriptor, which takes the right to trace the
/// process.
fn has_ended_connection(proc: BorrowedFd<'_>, pid: Pid) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    (0..DESCRIPTORS).any(|fd| {
        // Below another root or a detached mount only the end of the path is the same.
        let name = readlinkat(proc, format!("{pid}/fd/{fd}"), Vec::new());
        if !name.is_ok_and(|name| name.to_bytes().ends_with(b"/fuse")) {
            return false;
        }
        let Ok(device) = pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()) else { return false };
        let mut fds = [PollFd::new(&device, PollFlags::empty())];
        poll(&mut fds, Some(&Default::default())).is_ok() && fds[0].revents().contains(PollFlags::ERR)
    })
}

/// Of any path: a device that was opened below another root has none. What fdinfo tells never touches the
/// file itself, which may be on a filesystem that hangs.
fn connections_of(proc: BorrowedFd<'_>, pid: i32) -> Vec<u64> {
    let connection = |fd| {
        let connection = number_in(proc, &format!("{pid}/fdinfo/{fd}"), "fuse_connection:")?;
        u64::try_from(connection).ok()
    };
    (0..DESCRIPTORS).filter_map(connection).collect()
}

/// The number in a line of a file of a procfs.
pub fn number_in(proc: BorrowedFd<'_>, path: &str, field: &str) -> Option<i32> {
    numbers_in(proc, path, field)?.first().copied()
}

/// The pid of a process in our pid namespace, which may be one within that of `proc`, and around that of the
/// process: whoever has made a namespace chooses the numbers in it (`set_tid` in clone(2)).
pub fn pid_with_us(proc: BorrowedFd<'_>, pid: i32) -> Option<i32> {
    // From the namespace of `proc` inwards.
    let pids = |pid: &str| numbers_in(proc, &format!("{pid}/status"), "NSpid:");
    let our_level = pids("self")?.len();
    pids(&pid.to_string())?.get(our_level.checked_sub(1)?).copied()
}

fn numbers_in(proc: BorrowedFd<'_>, path: &str, field: &str) -> Option<Vec<i32>> {
    let text = read_text(proc, path)?;
    let numbers = text.lines().find_map(|line| line.strip_prefix(field))?.split_ascii_whitespace();
    numbers.map(|number| number.parse().ok()).collect()
}

fn read_text(proc: BorrowedFd<'_>, path: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&files::read_file_at(proc, path).ok()?).into_owned())
}
