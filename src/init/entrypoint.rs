//! Entrypoint mode for a command that needs nothing prepared: start it, hand signals on, reap, leave with its status.
//!
//! One system call waits for everything ([`signal::wait`]), and no descriptor stays open, so the loop has nothing
//! that could fail. A command that takes more (hooks, checked mountpoints, another user) lives the life of a vassal
//! instead: [`crate::init::vassal`].

use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::{Pid, Signal};

use crate::config::cmdline::entrypoint::{Entrypoint, Orphans, Rest};
use crate::error::{Context, Result};
use crate::init::child::job::Job;
use crate::init::child::reaper::{self, Reaped};
use crate::init::watch::procfs::Procfs;
use crate::log::Elapsed;
use crate::protocol::WaitStatus;
use crate::signal_names;
use crate::sys::{fd, signal};

/// How long SIGKILL may take. Only a process stuck in the kernel outlives it.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// After SIGKILL: how often we look for processes that were born while we killed.
const KILL_AGAIN: Duration = Duration::from_millis(50);

/// What is said, from which verbosity on.
const WARNINGS: u32 = 1;
const COMMAND: u32 = 2;
const EVERYTHING: u32 = 3;

/// Runs the command to its end and returns the exit status.
pub fn run(entry: &Rc<Entrypoint>) -> i32 {
    let inherited = signal::block_all();
    crate::log::init(entry.name, "");
    set_up(entry);
    if entry.command.is_empty() {
        return pause();
    }
    let mut job = match start(entry, &inherited) {
        Ok(job) => job,
        Err(error) => {
            crate::log!("{error}");
            return entry.unexecutable.unborn;
        }
    };
    // From here on nothing returns early: whoever is PID 1 takes all others along.
    let status = attend(entry, &mut job);
    job.give_terminal_back();
    end_rest(entry, &job);
    entry.status_for(status.code())
}

/// What we are to our parent and to orphans.
fn set_up(entry: &Entrypoint) {
    follow_parent(entry);
    let own = rustix::process::getpid();
    if own.is_init() {
        return;
    }
    match entry.orphans {
        Orphans::Adopt => {
            let set = rustix::process::set_child_subreaper(Some(own));
            warn_of(entry, set.context("become", "subreaper"));
        }
        Orphans::Warn if !matches!(rustix::process::child_subreaper(), Ok(Some(_))) => {
            say(
                entry,
                WARNINGS,
                format_args!(
                    "neither PID 1 nor a subreaper (-s, TINI_SUBREAPER): orphans will not be reaped"
                ),
            );
        }
        Orphans::Warn | Orphans::Leave => {}
    }
}

/// We are told of our parent's death, if that was asked for.
pub fn follow_parent(entry: &Entrypoint) {
    if let Some(number) = entry.parent_death {
        let set = rustix::process::set_parent_process_death_signal(Signal::from_named_raw(number));
        warn_of(entry, set.context("set", "the parent death signal"));
    }
}

/// Starts the command, and lets go of everything that is only for the command.
fn start(entry: &Rc<Entrypoint>, inherited: &signal::Inherited) -> Result<Job> {
    let (job, failure) = Job::start(entry, inherited)?;
    match failure {
        // It ends with the status that says so, and is reaped like any other.
        Some(error) => crate::log!("{error}"),
        None => {
            say(entry, COMMAND, format_args!("the command runs, pid {}", job.pid()));
            if let Some(number) = entry.ready_fd {
                tell_ready(number);
            }
        }
    }
    // A directory or a file of ours would keep a filesystem from being unmounted, and the other end of a pipe from
    // seeing its end.
    let _ = rustix::process::chdir("/");
    fd::close_inherited();
    Ok(job)
}

/// Tells the starter that the command runs, and closes the descriptor it waits at. Where there is no room for that, nobody
/// listens: we do not wait.
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

