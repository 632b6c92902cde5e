//! Which process serves a FUSE connection: a child of PID 1 that has the connection's device open, left
//! behind by a hook.
//!
//! The kernel tells it to a process that may look at the descriptors of the other, by `fuse_connection` in
//! proc_pid_fdinfo(5). Linux 6.12 does not yet: there a user's only daemon is taken for that of the user's
//! only connection. That a connection has ended every kernel tells, by poll(2).

use std::os::fd::{BorrowedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, StatxFlags, readlinkat, statx};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::files;
use crate::mount::mountinfo::Mount;

/// How many descriptors of a process are searched for `/dev/fuse`, which daemons have among their first.
const DESCRIPTORS: RawFd = 64;

/// How many children of PID 1 are searched, the oldest first: a daemon is older than the app and its orphans.
const CHILDREN: usize = 256;

/// `/dev/fuse` (Documentation/admin-guide/devices.txt of the kernel).
const DEVICE: (u32, u32) = (10, 229);

/// A child that has `/dev/fuse` open, of which the kernel does not tell the connection.
#[derive(Debug, Clone, Copy)]
struct Silent {
    pid: i32,
    uid: u32,
}

/// Reads the mount table, if it can be read.
type MountTable<'a> = &'a dyn Fn() -> Option<Vec<Mount>>;

/// FUSE connections, each with the child of the process that serves it. `mounts` are asked for where the
/// kernel does not tell. All pids are those of `proc`, a procfs.
pub fn among_children(proc: BorrowedFd<'_>, parent: i32, mounts: MountTable<'_>) -> Vec<(u64, i32)> {
    let children: Vec<_> = children(proc, parent).collect();
    let its = |&pid: &i32| connections_of(proc, pid).into_iter().map(move |connection| (connection, pid));
    let told: Vec<_> = children.iter().flat_map(its).collect();
    if !told.is_empty() {
        return told;
    }
    let has_device = |pid: &&i32| (0..DESCRIPTORS).any(|fd| is_device(proc, **pid, fd));
    let users = children.iter().filter(has_device);
    let silent: Vec<_> = users.filter_map(|&pid| Some(Silent { pid, uid: user_of(proc, pid)? })).collect();
    if silent.is_empty() { Vec::new() } else { infer(&silent, &mounts().unwrap_or_default()) }
}

/// Pairs a user's only daemon with the user's only connection. With more of either nobody knows.
fn infer(silent: &[Silent], mounts: &[Mount]) -> Vec<(u64, i32)> {
    let is_alone = |one: &&Silent| silent.iter().filter(|other| other.uid == one.uid).count() == 1;
    let only_connection = |uid| {
        let its = mounts.iter().filter(|mount| mount.user() == Some(uid));
        let mut connections = its.filter_map(Mount::connection);
        let first = connections.next()?;
        connections.all(|other| other == first).then_some(first)
    };
    silent.iter().filter(is_alone).filter_map(|one| Some((only_connection(one.uid)?, one.pid))).collect()
}

/// The children of a process that serve a FUSE connection no longer, since it has ended. A daemon that runs
/// ends by itself then; one that is stopped does not hear of it.
pub fn without_connection(proc: BorrowedFd<'_>, parent: i32, mounts: MountTable<'_>) -> Vec<Pid> {
    let has_ended = |pid: &Pid| match connection_of(proc, *pid) {
        Connection::None | Connection::Lasts => false,
        Connection::Ended => true,
        Connection::Unknown => mounts().is_some_and(|mounts| is_nowhere(proc, *pid, &mounts)),
    };
    children(proc, parent).filter_map(Pid::from_raw).filter(has_ended).collect()
}

/// Whether nothing that a process could have mounted is mounted any more: it sees the same mounts as we do,
/// and its user has no FUSE mount among them.
fn is_nowhere(proc: BorrowedFd<'_>, pid: Pid, mounts: &[Mount]) -> bool {
    let namespace = |pid: &str| readlinkat(proc, format!("{pid}/ns/mnt"), Vec::new());
    let sees_ours = matches!(
        (namespace(&pid.to_string()), namespace("self")),
        (Ok(its), Ok(ours)) if its == ours
    );
    let uid = user_of(proc, pid.as_raw_pid());
    sees_ours && uid.is_some_and(|uid| mounts.iter().all(|mount| mount.user() != Some(uid)))
}

