//! What the kernel tells through procfs: the mounts, and the processes below us.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::process::Pid;

use crate::error::{Context, Result};
use crate::files;
use crate::mount::mountinfo::{self, Mount};
use crate::mount::ops;

/// By a descriptor, most often of an instance of our own that is mounted nowhere. No filesystem of the tree has to be walked to get at it, which may hang; and
/// what a tenant puts at `/proc`, or the `/proc` of the namespace we come from, where the same numbers are other processes,
/// is not taken for it.
#[derive(Debug)]
pub struct Procfs {
    own: Option<OwnedFd>,
}

impl Procfs {
    /// While we may mount. Without the right to there may be `/proc`, or nothing will be found.
    ///
    /// A tree that stays as it is (`is_lasting`) can be trusted with `/proc` if that is of our namespace: an instance of our
    /// own takes the kernel 0.1 ms, most of it when it is closed.
    pub fn open(is_lasting: bool) -> Self {
        let own = if is_lasting && proc_is_ours(rustix::process::getpid()) {
            open(c"/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
        } else {
            ops::detached("proc").ok()
        };
        Self { own }
    }

    /// What is at `/proc`, whenever something is asked.
    pub fn at_proc() -> Self {
        Self { own: None }
    }

    /// The mounts of our namespace as the present root shows them, to be read, or watched for changes.
    ///
    /// # Errors
    /// As open(2); ENOENT if what is at `/proc` is no procfs.
    pub fn mountinfo(&self) -> Result<OwnedFd> {
        let file = match &self.own {
            Some(proc) => openat(proc, c"self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
            None => files::open_mountinfo(),
        };
        file.context("open", files::MOUNTINFO)
    }

    /// The mounts, read.
    ///
    /// # Errors
    /// As [`Procfs::mountinfo`], and as read(2).
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        let text = files::read_to_end(self.mountinfo()?).context("read", files::MOUNTINFO)?;
        Ok(mountinfo::parse(&text))
    }

    /// Whether a process can never gain privileges by executing a file (`NoNewPrivs` in proc_pid_status(5)). It keeps that
    /// for ever, and so does whatever it starts.
    pub fn has_no_new_privs(&self, pid: Pid) -> bool {
        let text = self.read(&format!("{pid}/status")).unwrap_or_default();
        text.split(|&byte| byte == b'\n').any(|line| line == b"NoNewPrivs:\t1")
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

    /// All processes below us, parents before children, without `spared` and what is below those.
    pub fn below_us(&self, spared: &[Pid]) -> Vec<Pid> {
        let own = rustix::process::getpid();
        // It calls us by another number if it is not of our namespace.
        if self.own.is_none() && !proc_is_ours(own) {
            return Vec::new();
        }
        self.descendants(own, spared)
    }

    fn read(&self, path: &str) -> rustix::io::Result<Vec<u8>> {
        match &self.own {
            Some(proc) => files::read_file_at(proc, path),
            None => files::read_file(&format!("/proc/{path}")),
        }
    }

    /// All processes below `root` (`PID/task/TID/children` in procfs, CONFIG_PROC_CHILDREN). Children of other threads than
    /// the first are not listed; they turn up as ours when their parent has gone.
    fn descendants(&self, root: Pid, spared: &[Pid]) -> Vec<Pid> {
        let mut found = vec![root];
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            next += 1;
            let children = self.read(&format!("{pid}/task/{pid}/children")).unwrap_or_default();
            let children = String::from_utf8_lossy(&children);
            let children =
                children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
            found.extend(children.filter(|pid| !spared.contains(pid)));
        }
        found.remove(0);
        found
    }
}

fn proc_is_ours(own: Pid) -> bool {
    rustix::fs::readlink("/proc/self", Vec::new())
        .is_ok_and(|pid| pid.to_bytes() == own.to_string().as_bytes())
}
