//! The start of an emperor: from its configuration, or in the place of the program before an upgrade.
//!
//! An upgrade is tried first by a child, which does everything up to the point from which others would
//! notice. So most of what can fail fails there. What then fails in the emperor that has taken over vassals
//! must not end it, or keep it from its event loop: it goes on with what it was handed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{getpid, set_child_subreaper};
use rustix::thread::CapabilitySet;

use super::basis::Basis;
use super::emperor::Emperor;
use super::locks;
use super::log_file::{self, is_relayed, log_to};
use super::main_loop;
use super::privileges::{User, drop_groups};
use super::stale;
use super::upgrade::{Handover, UNDERSTOOD};
use super::upgrade_flow;
use crate::asker::{self, WhenLate};
use crate::config::diagnostic::Report;
use crate::config::plan::{Address, EmperorPlan};
use crate::config::{self, Input, Loaded};
use crate::emperor::api::control;
use crate::emperor::api::server::Service;
use crate::emperor::core::saved::Saved;
use crate::emperor::instance::cgroups::Cgroups;
use crate::emperor::instance::origin::Origin;
use crate::emperor::instance::reading::{Job, LONG_PATIENCE, PATIENCE, do_apart};
use crate::emperor::instance::spawner::Spawner;
use crate::emperor::pid_file::PidFile;
use crate::error::{Error, Result};
use crate::identity::held;
use crate::log;
use crate::log::Elapsed;
use crate::protocol::EXIT_CONFIG;
use crate::running_time;
use crate::signal_names;
use crate::sys::fd;
use crate::sys::mount;
use crate::sys::signal::Inherited;
use crate::version::VERSION;

/// The pause between two tries to set up the event loop.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs an emperor with the configuration of `inputs` until a signal ends it; returns the exit status.
/// `inherited` is the result of [`block_all`](crate::sys::signal::block_all).
pub fn run(inputs: &[Input], inherited: Inherited) -> i32 {
    let now = running_time::now();
    let ended = match Handover::take(now) {
        Ok(None) => start(inputs, inherited, now),
        Ok(Some(Handover { saved, is_trial: true })) => try_out(inputs, inherited, &saved, now),
        Ok(Some(Handover { saved, is_trial: false })) => take_over(inputs, inherited, saved, now),
        Err(error) => Err(error),
    };
    ended.unwrap_or_else(|error| {
        log!("{error}");
        1
    })
}

/// A first start.
///
/// # Errors
/// Something that the configuration asks for is missing. Also if a vassal could not even be killed at the
/// end.
fn start(inputs: &[Input], inherited: Inherited, now: Instant) -> Result<i32> {
    // One that hangs may be there later, as when a machine starts.
    let when_late = WhenLate::WaitOn;
    let loaded = asker::apart(when_late, |world| config::load_emperor(inputs, world))?;
    let Loaded { plan, warnings, settings } = match loaded {
        Ok(loaded) => loaded,
        Err(report) => return Ok(invalid(&report)),
    };
    log::text(&warnings.to_string());
    // Vassals must not inherit descriptors that the starter left open.
    fd::cloexec_from(3);
    let origin = Rc::new(Origin::new(inherited, None)?);
    if plan.json_log {
        log::as_json();
    }
    let cgroups = Cgroups::new(&plan.cgroups)?;
    let mut emperor = make(&plan, Basis::read(&plan, settings, when_late)?, cgroups, &origin, now)?;
    let user = User::of(&plan, false)?;
    settle(&mut emperor, &plan, None)?;
    // From here on nothing is opened that only root can open.
    if let Some(user) = user {
        user.assume(&emperor.server)?;
    }
    drop_groups(&plan)?;
    log_start(&emperor, &plan);
    main_loop::run(emperor)
}

/// The trial of an upgrade: does everything that a start does before others notice.
///
/// # Errors
/// The error for which the upgrade would fail.
fn try_out(inputs: &[Input], inherited: Inherited, saved: &Saved, now: Instant) -> Result<i32> {
    let loaded = asker::apart(WhenLate::GiveUp, |world| config::load_emperor(inputs, world))?;
    let Loaded { plan, settings, .. } = match loaded {
        Ok(loaded) => loaded,
        Err(report) => return Ok(invalid(&report)),
    };
    fd::cloexec_from(3);
    let origin = Rc::new(Origin::new(inherited, Some(&saved.origin))?);
    let basis = Basis::read(&plan, settings, WhenLate::GiveUp)?;
    basis.try_out()?;
    let cgroups = Cgroups::new(&plan.cgroups)?;
    make(&plan, basis, cgroups, &origin, now)?;
    User::of(&plan, true)?;
    drop_groups(&plan)?;
    Ok(UNDERSTOOD)
}

