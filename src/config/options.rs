//! The tables of options: one row for each, feeding parser, help, checks and suggestions.

use super::hooks::{HookKey, PHASES};
use super::plan::Phase;

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
    /// As whom, and where.
    Process,
    /// What runs around it.
    Hooks,
    /// Checked mountpoints.
    Mountpoints,
    /// What it listens on.
    Sockets,
    /// How it stops.
    Stop,
    /// How it is seen and told what to do.
    Operation,
    /// Which vassals, and how they are started.
    Vassals,
    /// When the emperor looks and tries again.
    Timing,
    /// The language of the files.
    Language,
}

impl Group {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Command,
        Self::App,
        Self::Process,
        Self::Hooks,
        Self::Mountpoints,
        Self::Sockets,
        Self::Stop,
        Self::Operation,
        Self::Vassals,
        Self::Timing,
        Self::Language,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Command => "Command (options of the command line only)",
            Self::App => "App",
            Self::Process => "Process",
            Self::Hooks => "Hooks",
            Self::Sockets => "Sockets",
            Self::Mountpoints => "Mountpoints",
            Self::Stop => "Stopping",
            Self::Operation => "Operation",
            Self::Vassals => "Vassals",
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

use Group::{App, Command, Hooks, Language, Mountpoints, Operation, Process, Sockets, Stop, Timing, Vassals};
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
            \x20 emperor status [--json]          how each vassal is, and why\n\
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
            \x20 vassal-init [OPTIONS] FILE.ini[:SECTION]\n\
            \x20 vassal-init [FLAGS] [OPTIONS] [FILE.ini] [--] COMMAND [ARGUMENT]...\n\
            \x20                                  hand signals on, reap orphans, end as it ends\n\
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
    row(Command, "grace", Value("TIME"), "how long what the command leaves running may take to end (default: 10s)\n\
               It gets SIGTERM when the command has ended, and SIGKILL after this time. It is not waited for any longer than it lives."),
    row(Command, "ready-fd", Value("NUMBER"), "write a line break to this descriptor when the command was started"),
    row(Command, "rewrite", Value("SIGNAL:REPLACEMENT"), "hand on another signal, or none (0); may be repeated"),
    row(Command, "user", Value("UID[:GID]"), "the same as uid and gid"),
];

