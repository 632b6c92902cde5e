//! Settings → [`VassalPlan`].

use std::ffi::OsString;
use std::rc::Rc;

use super::settings::{Unknown, emperor_key, first_word, of_ours};
use super::uwsgi_ini::uwsgi_ini;
use super::{listen, maps, replicas, uwsgi_files};
use crate::config::diagnostic::{Diagnostics, command_line};
use crate::config::keys::draft::VassalDraft;
use crate::config::keys::hooks::{FAMILIES, Family, HookKey, phase_names};
use crate::config::keys::read::Reader;
use crate::config::keys::row::Read;
use crate::config::keys::sockets::{self, Common};
use crate::config::keys::vassal::VASSAL_INIT;
use crate::config::keys::{habits, values};
use crate::config::language::expand::NOT_IN;
use crate::config::plan::{
    Action, App, Hook, Listen, Located, Location, Phase, Privileges, ReadyCheck, VassalPlan,
};
use crate::config::reload;
use crate::config::setting::{Setting, State};
use crate::names;

/// The keys that make another program the app.
const PROGRAM_KEYS: &str = "\
    command privileged-binary-patch privileged-binary-patch-arg unprivileged-binary-patch \
    unprivileged-binary-patch-arg";

/// The plan of a vassal. Mistakes go to `found`; a plan with mistakes must not be used. A command given on
/// the command line is the app, whatever the settings say, and keeps its starter's privileges unless the
/// settings take them away.
pub(crate) fn plan(
    settings: &[Setting],
    command: Option<&[OsString]>,
    found: &mut Diagnostics,
) -> VassalPlan {
    let mut draft = VassalDraft::default();
    draft.plan.reload.fingerprint = reload::fingerprint(settings);
    draft.plan.app_source.at = Location { line: 0, ..found.start() };
    draft.plan.privileges.no_new_privs = command.is_none();
    if let Some(setting) = emperor_key(settings) {
        // Nothing else in that file is checked.
        found.error(&setting.at, "this is an emperor's file: run 'emperor FILE'");
        return draft.plan;
    }
    let names_program = |key: &[u8]| names::contains(PROGRAM_KEYS, key);
    let is_read = |state| matches!(state, State::Open | State::LeftOpen);
    let names_other = |setting: &Setting| is_read(setting.state) && names_program(&setting.key);
    let with_uwsgi = command.is_none() && !settings.iter().any(names_other);
    // Phase and family of each hook so far.
    let mut places = Vec::new();
    let mut for_uwsgi = Vec::new();
    for setting in settings {
        match setting.state {
            State::Done | State::Placeholder => continue,
            State::LeftOpen => {
                if VASSAL_INIT.find(&setting.key).is_none() {
                    for_uwsgi.push(setting);
                }
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
                let (family_row, setting) = (FAMILIES.get(family), &*of_ours(setting, found));
                if let Some(hook) = family_row.and_then(|row| row.hook(&mut Reader { setting, found }, phase))
                {
                    // Within a phase the families come in uWSGI's order, each in the order of the file.
                    let at = places.partition_point(|place| *place <= (phase, family));
                    places.insert(at, (phase, family));
                    draft.plan.hooks.insert(at, hook);
                }
                continue;
            }
            HookKey::Uwsgi => {
                for_uwsgi.push(setting);
                continue;
            }
            HookKey::Unknown { phase, suggestion } => {
                let message = format!("unknown phase '{phase}' in '{}'", setting.key.escape_ascii());
                let word = first_word(&setting.key);
                found.error(&setting.at, message).hint(match suggestion {
                    Some(key) => format!("did you mean '{key}'?"),
                    // As in `hook-asap: print:x`.
                    None if matches!(HookKey::of(word.as_bytes()), HookKey::Ours(..) | HookKey::Uwsgi) => {
                        format!("write '{word} = ...'")
                    }
                    None => format!("the phases are {}", phase_names()),
                });
                continue;
            }
        }
        match VASSAL_INIT.find(&setting.key).map(|row| row.read) {
            Some(Read::Vassal(read)) => {
                let ours = of_ours(setting, found);
                let mut reader = Reader { setting: &ours, found };
                read(&mut draft, &mut reader);
                reader.tell_of_habits(habits::of_vassals);
                if with_uwsgi && is_also_uwsgis(setting) {
                    if setting.name() == "chmod-socket" && !matches!(setting.text(), b"1" | [_, _, _]) {
                        reader.checked::<()>(Err("uWSGI takes three digits, as 666".to_owned()));
                    }
                    for_uwsgi.push(setting);
                }
            }
            Some(Read::Language) if setting.key == b"strict" => {
                Reader { setting, found }.value(values::boolean);
                for_uwsgi.push(setting);
            }
            _ => for_uwsgi.push(setting),
        }
    }
    say_unknown(settings, &for_uwsgi, with_uwsgi, found);
    maps::check(&draft.plan.jail.maps, draft.plan.jail.unshare, "unshare", found);
    bar_new_privileges(&mut draft.plan.privileges, command.is_some(), found);
    let VassalDraft { mut plan, program, binary, sockets: common, safe_proc, is_rolling, addresses } = draft;
    if let Some(Located { value: true, key, at }) = safe_proc {
        // After the hooks that may mount a /proc.
        let place = plan.hooks.partition_point(|hook| hook.phase <= Phase::AsRoot);
        plan.hooks.insert(place, safe_proc_hook(key, at));
    }
    plan.listen = addresses.into_iter().map(|address| listen::listen(&common, address)).collect();
    let number = settings.iter().rfind(|setting| setting.key == b"listen" && sockets::is_backlog(setting));
    if let Some(setting) = number.filter(|_| command.is_none() && !with_uwsgi && plan.listen.is_empty()) {
        let message = "'listen': a number is the length of a queue, and there is none";
        found.warning(&setting.value_at, message).hint("write ':NUMBER' for a port");
    }
    plan.replication.is_rolling = is_rolling.unwrap_or(plan.replication.replicas > 1);
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
        let are_several = replicas::are_there(&plan);
        uwsgi_files::take_over(&mut for_uwsgi, &mut plan, found);
        plan.app = uwsgi(for_uwsgi, binary, &common, are_several, &mut plan.listen, found);
    }
    if replicas::are_there(&plan) {
        replicas::warn_of_directories(settings, &plan, found);
        replicas::warn_of_unkept(settings, &plan, found);
        replicas::warn_of_check(settings, &plan, found);
    }
    warn_of_own_socket(&plan, found);
    // uWSGI says that it is ready. Nobody asks as long as one instance is stopped before the next one starts.
    let is_told = plan.replication.is_rolling && matches!(plan.app, App::Uwsgi { .. });
    plan.replication.says_ready = is_told || plan.readiness.check.is_some();
    plan.readiness.takes_turns = plan.replication.replicas > 1;
    plan
}

