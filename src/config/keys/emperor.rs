//! The keys of an emperor: one row for each.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::capabilities;
use super::draft::EmperorDraft;
use super::options::Program;
use super::read::Reader;
use super::row::{Group, Read, Row, Takes};
use super::table::{self, Table, table};
use super::values::{self, Parsed, quoted};
use crate::config::bytes::has_scheme;
use crate::config::plan::{Located, OnDemand, Source, Tyrant};
use Group::{Hooks, Limits, Operation, Timing, User, Vassals};
use Takes::{Flag, Value};

/// The supervisor.
pub static EMPEROR: Program = Program {
    name: "emperor",
    usage: "Keeps the vassals of a directory running, each in its own namespaces.\n\
            \n\
            Usage:\n\
            \x20 emperor [OPTIONS] [FILE.ini[:SECTION]]\n\
            \x20 emperor --check [--json] FILE|DIR...\n\
            \x20                                  check emperors' files, or directories, and\n\
            \x20                                  all their vassals; exit 0 or 78\n\
            \x20 emperor --show-config [OPTIONS] [FILE.ini]\n\
            \x20                                  print the options as they are after expansion\n\
            \x20 emperor --help [OPTION|COMMAND|ACTION]... | --version\n\
            \n\
            To one that is running, at its control socket (--control PATH):\n\
            \x20 emperor status [NAME...]         how each vassal is, and why\n\
            \x20   --json                         as JSON\n\
            \x20   --problems                     those with a problem only; exit 3 or 0\n\
            \x20   --state=STATE,...              those in these states only\n\
            \x20   --watch                        drawn again each second\n\
            \x20 emperor status NAME --is-up      whether it is up, as the exit status\n\
            \x20 emperor logs NAME [-f] [-n LINES]\n\
            \x20                                  what it has written, and writes\n\
            \x20 emperor ps [NAME...]             what runs in the vassals\n\
            \x20 emperor enter NAME               run a shell in a vassal, as its root;\n\
            \x20                                  its user's FUSE mounts take --user\n\
            \x20 emperor enter NAME -- COMMAND... run a command there; exit as that does\n\
            \x20   --user                         as the app's user, in its environment\n\
            \x20 emperor reload NAME              do what touching its file does\n\
            \x20 emperor stop NAME                stop it until it is started by command\n\
            \x20   --now                          with SIGKILL to its app\n\
            \x20 emperor start NAME               start what is not up, at once\n\
            \x20   --wait[=TIME]                  wait for the outcome (default: 60s)\n\
            \x20 emperor roll                     replace all instances, some at a time\n\
            \x20 emperor upgrade [--roll]         run its new program; keep all vassals\n",
    commands: "status logs ps enter reload stop start roll upgrade",
    own: &OF_EMPERORS,
    hooks_for_vassals: true,
    of_commands: None,
};

