//! The tables of options: one row for each, feeding parser, help, checks and suggestions.

use super::hooks::{HookKey, PHASES};
use crate::config::plan::Phase;

/// One option: a key of a file and an option of the command line alike.
#[derive(Debug)]
pub struct Row {
    /// Its name; `PHASE` in it stands for a phase.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// The heading it is listed under.
    pub group: Group,
    /// What it does, in one line; what else there is to say in a second one.
    text: &'static str,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Yes or no; its name alone means yes.
    Flag,
    /// A value, by the name it has in help.
    Value(&'static str),
}

/// One of the two programs, as far as its options differ. What a program does not name is not linked into it.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it is for, and how to call it.
    pub usage: &'static str,
    /// The options that only it reads.
    own: &'static [Row],
    /// Whether it hands hooks to vassals (`hook-as-vassal` and its kin) instead of running its own.
    hooks_for_vassals: bool,
    /// Whether it takes a command in place of a file, and the options that only count for one.
    pub runs_commands: bool,
}

/// The headings of the help text, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Only before a command, and no keys of files.
    Command,
    /// What runs.
    App,
    /// Which vassals, and how they are started.
    Vassals,
    /// As whom, and what that may do.
    User,
    /// What it sees of the machine.
    Jail,
    /// What runs around it.
    Hooks,
    /// Checked mountpoints.
    Mountpoints,
    /// What it listens on.
    Sockets,
    /// How it stops.
    Stop,
    /// How much it may use.
    Limits,
    /// How it is seen and told what to do.
    Operation,
    /// When the emperor looks and tries again.
    Timing,
    /// The language of the files.
    Language,
}

impl Group {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::Command,
        Self::App,
        Self::Vassals,
        Self::User,
        Self::Jail,
        Self::Hooks,
        Self::Mountpoints,
        Self::Sockets,
        Self::Stop,
        Self::Limits,
        Self::Operation,
        Self::Timing,
        Self::Language,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Command => "Command (options of the command line only)",
            Self::App => "App",
            Self::Vassals => "Vassals",
            Self::User => "User and privileges",
            Self::Jail => "Namespaces and root",
            Self::Hooks => "Hooks",
            Self::Mountpoints => "Mountpoints",
            Self::Sockets => "Sockets",
            Self::Stop => "Stopping",
            Self::Limits => "Limits",
            Self::Operation => "Operation",
            Self::Timing => "Timing",
            Self::Language => "Configuration files",
        }
    }
}

impl Program {
    /// The options it reads: its own, and the language of the files.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.own.iter().chain(LANGUAGE)
    }

    /// What its command line takes: all of that, and what is for commands only.
    pub fn options(&self) -> impl Iterator<Item = &'static Row> {
        let commands = if self.runs_commands { OF_COMMANDS } else { &[] };
        commands.iter().chain(self.rows())
    }

    /// The row of an option of the command line.
    pub fn find_option(&self, name: &str) -> Option<&'static Row> {
        self.find(name.as_bytes())
            .or_else(|| self.options().find(|row| row.name == name && row.group == Command))
    }

    /// The row of a key, if this program reads it.
    pub fn find(&self, key: &[u8]) -> Option<&'static Row> {
        let hook = HookKey::of(key);
        let key = match hook {
            HookKey::Ours(Phase::AsVassal, _) if self.hooks_for_vassals => b"hook-as-vassal",
            _ => key,
        };
        self.rows().find(|row| match row.name.strip_suffix("PHASE") {
            Some(prefix) => key.starts_with(prefix.as_bytes()) && matches!(hook, HookKey::Ours(..)),
            None => row.name.as_bytes() == key,
        })
    }

    /// The keys that a row stands for: one for each phase, or its name.
    pub fn keys(&self, row: &Row) -> Vec<String> {
        let Some(prefix) = row.name.strip_suffix("PHASE") else { return vec![row.name.to_owned()] };
        let phases = PHASES.iter().filter(|(_, phase)| *phase != Phase::AsVassal);
        phases.map(|(phase, _)| format!("{prefix}{phase}")).collect()
    }
}

const fn row(group: Group, name: &'static str, takes: Takes, text: &'static str) -> Row {
    Row { name, takes, group, text }
}

impl Row {
    /// What the option does, in one line.
    pub fn doc(&self) -> &'static str {
        self.parts().0
    }

    /// The rest of what there is to say; may be empty.
    pub fn more(&self) -> &'static str {
        self.parts().1
    }

    fn parts(&self) -> (&'static str, &'static str) {
        self.text.split_once('\n').unwrap_or((self.text, ""))
    }
}

