//! What follows a lost mountpoint while the app runs (`mountpoint-lost`): the end, a new mount, or a hook.
//!
//! # Mounting again
//!
//! First the dead mount is unmounted by force. That aborts its connection, so no process hangs in it any
//! longer, and the app can be stopped in order. Then the phase that had mounted it runs again as a whole,
//! since it is not known which of its commands belong together; the other checked paths that this phase had
//! mounted are unmounted before. The app is started as after a reload. Files that a process kept open stay
//! broken.
//!
//! It is not tried where it cannot work or would harm others:
//!
//! - the filesystem is older than the phases or the change of root, and a phase has only bound it to its
//!   place;
//! - another mount was put over it;
//! - the configuration cannot be read again, as at a reload.
//!
//! If the new mount does not last, or a step fails, the instance ends, and the emperor makes a clean one.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::Pid;

use crate::config::plan::{MountpointLost, Phase, VassalPlan};
use crate::init::child::launch::{Launch, Progress};
use crate::init::event_loop::wakeup::{Attention, Unfinished};
use crate::init::life::reload::{Unread, load_again};
use crate::init::life::setup::{run_again, run_phase};
use crate::init::outcome::{End, Ended};
use crate::init::steps::hooks;
use crate::init::vassal::Vassal;
use crate::init::watch::checked_path::{Lost, Maker};
use crate::init::watch::mountpoints::GivenUp;
use crate::init::watch::watchdog::Loss;
use crate::log::Elapsed;
use crate::mount::ops;
use crate::running_time;
use crate::sys::child;

/// A mount that is lost again within this time after it was made anew is not made a third time.
const LASTS: Duration = Duration::from_secs(10);

/// What becomes of the app after a loss.
pub enum Survival {
    /// The instance ends.
    No,
    /// A hook asked for the end, with this exit status.
    Exit(i32),
    /// The app goes on.
    Yes,
    /// The app is to be stopped, and started on a new mount.
    Remount(Remount),
}

/// A remount that has begun: the old mounts are unmounted.
pub struct Remount {
    /// The phase that is to run again.
    phase: Phase,
    /// The plan that the app is started by afterwards.
    plan: Rc<VassalPlan>,
    /// The loss, for the log.
    lost: String,
    /// When the loss was noticed.
    since: Instant,
}

/// Does what the plan says about a loss. Only a running app survives a loss: while it is being started or
/// stopped there is nothing to be saved.
pub fn survive(vassal: &mut Vassal, lost: &Lost, is_running: bool) -> Survival {
    let plan = Rc::clone(&vassal.source.plan);
    match &plan.mountpoints.lost {
        MountpointLost::Hook(hook) if is_running => {
            crate::log!("{}; the app goes on", lost.what);
            vassal.events.set_attention(Attention::Repairing);
            let exit = hooks::run_after_loss(&mut vassal.events, &mut vassal.jail, &plan, hook);
            vassal.events.set_attention(Attention::All);
            exit.map_or(Survival::Yes, Survival::Exit)
        }
        MountpointLost::Remount if is_running => match begin_remount(vassal, lost) {
            Ok(remount) => Survival::Remount(remount),
            Err(why) => {
                crate::log!("{}: not mounted again: {why}", lost.path.display());
                Survival::No
            }
        },
        MountpointLost::Destroy | MountpointLost::Hook(_) | MountpointLost::Remount => Survival::No,
    }
}