#[rustfmt::skip]
static OF_EMPERORS: Table = table![
    key(Vassals, "emperor", Value("DIR"), "a directory or pattern of vassal files; may be repeated\n\
        Each file NAME.ini in it is one vassal. A new file starts it, a touched one reloads it, a removed \
        one stops it. dir://DIR and glob://PATTERN say which it is; else what has a wildcard or ends in \
        .ini is a pattern.",
        |to, it| it.add_located(&mut to.plan.discovery.sources, source)),
    key(Vassals, "emperor-extra-ext", Value("SUFFIX"), "the same as emperor-extra-extension",
        |to, it| it.add(&mut to.plan.discovery.extra_suffixes, values::text)),
    key(Vassals, "emperor-extra-extension", Value("SUFFIX"), "a further suffix of vassals' files, as .conf\n\
        They are ini files all the same.",
        |to, it| it.add(&mut to.plan.discovery.extra_suffixes, values::text)),
    key(Vassals, "emperor-magic-exec", Flag, "an executable file prints its configuration\n\
        It is run as PID 1's first child, as root, in the vassal's namespaces, and for 10 s at most. A \
        changed one is a fresh start.",
        |to, it| it.set(&mut to.plan.vassals.magic_exec, values::boolean)),
    key(Vassals, "emperor-nofollow", Flag, "a link changes when it does, not its target",
        |to, it| it.set(&mut to.plan.discovery.nofollow, values::boolean)),
    key(Vassals, "emperor-on-demand-dir", Value("DIR"), "the same as emperor-on-demand-directory",
        |to, it| on_demand(to, it, on_demand_directory)),
    key(Vassals, "emperor-on-demand-directory", Value("DIR"), "\
        start each vassal on demand at DIR/NAME.socket\n\
        When somebody connects. The socket is the emperor's, open to everybody, and handed to the app. An \
        app that leaves after a while is waited for again.",
        |to, it| on_demand(to, it, on_demand_directory)),
    key(Vassals, "emperor-on-demand-exec", Value("COMMAND"), "on demand, where COMMAND NAME.ini says\n\
        Run as root in the directory of the file, with emperor-tyrant in / with the whole path, for 10 s at \
        most. A vassal for which it prints nothing \
        is started like any other.",
        |to, it| on_demand(to, it, on_demand_command)),
    key(Vassals, "emperor-on-demand-ext", Value("SUFFIX"), "the same as emperor-on-demand-extension",
        |to, it| on_demand(to, it, on_demand_extension)),
    key(Vassals, "emperor-on-demand-extension", Value("SUFFIX"), "on demand, where NAME.iniSUFFIX says\n\
        A vassal without such a file beside its own is started like any other.",
        |to, it| on_demand(to, it, on_demand_extension)),
    key(Vassals, "emperor-tyrant", Flag, "run each vassal as the owner of its file\n\
        The user and the group that it belongs to, from before it is read; never root. The emperor's own \
        hook-as-vassal run as root before that.",
        |to, it| it.set(&mut to.is_tyrant, values::boolean)),
    key(Vassals, "emperor-tyrant-initgroups", Flag, "with that user's supplementary groups",
        |to, it| tyrant(to, it, |tyrant| &mut tyrant.initgroups)),
    key(Vassals, "emperor-tyrant-max", Value("COUNT"), "how many vassals each owner may have\n\
        Further files of the owner wait for the end of one.",
        |to, it| {
            it.set_some(&mut to.tyrant.max, values::count);
            to.tyrant_kind = Some(Located { at: it.setting.at.clone(), ..it.setting.locate(()) });
        }),
    key(Vassals, "emperor-tyrant-nofollow", Flag, "as the owner of a link, also if that is root",
        |to, it| tyrant(to, it, |tyrant| &mut tyrant.nofollow)),
    key(Vassals, "emperor-use-clone", Value("LIST"), "the namespaces that each vassal gets\n\
        A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas.",
        |to, it| it.set(&mut to.plan.vassals.namespaces, values::namespaces)),
    key(Vassals, "map-groups", Value("MAP"), "the same for groups (default: as map-users)",
        |to, it| it.add_located(&mut to.plan.vassals.maps.groups, values::id_map)),
    key(Vassals, "map-tree", Value("DIR"), "a directory with the owners inside; may be repeated\n\
        Its files, on one mount, belong in each vassal to the same numbers inside as they do here outside: \
        those of root to the vassal's root. Takes root, a filesystem with id-mapped mounts, nosuid on \
        the mount, and a path without links.",
        |to, it| it.add_located(&mut to.plan.vassals.map_trees, values::absolute)),
    key(Vassals, "map-users", Value("MAP"), "the users of user namespaces; may be repeated\n\
        INSIDE:OUTSIDE:COUNT: the IDs from INSIDE on are those from OUTSIDE on. auto: those that /etc/subuid \
        and /etc/subgid grant: under root 65536 of them for each vassal, else all, and the emperor's user as \
        root. Without it, the emperor's user is root inside, and nobody else exists.",
        |to, it| it.add_located(&mut to.plan.vassals.maps.users, values::id_map)),
    key(Vassals, "vassal-init", Value("PROGRAM"), "process 1 of vassals (default: one beside us)",
        |to, it| it.set_located(&mut to.plan.vassals.program, values::path)),
    key(Vassals, "vassal-set", Value("KEY=VALUE"), "an option or placeholder for all; may be repeated\n\
        Before each file, which may therefore say otherwise. UWSGI_VASSAL_KEY in the environment does the \
        same.",
        |to, it| it.option(&mut to.set, "set", values::assignment)),
    key(Vassals, "vassals-include", Value("FILE"), "a file that each includes last; may be repeated\n\
        Behind its own. In it %n is its own name, and %N that of the vassal.",
        |to, it| it.option(&mut to.include, "include", values::text)),
    key(Vassals, "vassals-include-before", Value("FILE"), "the same, first",
        |to, it| it.option(&mut to.include_before, "include", values::text)),
    key(Vassals, "vassals-inherit", Value("FILE"), "a file whose options come last; may be repeated\n\
        Placeholders in it stay as they are.",
        |to, it| it.option(&mut to.inherit, "inherit", values::text)),
    key(Vassals, "vassals-inherit-before", Value("FILE"), "the same, ahead of those of vassals-inherit",
        |to, it| it.option(&mut to.inherit_before, "inherit", values::text)),
    key(Vassals, "vassals-set", Value("KEY=VALUE"), "the same as vassal-set",
        |to, it| it.option(&mut to.set, "set", values::assignment)),

    key(User, "add-gid", Value("GROUP"), "a further supplementary group; may be repeated\n\
        By name or number.",
        |to, it| it.add_located(&mut to.plan.run_as.add_gids, values::id)),
    key(User, "cap", Value("LIST"), "capabilities that the emperor keeps\n\
        And its vassals can have at most. Names as in capabilities(7), separated by commas. Without it, \
        none if it becomes another user.",
        |to, it| it.set_some(&mut to.plan.capabilities, capabilities::bits)),
    key(User, "gid", Value("GROUP"), "the group to become (default: the user's own)\n\
        By name or number.",
        |to, it| it.set_located(&mut to.plan.run_as.gid, values::id)),
    key(User, "no-initgroups", Flag, "leave out the user's supplementary groups",
        |to, it| it.set(&mut to.plan.run_as.no_initgroups, values::boolean)),
    key(User, "uid", Value("USER"), "the user to become, by name or number\n\
        Once all sockets and files are open.",
        |to, it| it.set_located(&mut to.plan.run_as.uid, values::id)),

    key(Hooks, "exec-as-emperor", Value("COMMAND"), "run a command when a vassal started; may be repeated\n\
        A shell command, in the emperor's own namespaces.",
        |to, it| it.add_located(&mut to.plan.as_emperor, values::text)),
    key(Hooks, "hook-as-emperor", Value("exec:COMMAND"), "the same as exec-as-emperor",
        |to, it| it.add_located(&mut to.plan.as_emperor, command)),
    family("hook-as-vassal", Value("ACTION:ARGS"), "do something in each vassal first; may be repeated\n\
        Before all else. As vassal-init --help hook-PHASE says; also exec-, mount-, umount- and \
        call-as-vassal."),

    key(Limits, "cgroup-opt", Value("FILE=VALUE"), "\
        write VALUE to FILE of each one's cgroup; may be repeated",
        cgroup_option),
    key(Limits, "cgroup-optional", Flag, "go on without limits that cannot be had",
        |to, it| it.set(&mut to.plan.cgroups.is_optional, values::boolean)),
    key(Limits, "cpu-max", Value("PERCENT"), "processor time of each vassal, as 50% or 200%\n\
        Or QUOTA PERIOD.",
        cgroup_option),
    key(Limits, "emperor-cgroup", Value("DIR"), "a directory of cgroups (v2), one per vassal\n\
        Each vassal gets one in it and starts there. What is left of a vassal in it is killed when it \
        ends. A vassal's own memory-max and the like apply to it as well.",
        |to, it| it.set_located(&mut to.plan.cgroups.directory, values::absolute)),
    key(Limits, "memory-max", Value("SIZE"), "memory of each vassal, as 512M or 2G",
        cgroup_option),
    key(Limits, "pids-max", Value("COUNT"), "processes and threads of each vassal",
        cgroup_option),

    key(Operation, "control", Value("PATH"), "command socket (default: /run/emperor.sock)\n\
        For an ordinary user: $XDG_RUNTIME_DIR/emperor.sock. For commands, as 'emperor status'; only root \
        and the emperor's own user can use it.",
        |to, it| it.set_located(&mut to.plan.control, values::path)),
    key(Operation, "emperor-pidfile", Value("PATH"), "write the emperor's pid to a file",
        |to, it| it.set_located(&mut to.plan.pid_file, values::path)),
    key(Operation, "emperor-stats", Value("ADDRESS"), "serve uWSGI's stats, JSON, at ADDRESS\n\
        A path, @NAME for an abstract socket, or HOST:PORT with the number of a host; :PORT is every host \
        of ours.",
        |to, it| it.set_located(&mut to.plan.stats, values::address)),
    key(Operation, "emperor-stats-server", Value("ADDRESS"), "the same as emperor-stats",
        |to, it| it.set_located(&mut to.plan.stats, values::address)),
    key(Operation, "log-dir", Value("DIR"), "a log file for each vassal: DIR/NAME.log\n\
        For those whose files have no standard-output. Written by a process of root's, also with \
        emperor-tyrant; log-dir itself must belong to nobody else.",
        |to, it| it.set_some(&mut to.plan.vassals.log_dir, values::absolute)),
    key(Operation, "log-format", Value("FORMAT"), "form of our lines: text, json (default: text)\n\
        Ours and those of vassal-init. What apps write is passed on as it is.",
        |to, it| it.set(&mut to.plan.json_log, is_json)),
    key(Operation, "logto", Value("FILE"), "append all output, ours and the vassals'\n\
        To rotate it, copy and truncate it (logrotate's copytruncate): apps that run keep it open.",
        |to, it| it.set_located(&mut to.plan.log, values::path)),
    key(Operation, "metrics", Value("ADDRESS"), "serve metrics for Prometheus over HTTP\n\
        ADDRESS is as for emperor-stats.",
        |to, it| it.set_located(&mut to.plan.metrics, values::address)),

    key(Timing, "emperor-freq", Value("SECONDS"), "time between two scans (default: 3)\n\
        Where nothing was noticed before. Up to ten times as long where a scan would take more than a \
        two-thousandth of the time, with thousands of files.",
        |to, it| it.set(&mut to.plan.discovery.scan_interval, seconds)),
    key(Timing, "emperor-max-reloads", Value("COUNT"), "\
        how many replace their instances at a time\n\
        Vassals with 'reload-strategy = rolling', and all in 'emperor roll'. The default is 2 per \
        processor. The others wait until one is done, or has taken ten seconds.",
        |to, it| it.set_some(&mut to.plan.max_reloads, starts)),
    key(Timing, "emperor-max-starts", Value("COUNT"), "how many start at a time (default: 2 per processor)\n\
        Or reload. The others wait until one of these runs, fails, or has been setting up for a second.",
        |to, it| it.set_some(&mut to.plan.max_starts, starts)),
    key(Timing, "emperor-max-throttle", Value("MILLISECONDS"), "the longest delay (default: 180000)",
        |to, it| it.set(&mut to.plan.max_throttle, milliseconds)),
    key(Timing, "emperor-required-heartbeat", Value("SECONDS"), "\
        longest time between heartbeats (default: 30)\n\
        An app that has stopped giving them is restarted. Only after its first one: by uWSGI's heartbeat, \
        or WATCHDOG=1 to NOTIFY_SOCKET. Given here, it is also in the app's WATCHDOG_USEC.",
        |to, it| it.set_some(&mut to.plan.vassals.heartbeat, seconds)),
    key(Timing, "emperor-stop-timeout", Value("TIME"), "longest time a vassal may take to stop\n\
        Whatever its own stop-timeout is; SIGKILL follows. With emperor-tyrant 60s unless it is given.",
        |to, it| it.set_some(&mut to.plan.vassals.stop_timeout, values::duration)),
    key(Timing, "emperor-throttle", Value("MILLISECONDS"), "first delay; doubles each time (default: 1000)\n\
        Between the end of an instance that failed and the next one.",
        |to, it| it.set(&mut to.plan.throttle, milliseconds)),
];

