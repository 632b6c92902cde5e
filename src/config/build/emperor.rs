//! Expanded options → [`EmperorPlan`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{
    checked, emperor_key, locate, located, lookalike, run_as, set, set_located, set_some, strict, value,
};
use crate::config::bytes::has_scheme;
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::capabilities;
use crate::config::keys::hooks::{FAMILIES, HookKey};
use crate::config::keys::options::EMPEROR;
use crate::config::keys::values::{self, Parsed, quoted};
use crate::config::plan::{EmperorPlan, Located, OnDemand, Phase, RunAs, Source, Tyrant};
use crate::config::setting::{Setting, State};

/// The plan of an emperor; what is wrong goes to `found`, and then the plan is not to be used.
pub(crate) fn plan(settings: &[Setting], found: &mut Diagnostics) -> EmperorPlan {
    let mut plan = EmperorPlan {
        sources: Vec::new(),
        extra_suffixes: Vec::new(),
        nofollow: false,
        run_as: RunAs::default(),
        capabilities: None,
        tyrant: None,
        cgroup: None,
        cgroup_options: Vec::new(),
        cgroup_optional: false,
        before: Vec::new(),
        behind: Vec::new(),
        on_demand: None,
        magic_exec: false,
        namespaces: 0,
        scan_interval: Duration::from_secs(3),
        throttle: Duration::from_millis(1000),
        max_throttle: Duration::from_millis(180_000),
        heartbeat: None,
        vassal_init: None,
        as_vassal: Vec::new(),
        as_emperor: Vec::new(),
        control: None,
        log: None,
        json_log: false,
        pid_file: None,
        stats: None,
        metrics: None,
    };
    let is_meant = |setting: &Setting| lookalike(&setting.key, &EMPEROR) == Some("emperor");
    if emperor_key(settings).is_none() && !found.failed() && !settings.iter().any(is_meant) {
        let at = found.start();
        let hint =
            "add 'emperor = DIR', the directory of the vassals' files; these are for 'vassal-init --check'";
        found.error(&at, "there is no 'emperor'").hint(hint);
        return plan;
    }
    let strict = strict(settings);
    let (mut is_tyrant, mut tyrant) = (false, Tyrant::default());
    // The last line of tyrant mode that is about its kind.
    let mut tyrant_kind = None;
    // In the order in which uWSGI's emperor puts them on the command line of a vassal, whatever the order here.
    let mut templates = [const { Vec::new() }; TEMPLATES.len()];
    // Hooks for vassals on the command line are not expanded, but read all the same.
    let read = |setting: &&Setting| matches!(setting.state, State::Open | State::Verbatim);
    for setting in settings.iter().filter(read) {
        let template = TEMPLATES.iter().position(|(names, _)| names.contains(&setting.name()));
        if let Some((slot, (_, key))) =
            template.and_then(|at| Some((templates.get_mut(at)?, TEMPLATES.get(at)?)))
        {
            let parse = if *key == "set" { values::assignment } else { values::text };
            slot.extend(value(setting, found, parse).map(|value| ((*key).to_owned(), value)));
            continue;
        }
        match setting.name() {
            "add-gid" | "gid" | "no-initgroups" | "uid" => run_as(&mut plan.run_as, setting, found),
            "cap" => set_some(&mut plan.capabilities, setting, found, capabilities::bits),
            "cgroup-opt" | "cpu-max" | "memory-max" | "pids-max" => {
                let option = checked(setting, found, values::cgroup_option(setting.name(), setting.text()));
                plan.cgroup_options.extend(option.map(|option| locate(setting, option)));
            }
            "cgroup-optional" => set(&mut plan.cgroup_optional, setting, found, values::boolean),
            "emperor-cgroup" => set_located(&mut plan.cgroup, setting, found, values::absolute),
            "control" => set_located(&mut plan.control, setting, found, values::path),
            "emperor" => plan.sources.extend(located(setting, found, source)),
            "emperor-extra-ext" | "emperor-extra-extension" => {
                plan.extra_suffixes.extend(value(setting, found, values::text));
            }
            "emperor-freq" => set(&mut plan.scan_interval, setting, found, seconds),
            "emperor-magic-exec" => set(&mut plan.magic_exec, setting, found, values::boolean),
            "emperor-max-throttle" => set(&mut plan.max_throttle, setting, found, milliseconds),
            "emperor-on-demand-dir"
            | "emperor-on-demand-directory"
            | "emperor-on-demand-exec"
            | "emperor-on-demand-ext"
            | "emperor-on-demand-extension" => {
                let rule = checked(setting, found, on_demand(setting.name(), setting.text()));
                let rule = rule.map(|rule| locate(setting, rule));
                if let (Some(new), Some(old)) = (&rule, &plan.on_demand)
                    && new.key != old.key
                {
                    let message = format!("'{}' beside '{}': only one of them can say it", new.key, old.key);
                    found.error(&new.at, message);
                }
                plan.on_demand = rule.or(plan.on_demand);
            }
            "emperor-pidfile" => set_located(&mut plan.pid_file, setting, found, values::path),
            "emperor-stats" | "emperor-stats-server" => {
                set_located(&mut plan.stats, setting, found, values::address);
            }
            "emperor-required-heartbeat" => set_some(&mut plan.heartbeat, setting, found, seconds),
            "emperor-nofollow" => set(&mut plan.nofollow, setting, found, values::boolean),
            "emperor-throttle" => set(&mut plan.throttle, setting, found, milliseconds),
            "emperor-tyrant" => set(&mut is_tyrant, setting, found, values::boolean),
            "emperor-tyrant-initgroups" => {
                set(&mut tyrant.initgroups, setting, found, values::boolean);
                tyrant_kind = Some(setting);
            }
            "emperor-tyrant-nofollow" => {
                set(&mut tyrant.nofollow, setting, found, values::boolean);
                tyrant_kind = Some(setting);
            }
            "emperor-use-clone" => set(&mut plan.namespaces, setting, found, values::namespaces),
            "exec-as-emperor" => plan.as_emperor.extend(located(setting, found, values::text)),
            "hook-as-emperor" => plan.as_emperor.extend(located(setting, found, command)),
            "log-format" => set(&mut plan.json_log, setting, found, is_json),
            "logto" => set_located(&mut plan.log, setting, found, values::path),
            "metrics" => set_located(&mut plan.metrics, setting, found, values::address),
            "strict" => {
                value(setting, found, values::boolean);
            }
            "vassal-init" => set_located(&mut plan.vassal_init, setting, found, values::path),
            _ => match HookKey::of(&setting.key) {
                HookKey::Ours(Phase::AsVassal, family) => {
                    plan.as_vassal.extend(for_vassals(setting, family, found));
                }
                _ => unread(setting, strict, found),
            },
        }
    }
    plan.tyrant = is_tyrant.then_some(tyrant);
    if let Some(setting) = tyrant_kind
        && !is_tyrant
        && tyrant != Tyrant::default()
    {
        // Left out by mistake, it would run the users' files as root.
        found.error(&setting.at, format!("'{}' without 'emperor-tyrant'", setting.key.escape_ascii()));
    }
    if plan.tyrant.is_some() && plan.magic_exec {
        let at = found.start();
        let message = "'emperor-tyrant' with 'emperor-magic-exec': between a look at whose a file is and its execution \
                       another one could take its place";
        found.error(&at, message).hint("a file may hold '@(exec://COMMAND)', which its owner runs");
    }
    if plan.tyrant.is_some() && plan.namespaces & libc::CLONE_NEWUSER as u64 != 0 {
        let at = found.start();
        let message = "'emperor-tyrant' with 'user' in 'emperor-use-clone': in such a namespace nobody has an owner's user ID";
        found.error(&at, message);
    }
    if let (None, Some(Located { key, at, .. })) = (&plan.cgroup, plan.cgroup_options.first()) {
        let at = at.clone();
        found
            .error(&at, format!("'{key}' without 'emperor-cgroup'"))
            .hint("add 'emperor-cgroup = DIR', where each vassal gets a cgroup of its own");
    }
    let [inherited, included, set, inherited_behind, included_behind] = templates;
    plan.before = [inherited, included, set].concat();
    plan.behind = [inherited_behind, included_behind].concat();
    plan
}

