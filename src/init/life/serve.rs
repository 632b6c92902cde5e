//! The running app, the request to stop, and the end.
//!
//! An orderly end goes outward in: the app is asked to stop and killed when its time is up, then the hooks for the exit
//! run, then everything else is asked and killed. A lost mountpoint has no such manners: whoever waits for the dead
//! filesystem would wait for ever.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::cmdline::entrypoint::Rest;
use crate::config::plan::{Phase, VassalPlan};
use crate::init::child::reaper;
use crate::init::event_loop::notify::Request;
use crate::init::life::remount::{Remount, Survival};
use crate::init::outcome::End;
use crate::init::steps::hooks;
use crate::init::vassal::Vassal;
use crate::log::Elapsed;
use crate::mount::fusectl;
use crate::mount::mountinfo::Mount;
use crate::mount::ops::{self, Walk};
use crate::mount::request::Umount;
use crate::protocol::{EXIT_CONFIG, EXIT_MOUNT_LOST, ExitReason, FromVassal, WaitStatus};
use crate::signal_names;

/// How long what is left after the app may take to end after SIGTERM, before SIGKILL, if no hook can have started a
/// daemon.
const SWEEP_GRACE: Duration = Duration::from_secs(2);

/// How long SIGKILL may take. Only a process stuck in the kernel outlives it, and PID 1 cannot help that one.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// The exit status when a request to stop came before the app ran: as if SIGTERM had ended it.
const EXIT_STOPPED: i32 = 128 + libc::SIGTERM;

/// What the main loop is about.
enum Stage {
    /// The app runs.
    Running,
    /// It was asked to stop, and we leave with it.
    Stopping { patience: Patience },
    /// It was asked to stop, and is started anew.
    Restarting { patience: Patience, plan: Rc<VassalPlan> },
    /// The same, and a lost mount is made anew in between.
    Remounting { patience: Patience, remount: Remount },
}

/// How long the app is waited for, and what then.
#[derive(Clone, Copy)]
enum Patience {
    /// It is killed.
    KillAt(Instant),
    /// It was killed, and is stuck in the kernel.
    GiveUpAt(Instant),
}

impl Stage {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Stopping { patience }
            | Self::Restarting { patience, .. }
            | Self::Remounting { patience, .. } => match patience {
                Patience::KillAt(deadline) | Patience::GiveUpAt(deadline) => Some(*deadline),
            },
        }
    }
}