/// Hands signals on and reaps until the command has ended.
fn attend(entry: &Entrypoint, job: &mut Job) -> WaitStatus {
    loop {
        let Some(signal) = signal::wait(None).filter(|signal| !signal.is_own_pipe()) else { continue };
        if signal.number == libc::SIGCHLD {
            job.look_for_stop();
            if let Some(status) = reap(entry, job.pid()) {
                return status;
            }
        }
        // One that a process sent is meant for the command.
        if signal.number != libc::SIGCHLD || signal.is_sent {
            let shown = || signal_names::name(signal.number);
            match job.forward(signal.number) {
                Ok(rewritten) if entry.verbosity >= EVERYTHING => {
                    say(entry, EVERYTHING, format_args!("{}: {rewritten} to the command", shown()));
                }
                Ok(_) => {}
                Err(Errno::SRCH) => {
                    say(entry, EVERYTHING, format_args!("{}: the command has just ended", shown()))
                }
                Err(errno) => warn_of::<()>(entry, Err(errno).context("hand on", shown())),
            }
        }
    }
}

/// Reaps all that have ended by now; the command's status if it is among them.
fn reap(entry: &Entrypoint, command: Pid) -> Option<WaitStatus> {
    let mut status = None;
    while let Some(child) = reaper::next_dead() {
        if child.pid == command {
            say(entry, COMMAND, format_args!("the command {}", child.status));
            status = Some(child.status);
        } else {
            say_reaped(entry, &child);
        }
    }
    status
}

/// An orphan has ended.
pub fn say_reaped(entry: &Entrypoint, child: &Reaped) {
    let level = if entry.warns_of_orphans { WARNINGS } else { EVERYTHING };
    say(entry, level, format_args!("reaped pid {}: {}", child.pid, child.status));
}

/// Sees to what the command leaves behind.
fn end_rest(entry: &Entrypoint, job: &Job) {
    match entry.rest {
        Rest::Leave => {}
        Rest::Terminate => match entry.rewritten(libc::SIGTERM) {
            0 => {}
            number => job.signal_group(number),
        },
        Rest::Sweep(grace) => sweep(entry, job, grace),
    }
}

/// SIGTERM to everything below us, SIGKILL when the time is up; returns the moment nothing is left. What signals us
/// meanwhile, signals them.
fn sweep(entry: &Entrypoint, job: &Job, grace: Duration) {
    let mut deadline = Instant::now() + grace;
    let mut kills = false;
    let signal_rest = |number| {
        // Without /proc only the command's own group is known.
        if !reaper::kill_all(&Procfs::at_proc(), number) {
            job.signal_group(number);
        }
    };
    if reaper::is_childless() {
        return;
    }
    signal_rest(libc::SIGTERM);
    // Whoever is stopped has to run for that.
    signal_rest(libc::SIGCONT);
    loop {
        reap(entry, job.pid());
        if reaper::is_childless() {
            return;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            if kills {
                return crate::log!("processes are left after SIGKILL: they are stuck in the kernel");
            }
            say(
                entry,
                WARNINGS,
                format_args!("processes are left {} after SIGTERM: SIGKILL", Elapsed(grace)),
            );
            kills = true;
            deadline = Instant::now() + KILL_GRACE;
        }
        if kills {
            signal_rest(libc::SIGKILL);
        }
        match signal::wait(Some(if kills { KILL_AGAIN } else { left })) {
            Some(signal) if signal.number != libc::SIGCHLD && !signal.is_own_pipe() => {
                match entry.rewritten(signal.number) {
                    0 => {}
                    number => signal_rest(number),
                }
            }
            _ => {}
        }
    }
}

/// catatonit's pause: holds the namespaces of a pod open, and reaps.
fn pause() -> i32 {
    let _ = rustix::process::chdir("/");
    fd::close_inherited();
    loop {
        match signal::wait(None).map(|signal| signal.number) {
            Some(libc::SIGTERM | libc::SIGINT) => return 0,
            Some(libc::SIGCHLD) => while reaper::next_dead().is_some() {},
            _ => {}
        }
    }
}

fn warn_of<T>(entry: &Entrypoint, result: Result<T>) {
    if let Err(error) = result {
        say(entry, WARNINGS, format_args!("{error}"));
    }
}

/// A line for whoever wants to know that much.
fn say(entry: &Entrypoint, level: u32, message: fmt::Arguments<'_>) {
    if entry.verbosity >= level {
        if entry.chats_on_stdout && level > WARNINGS {
            crate::log::line_to(rustix::stdio::stdout(), "", message);
        } else {
            crate::log::line("", message);
        }
    }
}
