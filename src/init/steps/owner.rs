//! Tyrant mode: PID 1 becomes the owner of the vassal's file before it reads the file.
//!
//! A user who may write the file decides on everything in it, the hooks up to `as-root` included. So
//! everything the file says is done with the rights of its owner, and what needs root fails. Only the hooks
//! of the emperor's own file run before that, as root, and see nothing of the vassal's file.

use std::rc::Rc;

use rustix::process::Signal;

use crate::accounts::Accounts;
use crate::config::plan::{Id, Located, VassalPlan};
use crate::config::{self, Input, Loaded};
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::init::event_loop::event_loop::EventLoop;
use crate::init::jail::Jail;
use crate::init::outcome::{End, Ended, step};
use crate::init::source::source::Source;
use crate::init::watch::mountpoints::Mountpoints;
use crate::protocol::FileOwner;
use crate::running_time;
use crate::sys::environment;
use crate::world::NoCommands;

/// Becomes the owner for good, then reads the configuration and takes on what it says.
pub fn become_owner(
    events: &mut EventLoop,
    jail: &mut Jail,
    source: &mut Source,
    owner: FileOwner,
) -> Result<(), Ended> {
    let identity = step("emperor-tyrant", identity(jail, owner))?;
    step("emperor-tyrant", identity.assume(None))?;
    jail.set_identity(identity);
    // The change has undone it. From now on the owner may stop this process, again and again; what is in a
    // pid namespace is all killed with it.
    let is_alone = rustix::process::getpid().is_init();
    let at_emperors_end = if is_alone { Signal::KILL } else { Signal::CONT };
    let _ = rustix::process::set_parent_process_death_signal(Some(at_emperors_end));
    go_to_file(jail, source);
    leave_environment(jail, source);
    let world = NoCommands::Refused(source.start.environment());
    let Loaded { plan, warnings, .. } =
        config::load_vassal(&source.inputs, false, &world).map_err(|report| {
            crate::log::lines(&report);
            End::Invalid(report.first())
        })?;
    crate::log::lines(&warnings);
    step("emperor-tyrant", check(&plan, jail.missing_namespaces(&plan)))?;
    let procfs = Rc::clone(&jail.procfs);
    events.check_mountpoints(Mountpoints::new(&plan.mountpoints, procfs, running_time::now()));
    jail.take_on(&plan);
    source.take_on(plan);
    Ok(())
}

/// Goes to the directory of the file, where relative paths in it begin. An owner who may not go there stays
/// in the root directory, as behind a root that the emperor's hooks have changed.
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

/// Leaves the file only what of the emperor's environment its app would have by the word of the operator, who
/// may have said `clean-env` or `unenv`: by `$(NAME)` the file could have it all the same. If what the
/// operator says has no sense without the file, the file gets nothing.
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

fn identity(jail: &Jail, owner: FileOwner) -> Result<Identity> {
    let FileOwner { uid, gid, initgroups } = owner;
    let mut groups = vec![gid];
    if initgroups {
        // The emperor's hooks may have changed the root, to a tree that is the owner's.
        let accounts = jail.accounts().unwrap_or_else(Accounts::read);
        if let Some(name) = accounts.user(&Id::Number(uid))?.name {
            groups.extend(accounts.memberships(&name));
        }
    }
    Ok(Identity { uid: Some(uid), gid: Some(gid), groups: Some(groups) })
}

/// Refuses the keys that an owner cannot use and that would not fail by themselves.
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
