//! Entrypoint mode: how the init runs one command, under its own name and under others.
//!
//! There is one [`Entrypoint`]. A personality (tini, dumb-init, catatonit) is only a mapping of that
//! program's flags and environment variables onto it; nothing else in the program knows these names.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::args::Command;
use super::getopt::{self, Options, Step};
use crate::config::bytes::leading_integer;
use crate::config::diagnostic::{COMMAND_LINE, Diagnostics, Report};
use crate::config::input::Input;
use crate::config::keys::values;
use crate::protocol::EXIT_SETUP;
use crate::signal_names;

/// What an init does for its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint {
    /// What messages start with.
    pub name: &'static str,
    /// The lines in the words of another program, for which its starter may look, in the order of [`Event`];
    /// `None` for those of `vassal-init`. A null byte separates them, and an empty one is not written. `%i`
    /// stands for the pid of the init, `%c` for the pid of the child that the line is about, `%x` for its
    /// exit status, `%n` and `%s` for number and name of a signal, `%r` for the signal that replaces it, `%p`
    /// for the program, `%e` for an error.
    pub lines: Option<&'static str>,
    /// The program and its arguments. Empty: there is no command, and the init waits for SIGTERM or SIGINT.
    pub command: Vec<OsString>,
    /// The process group or session of the command.
    pub standing: Standing,
    /// Whether signals go to its whole process group.
    pub to_group: bool,
    /// Signals that are replaced, and their replacements; 0 for none. The last entry for a signal counts.
    pub rewrites: Vec<(i32, i32)>,
    /// Whether a signal of job control (SIGTSTP, SIGTTIN, SIGTTOU) also stops the init.
    pub suspends: bool,
    /// What becomes of orphans if the init is not PID 1.
    pub orphans: Orphans,
    /// The signal that the init gets when its parent dies.
    pub parent_death: Option<i32>,
    /// What happens to the processes that are left when the command has ended.
    pub rest: Rest,
    /// Exit statuses of the command that are replaced by 0.
    pub forgiven: Vec<u8>,
    /// The exit status of the init when the command cannot be executed.
    pub unexecutable: Unexecutable,
    /// What is logged: 0 errors only, 1 warnings, 2 start and end of the command, 3 each signal and child.
    pub verbosity: u32,
    /// Whether lines other than errors and warnings go to standard output.
    pub chats_on_stdout: bool,
    /// Whether each orphan that is reaped is warned of.
    pub warns_of_orphans: bool,
    /// A descriptor that gets a line break when the command has been started.
    pub ready_fd: Option<i32>,
    /// Whether the command starts with no signal blocked or ignored, whatever the starter has set.
    pub clears_signals: bool,
    /// Whether the init ends by the same signal if a signal of the terminal (Ctrl-C) has ended the command.
    pub ends_by_signal: bool,
}

/// What happened, in the lines of [`Entrypoint::lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The program could not be executed: the error.
    Unexecutable,
    /// The command runs: its pid.
    Runs,
    /// The command is in a session of its own.
    HasSession,
    /// The command has exited: its pid, its status.
    Exited,
    /// A signal has killed the command: its pid, the signal, the status for that.
    Killed,
    /// An orphan has exited: its pid, its status.
    OrphanExited,
    /// A signal has killed an orphan: its pid, the signal, the status for that.
    OrphanKilled,
    /// An orphan was reaped, and the init warns of that: its pid.
    Reaped,
    /// Orphans are not adopted.
    NotAdopted,
    /// A signal was handed on.
    HandedOn,
    /// A signal was handed on as another one.
    Rewritten,
    /// A signal was not handed on, because the starter wants it ignored.
    Ignored,
    /// A signal was not handed on: the kernel sent it because the init gave up the terminal.
    Dropped,
}