fn safe_proc_hook(key: Rc<str>, at: Location) -> Hook {
    let source = Located { value: "proc = safe".to_owned(), key, at };
    Hook { phase: Phase::AsRoot, action: Action::SafeProc, tolerant: false, private: false, source }
}

/// The kernel accepts a filter of system calls only from a process that cannot gain privileges. So a filter
/// implies `no-new-privs`; a file that says `no-new-privs = false` contradicts itself. A command keeps its
/// privileges by default, which is no contradiction.
fn bar_new_privileges(privileges: &mut Privileges, is_command: bool, found: &mut Diagnostics) {
    let Some(Located { at, .. }) = privileges.filter() else { return };
    if !privileges.no_new_privs && !is_command {
        found.error(at, "'seccomp' and 'no-new-privs = false' exclude each other");
    }
    privileges.no_new_privs = true;
}

/// Warns of a check that asks a socket which PID 1 binds: the kernel accepts connections there ahead of the
/// app.
fn warn_of_own_socket(plan: &VassalPlan, found: &mut Diagnostics) {
    let Some(Located { value: ReadyCheck::Connect(asked), at, .. }) = &plan.readiness.check else { return };
    if plan.listen.iter().any(|listen| listen.value.address.place.is_reached_by(&asked.place)) {
        let message = "connections to this address are accepted before there is an app";
        let hint = "its socket is bound ahead of the app: ask the app itself, by 'exec:COMMAND'";
        found.warning(at, message).hint(hint);
    }
}

