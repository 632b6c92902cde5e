//! A command and the terminal: its process group or session, and which group is in the foreground.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::config::cmdline::entrypoint::Standing;
use crate::sys::{signal, terminal};

/// The terminal that this process shares with the command, if there is one.
pub struct Terminal(Option<OwnedFd>);

impl Terminal {
    /// Opens the controlling terminal, whatever the standard descriptors are. Where `/dev/tty` is missing,
    /// standard input may be the terminal.
    pub fn open() -> Self {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        Self(open(c"/dev/tty", flags, Mode::empty()).ok())
    }

    /// Whether there is a controlling terminal.
    pub fn is_there() -> bool {
        terminal::foreground(Self::open()).is_ok()
    }

    /// Brings the group `next` to the foreground if the group `now` is there. An error means that there is
    /// nothing to do: no terminal (ENOTTY, ENXIO, EBADF), another session's terminal (EPERM), or one that has
    /// hung up (EIO).
    pub fn hand_over(&self, now: i32, next: i32) {
        if self.has_in_foreground(now) {
            let _ = terminal::set_foreground(self, next);
        }
    }

    /// Brings the own group to the foreground if the group in the foreground has no process left.
    pub fn take_from_the_dead(&self) {
        let dead = |group: i32| group > 0 && signal::kill(-group, 0) == Err(Errno::SRCH);
        if terminal::foreground(self).is_ok_and(dead) {
            let _ = terminal::set_foreground(self, terminal::own_group());
        }
    }

    /// Whether a process group is in the foreground.
    pub fn has_in_foreground(&self, group: i32) -> bool {
        terminal::foreground(self) == Ok(group)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_ref().map_or(rustix::stdio::stdin(), AsFd::as_fd)
    }
}

/// The process group or session of a child, and what is needed to set it up.
pub struct Stand {
    standing: Standing,
    /// The terminal, if the child may be stopped from it.
    pub terminal: Option<Terminal>,
    is_foreground: bool,
    /// Signals that the kernel sends to this process because it gives up the terminal. The command does not
    /// get them.
    pub unwanted: Vec<i32>,
}

impl Stand {
    /// Does what must be done before the child is created.
    pub fn prepare(standing: Standing) -> Self {
        let mut stand = Self { standing, terminal: None, is_foreground: false, unwanted: Vec::new() };
        match standing {
            Standing::Shared => {}
            Standing::Group => {
                let terminal = Terminal::open();
                stand.is_foreground = terminal.has_in_foreground(terminal::own_group());
                stand.terminal = terminal::foreground(&terminal).is_ok().then_some(terminal);
            }
            // The child's session can get the terminal only if this session gives it up.
            Standing::Session => {
                if terminal::let_go(rustix::stdio::stdin()).is_ok() && terminal::leads_session() {
                    stand.unwanted = vec![libc::SIGHUP, libc::SIGCONT];
                }
            }
        }
        stand
    }

    /// In the child: moves to the process group or session.
    pub fn take(&self) {
        // These calls cannot fail in a process that has just been created.
        match self.standing {
            Standing::Shared => {}
            Standing::Group => {
                let _ = rustix::process::setpgid(None, None);
                if let Some(terminal) = self.terminal.as_ref().filter(|_| self.is_foreground) {
                    let _ = terminal::set_foreground(terminal, rustix::process::getpid().as_raw_pid());
                }
            }
            Standing::Session => {
                let _ = rustix::process::setsid();
                // An error means that there is no terminal.
                let _ = terminal::adopt(rustix::stdio::stdin());
            }
        }
    }
}
