//! Expanded options → [`EmperorPlan`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::bytes::has_scheme;
use super::diagnostic::Diagnostics;
use super::expand::Setting;
use super::hooks::{FAMILIES, HookKey};
use super::options::Reader;
use super::plan::{EmperorPlan, Phase};
use super::reader::{checked, located, open, strict, unknown, value};
use super::values::{self, Parsed, quoted};

/// The plan of an emperor; what is wrong goes to `found`, and then the plan is not to be used.
pub(super) fn plan(settings: &[Setting], found: &mut Diagnostics) -> EmperorPlan {
    let mut plan = EmperorPlan {
        directories: Vec::new(),
        namespaces: 0,
        scan_interval: Duration::from_secs(3),
        throttle: Duration::from_millis(1000),
        max_throttle: Duration::from_millis(180_000),
        vassal_init: None,
        as_vassal: Vec::new(),
        as_emperor: Vec::new(),
    };
    let strict = strict(settings);
    for setting in open(settings) {
        match setting.name() {
            "emperor" => plan.directories.extend(located(setting, found, directory)),
            "emperor-freq" => {
                plan.scan_interval = value(setting, found, seconds).unwrap_or(plan.scan_interval);
            }
            "emperor-max-throttle" => {
                plan.max_throttle = value(setting, found, milliseconds).unwrap_or(plan.max_throttle);
            }
            "emperor-throttle" => {
                plan.throttle = value(setting, found, milliseconds).unwrap_or(plan.throttle);
            }
            "emperor-use-clone" => {
                plan.namespaces = value(setting, found, values::namespaces).unwrap_or(plan.namespaces);
            }
            "exec-as-emperor" => plan.as_emperor.extend(located(setting, found, values::text)),
            "hook-as-emperor" => plan.as_emperor.extend(located(setting, found, command)),
            "strict" => {
                value(setting, found, values::boolean);
            }
            "vassal-init" => {
                let program = located(setting, found, values::path);
                plan.vassal_init = program.or(plan.vassal_init);
            }
            _ => match HookKey::of(&setting.key) {
                HookKey::Ours(Phase::AsVassal, family) => {
                    plan.as_vassal.extend(for_vassals(setting, family, found));
                }
                _ => unknown(setting, Reader::Emperor, strict, strict, found),
            },
        }
    }
    if !settings.iter().any(|setting| setting.key == b"emperor") {
        let at = found.start();
        found
            .error(&at, "there is no 'emperor'")
            .hint("add 'emperor = DIR', the directory of the vassals' files");
    }
    plan
}

/// A hook that the vassals run. It is taken apart there again; here so that a mistake is the emperor's, not every vassal's.
fn for_vassals(setting: &Setting, family: usize, found: &mut Diagnostics) -> Option<(String, OsString)> {
    let family = FAMILIES.get(family)?;
    checked(setting, found, family.parse(setting.text()))?;
    let key = String::from_utf8_lossy(&setting.key).into_owned();
    Some((key, OsStr::from_bytes(setting.text()).to_owned()))
}

/// `exec:COMMAND`: all else would change the emperor itself.
fn command(text: &[u8]) -> Parsed<OsString> {
    match text.strip_prefix(b"exec:") {
        Some(command) => values::text(command),
        None => Err(format!("{} is not exec:COMMAND, the only action the emperor runs itself", quoted(text))),
    }
}

/// A directory, as `DIR` or `dir://DIR`.
fn directory(text: &[u8]) -> Parsed<PathBuf> {
    let path = text.strip_prefix(b"dir://").unwrap_or(text);
    if has_scheme(path) || path.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
        return Err(format!("{} is not a directory: only directories can be watched", quoted(text)));
    }
    if path.is_empty() {
        return Err("the value is missing".to_owned());
    }
    Ok(PathBuf::from(OsStr::from_bytes(path)))
}

fn seconds(text: &[u8]) -> Parsed<Duration> {
    match values::count(text)? {
        0 => Err("it must be at least 1".to_owned()),
        seconds => Ok(Duration::from_secs(seconds.into())),
    }
}

fn milliseconds(text: &[u8]) -> Parsed<Duration> {
    values::count(text).map(|milliseconds| Duration::from_millis(milliseconds.into()))
}
