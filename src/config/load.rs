//! The way through the rooms: inputs → settings → plan, with all mistakes and warnings.

use std::ffi::{OsStr, OsString};
use std::rc::Rc;
use std::time::Duration;

use super::build::{emperor, vassal};
use super::diagnostic::{Diagnostics, Report, command_line};
use super::input::Input;
use super::keys::{sockets, values};
use super::language::expand;
use super::plan::{Address, App, EmperorPlan, Located, VassalPlan};
use super::setting::{PlainSetting, Setting};
use super::world::World;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded<P> {
    /// What it says.
    pub plan: P,
    /// Warnings: what is probably not meant as it is written.
    pub warnings: Report,
    /// The settings that an emperor's plan was made of, for [`load_emperor_again`]; empty for a vassal's.
    pub settings: Vec<PlainSetting>,
}

/// Reads the configuration of a vassal; `reload` is what `if-reload` asks.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_vassal(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, None, reload, world)
}

/// Reads the configuration of a vassal whose app is this command, whatever the configuration says; `reload`
/// as in [`load_vassal`].
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_command(
    inputs: &[Input],
    command: &[OsString],
    reload: bool,
    world: &dyn World,
) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, Some(command), reload, world)
}

/// The plan of a command alone: what [`load_command`] makes of no inputs, without the way there, which is
/// most of what a short command would cost.
pub fn command_alone(command: &[OsString]) -> Rc<VassalPlan> {
    let mut plan = VassalPlan {
        app: App::Program { argv: command.to_vec(), privileged: false },
        app_source: Located { value: (), key: "command".into(), at: command_line() },
        ..VassalPlan::default()
    };
    plan.privileges.no_new_privs = false;
    Rc::new(plan)
}

fn load_app(
    inputs: &[Input],
    command: Option<&[OsString]>,
    reload: bool,
    world: &dyn World,
) -> Result<Loaded<VassalPlan>, Report> {
    load(inputs, reload, world, |settings, found| {
        let plan = vassal::plan(settings, command, found);
        if command.is_none()
            && inputs.iter().any(|input| matches!(input, Input::File(_) | Input::Text { .. }))
        {
            warn_of_root(&plan, world, found);
        }
        (plan, Vec::new())
    })
}

/// An app that runs as root because nobody has named a user is worth a line: the key may be misspelt.
fn warn_of_root(plan: &VassalPlan, world: &dyn World, found: &mut Diagnostics) {
    if plan.run_as.uid.is_none() && world.uid() == 0 && !found.failed() {
        let at = found.start();
        let hint = "write 'uid = USER', or 'uid = root' if that is meant";
        found.warning(&at, "the app runs as root, as there is no 'uid'").hint(hint);
    }
}

/// A time, as the keys take it; what is wrong with it otherwise.
///
/// # Errors
/// It is none.
pub fn duration(text: &[u8]) -> Result<Duration, String> {
    values::duration(text)
}

/// An address to listen at, as `listen` takes it; what is wrong with it otherwise.
///
/// # Errors
/// It is none.
pub fn address(text: &[u8]) -> Result<Address, String> {
    sockets::address(text)
}

/// Reads the configuration of an emperor.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_emperor(inputs: &[Input], world: &dyn World) -> Result<Loaded<EmperorPlan>, Report> {
    load(inputs, false, world, |settings, found| {
        let plain = settings.iter().filter_map(Setting::plain).collect();
        (emperor::plan(settings, found), plain)
    })
}

/// Makes the plan of an emperor once more from the settings of an earlier one, whatever its files say by now.
///
/// # Errors
/// What another version of this program does not understand.
pub fn load_emperor_again(settings: Vec<PlainSetting>) -> Result<Loaded<EmperorPlan>, Report> {
    let mut found = Diagnostics::default();
    let again: Vec<_> = settings.iter().map(Setting::of_plain).collect();
    let plan = emperor::plan(&again, &mut found);
    finish(plan, settings, found)
}

/// Reads a file as an emperor's and returns all there is to say.
pub fn check_emperor(file: &OsStr, world: &dyn World) -> Report {
    check_as(file, world, |settings, found| drop(emperor::plan(settings, found)))
}

/// Reads a file as a vassal's and returns all there is to say.
pub fn check_vassal(file: &OsStr, world: &dyn World) -> Report {
    check_as(file, world, |settings, found| warn_of_root(&vassal::plan(settings, None, found), world, found))
}

fn check_as(file: &OsStr, world: &dyn World, read: impl Fn(&[Setting], &mut Diagnostics)) -> Report {
    let mut found = Diagnostics::default();
    let settings = expand::expand(&[Input::File(file.to_owned())], false, world, &mut found);
    read(&settings, &mut found);
    found.into_report()
}

/// The expanded options, in order.
///
/// # Errors
/// Everything that keeps them from being read.
pub fn expanded(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Vec<Setting>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand::expand(inputs, reload, world, &mut found);
    if found.failed() { Err(found.into_report()) } else { Ok(settings) }
}

/// The expanded options as `uwsgi --show-config` prints them.
pub fn show_config(settings: &[Setting]) -> Vec<u8> {
    let mut text = b"\n;uWSGI instance configuration\n[uwsgi]\n".to_vec();
    for setting in settings {
        let value = setting.value.as_deref().unwrap_or(b"true");
        for part in [&setting.key[..], b" = ", value, b"\n"] {
            text.extend(part);
        }
    }
    text.extend(b";end of configuration\n\n");
    text
}

fn load<P>(
    inputs: &[Input],
    reload: bool,
    world: &dyn World,
    plan: impl Fn(&[Setting], &mut Diagnostics) -> (P, Vec<PlainSetting>),
) -> Result<Loaded<P>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand::expand(inputs, reload, world, &mut found);
    let (plan, settings) = plan(&settings, &mut found);
    finish(plan, settings, found)
}

fn finish<P>(plan: P, settings: Vec<PlainSetting>, found: Diagnostics) -> Result<Loaded<P>, Report> {
    let failed = found.failed();
    let report = found.into_report();
    if failed { Err(report) } else { Ok(Loaded { plan, warnings: report, settings }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_a_command_alone_is_that_of_a_command_without_options() {
        let command = ["true".into(), "--umask".into()];
        let plan = vassal::plan(&[], Some(&command), &mut Diagnostics::default());
        assert_eq!(*command_alone(&command), plan);
    }
}
