//! The keys of a vassal: one row for each.

use std::time::Duration;

use super::capabilities;
use super::draft::VassalDraft;
use super::hooks;
use super::options::Program;
use super::read::Reader;
use super::row::{Group, JailPart, Read, Reload, Row, Takes};
use super::sockets;
use super::table::{self, Table, table};
use super::values::{self, Parsed};
use crate::config::plan::{Action, App, Hook, Limit, Limited, Located, MountpointLost, Phase, VassalPlan};
use crate::protocol::REPLICAS_MAX;
use Group::{App as OfApp, Command, Hooks, Jail, Limits, Mountpoints, Replicas, Sockets, Stop, User};
use Reload::{FreshJail, Live, NextApp};
use Takes::{Flag, Value};

/// Process 1 of a vassal.
pub static VASSAL_INIT: Program = Program {
    name: "vassal-init",
    usage: "Runs an app as process 1 of its namespaces, or a command as a container's init.\n\
            \n\
            Usage:\n\
            \x20 vassal-init [FLAGS] [OPTIONS] [FILE.ini] [--] COMMAND [ARGUMENT]...\n\
            \x20                                  run a command: hand signals on, reap orphans,\n\
            \x20                                  end as it ends\n\
            \x20 vassal-init [OPTIONS] FILE.ini[:SECTION]\n\
            \x20                                  run a vassal; from a shell: --unshare fs,pid\n\
            \x20 vassal-init [OPTIONS] --check [--json] FILE|DIR... [OPTIONS]\n\
            \x20                                  say what is wrong with files, each between\n\
            \x20                                  those options; exit 0 or 78\n\
            \x20 vassal-init --show-config [OPTIONS] FILE.ini\n\
            \x20                                  print the options as they are after expansion\n\
            \x20 vassal-init --help [OPTION|ACTION]... | --version\n\
            \n\
            Flags, as tini has them:\n\
            \x20 -g         signal the command's whole process group\n\
            \x20 -e STATUS  end with 0 when the command ends with STATUS; may be repeated\n\
            \x20 -p SIGNAL  get SIGNAL, as in SIGTERM, when the parent dies\n\
            \x20 -w, -v     warn of reaped orphans; say more, up to three times\n\
            \x20 -s, -l     become a subreaper (it does so by itself); say the licence\n\
            Called tini, tini-static, docker-init, dumb-init or catatonit, it takes theirs.\n",
    commands: "",
    own: &OF_VASSALS,
    hooks_for_vassals: false,
    of_commands: Some(&OF_COMMANDS),
};

/// The options that count only for a command.
#[rustfmt::skip]
static OF_COMMANDS: Table = table![
    of_command("grace", Value("TIME"), "time for what it leaves running (default: 5s)\n\
        What the command leaves running gets SIGTERM when the command has ended, and SIGKILL after this \
        time. It is not waited for any longer than it lives."),
    of_command("ready-fd", Value("NUMBER"), "gets a line break when the command has begun"),
    of_command("rewrite", Value("SIGNAL:REPLACEMENT"), "\
        hand on another signal, or none (0); may be repeated"),
    of_command("user", Value("UID[:GID]"), "--uid and --gid in one"),
];

