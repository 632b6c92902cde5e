//! The start of the app.

use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

use crate::config::plan::{App, Phase, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::identity::Confinement;
use crate::init::child::failure::{Failure, Step};
use crate::init::child::foreground::Stand;
use crate::init::child::job::Job;
use crate::init::child::launch::{Launch, Progress};
use crate::init::child::listen_fds::{self, Socket};
use crate::init::child::notices;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::event_loop::notify::{self, Listener, Offer};
use crate::init::event_loop::running_app::RunningApp;
use crate::init::event_loop::wakeup::Interruption;
use crate::init::jail::Jail;
use crate::init::outcome::{End, Ended, setup_failure, step};
use crate::init::steps::hooks::SLOW;
use crate::log::Elapsed;
use crate::protocol::{FromVassal, SetupFailure, WaitStatus};
use crate::running_time;
use crate::sys::memfd::{self, Use};
use crate::world;

/// Creates the process of the app. It becomes the app once it has executed its program: see
/// [`await_program`].
///
/// # Errors
/// The end of the vassal: no process, socket or pipe can be created, or the app is a command that was asked
/// to stop before its start.
pub fn start(
    events: &mut EventLoop,
    jail: &mut Jail,
    plan: &VassalPlan,
    sockets: &[Socket],
) -> Result<(), Ended> {
    events.check()?;
    let helpers = if jail.has_run_commands { jail.procfs.below_us(&[]) } else { Vec::new() };
    let stand = events.entry.as_ref().map(|entry| Stand::prepare(entry.standing));
    let launched = launch(events, jail, plan, sockets, stand.as_ref());
    let app = match (launched, &events.entry) {
        (Err(error), Some(entry)) => return Err(unborn(&error, entry.unexecutable.unborn)),
        (launched, _) => step("app", launched)?,
    };
    let job = events.entry.as_ref().zip(stand);
    let job = job.map(|(entry, stand)| Job::of(Rc::clone(entry), app.launched.pid, stand));
    events.app_started(app, job, helpers);
    Ok(())
}

/// Waits until the process of the app has executed its program, and logs it.
///
/// # Errors
/// The end of the vassal: the program could not be executed in time or not at all, or an interruption came
/// first.
pub fn await_program(events: &mut EventLoop, plan: &VassalPlan) -> Result<(), Ended> {
    let mut is_told = false;
    loop {
        let Some(app) = &mut events.app else { return Ok(()) };
        match (app.launched.progress(), app.status) {
            (Progress::AtWork | Progress::Said(_), _) => break,
            (Progress::Failed(failure), _) if events.entry.is_some() && failure.step == Step::Work => {
                events.entry.iter().for_each(|entry| {
                    notices::say_unexecuted(entry, plan.app.program(), &failure.error);
                });
                return Err(End::App(WaitStatus::Exited(failure.status)).into());
            }
            (Progress::Failed(failure), _) => return Err(not_started(plan, &failure)),
            (Progress::Preparing, Some(status)) => return Err(End::App(status).into()),
            (Progress::Preparing, None) => {}
        }
        let time = if is_told { plan.hook_timeout } else { SLOW.min(plan.hook_timeout) };
        if running_time::since(app.since) >= time && !(is_told && events.entry.is_some()) {
            let late = late(plan, time);
            // The starter of a command has its own time limit.
            if time == plan.hook_timeout && events.entry.is_none() {
                let source = &plan.app_source;
                let what = format!("{late} ({}: {})", source.at, source.key);
                return Err(setup_failure("app", 0, what, 0));
            }
            events.tell_wait(late);
            is_told = true;
            continue;
        }
        app.set_awaited(true);
        let deadline = (!is_told || events.entry.is_none()).then_some(app.since + time);
        let paused = events.pause(None, deadline);
        if let Some(app) = &mut events.app {
            app.set_awaited(false);
        }
        match paused {
            Ok(()) => {}
            // The program may be on a filesystem that hangs. The main loop stops the process.
            Err(interruption) if matches!(*interruption, Interruption::Stop(_)) => {
                events.put_interruption_back(*interruption);
                return Ok(());
            }
            Err(interruption) => return Err(interruption.into()),
        }
    }
    if is_told {
        events.waits_no_more();
    }
    events.app_runs(&plan.readiness);
    if let Some(app) = &events.app {
        let (pid, program) = (app.launched.pid, plan.app.program().display());
        let since = app.since;
        events.send(&FromVassal::App(pid.as_raw_pid()));
        match &events.entry {
            Some(entry) => notices::say_runs(entry, pid, plan.app.program()),
            None => {
                crate::log!(
                    "app started: {program} (pid {pid}), {} after the fork",
                    Elapsed(running_time::since(since))
                )
            }
        }
    }
    events.send(&FromVassal::Running);
    events.tell_ready();
    Ok(())
}

/// The message about an app that has not executed its program in time.
fn late(plan: &VassalPlan, time: Duration) -> String {
    let directory = plan.chdir.as_ref().map(|path| format!(", or that of {}", path.value.display()));
    let (program, time) = (plan.app.program().display(), Elapsed(time));
    let directory = directory.unwrap_or_default();
    format!("execute {program}: not done after {time}: does its filesystem answer{directory}?")
}

/// The end of the vassal if no process could be created for a command.
fn unborn(error: &Error, status: i32) -> Ended {
    let (what, errno) = (error.to_string(), error.errno());
    End::Setup(Box::new(SetupFailure { phase: "app".into(), index: 0, what, errno }), status).into()
}

/// The end of the vassal if the app could not be prepared or executed, with the key that is to blame.
fn not_started(plan: &VassalPlan, failure: &Failure) -> Ended {
    let app = || format!("{}: {}", plan.app_source.at, plan.app_source.key);
    let error = &failure.error;
    let what = format!("{error} ({})", failure.key(plan).unwrap_or_else(app));
    let setup = SetupFailure { phase: "app".into(), index: 0, what, errno: error.errno() };
    End::Setup(Box::new(setup), failure.status).into()
}

/// Opens the channels over which the app can say that it is ready. A command uses those of its starter,
/// unless a hook waits for it to be ready.
fn offer(events: &EventLoop, jail: &Jail, plan: &VassalPlan, above: i32) -> Result<(Listener, Offer)> {
    let is_awaited = plan.hooks.iter().any(|hook| hook.phase == Phase::Accepting);
    if events.entry.is_some() && !is_awaited {
        return Ok(Default::default());
    }
    let identity = jail.identity.as_ref().filter(|_| jail.app_is_users(plan));
    let user = identity.and_then(|identity| identity.uid);
    let user = user.unwrap_or_else(|| rustix::process::getuid().as_raw());
    notify::open(plan, user, above)
}

fn launch(
    events: &EventLoop,
    jail: &Jail,
    plan: &VassalPlan,
    sockets: &[Socket],
    stand: Option<&Stand>,
) -> Result<RunningApp> {
    let since = running_time::now();
    let above = listen_fds::above(sockets);
    let (listener, offer) = offer(events, jail, plan, above)?;
    let mut environment = jail.environment.clone();
    if !sockets.is_empty() {
        environment.has_sockets();
    }
    for (name, value) in offer.variables.into_iter().chain(listen_fds::variables(sockets)) {
        environment.set(&name, Some(value));
    }
    let mut passed: Vec<_> = offer.pipe.iter().map(AsFd::as_fd).collect();
    let uwsgi_ini;
    let argv = match &plan.app {
        App::Program { argv, .. } => argv.clone(),
        App::Uwsgi { binary, ini } => {
            let ini = memfd::sealed("vassal.ini", ini, Use::Read).context("create", "the ini of uwsgi")?;
            uwsgi_ini = rustix::io::fcntl_dupfd_cloexec(&ini, above)
                .context("keep free for the app", "its descriptors")?;
            passed.push(uwsgi_ini.as_fd());
            // The options are in the ini already. If uWSGI read them twice, it would bind a socket twice.
            environment.remove(|name| world::environment_option(name).is_some());
            vec![binary.clone(), "--ini".into(), format!("fd://{}", uwsgi_ini.as_raw_fd()).into()]
        }
    };
    let is_uwsgi = matches!(plan.app, App::Uwsgi { .. });
    let as_user = jail.app_is_users(plan);
    let launch = Launch {
        confinement: as_user.then(|| Confinement::of(plan)),
        environment: &environment,
        is_named: true,
        own_session: false,
        // A command outlives an init that is killed, as with any other init.
        dies_with_us: !jail.is_command && !rustix::process::getpid().is_init(),
        may_be_waited_for: jail.is_command && plan.mountpoints.checks.is_empty(),
        workdir: jail.workdir_of_app(),
        stand,
        unexecutable: events.entry.as_ref().map(|entry| entry.unexecutable),
        passed: &passed,
        sockets,
        resources: Some(&plan.resources),
        filter: jail.filter.as_deref(),
        // A shell starts background programs with SIGINT ignored, and uWSGI does not change that until it is
        // up.
        heard: is_uwsgi.then(|| plan.signal_to_stop()),
        ..jail.helper(as_user)
    };
    Ok(RunningApp::new(launch.program(&argv)?, listener, since))
}