use Group::{
    App, Command, Hooks, Jail, Language, Limits, Mountpoints, Operation, Sockets, Stop, Timing, User, Vassals,
};
use Takes::{Flag, Value};

/// The supervisor.
pub static EMPEROR: Program = Program {
    name: "emperor",
    usage: "Keeps the vassals of a directory running, each in its own namespaces.\n\
            \n\
            Usage:\n\
            \x20 emperor [OPTIONS] [FILE.ini[:SECTION]]\n\
            \x20 emperor --check [--json] FILE...\n\
            \x20                                  check emperors' files; exit 0 or 78\n\
            \x20 emperor --show-config [OPTIONS] [FILE.ini]\n\
            \x20                                  print the options as they are after expansion\n\
            \x20 emperor --help [OPTION] | --version\n\
            \n\
            To one that is running, at its control socket (--control PATH):\n\
            \x20 emperor status [--json] [NAME]   how each vassal is, and why\n\
            \x20 emperor reload NAME              do what touching its file does\n\
            \x20 emperor stop NAME                stop it until it is started by command\n\
            \x20 emperor start NAME               start what is not up, at once\n\
            \x20   --wait[=TIME]                  wait for the outcome (default: up to 60s)\n\
            \x20 emperor upgrade                  run its new program; keep all vassals\n",
    own: OF_EMPERORS,
    hooks_for_vassals: true,
    runs_commands: false,
};

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
            \x20 vassal-init --check [--json] FILE...\n\
            \x20                                  say what is wrong with files; exit 0 or 78\n\
            \x20 vassal-init --show-config [OPTIONS] FILE.ini\n\
            \x20                                  print the options as they are after expansion\n\
            \x20 vassal-init --help [OPTION] | --version\n\
            \n\
            Flags, as tini has them:\n\
            \x20 -g         signal the command's whole process group\n\
            \x20 -e STATUS  end with 0 when the command ends with STATUS; may be repeated\n\
            \x20 -p SIGNAL  get SIGNAL, as in SIGTERM, when the parent dies\n\
            \x20 -w, -v     warn of reaped orphans; say more, up to three times\n\
            \x20 -s, -l     become a subreaper (it does so by itself); say the licence\n\
            Called tini, tini-static, docker-init, dumb-init or catatonit, it takes theirs.\n",
    own: OF_VASSALS,
    hooks_for_vassals: false,
    runs_commands: true,
};

/// What only counts for a command.
#[rustfmt::skip]
static OF_COMMANDS: &[Row] = &[
    row(Command, "grace", Value("TIME"), "time for what it leaves running (default: 10s)\n\
               What the command leaves running gets SIGTERM when the command has ended, and SIGKILL after this \
               time. It is not waited for any longer than it lives."),
    row(Command, "ready-fd", Value("NUMBER"), "gets a line break when the command has begun"),
    row(Command, "rewrite", Value("SIGNAL:REPLACEMENT"), "hand on another signal, or none (0); may be repeated"),
    row(Command, "user", Value("UID[:GID]"), "--uid and --gid in one"),
];