/// Goes on in the place of the program before the upgrade.
///
/// # Errors
/// A signal ended the emperor before its event loop could start; or a vassal could not even be killed at the
/// end.
fn take_over(inputs: &[Input], inherited: Inherited, saved: Saved, now: Instant) -> Result<i32> {
    // The commands of a configuration must not inherit descriptors of vassals.
    fd::cloexec_from(3);
    let origin = Rc::new(Origin::new(inherited, Some(&saved.origin))?);
    let handed = Basis::inherit(&saved.basis);
    let mut stale = None;
    let (mut emperor, plan) = retry_until_ok(|| match make_anew(inputs, &origin, now) {
        Ok(made) => {
            stale = None;
            Ok(made)
        }
        Err(mistake) => {
            stale::tell(&mut stale, mistake);
            make_again(handed.clone()?, &origin, now)
        }
    })?;
    drop(handed);
    if plan.json_log {
        log::as_json();
    }
    ok_or_degraded(true, User::of(&plan, true))?;
    settle(&mut emperor, &plan, Some(&saved))?;
    upgrade_flow::take_over(&mut emperor, saved, stale, now);
    main_loop::run(emperor)
}

/// Tells the mistakes in a configuration. Returns the exit status.
fn invalid(report: &Report) -> i32 {
    log::text(&report.to_string());
    EXIT_CONFIG
}

/// An emperor from its files as they are now, and its plan.
///
/// # Errors
/// Lines about the mistakes.
fn make_anew(inputs: &[Input], origin: &Rc<Origin>, now: Instant) -> Result<(Emperor, EmperorPlan), String> {
    let text = |error| stale::line(&error);
    let loaded = asker::apart(WhenLate::GiveUp, |world| config::load_emperor(inputs, world)).map_err(text)?;
    let Loaded { plan, warnings, settings } = loaded.map_err(|report| report.to_string())?;
    let basis = Basis::read(&plan, settings, WhenLate::GiveUp).map_err(text)?;
    let cgroups = Cgroups::new(&plan.cgroups).map_err(text)?;
    let emperor = make(&plan, basis, cgroups, origin, now).map_err(text)?;
    drop_groups(&plan).map_err(text)?;
    stale::log_lines(&warnings.to_string());
    Ok((emperor, plan))
}

/// An emperor with the configuration from before the upgrade, whatever its files say now, and its plan.
///
/// # Errors
/// This version does not understand the settings of that program; EMFILE, ENFILE, ENOMEM.
fn make_again(basis: Basis, origin: &Rc<Origin>, now: Instant) -> Result<(Emperor, EmperorPlan)> {
    let plan = match config::load_emperor_again(basis.settings.clone()) {
        Ok(loaded) => loaded.plan,
        Err(report) => return Err(Error::new("use", "the configuration of before", report.first())),
    };
    let cgroups = Cgroups::of(&plan.cgroups);
    Ok((make(&plan, basis, cgroups, origin, now)?, plan))
}

/// An emperor that others cannot see yet.
fn make(
    plan: &EmperorPlan,
    basis: Basis,
    cgroups: Option<Cgroups>,
    origin: &Rc<Origin>,
    now: Instant,
) -> Result<Emperor> {
    let spawner = Spawner::new(plan, Rc::clone(origin), basis.files.clone(), cgroups)?;
    Emperor::new(plan, basis, spawner, origin, now)
}

/// Opens what others see of the emperor: its log, its sockets, its pid file. `saved` comes from the program
/// before the upgrade.
///
/// # Errors
/// One of them cannot be opened. An emperor that has taken over vassals goes on without it.
fn settle(emperor: &mut Emperor, plan: &EmperorPlan, saved: Option<&Saved>) -> Result<()> {
    let upgraded = saved.is_some();
    emperor.server.inherit(saved.map_or(&[], |saved| &saved.listeners));
    // An upgraded emperor has its locks. Of which directories they are, it hears from those who look at them.
    if !upgraded {
        emperor.locks.look();
        emperor.locks.take(&mut emperor.server, || pause(locks::PAUSE, "start", "an emperor"))?;
    }
    let before = saved.map(|saved| &*saved.basis.settings);
    emperor.log_relay = match &plan.log {
        Some(file) if before.is_some_and(|before| is_relayed(before, &emperor.basis.settings)) => {
            log_file::resume(&file.value)
        }
        Some(file) => ok_or_degraded(upgraded, log_to(&file.value, upgraded))?.flatten(),
        None => log_file::relay_standard_error().unwrap_or_else(|error| {
            log!("{error}");
            None
        }),
    };
    // The remaining processes of a killed instance become children of the emperor, which ends them.
    let shares_pids = plan.vassals.namespaces & libc::CLONE_NEWPID as u64 == 0;
    if set_child_subreaper(shares_pids.then(getpid)).is_err() && shares_pids {
        log!("emperor-use-clone has no pid: processes of a vassal can outlive it");
    }
    listen(emperor, plan, upgraded)?;
    let pid_file = plan.pid_file.as_ref().map(|file| &*file.value);
    if let Some(saved) = saved {
        PidFile::moves(&saved.pid_file, pid_file);
    }
    if let Some(path) = pid_file {
        let written = do_apart(Job::WritePid, path, PATIENCE).map(|_| PidFile::at(path));
        emperor.pid_file = ok_or_degraded(upgraded, written)?;
    }
    Ok(())
}

