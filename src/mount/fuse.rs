//! Aborts FUSE connections that keep a dying vassal alive.
//!
//! A pid namespace ends with its last process. A process cannot be killed while it waits for an answer that a
//! FUSE daemon has begun to prepare, and the daemon may never answer: it may be stopped outside the
//! namespace, or dead while another process holds its end of the connection open. Then only an abort of the
//! connection through fusectl ends the process (kernel: filesystems/fuse/fuse, "Aborting a filesystem
//! connection").
//!
//! A filesystem on a block device (`fuseblk`) can keep its own daemon alive: to unmount it the kernel waits
//! for a last answer, and if the daemon is the last process in the mount namespace, that happens during the
//! daemon's own end. No mount table has the connection at that time, so it must have been noted before
//! ([`note`]).
//!
//! # Whose connection it is
//!
//! An abort breaks the filesystem for all its users, so the connection must belong to the dying vassal alone.
//! The word of a vassal does not count for that: when a connection is to be aborted, the mount tables of all
//! processes are read, and `private` decides. A connection that the host has mounted is never aborted, even
//! if only one vassal uses it: it is in the mount tables of all vassals, which began as copies of the host's.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, fstat, open, readlink, stat};
use rustix::io::Errno;
use rustix::process::Pid;

use super::fusectl::{self, Fusectl};
use super::mountinfo::{self, Mount};
use crate::error::{Context, Error, Result};
use crate::files::{open_file_of_system, read_file};

/// How long the mount tables of other user namespaces are read in all, because their owners may have made any
/// number of mounts. A table that was not read by then counts as not having the connection. If it has the
/// connection after all, its owner loses it.
const FOREIGN: Duration = Duration::from_millis(100);

/// How long the mount table of a living vassal may be read.
const NOTING: Duration = Duration::from_millis(50);

/// The FUSE filesystems that a process can see. Namespaces are identified by their inode numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    /// Its pid namespace.
    pid_namespace: u64,
    /// Its mount namespace.
    mount_namespace: u64,
    /// Its root directory, which limits what it sees of its mount namespace.
    root: Vec<u8>,
    /// The connections of the FUSE filesystems in its mount table.
    connections: Vec<u64>,
}

/// A pid namespace that is ending.
#[derive(Debug)]
pub struct Dying {
    /// Its number. The namespace is [held open](hold_namespace), so that no other one gets the number.
    pub pid_namespace: u64,
    /// The connections that were [noted](note) for it.
    pub noted: Vec<u64>,
}

/// The connections of filesystems on block devices that a living process has mounted and the host has not;
/// `None` if they cannot be found out. Reads for up to 50 ms if there is such a filesystem on the machine.
pub fn note(fusectl: &Fusectl, init: Pid) -> Option<Vec<u64>> {
    if !fusectl.has_fuseblk() {
        return Some(Vec::new());
    }
    let table = read_until(&format!("/proc/{init}/mountinfo"), Instant::now() + NOTING)?;
    let mut its = connections_of(&table);
    its.retain(|connection| mountinfo::is_of_block_device(*connection));
    if !its.is_empty() {
        let hosts = connections(rustix::process::getpid()).ok()??;
        its.retain(|connection| !hosts.contains(connection));
    }
    Some(its)
}

/// Opens the pid namespace of a process that was not reaped yet, and returns its number. `None` if it is
/// gone, or is the namespace of this process.
pub fn hold_namespace(init: Pid) -> Option<(OwnedFd, u64)> {
    let held = open_file_of_system(&format!("/proc/{init}/ns/pid")).ok()?;
    let number = fstat(&held).ok()?.st_ino;
    let own = namespace(rustix::process::getpid(), "pid").ok()??;
    (number != own).then_some((held, number))
}