const fn key(
    group: Group,
    name: &'static str,
    takes: Takes,
    text: &'static str,
    read: fn(&mut EmperorDraft, &mut Reader<'_>),
) -> Row {
    Row { name, takes, group, text, reload: None, read: Read::Emperor(read) }
}

const fn family(name: &'static str, takes: Takes, text: &'static str) -> Row {
    Row { name, takes, group: Hooks, text, reload: None, read: Read::Hook }
}

fn starts(text: &[u8]) -> Parsed<u32> {
    match values::count(text)? {
        0 => Err("none could ever start: write 1 or more".to_owned()),
        count => Ok(count),
    }
}

fn cgroup_option(to: &mut EmperorDraft, it: &mut Reader<'_>) {
    let option = it.checked(values::cgroup_option(it.setting.name(), it.text()));
    if let Some(option) = option {
        to.plan.cgroups.options.push(it.setting.locate(option));
    }
}

/// A key that turns a variant of tyrant mode on or off.
fn tyrant(to: &mut EmperorDraft, it: &mut Reader<'_>, flag: fn(&mut Tyrant) -> &mut bool) {
    it.set(flag(&mut to.tyrant), values::boolean);
    to.tyrant_kind = Some(Located { at: it.setting.at.clone(), ..it.setting.locate(()) });
}

/// A rule for vassals on demand. Only one of the keys may be used.
fn on_demand(to: &mut EmperorDraft, it: &mut Reader<'_>, parse: fn(&[u8]) -> Parsed<OnDemand>) {
    let rule = it.located(parse);
    if let (Some(new), Some(old)) = (&rule, &to.plan.vassals.on_demand)
        && new.key != old.key
    {
        let message = format!("'{}' beside '{}': only one of them can say it", new.key, old.key);
        it.found.error(&new.at, message);
    }
    if rule.is_some() {
        to.plan.vassals.on_demand = rule;
    }
}

fn on_demand_directory(text: &[u8]) -> Parsed<OnDemand> {
    values::absolute(text).map(OnDemand::Directory)
}

fn on_demand_command(text: &[u8]) -> Parsed<OnDemand> {
    values::text(text).map(OnDemand::Command)
}

fn on_demand_extension(text: &[u8]) -> Parsed<OnDemand> {
    match values::text(text)? {
        slash if slash.as_bytes().contains(&b'/') => Err("it is the end of a file's name".to_owned()),
        extension => Ok(OnDemand::Extension(extension)),
    }
}

/// `exec:COMMAND`. Any other action would change the emperor itself, and is refused.
fn command(text: &[u8]) -> Parsed<OsString> {
    match text.strip_prefix(b"exec:") {
        Some(command) => values::text(command),
        None => Err(format!("{} is not exec:COMMAND, the only action the emperor runs itself", quoted(text))),
    }
}

/// `dir://DIR` or `glob://PATTERN`. Without a scheme, a text that has a wildcard or ends in `.ini` is a
/// pattern.
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
        _ => Err(format!("{} is neither text nor json; uWSGI's own belongs into vassals", quoted(text))),
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
