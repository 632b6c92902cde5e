//! The way through the rooms: inputs → settings → plan, with all mistakes and warnings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::build::{emperor, maps, settings, uwsgi_files, vassal};
use super::diagnostic::{Diagnostics, Report, command_line};
use super::input::{Input, ToCheck};
use super::keys::values;
use super::language;
use super::language::expand::{LastPass, expand, split_section};
use super::plan::{Address, App, EmperorPlan, Located, VassalPlan};
use super::setting::{PlainSetting, Setting};
use super::world::World;

/// A warning that is never why an app fails.
pub const AS_ROOT: &str = "the app runs as root, as there is no 'uid'";

/// The number of an instance without others.
const ALONE: u16 = 1;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded<P> {
    /// What it says.
    pub plan: P,
    /// Warnings about lines that probably do not do what was meant.
    pub warnings: Report,
    /// The settings that an emperor's plan was made of, for [`load_emperor_again`]; empty for a vassal's.
    pub settings: Vec<PlainSetting>,
}

/// Reads the configuration of a vassal; `reload` is what `if-reload` asks.
///
/// # Errors
/// The configuration has mistakes: the report has all of them.
pub fn load_vassal(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, None, reload, world)
}

/// Reads the configuration of a vassal whose app is this command, whatever the configuration says; `reload`
/// as in [`load_vassal`].
///
/// # Errors
/// The configuration has mistakes: the report has all of them.
pub fn load_command(
    inputs: &[Input],
    command: &[OsString],
    reload: bool,
    world: &dyn World,
) -> Result<Loaded<VassalPlan>, Report> {
    load_app(inputs, Some(command), reload, world)
}

/// The plan of a command without any configuration: the same as [`load_command`] makes of no inputs, but
/// without reading keys, which would be most of the time that a short command takes.
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
    load(inputs, reload, Some(ALONE), LastPass::WITH_SIBLINGS, world, |settings, found| {
        let plan = vassal::plan(settings, command, found);
        if !inputs.iter().any(|input| matches!(input, Input::Replica(_))) {
            warn_of_replicas(settings, &plan, found);
        }
        if command.is_none()
            && inputs.iter().any(|input| matches!(input, Input::File(_) | Input::Text { .. }))
        {
            warn_of_root(&plan, world, found);
        }
        maps::warn_of_known(&plan.jail.maps, world, found);
        (plan, Vec::new())
    })
}

/// Warns of replicas where there is no emperor.
fn warn_of_replicas(settings: &[Setting], plan: &VassalPlan, found: &mut Diagnostics) {
    let last = settings.iter().rfind(|setting| setting.key == b"replicas");
    if let Some(setting) = last.filter(|_| plan.replication.replicas > 1) {
        found.warning(&setting.value_at, "only an emperor runs several instances: this is the only one");
    }
}

/// Warns of an app that runs as root because no `uid` was found: the key may be misspelt.
fn warn_of_root(plan: &VassalPlan, world: &dyn World, found: &mut Diagnostics) {
    if plan.run_as.uid.is_none() && world.host().uid() == 0 && !found.failed() {
        let at = found.start();
        let hint = "write 'uid = USER', or 'uid = root' if that is meant";
        found.warning(&at, AS_ROOT).harmless().hint(hint);
    }
}

/// Parses a duration as the keys take it.
///
/// # Errors
/// The text is not a duration: what is wrong with it.
pub fn duration(text: &[u8]) -> Result<Duration, String> {
    values::duration(text)
}

/// Parses an address to listen at, as `listen` takes it.
///
/// # Errors
/// The text is not an address: what is wrong with it.
pub fn address(text: &[u8]) -> Result<Address, String> {
    values::absolute_address(text)
}

