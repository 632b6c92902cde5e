//! What the kernel tells through procfs: the mounts, and the processes below us.

use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::{Pid, fchdir};

use crate::error::{Context, Result};
use crate::files;
use crate::init::watch::fuse_daemon;
use crate::mount::mountinfo::{self, Mount};
use crate::mount::ops;

/// How far a process that is signalled is followed up to us. Deeper ones become children of ours when those
/// between have ended.
const GENERATIONS: usize = 100;

/// A procfs of the pid namespace of this process. It is held by a descriptor and most often mounted nowhere,
/// so no filesystem that may hang is walked to get at it. It cannot be confused with what a tenant puts at
/// `/proc`, or with the `/proc` of an outer pid namespace, where the same numbers are other processes.
#[derive(Debug)]
pub struct Procfs {
    own: OnceCell<OwnedFd>,
}

impl Procfs {
    /// Opens one while the process may mount. Otherwise `/proc` is used, if that is of the right namespace.
    ///
    /// `/proc` is as good in a tree that stays as it is (`is_lasting`), and cheaper: another procfs takes the
    /// kernel 0.1 ms, most of it when it is closed.
    pub fn open(is_lasting: bool) -> Self {
        let lasting = if is_lasting { own_proc() } else { None };
        let own = lasting.or_else(|| ops::detached("proc").ok());
        Self { own: own.map(OnceCell::from).unwrap_or_default() }
    }

    /// Mounts the one of this pid namespace at `/proc`: nobody sees other processes there, nor what is below
    /// their `root` and in their `environ`.
    ///
    /// # Errors
    /// move_mount(2); EPERM where the kernel has not let us make one, as in a user namespace below a `/proc`
    /// of which parts are covered.
    pub fn mount(&self) -> Result<()> {
        let own = self.own.get().ok_or(Errno::PERM);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        own.and_then(|own| move_mount(own, c"", CWD, c"/proc", flags)).context("mount procfs on", "/proc")
    }

    /// Makes it the working directory.
    ///
    /// # Errors
    /// There is none.
    pub fn enter(&self) -> rustix::io::Result<()> {
        self.own.get().map_or_else(|| fchdir(files::open_proc()?), fchdir)
    }

    /// Uses `/proc`, and opens nothing before that turns out to be missing.
    pub fn at_proc() -> Self {
        Self { own: OnceCell::new() }
    }

    /// The mounts of our namespace as the present root shows them, to be read, or watched for changes.
    ///
    /// # Errors
    /// As open(2); ENOENT if what is at `/proc` is no procfs.
    pub fn mountinfo(&self) -> Result<OwnedFd> {
        self.open_below("self/mountinfo").context("open", files::MOUNTINFO)
    }

