//! Runs the hooks of a phase. Hooks that change PID 1 itself are carried out here, others in a child.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;

use crate::config::plan::{Action, Hook, Phase, VassalPlan};
use crate::error::{Context, Error, Result, received};
use crate::identity::Confinement;
use crate::init::child::launch::{Launch, Launched, Progress};
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::wakeup::{Interrupted, Unfinished};
use crate::init::jail::Jail;
use crate::init::outcome::{End, Ended};
use crate::init::steps::{action, root};
use crate::log::Elapsed;
use crate::mount::fuse_device;
use crate::mount::request::Fuse;
use crate::path::Walk;
use crate::protocol::{EXIT_SETUP, SetupFailure, WaitStatus};
use crate::running_time;
use crate::sys::{child, fd, signal};

/// Why a phase was not completed.
pub enum Failed {
    /// A hook failed.
    Hook(Box<SetupFailure>),
    /// An event makes the rest of the phase pointless.
    Interrupted(Interrupted),
    /// A hook asked for the end, with this exit status.
    Exit(i32),
}

impl From<Failed> for Ended {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Hook(failure) => End::Setup(failure, EXIT_SETUP).into(),
            Failed::Interrupted(interruption) => interruption.into(),
            Failed::Exit(status) => End::Hook(status).into(),
        }
    }
}

/// Why a hook did not succeed.
enum Trouble {
    /// The hook failed. `key` is the key to blame, with its place, if it is not the hook's own: the child
    /// could not be prepared.
    Error {
        error: Error,
        key: Option<String>,
    },
    Interrupted(Interrupted),
    Exit(i32),
}