/// The real user of a process.
fn user_of(proc: BorrowedFd<'_>, pid: i32) -> Option<u32> {
    let ids = numbers_in(proc, &format!("{pid}/status"), "Uid:")?;
    ids.first().map(|uid| *uid as u32)
}

fn children(proc: BorrowedFd<'_>, parent: i32) -> impl Iterator<Item = i32> {
    files::children_of(proc, parent).into_iter().take(CHILDREN)
}

/// What is known of a process's connection.
enum Connection {
    /// It has none.
    None,
    Lasts,
    Ended,
    /// We may not have a copy of the descriptor, as that takes the right to trace the process: with yama
    /// (`kernel.yama.ptrace_scope`) only its parents have it.
    Unknown,
}

fn connection_of(proc: BorrowedFd<'_>, pid: Pid) -> Connection {
    let Some(fd) = (0..DESCRIPTORS).find(|fd| is_device(proc, pid.as_raw_pid(), *fd)) else {
        return Connection::None;
    };
    let process = pidfd_open(pid, PidfdFlags::empty());
    let device = process.and_then(|process| pidfd_getfd(&process, fd, PidfdGetfdFlags::empty()));
    let Ok(device) = device else { return Connection::Unknown };
    let mut fds = [PollFd::new(&device, PollFlags::empty())];
    match poll(&mut fds, Some(&Default::default())) {
        Ok(_) if fds[0].revents().contains(PollFlags::ERR) => Connection::Ended,
        _ => Connection::Lasts,
    }
}

/// Whether a descriptor is of `/dev/fuse`. A file by that name may be on a filesystem that hangs, so that is
/// not asked.
fn is_device(proc: BorrowedFd<'_>, pid: i32, fd: RawFd) -> bool {
    let path = format!("{pid}/fd/{fd}");
    // Below another root or a detached mount only the end of the path is the same.
    if !readlinkat(proc, &path, Vec::new()).is_ok_and(|name| name.to_bytes().ends_with(b"/fuse")) {
        return false;
    }
    let stat = statx(proc, &path, AtFlags::STATX_DONT_SYNC, StatxFlags::empty());
    stat.is_ok_and(|stat| (stat.stx_rdev_major, stat.stx_rdev_minor) == DEVICE)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::mountinfo;

    /// Mounts by connection and user; daemons by pid and user.
    fn inferred(mounts: &[(u64, u32)], daemons: &[(i32, u32)]) -> Vec<(u64, i32)> {
        let line = |&(connection, uid): &(u64, u32)| {
            format!("30 1 0:{connection} / /app rw - fuse.zip zip rw,user_id={uid},group_id=0\n")
        };
        let table: String = mounts.iter().map(line).collect();
        let silent: Vec<_> = daemons.iter().map(|&(pid, uid)| Silent { pid, uid }).collect();
        infer(&silent, &mountinfo::parse(table.as_bytes()))
    }

    #[test]
    fn a_users_only_daemon_serves_the_users_only_connection() {
        assert_eq!(inferred(&[(9, 1001)], &[(5, 1001)]), [(9, 5)]);
        // Bound to another place as well.
        assert_eq!(inferred(&[(9, 1001), (9, 1001)], &[(5, 1001)]), [(9, 5)]);
        assert_eq!(inferred(&[(8, 0), (9, 1001)], &[(4, 0), (5, 1001)]), [(8, 4), (9, 5)]);
    }

    #[test]
    fn of_several_none_is_taken() {
        assert_eq!(inferred(&[(9, 1001)], &[(5, 1001), (6, 1001)]), []);
        assert_eq!(inferred(&[(8, 1001), (9, 1001)], &[(5, 1001)]), []);
        assert_eq!(inferred(&[(9, 1001)], &[(5, 0)]), []);
        assert_eq!(inferred(&[], &[(5, 1001)]), []);
    }
}
