//! Expanded options → [`VassalPlan`].

use std::ffi::OsString;
use std::time::Duration;

use super::listen::{self, Common};
use super::reader::{
    checked, emperor_key, locate, located, run_as, set, set_located, set_some, strict, unknown, value,
};
use super::uwsgi_ini::uwsgi_ini;
use crate::config::diagnostic::{Diagnostics, command_line};
use crate::config::keys::actions::{self, Step};
use crate::config::keys::capabilities;
use crate::config::keys::hooks::{FAMILIES, Family, HookKey, phase_names};
use crate::config::keys::options::VASSAL_INIT;
use crate::config::keys::values::{self, Parsed};
use crate::config::plan::{
    App, Hook, Limit, Limited, Listen, Located, Location, MountpointLost, Phase, VassalPlan,
};
use crate::config::setting::{Setting, State};

/// The keys that make another program the app.
const PROGRAM_KEYS: &[&str] = &[
    "command",
    "privileged-binary-patch",
    "privileged-binary-patch-arg",
    "unprivileged-binary-patch",
    "unprivileged-binary-patch-arg",
];

/// The plan of a vassal; what is wrong goes to `found`, and then the plan is not to be used. A `command` of the
/// command line is the app, whatever else the settings say. It keeps what its starter has, unless they say otherwise.
pub(crate) fn plan(
    settings: &[Setting],
    command: Option<&[OsString]>,
    found: &mut Diagnostics,
) -> VassalPlan {
    let mut plan = VassalPlan::default();
    plan.app_source.at = Location { line: 0, ..found.start() };
    plan.privileges.no_new_privs = command.is_none();
    if let Some(setting) = emperor_key(settings) {
        // Whatever else is in it, there is nothing to say about it here.
        found.error(&setting.at, "this is an emperor's file: run 'emperor FILE'");
        return plan;
    }
    let names_program = |key: &[u8]| PROGRAM_KEYS.iter().any(|known| known.as_bytes() == key);
    let is_read = |state| matches!(state, State::Open | State::LeftOpen);
    let names_other = |setting: &Setting| is_read(setting.state) && names_program(&setting.key);
    let with_uwsgi = command.is_none() && !settings.iter().any(names_other);
    // Phase and family of each hook so far.
    let mut places = Vec::new();
    let mut program = None;
    let mut binary = None;
    let mut for_uwsgi = Vec::new();
    let (mut sockets, mut addresses) = (Common::default(), Vec::new());
    for setting in settings {
        match setting.state {
            State::Done | State::Placeholder => continue,
            State::LeftOpen => {
                for_uwsgi.push(setting);
                continue;
            }
            State::ForUwsgi => {
                if VASSAL_INIT.find(&setting.key).is_some() {
                    let message = format!("'{}' is left to uWSGI", setting.key.escape_ascii());
                    found.warning(&setting.at, message).hint("only uWSGI can decide the block it stands in");
                }
                for_uwsgi.push(setting);
                continue;
            }
            State::Open | State::Verbatim => {}
        }
        match HookKey::of(&setting.key) {
            HookKey::No => {}
            HookKey::Ours(phase, family) if !is_ours(setting, phase, family, with_uwsgi) => {
                for_uwsgi.push(setting);
                continue;
            }
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
        match setting.name() {
            "add-gid" | "gid" | "no-initgroups" | "uid" => run_as(&mut plan.run_as, setting, found),
            "binary-path" => set_located(&mut binary, setting, found, values::text),
            "cap" => {
                if let Some(numbers) = value(setting, found, capabilities::list) {
                    plan.privileges.capabilities =
                        numbers.into_iter().map(|number| locate(setting, number)).collect();
                }
            }
            "cap-drop" => set(&mut plan.privileges.cap_drop, setting, found, capabilities::set),
            "cgroup" => plan.resources.cgroups.extend(located(setting, found, values::absolute)),
            "cgroup-opt" | "cpu-max" | "memory-max" | "pids-max" => {
                let option = checked(setting, found, values::cgroup_option(setting.name(), setting.text()));
                plan.resources.cgroup_options.extend(option.map(|option| locate(setting, option)));
            }
            "cgroup-optional" => set(&mut plan.resources.cgroup_optional, setting, found, values::boolean),
            "chdir" => set_located(&mut plan.chdir, setting, found, values::path),
            "chroot" => set_located(&mut plan.jail.chroot, setting, found, values::path),
            "command" => set_located(&mut program, setting, found, |text| words(text, false)),
            "env" => plan.environment.extend(value(setting, found, values::env_set)),
            "hook-timeout" => set(&mut plan.hook_timeout, setting, found, period),
            "chmod-socket" | "chown-socket" | "reuse-port" => {
                sockets.read(setting, found);
                // For those that it binds itself.
                for_uwsgi.extend(with_uwsgi.then_some(setting));
            }
            "keep-sockets" => set(&mut plan.keep_sockets, setting, found, values::boolean),
            "listen" if listen::is_backlog(setting) => {
                sockets.read(setting, found);
                for_uwsgi.extend(with_uwsgi.then_some(setting));
            }
            "listen" => addresses.extend(located(setting, found, listen::address)),
            "hostname" => set_located(&mut plan.jail.hostname, setting, found, values::hostname),
            "limit-as" | "limit-nofile" | "limit-nproc" => {
                let limit = checked(setting, found, limit(setting.name(), setting.text()));
                plan.resources.limits.extend(limit.map(|limit| locate(setting, limit)));
            }
            "mount-check" | "mountpoint-check" => {
                plan.mountpoints.checks.extend(located(setting, found, values::absolute));
                say_dots(setting, found);
            }
            "mountpoint-check-interval" => set(&mut plan.mountpoints.check_interval, setting, found, period),
            "mountpoint-check-timeout" => set(&mut plan.mountpoints.check_timeout, setting, found, period),
            "mountpoint-lost" => {
                if let Some(policy) = mountpoint_lost(setting, found) {
                    plan.mountpoints.lost = policy;
                }
            }
            "mountpoint-timeout" => set(&mut plan.mountpoints.timeout, setting, found, values::duration),
            "no-new-privs" => set(&mut plan.privileges.no_new_privs, setting, found, values::boolean),
            "oom-score-adj" => {
                set_located(&mut plan.resources.oom_score_adj, setting, found, values::oom_score_adj)
            }
            "pivot-root" | "pivot_root" => {
                set_located(&mut plan.jail.pivot_root, setting, found, values::pivot_root)
            }
            "privileged-binary-patch" => {
                set_located(&mut program, setting, found, |text| one_word(text, true))
            }
            "privileged-binary-patch-arg" => {
                set_located(&mut program, setting, found, |text| words(text, true))
            }
            "reload-signal" => set_some(&mut plan.reload_signal, setting, found, values::signal),
            "stop-signal" => set_some(&mut plan.stop.signal, setting, found, values::signal),
            "stop-timeout" => set(&mut plan.stop.timeout, setting, found, values::duration),
            "strict" => {
                value(setting, found, values::boolean);
                for_uwsgi.push(setting);
            }
            "umask" => set_some(&mut plan.umask, setting, found, |text| values::octal(text, 0o777)),
            "unenv" => plan.environment.extend(value(setting, found, values::env_unset)),
            "unmount-timeout" => set(&mut plan.stop.unmount_timeout, setting, found, values::duration),
            "unprivileged-binary-patch" => {
                set_located(&mut program, setting, found, |text| one_word(text, false))
            }
            "unprivileged-binary-patch-arg" => {
                set_located(&mut program, setting, found, |text| words(text, false))
            }
            "unshare" => set(&mut plan.jail.unshare, setting, found, values::namespaces),
            _ => for_uwsgi.push(setting),
        }
    }
    say_unknown(settings, &for_uwsgi, with_uwsgi, found);
    plan.listen = addresses.into_iter().map(|address| sockets.listen(address)).collect();
    if let Some(argv) = command {
        plan.app = App::Program { argv: argv.to_vec(), privileged: false };
        plan.app_source = Located { value: (), key: "command".into(), at: command_line() };
    } else if let Some(Located { value, key, at }) = program {
        (plan.app, plan.app_source) = (value, Located { value: (), key, at });
    } else if with_uwsgi {
        let binary = match binary {
            Some(Located { value, key, at }) => {
                plan.app_source = Located { value: (), key, at };
                value
            }
            None => "uwsgi".into(),
        };
        plan.app = uwsgi(for_uwsgi, binary, &sockets, &mut plan.listen, found);
    }
    plan
}

/// uWSGI as the app. The sockets that it can take over go to `listen`.
fn uwsgi(
    mut options: Vec<&Setting>,
    binary: OsString,
    sockets: &Common,
    listen: &mut Vec<Located<Listen>>,
    found: &mut Diagnostics,
) -> App {
    // Where something else is wrong, that is the mistake: it may be what kept the options from being read.
    if !found.failed() && options.iter().all(|setting| setting.key == b"strict") {
        let at = found.start();
        let message = "there is no app: neither 'command' nor an option for uWSGI";
        found.error(&at, message).hint("add 'command = PROGRAM ARGS', or uWSGI's own options");
    }
    let (taken_over, protocol) = sockets.take_over(&mut options, found);
    listen.extend(taken_over);
    App::Uwsgi { binary, ini: uwsgi_ini(&options, protocol, found) }
}

/// Warns of what looks like a slip, and of what nobody will read.
fn say_unknown(settings: &[Setting], left_over: &[&Setting], with_uwsgi: bool, found: &mut Diagnostics) {
    let strict = strict(settings);
    for setting in left_over.iter().filter(|setting| setting.key != b"strict") {
        if with_uwsgi {
            // What uWSGI does not know is for uWSGI to say: it is strict too then.
            unknown(setting, &VASSAL_INIT, strict, false, found);
        } else if setting.key.ends_with(b"-as-vassal") || setting.key.ends_with(b"-as-emperor") {
            let message = format!("'{}' only counts in the emperor's file", setting.key.escape_ascii());
            found.warning(&setting.at, message);
        } else if let HookKey::Uwsgi = HookKey::of(&setting.key) {
            let message = format!("'{}' only runs inside uWSGI", setting.key.escape_ascii());
            found.warning(&setting.at, message).hint("the app is another program here");
        } else if !setting.used.get() && listen::is_uwsgis(setting) {
            let message =
                format!("'{}' is for uWSGI, and the app is another program", setting.key.escape_ascii());
            found.warning(&setting.at, message).hint("'listen = ADDRESS' binds a socket for any app");
        } else {
            unknown(setting, &VASSAL_INIT, strict, strict, found);
        }
    }
}

/// Warns of a checked path that no mount will ever be found under: the kernel tells where mounts are without such parts.
fn say_dots(setting: &Setting, found: &mut Diagnostics) {
    if setting.text().split(|&byte| byte == b'/').any(|part| part == b"..") {
        let message = format!("'{}': no mount is at a path with '..' in it", setting.key.escape_ascii());
        found.warning(&setting.value_at, message).hint("write where the mount is from the root down");
    }
}

/// Whether we run a hook of a phase we have, and not uWSGI.
fn is_ours(setting: &Setting, phase: Phase, family: usize, with_uwsgi: bool) -> bool {
    match phase {
        // The emperor's word for root's commands: what a vassal's file says under these keys has no effect.
        Phase::AsVassal => setting.state == State::Verbatim,
        // uWSGI runs them in its workers. The other families it does not have.
        Phase::Accepting => !(with_uwsgi && FAMILIES.get(family).is_some_and(Family::is_hook)),
        _ => true,
    }
}

/// One hook of a phase of ours.
fn hook(setting: &Setting, phase: Phase, family: usize, found: &mut Diagnostics) -> Option<Hook> {
    let family = FAMILIES.get(family)?;
    let parsed = family.parse(setting.text());
    let step = step(setting, family.is_hook() && setting.text().starts_with(b"!"), parsed, found)?;
    Some(as_hook(setting, phase, step, || family.text(setting.text())))
}

/// What an action came to. What is wrong with a private one is not shown.
fn step(setting: &Setting, is_private: bool, parsed: Parsed<Step>, found: &mut Diagnostics) -> Option<Step> {
    if is_private && parsed.is_err() {
        let message = format!("'{}': a mistake in what follows the '!'", setting.key.escape_ascii());
        found
            .error(&setting.at, message)
            .hide()
            .hint("it is private, so nothing of it is shown: try it without the '!'");
        return None;
    }
    checked(setting, found, parsed)
}

/// An action in its phase; `text` is how it was written.
fn as_hook(setting: &Setting, phase: Phase, step: Step, text: impl FnOnce() -> String) -> Hook {
    let private = step.private.is_some();
    let text = step.private.unwrap_or_else(text);
    Hook { phase, action: step.action, tolerant: step.tolerant, private, source: locate(setting, text) }
}

/// `destroy`, `remount` or `hook:ACTION`.
fn mountpoint_lost(setting: &Setting, found: &mut Diagnostics) -> Option<MountpointLost> {
    match setting.text() {
        b"destroy" => Some(MountpointLost::Destroy),
        b"remount" => Some(MountpointLost::Remount),
        text => {
            let unknown = "it is none of destroy, remount and hook:ACTION".to_owned();
            let action = checked(setting, found, text.strip_prefix(b"hook:").ok_or(unknown))?;
            let step = step(setting, action.starts_with(b"!"), actions::parse(action), found)?;
            let text = || String::from_utf8_lossy(action).into_owned();
            Some(MountpointLost::Hook(Box::new(as_hook(setting, Phase::MountpointLost, step, text))))
        }
    }
}

/// A limit of the app. uWSGI counts address space in megabytes.
fn limit(key: &str, text: &[u8]) -> Parsed<Limit> {
    let (resource, unit) = match key {
        "limit-as" => (Limited::AddressSpace, 1 << 20),
        "limit-nofile" => (Limited::Descriptors, 1),
        _ => (Limited::Processes, 1),
    };
    values::count(text).map(|count| Limit { resource, value: u64::from(count) * unit })
}

/// A command line as the app.
fn words(text: &[u8], privileged: bool) -> Parsed<App> {
    values::words(text).map(|argv| App::Program { argv, privileged })
}

/// A program without arguments as the app.
fn one_word(text: &[u8], privileged: bool) -> Parsed<App> {
    values::text(text).map(|program| App::Program { argv: vec![program], privileged })
}

/// A duration that something is repeated or given up after: never 0.
fn period(text: &[u8]) -> Parsed<Duration> {
    match values::duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        period => Ok(period),
    }
}
