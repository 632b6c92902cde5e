//! Expanded options → [`VassalPlan`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::app;
use super::diagnostic::Diagnostics;
use super::expand::{Setting, State};
use super::hooks::{FAMILIES, HookKey, phase_names};
use super::options::Reader;
use super::plan::{App, Hook, Phase, VassalPlan};
use super::reader::{locate, located, open, strict, unknown, value};
use super::values::{self, Parsed};

/// The keys that make another program the app.
const PROGRAM_KEYS: &[&str] = &[
    "command",
    "privileged-binary-patch",
    "privileged-binary-patch-arg",
    "unprivileged-binary-patch",
    "unprivileged-binary-patch-arg",
];

/// The plan of a vassal; what is wrong goes to `found`, and then the plan is not to be used.
pub(super) fn plan(settings: &[Setting], found: &mut Diagnostics) -> VassalPlan {
    let mut plan = VassalPlan {
        hooks: Vec::new(),
        uid: None,
        gid: None,
        add_gids: Vec::new(),
        initgroups: true,
        environment: Vec::new(),
        chdir: None,
        umask: None,
        app: App::Uwsgi { binary: "uwsgi".into(), ini: Vec::new() },
        checks: Vec::new(),
        mountpoint_timeout: Duration::from_secs(30),
        mountpoint_check_interval: Duration::from_millis(500),
        mountpoint_check_timeout: Duration::from_secs(5),
        stop_signal: 0,
        stop_timeout: Duration::from_secs(10),
        unshare: 0,
    };
    let mut stop_signal = None;
    // Phase and family of each hook so far.
    let mut places = Vec::new();
    let mut program = None;
    let mut binary = None;
    let mut for_uwsgi = Vec::new();
    for setting in settings {
        match setting.state {
            State::Done | State::Placeholder => continue,
            State::ForUwsgi => {
                for_uwsgi.push(setting);
                continue;
            }
            State::Open => {}
        }
        match HookKey::of(&setting.key) {
            HookKey::No => {}
            HookKey::Ours(phase, family) => {
                if let Some(hook) = hook(setting, phase, family, found) {
                    // Within a phase the families come in uWSGI's order, each in the order of the file.
                    let at = places.partition_point(|place| *place <= (phase, family));
                    places.insert(at, (phase, family));
                    plan.hooks.insert(at, hook);
                }
                continue;
            }
            HookKey::Uwsgi => {
                for_uwsgi.push(setting);
                continue;
            }
            HookKey::Unknown { phase, suggestion } => {
                let message = format!("unknown phase '{phase}' in '{}'", setting.key.escape_ascii());
                found.error(&setting.at, message).hint(match suggestion {
                    Some(key) => format!("did you mean '{key}'?"),
                    None => format!("the phases are {}", phase_names()),
                });
                continue;
            }
        }
        match &setting.key[..] {
            b"add-gid" => plan.add_gids.extend(located(setting, found, values::id)),
            b"binary-path" => replace(&mut binary, value(setting, found, values::text)),
            b"chdir" => replace(&mut plan.chdir, located(setting, found, path)),
            b"command" => replace(&mut program, run(setting, found, values::words, false)),
            b"env" => plan.environment.extend(value(setting, found, values::env_set)),
            b"gid" => replace(&mut plan.gid, located(setting, found, values::id)),
            b"mountpoint-check" => plan.checks.extend(located(setting, found, checked_path)),
            b"mountpoint-check-interval" => {
                assign(&mut plan.mountpoint_check_interval, value(setting, found, period));
            }
            b"mountpoint-check-timeout" => {
                assign(&mut plan.mountpoint_check_timeout, value(setting, found, period));
            }
            b"mountpoint-timeout" => {
                assign(&mut plan.mountpoint_timeout, value(setting, found, values::duration));
            }
            b"no-initgroups" => {
                assign(&mut plan.initgroups, value(setting, found, values::boolean).map(|no| !no));
            }
            b"privileged-binary-patch" => replace(&mut program, run(setting, found, one_word, true)),
            b"privileged-binary-patch-arg" => replace(&mut program, run(setting, found, values::words, true)),
            b"stop-signal" => replace(&mut stop_signal, value(setting, found, values::signal)),
            b"stop-timeout" => assign(&mut plan.stop_timeout, value(setting, found, values::duration)),
            b"strict" => {
                value(setting, found, values::boolean);
                for_uwsgi.push(setting);
            }
            b"uid" => replace(&mut plan.uid, located(setting, found, values::id)),
            b"umask" => replace(&mut plan.umask, value(setting, found, values::octal)),
            b"unenv" => plan.environment.extend(value(setting, found, values::env_unset)),
            b"unprivileged-binary-patch" => replace(&mut program, run(setting, found, one_word, false)),
            b"unprivileged-binary-patch-arg" => {
                replace(&mut program, run(setting, found, values::words, false))
            }
            b"unshare" => assign(&mut plan.unshare, value(setting, found, values::namespaces)),
            _ => for_uwsgi.push(setting),
        }
    }
    let names_program = |key: &[u8]| PROGRAM_KEYS.iter().any(|known| known.as_bytes() == key);
    let with_uwsgi = !open(settings).any(|setting| names_program(&setting.key));
    say_unknown(settings, &for_uwsgi, with_uwsgi, found);
    plan.app = match program {
        Some(app) => app,
        // Its value was wrong.
        None if !with_uwsgi => plan.app,
        None => uwsgi(&for_uwsgi, binary.unwrap_or_else(|| "uwsgi".into()), found),
    };
    plan.stop_signal = stop_signal.unwrap_or(if with_uwsgi { libc::SIGINT } else { libc::SIGTERM });
    plan
}