#[rustfmt::skip]
static OF_VASSALS: &[Row] = &[
    row(App, "binary-path", Value("PROGRAM"), "the uWSGI to run when no other program is the app (default: uwsgi)"),
    row(App, "command", Value("COMMAND"), "the program to run, with its arguments\n\
               Split into words like a shell does it, with quotes and backslashes, and executed without a shell. \
               Without it the app is uWSGI, which gets every option that vassal-init has no use for."),
    row(App, "privileged-binary-patch", Value("PROGRAM"), "run PROGRAM in uWSGI's place, with the privileges we have"),
    row(App, "privileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments"),
    row(App, "unprivileged-binary-patch", Value("PROGRAM"), "run PROGRAM in uWSGI's place, after the privilege drop"),
    row(App, "unprivileged-binary-patch-arg", Value("COMMAND"), "the same, with arguments"),

    row(Process, "add-gid", Value("GROUP"), "a further supplementary group, by name or number; may be repeated"),
    row(Process, "cap", Value("LIST"), "capabilities that the app keeps when it is another user\n\
               Names as in capabilities(7), with or without cap_, or numbers, separated by commas."),
    row(Process, "cap-drop", Value("LIST"), "capabilities that the app cannot have, whoever it is; or all\n\
               They are taken from all its sets, the bounding set too, so that no program it executes brings them back."),
    row(Process, "cgroup", Value("DIR"), "a cgroup to start in, created if it is missing; may be repeated"),
    row(Process, "cgroup-opt", Value("FILE=VALUE"), "write VALUE to FILE of each cgroup of the vassal; may be repeated"),
    row(Process, "cgroup-optional", Flag, "start without the cgroups and limits of cgroups that cannot be had"),
    row(Process, "chdir", Value("DIR"), "the app's working directory"),
    row(Process, "chroot", Value("DIR"), "the new root directory, entered before pivot_root and post-jail"),
    row(Process, "cpu-max", Value("PERCENT"), "processor time of the vassal: 50%, 200%, or QUOTA PERIOD; needs a cgroup"),
    row(Process, "env", Value("NAME=VALUE"), "set an environment variable of hooks and app; may be repeated"),
    row(Process, "gid", Value("GROUP"), "the group to become, by name or number (default: the user's own)"),
    row(Process, "hostname", Value("NAME"), "the host name in the vassal's uts namespace"),
    row(Process, "limit-as", Value("MEGABYTES"), "limit of the app's address space"),
    row(Process, "limit-nofile", Value("COUNT"), "limit of the app's open files"),
    row(Process, "limit-nproc", Value("COUNT"), "limit of the processes that the app's user may have"),
    row(Process, "memory-max", Value("SIZE"), "memory of the vassal, as 512M or 2G; needs a cgroup"),
    row(Process, "no-initgroups", Flag, "leave out the groups that the group database gives the user"),
    row(Process, "no-new-privs", Flag, "keep the app from gaining privileges by set-id programs (default: true)"),
    row(Process, "oom-score-adj", Value("NUMBER"), "how soon the kernel ends it for want of memory, -1000 to 1000"),
    row(Process, "pids-max", Value("COUNT"), "processes and threads of the vassal; needs a cgroup"),
    row(Process, "pivot-root", Value("NEW_ROOT PUT_OLD"), "the same as pivot_root"),
    row(Process, "pivot_root", Value("NEW_ROOT PUT_OLD"), "make the mount NEW_ROOT the root, the old one PUT_OLD\n\
               Both as seen before the change, PUT_OLD at or beneath NEW_ROOT. umount-as-root can then drop the old root."),
    row(Process, "uid", Value("USER"), "the user to become, by name or number"),
    row(Process, "umask", Value("MODE"), "file mode creation mask, in octal"),
    row(Process, "unenv", Value("NAME"), "remove an environment variable; may be repeated"),
    row(Process, "unshare", Value("LIST"), "make namespaces for the vassal when no emperor made them\n\
               A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas."),

    row(Hooks, "call-PHASE", Value("FUNCTION ARG"), "hook-PHASE = call:FUNCTION ARG; may be repeated"),
    row(Hooks, "exec-PHASE", Value("COMMAND"), "run a shell command in PHASE; may be repeated\n\
               Each command must end with status 0 before the next one starts; only in as-user-atexit a failure is let pass."),
    row(Hooks, "hook-PHASE", Value("ACTION:ARGS"), "do something in PHASE; may be repeated\n\
               The phases are asap, pre-jail, post-jail, in-jail, as-root, as-user, pre-app, post-app, accepting, \
               as-user-atexit; in each, hook- comes before mount-, umount-, exec- and call-. The actions are exec, safeexec \
               (COMMAND), mount (FS SOURCE DIR [FLAGS] [DATA]), umount (DIR [FLAGS]), chdir, chroot, mkdir, rmdir, create, unlink, \
               sticky, wait_for_fs, _file, _dir, _socket (PATH), write, append, writen, appendn, writefifo, spinningfifo \
               (FILE TEXT), chmod (FILE MODE), chown (FILE USER GROUP), putenv (NAME=VALUE), hostname, umask, print, log, alarm, \
               exit, and call, callret, callint for functions of libc. After '!' the arguments are not logged. \
               What happens inside uWSGI, as hook-post-fork, is left to it."),
    row(Hooks, "hook-timeout", Value("TIME"), "how long a command of a hook may take (default: 60s)"),
    row(Hooks, "mount-PHASE", Value("FS SOURCE DIR [FLAGS]"), "mount something in PHASE; may be repeated\n\
               Flags are those of mount(8), separated by commas; a fifth word is the filesystem's own options."),
    row(Hooks, "umount-PHASE", Value("DIR [FLAGS]"), "unmount something in PHASE; may be repeated\n\
               The flags are rec, detach (or lazy), force and nofollow."),

    row(Mountpoints, "mount-check", Value("PATH"), "the same as mountpoint-check"),
    row(Mountpoints, "mountpoint-check", Value("PATH"), "destroy the instance when PATH is no answering mount; may be repeated\n\
               The app starts only once each checked path is a mount that answers."),
    row(Mountpoints, "mountpoint-check-interval", Value("TIME"), "time between two checks (default: 2s)\n\
               A dead daemon and an unmount are noticed at once, whatever it is; only a filesystem that hangs waits for it."),
    row(Mountpoints, "mountpoint-check-timeout", Value("TIME"), "how long a mount may take to answer (default: 5s)"),
    row(Mountpoints, "mountpoint-lost", Value("POLICY"), "what follows when one is lost (default: destroy)\n\
               destroy ends the instance. remount runs the commands of the phase that mounted it again and restarts the app. \
               hook:ACTION does something, as in hook-PHASE, and the app goes on."),
    row(Mountpoints, "mountpoint-timeout", Value("TIME"), "how long a mount may take to appear at the start (default: 30s)"),

    row(Sockets, "chmod-socket", Value("MODE"), "the mode of the files of unix sockets, in octal (without a value: 666)"),
    row(Sockets, "chown-socket", Value("USER[:GROUP]"), "whose the files of unix sockets are (default: the app's user)"),
    row(Sockets, "keep-sockets", Flag, "keep the sockets open while the app is replaced (default: true)\n\
               The emperor holds them, so connections wait for the next instance instead of being refused."),
    row(Sockets, "listen", Value("ADDRESS"), "bind a socket for the app before the privilege drop; may be repeated\n\
               A path, @NAME for an abstract socket, or HOST:PORT with the number of a host; :PORT is every host of ours. The app \
               gets it as descriptor 3 and so on (LISTEN_FDS). A number is the length of the queue, as in uWSGI (default: 1024). \
               uWSGI's own sockets are handled alike where it can take them over: all with one protocol."),
    row(Sockets, "reuse-port", Flag, "let others bind the same ports"),

    row(Stop, "reload-signal", Value("SIGNAL"), "what makes the app read its own configuration again, without a restart\n\
               Sent for a reload where the file says what it said before, and has no hook that a reload runs."),
    row(Stop, "stop-signal", Value("SIGNAL"), "what asks the app to stop (default: INT for uWSGI, else TERM)\n\
               uWSGI reloads on TERM. One that has UWSGI_EMPEROR_FD is asked over that, unless a signal is given here."),
    row(Stop, "stop-timeout", Value("TIME"), "how long the app may take to stop before it is killed (default: 10s)"),
    row(Stop, "unmount-timeout", Value("TIME"), "how long what hooks left running may take to exit after it (default: 10s)"),
];

