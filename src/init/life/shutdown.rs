//! The end of a vassal.
//!
//! In an orderly end the app is asked to stop and killed when its time is up; then the hooks for the exit
//! run; then all other processes are asked to end and killed. After a lost mountpoint everything is killed at
//! once: a process that waits for the dead filesystem would never end.

use std::path::PathBuf;
use std::time::Duration;

use rustix::mount::UnmountFlags;
use rustix::process::Pid;

use crate::config::cmdline::entrypoint::Rest;
use crate::config::plan::{Phase, VassalPlan};
use crate::init::child::notices::{self, WARNINGS};
use crate::init::child::reaper;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::wakeup::{Attention, StopRequest, Wakeup};
use crate::init::jail::Jail;
use crate::init::outcome::End;
use crate::init::steps::hooks;
use crate::init::vassal::Vassal;
use crate::log::Elapsed;
use crate::mount::fusectl;
use crate::mount::mountinfo::Mount;
use crate::mount::ops;
use crate::protocol::{EXIT_CONFIG, EXIT_MOUNT_LOST, EXIT_NOT_READY, ExitReason, FromVassal, WaitStatus};
use crate::running_time;
use crate::signal_names;

/// The time between SIGTERM and SIGKILL for the processes that the app left behind, if no hook can have
/// started a daemon.
pub const SWEEP_GRACE: Duration = Duration::from_secs(2);

/// The shortest grace for the processes of a command. The grace counts from the request to stop, and the
/// command itself may have used all of it.
const LEAST_GRACE: Duration = Duration::from_secs(1);

/// How long SIGKILL may take. A process that outlives this is stuck in the kernel, or was not found.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// How long SIGKILL may take in all while processes still end: on a busy machine thousands of processes take
/// longer than [`KILL_GRACE`].
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// After SIGKILL: the time between two searches for processes that were born meanwhile.
const KILL_AGAIN: Duration = Duration::from_millis(2);

/// The exit status after a request to stop that came before the app ran: the same as for an end by SIGTERM.
pub const EXIT_STOPPED: i32 = 128 + libc::SIGTERM;

/// Ends everything, tells the emperor and the log, and returns the exit status.
pub fn finish(vassal: &mut Vassal, end: End) -> i32 {
    let Vassal { events, jail, source, life } = vassal;
    let plan = &source.plan;
    let watched = events.mountpoints.stop();
    events.stop_checks();
    let code = exit_status(events, &end);
    let status = events.app.as_ref().and_then(|app| app.status);
    let interrupt = events.job.as_ref().and_then(|job| job.interrupt(status));
    if let Some(job) = &events.job {
        job.give_terminal_back();
    }
    let (reason, request) = match end {
        End::App(status) => match (status, events.take_oom_kills()) {
            (WaitStatus::Signaled(libc::SIGKILL), kills @ 1..) => (ExitReason::OutOfMemory(kills), None),
            (_, kills) => (reason_of(events, jail, plan, status, kills), None),
        },
        End::Hook(status) => (ExitReason::App(WaitStatus::Exited(status)), None),
        End::Stopped(request) => (ExitReason::Stopped, request),
        End::Setup(failure, _) => (ExitReason::Setup(*failure), None),
        End::Invalid(mistake) => (ExitReason::Config(mistake), None),
        End::NotReady(why) => (ExitReason::NotReady(why), None),
        End::Lost(what) => {
            destroy(events, jail, &watched, &what);
            return code;
        }
    };
    tell_reason(events, plan, &reason);
    events.set_attention(Attention::Ending);
    // Gives the emperor the longest time, so that it does not kill a daemon that still writes.
    events.send(&FromVassal::Stopping(longest_stop(plan)));
    if life.had_app {
        end_app(events, plan);
        run_exit_hooks(events, jail, plan);
    }
    end_the_rest(events, jail, plan);
    jail.finish_outputs();
    if let Some(request) = request {
        crate::log!("stopped, {} after the request", Elapsed(running_time::since(request.since)));
    }
    events.send(&FromVassal::Exiting(reason));
    if let Some((job, number)) = events.job.as_ref().zip(interrupt) {
        job.end_by(number);
    }
    code
}

/// Why the vassal ends after its app. If that has failed, with how many of its processes the kernel has
/// killed for want of memory, or with the last line of its output, or with where that is, as far as it does
/// not go where ours goes; else with the processes that it has left.
fn reason_of(
    events: &EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    status: WaitStatus,
    kills: u64,
) -> ExitReason {
    let said = match status.code() {
        0 if events.entry.is_some() => None,
        0 => {
            let left = processes_of_the_app(events, jail, plan);
            let count = left.len();
            left.first().map(|&first| format!("processes left ({count}): {}", jail.procfs.describe(first)))
        }
        _ if kills > 0 => Some(format!("out of memory: the kernel has killed {kills} of its processes")),
        _ => jail.given.outputs.errors().last_line(),
    };
    said.map_or(ExitReason::App(status), |said| ExitReason::AppSaid(status, said))
}

