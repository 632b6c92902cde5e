//! Lines for the starter of a command: warnings, and more where it asks for that (`-v`).

use std::fmt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::Signal;

use crate::config::cmdline::entrypoint::Entrypoint;
use crate::error::{Context, Result};
use crate::init::child::reaper::Reaped;
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
    let level = if entry.warns_of_orphans { WARNINGS } else { EVERYTHING };
    say(entry, level, format_args!("reaped pid {}: {}", child.pid, child.status));
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