#[rustfmt::skip]
static OF_EMPERORS: &[Row] = &[
    row(Operation, "control", Value("PATH"), "the socket that commands come by (default: /run/emperor.sock)\n\
               For 'emperor status', reload, stop and start; only root and the emperor's own user can use it."),
    row(Operation, "emperor-pidfile", Value("PATH"), "write the emperor's pid to a file"),
    row(Operation, "emperor-stats", Value("ADDRESS"), "tell the state in uWSGI's JSON to whoever connects to ADDRESS\n\
               A path, @NAME for an abstract socket, or HOST:PORT with the number of a host; :PORT is every host of ours."),
    row(Operation, "emperor-stats-server", Value("ADDRESS"), "the same as emperor-stats"),
    row(Operation, "log-format", Value("FORMAT"), "how our lines and those of vassal-init look: text or json (default: text)\n\
               What apps write is passed on as it is."),
    row(Operation, "logto", Value("FILE"), "append all output, ours and the vassals', to FILE\n\
               To rotate it, copy and truncate it (logrotate's copytruncate): apps that run keep it open."),
    row(Operation, "metrics", Value("ADDRESS"), "serve metrics for Prometheus over HTTP at ADDRESS, which is as for emperor-stats"),

    row(Vassals, "cgroup-opt", Value("FILE=VALUE"), "write VALUE to FILE of each vassal's cgroup; may be repeated"),
    row(Vassals, "cgroup-optional", Flag, "start vassals without the cgroups and limits that cannot be had"),
    row(Vassals, "cpu-max", Value("PERCENT"), "processor time of each vassal: 50%, 200%, or QUOTA PERIOD"),
    row(Vassals, "emperor", Value("DIR"), "a directory of vassal files, or a pattern of them; may be repeated\n\
               Each file NAME.ini in it is one vassal. A new file starts it, a touched one reloads it, a removed one stops it. \
               dir://DIR and glob://PATTERN say which it is; else what has a wildcard or ends in .ini is a pattern."),
    row(Vassals, "emperor-cgroup", Value("DIR"), "a directory of cgroups (v2), where each vassal gets one and starts in it\n\
               What is left of a vassal in it is killed when it ends. A vassal's own memory-max and the like apply to it as well."),
    row(Vassals, "emperor-extra-ext", Value("SUFFIX"), "the same as emperor-extra-extension"),
    row(Vassals, "emperor-extra-extension", Value("SUFFIX"), "a further end of names, as .conf, that makes an ini file a vassal's"),
    row(Vassals, "emperor-magic-exec", Flag, "run a vassal's file that is executable; what it prints is the configuration\n\
               It is run as PID 1's first child, as root, in the vassal's namespaces, and for 10 s at most. A changed one is a fresh start."),
    row(Vassals, "emperor-nofollow", Flag, "a symbolic link counts as changed when it is, not what it leads to"),
    row(Vassals, "emperor-on-demand-dir", Value("DIR"), "the same as emperor-on-demand-directory"),
    row(Vassals, "emperor-on-demand-directory", Value("DIR"), "start each vassal when somebody connects to DIR/NAME.socket\n\
               The socket is the emperor's, open to everybody, and handed to the app. An app that leaves after a while is waited for again."),
    row(Vassals, "emperor-on-demand-exec", Value("COMMAND"), "the same, where COMMAND NAME.ini prints the address\n\
               Run as root in the directory of the file, for 10 s at most. A vassal for which it prints nothing is started like any other."),
    row(Vassals, "emperor-on-demand-ext", Value("SUFFIX"), "the same as emperor-on-demand-extension"),
    row(Vassals, "emperor-on-demand-extension", Value("SUFFIX"), "the same, where a file NAME.iniSUFFIX holds the address\n\
               A vassal without such a file beside its own is started like any other."),
    row(Vassals, "emperor-tyrant", Flag, "run each vassal as the user and group that its file belongs to\n\
               From before its file is read; never as root. The emperor's own hook-as-vassal run as root before that."),
    row(Vassals, "emperor-tyrant-initgroups", Flag, "with the groups that the group database gives that user"),
    row(Vassals, "emperor-tyrant-nofollow", Flag, "as the owner of a symbolic link, not of what it leads to"),
    row(Vassals, "emperor-use-clone", Value("LIST"), "the namespaces that each vassal gets\n\
               A list of fs, pid, ipc, uts, net, user, cgroup, separated by commas."),
    row(Vassals, "exec-as-emperor", Value("COMMAND"), "run a shell command when a vassal was started; may be repeated"),
    row(Vassals, "hook-as-emperor", Value("exec:COMMAND"), "the same as exec-as-emperor"),
    row(Vassals, "hook-as-vassal", Value("ACTION:ARGS"), "do something in each vassal before all else; may be repeated\n\
               As vassal-init --help hook-PHASE says; also exec-, mount-, umount- and call-as-vassal."),
    row(Vassals, "memory-max", Value("SIZE"), "memory of each vassal, as 512M or 2G"),
    row(Vassals, "pids-max", Value("COUNT"), "processes and threads of each vassal"),
    row(Vassals, "vassal-init", Value("PROGRAM"), "what runs as process 1 of a vassal (default: vassal-init beside the emperor)"),
    row(Vassals, "vassal-set", Value("KEY=VALUE"), "an option or a placeholder for all vassals; may be repeated\n\
               Before each file, which may therefore say otherwise. UWSGI_VASSAL_KEY in the environment does the same."),
    row(Vassals, "vassals-include", Value("FILE"), "a file that every vassal includes behind its own; may be repeated\n\
               In it %n is its own name, and %N that of the vassal."),
    row(Vassals, "vassals-include-before", Value("FILE"), "the same before its own"),
    row(Vassals, "vassals-inherit", Value("FILE"), "a file whose options come last, without placeholders; may be repeated"),
    row(Vassals, "vassals-inherit-before", Value("FILE"), "the same, ahead of those of vassals-inherit"),
    row(Vassals, "vassals-set", Value("KEY=VALUE"), "the same as vassal-set"),

    row(Timing, "emperor-freq", Value("SECONDS"), "time between two scans when nothing was noticed (default: 3)\n\
               Up to ten times as long where a scan would take more than a thousandth of the time, with thousands of files."),
    row(Timing, "emperor-max-throttle", Value("MILLISECONDS"), "the longest delay before a restart (default: 180000)"),
    row(Timing, "emperor-required-heartbeat", Value("SECONDS"), "restart an app that has stopped giving heartbeats (default: 30)\n\
               Only after its first one: by uWSGI's heartbeat, or WATCHDOG=1 to NOTIFY_SOCKET. Given here, it is also in the app's \
               WATCHDOG_USEC."),
    row(Timing, "emperor-throttle", Value("MILLISECONDS"), "the delay after a first failure; doubles with each (default: 1000)"),
];

/// What both programs read.
#[rustfmt::skip]
static LANGUAGE: &[Row] = &[
    row(Language, "include", Value("FILE[:SECTION]"), "read the options of a file here"),
    row(Language, "inherit", Value("FILE[:SECTION]"), "read the options of a file behind all others; placeholders stay as they are"),
    row(Language, "ini", Value("FILE[:SECTION]"), "the same as include"),
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
        assert!(EMPEROR.find(b"uid").is_none() && EMPEROR.find(b"strict").is_some());
    }
}