fn exit_status(events: &EventLoop, end: &End) -> i32 {
    let status = events.app.as_ref().and_then(|app| app.status);
    let code = match end {
        End::App(status) => status.code(),
        End::Stopped(_) => status.map_or(EXIT_STOPPED, WaitStatus::code),
        End::Setup(_, code) | End::Hook(code) => *code,
        End::Lost(_) => EXIT_MOUNT_LOST,
        End::NotReady(_) => EXIT_NOT_READY,
        End::Invalid(_) => EXIT_CONFIG,
    };
    match (&events.entry, end) {
        (Some(entry), End::App(_) | End::Stopped(_)) => entry.status_for(code),
        _ => code,
    }
}

/// Ends everything at once, because a mountpoint was lost.
fn destroy(events: &mut EventLoop, jail: &mut Jail, watched: &[(PathBuf, u64)], what: &str) {
    // The emperor is told first, because the kernel may take long.
    events.send(&FromVassal::Exiting(ExitReason::MountLost(what.to_owned())));
    if !jail.has_namespace(libc::CLONE_NEWNS) {
        // Unmounting may hang, too, and the emperor waits for a limited time only.
        events.send(&FromVassal::Stopping(KILL_LIMIT));
    }
    crate::log!("{what}; destroying the instance");
    events.set_attention(Attention::Ending);
    jail.finish_outputs();
    let is_init = rustix::process::getpid().is_init();
    match jail.has_namespace(libc::CLONE_NEWNS) {
        // When PID 1 ends, which is next, the kernel kills all other processes.
        true if is_init => {}
        false if is_init => signal_rest(events, jail, libc::SIGKILL),
        _ => kill_rest(events, jail),
    }
    if !jail.has_namespace(libc::CLONE_NEWNS) {
        // The next instance mounts at the same place, and without a mount namespace only this process removes
        // the dead mount.
        for (path, mount) in watched {
            match ops::umount_watched(path, *mount, UnmountFlags::DETACH) {
                Ok(()) => {}
                // The mount is gone already.
                Err(error) if error.errno() == libc::EINVAL => {}
                Err(error) => crate::log!("{error}"),
            }
        }
    }
}

/// Logs why the vassal ends, if that is not obvious.
fn tell_reason(events: &EventLoop, plan: &VassalPlan, reason: &ExitReason) {
    match reason {
        ExitReason::Stopped | ExitReason::Config(_) => {}
        // The starter of a command sees the status.
        ExitReason::App(_) | ExitReason::AppSaid(..) if events.entry.is_some() => {}
        // Only the app's own log lines tell the reason.
        ExitReason::App(status) if status.code() != 0 => {
            let source = &plan.app_source;
            crate::log!("{reason} ({}: {}); its own lines tell why", source.at, source.key);
        }
        ExitReason::AppSaid(status, said) => {
            let source = &plan.app_source;
            crate::log!("app {status} ({}: {}), {said}", source.at, source.key);
        }
        ExitReason::Setup(failure) if events.entry.is_some() && failure.phase == "app" => {
            crate::log!("{}", failure.what);
        }
        reason => crate::log!("{reason}"),
    }
}

/// How long an orderly stop may take, everything included.
pub fn longest_stop(plan: &VassalPlan) -> Duration {
    plan.stop.timeout
        + longest_phases(plan, &[Phase::AsUserAtexit])
        + plan.stop.unmount_timeout * 2
        + SWEEP_GRACE
        + KILL_GRACE * 4
        + KILL_LIMIT
}

/// How long the hooks of these phases may take.
pub fn longest_phases(plan: &VassalPlan, phases: &[Phase]) -> Duration {
    let hooks = plan.hooks.iter().filter(|hook| phases.contains(&hook.phase)).count();
    plan.hook_timeout.saturating_mul(hooks as u32)
}

