//! A reload: decides whether a new configuration can be used in the same jail, before anything is changed.

use std::path::Path;
use std::rc::Rc;

use rustix::io::Errno;

use crate::accounts::Accounts;
use crate::config::plan::{App, Phase, VassalPlan};
use crate::config::{self, Input, Loaded, World, placed};
use crate::error::Context;
use crate::files;
use crate::identity::Identity;
use crate::init::child::environment::DEFAULT_PATH;
use crate::init::child::interpreter;
use crate::init::child::launch::{Launch, Workdir};
use crate::init::event_loop::notify::Request;
use crate::init::event_loop::sources::NewFile;
use crate::init::source::careful_world::Careful;
use crate::init::steps::sockets::{self, PATIENCE};
use crate::init::vassal::Vassal;
use crate::log::Elapsed;
use crate::mount::mountinfo::Mount;
use crate::protocol::FromVassal;
use crate::running_time;
use crate::signal_names;

/// The decision about a request to reload.
enum Verdict {
    /// The app is started anew.
    Accepted {
        /// The plan that the app is started with.
        plan: Rc<VassalPlan>,
        /// The plan that a fresh start would follow.
        fresh: Rc<VassalPlan>,
    },
    /// The app goes on unchanged.
    Refused(String),
    /// The new file needs a fresh jail.
    NeedsRespawn(String),
}

/// Why a configuration could not be read again.
pub enum Unread {
    /// It has a mistake.
    Mistake(String),
    /// It names something that only a fresh start can look at.
    NeedsRespawn(String),
}

impl From<Unread> for Verdict {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Mistake(why) => Self::Refused(why),
            Unread::NeedsRespawn(why) => Self::NeedsRespawn(why),
        }
    }
}

/// The plan to restart the app with; `None` if no restart follows, which the emperor has been told.
pub fn accepted_reload(vassal: &mut Vassal, file: NewFile) -> Option<Rc<VassalPlan>> {
    let inputs = match file {
        NewFile::Same if vassal.jail.walk.is_inside => {
            // In the jail the path leads to a file that the tenant controls.
            refuse(vassal, "its file cannot be read from inside the jail".into());
            return None;
        }
        NewFile::Sent(_) if vassal.jail.walk.is_inside && has_templates(&vassal.source.inputs) => {
            vassal.events.send(&FromVassal::NeedsRespawn("its templates are not in the jail".to_owned()));
            return None;
        }
        NewFile::Same => vassal.source.inputs.clone(),
        NewFile::Sent(file) => match files::read_all(file).context("read", "the new file") {
            Ok(text) => replaced(&vassal.source.inputs, &text),
            Err(error) => {
                refuse(vassal, error.to_string());
                return None;
            }
        },
    };
    let verdict = match verdict(vassal, &inputs) {
        Verdict::Accepted { .. }
            if vassal.events.link().is_some()
                && sockets::has_lost_one(
                    &mut vassal.events,
                    &vassal.jail,
                    &vassal.source.plan,
                    &vassal.life.sockets,
                ) =>
        {
            Verdict::NeedsRespawn("the file of a socket is gone".to_owned())
        }
        verdict => verdict,
    };
    let verdict = match verdict {
        Verdict::Accepted { plan, .. } if let Some(why) = hangs(vassal, &plan) => Verdict::Refused(why),
        verdict => verdict,
    };
    if let Verdict::Accepted { fresh, .. } = &verdict {
        vassal.events.tell_replication(vassal.source.fresh.replication, fresh.replication);
    }
    match verdict {
        Verdict::Accepted { plan, fresh }
            if vassal.source.fresh.is_same(&plan, &fresh) && app_reloads_itself(vassal, &plan) =>
        {
            vassal.source.read_again(inputs, fresh);
            vassal.events.send(&FromVassal::Reloaded);
            None
        }
        Verdict::Accepted { plan, fresh } => {
            crate::log!("reloading: the app is restarted in the same jail");
            vassal.source.read_again(inputs, fresh);
            Some(plan)
        }
        Verdict::Refused(why) => {
            refuse(vassal, why);
            None
        }
        Verdict::NeedsRespawn(why) => {
            crate::log!("not reloaded: {why}, which needs a fresh jail");
            vassal.events.send(&FromVassal::NeedsRespawn(why));
            None
        }
    }
}

/// Asks the app to read its own configuration again, and returns whether it could be asked. uWSGI with
/// options from PID 1 cannot do it, because it closes the file with these options.
fn app_reloads_itself(vassal: &mut Vassal, plan: &VassalPlan) -> bool {
    let how = match plan.reload.signal {
        Some(number) => {
            vassal.events.signal_app(number);
            signal_names::name(number)
        }
        None if matches!(plan.app, App::Program { .. }) && vassal.events.ask_app(Request::Reload) => {
            Request::Reload.to_string()
        }
        None => return false,
    };
    crate::log!("reloading: the file says what it said before; {how} to the app");
    vassal.events.app_begins_anew();
    true
}