const TINI: &str = "\
    [FATAL tini (%i)] exec %p failed: %e\0\
    [INFO  tini (%i)] Spawned child process '%p' with pid '%c'\0\
    \0\
    [INFO  tini (%i)] Main child exited normally (with status '%x')\0\
    [INFO  tini (%i)] Main child exited with signal (with signal '%s')\0\
    [DEBUG tini (%i)] Reaped child with pid: '%c'\0\
    [DEBUG tini (%i)] Reaped child with pid: '%c'\0\
    [WARN  tini (%i)] Reaped zombie process with pid=%c\0\
    [WARN  tini (%i)] Tini is not running as PID 1 and isn't registered as a child subreaper.\n\
    Zombie processes will not be re-parented to Tini, so zombie reaping won't work.\n\
    To fix the problem, use the -s option or set the environment variable TINI_SUBREAPER to register \
    Tini as a child subreaper, or run Tini as PID 1.\0\
    [DEBUG tini (%i)] Passing signal: '%s'";

const DUMB_INIT: &str = "\
    [dumb-init] %p: %e\0\
    [dumb-init] Child spawned with PID %c.\0\
    [dumb-init] setsid complete.\0\
    [dumb-init] Received signal 17.\n\
    [dumb-init] A child with PID %c exited with exit status %x.\n\
    [dumb-init] Forwarded signal 15 to children.\n\
    [dumb-init] Child exited with status %x. Goodbye.\0\
    [dumb-init] Received signal 17.\n\
    [dumb-init] A child with PID %c was terminated by signal %n.\n\
    [dumb-init] Forwarded signal 15 to children.\n\
    [dumb-init] Child exited with status %x. Goodbye.\0\
    [dumb-init] Received signal 17.\n\
    [dumb-init] A child with PID %c exited with exit status %x.\0\
    [dumb-init] Received signal 17.\n\
    [dumb-init] A child with PID %c was terminated by signal %n.\0\
    \0\
    \0\
    [dumb-init] Received signal %n.\n[dumb-init] Forwarded signal %n to children.\0\
    [dumb-init] Received signal %n.\n[dumb-init] Translating signal %n to %r.\n\
    [dumb-init] Forwarded signal %r to children.\0\
    [dumb-init] Received signal %n.\n[dumb-init] Translating signal %n to 0.\n\
    [dumb-init] Not forwarding signal 0 to children (ignored).\0\
    [dumb-init] Received signal %n.\n[dumb-init] Ignoring tty hand-off signal %n.";

const CATATONIT: &str = "\
    ERROR (catatonit:%i): failed to exec pid1: %e\0\
    DEBUG (catatonit:%i): pid1 (%c) spawned: %p\0\
    \0\
    \0\
    \0\
    DEBUG (catatonit:%i): child process %c exited with code %x";

/// The process group or session of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the process group of the init.
    Shared,
    /// In a process group of its own, which is in the foreground of the terminal whenever that of the init
    /// would be.
    Group,
    /// In a session of its own, which takes over the terminal if it is free.
    Session,
}

/// What happens to orphans if the init is not PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// The init is their subreaper.
    Adopt,
    /// They are not adopted, and the init warns of it.
    Warn,
    /// They are not adopted.
    Leave,
}

/// What happens to the remaining processes when the command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is left alone.
    Leave,
    /// The command's process group gets SIGTERM, and the init exits.
    Terminate,
    /// All processes get SIGTERM, and after this time SIGKILL. If the init was asked to stop, the time counts
    /// from then. The init exits when no process is left.
    Sweep(Duration),
}

/// The exit status when the command cannot be executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unexecutable {
    /// There is no such file (ENOENT).
    pub missing: i32,
    /// A part of its path is no directory (ENOTDIR).
    pub astray: i32,
    /// It may not be executed (EACCES).
    pub denied: i32,
    /// Anything else.
    pub other: i32,
    /// No process could be created.
    pub unborn: i32,
}

impl Unexecutable {
    const fn always(status: i32) -> Self {
        Self { missing: status, astray: status, denied: status, other: status, unborn: 1 }
    }
}

/// The meaning of a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Run a command.
    Run(Entrypoint),
    /// Print a text and exit.
    Say {
        /// The text.
        text: String,
        /// Whether it goes to standard error.
        is_error: bool,
        /// The exit status.
        status: i32,
    },
}

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The meaning of a command line under the name of another program, which is the first of `words`; `None` for
/// a name that is not a personality. `own` is the pid of this process, which tini names.
pub fn personality(words: &[OsString], own: u32, env: Env<'_>) -> Option<Call> {
    let path = Path::new(words.first()?);
    let options = words.get(1..).unwrap_or_default();
    let read = match path.file_name()?.as_bytes() {
        b"tini" | b"tini-static" | b"docker-init" => return Some(tini(options, own, env)),
        b"dumb-init" => dumb_init,
        // Podman runs the init that it was configured with, whatever program that is, under the second of
        // these names or at the path below.
        b"catatonit" | b"podman-init" => catatonit,
        _ if path == Path::new("/dev/init") => catatonit,
        _ => return None,
    };
    Some(read(options, env))
}