    /// The mounts, read.
    ///
    /// # Errors
    /// As [`Procfs::mountinfo`], and as read(2).
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        let text = files::read_to_end(self.mountinfo()?).context("read", files::MOUNTINFO)?;
        Ok(mountinfo::parse(&text))
    }

    /// Whether a process can never gain privileges by executing a file (`NoNewPrivs` in proc_pid_status(5)).
    /// That holds for ever, also for what it starts.
    pub fn has_no_new_privs(&self, pid: Pid) -> bool {
        let text = self.read(&format!("{pid}/status")).unwrap_or_default();
        text.split(|&byte| byte == b'\n').any(|line| line == b"NoNewPrivs:\t1")
    }

    /// Whether a process is of a user (its real ID). `false` if it has ended.
    pub fn is_of(&self, pid: Pid, uid: u32) -> bool {
        self.numbers_of(pid, b"Uid:\t").first() == Some(&uid)
    }

    /// Whether a process is still below this one. A list of [`Procfs::below_us`] tells what was: the parent
    /// of one in it may have reaped it since, and its pid be that of another process.
    pub fn is_below_us(&self, pid: Pid) -> bool {
        let own = rustix::process::getpid();
        let mut next = pid;
        for _ in 0..GENERATIONS {
            let parent = self.numbers_of(next, b"PPid:\t").first().copied().unwrap_or_default();
            match Pid::from_raw(parent as i32) {
                Some(parent) if parent == own => return true,
                Some(parent) => next = parent,
                None => return false,
            }
        }
        false
    }

    /// The numbers in a line of a process's `status`.
    fn numbers_of(&self, pid: Pid, field: &[u8]) -> Vec<u32> {
        let text = self.read(&format!("{pid}/status")).unwrap_or_default();
        let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(field));
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        line.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect()
    }

    /// A process for the log: its pid, its name and its state, as far as that is known.
    pub fn describe(&self, pid: Pid) -> String {
        let text = self.read(&format!("{pid}/status")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match (field("Name:"), field("State:")) {
            (Some(name), Some(state)) => format!("pid {pid} ({name}, {state})"),
            _ => format!("pid {pid}"),
        }
    }

    /// All descendants of this process, parents before children, without `spared` and their descendants.
    pub fn below_us(&self, spared: &[Pid]) -> Vec<Pid> {
        let own = rustix::process::getpid();
        // Of another namespace, it calls this process by another number.
        if self.own.get().is_none() && own_proc().is_none() {
            let Ok(proc) = ops::detached("proc") else { return Vec::new() };
            let _ = self.own.set(proc);
        }
        self.descendants(own, spared)
    }

    /// The daemons among our children, each with the number of its FUSE connection, as far as this process
    /// may look at them.
    pub fn fuse_daemons(&self) -> Vec<(u64, Pid)> {
        let Some(proc) = self.open_own() else { return Vec::new() };
        let own = rustix::process::getpid();
        let mounts = || self.mounts().ok();
        let daemons = fuse_daemon::among_children(proc.as_fd(), own.as_raw_pid(), &mounts);
        daemons.into_iter().filter_map(|(connection, pid)| Some((connection, Pid::from_raw(pid)?))).collect()
    }

    /// The daemons among the children of a process whose connection has ended, as far as this process may
    /// look at them.
    pub fn daemons_without_connection(&self, parent: Pid) -> Vec<Pid> {
        let Some(proc) = self.open_own() else { return Vec::new() };
        let mounts = || self.mounts().ok();
        fuse_daemon::without_connection(proc.as_fd(), parent.as_raw_pid(), &mounts)
    }

    /// A procfs that numbers processes as we do.
    fn open_own(&self) -> Option<OwnedFd> {
        match self.own.get() {
            Some(proc) => proc.as_fd().try_clone_to_owned().ok(),
            None => own_proc(),
        }
    }

    fn read(&self, path: &str) -> rustix::io::Result<Vec<u8>> {
        files::read_to_end(self.open_below(path)?)
    }

    fn open_below(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let open = |proc: BorrowedFd<'_>| openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        match self.own.get() {
            Some(proc) => open(proc.as_fd()),
            None => open(files::open_proc()?.as_fd()),
        }
    }

    /// All descendants of `root`.
    fn descendants(&self, root: Pid, spared: &[Pid]) -> Vec<Pid> {
        let Some(proc) = self.open_own() else { return Vec::new() };
        let (mut found, mut next) = (vec![root], 0);
        while let Some(pid) = found.get(next) {
            next += 1;
            let children = files::children_of(proc.as_fd(), pid.as_raw_pid());
            let children = children.into_iter().filter_map(Pid::from_raw);
            found.extend(children.filter(|pid| !spared.contains(pid)));
        }
        found.remove(0);
        found
    }
}

/// `/proc`, if it is a procfs that numbers processes as we do.
fn own_proc() -> Option<OwnedFd> {
    let proc = files::open_proc().ok()?;
    let number = readlinkat(&proc, c"self", Vec::new()).ok()?;
    (number.to_bytes() == rustix::process::getpid().to_string().as_bytes()).then_some(proc)
}