/// Unmounts the dead mount, and all that its phase had mounted; says why not if it cannot be made anew.
fn begin_remount(vassal: &mut Vassal, lost: &Lost) -> Result<Remount, String> {
    let since = running_time::now();
    let maker = vassal.events.mountpoints.maker(&lost.path);
    let Maker::Phase(phase) = maker else {
        return Err("its filesystem is older than the first phase or the change of root".into());
    };
    if lost.loss == Loss::Replaced {
        return Err("what is mounted over it is not ours".into());
    }
    if vassal.life.remounted.is_some_and(|at| since.saturating_duration_since(at) < LASTS) {
        return Err(format!("that was done less than {} ago", Elapsed(LASTS)));
    }
    let plan = match phase {
        // This phase runs on the way to the app. `if-not-reload` may guard its mounts, so a fresh plan is
        // followed.
        Phase::AsUser => Rc::clone(&vassal.source.fresh),
        _ => {
            let loaded = load_again(vassal, &vassal.source.inputs, true);
            Rc::new(loaded.map_err(|(Unread::Mistake(why) | Unread::NeedsRespawn(why))| why)?.plan)
        }
    };
    crate::log!("{}; running {phase} again and restarting the app", lost.what);
    vassal.events.set_attention(Attention::Repairing);
    for GivenUp { path, mount, daemon } in vassal.events.mountpoints.give_up(maker) {
        // The app may hang in what a stopped daemon was asked, of a filesystem that is unmounted already. And
        // a daemon of root's is out of sight where PID 1 has given up the right to look at it.
        daemon.into_iter().for_each(|pid| _ = child::kill(pid));
        if let Some(mount) = mount {
            unmount_by_force(vassal, &path, mount);
        }
    }
    end_daemons(vassal, phase);
    Ok(Remount { phase, plan, lost: lost.what.clone(), since })
}

/// Unmounts in a child, since everything that touches a path may hang. A failure is ignored, as the mount may
/// not be there any more; the gate before the app checks what is there.
fn unmount_by_force(vassal: &mut Vassal, path: &Path, mount: u64) {
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH;
    let work = || ops::umount_watched(path, mount, flags).map(|()| String::new());
    match vassal.jail.worker(false).work(work) {
        Ok(child) => wait_for(vassal, child.pid),
        Err(error) => crate::log!("mountpoint-lost: {error}"),
    }
}

/// Waits for a child, as long as for a hook at most. The main loop deals with what interrupts that.
fn wait_for(vassal: &mut Vassal, child: Pid) {
    let deadline = running_time::now() + vassal.source.plan.hook_timeout;
    if let Err(Unfinished::Interrupted(interruption)) = vassal.events.wait_for(child, deadline) {
        vassal.events.put_interruption_back(*interruption);
    }
}

/// Kills the daemons whose connection has ended. One that a hook has left behind stopped would stay for ever,
/// and not every kernel tells which daemon a mount has. A child looks for them: as the user, since PID 1 may
/// have given up the right to look at processes of others; or as PID 1, which keeps all rights if the phase
/// is one of root's.
fn end_daemons(vassal: &mut Vassal, phase: Phase) {
    let is_users = phase > Phase::AsRoot;
    let procfs = Rc::clone(&vassal.jail.procfs);
    let own = rustix::process::getpid();
    let work = || {
        let daemons = procfs.daemons_without_connection(own);
        Ok(daemons.iter().map(|pid| format!("{pid} ")).collect())
    };
    // The user's directory may be on the dead mount.
    let worker = Launch { workdir: None, ..vassal.jail.worker(is_users) };
    let user = worker.identity.and_then(|user| user.uid);
    let Ok(child) = worker.work(work) else { return };
    wait_for(vassal, child.pid);
    let Progress::Said(daemons) = child.progress() else { return };
    let daemons = daemons.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    // Its word counts for processes of the same user only.
    let is_its = |pid: &Pid| user.is_none_or(|uid| procfs.is_of(*pid, uid));
    daemons.filter(is_its).for_each(|pid| _ = child::kill(pid));
}

/// Mounts again and starts the app, once the old app has ended.
///
/// # Errors
/// The end of the instance: the loss, with what failed.
pub fn finish_remount(vassal: &mut Vassal, remount: Remount) -> Result<(), Ended> {
    let Remount { phase, plan, lost, since } = remount;
    // The end of the old app must not interrupt the phase.
    vassal.events.forget_app();
    let result = match phase {
        Phase::AsUser => Ok(()),
        _ => {
            vassal.source.run_by(Rc::clone(&vassal.source.fresh));
            run_phase(vassal, phase)
        }
    };
    vassal.life.remounted = Some(running_time::now());
    vassal.events.set_attention(Attention::All);
    match result.and_then(|()| run_again(vassal, plan)) {
        Ok(()) => {
            crate::log!("mounted again and running, {} after the loss", Elapsed(running_time::since(since)));
            Ok(())
        }
        Err(end) => Err(match *end {
            End::Setup(failure, _) => End::Lost(format!("{lost}; mounting again failed in {failure}")).into(),
            end => end.into(),
        }),
    }
}
