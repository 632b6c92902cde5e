//! Lines for the starter of a command: warnings, and more lines with `-v`.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::{Pid, Signal};

use crate::config::cmdline::entrypoint::{Entrypoint, Event, Standing};
use crate::error::{self, Context, Error, Result};
use crate::init::child::reaper::Reaped;
use crate::signal_names;
use crate::sys::fd;

/// The least verbosity at which warnings are written.
pub const WARNINGS: u32 = 1;
/// The least verbosity at which the start and the end of the command are written.
pub const COMMAND: u32 = 2;
/// The least verbosity at which each signal and each child is written.
pub const EVERYTHING: u32 = 3;

/// Has the kernel send a signal when the parent dies, if the starter asked for one.
pub fn follow_parent(entry: &Entrypoint) {
    if let Some(number) = entry.parent_death {
        let set = rustix::process::set_parent_process_death_signal(Signal::from_named_raw(number));
        warn_of(entry, set.context("set", "the parent death signal"));
    }
}

/// Tells the starter that the command runs, and closes the descriptor for that. Does not wait for a pipe that
/// is full.
pub fn tell_ready(number: i32) {
    let told = fd::inherited(number).and_then(|fd| {
        let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
        match poll(&mut fds, Some(&Timespec::default()))? {
            0 => Err(Errno::AGAIN),
            _ => write(&fd, b"\n"),
        }
    });
    if let Err(error) = told.context("write to", format_args!("ready-fd {number}")) {
        crate::log!("{error}");
    }
}

/// Tells of the end of an orphan.
pub fn say_reaped(entry: &Entrypoint, child: &Reaped) {
    let own = format_args!("reaped pid {}: {}", child.pid, child.status);
    if entry.warns_of_orphans {
        let facts = Facts { pid: child.pid.as_raw_pid(), ..Facts::default() };
        tell(entry, WARNINGS, Event::Reaped, facts, own);
    }
    if entry.lines.is_some() || !entry.warns_of_orphans {
        say_ended(entry, EVERYTHING, [Event::OrphanExited, Event::OrphanKilled], child, own);
    }
}

/// Tells of the end of the command.
pub fn say_end(entry: &Entrypoint, child: &Reaped) {
    say_ended(
        entry,
        COMMAND,
        [Event::Exited, Event::Killed],
        child,
        format_args!("the command {}", child.status),
    );
}

fn say_ended(
    entry: &Entrypoint,
    level: u32,
    [exited, killed]: [Event; 2],
    child: &Reaped,
    own: fmt::Arguments<'_>,
) {
    let killed_by = child.status.signal();
    let event = if killed_by.is_some() { killed } else { exited };
    let (signal, status) = (killed_by.unwrap_or(0), child.status.code());
    tell(entry, level, event, Facts { pid: child.pid.as_raw_pid(), signal, status, ..Facts::default() }, own);
}

/// Tells that the command runs.
pub fn say_runs(entry: &Entrypoint, pid: Pid, program: &OsStr) {
    let program = program.to_string_lossy();
    let own = format_args!("the command runs, pid {pid}");
    let facts = Facts { pid: pid.as_raw_pid(), program: &program, ..Facts::default() };
    tell(entry, COMMAND, Event::Runs, facts, own);
    if entry.lines.is_some() && entry.standing == Standing::Session {
        tell(entry, COMMAND, Event::HasSession, Facts::default(), own);
    }
}

/// Tells why the command could not be executed.
pub fn say_unexecuted(entry: &Entrypoint, program: &OsStr, error: &Error) {
    let facts = Facts { errno: error.errno(), program: &program.to_string_lossy(), ..Facts::default() };
    tell(entry, 0, Event::Unexecutable, facts, format_args!("{error}"));
}

/// What a line is about; 0 or empty where the line does not name it.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The pid of the command or of an orphan.
    pub pid: i32,
    /// The exit status of that process.
    pub status: i32,
    /// The signal that killed the process, or that the init got.
    pub signal: i32,
    /// The signal that was handed on in place of that.
    pub sent: i32,
    /// The error.
    pub errno: i32,
    /// The program of the command.
    pub program: &'a str,
}

/// Writes a line if the verbosity is at least `level`: in the words of the program whose name the init has
/// ([`Entrypoint::lines`]), else `own`.
pub fn tell(entry: &Entrypoint, level: u32, event: Event, facts: Facts<'_>, own: fmt::Arguments<'_>) {
    let Some(lines) = entry.lines else { return say(entry, level, own) };
    let line = lines.split('\0').nth(event as usize).unwrap_or_default();
    if entry.verbosity < level || line.is_empty() {
        return;
    }
    let mut text = String::new();
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let number = match (letter, if letter == '%' { letters.next() } else { None }) {
            (_, Some('i')) => rustix::process::getpid().as_raw_pid(),
            (_, Some('c')) => facts.pid,
            (_, Some('n')) => facts.signal,
            (_, Some('r')) => facts.sent,
            (_, Some('x')) => facts.status,
            (_, Some('p')) => {
                crate::log::push_printable(&mut text, facts.program);
                continue;
            }
            (_, Some('e')) => {
                text.push_str(error::text(error::received(facts.errno)));
                continue;
            }
            (_, Some(_)) => {
                text.push_str(&signal_names::name(facts.signal));
                continue;
            }
            (letter, None) => {
                text.push(letter);
                continue;
            }
        };
        let _ = write!(text, "{number}");
    }
    text.push('\n');
    crate::log::text_to(stream(entry, level), &text);
}

/// The descriptor for lines of a level.
fn stream(entry: &Entrypoint, level: u32) -> BorrowedFd<'static> {
    let is_chat = entry.chats_on_stdout && level > WARNINGS;
    if is_chat { rustix::stdio::stdout() } else { rustix::stdio::stderr() }
}

/// Warns of an error that does not end the command.
pub fn warn_of<T>(entry: &Entrypoint, result: Result<T>) {
    if let Err(error) = result {
        say(entry, WARNINGS, format_args!("{error}"));
    }
}

/// Writes a line if the verbosity is at least `level`.
pub fn say(entry: &Entrypoint, level: u32, message: fmt::Arguments<'_>) {
    if entry.verbosity >= level {
        if entry.chats_on_stdout && level > WARNINGS {
            crate::log::line_to(rustix::stdio::stdout(), "", message);
        } else {
            crate::log::line("", message);
        }
    }
}