/// The defaults of all personalities.
const PLAIN: Entrypoint = Entrypoint {
    name: "vassal-init",
    lines: None,
    command: Vec::new(),
    standing: Standing::Group,
    to_group: false,
    rewrites: Vec::new(),
    suspends: false,
    orphans: Orphans::Adopt,
    parent_death: None,
    rest: Rest::Leave,
    forgiven: Vec::new(),
    unexecutable: Unexecutable { missing: 127, astray: 127, denied: 126, other: 126, unborn: EXIT_SETUP },
    verbosity: 1,
    chats_on_stdout: false,
    warns_of_orphans: false,
    ready_fd: None,
    clears_signals: false,
    ends_by_signal: false,
};

/// How long the processes left by the command may take to end, under the name `vassal-init`. Docker and
/// Podman give a whole container 10 s to stop and kill it then, which loses the command's exit status.
const GRACE: Duration = Duration::from_secs(5);

impl Entrypoint {
    /// The entrypoint under the name `vassal-init`, which also reads tini's environment variables. Options of
    /// the configuration (`--user`) go to `inputs`.
    ///
    /// # Errors
    /// A flag has a mistake.
    pub fn own(command: Command, inputs: &mut Vec<Input>, env: Env<'_>) -> Result<Self, Report> {
        let mut entry =
            Self { command: command.words, rest: Rest::Sweep(GRACE), ends_by_signal: true, ..PLAIN };
        entry.tini_environment(env);
        for (name, value) in &command.flags {
            entry.own_flag(name, value, inputs).map_err(|message| {
                let mut found = Diagnostics::default();
                let (_, at) = found.add_option(COMMAND_LINE, name.as_bytes(), Some(value.as_bytes()));
                found.error(&at, message);
                found.into_report()
            })?;
        }
        Ok(entry)
    }

    fn own_flag(&mut self, name: &str, value: &OsStr, inputs: &mut Vec<Input>) -> Result<(), String> {
        match name {
            "grace" => {
                let grace = values::duration(value.as_bytes());
                self.rest = Rest::Sweep(grace.map_err(|error| format!("--grace: {error}"))?);
            }
            "ready-fd" => {
                // The first three descriptors belong to the command.
                let number = value.to_str().and_then(|text| text.parse().ok()).filter(|&number| number > 2);
                let wrong = || format!("--ready-fd: '{}' is no number from 3 up", value.display());
                self.ready_fd = Some(number.ok_or_else(wrong)?);
            }
            "rewrite" => self.rewrites.push(rewrite(value)?),
            "user" => {
                for (key, id) in ["uid", "gid"].iter().zip(value.as_bytes().splitn(2, |&byte| byte == b':')) {
                    let value = Some(OsStr::from_bytes(id).to_owned());
                    inputs.push(Input::Option { key: (*key).to_owned(), value });
                }
            }
            letter => self.tini_flag(letter.as_bytes().first().copied().unwrap_or(0), value)?,
        }
        Ok(())
    }

    /// Applies a flag of tini.
    ///
    /// # Errors
    /// The flag's value has a mistake.
    fn tini_flag(&mut self, letter: u8, value: &OsStr) -> Result<(), String> {
        let shown = letter.escape_ascii();
        let wrong = || format!("'{}' is not a value for '-{shown}'", value.display());
        match letter {
            b's' => self.orphans = Orphans::Adopt,
            b'v' => self.verbosity = self.verbosity.saturating_add(1),
            b'w' => self.warns_of_orphans = true,
            b'g' => self.to_group = true,
            b'e' => {
                // As strtol(3): an empty text is 0.
                let status = match leading_integer(value.as_bytes()) {
                    (status, []) => u8::try_from(status.unwrap_or(0)).ok(),
                    _ => None,
                };
                self.forgiven.push(status.ok_or_else(wrong)?);
            }
            b'p' => {
                let name = value.to_str().filter(|name| name.starts_with("SIG"));
                let known = name.and_then(signal_names::by_name);
                self.parent_death = Some(known.ok_or_else(wrong)?);
            }
            _ => return Err(format!("unknown option '-{shown}'")),
        }
        Ok(())
    }

