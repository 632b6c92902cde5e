//! The change of root: `chroot`, then `pivot_root`, between `pre-jail` and `post-jail`.

use std::path::Path;
use std::time::Duration;

use crate::config::plan::VassalPlan;
use crate::error::{Context, Error, Result};
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::watch::mountpoints;
use crate::init::watch::prober::{Prober, Rhythm};
use crate::init::watch::watchdog::Answer;
use crate::mount::mountinfo;
use crate::mount::ops;
use crate::mount::request::PivotRoot;
use crate::path;
use crate::running_time;

/// Changes the root by `chroot`.
///
/// # Errors
/// The step that failed.
pub fn change(
    events: &mut EventLoop,
    jail: &mut Jail,
    plan: &VassalPlan,
    operation: &str,
    path: &Path,
) -> Result<()> {
    must_answer(events, jail, plan, operation, path)?;
    // A hook may change the root before any step has noted the accounts.
    jail.note_accounts();
    enter(jail, "chroot", path)?;
    rustix::process::chroot(c".").context("chroot", path.display())?;
    jail.root_changed(jail.walk.old_root.clone());
    Ok(())
}

/// Enters a directory as root.
///
/// # Errors
/// As chdir(2); or a link in the path belongs to a tenant.
pub fn enter(jail: &Jail, operation: &str, path: &Path) -> Result<()> {
    let directory = jail.walk.open(path, path::DIRECTORY).context(operation, path.display())?;
    rustix::process::fchdir(directory).context(operation, path.display())
}

/// Changes the root by `pivot_root`. Afterwards PID 1 holds nothing of the old root: its working directory is
/// the new root, and its only open directory is a procfs that is mounted nowhere.
///
/// A filesystem that becomes the root can begin to hang at that moment: a union whose branches are reached
/// through its own mountpoint waits for itself. So the filesystem is asked again before a process uses it.
///
/// # Errors
/// The step that failed, with a sentence about the many possible faults of a new root.
pub fn pivot(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan, roots: &PivotRoot) -> Result<()> {
    let PivotRoot { new_root, put_old } = roots;
    let may_hang = must_answer(events, jail, plan, "new root:", put_old)?;
    ops::pivot_root(roots, &jail.walk)?;
    // An old root that is put at the new root itself is detached.
    let old = put_old.strip_prefix(new_root).ok().filter(|rest| !rest.as_os_str().is_empty());
    jail.root_changed(old.map(|rest| Path::new("/").join(rest)));
    if may_hang {
        must_answer(events, jail, plan, "new root:", Path::new("/"))?;
    }
    Ok(())
}

/// Enters the root directory. PID 1 does not touch the root if it is there already, because the filesystem
/// may hang. A root that was not changed is not asked: if that filesystem hangs, this process hangs anyway.
///
/// # Errors
/// The filesystem of the root fails, or does not answer in time; or as chdir(2).
pub fn go_to_root(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan, operation: &str) -> Result<()> {
    if jail.walk.is_inside {
        if rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes() == b"/") {
            return Ok(());
        }
        must_answer(events, jail, plan, operation, Path::new("/"))?;
    }
    rustix::process::chdir(c"/").context(&format!("{operation} chdir"), "/")
}

/// Checks that the filesystem of a directory answers, before PID 1 enters the directory. Returns whether the
/// filesystem is of a kind that can hang.
///
/// # Errors
/// The filesystem fails, or does not answer in time.
pub fn must_answer(
    events: &mut EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    operation: &str,
    path: &Path,
) -> Result<bool> {
    match ask_about(events, jail, plan, operation, path)? {
        Some(Answer::Failed(errno)) => Err(Error::os(operation, path.display(), errno)),
        Some(Answer::Found(_)) => Ok(true),
        None => Ok(false),
    }
}

/// Asks the filesystem that holds a path, before PID 1 uses the path and may wait for ever. Returns `None`
/// for a filesystem of the kernel's own, which cannot hang.
///
/// # Errors
/// The filesystem does not answer in time, the prober fails, or an interruption comes first.
pub fn ask_about(
    events: &mut EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    operation: &str,
    path: &Path,
) -> Result<Option<Answer>> {
    if !may_meet_fuse(events, jail) {
        return Ok(None);
    }
    let path = &crate::sys::environment::working_directory().unwrap_or_default().join(path);
    // Without procfs the filesystem of the path is not known.
    let Ok(mounts) = jail.procfs.mounts() else { return Ok(None) };
    // The kernel itself answers for other filesystems.
    let mount = mountinfo::holding(&mounts, &mountinfo::normalize(path)).filter(|mount| mount.is_fuse());
    let Some(mount) = mount else { return Ok(None) };
    let prober = Prober::start(mount.owner(), None, &jail.procfs)?;
    events.mountpoints.add_prober(prober.pid);
    let timeout = plan.mountpoints.timeout;
    let rhythm = Rhythm { interval: timeout, patience: timeout };
    let asked = prober.ask(path, rhythm).context("ask the prober about", path.display());
    let answer = asked.and_then(|()| await_answer(events, &prober, operation, path, timeout));
    prober.kill();
    answer.map(Some)
}

fn await_answer(
    events: &mut EventLoop,
    prober: &Prober,
    operation: &str,
    path: &Path,
    timeout: Duration,
) -> Result<Answer> {
    let deadline = running_time::now() + timeout;
    let failed = |why: &str| Err(Error::new(operation, path.display(), why));
    loop {
        if let Some(reply) = prober.reply() {
            return Ok(reply.answer);
        }
        if running_time::now() >= deadline {
            return failed(mountpoints::HANGS);
        }
        if let Err(interruption) = events.pause(Some(prober.descriptors()[0]), Some(deadline)) {
            events.put_interruption_back(*interruption);
            return failed("interrupted while waiting for it");
        }
        if events.mountpoints.probers().all(|pid| pid != prober.pid) {
            return failed(&prober.why_it_ended());
        }
    }
}

/// Whether a hook can meet a filesystem that is served by a process: a hook has mounted one, one is to be
/// checked, or one was there before the first hook.
pub fn may_meet_fuse(events: &EventLoop, jail: &Jail) -> bool {
    let is_known_to_be_free = jail.foreign_fuse.as_ref().is_some_and(Vec::is_empty);
    jail.has_run_commands || !events.mountpoints.is_empty() || !is_known_to_be_free
}