impl Vassal {
    /// Waits for the end of the app, of a mountpoint, or of our patience.
    pub(in crate::init) fn main_loop(&mut self) -> End {
        let mut stage = Stage::Running;
        loop {
            if let Some(status) = self.events.app.as_ref().and_then(|app| app.status) {
                match stage {
                    Stage::Running | Stage::Stopping { .. } => return self.app_ended(status),
                    Stage::Restarting { plan, .. } => {
                        self.end_the_apps();
                        if let Err(end) = self.run_again(plan) {
                            return end;
                        }
                        self.events.send(&FromVassal::Reloaded);
                        stage = Stage::Running;
                    }
                    Stage::Remounting { remount, .. } => {
                        // It may have said on its way out that it is alive.
                        self.tell_of_restart();
                        self.end_the_apps();
                        if let Err(end) = self.finish_remount(remount) {
                            return end;
                        }
                        stage = Stage::Running;
                    }
                }
                // The new app may have ended already, which nothing would wake us up for any more.
                continue;
            }
            if !self.events.lost.is_empty() {
                let lost = self.events.lost.remove(0);
                match self.survive(&lost, matches!(stage, Stage::Running)) {
                    Survival::No => return End::Lost(lost.what),
                    Survival::Exit(status) => return End::Hook(status),
                    Survival::Yes => continue,
                    Survival::Remount(remount) => {
                        self.tell_of_restart();
                        self.ask_app_to_stop(Request::Stop);
                        let patience = Patience::KillAt(Instant::now() + self.source.plan.stop.timeout);
                        stage = Stage::Remounting { patience, remount };
                    }
                }
            }
            let now = Instant::now();
            let kill_at = Patience::KillAt(now + self.source.plan.stop.timeout);
            match &mut stage {
                Stage::Running | Stage::Restarting { .. } | Stage::Remounting { .. }
                    if self.events.stop.is_some() =>
                {
                    let who = self.events.stop.as_ref().map_or("", |(who, _)| who.as_str());
                    let how = self.ask_app_to_stop(Request::Stop);
                    crate::log!("stopping for {who}: {how} to the app");
                    self.events.send(&FromVassal::Stopping(self.longest_stop()));
                    // From here a dying mount only delays the app, and the deadline covers that.
                    self.events.mountpoints.stop();
                    stage = Stage::Stopping { patience: kill_at };
                }
                Stage::Running if self.events.is_accepting => {
                    self.events.is_accepting = false;
                    match self.phase(Phase::Accepting) {
                        // Of a stop, of the app's own end, or of a lost mountpoint we hear again right here.
                        Ok(()) | Err(End::Stopped | End::Lost(_)) => continue,
                        Err(end) => return end,
                    }
                }
                Stage::Running => {
                    if let Some(plan) = self.accepted_reload() {
                        self.events.send(&FromVassal::Reloading(self.longest_reload(&plan)));
                        self.ask_app_to_stop(Request::StopGracefully);
                        stage = Stage::Restarting { patience: kill_at, plan };
                    }
                }
                Stage::Stopping { patience }
                | Stage::Restarting { patience, .. }
                | Stage::Remounting { patience, .. } => match patience {
                    Patience::KillAt(deadline) if now >= *deadline => {
                        crate::log!(
                            "the app has not ended after {}: SIGKILL",
                            Elapsed(self.source.plan.stop.timeout)
                        );
                        self.events.signal_app(libc::SIGKILL);
                        *patience = Patience::GiveUpAt(now + KILL_GRACE);
                    }
                    Patience::GiveUpAt(deadline) if now >= *deadline => {
                        crate::log!("the app survives SIGKILL: it is stuck in the kernel, and left there");
                        return End::Stopped;
                    }
                    Patience::KillAt(_) | Patience::GiveUpAt(_) => {}
                },
            }
            self.events.wait(None, stage.deadline());
        }
    }

    /// No app is alive or ready for as long as a mount is made anew.
    fn tell_of_restart(&self) {
        self.events.send(&FromVassal::Reloading(self.longest_reload(&self.source.plan)));
    }

    /// Asks the app to stop: over uWSGI's protocol if it speaks that and no signal was chosen for it. Says by what.
    fn ask_app_to_stop(&self, request: Request) -> String {
        if self.source.plan.stop.signal.is_none() && self.events.ask_app(request) {
            return request.to_string();
        }
        let number = self.source.plan.signal_to_stop();
        self.events.signal_app(number);
        signal_names::name(number)
    }

    /// Whether the app ended by itself or was stopped.
    fn app_ended(&self, status: WaitStatus) -> End {
        if self.events.stop.is_some() { End::Stopped } else { End::App(status) }
    }

    /// How long an orderly stop may take, everything included.
    fn longest_stop(&self) -> Duration {
        self.source.plan.stop.timeout
            + self.longest_phase(&self.source.plan, &[Phase::AsUserAtexit])
            + self.source.plan.stop.unmount_timeout * 2
            + SWEEP_GRACE
            + KILL_GRACE * 4
    }

    /// How long it may take until the app runs as another plan says.
    fn longest_reload(&self, plan: &VassalPlan) -> Duration {
        let phases = [Phase::AsUser, Phase::PreApp, Phase::PostApp];
        self.source.plan.stop.timeout
            + SWEEP_GRACE
            + KILL_GRACE * 2
            + self.longest_phase(plan, &phases)
            + plan.mountpoints.timeout
    }

    fn longest_phase(&self, plan: &VassalPlan, phases: &[Phase]) -> Duration {
        let hooks = plan.hooks.iter().filter(|hook| phases.contains(&hook.phase)).count();
        plan.hook_timeout.saturating_mul(hooks as u32)
    }

