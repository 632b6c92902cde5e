//! Tyrant mode: PID 1 becomes the owner of the vassal's file before it reads the file.
//!
//! A user who may write the file decides on everything in it, including hooks up to `as-root`. So everything
//! in the file is done with the rights of its owner, and a hook that needs root fails. Only the hooks of the
//! emperor's own file run before that, as root, and they see nothing of the vassal's file.

use std::path::Path;
use std::rc::Rc;

use rustix::process::Signal;

use crate::accounts::Accounts;
use crate::asker::Asker;
use crate::config::plan::{Located, VassalPlan};
use crate::config::{self, Input, Loaded};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::outcome::{End, Ended, step};
use crate::init::source::source::{Source, send_transcript};
use crate::init::watch::mountpoints::Mountpoints;
use crate::protocol::{FileOwner, FromVassal};
use crate::running_time;
use crate::sys::environment;
use crate::world::NoCommands;

/// Becomes the owner for good, then reads the configuration and takes over its settings.
///
/// # Errors
/// The end of the vassal: the identity cannot be changed, the configuration has mistakes, or it has a key
/// that an owner cannot use.
pub fn become_owner(
    events: &mut EventLoop,
    jail: &mut Jail,
    source: &mut Source,
    owner: FileOwner,
) -> Result<(), Ended> {
    // The emperor's hooks may have changed the root to a tree that the owner controls.
    let accounts = || jail.accounts().unwrap_or_else(Accounts::read);
    let identity = step("emperor-tyrant", Identity::of_owner(owner, accounts))?;
    step("emperor-tyrant", identity.assume(None))?;
    jail.set_identity(identity);
    // The change of identity has cleared the signal. From now on the owner may stop this process again and
    // again. The processes of a pid namespace are all killed with PID 1.
    let is_alone = rustix::process::getpid().is_init();
    let at_emperors_end = if is_alone { Signal::KILL } else { Signal::CONT };
    let _ = rustix::process::set_parent_process_death_signal(Some(at_emperors_end));
    go_to_file(jail, source);
    leave_environment(jail, source);
    let transcript = source.start.take_transcript();
    let answer = |question, path: &Path| transcript.answer(question, path);
    let world = Asker::here(&answer, Some(source.start.environment()));
    let Loaded { plan, warnings, .. } =
        config::load_vassal(&source.inputs, false, &world).map_err(|report| {
            crate::log::lines(&report);
            End::Invalid(report.worst())
        })?;
    send_transcript(events.link(), &plan, &source.inputs, &transcript);
    crate::log::lines(&warnings);
    let warnings = warnings.in_short();
    if !warnings.is_empty() {
        events.send(&FromVassal::Warnings(warnings));
    }
    step("emperor-tyrant", check(&plan, jail.missing_namespaces(&plan)))?;
    let procfs = Rc::clone(&jail.procfs);
    events.check_mountpoints(Mountpoints::new(&plan.mountpoints, procfs, running_time::now()));
    jail.take_on(&plan);
    source.take_on(plan);
    Ok(())
}

/// Enters the directory of the file, from which relative paths in the file start. If the owner may not enter
/// it, or the emperor's hooks have changed the root, PID 1 stays in the root directory.
fn go_to_file(jail: &mut Jail, source: &mut Source) {
    let file = source.inputs.iter().find_map(|input| match input {
        Input::Text { path, .. } => path.parent(),
        _ => None,
    });
    if let Some(directory) = file
        && !jail.walk.is_inside
        && rustix::process::chdir(directory).is_ok()
    {
        jail.begin_in(directory);
        source.start.begin_in(directory);
    }
}

/// Leaves the file only the variables of the emperor's environment that its app would get. The operator may
/// have removed others by `clean-env` or `unenv`, and the file could still read them by `$(NAME)`. If the
/// operator's settings make no valid plan without the file, the file gets no variable.
fn leave_environment(jail: &mut Jail, source: &mut Source) {
    let without_file = |input: &Input| match input {
        Input::Text { path, .. } => {
            let text = b"[uwsgi]\ncommand = true\n".to_vec();
            Input::Text { path: path.clone(), section: None, text }
        }
        other => other.clone(),
    };
    let inputs: Vec<_> = source.inputs.iter().map(without_file).collect();
    let all = environment::variables();
    if let Ok(loaded) = config::load_vassal(&inputs, false, &NoCommands::Refused(&all)) {
        jail.set_environment(&loaded.plan);
        source.start.leave_environment(jail.environment.variables().cloned().collect());
    }
}

/// Refuses the keys that an owner cannot use and that would have no effect instead of failing.
fn check(plan: &VassalPlan, missing: u64) -> Result<()> {
    let refused = |key, at, reason| Err(Error::new(&format!("{at}:"), key, reason));
    if let Some(Located { key, at, .. }) = plan.privileges.capabilities.first() {
        return refused(key, at, "the file's owner has no capabilities to keep");
    }
    if let Some(Located { key, at, .. }) = plan.run_as.add_gids.first() {
        return refused(key, at, "the file's owner has the groups that 'emperor-tyrant-initgroups' gives");
    }
    if missing != 0 {
        let reason = "the namespaces of this vassal are those that 'emperor-use-clone' names";
        return Err(Error::new("make", "namespaces by 'unshare'", reason));
    }
    Ok(())
}
