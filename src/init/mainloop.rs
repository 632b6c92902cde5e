//! The running app, the request to stop, and the end.
//!
//! An orderly end goes outward in: the app is asked to stop and killed when its time is up, then the hooks for the exit
//! run, then everything else is asked and killed. A lost mountpoint has no such manners: whoever waits for the dead
//! filesystem would wait for ever.

use std::time::{Duration, Instant};

use super::hook::{Failed, TIMEOUT};
use super::mountpoints::Lost;
use super::reaper;
use super::run::{End, Vassal};
use crate::config::plan::Phase;
use crate::log::Elapsed;
use crate::protocol::{
    EXIT_MOUNT_LOST, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, ExitReason, FromVassal, SetupFailure, WaitStatus,
};
use crate::sys::signal;

/// How long what is left after the app may take to end after SIGTERM, before SIGKILL.
const SWEEP_GRACE: Duration = Duration::from_secs(2);

/// How long SIGKILL may take. Only a process stuck in the kernel outlives it, and PID 1 cannot help that one.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// A loss found this soon after a child's death is put down to it.
const BLAME: Duration = Duration::from_millis(100);

/// The exit status when a request to stop came before the app ran: as if SIGTERM had ended it.
const EXIT_STOPPED: i32 = 128 + libc::SIGTERM;

impl Vassal {
    /// Waits for the end of the app, of a mountpoint, or of our patience.
    pub(super) fn main_loop(&mut self) -> End {
        // Set while the app is asked to stop: when it is killed.
        let mut kill_at = None;
        loop {
            if let Some(status) = self.app.as_ref().and_then(|app| app.status) {
                return self.app_ended(status);
            }
            let now = Instant::now();
            match (&self.stop, kill_at) {
                (Some(who), None) => {
                    crate::log!("stopping for {who}: {} to the app", signal::name(self.plan.stop_signal));
                    self.tell(&FromVassal::Stopping(self.longest_stop()));
                    // From here a dying mount only delays the app, and the deadline covers that.
                    self.mountpoints.stop();
                    self.signal_app(self.plan.stop_signal);
                    kill_at = Some(now + self.plan.stop_timeout);
                }
                (Some(_), Some(deadline)) if now >= deadline => {
                    crate::log!("the app ignores the stop for {}: SIGKILL", Elapsed(self.plan.stop_timeout));
                    self.signal_app(libc::SIGKILL);
                    kill_at = Some(now + KILL_GRACE);
                }
                (Some(_), Some(_)) => {}
                (None, _) => match self.mountpoints.judge(now) {
                    Ok(None) => {}
                    Ok(Some(lost)) => return End::Lost(self.describe(&lost, now)),
                    // The watch is broken, the mounts may be fine. It is tried again at the next event.
                    Err(error) => crate::log!("mountpoint-check: {error}"),
                },
            }
            self.wait(kill_at);
        }
    }

    /// A request to stop. The second one, while the app takes its time, is a demand.
    pub(super) fn stop_requested(&mut self, who: String) {
        if self.stop.is_some() && self.app.as_ref().is_some_and(|app| app.status.is_none()) {
            crate::log!("{who} insists: SIGKILL to the app");
            self.signal_app(libc::SIGKILL);
        }
        self.stop = Some(who);
    }

    /// Hands a signal that means nothing to us on to the app.
    pub(super) fn forward(&self, number: i32) {
        self.signal_app(number);
    }

    fn signal_app(&self, number: i32) {
        if let Some(app) = self.app.as_ref().filter(|app| app.status.is_none()) {
            // Not reaped yet, so the pid is still its own.
            let _ = signal::kill(app.launched.pid.as_raw_nonzero().get(), number);
        }
    }

    /// Whether the app ended by itself, was stopped, or never was.
    fn app_ended(&self, status: WaitStatus) -> End {
        let program = self.plan.app.program().display().to_string();
        if let Some(error) = self.app.as_ref().and_then(|app| app.launched.failure(&program)) {
            let code = if status == WaitStatus::Exited(EXIT_NOT_FOUND) {
                EXIT_NOT_FOUND
            } else {
                EXIT_NOT_EXECUTABLE
            };
            let (what, errno) = (error.to_string(), error.errno());
            return End::Setup(SetupFailure { phase: "app".into(), index: 0, what, errno }, code);
        }
        if self.stop.is_some() { End::Stopped } else { End::App(status) }
    }