#[rustfmt::skip]
static OF_VASSALS: &[Row] = &[
    row(App, "binary-path", Value("PROGRAM"), "the uWSGI that is the app (default: uwsgi)\n\
               Where no other program is: see command."),
    row(App, "chdir", Value("DIR"), "the app's working directory"),
    row(App, "command", Value("COMMAND"), "the program to run, with its arguments\n\
               Split into words like a shell does it, with quotes and backslashes, and executed without a shell. \
               Without it the app is uWSGI, which gets every option that vassal-init has no use for."),
    row(App, "env", Value("NAME=VALUE"), "set a variable of hooks and app; may be repeated"),
    row(App, "privileged-binary-patch", Value("PROGRAM"), "the app in uWSGI's place, privileges kept"),
    row(App, "privileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments"),
    row(App, "umask", Value("MODE"), "file mode creation mask, in octal"),
    row(App, "unenv", Value("NAME"), "remove a variable; may be repeated"),
    row(App, "unprivileged-binary-patch", Value("PROGRAM"), "the app in uWSGI's place"),
    row(App, "unprivileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments"),

    row(User, "add-gid", Value("GROUP"), "a further supplementary group; may be repeated\n\
               By name or number."),
    row(User, "cap", Value("LIST"), "capabilities that the app keeps\n\
               Where it runs as another user. Names as in capabilities(7), with or without cap_, or numbers, \
               separated by commas."),
    row(User, "cap-drop", Value("LIST"), "capabilities that the app cannot have; or all\n\
               Whoever it is. They are taken from all its sets, the bounding set too, so that no program it \
               executes brings them back."),
    row(User, "gid", Value("GROUP"), "the group to become (default: the user's own)\n\
               By name or number."),
    row(User, "no-initgroups", Flag, "leave out the user's supplementary groups\n\
               Those that the group database gives."),
    row(User, "no-new-privs", Flag, "set-id programs give no rights (default: true)\n\
               For a command: false."),
    row(User, "uid", Value("USER"), "the user to become, by name or number"),

    row(Jail, "chroot", Value("DIR"), "the new root directory\n\
               Entered before pivot_root and post-jail."),
    row(Jail, "hostname", Value("NAME"), "the host name in the vassal's uts namespace"),
    row(Jail, "pivot-root", Value("NEW_ROOT PUT_OLD"), "the same as pivot_root"),
    row(Jail, "pivot_root", Value("NEW_ROOT PUT_OLD"), "make the mount NEW_ROOT the root, the old one PUT_OLD\n\
               Both as seen before the change, PUT_OLD at or beneath NEW_ROOT. umount-as-root can then drop the old \
               root."),
    row(Jail, "unshare", Value("LIST"), "make namespaces where no emperor made them\n\
               A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas."),

    row(Hooks, "call-PHASE", Value("FUNCTION ARG"), "call a function of libc in PHASE; may be repeated"),
    row(Hooks, "exec-PHASE", Value("COMMAND"), "run a shell command in PHASE; may be repeated\n\
               Each command must end with status 0 before the next one starts; only in as-user-atexit a failure is \
               let pass."),
    row(Hooks, "hook-PHASE", Value("ACTION:ARGS"), "do something in PHASE; may be repeated\n\
               The phases are asap, pre-jail, post-jail, in-jail, as-root, as-user, pre-app, post-app, accepting, \
               as-user-atexit; in each, hook- comes before mount-, umount-, exec- and call-. The actions are exec, \
               safeexec (COMMAND), mount (FS SOURCE DIR [FLAGS] [DATA]), umount (DIR [FLAGS]), chdir, chroot, \
               mkdir, rmdir, create, unlink, sticky, wait_for_fs, _file, _dir, _socket (PATH), write, append, \
               writen, appendn, writefifo, spinningfifo (FILE TEXT), chmod (FILE MODE), chown (FILE USER GROUP), \
               putenv (NAME=VALUE), hostname, umask, print, log, alarm, exit, and call, callret, callint for \
               functions of libc. After '!' the arguments are not logged. What happens inside uWSGI, as \
               hook-post-fork, is left to it."),
    row(Hooks, "hook-timeout", Value("TIME"), "time for a command of a hook (default: 60s)"),
    row(Hooks, "mount-PHASE", Value("FS SOURCE DIR [FLAGS]"), "mount something in PHASE; may be repeated\n\
               Flags are those of mount(8), separated by commas; a fifth word is the filesystem's own options."),
    row(Hooks, "umount-PHASE", Value("DIR [FLAGS]"), "unmount something in PHASE; may be repeated\n\
               The flags are rec, detach (or lazy), force and nofollow."),

    row(Mountpoints, "mount-check", Value("PATH"), "the same as mountpoint-check"),
    row(Mountpoints, "mountpoint-check", Value("PATH"), "end the instance when PATH does not answer; may be repeated\n\
               PATH must be a mount that answers: before the app starts, and for as long as it runs. What else can \
               follow says mountpoint-lost."),
    row(Mountpoints, "mountpoint-check-interval", Value("TIME"), "time between two checks (default: 2s)\n\
               A dead daemon and an unmount are noticed at once, whatever it is; only a filesystem that hangs waits \
               for it."),
    row(Mountpoints, "mountpoint-check-timeout", Value("TIME"), "time for an answer (default: 5s)"),
    row(Mountpoints, "mountpoint-lost", Value("POLICY"), "what follows a loss (default: destroy)\n\
               destroy ends the instance. remount runs the commands of the phase that mounted it again and restarts \
               the app. hook:ACTION does something, as in hook-PHASE, and the app goes on."),
    row(Mountpoints, "mountpoint-timeout", Value("TIME"), "time to appear at the start (default: 30s)"),

    row(Sockets, "chmod-socket", Value("MODE"), "mode of unix sockets, octal (no value: 666)"),
    row(Sockets, "chown-socket", Value("USER[:GROUP]"), "owner of unix sockets (default: app's user)"),
    row(Sockets, "keep-sockets", Flag, "keep them between instances (default: true)\n\
               The emperor holds them, so connections wait for the next instance instead of being refused."),
    row(Sockets, "listen", Value("ADDRESS"), "bind a socket for the app; may be repeated\n\
               Before the privilege drop. A path, @NAME for an abstract socket, or HOST:PORT with the number of a \
               host; :PORT is every host of ours. The app gets it as descriptor 3 and so on (LISTEN_FDS). A number \
               is the length of the queue, as in uWSGI (default: 1024). uWSGI's own sockets are handled alike where \
               it can take them over: all with one protocol."),
    row(Sockets, "reuse-port", Flag, "let others bind the same ports"),

    row(Stop, "reload-signal", Value("SIGNAL"), "has the app read its own configuration again\n\
               Sent for a reload, in the place of a restart, where the file says what it said before and has no hook that a \
               reload runs."),
    row(Stop, "stop-signal", Value("SIGNAL"), "what asks the app to stop (default: TERM)\n\
               INT for uWSGI, which reloads on TERM. An app that speaks uWSGI's protocol at UWSGI_EMPEROR_FD is asked \
               over that, unless a signal is given here."),
    row(Stop, "stop-timeout", Value("TIME"), "time to stop until SIGKILL (default: 10s)"),
    row(Stop, "unmount-timeout", Value("TIME"), "time for hooks' daemons to end (default: 10s)\n\
               After the app has ended."),

    row(Limits, "cgroup", Value("DIR"), "a cgroup to start in; may be repeated\n\
               Created if it is missing."),
    row(Limits, "cgroup-opt", Value("FILE=VALUE"), "write VALUE to FILE of its cgroups; may be repeated"),
    row(Limits, "cgroup-optional", Flag, "go on without limits that cannot be had"),
    row(Limits, "cpu-max", Value("PERCENT"), "processor time, as 50% or 200%; needs a cgroup\n\
               Or QUOTA PERIOD."),
    row(Limits, "limit-as", Value("MEGABYTES"), "limit of the app's address space"),
    row(Limits, "limit-nofile", Value("COUNT"), "limit of the app's open files"),
    row(Limits, "limit-nproc", Value("COUNT"), "limit of the processes of the app's user"),
    row(Limits, "memory-max", Value("SIZE"), "memory of the vassal, as 512M; needs a cgroup"),
    row(Limits, "oom-score-adj", Value("NUMBER"), "rank for out-of-memory kills, -1000 to 1000\n\
               The process with the highest one is killed first."),
    row(Limits, "pids-max", Value("COUNT"), "processes and threads; needs a cgroup"),
];

