//! The running app: waits for its end, for a request to stop or to reload, and for the loss of a mountpoint.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::config::plan::{Phase, VassalPlan};
use crate::init::event_loop::notify::Request;
use crate::init::event_loop::running_app::RunningApp;
use crate::init::event_loop::sources::NewFile;
use crate::init::event_loop::wakeup::{StopRequest, Wakeup};
use crate::init::life::reload::accepted_reload;
use crate::init::life::remount::{Remount, Survival, finish_remount, survive};
use crate::init::life::setup::{note_maker, run_again};
use crate::init::life::shutdown::{
    KILL_GRACE, SWEEP_GRACE, end_what_the_app_left, longest_phases, longest_stop,
};
use crate::init::outcome::{End, Ended};
use crate::init::steps::hooks::{self, Failed};
use crate::init::steps::ready_check;
use crate::init::vassal::Vassal;
use crate::init::watch::checked_path::{Lost, Maker};
use crate::log::Elapsed;
use crate::protocol::{FromVassal, WaitStatus};
use crate::running_time;
use crate::signal_names;

/// What the main loop waits for.
enum Stage {
    /// The app runs.
    Running,
    /// The app was asked to stop, and the vassal ends after it.
    Stopping { request: StopRequest, patience: Patience },
    /// The app was asked to stop, and is then started again.
    Restarting { plan: Rc<VassalPlan>, patience: Patience },
    /// The app was asked to stop. Then the lost mount is made anew, and the app started again.
    Remounting { remount: Remount, patience: Patience },
}

/// How long the vassal waits for the end of the app, and what it does then.
#[derive(Clone, Copy)]
enum Patience {
    /// At this time the app is killed.
    KillAt(Instant),
    /// The app was killed. If it has not ended at this time, the vassal stops waiting.
    GiveUpAt(Instant),
}

impl Stage {
    fn patience(&mut self) -> Option<&mut Patience> {
        match self {
            Self::Running => None,
            Self::Stopping { patience, .. }
            | Self::Restarting { patience, .. }
            | Self::Remounting { patience, .. } => Some(patience),
        }
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.patience().map(|patience| match patience {
            Patience::KillAt(deadline) | Patience::GiveUpAt(deadline) => *deadline,
        })
    }
}

/// Events that wait to be dealt with.
#[derive(Default)]
struct Requests {
    stop: Option<StopRequest>,
    lost: Vec<Lost>,
    reload: Option<NewFile>,
}

/// Waits until the app has ended, a mountpoint is lost for good, or the app does not end in time.
pub fn serve(vassal: &mut Vassal) -> End {
    let mut stage = Stage::Running;
    let mut requests = Requests::default();
    loop {
        if let Some(status) = vassal.events.app.as_ref().and_then(|app| app.status) {
            stage = match after_the_app(vassal, stage, requests.stop.take(), status) {
                Ok(stage) => stage,
                Err(end) => return *end,
            };
            // The new app may have ended already, which would not wake this loop again.
            continue;
        }
        if !requests.lost.is_empty() {
            let lost = requests.lost.remove(0);
            match survive(vassal, &lost, matches!(stage, Stage::Running)) {
                Survival::No => return End::Lost(lost.what),
                Survival::Exit(status) => return End::Hook(status),
                Survival::Yes => continue,
                Survival::Remount(remount) => {
                    // With this mount, the other mounts of its phase were given up as well.
                    let mountpoints = &vassal.events.mountpoints;
                    requests.lost.retain(|lost| mountpoints.maker(&lost.path) != Maker::Nobody);
                    tell_of_restart(vassal);
                    ask_to_leave(vassal, Request::Stop);
                    stage = Stage::Remounting { remount, patience: patience(vassal) };
                }
            }
        }
        if !matches!(stage, Stage::Stopping { .. })
            && let Some(request) = requests.stop.take()
        {
            stage = begin_to_stop(vassal, &stage, request);
        }
        if matches!(stage, Stage::Running) {
            if vassal.events.app.as_mut().is_some_and(RunningApp::take_ready) {
                match run_accepting_hooks(vassal) {
                    Ok(()) => continue,
                    Err(end) => return *end,
                }
            }
            if let Some(why) = vassal.events.given_up() {
                return End::NotReady(why);
            }
            if vassal.events.check_due().is_some_and(|due| due <= running_time::now()) {
                let Vassal { events, jail, source, .. } = vassal;
                ready_check::start(events, jail, &source.plan);
            }
            if let Some(plan) = requests.reload.take().and_then(|file| accepted_reload(vassal, file)) {
                vassal.events.send(&FromVassal::Reloading(longest_reload(vassal, &plan)));
                ask_to_leave(vassal, Request::StopGracefully);
                stage = Stage::Restarting { plan, patience: patience(vassal) };
            }
        }
        if stage.patience().is_some_and(|patience| is_out_of_patience(vassal, patience)) {
            if let Some(app) = vassal.events.living_app() {
                // The state of the process tells the reason: stuck in the kernel (D), or owned by another
                // user by now.
                let app = vassal.jail.procfs.describe(app.launched.pid);
                crate::log!(
                    "the app has not ended {} after SIGKILL, and is left: {app}",
                    Elapsed(KILL_GRACE)
                );
            }
            return End::Stopped(match stage {
                Stage::Stopping { request, .. } => Some(request),
                Stage::Running | Stage::Restarting { .. } | Stage::Remounting { .. } => None,
            });
        }
        let check_due = vassal.events.check_due().filter(|_| matches!(stage, Stage::Running));
        let deadline = running_time::earliest(&[stage.deadline(), check_due]);
        let Wakeup { stop, lost, reload, mut signals } = vassal.events.wait(None, deadline);
        requests.lost.extend(lost);
        requests.reload = reload.or(requests.reload);
        let stop = match &stage {
            // Signals that came too late for a command that has just ended go to the processes that it left
            // behind.
            Stage::Running => stop,
            _ => stop.or_else(|| StopRequest::among(&mut signals)),
        };
        match (stop, &stage) {
            (Some(later), Stage::Stopping { request, .. }) if request.is_repeated_by(&later) => {
                crate::log!("{} again: SIGKILL to the app", later.who);
                vassal.events.signal_app(libc::SIGKILL);
            }
            (Some(_), Stage::Stopping { .. }) | (None, _) => {}
            (Some(request), _) => requests.stop = Some(request),
        }
        vassal.events.put_back(Wakeup { signals, ..Wakeup::default() });
    }
}

