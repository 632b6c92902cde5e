//! Lines for the starter of a command: warnings, and more where it asks for that (`-v`).

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::{Pid, Signal};

use crate::config::cmdline::entrypoint::{Entrypoint, Standing};
use crate::error::{self, Context, Error, Result};
use crate::init::child::reaper::Reaped;
use crate::protocol::WaitStatus;
use crate::signal_names;
use crate::sys::fd;

/// The verbosity from which on warnings are told.
pub const WARNINGS: u32 = 1;
/// The verbosity from which on the start and the end of the command are told.
pub const COMMAND: u32 = 2;
/// The verbosity from which on each signal and each child is told.
pub const EVERYTHING: u32 = 3;

/// Has the kernel send a signal when the parent dies, if the starter asked for one.
pub fn follow_parent(entry: &Entrypoint) {
    if let Some(number) = entry.parent_death {
        let set = rustix::process::set_parent_process_death_signal(Signal::from_named_raw(number));
        warn_of(entry, set.context("set", "the parent death signal"));
    }
}

/// Tells the starter that the command runs, and closes the descriptor for that. A pipe without room is not
/// waited for.
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
        tell(entry, WARNINGS, entry.lines.map(|lines| lines.reaped), &[&child.pid], own);
    }
    let lines = entry.lines.map(|lines| [lines.orphan_exited, lines.orphan_killed]);
    if lines.is_some() || !entry.warns_of_orphans {
        say_ended(entry, EVERYTHING, lines, child, own);
    }
}

/// Tells of the end of the command.
pub fn say_end(entry: &Entrypoint, child: &Reaped) {
    let lines = entry.lines.map(|lines| [lines.exited, lines.killed]);
    say_ended(entry, COMMAND, lines, child, format_args!("the command {}", child.status));
}

fn say_ended(
    entry: &Entrypoint,
    level: u32,
    lines: Option<[&str; 2]>,
    child: &Reaped,
    own: fmt::Arguments<'_>,
) {
    let code = child.status.code();
    match (child.status, lines) {
        (WaitStatus::Signaled(number), Some([_, killed])) => {
            let about: [&dyn Display; 4] = [&child.pid, &number, &signal_names::name(number), &code];
            tell(entry, level, Some(killed), &about, own);
        }
        (_, lines) => tell(entry, level, lines.map(|[exited, _]| exited), &[&child.pid, &code], own),
    }
}

/// Tells that the command runs.
pub fn say_runs(entry: &Entrypoint, pid: Pid, program: &OsStr) {
    let own = format_args!("the command runs, pid {pid}");
    tell(entry, COMMAND, entry.lines.map(|lines| lines.runs), &[&pid, &program.display()], own);
    if let Some(lines) = entry.lines.filter(|_| entry.standing == Standing::Session) {
        tell(entry, COMMAND, Some(lines.has_session), &[], own);
    }
}

/// Tells why the command could not be executed.
pub fn say_unexecuted(entry: &Entrypoint, program: &OsStr, error: &Error) {
    let Some(lines) = entry.lines else { return crate::log!("{error}") };
    let reason = error::text(Errno::from_raw_os_error(error.errno()));
    tell(entry, 0, Some(lines.unexecutable), &[&program.display(), &reason], format_args!(""));
}

/// Writes a line of another program, where the init stands in for one, or our own, if the verbosity is at
/// least `level`.
pub fn tell(
    entry: &Entrypoint,
    level: u32,
    line: Option<&str>,
    about: &[&dyn Display],
    own: fmt::Arguments<'_>,
) {
    let Some(line) = line else { return say(entry, level, own) };
    if entry.verbosity < level || line.is_empty() {
        return;
    }
    let mut pieces = line.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_at_checked(1).unwrap_or_default();
        let value = match number.parse::<usize>().ok().and_then(|number| number.checked_sub(1)) {
            None => std::process::id().to_string(),
            Some(at) => about.get(at).map_or(String::new(), ToString::to_string),
        };
        crate::log::push_printable(&mut text, &value);
        text.push_str(rest);
    }
    text.push('\n');
    crate::log::text_to(stream(entry, level), &text);
}

/// Where lines of a level go.
fn stream(entry: &Entrypoint, level: u32) -> BorrowedFd<'static> {
    let is_chat = entry.chats_on_stdout && level > WARNINGS;
    if is_chat { rustix::stdio::stdout() } else { rustix::stdio::stderr() }
}

/// Tells of a failure after which the life goes on.
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
