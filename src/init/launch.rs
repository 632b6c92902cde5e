//! A child process, from clone to exec: identity, working directory, signals, program.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::{Errno, FdFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use super::creds::Identity;
use crate::error::{Context, Error, Result};
use crate::protocol::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Strings, exec_in_path};
use crate::sys::{fd, signal};

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a child needs before it becomes a program.
pub struct Launch<'a> {
    /// Program and arguments; the program is searched for in PATH.
    pub argv: &'a [OsString],
    /// Whom to become; `None` stays.
    pub identity: Option<&'a Identity>,
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
        let program = self.argv.first().map(OsString::as_os_str).unwrap_or_default();
        let argv = Strings::new(self.argv);
        let environment = Strings::environment(self.environment.iter().map(|(name, value)| (name, value)));
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
        let (report, child_report) =
            rustix::pipe::pipe_with(flags).context("create a pipe for", program.display())?;
        match clone3(0).context("start", program.display())? {
            Side::Parent(child) => Ok(Launched { pid: child.pid, report }),
            Side::Child => {
                let (step, errno) = self.become_program(program, &argv, &environment);
                let mut message = errno.raw_os_error().to_le_bytes().to_vec();
                message.extend(step.as_bytes());
                let _ = rustix::io::write(&child_report, &message);
                clone::exit(match errno {
                    Errno::NOENT | Errno::NOTDIR => EXIT_NOT_FOUND,
                    _ => EXIT_NOT_EXECUTABLE,
                })
            }
        }
    }

    /// In the child; returns only the step that failed.
    fn become_program(&self, program: &OsStr, argv: &Strings, envp: &Strings) -> (&'static str, Errno) {
        if self.own_group {
            // Cannot fail for a process that has just been created.
            let _ = rustix::process::setpgid(None, None);
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        if let Some(Err(failed)) = self.identity.map(Identity::assume) {
            return failed;
        }
        if self.dies_with_us
            && let Err(errno) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        {
            return ("set the parent death signal of", errno);
        }
        // As the user: root must not be led where the user may not go, nor into a mount only the user can enter.
        if let Err(errno) = rustix::process::chdir(self.workdir) {
            return ("change to the working directory of", errno);
        }
        if let Err(errno) = fd::cloexec_from(3) {
            return ("close descriptors of", errno);
        }
        if let Some(Err(errno)) = self.passed.map(|fd| rustix::io::fcntl_setfd(fd, FdFlags::empty())) {
            return ("pass a descriptor to", errno);
        }
        let path = self.environment.iter().find(|(name, _)| name == "PATH");
        let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
        self.signals.restore();
        ("execute", exec_in_path(program, path, argv, envp))
    }
}

impl Launched {
    /// Once it has ended: what kept the child from becoming `object`, if anything did.
    pub fn failure(&self, object: &str) -> Option<Error> {
        let mut message = [0; 128];
        let length = rustix::io::read(self.report.as_fd(), &mut message).ok()?;
        let (errno, step) = message.get(..length)?.split_first_chunk::<4>()?;
        let errno = Errno::from_raw_os_error(i32::from_le_bytes(*errno));
        Some(Error::os(&String::from_utf8_lossy(step), object, errno))
    }
}
