//! FUSE connections that keep a dying vassal alive, aborted from outside.
//!
//! A pid namespace is gone when its last process is. One that waits for an answer that a FUSE daemon has begun to prepare
//! cannot be killed, and the daemon may be out of reach: stopped outside the namespace, or dead with its end of the connection
//! held open by somebody else. Then only an abort of the connection through fusectl frees it (kernel:
//! filesystems/fuse/fuse, "Aborting a filesystem connection").
//!
//! # Whose connection it is
//!
//! An abort breaks the filesystem for everybody, so the connection must be the dying vassal's alone. Nobody is believed
//! about that, least of all the vassal: the kernel is asked, process by process, when it comes to it. One function judges.
//! A connection that the host has mounted is in the mount table of all vassals, since theirs began as copies of the host's:
//! it is never aborted, also where only one vassal uses it.

use rustix::fs::{Dir, Mode, OFlags, open, openat, readlink};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::Pid;

use super::mountinfo;
use crate::error::{Context, Result};
use crate::world::read_file;

/// What a process can see of FUSE.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    /// Its pid namespace.
    pid_namespace: Vec<u8>,
    /// Its mount namespace.
    mount_namespace: Vec<u8>,
    /// Its root directory, which limits what it sees of its mount namespace.
    root: Vec<u8>,
    /// The connections of the FUSE filesystems in its mount table.
    connections: Vec<u64>,
}

/// Aborts the FUSE connections that only the processes in the pid namespace of `init` have, and returns their numbers.
///
/// Looks at all processes of the machine: some milliseconds, for a case that is rare.
///
/// # Errors
/// /proc cannot be read, fusectl cannot be had (EPERM without CAP_SYS_ADMIN; ENODEV without FUSE).
pub fn abort_private(init: Pid) -> Result<Vec<u64>> {
    let namespaces = |pid: Pid| Some((link(pid, "ns/pid")?, link(pid, "ns/mnt")?));
    let Some((own_pids, own_mounts)) = namespaces(rustix::process::getpid()) else { return Ok(Vec::new()) };
    let Some(dying) = link(init, "ns/pid").filter(|dying| *dying != own_pids) else { return Ok(Vec::new()) };
    let connections = private(&views()?, &dying, &own_mounts);
    if !connections.is_empty() {
        let context = fsopen(c"fusectl", FsOpenFlags::FSOPEN_CLOEXEC).context("open", "fusectl")?;
        fsconfig_create(&context).context("open", "fusectl")?;
        // Mounted nowhere: it is gone with the descriptor.
        let directory = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .context("open", "fusectl")?;
        for connection in &connections {
            let name = format!("{connection}/abort");
            let file = openat(&directory, &name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            let written = file.and_then(|file| rustix::io::write(&file, b"1"));
            written.context("abort FUSE connection", connection)?;
        }
    }
    Ok(connections)
}

/// The connections that are in the mount table of a process of the `dying` pid namespace, and in no mount namespace but
/// those of that vassal. What is in `own`, the mount namespace of the emperor, is never private, also where a vassal
/// shares it. Who else is in a mount namespace of the vassal, such as a daemon that entered it from outside, is no reason
/// to spare its connections.
fn private(views: &[View], dying: &[u8], own: &[u8]) -> Vec<u64> {
    let is_dying = |view: &&View| view.pid_namespace == dying && view.mount_namespace != own;
    let is_its = |view: &View| {
        views.iter().filter(is_dying).any(|dying| dying.mount_namespace == view.mount_namespace)
    };
    let is_shared =
        |connection: &u64| views.iter().any(|view| view.connections.contains(connection) && !is_its(view));
    let mut found: Vec<u64> =
        views.iter().filter(is_dying).flat_map(|view| view.connections.iter().copied()).collect();
    found.retain(|connection| !is_shared(connection));
    found.sort_unstable();
    found.dedup();
    found
}

/// The views of all processes, each different one once: a mount table takes longest to read.
fn views() -> Result<Vec<View>> {
    let mut views: Vec<View> = Vec::new();
    let directory = open(c"/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let entries = directory.and_then(Dir::read_from).context("read", "/proc")?;
    for entry in entries {
        let entry = entry.context("read", "/proc")?;
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| Pid::from_raw(name.parse().ok()?))
        else {
            continue;
        };
        // It may have ended; a zombie has no mounts any more.
        let (Some(pid_namespace), Some(mount_namespace), Some(root)) =
            (link(pid, "ns/pid"), link(pid, "ns/mnt"), link(pid, "root"))
        else {
            continue;
        };
        let is_same = |view: &View| {
            (&view.mount_namespace, &view.root, &view.pid_namespace)
                == (&mount_namespace, &root, &pid_namespace)
        };
        if !views.iter().any(is_same)
            && let Ok(table) = read_file(&format!("/proc/{pid}/mountinfo"))
        {
            let connections =
                mountinfo::parse(&table).iter().filter_map(|mount| mount.connection()).collect();
            views.push(View { pid_namespace, mount_namespace, root, connections });
        }
    }
    Ok(views)
}

/// What a link of a process in /proc shows.
fn link(pid: Pid, name: &str) -> Option<Vec<u8>> {
    Some(readlink(format!("/proc/{pid}/{name}"), Vec::new()).ok()?.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process in a pid and a mount namespace that sees these connections.
    fn view(pids: &str, mounts: &str, connections: &[u64]) -> View {
        View {
            pid_namespace: pids.into(),
            mount_namespace: mounts.into(),
            root: b"/".to_vec(),
            connections: connections.to_vec(),
        }
    }

    fn judge(views: &[View]) -> Vec<u64> {
        private(views, b"vassal", b"host")
    }

    #[test]
    fn what_the_vassal_alone_has_mounted_is_private() {
        let views = [view("host", "host", &[1]), view("vassal", "jail", &[1, 9, 9]), view("b", "b", &[1])];
        assert_eq!(judge(&views), [9]);
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
        assert!(!views().unwrap().is_empty());
    }
}
