//! Which process serves a FUSE connection: a child of PID 1 that has the connection's device open, left
//! behind by a hook.
//!
//! The kernel tells it to a process that may look at the descriptors of the other, by `fuse_connection` in
//! proc_pid_fdinfo(5), which is recent.

use std::os::fd::BorrowedFd;

use crate::files;

/// How many descriptors of a process are searched for `/dev/fuse`, which daemons have among their first.
const DESCRIPTORS: u32 = 64;

/// How many children of PID 1 are searched, the oldest first: a daemon is older than the app and its orphans.
const CHILDREN: usize = 256;

/// The children of a process, and the FUSE connections that each of them has open. All pids are those of
/// `proc`, a procfs.
pub fn among_children(proc: BorrowedFd<'_>, parent: i32) -> impl Iterator<Item = (i32, Vec<u64>)> {
    let children = read_text(proc, &format!("{parent}/task/{parent}/children")).unwrap_or_default();
    let children: Vec<_> = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    children.into_iter().take(CHILDREN).map(move |pid| (pid, connections_of(proc, pid)))
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