    fn tini_environment(&mut self, env: Env<'_>) {
        if env("TINI_SUBREAPER").is_some() {
            self.orphans = Orphans::Adopt;
        }
        self.to_group |= env("TINI_KILL_PROCESS_GROUP").is_some();
        if let Some(verbosity) = env("TINI_VERBOSITY") {
            // As atoi(3), into an unsigned number.
            self.verbosity = leading_integer(verbosity.as_bytes()).0.unwrap_or(0) as u32;
        }
    }

    /// The exit status of the init for one of the command.
    pub fn status_for(&self, status: i32) -> i32 {
        if self.forgiven.iter().any(|&forgiven| i32::from(forgiven) == status) { 0 } else { status }
    }

    /// The replacement of a signal, 0 for none.
    pub fn rewritten(&self, number: i32) -> i32 {
        self.rewrites.iter().rev().find(|(from, _)| *from == number).map_or(number, |(_, to)| *to)
    }
}

fn tini(words: &[OsString], own: u32, env: Env<'_>) -> Call {
    let version = concat!("tini version 0.19.0 - vassal-init ", env!("CARGO_PKG_VERSION"));
    if let [only] = words
        && only == "--version"
    {
        return said(format!("{version}\n"));
    }
    let options = Options { short: b"p:hvwgle:s", long: "", permutes: env("POSIXLY_CORRECT").is_none() };
    let usage = || {
        format!(
            "{version}\n\
             Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version\n\n\
             Runs PROGRAM, hands signals on to it, reaps orphans, ends with its status.\n\n\
             \x20 --version     say the version, if it is the only argument\n\
             \x20 -h            say this\n\
             \x20 -l            say the licence\n\
             \x20 -s            become a subreaper (also: TINI_SUBREAPER is set)\n\
             \x20 -p SIGNAL     get SIGNAL, as in SIGKILL, when the parent dies\n\
             \x20 -v            say more, up to three times (or TINI_VERBOSITY=0 to 4, default 1)\n\
             \x20 -w            warn of each orphan that is reaped\n\
             \x20 -g            signal the whole process group (also: TINI_KILL_PROCESS_GROUP is set)\n\
             \x20 -e STATUS     end with 0 when PROGRAM ends with STATUS (0 to 255); may be repeated\n"
        )
    };
    let mut entry = Entrypoint {
        name: "tini",
        lines: Some(TINI),
        orphans: Orphans::Warn,
        unexecutable: Unexecutable { astray: 1, other: 1, unborn: 1, ..PLAIN.unexecutable },
        chats_on_stdout: true,
        ..PLAIN
    };
    let (steps, command) = getopt::parse(&options, words);
    for step in steps {
        match step {
            Step::Option(b'h', _) => return said(usage()),
            Step::Option(b'l', _) => return said(LICENCE.to_owned()),
            Step::Option(letter, value) => {
                if entry.tini_flag(letter, &value).is_err() {
                    let letter = char::from(letter);
                    let text = format!("[FATAL tini ({own})] Not a valid option for -{letter}: ");
                    return refused(text + &value.to_string_lossy() + "\n");
                }
            }
            Step::Wrong(message) => return refused(format!("tini: {message}\n{}", usage())),
        }
    }
    entry.tini_environment(env);
    entry.command = command;
    if entry.command.is_empty() { refused(usage()) } else { Call::Run(entry) }
}