#[rustfmt::skip]
static OF_EMPERORS: &[Row] = &[
    row(Vassals, "emperor", Value("DIR"), "a directory or pattern of vassal files; may be repeated\n\
               Each file NAME.ini in it is one vassal. A new file starts it, a touched one reloads it, a removed \
               one stops it. dir://DIR and glob://PATTERN say which it is; else what has a wildcard or ends in .ini \
               is a pattern."),
    row(Vassals, "emperor-extra-ext", Value("SUFFIX"), "the same as emperor-extra-extension"),
    row(Vassals, "emperor-extra-extension", Value("SUFFIX"), "a further suffix of vassals' files, as .conf\n\
               They are ini files all the same."),
    row(Vassals, "emperor-magic-exec", Flag, "an executable file prints its configuration\n\
               It is run as PID 1's first child, as root, in the vassal's namespaces, and for 10 s at most. A changed \
               one is a fresh start."),
    row(Vassals, "emperor-nofollow", Flag, "a link changes when it does, not its target"),
    row(Vassals, "emperor-on-demand-dir", Value("DIR"), "the same as emperor-on-demand-directory"),
    row(Vassals, "emperor-on-demand-directory", Value("DIR"), "start each vassal on demand at DIR/NAME.socket\n\
               When somebody connects. The socket is the emperor's, open to everybody, and handed to the app. An \
               app that leaves after a while is waited for again."),
    row(Vassals, "emperor-on-demand-exec", Value("COMMAND"), "on demand, where COMMAND NAME.ini says\n\
               Run as root in the directory of the file, for 10 s at most. A vassal for which it prints nothing is started \
               like any other."),
    row(Vassals, "emperor-on-demand-ext", Value("SUFFIX"), "the same as emperor-on-demand-extension"),
    row(Vassals, "emperor-on-demand-extension", Value("SUFFIX"), "on demand, where NAME.iniSUFFIX says\n\
               A vassal without such a file beside its own is started like any other."),
    row(Vassals, "emperor-tyrant", Flag, "run each vassal as the owner of its file\n\
               The user and the group that it belongs to, from before it is read; never root. The emperor's own \
               hook-as-vassal run as root before that."),
    row(Vassals, "emperor-tyrant-initgroups", Flag, "with that user's supplementary groups"),
    row(Vassals, "emperor-tyrant-nofollow", Flag, "as the owner of a link, not of its target"),
    row(Vassals, "emperor-use-clone", Value("LIST"), "the namespaces that each vassal gets\n\
               A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas."),
    row(Vassals, "vassal-init", Value("PROGRAM"), "process 1 of vassals (default: one beside us)"),
    row(Vassals, "vassal-set", Value("KEY=VALUE"), "an option or placeholder for all; may be repeated\n\
               Before each file, which may therefore say otherwise. UWSGI_VASSAL_KEY in the environment does the \
               same."),
    row(Vassals, "vassals-include", Value("FILE"), "a file that each includes last; may be repeated\n\
               Behind its own. In it %n is its own name, and %N that of the vassal."),
    row(Vassals, "vassals-include-before", Value("FILE"), "the same, first"),
    row(Vassals, "vassals-inherit", Value("FILE"), "a file whose options come last; may be repeated\n\
               Placeholders in it stay as they are."),
    row(Vassals, "vassals-inherit-before", Value("FILE"), "the same, ahead of those of vassals-inherit"),
    row(Vassals, "vassals-set", Value("KEY=VALUE"), "the same as vassal-set"),

    row(User, "add-gid", Value("GROUP"), "a further supplementary group; may be repeated\n\
               By name or number."),
    row(User, "cap", Value("LIST"), "capabilities that the emperor keeps\n\
               And its vassals can have at most. Names as in capabilities(7), separated by commas. Without it, none if \
               it becomes another user."),
    row(User, "gid", Value("GROUP"), "the group to become (default: the user's own)\n\
               By name or number."),
    row(User, "no-initgroups", Flag, "leave out the user's supplementary groups"),
    row(User, "uid", Value("USER"), "the user to become, by name or number\n\
               Once all sockets and files are open."),

    row(Hooks, "exec-as-emperor", Value("COMMAND"), "run a command when a vassal started; may be repeated\n\
               A shell command, in the emperor's own namespaces."),
    row(Hooks, "hook-as-emperor", Value("exec:COMMAND"), "the same as exec-as-emperor"),
    row(Hooks, "hook-as-vassal", Value("ACTION:ARGS"), "do something in each vassal first; may be repeated\n\
               Before all else. As vassal-init --help hook-PHASE says; also exec-, mount-, umount- and \
               call-as-vassal."),

    row(Limits, "cgroup-opt", Value("FILE=VALUE"), "write VALUE to FILE of each one's cgroup; may be repeated"),
    row(Limits, "cgroup-optional", Flag, "go on without limits that cannot be had"),
    row(Limits, "cpu-max", Value("PERCENT"), "processor time of each vassal, as 50% or 200%\n\
               Or QUOTA PERIOD."),
    row(Limits, "emperor-cgroup", Value("DIR"), "a directory of cgroups (v2), one per vassal\n\
               Each vassal gets one in it and starts there. What is left of a vassal in it is killed when it ends. \
               A vassal's own memory-max and the like apply to it as well."),
    row(Limits, "memory-max", Value("SIZE"), "memory of each vassal, as 512M or 2G"),
    row(Limits, "pids-max", Value("COUNT"), "processes and threads of each vassal"),

    row(Operation, "control", Value("PATH"), "command socket (default: /run/emperor.sock)\n\
               For 'emperor status', reload, stop and start; only root and the emperor's own user can use it."),
    row(Operation, "emperor-pidfile", Value("PATH"), "write the emperor's pid to a file"),
    row(Operation, "emperor-stats", Value("ADDRESS"), "serve uWSGI's stats, JSON, at ADDRESS\n\
               A path, @NAME for an abstract socket, or HOST:PORT with the number of a host; :PORT is every host of \
               ours."),
    row(Operation, "emperor-stats-server", Value("ADDRESS"), "the same as emperor-stats"),
    row(Operation, "log-format", Value("FORMAT"), "form of our lines: text, json (default: text)\n\
               Ours and those of vassal-init. What apps write is passed on as it is."),
    row(Operation, "logto", Value("FILE"), "append all output, ours and the vassals'\n\
               To rotate it, copy and truncate it (logrotate's copytruncate): apps that run keep it open."),
    row(Operation, "metrics", Value("ADDRESS"), "serve metrics for Prometheus over HTTP\n\
               ADDRESS is as for emperor-stats."),

    row(Timing, "emperor-freq", Value("SECONDS"), "time between two scans (default: 3)\n\
               Where nothing was noticed before. Up to ten times as long where a scan would take more than a \
               thousandth of the time, with thousands of files."),
    row(Timing, "emperor-max-throttle", Value("MILLISECONDS"), "the longest delay (default: 180000)"),
    row(Timing, "emperor-required-heartbeat", Value("SECONDS"), "longest time between heartbeats (default: 30)\n\
               An app that has stopped giving them is restarted. Only after its first one: by uWSGI's heartbeat, or \
               WATCHDOG=1 to NOTIFY_SOCKET. Given here, it is also in the app's WATCHDOG_USEC."),
    row(Timing, "emperor-throttle", Value("MILLISECONDS"), "first delay; doubles each time (default: 1000)\n\
               Between the end of an instance that failed and the next one."),
];