#[rustfmt::skip]
static OF_VASSALS: Table = table![
    key(OfApp, "binary-path", Value("PROGRAM"), "the uWSGI that is the app (default: uwsgi)\n\
        Where no other program is: see command.",
        NextApp, |to, it| it.set_located(&mut to.binary, values::text)),
    key(OfApp, "chdir", Value("DIR"), "the app's working directory",
        NextApp, |to, it| it.set_located(&mut to.plan.chdir, values::path)),
    key(OfApp, "clean-env", Flag, "begin with an empty environment\n\
        But for PATH, and HOME, USER, LOGNAME and SHELL of the app's user. env adds to it.",
        fresh("clean-env", |old, new| old.clean_env != new.clean_env),
        |to, it| it.set(&mut to.plan.clean_env, values::boolean)),
    key(OfApp, "command", Value("COMMAND"), "the program to run, with its arguments\n\
        Split into words like a shell does it, with quotes and backslashes, and executed without a shell. \
        Without it the app is uWSGI, which gets every option that vassal-init has no use for.",
        NextApp, |to, it| it.set_located(&mut to.program, |text| words(text, false))),
    key(OfApp, "env", Value("NAME=VALUE"), "set a variable of hooks and app; may be repeated",
        NextApp, |to, it| it.add(&mut to.plan.environment, values::env_set)),
    key(OfApp, "privileged-binary-patch", Value("PROGRAM"), "the app in uWSGI's place, privileges kept",
        APP_PRIVILEGES, |to, it| it.set_located(&mut to.program, |text| one_word(text, true))),
    key(OfApp, "privileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments",
        APP_PRIVILEGES, |to, it| it.set_located(&mut to.program, |text| words(text, true))),
    key(OfApp, "standard-error", Value("PLACE"), "standard error (default: as standard-output)",
        OUTPUT, |to, it| it.set_located(&mut to.plan.output.err, values::output)),
    key(OfApp, "standard-output", Value("PLACE"), "inherit, journal, file:PATH, null (default: inherit)\n\
        Of the app and the commands of hooks. journal: under the vassal's name. file: appended to, and made \
        anew when it was renamed. What cannot be had is told, and inherit.",
        OUTPUT, |to, it| it.set_located(&mut to.plan.output.out, values::output)),
    key(OfApp, "umask", Value("MODE"), "file mode creation mask, in octal",
        NextApp, |to, it| it.set_some(&mut to.plan.umask, |text| values::octal(text, 0o777))),
    key(OfApp, "unenv", Value("NAME"), "remove a variable; may be repeated",
        NextApp, |to, it| it.add(&mut to.plan.environment, values::env_unset)),
    key(OfApp, "unprivileged-binary-patch", Value("PROGRAM"), "the app in uWSGI's place",
        NextApp, |to, it| it.set_located(&mut to.program, |text| one_word(text, false))),
    key(OfApp, "unprivileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments",
        NextApp, |to, it| it.set_located(&mut to.program, |text| words(text, false))),

    key(User, "add-gid", Value("GROUP"), "a further supplementary group; may be repeated\n\
        By name or number.",
        fresh("add-gid", |old, new| differ(&old.run_as.add_gids, &new.run_as.add_gids)),
        |to, it| it.add_located(&mut to.plan.run_as.add_gids, values::id)),
    key(User, "cap", Value("LIST"), "capabilities that the app keeps\n\
        Root loses all others, too. Names as in capabilities(7), with or without cap_, or numbers, \
        separated by commas.",
        KEPT_CAPABILITIES, capabilities),
    key(User, "cap-drop", Value("LIST"), "capabilities that the app cannot have; or all\n\
        Whoever it is. They are taken from all its sets, the bounding set too, so that no program it \
        executes brings them back.",
        KEPT_CAPABILITIES, |to, it| it.set_located(&mut to.plan.privileges.cap_drop, capabilities::set)),
    key(User, "confine-hooks", Flag, "confine commands of hooks as the app (default: false)\n\
        Those from as-user on (in tyrant mode all) get its limits, nice value, capabilities, no-new-privs \
        and seccomp. A FUSE program cannot use fusermount then, and is started by fuse: in a hook.",
        NextApp, |to, it| it.set(&mut to.plan.privileges.confine_hooks, values::boolean)),
    key(User, "gid", Value("GROUP"), "the group to become (default: the user's own)\n\
        By name or number.",
        fresh("gid", |old, new| differ(&old.run_as.gid, &new.run_as.gid)),
        |to, it| it.set_located(&mut to.plan.run_as.gid, values::id)),
    key(User, "no-initgroups", Flag, "leave out the user's supplementary groups\n\
        Those that the group database gives.",
        fresh("no-initgroups", |old, new| old.run_as.no_initgroups != new.run_as.no_initgroups),
        |to, it| it.set(&mut to.plan.run_as.no_initgroups, values::boolean)),
    key(User, "no-new-privs", Flag, "set-id programs give no rights (default: true)\n\
        For a command: false.",
        NextApp, |to, it| it.set(&mut to.plan.privileges.no_new_privs, values::boolean)),
    key(User, "seccomp", Value("FILE"), "system calls that the app cannot use (default: none)\n\
        FILE, none, or default, which refuses those that no app of a stranger's needs: keys of the kernel, \
        its code, mounts and namespaces, other processes' memory, input for terminals. A file has a filter \
        as seccomp_export_bpf(3) writes it. The app then has no-new-privs.",
        fresh("seccomp", |old, new| differ(&old.privileges.seccomp, &new.privileges.seccomp)),
        |to, it| it.set_located(&mut to.plan.privileges.seccomp, values::seccomp)),
    key(User, "uid", Value("USER"), "the user to become, by name or number",
        fresh("uid", |old, new| differ(&old.run_as.uid, &new.run_as.uid)),
        |to, it| it.set_located(&mut to.plan.run_as.uid, values::id)),

    key(Jail, "chroot", Value("DIR"), "the new root directory\n\
        Entered before pivot_root and post-jail.",
        fresh("chroot", |old, new| differ(&old.jail.chroot, &new.jail.chroot)),
        |to, it| it.set_located(&mut to.plan.jail.chroot, values::path)),
    key(Jail, "hostname", Value("NAME"), "the host name in the vassal's uts namespace",
        fresh("hostname", |old, new| differ(&old.jail.hostname, &new.jail.hostname)),
        |to, it| it.set_located(&mut to.plan.jail.hostname, values::hostname)),
    key(Jail, "map-groups", Value("MAP"), "the same for groups (default: as map-users)",
        MAPS, |to, it| it.add_located(&mut to.plan.jail.maps.groups, values::id_map)),
    key(Jail, "map-users", Value("MAP"), "the users of its user namespace; may be repeated\n\
        INSIDE:OUTSIDE:COUNT: the IDs from INSIDE on are those from OUTSIDE on. auto: those that /etc/subuid \
        and /etc/subgid grant; root is the caller, or for root the first of them. Without it, the caller is \
        root inside, and nobody else exists.",
        MAPS, |to, it| it.add_located(&mut to.plan.jail.maps.users, values::id_map)),
    key(Jail, "mount-proc", Flag, "a /proc of its own processes only (default: true)\n\
        In namespaces fs and pid of its own, where the root directory stays the host's.",
        fresh("mount-proc", |old, new| old.jail.keeps_proc != new.jail.keeps_proc),
        |to, it| it.set(&mut to.plan.jail.keeps_proc, |text| values::boolean(text).map(|mount| !mount))),
    key(Jail, "pivot-root", Value("NEW_ROOT PUT_OLD"), "the same as pivot_root",
        PIVOT_ROOT, |to, it| it.set_located(&mut to.plan.jail.pivot_root, values::pivot_root)),
    key(Jail, "pivot_root", Value("NEW_ROOT PUT_OLD"), "\
        make the mount NEW_ROOT the root, the old one PUT_OLD\n\
        Both as seen before the change, PUT_OLD at or beneath NEW_ROOT. umount-as-root can then drop the \
        old root.",
        PIVOT_ROOT, |to, it| it.set_located(&mut to.plan.jail.pivot_root, values::pivot_root)),
    key(Jail, "proc", Value("POLICY"), "safe: a /proc that changes nothing (default: full)\n\
        For an app that is root in its jail: sys, irq, bus, fs and sysrq-trigger are read-only, and secrets \
        as kcore and keys are empty, as runc has it, in what is mounted at /proc when as-root is over.",
        fresh("proc", |old, new| has_safe_proc(old) != has_safe_proc(new)),
        |to, it| it.set_located(&mut to.safe_proc, safe_proc)),
    key(Jail, "unshare", Value("LIST"), "make namespaces where no emperor made them\n\
        A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas.",
        fresh("unshare", |old, new| old.jail.unshare != new.jail.unshare),
        |to, it| it.set(&mut to.plan.jail.unshare, values::namespaces)),

    family("call-PHASE", Value("FUNCTION ARG"), "call a function of libc in PHASE; may be repeated"),
    family("exec-PHASE", Value("COMMAND"), "run a shell command in PHASE; may be repeated\n\
        Each command must end with status 0 before the next one starts; only in as-user-atexit a failure \
        is let pass."),
    family("hook-PHASE", Value("ACTION:ARGS"), "do something in PHASE; may be repeated\n\
        The phases are asap, pre-jail, post-jail, in-jail, as-root, as-user, pre-app, post-app, accepting, \
        as-user-atexit; in each, hook- comes before mount-, umount-, exec- and call-. After '!' the \
        arguments are not logged. What happens inside uWSGI, as hook-post-fork, is left to it."),
    key(Hooks, "hook-timeout", Value("TIME"), "time for a command of a hook (default: 60s)",
        NextApp, |to, it| it.set(&mut to.plan.hook_timeout, period)),
    family("mount-PHASE", Value("FS SOURCE DIR [FLAGS]"), "mount something in PHASE; may be repeated\n\
        Flags are those of mount(8), separated by commas; a fifth word is the filesystem's own options."),
    family("umount-PHASE", Value("DIR [FLAGS]"), "unmount something in PHASE; may be repeated\n\
        The flags are rec, detach (or lazy), force and nofollow."),

    key(Mountpoints, "mount-check", Value("PATH"), "the same as mountpoint-check",
        CHECKS, mountpoint_check),
    key(Mountpoints, "mountpoint-check", Value("PATH"), "\
        end the instance when PATH does not answer; may be repeated\n\
        PATH must be a mount that answers: before the app starts, and for as long as it runs. What else \
        can follow says mountpoint-lost.",
        CHECKS, mountpoint_check),
    key(Mountpoints, "mountpoint-check-interval", Value("TIME"), "time between two checks (default: 2s)\n\
        A dead daemon and an unmount are noticed at once, whatever it is; only a filesystem that hangs \
        waits for it.",
        Live, |to, it| it.set(&mut to.plan.mountpoints.check_interval, period)),
    key(Mountpoints, "mountpoint-check-timeout", Value("TIME"), "time for an answer (default: 5s)",
        Live, |to, it| it.set(&mut to.plan.mountpoints.check_timeout, period)),
    key(Mountpoints, "mountpoint-lost", Value("POLICY"), "what follows a loss (default: destroy)\n\
        destroy ends the instance. remount runs the commands of the phase that mounted it again and \
        restarts the app. hook:ACTION does something, as in hook-PHASE, and the app goes on.",
        fresh_for("from or to remount", "mountpoint-lost", |old, new| {
            old.remounts() != new.remounts() || old.mounts_for_user() != new.mounts_for_user()
        }),
        mountpoint_lost),
    key(Mountpoints, "mountpoint-timeout", Value("TIME"), "time to appear at the start (default: 30s)\n\
        Later: how long it may answer with EACCES, EPERM and the like.",
        NextApp, |to, it| it.set(&mut to.plan.mountpoints.timeout, values::duration)),

    key(Sockets, "chmod-socket", Value("MODE"), "mode of unix sockets, octal (no value: 666)",
        SOCKETS, |to, it| it.set_some(&mut to.sockets.mode, sockets::mode)),
    key(Sockets, "chown-socket", Value("USER[:GROUP]"), "owner of unix sockets (default: app's user)",
        SOCKETS, |to, it| it.set_some(&mut to.sockets.owner, sockets::owner)),
    key(Sockets, "keep-sockets", Flag, "keep them between instances (default: true)\n\
        The emperor holds them, so connections wait for the next instance instead of being refused.",
        fresh("keep-sockets", |old, new| old.keep_sockets != new.keep_sockets),
        |to, it| it.set(&mut to.plan.keep_sockets, values::boolean)),
    key(Sockets, "listen", Value("ADDRESS"), "bind a socket for the app; may be repeated\n\
        Before the privilege drop. A path, @NAME for an abstract socket, or HOST:PORT with the number of a \
        host; :PORT is every host of ours. The app gets it as descriptor 3 and so on (LISTEN_FDS). A \
        number is the length of the queue, as in uWSGI (default: 1024). uWSGI's own sockets are handled \
        alike where it can take them over: all with one protocol.",
        SOCKETS, listen),
    key(Sockets, "reuse-port", Flag, "let others bind the same ports",
        SOCKETS, |to, it| it.set(&mut to.sockets.reuse_port, values::boolean)),

    key(Replicas, "ready-after", Value("TIME"), "be ready for so long beside the old one (default: 1s)\n\
        Then the old one is stopped. An app that does not say that it is ready, as uWSGI does, counts as \
        ready when it has been up for so long and its mountpoints answer.",
        Live, |to, it| it.set(&mut to.plan.replication.ready_after, values::duration)),
    key(Replicas, "ready-check", Value("CHECK"), "what tells whether the app is ready\n\
        exec:COMMAND, a shell command that ends with status 0; tcp://ADDRESS, written as for listen, where \
        a connection is accepted; or notify: the app says it itself, as uWSGI does. Both are done in the \
        vassal, as the app's user, again and again. With them, what the app says does not count.",
        NextApp, |to, it| it.set_located(&mut to.plan.readiness.check, values::ready_check)),
    key(Replicas, "ready-check-failures", Value("COUNT"), "replace it after so many in a row (default: 3)\n\
        The instance of an app that was ready, and then fails so many checks in a row, ends; 0 for never.",
        NextApp, |to, it| it.set(&mut to.plan.readiness.failures, values::count)),
    key(Replicas, "ready-check-interval", Value("TIME"), "time between two checks (default: 1s)\n\
        Before the first success they come sooner: after 50 ms, 100 ms, 200 ms and so on.",
        NextApp, |to, it| it.set(&mut to.plan.readiness.interval, period)),
    key(Replicas, "ready-check-timeout", Value("TIME"), "time for a check (default: 5s)\n\
        One that takes longer has failed, and is killed with all that it has started.",
        NextApp, |to, it| it.set(&mut to.plan.readiness.timeout, period)),
    key(Replicas, "ready-timeout", Value("TIME"), "time to become ready beside the old one (default: 60s)\n\
        A new instance that takes longer is given up, and the old ones go on.",
        Live, |to, it| it.set(&mut to.plan.replication.ready_timeout, period)),
    key(Replicas, "reload-on", Value("POLICY"), "\
        touch: a touched file is reloaded; content: one that says something else\n\
        Under an emperor. content compares the bytes of the file and of all that it reads, as 'include' \
        does, whenever the file is touched. The default is touch, as in uWSGI.",
        Live, |to, it| it.set(&mut to.plan.reload.on_content, reload_on)),
    key(Replicas, "reload-strategy", Value("STRATEGY"), "\
        recreate: stop, then start; rolling: start, then stop\n\
        What an emperor does about a changed file. rolling runs a new instance beside the old one and \
        stops that when the new one is ready. The default is recreate, and rolling for several replicas.",
        Live, |to, it| it.set_some(&mut to.is_rolling, reload_strategy)),
    key(Replicas, "replicas", Value("COUNT"), "instances at a time, 1 to 100 (default: 1)\n\
        Under an emperor. Each has namespaces and mounts of its own; all accept from the same sockets. What \
        they cannot share is told apart by %(replica), the number of each.",
        Live, |to, it| it.set(&mut to.plan.replication.replicas, replicas)),

    key(Stop, "reload-signal", Value("SIGNAL"), "has the app read its own configuration again\n\
        Sent for a reload, in the place of a restart, where the file says what it said before and has no \
        hook that a reload runs.",
        NextApp, |to, it| it.set_some(&mut to.plan.reload.signal, values::signal)),
    key(Stop, "stop-signal", Value("SIGNAL"), "what asks the app to stop (default: TERM)\n\
        INT for uWSGI, which reloads on TERM. An app that speaks uWSGI's protocol at UWSGI_EMPEROR_FD is \
        asked over that, unless a signal is given here.",
        NextApp, |to, it| it.set_some(&mut to.plan.stop.signal, values::signal)),
    key(Stop, "stop-timeout", Value("TIME"), "time to stop until SIGKILL (default: 10s)",
        NextApp, |to, it| it.set(&mut to.plan.stop.timeout, values::duration)),
    key(Stop, "unmount-timeout", Value("TIME"), "time for hooks' daemons to end (default: 10s)\n\
        After the app has ended.",
        Live, |to, it| it.set(&mut to.plan.stop.unmount_timeout, values::duration)),

    key(Limits, "cgroup", Value("DIR"), "a cgroup to start in; may be repeated\n\
        Created if it is missing.",
        fresh("cgroup", |old, new| differ(&old.resources.cgroups, &new.resources.cgroups)),
        |to, it| it.add_located(&mut to.plan.resources.cgroups, values::absolute)),
    key(Limits, "cgroup-opt", Value("FILE=VALUE"), "write VALUE to FILE of its cgroups; may be repeated",
        CGROUP_OPTIONS, cgroup_option),
    key(Limits, "cgroup-optional", Flag, "go on without limits that cannot be had",
        fresh("cgroup-optional", |old, new| old.resources.cgroup_optional != new.resources.cgroup_optional),
        |to, it| it.set(&mut to.plan.resources.cgroup_optional, values::boolean)),
    key(Limits, "cpu-max", Value("PERCENT"), "processor time, as 50% or 200%; needs a cgroup\n\
        Or QUOTA PERIOD.",
        CGROUP_OPTIONS, cgroup_option),
    key(Limits, "limit-as", Value("MEGABYTES"), "limit of the app's address space",
        NextApp, |to, it| limit(to, it, Limited::AddressSpace, MEGABYTE)),
    key(Limits, "limit-nofile", Value("COUNT"), "limit of the app's open files",
        NextApp, |to, it| limit(to, it, Limited::Descriptors, 1)),
    key(Limits, "limit-nproc", Value("COUNT"), "limit of the processes of the app's user",
        NextApp, |to, it| limit(to, it, Limited::Processes, 1)),
    key(Limits, "memory-max", Value("SIZE"), "memory of the vassal, as 512M; needs a cgroup",
        CGROUP_OPTIONS, cgroup_option),
    key(Limits, "nice", Value("NUMBER"), "the app's nice value, -20 (first) to 19 (last)\n\
        Of the app and what it starts, not of hooks.",
        fresh_for("from or to none", "nice", |old, new| {
            old.resources.nice.is_some() != new.resources.nice.is_some()
        }),
        |to, it| it.set_located(&mut to.plan.resources.nice, |text| values::between(text, -20, 19))),
    key(Limits, "oom-score-adj", Value("NUMBER"), "rank for out-of-memory kills, -1000 to 1000\n\
        The process with the highest one is killed first.",
        fresh("oom-score-adj", |old, new| differ(&old.resources.oom_score_adj, &new.resources.oom_score_adj)),
        |to, it| {
            it.set_located(&mut to.plan.resources.oom_score_adj, |text| values::between(text, -1000, 1000));
        }),
    key(Limits, "pids-max", Value("COUNT"), "processes and threads; needs a cgroup",
        CGROUP_OPTIONS, cgroup_option),
];