fn dumb_init(words: &[OsString], env: Env<'_>) -> Call {
    const USAGE: &str = "Usage: dumb-init [option] program [args]\n";
    let version = concat!("dumb-init v1.2.5 - vassal-init ", env!("CARGO_PKG_VERSION"), "\n");
    let options = Options {
        short: b"hvVcr:",
        long: "help h\nsingle-child c\nrewrite r\nverbose v\nversion V",
        permutes: false,
    };
    let mut entry = Entrypoint {
        name: "dumb-init",
        lines: Some(DUMB_INIT),
        standing: Standing::Session,
        suspends: true,
        orphans: Orphans::Leave,
        rest: Rest::Terminate,
        unexecutable: Unexecutable::always(2),
        verbosity: 0,
        clears_signals: true,
        ..PLAIN
    };
    let (steps, command) = getopt::parse(&options, words);
    for step in steps {
        match step {
            Step::Option(b'h', _) => {
                let options = "\n\
                     Runs a program in a session of its own and hands signals on to all of it.\n\n\
                     \x20 -c, --single-child   no session; signals go to the program alone\n\
                     \x20 -r, --rewrite s:r    signal number s becomes r, 0 for none; may be repeated\n\
                     \x20 -v, --verbose        say what happens\n\
                     \x20 -h, --help           say this\n\
                     \x20 -V, --version        say the version\n";
                return Call::Say { text: [version, USAGE, options].concat(), is_error: true, status: 0 };
            }
            Step::Option(b'V', _) => {
                return Call::Say { text: version.to_owned(), is_error: true, status: 0 };
            }
            Step::Option(b'c', _) => entry.standing = Standing::Shared,
            Step::Option(b'r', value) => match dumb_rewrite(value.as_bytes()) {
                Some(rewrite) => entry.rewrites.push(rewrite),
                None => {
                    let text = "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 \
                         and 31.\n\
                         This option can be specified multiple times.\n\
                         Use --help for full usage.\n";
                    return refused(text.to_owned());
                }
            },
            Step::Option(..) => entry.verbosity = 3,
            Step::Wrong(message) => return refused(format!("dumb-init: {message}\n")),
        }
    }
    if command.is_empty() {
        return refused([USAGE, "Try dumb-init --help for full usage.\n"].concat());
    }
    if env("DUMB_INIT_DEBUG").is_some_and(|value| value == "1") {
        entry.verbosity = 3;
    }
    if env("DUMB_INIT_SETSID").is_some_and(|value| value == "0") {
        entry.standing = Standing::Shared;
    }
    if entry.standing == Standing::Session {
        entry.to_group = true;
        // The kernel does not stop an orphaned process group by these signals, so they become SIGSTOP.
        let stops = [libc::SIGTSTP, libc::SIGTTOU, libc::SIGTTIN].map(|number| (number, libc::SIGSTOP));
        entry.rewrites = [&stops[..], &entry.rewrites].concat();
    }
    entry.command = command;
    Call::Run(entry)
}

/// `SIGNAL:REPLACEMENT`, names or numbers.
fn rewrite(text: &OsStr) -> Result<(i32, i32), String> {
    let parse = |name: &str| if name == "0" { Some(0) } else { signal_names::number(name) };
    let pair = text.to_str().and_then(|text| text.split_once(':'));
    let pair = pair.and_then(|(from, to)| Some((signal_names::number(from)?, parse(to)?)));
    pair.ok_or_else(|| {
        format!("--rewrite: '{}' is not SIGNAL:REPLACEMENT, as TERM:QUIT or 15:3", text.display())
    })
}

/// `s:r` as sscanf(3) reads it, which ignores the rest.
fn dumb_rewrite(text: &[u8]) -> Option<(i32, i32)> {
    let (from, rest) = leading_integer(text);
    let (to, _) = leading_integer(rest.strip_prefix(b":")?);
    let within = |number: Option<i64>, least| number.filter(|number| (least..=31).contains(number));
    Some((within(from, 1)? as i32, within(to, 0)? as i32))
}