    /// What was lost, how, and how soon it was noticed.
    pub(super) fn describe(&self, lost: &Lost, now: Instant) -> String {
        let what = format!("mountpoint {} lost: {}", lost.path.display(), lost.loss);
        match &self.last_death {
            Some((at, child)) if now.saturating_duration_since(*at) <= BLAME => {
                let after = Elapsed(now.saturating_duration_since(*at));
                format!("{what}, {after} after the daemon died (pid {}, {})", child.pid, child.status)
            }
            _ => what,
        }
    }

    /// How long an orderly stop may take, everything included.
    fn longest_stop(&self) -> Duration {
        let hooks = self.plan.hooks.iter().filter(|hook| hook.phase == Phase::AsUserAtexit).count();
        self.plan.stop_timeout + KILL_GRACE * 2 + SWEEP_GRACE + TIMEOUT * hooks as u32
    }

    /// Ends everything, tells everybody, and returns the exit status.
    pub(super) fn finish(&mut self, end: End) -> i32 {
        let start = Instant::now();
        self.mountpoints.stop();
        let status = self.app.as_ref().and_then(|app| app.status);
        let code = match &end {
            End::App(status) => status.code(),
            End::Stopped => status.map_or(EXIT_STOPPED, WaitStatus::code),
            End::Setup(_, code) => *code,
            End::Lost(_) => EXIT_MOUNT_LOST,
        };
        let reason = match end {
            End::App(status) => ExitReason::App(status),
            End::Stopped => ExitReason::Stopped,
            End::Setup(failure, _) => ExitReason::Setup(failure),
            End::Lost(what) => {
                // At once: to the emperor first, so that it knows however long the kernel takes.
                self.tell(&FromVassal::Exiting(ExitReason::MountLost(what.clone())));
                crate::log!("{what}; destroying the instance");
                reaper::kill_all(libc::SIGKILL);
                if !rustix::process::getpid().is_init() {
                    self.wait_for_nobody(KILL_GRACE);
                }
                return code;
            }
        };
        crate::log!("{reason}");
        // What comes now is not interrupted by another request to stop.
        self.stop.get_or_insert_default();
        if self.app.is_some() {
            // Still alive only if a hook failed after its start.
            self.signal_app(libc::SIGKILL);
            self.exit_hooks();
        }
        self.sweep();
        if reason == ExitReason::Stopped {
            crate::log!("ended after {}", Elapsed(start.elapsed()));
        }
        self.tell(&FromVassal::Exiting(reason));
        code
    }

    /// The hooks for the exit. None is fatal: there is nothing left to save.
    fn exit_hooks(&mut self) {
        let hooks: Vec<_> =
            self.plan.hooks.iter().filter(|hook| hook.phase == Phase::AsUserAtexit).cloned().collect();
        for hook in &hooks {
            match self.run_hook(hook) {
                Ok(()) => crate::log!("{}: {}: done", hook.phase, hook.source.value),
                Err(Failed::Error(error)) => crate::log!("{}: {error} ({})", hook.phase, hook.source.at),
                Err(Failed::Interrupted) => crate::log!("{}: {}: interrupted", hook.phase, hook.source.value),
            }
        }
    }

    /// Ends whatever is left, and returns the moment nothing is.
    fn sweep(&mut self) {
        reaper::kill_all(libc::SIGTERM);
        if !self.wait_for_nobody(SWEEP_GRACE) {
            crate::log!("processes are left {} after SIGTERM: SIGKILL", Elapsed(SWEEP_GRACE));
            reaper::kill_all(libc::SIGKILL);
            if !self.wait_for_nobody(KILL_GRACE) {
                crate::log!("processes are left {} after SIGKILL", Elapsed(KILL_GRACE));
            }
        }
    }

    /// Waits until no child is left; false if some still are when the time is up.
    fn wait_for_nobody(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.childless = !reaper::drain().1;
        while !self.childless {
            if Instant::now() >= deadline {
                return false;
            }
            self.wait(Some(deadline));
        }
        true
    }
}