const fn of_command(name: &'static str, takes: Takes, text: &'static str) -> Row {
    Row { name, takes, group: Command, text, reload: None, read: Read::Command }
}

const fn key(
    group: Group,
    name: &'static str,
    takes: Takes,
    text: &'static str,
    reload: Reload,
    read: fn(&mut VassalDraft, &mut Reader<'_>),
) -> Row {
    Row { name, takes, group, text, reload: Some(reload), read: Read::Vassal(read) }
}

const fn family(name: &'static str, takes: Takes, text: &'static str) -> Row {
    Row { name, takes, group: Hooks, text, reload: Some(JAIL_HOOKS), read: Read::Hook }
}

/// A part of the jail, for which every change takes a fresh jail.
const fn fresh(what: &'static str, differs: fn(&VassalPlan, &VassalPlan) -> bool) -> Reload {
    FreshJail(JailPart { what, which: "", differs })
}

/// A part of the jail, for which only some changes take a fresh jail.
const fn fresh_for(
    which: &'static str,
    what: &'static str,
    differs: fn(&VassalPlan, &VassalPlan) -> bool,
) -> Reload {
    FreshJail(JailPart { what, which, differs })
}

// The parts of the jail that more than one key shapes.

const APP_PRIVILEGES: Reload =
    fresh_for("from or to an app without privileges", "privileged-binary-patch", |old, new| {
        old.app.is_privileged() != new.app.is_privileged()
    });
const CGROUP_OPTIONS: Reload = fresh("a limit of a cgroup", |old, new| {
    differ(&old.resources.cgroup_options, &new.resources.cgroup_options)
});
const CHECKS: Reload =
    fresh("mountpoint-check", |old, new| differ(&old.mountpoints.checks, &new.mountpoints.checks));
const JAIL_HOOKS: Reload = fresh_for("in a phase up to as-root", "a hook up to as-root", |old, new| {
    !jail_hooks(old).eq(jail_hooks(new)) || old.mounts_for_user() != new.mounts_for_user()
});
const MAPS: Reload = fresh("the map of the user namespace", |old, new| {
    let (old, new) = (&old.jail.maps, &new.jail.maps);
    differ(&old.users, &new.users) || differ(&old.groups, &new.groups)
});
const OUTPUT: Reload = fresh("standard-output", |old, new| {
    differ(&old.output.out, &new.output.out) || differ(&old.output.err, &new.output.err)
});
const PIVOT_ROOT: Reload = fresh("pivot_root", |old, new| differ(&old.jail.pivot_root, &new.jail.pivot_root));
/// Binding a socket takes capabilities that PID 1 gives up afterwards.
const SOCKETS: Reload = fresh("a socket", |old, new| differ(&old.listen, &new.listen));

/// PID 1 has given up all other capabilities, so that a reload cannot bring them back.
const KEPT_CAPABILITIES: Reload = fresh_for(
    "of what the app keeps in the end",
    "what the app keeps of the capabilities (cap, cap-drop)",
    |old, new| old.privileges.kept() != new.privileges.kept(),
);

/// The hooks that a reload skips, as far as they shape the jail: phase, action and tolerance, without their
/// places.
fn jail_hooks(plan: &VassalPlan) -> impl Iterator<Item = (Phase, &Action, bool)> {
    let of_jail = |hook: &&Hook| hook.phase <= Phase::AsRoot;
    plan.hooks.iter().filter(of_jail).map(|hook| (hook.phase, &hook.action, hook.tolerant))
}

/// Whether two options, or two lists of values, hold different values.
fn differ<'a, T: PartialEq + 'a>(
    a: impl IntoIterator<Item = &'a Located<T>>,
    b: impl IntoIterator<Item = &'a Located<T>>,
) -> bool {
    !a.into_iter().map(|one| &one.value).eq(b.into_iter().map(|one| &one.value))
}

fn capabilities(to: &mut VassalDraft, it: &mut Reader<'_>) {
    if let Some(numbers) = it.value(capabilities::list) {
        let located = numbers.into_iter().map(|number| it.setting.locate(number));
        to.plan.privileges.capabilities = located.collect();
    }
}

/// `safe` or `full`.
fn safe_proc(text: &[u8]) -> Parsed<bool> {
    match text {
        b"safe" => Ok(true),
        b"full" => Ok(false),
        _ => Err(format!("{} is neither safe nor full", values::quoted(text))),
    }
}

fn has_safe_proc(plan: &VassalPlan) -> bool {
    plan.hooks.iter().any(|hook| hook.action == Action::SafeProc)
}

fn cgroup_option(to: &mut VassalDraft, it: &mut Reader<'_>) {
    let option = it.checked(values::cgroup_option(it.setting.name(), it.text()));
    to.plan.resources.cgroup_options.extend(option.map(|option| it.setting.locate(option)));
}

/// An address, or the length of the queue, as in uWSGI.
fn listen(to: &mut VassalDraft, it: &mut Reader<'_>) {
    if sockets::is_backlog(it.setting) {
        it.set_some(&mut to.sockets.backlog, values::count);
    } else {
        it.add_located(&mut to.addresses, values::absolute_address);
    }
}

/// Adds a path, and warns if the path has a `..`: the kernel's mount table has none, so no mount would ever
/// match.
fn mountpoint_check(to: &mut VassalDraft, it: &mut Reader<'_>) {
    it.add_located(&mut to.plan.mountpoints.checks, values::absolute);
    if it.text().split(|&byte| byte == b'/').any(|part| part == b"..") {
        let message = format!("'{}': no mount is at a path with '..' in it", it.setting.key.escape_ascii());
        it.found.warning(&it.setting.value_at, message).hint("write where the mount is from the root down");
    }
}

/// `destroy`, `remount` or `hook:ACTION`.
fn mountpoint_lost(to: &mut VassalDraft, it: &mut Reader<'_>) {
    let policy = match it.text() {
        b"destroy" => Some(MountpointLost::Destroy),
        b"remount" => Some(MountpointLost::Remount),
        text => {
            let unknown = "it is none of destroy, remount and hook:ACTION".to_owned();
            let action = it.checked(text.strip_prefix(b"hook:").ok_or(unknown));
            let hook = action.and_then(|action| hooks::hook(it, Phase::MountpointLost, action));
            hook.map(|hook| MountpointLost::Hook(Box::new(hook)))
        }
    };
    if let Some(policy) = policy {
        to.plan.mountpoints.lost = policy;
    }
}

/// How many instances.
fn replicas(text: &[u8]) -> Parsed<u16> {
    values::between(text, 1, REPLICAS_MAX.into()).map(|count| count.unsigned_abs() as u16)
}

/// `touch` or `content`.
fn reload_on(text: &[u8]) -> Parsed<bool> {
    match text {
        b"touch" => Ok(false),
        b"content" => Ok(true),
        _ => Err(format!("{} is neither touch nor content", values::quoted(text))),
    }
}

/// `recreate` or `rolling`.
fn reload_strategy(text: &[u8]) -> Parsed<bool> {
    match text {
        b"rolling" => Ok(true),
        b"recreate" => Ok(false),
        _ => Err(format!("{} is neither recreate nor rolling", values::quoted(text))),
    }
}

/// uWSGI's unit of address space.
const MEGABYTE: u64 = 1 << 20;

/// A limit of the app, a multiple of `unit`. Only the last one is kept: after a lower limit was set, a higher
/// one could not be.
fn limit(to: &mut VassalDraft, it: &mut Reader<'_>, resource: Limited, unit: u64) {
    if let Some(Located { value, key, at }) = it.located(values::count) {
        let limits = &mut to.plan.resources.limits;
        limits.retain(|earlier| earlier.value.resource != resource);
        limits.push(Located { value: Limit { resource, value: u64::from(value) * unit }, key, at });
    }
}

/// A command line as the app.
fn words(text: &[u8], privileged: bool) -> Parsed<App> {
    values::words(text).map(|argv| App::Program { argv, privileged })
}

/// A program without arguments as the app.
fn one_word(text: &[u8], privileged: bool) -> Parsed<App> {
    values::text(text).map(|program| App::Program { argv: vec![program], privileged })
}

/// An interval or a timeout: longer than 0.
fn period(text: &[u8]) -> Parsed<Duration> {
    match values::duration(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        period => Ok(period),
    }
}