impl Trouble {
    /// Removes what a private hook hides. The error of an action names the action's object; the error of a
    /// command names only the command.
    fn concealed(self, hook: &Hook) -> Self {
        match self {
            Self::Error { error, key } if hook.private && !matches!(hook.action, Action::Exec(_)) => {
                let text = &hook.source.value;
                let error = match error.errno() {
                    0 => Error::new("run", text, "failed; it is private, so its error is not shown"),
                    errno => Error::os("run", text, received(errno)),
                };
                Self::Error { error, key }
            }
            trouble => trouble,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error { error, key: None }
    }
}

/// A hook that takes longer than this is logged, so that a user sees what a start waits for.
pub const SLOW: Duration = Duration::from_secs(5);

/// Runs the hooks of one phase, in order, up to the first that fails.
///
/// # Errors
/// The error of the action that failed, with the place of its hook; or an interruption came first.
pub fn run(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan, phase: Phase) -> Result<(), Failed> {
    for (index, hook) in (1..).zip(plan.hooks.iter().filter(|hook| hook.phase == phase)) {
        events.check().map_err(Failed::Interrupted)?;
        let start = running_time::now();
        let text = &hook.source.value;
        let result = run_one(events, jail, plan, hook);
        if phase < Phase::AsUser {
            // The next one may hide what this one has mounted.
            events.mountpoints.note_layers(None);
        }
        match result.map_err(|trouble| trouble.concealed(hook)) {
            Ok(()) if matches!(hook.action, Action::Print(_)) => {}
            Ok(()) => {
                crate::log!("{phase} #{index}: {text}: done in {}", Elapsed(running_time::since(start)))
            }
            Err(Trouble::Interrupted(interruption)) => return Err(Failed::Interrupted(interruption)),
            Err(Trouble::Exit(_)) if phase == Phase::AsUserAtexit => {
                crate::log!("{phase} #{index}: {text}: this is the end already, ignored");
            }
            Err(Trouble::Exit(status)) => return Err(Failed::Exit(status)),
            // At the exit there is nothing left to lose, and the next hook may still unmount.
            Err(Trouble::Error { error, key }) if hook.tolerant || phase == Phase::AsUserAtexit => {
                let place = key.unwrap_or_else(|| hook.source.at.to_string());
                crate::log!("{phase} #{index}: {error} ({place}), ignored");
            }
            Err(Trouble::Error { error, key }) => {
                let own = || format!("{}: {}", hook.source.at, hook.source.key);
                let what = format!("{error} ({})", key.unwrap_or_else(own));
                let (phase, errno) = (phase.to_string(), error.errno());
                return Err(Failed::Hook(Box::new(SetupFailure { phase, index, what, errno })));
            }
        }
    }
    Ok(())
}

/// Runs the hook of `mountpoint-lost`. A failure is only logged, because the app goes on. Returns an exit
/// status if the hook asks for the end.
pub fn run_after_loss(
    events: &mut EventLoop,
    jail: &mut Jail,
    plan: &VassalPlan,
    hook: &Hook,
) -> Option<i32> {
    let (start, text) = (running_time::now(), &hook.source.value);
    match run_one(events, jail, plan, hook) {
        Ok(()) => crate::log!("{}: {text}: done in {}", hook.phase, Elapsed(running_time::since(start))),
        // The main loop deals with the event that came meanwhile.
        Err(Trouble::Interrupted(interruption)) => events.put_interruption_back(*interruption),
        Err(Trouble::Exit(status)) => return Some(status),
        Err(Trouble::Error { error, key }) => {
            let place = key.unwrap_or_else(|| hook.source.at.to_string());
            crate::log!("{}: {error} ({place}), ignored", hook.phase);
        }
    }
    None
}

fn run_one(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan, hook: &Hook) -> Result<(), Trouble> {
    match &hook.action {
        Action::Exec(command) => {
            jail.note_command();
            let child = child_for(jail, plan, hook.phase).command(command)?;
            wait_for_child(events, plan, hook, &child)?;
        }
        Action::Fuse(fuse) => {
            needs_own_mounts(jail, "fuse:")?;
            jail.note_command();
            run_fuse(events, jail, plan, hook, fuse)?;
        }
        // Before the privilege drop PID 1 enters the directory as well. Later only its children do: PID 1
        // must not enter, or even look at, a directory of a filesystem that can hang.
        Action::Chdir(path) => {
            if hook.phase < Phase::AsUser {
                root::must_answer(events, jail, plan, "chdir", path)?;
                root::enter(jail, "chdir", path)?;
            }
            jail.change_workdir(path);
        }
        Action::Print(text) => crate::log!("{text}"),
        Action::Putenv(name, value) => jail.set_variable(name, value),
        Action::Hostname(name) => jail.set_hostname(name)?,
        Action::Chroot(path) => root::change(events, jail, plan, "chroot", path)?,
        Action::SafeProc => {
            needs_own_mounts(jail, "proc = safe")?;
            run_action(events, jail, plan, hook)?;
        }
        Action::Umask(mask) => jail.set_umask(*mask),
        Action::Exit(status) => return Err(Trouble::Exit(*status)),
        Action::Mount(_)
        | Action::Mkdir(_)
        | Action::Rmdir(_)
        | Action::Unlink(_)
        | Action::Create(_)
        | Action::Write { .. }
        | Action::WriteFifo { .. }
        | Action::Chmod { .. }
        | Action::Chown { .. }
        | Action::Sticky(_)
        | Action::WaitFor { .. } => run_action(events, jail, plan, hook)?,
        Action::Umount(umount) => {
            run_action(events, jail, plan, hook)?;
            if jail.walk.old_root.as_ref() == Some(&umount.target) {
                jail.forget_old_root();
            }
        }
    }
    Ok(())
}

/// Mounts, and runs the command that serves the mount, in one child. No other process may have the device
/// open when the daemon dies: the mount would then wait for an answer instead of failing.
fn run_fuse(
    events: &mut EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    hook: &Hook,
    fuse: &Fuse,
) -> Result<(), Trouble> {
    // Reserves the number at which the child gets the device.
    let place = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).context("reserve", "a descriptor")?;
    let number = place.as_raw_fd();
    let command = fuse.command.join(OsStr::new(&format!("/dev/fd/{number}")));
    let user = jail.identity.as_ref().filter(|_| hook.phase >= Phase::AsUser);
    let uid = user.and_then(|user| user.uid).unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let gid = user.and_then(|user| user.gid).unwrap_or_else(|| rustix::process::getegid().as_raw());
    let mount = || {
        let device = fuse_device::mount(fuse, (uid, gid), &jail.walk)?;
        fd::place(&device, number).context("hand on", "the FUSE device")
    };
    let passed = [place.as_fd()];
    let launch = Launch { first: Some(&mount), passed: &passed, ..child_for(jail, plan, hook.phase) };
    let child = launch.command(&command)?;
    drop(place);
    wait_for_child(events, plan, hook, &child)
}