fn verdict(vassal: &Vassal, inputs: &[Input]) -> Verdict {
    let fresh = match load_again(vassal, inputs, false) {
        Ok(loaded) => loaded.plan,
        Err(unread) => return unread.into(),
    };
    if let Some(what) = vassal.source.fresh.jail_change(&fresh) {
        let is_known = !vassal.jail.walk.is_inside && fresh.jail.new_root().is_none();
        if is_known
            && !fresh.has_hooks(Phase::AsVassal, Phase::AsRoot)
            && let Err(error) = Identity::resolve(&fresh.run_as, &Accounts::read())
        {
            return Verdict::Refused(error.to_string());
        }
        return Verdict::NeedsRespawn(format!("{what} changed"));
    }
    match load_again(vassal, inputs, true) {
        // Lines inside `if-reload` may need a capability that a fresh start does not.
        Ok(loaded) if loaded.plan.start_rights() & !fresh.start_rights() != 0 => {
            Verdict::NeedsRespawn("the app needs a capability that PID 1 has given up".to_owned())
        }
        Ok(loaded) if let Some(missing) = missing(vassal, &loaded.plan) => Verdict::Refused(missing),
        Ok(loaded) => {
            crate::log::lines(&loaded.warnings);
            vassal.events.send(&FromVassal::Warnings(loaded.warnings.in_short()));
            Verdict::Accepted { plan: Rc::new(loaded.plan), fresh: Rc::new(fresh) }
        }
        Err(unread) => unread.into(),
    }
}

/// The message about a file that the plan names for the app and that does not exist. With such a file the old
/// app would be stopped in vain. A file counts as existing if a hook may create it, or if the path cannot be
/// looked at. Commands of pre-app run in the app's directory, and so do not create that.
fn missing(vassal: &Vassal, plan: &VassalPlan) -> Option<String> {
    let program = Path::new(plan.app.program());
    let source = &plan.app_source;
    let mut paths = vec![(program, &source.key, &source.at, Phase::PreApp)];
    let chdir = plan.chdir.iter();
    paths.extend(chdir.map(|path| (path.value.as_path(), &path.key, &path.at, Phase::AsUser)));
    paths.retain(|(.., last_hooks)| !plan.has_hooks(Phase::AsUser, *last_hooks));
    let world = world(vassal);
    paths.retain(|(path, ..)| path.is_absolute() && world.status(path).is_none());
    let is_sure = world.refused().is_none();
    let is_gone = |path: &Path| is_sure && rustix::fs::stat(path).err() == Some(Errno::NOENT);
    let (path, key, at, _) = paths.into_iter().find(|(path, ..)| is_gone(path))?;
    Some(format!("{}: No such file or directory ({at}: {key})", path.display()))
}

/// The message about a working directory or a program of the plan's that does not answer: the old app would
/// be stopped, and the new one not be started. A child looks at them as the app would.
fn hangs(vassal: &mut Vassal, plan: &VassalPlan) -> Option<String> {
    let Vassal { events, jail, .. } = vassal;
    if jail.procfs.mounts().is_ok_and(|mounts| !mounts.iter().any(Mount::may_wait)) {
        return None;
    }
    let mut workdir = jail.jail_workdir.clone();
    if let Some(path) = &plan.chdir {
        workdir.change(&path.value);
    }
    let program = plan.app.program();
    let path = jail.environment_of(plan).path().unwrap_or_else(|| DEFAULT_PATH.into());
    let child = Launch { workdir: Some(&workdir), ..jail.worker(jail.app_is_users(plan)) };
    let launched = child.work(|| {
        interpreter::look(program, &path);
        Ok(String::new())
    });
    let pid = launched.ok()?.pid;
    let time = PATIENCE.min(plan.hook_timeout);
    let deadline = running_time::now() + time;
    let is_late = events.wait_or_kill(pid, deadline).is_none() && running_time::now() >= deadline;
    is_late.then(|| {
        let (Workdir::Inherited(directory) | Workdir::Chosen(directory)) = &workdir;
        let (directory, program, time) = (directory.display(), program.display(), Elapsed(time));
        let source = plan
            .chdir
            .as_ref()
            .map_or((&plan.app_source.at, &plan.app_source.key), |path| (&path.at, &path.key));
        format!(
            "enter {directory}, and find {program}: not done after {time}: do their filesystems answer? \
             ({}: {})",
            source.0, source.1
        )
    })
}

/// The part of the machine that may be looked at from the present root.
fn world(vassal: &Vassal) -> Careful<'_> {
    let mounts = if vassal.jail.walk.is_inside { None } else { vassal.jail.procfs.mounts().ok() };
    Careful::new(&vassal.source.start, mounts, vassal.jail.owner.is_some())
}

/// Reads the configuration again, from the present root.
///
/// # Errors
/// The configuration has a mistake, or only a fresh start can read it.
pub fn load_again(vassal: &Vassal, inputs: &[Input], reload: bool) -> Result<Loaded<VassalPlan>, Unread> {
    let world = world(vassal);
    let loaded = match &vassal.source.fresh.app {
        App::Program { argv, .. } if vassal.jail.is_command => {
            config::load_command(inputs, argv, reload, &world)
        }
        _ => config::load_vassal(inputs, reload, &world),
    };
    match world.refused() {
        Some(why) => Err(Unread::NeedsRespawn(why)),
        None => loaded.map_err(|report| Unread::Mistake(report.worst())),
    }
}

fn refuse(vassal: &Vassal, why: String) {
    crate::log!("not reloaded, the app goes on as it was: {why}");
    vassal.events.send(&FromVassal::Refused(why));
}

/// The inputs, with another content of the file.
fn replaced(inputs: &[Input], new: &[u8]) -> Vec<Input> {
    let replace = |input: &Input| match input {
        Input::Text { path, section, .. } => {
            Input::Text { path: path.clone(), section: section.clone(), text: new.to_vec() }
        }
        Input::File(_) | Input::Option { .. } | Input::FromEmperor { .. } | Input::Replica(_) => {
            input.clone()
        }
    };
    inputs.iter().map(replace).collect()
}

/// Whether files of the emperor's are read besides the vassal's file.
fn has_templates(inputs: &[Input]) -> bool {
    inputs.iter().any(|input| match input {
        Input::Option { key, .. } => matches!(placed(key).0, "include" | "inherit"),
        _ => false,
    })
}