/// Opens the emperor's sockets. Several emperors can run on a machine, so the command socket is required only
/// if the configuration gives it a path.
fn listen(emperor: &mut Emperor, plan: &EmperorPlan, upgraded: bool) -> Result<()> {
    let server = &mut emperor.server;
    match &plan.control {
        Some(path) => {
            let address = Address::file(path.value.clone());
            ok_or_degraded(upgraded, server.add(Service::Control, &address, PATIENCE))?;
        }
        None => {
            let address = Address::file(control::usual_path());
            if let Err(error) = server.add(Service::Control, &address, LONG_PATIENCE) {
                log!("{error}: this emperor takes no commands; 'control = PATH' gives it a place of its own");
            }
        }
    }
    for (service, address) in [(Service::Stats, &plan.stats), (Service::Metrics, &plan.metrics)] {
        if let Some(address) = address {
            ok_or_degraded(upgraded, server.add(service, &address.value, PATIENCE))?;
        }
    }
    server.settle(false);
    Ok(())
}

/// The capabilities for starting vassals of other users.
const OF_OTHERS: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);

/// Logs the watched directories, and what the emperor cannot do.
fn log_start(emperor: &Emperor, plan: &EmperorPlan) {
    // In user namespaces the maps say which users there are.
    let maps = plan.vassals.has_namespace(libc::CLONE_NEWUSER);
    if !maps && held().is_ok_and(|has| !has.permitted.contains(OF_OTHERS)) {
        log!("without the capabilities kill,setgid,setpcap,setuid ('cap') no vassal can have another 'uid'");
    }
    if !mount::can_set_attributes() {
        log!(
            "this kernel has no mount_setattr(2), as Linux before 5.12: 'bind' with flags, changes of \
             propagation and 'proc = safe' fail"
        );
    }
    if let [first, others @ ..] = &*emperor.about.sources {
        let others = if others.is_empty() { "" } else { " and others" };
        log!("version {VERSION}: watching {}{others}", first.display());
    }
    log!("{}", emperor.limits);
}

/// Tries until it works, for a step that the vassals depend on and that comes before the event loop. A signal
/// to stop ends the emperor: the vassals then stop because their links close.
///
/// # Errors
/// The signal that came.
fn retry_until_ok<T>(mut make: impl FnMut() -> Result<T>) -> Result<T> {
    let mut told = None;
    loop {
        let error = match make() {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        if told.as_ref() != Some(&error) {
            log!("{error}: trying again every {}", Elapsed(PAUSE));
            told = Some(error);
        }
        pause(PAUSE, "take over", "the vassals")?;
    }
}

/// Waits for a moment, before there is an event loop. `operation` and `object` are for the error.
///
/// # Errors
/// A signal to stop has come.
fn pause(time: Duration, operation: &str, object: &str) -> Result<()> {
    let until = running_time::now() + time;
    while let Ok(Some(signal)) = running_time::signal(Some(until)) {
        if let libc::SIGINT | libc::SIGTERM | libc::SIGQUIT | libc::SIGABRT = signal.number {
            let reason = format!("{} came first", signal_names::name(signal.number));
            return Err(Error::new(operation, object, reason));
        }
    }
    Ok(())
}

/// Returns an error at a first start. An emperor that has taken over vassals logs the error instead, and goes
/// on without the result.
///
/// # Errors
/// The error, at a first start.
fn ok_or_degraded<T>(is_upgraded: bool, result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if is_upgraded => {
            log!("{error}: going on without");
            Ok(None)
        }
        result => result.map(Some),
    }
}