/// Decides what follows the end of the app: the end of the vassal, or another app.
fn after_the_app(
    vassal: &mut Vassal,
    stage: Stage,
    stop: Option<StopRequest>,
    status: WaitStatus,
) -> Result<Stage, Ended> {
    match (stage, stop) {
        (Stage::Stopping { request, .. }, _) | (_, Some(request)) => {
            return Err(End::Stopped(Some(request)).into());
        }
        (Stage::Running, None) => return Err(End::App(status).into()),
        (Stage::Restarting { plan, .. }, None) => {
            end_what_the_app_left(&mut vassal.events, &vassal.jail, &vassal.source.plan);
            run_again(vassal, plan)?;
            vassal.events.send(&FromVassal::Reloaded);
            if let Some(app) = &mut vassal.events.app {
                app.repeat_heartbeat();
            }
        }
        (Stage::Remounting { remount, .. }, None) => {
            // The old app may have sent a heartbeat meanwhile.
            tell_of_restart(vassal);
            end_what_the_app_left(&mut vassal.events, &vassal.jail, &vassal.source.plan);
            finish_remount(vassal, remount)?;
        }
    }
    Ok(Stage::Running)
}

fn begin_to_stop(vassal: &mut Vassal, stage: &Stage, request: StopRequest) -> Stage {
    // One that is being restarted was asked to before, and has not done it.
    let has_time = request.gracefully && matches!(stage, Stage::Running);
    let how = ask_to_leave(vassal, if has_time { Request::StopGracefully } else { Request::Stop });
    crate::log!("stopping for {}: {how} to the app", request.who);
    if request.kills {
        crate::log!("SIGKILL to the app");
        vassal.events.signal_app(libc::SIGKILL);
    }
    vassal.events.send(&FromVassal::Stopping(longest_stop(&vassal.source.plan)));
    // From now on a dead mount can only delay the end of the app, for which there is a deadline.
    vassal.events.mountpoints.stop();
    Stage::Stopping { request, patience: patience(vassal) }
}

/// Runs the hooks for an app that accepts requests. A request to stop, a lost mountpoint or the end of the
/// app interrupts them; the main loop deals with such an event.
fn run_accepting_hooks(vassal: &mut Vassal) -> Result<(), Ended> {
    let Vassal { events, jail, source, .. } = vassal;
    match hooks::run(events, jail, &source.plan, Phase::Accepting) {
        Err(Failed::Interrupted(interruption)) => {
            events.put_interruption_back(*interruption);
            Ok(())
        }
        result => {
            result?;
            note_maker(vassal, Maker::Phase(Phase::Accepting))
        }
    }
}

/// The time that the plan gives the app to end.
fn patience(vassal: &Vassal) -> Patience {
    Patience::KillAt(running_time::now() + vassal.source.plan.stop.timeout)
}

/// Kills the app if its time is up. Returns whether it has outlived that for too long.
fn is_out_of_patience(vassal: &Vassal, patience: &mut Patience) -> bool {
    let now = running_time::now();
    match *patience {
        Patience::KillAt(deadline) if now >= deadline => {
            let time = Elapsed(vassal.source.plan.stop.timeout);
            crate::log!("the app has not ended after {time}: SIGKILL");
            vassal.events.signal_app(libc::SIGKILL);
            *patience = Patience::GiveUpAt(now + KILL_GRACE);
            false
        }
        Patience::GiveUpAt(deadline) => now >= deadline,
        Patience::KillAt(_) => false,
    }
}

/// Tells the emperor that there is no app while a mount is made anew.
fn tell_of_restart(vassal: &Vassal) {
    vassal.events.send(&FromVassal::Reloading(longest_reload(vassal, &vassal.source.plan)));
}

/// Asks the app to stop: over uWSGI's protocol if the app speaks it and no signal is configured, else by a
/// signal. Returns how the app was asked.
fn ask_to_leave(vassal: &mut Vassal, request: Request) -> String {
    vassal.events.app_leaves();
    let plan = &vassal.source.plan;
    let how = if plan.stop.signal.is_none() && vassal.events.ask_app(request) {
        request.to_string()
    } else {
        let number = plan.signal_to_stop();
        vassal.events.signal_app(number);
        signal_names::name(number)
    };
    // A stopped app must run in order to end.
    vassal.events.signal_app(libc::SIGCONT);
    how
}

/// How long it may take at most until the app runs with another plan.
fn longest_reload(vassal: &Vassal, plan: &VassalPlan) -> Duration {
    vassal.source.plan.stop.timeout
        + SWEEP_GRACE
        + KILL_GRACE * 2
        + longest_phases(plan, &[Phase::AsUser, Phase::PreApp, Phase::PostApp])
        + plan.mountpoints.timeout
}