    /// Ends everything, tells everybody, and returns the exit status.
    pub(in crate::init) fn finish(&mut self, end: End) -> i32 {
        self.events.mountpoints.stop();
        let status = self.events.app.as_ref().and_then(|app| app.status);
        let code = match &end {
            End::App(status) => status.code(),
            End::Stopped => status.map_or(EXIT_STOPPED, WaitStatus::code),
            End::Setup(_, code) | End::Hook(code) => *code,
            End::Lost(_) => EXIT_MOUNT_LOST,
            End::Invalid(_) => EXIT_CONFIG,
        };
        if let Some(job) = &self.events.job {
            job.give_terminal_back();
        }
        let code = self.events.entry.as_ref().map_or(code, |entry| entry.status_for(code));
        let reason = match end {
            End::App(status) => match (status, self.events.oom.take()) {
                (WaitStatus::Signaled(libc::SIGKILL), kills @ 1..) => ExitReason::OutOfMemory(kills),
                _ => ExitReason::App(status),
            },
            End::Hook(status) => ExitReason::App(WaitStatus::Exited(status)),
            End::Stopped => ExitReason::Stopped,
            End::Setup(failure, _) => ExitReason::Setup(*failure),
            End::Invalid(mistake) => ExitReason::Config(mistake),
            End::Lost(what) => {
                // At once: to the emperor first, so that it knows however long the kernel takes.
                self.events.send(&FromVassal::Exiting(ExitReason::MountLost(what.clone())));
                crate::log!("{what}; destroying the instance");
                reaper::kill_all(&self.jail.procfs, libc::SIGKILL);
                if !rustix::process::getpid().is_init() {
                    self.wait_for_nobody(KILL_GRACE);
                }
                if !self.jail.has_namespace(libc::CLONE_NEWNS) {
                    // Nobody else takes the dead mount away, and the next instance needs the place.
                    self.detach_checked_mounts();
                }
                return code;
            }
        };
        match &reason {
            ExitReason::Stopped | ExitReason::Config(_) => {}
            // Why, only the app can tell: whose lines to look for.
            ExitReason::App(status) if status.code() != 0 && self.events.is_talkative() => {
                let source = &self.source.plan.app_source;
                crate::log!("{reason} ({}: {}); its own lines tell why", source.at, source.key);
            }
            ExitReason::App(_) if !self.events.is_talkative() => {}
            reason => crate::log!("{reason}"),
        }
        self.events.is_ending = true;
        // The emperor must not lose its patience with a daemon that flushes.
        self.events.send(&FromVassal::Stopping(self.longest_stop()));
        if self.life.had_app {
            self.end_app();
            self.exit_hooks();
        }
        self.sweep();
        if let (ExitReason::Stopped, Some((_, since))) = (&reason, &self.events.stop) {
            crate::log!("stopped, {} after the request", Elapsed(since.elapsed()));
        }
        self.events.send(&FromVassal::Exiting(reason));
        code
    }

    /// Stops an app that is still alive, since a hook failed after its start: in order, as it may serve by now.
    fn end_app(&mut self) {
        let is_alive = |vassal: &Self| vassal.events.app.as_ref().is_some_and(|app| app.status.is_none());
        for (number, time) in
            [(self.source.plan.signal_to_stop(), self.source.plan.stop.timeout), (libc::SIGKILL, KILL_GRACE)]
        {
            if is_alive(self) {
                // A child that could not execute its program ends by itself, and was no app yet.
                if self.events.app.as_ref().is_some_and(|app| app.is_started) {
                    crate::log!("{} to the app", signal_names::name(number));
                }
                self.events.signal_app(number);
            }
            let deadline = Instant::now() + time;
            while is_alive(self) && Instant::now() < deadline {
                self.events.wait(None, Some(deadline));
            }
        }
    }

    /// The hooks for the exit, and the time for a daemon they unmounted to write what it still holds. None is fatal: there
    /// is nothing left to save.
    fn exit_hooks(&mut self) {
        if !self.source.plan.hooks.iter().any(|hook| hook.phase == Phase::AsUserAtexit) {
            return;
        }
        self.end_the_apps();
        // All of them: none that fails ends the phase, and nothing interrupts us any more.
        let _ = hooks::run(&mut self.events, &mut self.jail, &self.source.plan, Phase::AsUserAtexit);
        self.wait_for_nobody(self.source.plan.stop.unmount_timeout);
    }

