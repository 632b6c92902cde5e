//! The change of root: `chroot`, then `pivot_root`, between `pre-jail` and `post-jail`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::plan::PivotRoot;
use crate::error::{Context, Error, Result};
use crate::init::child::launch::Workdir;
use crate::init::vassal::Vassal;
use crate::init::watch::mountpoints;
use crate::init::watch::probe::{Probe, Rhythm};
use crate::init::watch::watchdog::Answer;
use crate::mount::mountinfo;
use crate::mount::ops;

impl Vassal {
    /// The change of root by `chroot`.
    ///
    /// # Errors
    /// The step that failed.
    pub(in crate::init) fn change_root(&mut self, path: &Path) -> Result<()> {
        self.must_answer("new root:", path)?;
        self.chroot(path)
    }

    /// The change of root by `pivot_root`. Afterwards nothing of ours is left in the old one: the working directory is the new
    /// root, and the only directory we hold open is a procfs that is mounted nowhere.
    ///
    /// A filesystem that becomes the root can hang from that moment on: a union whose branches are reached through its own
    /// mountpoint then waits for itself. So it is asked again before anybody uses it.
    ///
    /// # Errors
    /// The step that failed, with a sentence for the many things that can be wrong with a new root.
    pub(in crate::init) fn pivot_root(&mut self, roots: &PivotRoot) -> Result<()> {
        let PivotRoot { new_root, put_old } = roots;
        let may_hang = self.must_answer("new root:", put_old)?;
        self.go_to_root("pivot_root:")?;
        ops::pivot_root(roots)?;
        self.jail.workdir = Workdir::Chosen("/".into());
        self.jail.is_inside = true;
        self.jail.walk.new_root = None;
        // At the new root itself it is covered by it, and unreachable.
        let old = put_old.strip_prefix(new_root).ok().filter(|rest| !rest.as_os_str().is_empty());
        self.jail.walk.old_root = old.map(|rest| Path::new("/").join(rest));
        if may_hang {
            self.must_answer("new root:", Path::new("/"))?;
        }
        Ok(())
    }

    /// Leaves the working directory for the root directory. If we are there already it is not touched, as it may hang.
    pub(in crate::init) fn go_to_root(&mut self, operation: &str) -> Result<()> {
        if rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes() == b"/") {
            return Ok(());
        }
        self.must_answer(operation, Path::new("/"))?;
        rustix::process::chdir("/").context(&format!("{operation} chdir"), "/")
    }

    /// chroot(2), and nothing of the old root stays behind.
    pub(in crate::init) fn chroot(&mut self, path: &Path) -> Result<()> {
        rustix::process::chroot(path).context("chroot", path.display())?;
        self.jail.is_inside = true;
        rustix::process::chdir("/").context("chroot: chdir", "/")?;
        self.jail.workdir = Workdir::Chosen("/".into());
        self.jail.walk.new_root = None;
        Ok(())
    }

    /// Refuses a directory that we are about to enter if its filesystem fails or hangs; returns whether it is one that can.
    pub(in crate::init) fn must_answer(&mut self, operation: &str, path: &Path) -> Result<bool> {
        match self.ask_about(operation, path)? {
            Some(Answer::Failed(errno)) => Err(Error::os(operation, path.display(), errno)),
            Some(Answer::Found(_)) => Ok(true),
            None => Ok(false),
        }
    }

    /// Asks the filesystem that holds a path, before the kernel asks it in our name and for as long as it likes. Only one
    /// that a process answers for; `None` for all others.
    ///
    /// # Errors
    /// It does not answer.
    pub(in crate::init) fn ask_about(&mut self, operation: &str, path: &Path) -> Result<Option<Answer>> {
        if !self.may_meet_fuse() {
            return Ok(None);
        }
        // Without procfs nobody knows, and nobody can be asked.
        let Ok(mounts) = self.jail.procfs.mounts() else { return Ok(None) };
        // Others answer from the kernel.
        let mount = mountinfo::holding(&mounts, &mountinfo::normalize(path)).filter(|mount| mount.is_fuse());
        let Some(mount) = mount else { return Ok(None) };
        let probe = Probe::start(mount.owner(), None)?;
        self.events.mountpoints.add_prober(probe.pid);
        let timeout = self.source.plan.mountpoints.timeout;
        let rhythm = Rhythm { interval: timeout, patience: timeout };
        let asked = probe.ask(path, rhythm).context("ask the prober about", path.display());
        let answer = asked.and_then(|()| self.await_answer(&probe, operation, path, timeout));
        probe.kill();
        answer.map(Some)
    }

    fn await_answer(
        &mut self,
        probe: &Probe,
        operation: &str,
        path: &Path,
        timeout: Duration,
    ) -> Result<Answer> {
        let deadline = Instant::now() + timeout;
        let failed = |why: &str| Err(Error::new(operation, path.display(), why));
        loop {
            if let Some(reply) = probe.reply() {
                return Ok(reply.answer);
            }
            if self.events.stop.is_some() {
                return failed("told to stop while waiting for it");
            }
            if Instant::now() >= deadline {
                return failed(mountpoints::HANGS);
            }
            self.events.wait(Some(probe.descriptors()[0]), Some(deadline));
            if self.events.mountpoints.probers().all(|pid| pid != probe.pid) {
                return failed("its prober died");
            }
        }
    }
}

/// The directory that targets of mounts before the jail may lie in.
pub(in crate::init) fn coming_root(plan: &crate::config::plan::VassalPlan) -> Option<PathBuf> {
    match (&plan.jail.pivot_root, &plan.jail.chroot) {
        (Some(pivot), _) => Some(pivot.value.new_root.clone()),
        (None, Some(chroot)) => Some(chroot.value.clone()),
        (None, None) => None,
    }
}