/// Aborts the FUSE connections that only processes in one of the pid namespaces have, or had when they were
/// noted. Returns their numbers, each with the index of its namespace.
///
/// Looks at all processes of the machine, and if one of `dying` may have such a connection, at all mount
/// tables. That takes a tenth of a millisecond for each, once for all namespaces, and longer if a tenant has
/// made many mounts. So a separate process should do it.
///
/// # Errors
/// /proc cannot be read, or a process in it cannot be looked at, so that the owner of a connection is
/// unknown; or fusectl is not available (EPERM without CAP_SYS_ADMIN; ENODEV without FUSE).
pub fn abort_private(dying: &[Dying]) -> Result<Vec<(usize, u64)>> {
    let own = rustix::process::getpid();
    let Some(own_mounts) = namespace(own, "mnt")? else { return Ok(Vec::new()) };
    let is_dying = |pids| dying.iter().any(|dying| dying.pid_namespace == pids);
    let mut all = views(&is_dying)?;
    let hosts = connections(own)?.unwrap_or_default();
    let may_be_private = |view: &View| {
        view.mount_namespace != own_mounts && view.connections.iter().any(|it| !hosts.contains(it))
    };
    if dying.iter().all(|one| one.noted.is_empty()) && !all.iter().any(may_be_private) {
        return Ok(Vec::new());
    }
    all.extend(views(&|pids| !is_dying(pids))?);
    let mut found = Vec::new();
    for (index, Dying { pid_namespace, noted }) in dying.iter().enumerate() {
        found.extend(private(&all, *pid_namespace, own_mounts, noted).into_iter().map(|it| (index, it)));
    }
    if !found.is_empty() {
        let connections: Vec<_> = found.iter().map(|(_, connection)| *connection).collect();
        fusectl::abort(&connections)?;
    }
    Ok(found)
}

/// The connections in the mount table of a process of the `dying` pid namespace, and those that were `noted`
/// earlier, if no mount namespace except that vassal's has them. A connection in `own`, the mount namespace
/// of the emperor, is never private, even if a vassal shares that namespace. A process of another pid
/// namespace that has entered a mount namespace of the vassal, such as a daemon from outside, does not make
/// its connections shared.
fn private(views: &[View], dying: u64, own: u64, noted: &[u64]) -> Vec<u64> {
    let is_dying = |view: &&View| view.pid_namespace == dying && view.mount_namespace != own;
    let is_its = |view: &View| {
        views.iter().filter(is_dying).any(|dying| dying.mount_namespace == view.mount_namespace)
    };
    let is_shared =
        |connection: &u64| views.iter().any(|view| view.connections.contains(connection) && !is_its(view));
    let mut found = noted.to_vec();
    for view in views.iter().filter(is_dying) {
        found.extend_from_slice(&view.connections);
    }
    found.sort_unstable();
    found.dedup();
    found.retain(|connection| !is_shared(connection));
    found
}

/// The views of all processes whose pid namespace is wanted, each different view once: reading mount tables
/// takes most of the time.
fn views(is_wanted: &dyn Fn(u64) -> bool) -> Result<Vec<View>> {
    let mut views: Vec<View> = Vec::new();
    let mut foreign = Vec::new();
    let own_user = namespace(rustix::process::getpid(), "user")?;
    let directory = open(c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let entries = directory.and_then(Dir::read_from).context("read", "/proc")?;
    for entry in entries {
        let entry = entry.context("read", "/proc")?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| Pid::from_raw(name.parse().ok()?))
        else {
            continue;
        };
        let Some(pid_namespace) = namespace(pid, "pid")?.filter(|&pids| is_wanted(pids)) else { continue };
        let Some(mount_namespace) = namespace(pid, "mnt")? else { continue };
        // Only the link is read. Its target may be on a filesystem that hangs.
        let path = format!("/proc/{pid}/root");
        let Some(root) = of_living(&path, readlink(&path, Vec::new()))? else { continue };
        let root = root.into_bytes();
        let is_same = |view: &View| {
            (view.mount_namespace, view.pid_namespace) == (mount_namespace, pid_namespace)
                && view.root == root
        };
        if views.iter().any(is_same) || foreign.iter().any(|(_, view)| is_same(view)) {
            continue;
        }
        let view = View { pid_namespace, mount_namespace, root, connections: Vec::new() };
        if namespace(pid, "user")? != own_user {
            foreign.push((pid, view));
        } else if let Some(connections) = connections(pid)? {
            views.push(View { connections, ..view });
        }
    }
    let until = Instant::now() + FOREIGN;
    for (pid, view) in foreign {
        if let Some(table) = read_until(&format!("/proc/{pid}/mountinfo"), until) {
            views.push(View { connections: connections_of(&table), ..view });
        }
    }
    Ok(views)
}