fn catatonit(words: &[OsString], env: Env<'_>) -> Call {
    const USAGE: &str = "usage: catatonit [-ghLPV] [--] PROGRAM [ARGUMENT]...\n";
    let options = Options { short: b"ghLPV", long: "version V", permutes: env("POSIXLY_CORRECT").is_none() };
    if env("CATATONIT_LOG").is_some() {
        return refused("catatonit: the variable CATATONIT_LOG is reserved\n".to_owned());
    }
    let mut entry = Entrypoint {
        name: "catatonit",
        lines: Some(CATATONIT),
        unexecutable: Unexecutable::always(1),
        verbosity: if env("CATATONIT_DEBUG").is_some() { 3 } else { 0 },
        // These signals are not handed on: they stop the init only.
        rewrites: [libc::SIGTSTP, libc::SIGTTOU, libc::SIGTTIN].map(|number| (number, 0)).into(),
        ..PLAIN
    };
    let (steps, command) = getopt::parse(&options, words);
    let mut pauses = false;
    for step in steps {
        match step {
            Step::Option(b'g', _) => entry.to_group = true,
            Step::Option(b'P', _) => pauses = true,
            Step::Option(b'L', _) => return said(LICENCE.to_owned()),
            Step::Option(b'V', _) => {
                let version =
                    concat!("tini version 0.1.7_catatonit - vassal-init ", env!("CARGO_PKG_VERSION"), "\n");
                return said(version.to_owned());
            }
            Step::Option(..) => {
                let options = "\n\
                     \x20 -g             signal the whole process group\n\
                     \x20 -h             say this\n\
                     \x20 -L             say the licence\n\
                     \x20 -P             run nothing, wait for SIGTERM or SIGINT\n\
                     \x20 -V, --version  say the version\n";
                return Call::Say { text: [USAGE, options].concat(), is_error: true, status: 0 };
            }
            Step::Wrong(message) => return refused(format!("catatonit: {message}\n{USAGE}")),
        }
    }
    if command.is_empty() && !pauses {
        return refused(["catatonit: the program is missing\n", USAGE].concat());
    }
    entry.command = if pauses { Vec::new() } else { command };
    Call::Run(entry)
}

/// The text about the licence.
pub const LICENCE: &str = "vassal-init: MIT or Apache-2.0, as you like. There is no warranty.\n";

fn said(text: String) -> Call {
    Call::Say { text, is_error: false, status: 0 }
}