/// uWSGI as the app.
fn uwsgi(options: &[&Setting], binary: OsString, found: &mut Diagnostics) -> App {
    if options.iter().all(|setting| setting.key == b"strict") {
        let at = found.start();
        let message = "there is no app: neither 'command' nor an option for uWSGI";
        found.error(&at, message).hint("add 'command = PROGRAM ARGS', or uWSGI's own options");
    }
    App::Uwsgi { binary, ini: app::uwsgi_ini(options, found) }
}

/// Warns of what looks like a slip, and of what nobody will read.
fn say_unknown(settings: &[Setting], left_over: &[&Setting], with_uwsgi: bool, found: &mut Diagnostics) {
    let strict = strict(settings);
    for setting in left_over.iter().filter(|setting| setting.key != b"strict") {
        if with_uwsgi {
            // What uWSGI does not know is for uWSGI to say: it is strict too then.
            unknown(setting, Reader::Vassal, strict, false, found);
        } else if let HookKey::Uwsgi = HookKey::of(&setting.key) {
            let message = format!("'{}' only runs inside uWSGI", setting.key.escape_ascii());
            found.warning(&setting.at, message).hint("the app is another program here");
        } else {
            unknown(setting, Reader::Vassal, strict, strict, found);
        }
    }
}

/// One hook of a phase of ours.
fn hook(setting: &Setting, phase: Phase, family: usize, found: &mut Diagnostics) -> Option<Hook> {
    let family = FAMILIES.get(family)?;
    let action = value(setting, found, family.parse)?;
    let source = locate(setting, String::from_utf8_lossy(setting.text()).into_owned());
    Some(Hook { phase, action, source })
}

/// A program as the app.
fn run(
    setting: &Setting,
    found: &mut Diagnostics,
    parse: fn(&[u8]) -> Parsed<Vec<OsString>>,
    privileged: bool,
) -> Option<App> {
    value(setting, found, parse).map(|argv| App::Program { argv, privileged })
}

fn one_word(text: &[u8]) -> Parsed<Vec<OsString>> {
    values::text(text).map(|program| vec![program])
}

fn path(text: &[u8]) -> Parsed<PathBuf> {
    values::text(text).map(PathBuf::from)
}

fn checked_path(text: &[u8]) -> Parsed<PathBuf> {
    let path = path(text)?;
    if path.is_absolute() { Ok(path) } else { Err(format!("'{}' is not an absolute path", path.display())) }
}

/// A duration that something is repeated or given up after: never 0.
fn period(text: &[u8]) -> Parsed<Duration> {
    match values::duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        period => Ok(period),
    }
}

/// The last good value counts.
fn replace<T>(slot: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *slot = value;
    }
}

fn assign<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}
