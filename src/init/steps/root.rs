//! The change of root: `chroot`, then `pivot_root`, between `pre-jail` and `post-jail`.

use std::path::Path;
use std::time::Duration;

use crate::config::plan::VassalPlan;
use crate::error::{Context, Error, Result};
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::watch::mountpoints;
use crate::init::watch::probe::{Probe, Rhythm};
use crate::init::watch::watchdog::Answer;
use crate::mount::mountinfo;
use crate::mount::ops;
use crate::mount::request::PivotRoot;
use crate::path;
use crate::running_time;

/// The change of root by `chroot`.
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
    // A hook may change the root before anything else has asked for accounts.
    jail.note_accounts();
    enter(jail, "chroot", path)?;
    rustix::process::chroot(c".").context("chroot", path.display())?;
    jail.root_changed(jail.walk.old_root.clone());
    Ok(())
}

/// Goes to a directory as root.
///
/// # Errors
/// chdir(2), or a link on the way is not followed.
pub fn enter(jail: &Jail, operation: &str, path: &Path) -> Result<()> {
    let directory = jail.walk.open(path, path::DIRECTORY).context(operation, path.display())?;
    rustix::process::fchdir(directory).context(operation, path.display())
}

/// The change of root by `pivot_root`. Afterwards PID 1 holds nothing of the old root: its working directory
/// is the new root, and the only open directory is a procfs that is mounted nowhere.
///
/// A filesystem that becomes the root can hang from that moment on: a union whose branches are reached
/// through its own mountpoint then waits for itself. So it is asked again before a process uses it.
///
/// # Errors
/// The step that failed, with a sentence for the many things that can be wrong with a new root.
pub fn pivot(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan, roots: &PivotRoot) -> Result<()> {
    let PivotRoot { new_root, put_old } = roots;
    let may_hang = must_answer(events, jail, plan, "new root:", put_old)?;
    ops::pivot_root(roots, &jail.walk)?;
    // If it is put at the new root itself, it is detached.
    let old = put_old.strip_prefix(new_root).ok().filter(|rest| !rest.as_os_str().is_empty());
    jail.root_changed(old.map(|rest| Path::new("/").join(rest)));
    if may_hang {
        must_answer(events, jail, plan, "new root:", Path::new("/"))?;
    }
    Ok(())
}

/// Goes to the root directory. A process that is there already does not touch it, as it may hang; nor may one
/// that has not changed it, which stands or falls with it anyway.
pub fn go_to_root(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan, operation: &str) -> Result<()> {
    if jail.walk.is_inside {
        if rustix::process::getcwd(Vec::new()).is_ok_and(|path| path.to_bytes() == b"/") {
            return Ok(());
        }
        must_answer(events, jail, plan, operation, Path::new("/"))?;
    }
    rustix::process::chdir(c"/").context(&format!("{operation} chdir"), "/")
}

/// Refuses a directory that PID 1 is about to enter if its filesystem fails or hangs. Returns whether the
/// filesystem is one that can hang.
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

/// Asks the filesystem that holds a path before PID 1 uses the path and may wait for ever. `None` for a
/// filesystem that the kernel answers for.
///
/// # Errors
/// It does not answer.
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
    // Without procfs it is not known which filesystem that is.
    let Ok(mounts) = jail.procfs.mounts() else { return Ok(None) };
    // For other filesystems the kernel answers.
    let mount = mountinfo::holding(&mounts, &mountinfo::normalize(path)).filter(|mount| mount.is_fuse());
    let Some(mount) = mount else { return Ok(None) };
    let probe = Probe::start(mount.owner(), None, &jail.procfs)?;
    events.mountpoints.add_prober(probe.pid);
    let timeout = plan.mountpoints.timeout;
    let rhythm = Rhythm { interval: timeout, patience: timeout };
    let asked = probe.ask(path, rhythm).context("ask the prober about", path.display());
    let answer = asked.and_then(|()| await_answer(events, &probe, operation, path, timeout));
    probe.kill();
    answer.map(Some)
}

fn await_answer(
    events: &mut EventLoop,
    probe: &Probe,
    operation: &str,
    path: &Path,
    timeout: Duration,
) -> Result<Answer> {
    let deadline = running_time::now() + timeout;
    let failed = |why: &str| Err(Error::new(operation, path.display(), why));
    loop {
        if let Some(reply) = probe.reply() {
            return Ok(reply.answer);
        }
        if running_time::now() >= deadline {
            return failed(mountpoints::HANGS);
        }
        if let Err(interruption) = events.pause(Some(probe.descriptors()[0]), Some(deadline)) {
            events.put_interruption_back(*interruption);
            return failed("interrupted while waiting for it");
        }
        if events.mountpoints.probers().all(|pid| pid != probe.pid) {
            return failed(&probe.why_it_ended());
        }
    }
}

/// Whether a filesystem that a process answers for can be in the way of a hook: a hook has mounted it, it is
/// to be checked, or it was there before the first hook.
pub fn may_meet_fuse(events: &EventLoop, jail: &Jail) -> bool {
    let is_known_to_be_free = jail.foreign_fuse.as_ref().is_some_and(Vec::is_empty);
    jail.has_run_commands || !events.mountpoints.is_empty() || !is_known_to_be_free
}
