//! A child process, from clone to exec: identity, working directory, signals, program.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::action;
use super::creds::{Confinement, Identity};
use crate::config::plan::Action;
use crate::error::{Context, Error, Result};
use crate::mount::ops::Walk;
use crate::protocol::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Strings, exec_in_path};
use crate::sys::{fd, signal};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The longest account of a failure that a child leaves behind.
const REPORT_MAX: usize = 1024;

/// What a child is for.
pub enum Work<'a> {
    /// A program and its arguments; the program is searched for in PATH.
    Program(&'a [OsString]),
    /// An action of ours. In a child, because it may hang with the filesystem it touches, and because it is the
    /// user's business once the privileges are dropped.
    Action(&'a Action, &'a Walk),
}

/// What a child needs before it does its work.
pub struct Launch<'a> {
    /// What it does.
    pub work: &'a Work<'a>,
    /// Whom to become; `None` stays.
    pub identity: Option<&'a Identity>,
    /// What limits it from then on, and all it will ever execute.
    pub confinement: Option<Confinement>,
    /// Where to run.
    pub workdir: &'a Path,
    /// All environment variables.
    pub environment: &'a [(OsString, OsString)],
    /// File mode creation mask, `None` to keep ours.
    pub umask: Option<u32>,
    /// Whether it leads a process group of its own, so that it can be ended with all it started.
    pub own_group: bool,
    /// Whether it dies when we do. In a pid namespace the kernel sees to that.
    pub dies_with_us: bool,
    /// A descriptor it inherits under the same number.
    pub passed: Option<BorrowedFd<'a>>,
    /// Signal mask and dispositions it starts with.
    pub signals: &'a signal::Inherited,
}

/// A child that was created; whether it got to its program is known when it has ended.
#[derive(Debug)]
pub struct Launched {
    /// Its process.
    pub pid: Pid,
    report: OwnedFd,
}

impl Launch<'_> {
    /// Creates the child.
    ///
    /// # Errors
    /// No process or pipe to be had. What fails later, in the child, is [`Launched::failure`].
    pub fn start(&self) -> Result<Launched> {
        let argv: &[OsString] = match self.work {
            Work::Program(argv) => argv,
            Work::Action(..) => &[],
        };
        let program = argv.first().map(OsString::as_os_str).unwrap_or_default();
        let argv = Strings::new(argv);
        let environment = Strings::environment(self.environment.iter().map(|(name, value)| (name, value)));
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (report, child_report) =
            rustix::pipe::pipe_with(flags).context("create a pipe for", program.display())?;
        match clone3(0).context("start", program.display())? {
            Side::Parent(child) => Ok(Launched { pid: child.pid, report }),
            Side::Child => {
                let failed = |error: Error| {
                    let message = error.to_bytes();
                    let message = message.get(..REPORT_MAX).unwrap_or(&message);
                    let _ = rustix::io::write(&child_report, message);
                    match Errno::from_raw_os_error(error.errno()) {
                        Errno::NOENT | Errno::NOTDIR => EXIT_NOT_FOUND,
                        _ => EXIT_NOT_EXECUTABLE,
                    }
                };
                let done = self.prepare().and_then(|()| match self.work {
                    Work::Program(_) => Err(self.become_program(program, &argv, &environment)),
                    Work::Action(action, walk) => action::perform(action, walk),
                });
                clone::exit(done.map_or_else(failed, |()| 0))
            }
        }
    }

    /// In the child: everything up to its work.
    fn prepare(&self) -> Result<()> {
        if self.own_group {
            // Cannot fail for a process that has just been created.
            let _ = rustix::process::setpgid(None, None);
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        if let Some(identity) = self.identity {
            identity.assume(self.confinement)?;
        }
        if self.dies_with_us {
            // After the last change of identity, which would clear it.
            let death = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            death.context("set", "the parent death signal")?;
        }
        // As the user: root must not be led where the user may not go, nor into a mount only the user can enter.
        rustix::process::chdir(self.workdir).context("chdir", self.workdir.display())?;
        fd::cloexec_from(3).context("mark as close-on-exec", "all descriptors")?;
        match self.passed {
            Some(fd) => rustix::io::fcntl_setfd(fd, FdFlags::empty()).context("pass on", "a descriptor"),
            None => Ok(()),
        }
    }

    /// Returns only if that fails.
    fn become_program(&self, program: &OsStr, argv: &Strings, envp: &Strings) -> Error {
        let path = self.environment.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
        self.signals.restore();
        Error::os("execute", program.display(), exec_in_path(program, path, argv, envp))
    }
}

impl Launched {
    /// Once it has ended: what kept the child from its program, or made its action fail.
    pub fn failure(&self) -> Option<Error> {
        let mut message = [0; REPORT_MAX];
        let length = rustix::io::read(self.report.as_fd(), &mut message).ok()?;
        Error::from_bytes(message.get(..length)?)
    }
}