/// Stops an app that is alive although a hook failed after its start. It may already serve, so it is stopped
/// in order.
fn end_app(events: &mut EventLoop, plan: &VassalPlan) {
    let mut first: Option<StopRequest> = None;
    for (number, time) in [(plan.signal_to_stop(), plan.stop.timeout), (libc::SIGKILL, KILL_GRACE)] {
        if let Some(app) = events.living_app() {
            // A child that could not execute its program ends by itself, and was never the app.
            if app.is_started() {
                crate::log!("{} to the app", signal_names::name(number));
            }
            events.signal_app(number);
            events.signal_app(libc::SIGCONT);
        }
        let deadline = running_time::now() + time;
        while events.living_app().is_some() && running_time::now() < deadline {
            // In the shutdown a loss or a new file no longer matters.
            let Wakeup { stop, lost: _, reload: _, signals: _ } = events.wait(None, Some(deadline));
            match (stop, &first) {
                (Some(request), None) => first = Some(request),
                (Some(later), Some(request)) if request.is_repeated_by(&later) => {
                    crate::log!("{} again: SIGKILL to the app", later.who);
                    events.signal_app(libc::SIGKILL);
                }
                (Some(_), Some(_)) | (None, _) => {}
            }
        }
    }
}

/// Runs the hooks for the exit, and gives a daemon whose filesystem they unmounted time to write its data.
/// Failures are not fatal, because there is nothing left to lose.
fn run_exit_hooks(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan) {
    if !plan.hooks.iter().any(|hook| hook.phase == Phase::AsUserAtexit) {
        return;
    }
    end_what_the_app_left(events, jail, plan);
    // A failed hook does not end this phase, and nothing interrupts it.
    let _ = hooks::run(events, jail, plan, Phase::AsUserAtexit);
    let deadline = running_time::now() + plan.stop.unmount_timeout;
    while !events.is_childless() && running_time::now() < deadline {
        events.pass_time(deadline);
    }
}

/// Ends the processes that the app left behind, which may still use a filesystem that the hooks are about to
/// unmount.
pub fn end_what_the_app_left(events: &mut EventLoop, jail: &Jail, plan: &VassalPlan) {
    for (number, time) in [(libc::SIGTERM, SWEEP_GRACE), (libc::SIGKILL, KILL_GRACE)] {
        let deadline = running_time::now() + time;
        let mut left = processes_of_the_app(events, jail, plan);
        if !left.is_empty() {
            let (count, name) = (left.len(), signal_names::name(number));
            crate::log!("the app has left processes behind ({count}): {name}");
            reaper::kill_below_us(&jail.procfs, &left, number);
        }
        while !left.is_empty() && running_time::now() < deadline {
            let until = if number == libc::SIGKILL { running_time::now() + KILL_AGAIN } else { deadline };
            events.pass_time(until.min(deadline));
            left = processes_of_the_app(events, jail, plan);
            if number == libc::SIGKILL {
                // Some may have started others before the signal reached them.
                reaper::kill_below_us(&jail.procfs, &left, number);
            }
        }
    }
}

/// The processes of the app: all except probers and processes that are older than the app. Some of the
/// younger ones may come from hooks, such as a daemon that `post-app` started. If the app is confined by
/// no_new_privs, those are recognised, because they are not.
fn processes_of_the_app(events: &EventLoop, jail: &Jail, plan: &VassalPlan) -> Vec<Pid> {
    let mut spared = events.helper_pids.clone();
    spared.extend(events.mountpoints.probers());
    spared.extend(jail.given.outputs.pids());
    let mut left = jail.procfs.below_us(&spared);
    let is_marked = plan.privileges.no_new_privs && jail.app_is_users(plan);
    // If this process is confined as well, so are all its children, and the mark tells nothing.
    if is_marked && rustix::thread::no_new_privs() == Ok(false) {
        left.retain(|&pid| jail.procfs.has_no_new_privs(pid));
    }
    left
}

/// Ends all processes that are left, unless the starter of a command does not want it.
fn end_the_rest(events: &mut EventLoop, jail: &mut Jail, plan: &VassalPlan) {
    match events.entry.as_ref().map(|entry| (entry.rest, entry.rewritten(libc::SIGTERM))) {
        Some((Rest::Leave, _)) => {}
        Some((Rest::Terminate, number)) => {
            if let Some(job) = events.job.as_ref().filter(|_| number != 0) {
                job.signal_group(number);
            }
        }
        Some((Rest::Sweep(grace), _)) => {
            // A container engine limits the stop as a whole, and then kills the init.
            let spent = events.stop_asked.map_or(Duration::ZERO, running_time::since);
            sweep(events, jail, grace.saturating_sub(spent).max(grace.min(LEAST_GRACE)));
        }
        // A FUSE daemon unmounts at SIGTERM, and may then have much to write.
        None if jail.has_run_commands => sweep(events, jail, plan.stop.unmount_timeout),
        None => sweep(events, jail, SWEEP_GRACE),
    }
}