    /// Ends what the app has left behind, which may still use what the hooks are about to unmount.
    fn end_the_apps(&mut self) {
        for (number, time) in [(libc::SIGTERM, SWEEP_GRACE), (libc::SIGKILL, KILL_GRACE)] {
            let deadline = Instant::now() + time;
            let mut left = self.the_apps();
            if !left.is_empty() {
                let (count, name) = (left.len(), signal_names::name(number));
                crate::log!("the app has left processes behind ({count}): {name}");
                reaper::kill(&left, number);
            }
            while !left.is_empty() && Instant::now() < deadline {
                self.events.wait(None, Some(deadline));
                left = self.the_apps();
                if number == libc::SIGKILL {
                    // They may have started others before it reached them.
                    reaper::kill(&left, number);
                }
            }
        }
    }

    /// The app's processes: all that are not ours, and not older than the app. Of those that are younger some may be of
    /// hooks, such as a daemon that `post-app` has started: they are known by what only the app is confined by, if it is.
    fn the_apps(&self) -> Vec<Pid> {
        let spared: Vec<_> =
            self.events.helper_pids.iter().copied().chain(self.events.mountpoints.probers()).collect();
        let mut left = self.jail.procfs.below_us(&spared);
        let is_marked = self.source.plan.privileges.no_new_privs && !self.source.plan.app.is_privileged();
        // We were started like that: all of ours are.
        if is_marked && rustix::thread::no_new_privs() == Ok(false) {
            left.retain(|&pid| self.jail.procfs.has_no_new_privs(pid));
        }
        left
    }

    /// Ends whatever is left, and returns the moment nothing is. A FUSE daemon unmounts at SIGTERM, and then may have much
    /// to write.
    fn sweep(&mut self) {
        let grace = match self.events.entry.as_ref().map(|entry| entry.rest) {
            Some(Rest::Sweep(grace)) => grace,
            _ if self.source.plan.starts_daemons() => self.source.plan.stop.unmount_timeout,
            _ => SWEEP_GRACE,
        };
        reaper::kill_all(&self.jail.procfs, libc::SIGTERM);
        if !self.wait_for_nobody(grace) {
            crate::log!("processes are left {} after SIGTERM: SIGKILL", Elapsed(grace));
            reaper::kill_all(&self.jail.procfs, libc::SIGKILL);
            if !self.wait_for_nobody(KILL_GRACE) {
                crate::log!("processes are left {} after SIGKILL", Elapsed(KILL_GRACE));
                self.abort_own_fuse();
                self.wait_for_nobody(KILL_GRACE);
            }
        }
    }

    /// Frees whoever waits for a FUSE filesystem that was mounted here and never answers: not even SIGKILL does. What was
    /// mounted before us, or where others see it, is not ours to break. Once PID 1 has given up the right to do it, the
    /// emperor may.
    fn abort_own_fuse(&self) {
        let (Some(foreign), true) = (&self.jail.foreign_fuse, self.jail.has_namespace(libc::CLONE_NEWNS))
        else {
            return;
        };
        let mut own: Vec<_> =
            self.jail.procfs.mounts().unwrap_or_default().iter().filter_map(Mount::connection).collect();
        own.retain(|connection| !foreign.contains(connection));
        own.dedup();
        match fusectl::abort(&own) {
            Ok(()) => crate::log!("aborted FUSE connections: {}", own.len()),
            Err(error) => crate::log!("{error}"),
        }
    }

    fn detach_checked_mounts(&self) {
        for check in &self.source.plan.mountpoints.checks {
            let umount =
                Umount { target: check.value.clone(), recursive: false, flags: libc::MNT_DETACH as u32 };
            if let Err(error) = ops::umount(&umount, &Walk::default()) {
                crate::log!("{error}");
            }
        }
    }

    /// Waits until no child is left; false if some still are when the time is up.
    fn wait_for_nobody(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.events.childless = !reaper::drain().1;
        while !self.events.childless {
            if Instant::now() >= deadline {
                return false;
            }
            self.events.wait(None, Some(deadline));
        }
        true
    }
}