/// What all vassals are told besides their files: the keys here, and the vassal's own key for it; the first three come
/// before the file.
const TEMPLATES: [(&[&str], &str); 5] = [
    (&["vassals-inherit-before"], "inherit"),
    (&["vassals-include-before"], "include"),
    (&["vassal-set", "vassals-set"], "set"),
    (&["vassals-inherit"], "inherit"),
    (&["vassals-include"], "include"),
];

/// Keys of uWSGI's emperor that take rights away from it, or from its vassals. `emperor-cap` and `emperor-tyrant` have
/// variants.
const CONFINING: &[&str] =
    &["chroot", "immediate-gid", "immediate-uid", "pivot-root", "pivot_root", "vassal-cap", "vassals-cap"];

/// What there is to say about a key that nobody reads. Nothing if it is a placeholder that somebody uses.
fn unread(setting: &Setting, strict: bool, found: &mut Diagnostics) {
    let key = setting.key.escape_ascii();
    let starts = |prefix: &str| setting.key.starts_with(prefix.as_bytes());
    let confining = CONFINING.iter().any(|known| known.as_bytes() == setting.key)
        || starts("emperor-cap")
        || starts("emperor-tyrant");
    if confining {
        let message = format!("'{key}' is not supported by this emperor: what it takes away would be left");
        found.error(&setting.at, message);
    } else if let Some(close) = lookalike(&setting.key, &EMPEROR) {
        let message = format!("unknown option '{key}'");
        found.error(&setting.at, message).hint(format!("did you mean '{close}'?"));
    } else if strict {
        found.error(&setting.at, format!("unknown option '{key}'"));
    } else if !setting.used.get() {
        found.warning(&setting.at, format!("'{key}' has no effect: the emperor does not read it"));
    }
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

/// `dir://DIR` or `glob://PATTERN`; without a scheme what has a wildcard, or ends in `.ini`, is a pattern.
fn source(text: &[u8]) -> Parsed<Source> {
    let path = |text: &[u8]| PathBuf::from(OsStr::from_bytes(text));
    let source = if let Some(directory) = text.strip_prefix(b"dir://") {
        Source::Directory(path(directory))
    } else if let Some(pattern) = text.strip_prefix(b"glob://") {
        Source::Pattern(path(pattern))
    } else if has_scheme(text) {
        return Err(format!("{}: the monitors are dir:// and glob://", quoted(text)));
    } else if text.ends_with(b".ini") || text.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
        Source::Pattern(path(text))
    } else {
        Source::Directory(path(text))
    };
    match &source {
        Source::Directory(path) if path.as_os_str().is_empty() => Err("the value is missing".to_owned()),
        Source::Pattern(path) if path.file_name().is_none() => {
            Err(format!("{} names no files", quoted(text)))
        }
        _ => Ok(source),
    }
}

/// `text` or `json`.
fn is_json(text: &[u8]) -> Parsed<bool> {
    match text {
        b"json" => Ok(true),
        b"text" => Ok(false),
        _ => Err(format!("{} is neither text nor json", quoted(text))),
    }
}

/// How vassals on demand are found.
fn on_demand(key: &str, text: &[u8]) -> Parsed<OnDemand> {
    if key.starts_with("emperor-on-demand-d") {
        return values::absolute(text).map(OnDemand::Directory);
    }
    if key == "emperor-on-demand-exec" {
        return values::text(text).map(OnDemand::Command);
    }
    match values::text(text)? {
        slash if slash.as_bytes().contains(&b'/') => Err("it is the end of a file's name".to_owned()),
        extension => Ok(OnDemand::Extension(extension)),
    }
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
