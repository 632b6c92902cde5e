//! The command of an entrypoint as a job: how it is started, and how signals and the terminal reach it.
//!
//! In a process group of its own ([`Standing::Group`]) it is to its terminal what a job is to a shell's. It is
//! brought to the foreground if that is where we are. When the terminal stops it (Ctrl-Z), we stop too, with our own
//! process group, so that the shell that waits for us sees it; `fg` then continues us, and we it.

use std::rc::Rc;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use crate::config::cmdline::entrypoint::{Entrypoint, Standing};
use crate::init::child::foreground::{Stand, Terminal};
use crate::sys::{signal, terminal};

/// A command that was started: how it is reached.
pub struct Job {
    entry: Rc<Entrypoint>,
    pid: Pid,
    /// Whether it can be stopped from a terminal.
    has_terminal: bool,
    /// Whether we handed on a request to stop: then nobody but who sent it continues it.
    stop_was_sent: bool,
    /// Signals that came from our letting go of the terminal, and are for nobody.
    unwanted: Vec<i32>,
}

impl Job {
    /// A process that has taken this stand.
    pub fn of(entry: Rc<Entrypoint>, pid: Pid, stand: Stand) -> Self {
        let has_terminal = stand.terminal.is_some();
        Self { entry, pid, has_terminal, stop_was_sent: false, unwanted: stand.unwanted }
    }

    fn raw_pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Hands a signal on, as the rewrites have it; returns what it became.
    ///
    /// # Errors
    /// ESRCH when the process has just ended, EPERM when it became somebody else's.
    pub fn forward(&mut self, number: i32) -> Result<i32, Errno> {
        if let Some(at) = self.unwanted.iter().position(|&unwanted| unwanted == number) {
            self.unwanted.swap_remove(at);
            return Ok(0);
        }
        let rewritten = self.entry.rewritten(number);
        self.stop_was_sent |= signal::STOPS.contains(&rewritten);
        let mut whole_group = self.entry.to_group;
        if rewritten == libc::SIGCONT {
            self.stop_was_sent = false;
            // The terminal stopped all of it.
            whole_group |= self.has_terminal;
            self.come_to_foreground();
        }
        let target = if whole_group { -self.raw_pid() } else { self.raw_pid() };
        let result = if rewritten == 0 { Ok(()) } else { signal::kill(target, rewritten) };
        if self.entry.suspends && signal::STOPS.contains(&number) {
            // Has no effect on a PID 1.
            let _ = signal::kill(rustix::process::getpid().as_raw_pid(), libc::SIGSTOP);
        }
        result.map(|()| rewritten)
    }

    /// A shell has brought us to the foreground: the command is what it means.
    fn come_to_foreground(&self) {
        if self.has_terminal {
            Terminal::open().hand_over(terminal::own_group(), self.raw_pid());
        }
    }

    /// After a SIGCHLD: if the terminal has stopped the command, we stop as well.
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
            // A shell brings a running job to the foreground without a signal: the first that the command hears of it
            // is that it may not read yet.
            terminal.hand_over(terminal::own_group(), self.raw_pid());
            let _ = signal::kill(-self.raw_pid(), libc::SIGCONT);
            return;
        }
        drop(terminal);
        // For our whole job. The kernel decides whether it stops us: not if we are PID 1, nor if nobody could continue us.
        let _ = signal::kill(0, number);
        signal::let_through(number);
        let is_resumed = signal::is_pending(libc::SIGCONT);
        // Nor will anybody continue the command then: without us the kernel would not have let it stop. From a
        // terminal of another pid namespace we were called by a process outside, which did stop.
        let is_alone = !is_resumed && terminal::own_group() != 0;
        if is_alone && number == libc::SIGTSTP && !self.stop_was_sent {
            let _ = signal::kill(-self.raw_pid(), libc::SIGCONT);
        }
    }

    /// When the command has ended: the terminal comes back to us, for whoever comes after us in a script.
    pub fn give_terminal_back(&self) {
        let own = terminal::own_group();
        if self.has_terminal && own != 0 {
            Terminal::open().hand_over(self.raw_pid(), own);
        }
    }

    /// Signals the command's process group; ours is spared.
    pub fn signal_group(&self, number: i32) {
        if self.entry.standing != Standing::Shared {
            // ESRCH: nobody is left in it.
            let _ = signal::kill(-self.raw_pid(), number);
        }
    }
}