/// Refuses an operation that would change the mounts of the host.
fn needs_own_mounts(jail: &Jail, what: &str) -> Result<()> {
    if jail.has_namespace(libc::CLONE_NEWNS) {
        return Ok(());
    }
    let reason = "needs a mount namespace (unshare = fs, or fs in emperor-use-clone): without one \
                  it changes the host's mounts";
    Err(Error::new("use", what, reason))
}

/// The state of a child for a command of a hook, confined like the app if the plan says so. In tyrant mode
/// the owner of the file is the user in all phases.
pub fn child_for<'a>(jail: &'a Jail, plan: &'a VassalPlan, phase: Phase) -> Launch<'a> {
    let as_user = phase >= Phase::AsUser;
    let plain = jail.helper(as_user);
    if !plan.privileges.confine_hooks || !(as_user || jail.owner.is_some()) {
        return plain;
    }
    Launch {
        identity: jail.identity.as_ref(),
        confinement: Some(Confinement::of(plan)),
        resources: Some(&plan.resources),
        filter: jail.filter.as_deref(),
        ..plain
    }
}

/// Performs an action in a child, because a process that touches a filesystem can hang with it. Where no
/// filesystem can hang, PID 1 mounts by itself: to create a process for each mount would be most of the cost.
fn run_action(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan, hook: &Hook) -> Result<(), Trouble> {
    let is_mount = matches!(hook.action, Action::Mount(_) | Action::Umount(_) | Action::SafeProc);
    if is_mount && hook.phase < Phase::AsUser && !root::may_meet_fuse(events, jail) {
        return Ok(action::perform(&hook.action, jail, &jail.walk)?);
    }
    let as_user = hook.phase >= Phase::AsUser;
    let walk = Walk { as_user, ..jail.walk.clone() };
    let worker = jail.worker(as_user);
    let child = worker.work(|| action::perform(&hook.action, jail, &walk).map(|()| String::new()))?;
    wait_for_child(events, plan, hook, &child)
}

/// Waits for the end of a hook's child. A child that takes too long is killed with everything that it
/// started.
fn wait_for_child(
    events: &mut EventLoop,
    plan: &VassalPlan,
    hook: &Hook,
    launched: &Launched,
) -> Result<(), Trouble> {
    let text = &hook.source.value;
    let timeout = plan.hook_timeout;
    let pid = launched.pid;
    let start = running_time::now();
    let mut ended = events.wait_for(pid, start + timeout.min(SLOW));
    if timeout > SLOW && matches!(ended, Err(Unfinished::Deadline)) {
        let (slow, most) = (Elapsed(SLOW), Elapsed(timeout));
        let phase = &hook.phase;
        events.tell_wait(format!("{phase}: {text}: still running after {slow}; it is given {most}"));
        ended = events.wait_for(pid, start + timeout);
        events.waits_no_more();
    }
    let status = match ended {
        Ok(status) => status,
        Err(unfinished) => {
            // The child's pid is also the number of its process group until it is reaped. A child that was
            // created just now may not lead the group yet.
            if child::is_child(pid) {
                let _ = signal::kill(pid.as_raw_pid(), libc::SIGKILL);
                let _ = signal::kill(-pid.as_raw_pid(), libc::SIGKILL);
            }
            return Err(match unfinished {
                Unfinished::Interrupted(interruption) => Trouble::Interrupted(interruption),
                Unfinished::Deadline => {
                    let reason = format!("still running after {}, killed", Elapsed(timeout));
                    Error::new("run", text, reason).into()
                }
            });
        }
    };
    match (launched.progress(), status) {
        (Progress::Failed(failure), _) => {
            let key = failure.key(plan);
            Err(Trouble::Error { error: failure.error, key })
        }
        (_, WaitStatus::Exited(0)) => Ok(()),
        (_, status) => Err(Error::new("run", text, status).into()),
    }
}