/// Reads the configuration of an emperor.
///
/// # Errors
/// The configuration has mistakes: the report has all of them.
pub fn load_emperor(inputs: &[Input], world: &dyn World) -> Result<Loaded<EmperorPlan>, Report> {
    load(inputs, false, None, LastPass::PLAIN, world, |settings, found| {
        let settings: Vec<_> =
            settings.iter().map(|one| settings::of_ours(one, found).into_owned()).collect();
        let plain = settings.iter().filter_map(Setting::plain).collect();
        let plan = emperor::plan(&settings, found);
        maps::warn_of_known(&plan.vassals.maps, world, found);
        (plan, plain)
    })
}

/// Makes an emperor's plan again from the settings of an earlier plan, whatever its files contain by now.
///
/// # Errors
/// The settings come from another version of this program, which knows keys that this one does not.
pub fn load_emperor_again(settings: Vec<PlainSetting>) -> Result<Loaded<EmperorPlan>, Report> {
    let mut found = Diagnostics::default();
    let again: Vec<_> = settings.iter().map(Setting::of_plain).collect();
    let plan = emperor::plan(&again, &mut found);
    finish(plan, settings, found)
}

/// The inputs of a check. The file is the vassal's own, as under an emperor, whose options are templates.
fn inputs(of: &ToCheck, world: &dyn World) -> Vec<Input> {
    let own = of.file.as_ref().map(|file| {
        let (path, section) = split_section(file.as_bytes());
        let path = PathBuf::from(OsString::from_vec(path));
        let section = Some(OsStr::from_bytes(section).to_owned()).filter(|section| !section.is_empty());
        match world.read(&path) {
            Ok(text) => Input::Text { path, section, text },
            // The expansion says why it cannot be read, or reads what is no file.
            Err(_) => Input::File(file.clone()),
        }
    });
    of.before.iter().cloned().chain(own).chain(of.behind.iter().cloned()).collect()
}

/// Reads a file as an emperor's. Returns all mistakes and warnings, and the plan if there are no mistakes.
pub fn check_emperor(of: &ToCheck, world: &dyn World) -> (Report, Option<EmperorPlan>) {
    match load_emperor(&inputs(of, world), world) {
        Ok(Loaded { plan, warnings, .. }) => (warnings, Some(plan)),
        Err(report) => (report, None),
    }
}

/// Reads a file as a vassal's. Returns all mistakes and warnings.
pub fn check_vassal(of: &ToCheck, world: &dyn World) -> Report {
    let mut found = Diagnostics::default();
    let all = inputs(of, world);
    let settings = expand(&all, false, Some(ALONE), LastPass::WITH_SIBLINGS, world, &mut found);
    let plan = vassal::plan(&settings, None, &mut found);
    warn_of_root(&plan, world, &mut found);
    maps::warn_of_known(&plan.jail.maps, world, &mut found);
    uwsgi_files::warn_of_denied(&plan, world, &mut found);
    let mut report = found.into_report();
    report.place_options();
    report
}

/// The settings, in order.
///
/// # Errors
/// The configuration has mistakes that keep the settings from being read.
pub fn expanded(inputs: &[Input], reload: bool, world: &dyn World) -> Result<Vec<Setting>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand(inputs, reload, None, LastPass::PLAIN, world, &mut found);
    if found.failed() { Err(found.into_report()) } else { Ok(settings) }
}

/// The settings as `uwsgi --show-config` prints them.
pub fn show_config(settings: &[Setting]) -> Vec<u8> {
    let mut text = b"\n;uWSGI instance configuration\n[uwsgi]\n".to_vec();
    for setting in settings {
        let value = setting.value.as_deref().unwrap_or(b"true");
        for part in [&setting.key[..], b" = ", value, b"\n"] {
            text.extend(language::written(part));
        }
    }
    text.extend(b";end of configuration\n\n");
    text
}

fn load<P>(
    inputs: &[Input],
    reload: bool,
    replica: Option<u16>,
    last: LastPass,
    world: &dyn World,
    plan: impl Fn(&[Setting], &mut Diagnostics) -> (P, Vec<PlainSetting>),
) -> Result<Loaded<P>, Report> {
    let mut found = Diagnostics::default();
    let settings = expand(inputs, reload, replica, last, world, &mut found);
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