/// What both programs read.
#[rustfmt::skip]
static LANGUAGE: &[Row] = &[
    row(Language, "include", Value("FILE[:SECTION]"), "read the options of a file here"),
    row(Language, "inherit", Value("FILE[:SECTION]"), "read the options of a file behind all others\n\
               Placeholders in it stay as they are."),
    row(Language, "ini", Value("FILE[:SECTION]"), "read the options of a file here, as include"),
    row(Language, "set", Value("KEY=VALUE"), "set an option or a placeholder"),
    row(Language, "set-ph", Value("NAME=VALUE"), "the same as set-placeholder"),
    row(Language, "set-placeholder", Value("NAME=VALUE"), "set what %(NAME) stands for"),
    row(Language, "strict", Flag, "an unknown option is a mistake"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let place = |row: &Row| (Group::ALL.iter().position(|group| *group == row.group), row.name);
        for program in [&EMPEROR, &VASSAL_INIT] {
            let rows: Vec<_> = program.options().collect();
            for pair in rows.windows(2) {
                assert!(place(pair[0]) < place(pair[1]), "{} before {}", pair[0].name, pair[1].name);
            }
        }
    }

    #[test]
    fn every_row_is_fit_for_help() {
        for row in EMPEROR.rows().chain(OF_COMMANDS).chain(OF_VASSALS) {
            let (doc, more) = row.parts();
            assert!(!doc.is_empty() && !doc.ends_with('.'), "{}: {doc}", row.name);
            assert!(doc.len() <= 80, "{}: {} is too long", row.name, doc.len());
            assert!(more.is_empty() || more.ends_with('.'), "{}: {more}", row.name);
            let name = row.name.trim_end_matches("PHASE");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b"-_".contains(&b)), "{name}");
            if let Value(placeholder) = row.takes {
                assert!(placeholder.bytes().any(|b| b.is_ascii_uppercase()), "{}", row.name);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let of_vassals = OF_COMMANDS.iter().chain(VASSAL_INIT.rows());
        for rows in [EMPEROR.rows().collect::<Vec<_>>(), of_vassals.collect()] {
            let mut names: Vec<_> = rows.iter().map(|row| row.name).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }

    #[test]
    fn rows_are_found_by_key_and_program() {
        assert_eq!(VASSAL_INIT.find(b"exec-as-user").map(|row| row.name), Some("exec-PHASE"));
        assert!(VASSAL_INIT.find(b"exec-as-usr").is_none() && EMPEROR.find(b"exec-as-user").is_none());
        assert!(EMPEROR.find(b"umask").is_none() && EMPEROR.find(b"strict").is_some());
    }
}