/// Ends all descendants: SIGTERM, and SIGKILL after the grace. Returns as soon as none is left.
fn sweep(events: &mut EventLoop, jail: &mut Jail, grace: Duration) {
    if events.is_childless() {
        return;
    }
    signal_rest(events, jail, libc::SIGTERM);
    // A stopped process must run in order to end.
    signal_rest(events, jail, libc::SIGCONT);
    if is_over_within(events, jail, grace, None) {
        return;
    }
    let left = format!("processes are left {} after SIGTERM: SIGKILL", Elapsed(grace));
    match &events.entry {
        Some(entry) => notices::say(entry, WARNINGS, format_args!("{left}")),
        None => crate::log!("{left}"),
    }
    // They would be killed as well.
    jail.finish_outputs();
    kill_rest(events, jail);
}

/// Kills all descendants, repeatedly, because new ones may be born meanwhile. If some outlive that, aborts
/// hanging FUSE filesystems to free them, and gives a busy machine more time as long as some still end. Logs
/// the processes that are left after that.
fn kill_rest(events: &mut EventLoop, jail: &Jail) {
    let start = running_time::now();
    if is_over_within(events, jail, KILL_GRACE, Some(libc::SIGKILL)) {
        return;
    }
    let mut left = jail.procfs.below_us(&[]);
    let mut is_worth_it = abort_own_fuse(jail) || !left.is_empty();
    while is_worth_it {
        if is_over_within(events, jail, KILL_GRACE, Some(libc::SIGKILL)) {
            return;
        }
        let before = std::mem::replace(&mut left, jail.procfs.below_us(&[]));
        is_worth_it = before.iter().any(|pid| !left.contains(pid)) && running_time::since(start) < KILL_LIMIT;
    }
    let left: Vec<_> = left.into_iter().map(|pid| jail.procfs.describe(pid)).collect();
    match left.is_empty() {
        true => crate::log!("processes are left that no signal reaches: /proc does not show them"),
        false => {
            let time = Elapsed(running_time::since(start));
            crate::log!("processes are left {time} after SIGKILL: {}", left.join(", "));
        }
    }
}

/// Waits until no child is left, and meanwhile sends a signal to all descendants, repeatedly. Returns whether
/// all ended within the time.
fn is_over_within(events: &mut EventLoop, jail: &Jail, time: Duration, number: Option<i32>) -> bool {
    let deadline = running_time::now() + time;
    loop {
        if events.is_childless() {
            return true;
        }
        let now = running_time::now();
        if now >= deadline {
            return false;
        }
        let mut until = deadline;
        if let Some(number) = number {
            signal_rest(events, jail, number);
            until = deadline.min(now + KILL_AGAIN);
        }
        // In the shutdown, a signal for a command that has ended is meant for the processes that it left
        // behind.
        let Wakeup { stop: _, lost: _, reload: _, signals } = events.wait(None, Some(until));
        for number in signals {
            match events.entry.as_ref().map_or(0, |entry| entry.rewritten(number)) {
                0 => {}
                rewritten => signal_rest(events, jail, rewritten),
            }
        }
    }
}

/// Signals all descendants. If /proc does not tell which these are, at least the group of the command.
fn signal_rest(events: &EventLoop, jail: &Jail, number: i32) {
    // To signal everybody in the namespace, the kernel walks all processes of the machine, and nobody can be
    // born or end meanwhile. That is what it takes to kill, and to reach who has entered a container.
    let needs_everybody = number == libc::SIGKILL || events.entry.is_some();
    if !needs_everybody && reaper::kill_found(&jail.procfs, number) {
        return;
    }
    if !reaper::kill_all(&jail.procfs, number)
        && let Some(job) = &events.job
    {
        job.signal_group(number);
    }
}

/// Aborts the FUSE connections of this vassal, because a process that waits for a hanging FUSE filesystem
/// outlives even SIGKILL. Filesystems that are older than the vassal, or visible to others, are left alone.
/// If PID 1 has given up the right to abort, the emperor may do it. Returns whether there was a connection.
fn abort_own_fuse(jail: &Jail) -> bool {
    let (Some(foreign), true) = (&jail.foreign_fuse, jail.has_namespace(libc::CLONE_NEWNS)) else {
        return false;
    };
    let mut own: Vec<_> =
        jail.procfs.mounts().unwrap_or_default().iter().filter_map(Mount::connection).collect();
    own.retain(|connection| !foreign.contains(connection));
    own.dedup();
    if own.is_empty() {
        return false;
    }
    match fusectl::abort(&own) {
        Ok(()) => crate::log!("aborted FUSE connections: {}", own.len()),
        Err(error) => crate::log!("{error}"),
    }
    true
}