fn refused(text: String) -> Call {
    Call::Say { text, is_error: true, status: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str, env: &[(&str, &str)]) -> Call {
        let words: Vec<_> = line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        let find = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        personality(&words, 1, &find).unwrap()
    }

    fn run(line: &str, env: &[(&str, &str)]) -> Entrypoint {
        match call(line, env) {
            Call::Run(entry) => entry,
            Call::Say { text, .. } => panic!("{line}: {text}"),
        }
    }

    fn status(line: &str, env: &[(&str, &str)]) -> (i32, bool) {
        match call(line, env) {
            Call::Say { status, is_error, .. } => (status, is_error),
            Call::Run(entry) => panic!("{line}: {entry:?}"),
        }
    }

    #[test]
    fn tini_maps_its_flags() {
        let entry = run("/sbin/docker-init -sgw -p SIGKILL -e 143 -e 3 -vv -- a -b", &[]);
        let expected = Entrypoint {
            name: "tini",
            lines: Some(TINI),
            command: vec!["a".into(), "-b".into()],
            to_group: true,
            parent_death: Some(9),
            forgiven: vec![143, 3],
            unexecutable: Unexecutable { missing: 127, astray: 1, denied: 126, other: 1, unborn: 1 },
            verbosity: 3,
            chats_on_stdout: true,
            warns_of_orphans: true,
            ..PLAIN
        };
        assert_eq!(entry, expected);
        let entry = run("tini a -v b", &[("TINI_SUBREAPER", ""), ("TINI_VERBOSITY", "-1x")]);
        assert_eq!((entry.command.len(), entry.orphans, entry.verbosity), (2, Orphans::Adopt, u32::MAX));
        let entry = run("tini a -v", &[("POSIXLY_CORRECT", ""), ("TINI_KILL_PROCESS_GROUP", "0")]);
        assert_eq!((entry.command.len(), entry.orphans, entry.to_group), (2, Orphans::Warn, true));
    }

    #[test]
    fn what_tini_refuses() {
        for line in [
            "tini",
            "tini -x a",
            "tini -p",
            "tini -p TERM a",
            "tini -e 256 a",
            "tini -e 1x a",
            "tini --version a",
        ] {
            assert_eq!(status(line, &[]), (1, true), "{line}");
        }
        for line in ["tini --version", "tini a -h", "tini -l"] {
            assert_eq!(status(line, &[]), (0, false), "{line}");
        }
    }

    #[test]
    fn dumb_init_maps_its_flags() {
        let entry = run("dumb-init -r 15:2 --rew=20:0 a -b", &[]);
        assert_eq!((entry.standing, entry.to_group, entry.suspends), (Standing::Session, true, true));
        assert_eq!((entry.rewritten(15), entry.rewritten(20), entry.rewritten(21)), (2, 0, 19));
        assert_eq!((entry.rewritten(40), entry.command.len()), (40, 2));
        for (line, env) in [("dumb-init -c a", &[][..]), ("dumb-init a", &[("DUMB_INIT_SETSID", "0")])] {
            let entry = run(line, env);
            assert_eq!((entry.standing, entry.to_group, entry.rewritten(20)), (Standing::Shared, false, 20));
        }
        assert_eq!(run("dumb-init a", &[("DUMB_INIT_DEBUG", "1")]).verbosity, 3);
        for rewrite in ["15", "15:32", "0:1", "x:1", "15:", "32:1", "15:-1", "99999999999999999999:1"] {
            assert_eq!(status(&format!("dumb-init -r {rewrite} a"), &[]), (1, true), "{rewrite}");
        }
        for line in ["dumb-init", "dumb-init --ver a", "dumb-init -x a"] {
            assert_eq!(status(line, &[]), (1, true), "{line}");
        }
        assert_eq!(status("dumb-init -h", &[]), (0, true));
    }

    #[test]
    fn catatonit_maps_its_flags() {
        for name in ["/run/podman-init", "/dev/init"] {
            assert_eq!(run(&format!("{name} -- a"), &[]), run("catatonit a", &[]), "{name}");
        }
        let entry = run("catatonit -g a", &[("CATATONIT_DEBUG", "")]);
        assert_eq!((entry.to_group, entry.orphans, entry.verbosity), (true, Orphans::Adopt, 3));
        assert!(run("catatonit -P", &[]).command.is_empty());
        for (line, env) in
            [("catatonit", &[][..]), ("catatonit -x", &[]), ("catatonit a", &[("CATATONIT_LOG", "")])]
        {
            assert_eq!(status(line, env), (1, true), "{line}");
        }
        assert_eq!((status("catatonit a -V", &[]), status("catatonit -h", &[])), ((0, false), (0, true)));
    }

    #[test]
    fn our_own_name_is_no_personality() {
        for name in ["/x/vassal-init", "/sbin/init", "init"] {
            assert_eq!(personality(&[name.into(), "a".into()], 1, &|_| None), None, "{name}");
        }
        assert_eq!(personality(&[], 1, &|_| None), None);
        let own = |flags: &[(&str, &str)]| {
            let flags = flags.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
            let mut inputs = Vec::new();
            let entry = Entrypoint::own(Command { flags, words: vec!["a".into()] }, &mut inputs, &|_| None);
            entry.map(|entry| (entry, inputs))
        };
        let (entry, inputs) = own(&[("user", "1:2"), ("g", ""), ("e", "3"), ("ready-fd", "3")]).unwrap();
        assert_eq!((entry.rest, entry.orphans), (Rest::Sweep(GRACE), Orphans::Adopt));
        assert_eq!((entry.to_group, entry.forgiven, entry.ready_fd), (true, vec![3], Some(3)));
        assert_eq!(inputs.len(), 2);
        let (entry, _) =
            own(&[("rewrite", "TERM:QUIT"), ("rewrite", "SIGHUP:0"), ("rewrite", "64:1"), ("grace", "2.5")])
                .unwrap();
        assert_eq!((entry.rewritten(15), entry.rewritten(1), entry.rewritten(64)), (3, 0, 1));
        assert_eq!(entry.rest, Rest::Sweep(Duration::from_millis(2500)));
        let rewrites = ["TERM", "0:1", "TREM:1", "65:1", "1:65", ""].map(|value| ("rewrite", value));
        let others = [("grace", "x"), ("ready-fd", "2"), ("e", "256"), ("p", "TERM"), ("x", "")];
        for flag in rewrites.into_iter().chain(others) {
            assert!(own(&[flag]).is_err(), "{flag:?}");
        }
    }
}