/// A namespace of a process; `None` if the process has ended.
fn namespace(pid: Pid, kind: &str) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/ns/{kind}");
    Ok(of_living(&path, stat(&path))?.map(|stat| stat.st_ino))
}

/// The FUSE connections in the mount table of a process; `None` if the process has ended.
fn connections(pid: Pid) -> Result<Option<Vec<u64>>> {
    let path = format!("/proc/{pid}/mountinfo");
    Ok(of_living(&path, read_file(&path))?.map(|table| connections_of(&table)))
}

fn connections_of(table: &[u8]) -> Vec<u64> {
    mountinfo::parse(table).iter().filter_map(Mount::connection).collect()
}

/// The content of a file, if it can be read completely by then.
fn read_until(path: &str, until: Instant) -> Option<Vec<u8>> {
    let file = open_file_of_system(path).ok()?;
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while Instant::now() < until {
        match rustix::io::read(&file, &mut chunk).ok()? {
            0 => return Some(text),
            count => text.extend_from_slice(chunk.get(..count)?),
        }
    }
    None
}

/// A fact about a process; `None` if the process has ended (a zombie has no namespaces).
fn of_living<T>(path: &str, result: rustix::io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(known) => Ok(Some(known)),
        Err(Errno::NOENT | Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(errno) => Err(Error::os("look at", path, errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of namespaces.
    const NAMES: [&str; 5] = ["host", "vassal", "jail", "inner", "b"];

    fn number(name: &str) -> u64 {
        NAMES.iter().position(|known| *known == name).unwrap() as u64
    }

    /// A process in a pid and a mount namespace that sees these connections.
    fn view(pids: &str, mounts: &str, connections: &[u64]) -> View {
        View {
            pid_namespace: number(pids),
            mount_namespace: number(mounts),
            root: b"/".to_vec(),
            connections: connections.to_vec(),
        }
    }

    fn judge(views: &[View]) -> Vec<u64> {
        private(views, number("vassal"), number("host"), &[])
    }

    #[test]
    fn what_the_vassal_alone_has_mounted_is_private() {
        let views = [view("host", "host", &[1]), view("vassal", "jail", &[1, 9, 9]), view("b", "b", &[1])];
        assert_eq!(judge(&views), [9]);
    }

    #[test]
    fn what_was_noted_is_private_unless_somebody_has_it_now() {
        let noted = |views: &[View]| private(views, number("vassal"), number("host"), &[7, 8, 9]);
        let others = [view("host", "host", &[8]), view("b", "b", &[9])];
        assert_eq!(noted(&others), [7]);
        // A dying process that still exists does not make its own connections shared.
        assert_eq!(noted(&[&others[..], &[view("vassal", "jail", &[7, 9])]].concat()), [7]);
    }

    #[test]
    fn what_another_vassal_sees_too_is_shared() {
        let views = [view("host", "host", &[]), view("vassal", "jail", &[8, 9]), view("b", "b", &[9])];
        assert_eq!(judge(&views), [8]);
    }

    #[test]
    fn a_daemon_from_outside_in_its_mount_namespace_does_not_share() {
        let views = [view("host", "host", &[]), view("host", "jail", &[9]), view("vassal", "jail", &[9])];
        assert_eq!(judge(&views), [9]);
    }

    #[test]
    fn a_vassal_without_a_mount_namespace_has_nothing_of_its_own() {
        let views = [view("host", "host", &[9]), view("vassal", "host", &[9])];
        assert_eq!(judge(&views), [0; 0]);
    }

    #[test]
    fn namespaces_within_the_vassal_are_its_own() {
        let views = [view("host", "host", &[]), view("vassal", "jail", &[9]), view("vassal", "inner", &[9])];
        assert_eq!(judge(&views), [9]);
    }

    #[test]
    fn the_processes_here_have_views() {
        assert!(!views(&|_| true).unwrap().is_empty());
        assert!(views(&|_| false).unwrap().is_empty());
    }
}