/// uWSGI as the app. The sockets that it can take over go to `listen`.
fn uwsgi(
    mut options: Vec<&Setting>,
    binary: OsString,
    sockets: &Common,
    are_several: bool,
    listen: &mut Vec<Located<Listen>>,
    found: &mut Diagnostics,
) -> App {
    // Another mistake may have kept the options of uWSGI from being read.
    let has_none = !found.failed() && options.iter().all(|setting| setting.key == b"strict");
    if has_none && !found.aggravate(NOT_IN) {
        let at = found.start();
        let message = "there is no app: neither 'command' nor an option for uWSGI";
        found.error(&at, message).hint("add 'command = PROGRAM ARGS', or uWSGI's own options");
    }
    let (taken_over, protocol) = listen::take_over(sockets, are_several, &mut options, found);
    listen.extend(taken_over);
    App::Uwsgi { binary, ini: uwsgi_ini(&options, protocol, found) }
}

/// Warns of keys that look misspelt, and of keys that are not read.
fn say_unknown(settings: &[Setting], left_over: &[&Setting], with_uwsgi: bool, found: &mut Diagnostics) {
    if left_over.is_empty() {
        return;
    }
    let unknown = Unknown::new(&VASSAL_INIT, settings);
    for setting in left_over.iter().filter(|setting| setting.key != b"strict") {
        let (why, hint) = if is_emperors(&setting.key) && !setting.used.get() {
            ("only counts in the emperor's file", None)
        } else if with_uwsgi {
            // uWSGI reports its own unknown options: `strict` is handed on to it.
            unknown.tell(setting, false, found);
            continue;
        } else if let HookKey::Uwsgi = HookKey::of(&setting.key) {
            ("only runs inside uWSGI", Some("the app is another program here"))
        } else if !setting.used.get() && listen::is_uwsgis(setting) {
            let hint = "'listen = ADDRESS' binds a socket for any app";
            ("is for uWSGI, and the app is another program", Some(hint))
        } else {
            // A setting from the environment may be meant for other vassals, or for another program.
            let is_written = setting.at.line > 0;
            unknown.tell(setting, unknown.strict || is_written, found);
            continue;
        };
        let message = format!("'{}' {why}", setting.key.escape_ascii());
        found.warning(&setting.at, message).hint = hint.map(str::to_owned);
    }
}

/// Whether it is a key of an emperor's file. uWSGI's `vassal-sos` is for a vassal, and so is
/// `emperor-proxy-socket`.
fn is_emperors(key: &[u8]) -> bool {
    let is = |prefix: &str| key.starts_with(prefix.as_bytes());
    let is_vassals = is("vassal-sos") || key == b"emperor-proxy-socket";
    let is_hook = key.ends_with(b"-as-vassal") || key.ends_with(b"-as-emperor");
    names::contains("control log-dir map-tree metrics", key)
        || is_hook
        || !is_vassals && (is("emperor-") || is("vassal-") || is("vassals-"))
}

/// Whether `vassal-init` runs a hook, and not uWSGI.
fn is_ours(setting: &Setting, phase: Phase, family: usize, with_uwsgi: bool) -> bool {
    match phase {
        // Only the emperor may give these, since they run as root: they have no effect in a vassal's file.
        Phase::AsVassal => setting.state == State::Verbatim,
        // uWSGI runs these hooks in its workers. It does not have the other families.
        Phase::Accepting => !(with_uwsgi && FAMILIES.get(family).is_some_and(Family::is_hook)),
        _ => true,
    }
}

/// Whether uWSGI also reads it, for the sockets that it binds itself.
fn is_also_uwsgis(setting: &Setting) -> bool {
    match setting.name() {
        "chmod-socket" | "chown-socket" | "reuse-port" => true,
        "listen" => sockets::is_backlog(setting),
        _ => false,
    }
}
