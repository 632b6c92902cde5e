//! The command of an entrypoint as a job: how signals and the terminal reach it.
//!
//! In a process group of its own ([`Standing::Group`]) the command is a job, as a shell has jobs. If this
//! process is in the foreground, the command is brought to the foreground. When the terminal stops the
//! command (Ctrl-Z), this process stops too, with its own process group, so that the shell waiting for it
//! sees the stop. `fg` continues this process, which then continues the command.

use std::rc::Rc;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::config::cmdline::entrypoint::{Entrypoint, Standing};
use crate::init::child::foreground::{Stand, Terminal};
use crate::protocol::WaitStatus;
use crate::sys::signal::INTERRUPTS;
use crate::sys::{signal, terminal};

/// A command that was started.
pub struct Job {
    entry: Rc<Entrypoint>,
    pid: Pid,
    /// Whether a terminal can stop it.
    has_terminal: bool,
    /// Whether a stop signal was handed on. The command is then continued by the sender of that signal, and
    /// not by this process.
    stop_was_sent: bool,
    /// Whether a signal of [`INTERRUPTS`] was handed on.
    interrupt_was_sent: bool,
    /// Signals that the kernel sends to this process because it gives up the terminal. The command does not
    /// get them.
    unwanted: Vec<i32>,
}

impl Job {
    /// A command whose process exists.
    pub fn of(entry: Rc<Entrypoint>, pid: Pid, stand: Stand) -> Self {
        let has_terminal = stand.terminal.is_some();
        Self {
            entry,
            pid,
            has_terminal,
            stop_was_sent: false,
            interrupt_was_sent: false,
            unwanted: stand.unwanted,
        }
    }

    fn raw_pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Hands a signal on, replaced if the starter asked for that. Returns the signal that was sent, 0 for
    /// none.
    ///
    /// # Errors
    /// ESRCH if the process has just ended; EPERM if it has become another user's.
    pub fn forward(&mut self, number: i32) -> Result<i32, Errno> {
        if let Some(at) = self.unwanted.iter().position(|&unwanted| unwanted == number) {
            self.unwanted.swap_remove(at);
            return Ok(0);
        }
        let rewritten = self.entry.rewritten(number);
        self.stop_was_sent |= signal::STOPS.contains(&rewritten);
        self.interrupt_was_sent |= INTERRUPTS.contains(&rewritten);
        let mut whole_group = self.entry.to_group;
        if rewritten == libc::SIGCONT {
            self.stop_was_sent = false;
            // The terminal has stopped the whole group.
            whole_group |= self.has_terminal;
            self.come_to_foreground();
        }
        let target = if whole_group { -self.raw_pid() } else { self.raw_pid() };
        let result = if rewritten == 0 { Ok(()) } else { signal::kill(target, rewritten) };
        if self.entry.suspends && signal::STOPS.contains(&number) {
            // PID 1 is not stopped by this.
            let _ = signal::kill(rustix::process::getpid().as_raw_pid(), libc::SIGSTOP);
        }
        result.map(|()| rewritten)
    }

    /// Brings the command to the foreground if a shell has brought this process there.
    fn come_to_foreground(&self) {
        if self.has_terminal {
            Terminal::open().hand_over(terminal::own_group(), self.raw_pid());
        }
    }

    /// After a SIGCHLD: stops this process as well if the terminal has stopped the command.
    pub fn look_for_stop(&self) {
        if !self.has_terminal {
            return;
        }
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let Ok(Some(status)) = rustix::process::waitid(WaitId::Pid(self.pid), options) else { return };
        let Some(number) = status.stopping_signal().filter(|number| signal::STOPS.contains(number)) else {
            return;
        };
        let terminal = Terminal::open();
        if number != libc::SIGTSTP && terminal.has_in_foreground(terminal::own_group()) {
            // A shell brings a running job to the foreground without a signal. The command, which was not in
            // the foreground yet, was then stopped at its first read.
            terminal.hand_over(terminal::own_group(), self.raw_pid());
            let _ = signal::kill(-self.raw_pid(), libc::SIGCONT);
            return;
        }
        drop(terminal);
        // Signals the whole own process group. The kernel does not stop this process if it is PID 1, or if no
        // process could continue it.
        let _ = signal::kill(0, number);
        signal::let_through(number);
        let is_resumed = signal::is_pending(libc::SIGCONT);
        // Without a stop of this process, no shell would continue the command. (Without this process in the
        // session the kernel would not have stopped the command either.) On a terminal of another pid
        // namespace, the process that waits outside has been stopped.
        let is_alone = !is_resumed && terminal::own_group() != 0;
        if is_alone && number == libc::SIGTSTP && !self.stop_was_sent {
            let _ = signal::kill(-self.raw_pid(), libc::SIGCONT);
        }
    }

    /// The signal by which the init must end as well: the signal of the terminal that has ended the command.
    /// Must be called before [`Job::give_terminal_back`].
    pub fn interrupt(&self, status: Option<WaitStatus>) -> Option<i32> {
        let number = status.and_then(WaitStatus::signal).filter(|number| INTERRUPTS.contains(number))?;
        let is_ours = self.entry.ends_by_signal && self.entry.status_for(128 + number) != 0;
        let is_there = || Terminal::open().has_in_foreground(self.raw_pid());
        (is_ours && self.has_terminal && is_there()).then_some(number)
    }

    /// Ends this process by a signal of the terminal, together with its process group, such as the script
    /// that it runs in: as the signal would have done if the command had no group of its own. Returns if the
    /// kernel does not end this process, which is so for a PID 1.
    pub fn end_by(&self, number: i32) {
        let group = terminal::own_group();
        if rustix::process::getpid().is_init() && group != 0 {
            return;
        }
        // The process that waits outside of a pid namespace is in the group as well.
        if !self.interrupt_was_sent {
            let _ = signal::kill(0, number);
        }
        signal::end_by(number);
    }

    /// Takes the terminal back when the command has ended, for the commands that follow in a script.
    pub fn give_terminal_back(&self) {
        let own = terminal::own_group();
        if self.has_terminal && own != 0 {
            Terminal::open().hand_over(self.raw_pid(), own);
        }
    }

    /// Signals the process group of the command, unless it is the group of this process.
    pub fn signal_group(&self, number: i32) {
        if self.entry.standing != Standing::Shared {
            // ESRCH: the group has no process left.
            let _ = signal::kill(-self.raw_pid(), number);
        }
    }
}
