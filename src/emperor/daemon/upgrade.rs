//! The upgrade in place: this process becomes the new program and keeps its vassals.
//!
//! An exec keeps the pid, and thereby all children. The descriptors that stay open are passed on, and
//! everything else is passed in a memory file. First a child tries the new program with it: the trial reads
//! everything and does nothing. So a program that is broken, is of another version or has a configuration
//! that it cannot read is found out, and the old program goes on.

use std::borrow::Cow;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags, access, fcntl_setfl, stat};
use rustix::io::{FdFlags, fcntl_setfd, read, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::saved::Saved;
use crate::emperor::core::saved::decode::decode;
use crate::emperor::deputy::pull_version;
use crate::emperor::instance::origin::{Origin, STATE_VARIABLE, TRIAL_VARIABLE};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::log;
use crate::log::Elapsed;
use crate::protocol::WaitStatus;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Strings, c_string, exec};
use crate::sys::memfd::{self, Use};
use crate::sys::start::{executed_path, this_program};
use crate::sys::{environment, fd, signal};

/// The exit status of a trial whose program can take over. No program exits with it by accident.
pub const UNDERSTOOD: i32 = 119;
/// The exit status of a trial that could not execute the program. Its output tells why.
const NOT_EXECUTED: i32 = 118;
/// How long a trial may take. A new program that has not read the state by then is refused.
const TRIAL_MAX: Duration = Duration::from_secs(5);
/// How long a trial that is killed may take to end.
const KILLED_MAX: Duration = Duration::from_secs(1);
/// How much of a trial's output is read: as much as a pipe holds. A program that prints more blocks, and is
/// killed.
const OUTPUT_MAX: usize = 64 << 10;

/// The state that a program takes over in an upgrade.
pub struct Handover {
    /// The state of the program before the upgrade.
    pub saved: Saved,
    /// Whether this process is a trial, which reads the state and ends.
    pub is_trial: bool,
}

impl Handover {
    /// Reads the state that this program was handed; `None` at a first start.
    ///
    /// # Errors
    /// EBADF, read(2); or the state is of another version.
    pub fn take(now: Instant) -> Result<Option<Self>> {
        for (variable, is_trial) in [(STATE_VARIABLE, false), (TRIAL_VARIABLE, true)] {
            let Some(number) = environment::variable(variable) else { continue };
            let failed = "the state of the emperor before us";
            let number = number.to_str().and_then(|number| number.parse().ok()).unwrap_or(-1);
            let file = fd::inherited(number).context("take", failed)?;
            let bytes = files::read_to_end(file).context("read", failed)?;
            let saved = decode(&bytes, now);
            let mut saved = saved.ok_or_else(|| Error::new("read", failed, "it is of another version"))?;
            saved.forget_lost(fd::is_open);
            return Ok(Some(Self { saved, is_trial }));
        }
        Ok(None)
    }
}

/// The program that this process was started as. The next program is started in the same way.
struct Program {
    /// The path by which it was executed. It may lead to another release by now.
    invoked: CString,
    /// The path of its file, with links resolved.
    file: CString,
    /// Its arguments, each with a NUL at the end (proc_pid_cmdline(5)).
    command_line: Vec<u8>,
}

impl Program {
    /// Must be called before the program's file can have been replaced.
    ///
    /// # Errors
    /// There is no `/proc`.
    fn find() -> Result<Self> {
        let here = this_program()?;
        // The name of a descriptor is not a file's (execveat(2)). A relative path stays right, because the
        // working directory does not change.
        let is_file = |path: &OsString| !path.as_bytes().starts_with(b"/dev/fd/");
        let invoked = executed_path().filter(is_file).unwrap_or_else(|| here.clone().into());
        let command_line = files::read_file("/proc/self/cmdline").context("read", "/proc/self/cmdline")?;
        Ok(Self { invoked: c_string(&invoked), file: c_string(here.as_os_str()), command_line })
    }

    /// The path to execute now.
    fn path(&self) -> &CString {
        if access(&self.invoked, Access::EXISTS).is_ok() { &self.invoked } else { &self.file }
    }

    /// The version of the file at that path; `None` if it cannot be looked at.
    fn version(&self) -> Option<FileVersion> {
        stat(self.path()).ok().map(|file| FileVersion::of(&file, None))
    }

    /// That path, for messages.
    fn name(&self) -> String {
        self.path().to_string_lossy().into_owned()
    }

    fn argv(&self) -> Strings {
        Strings::new(self.command_line.split_inclusive(|&byte| byte == 0).map(OsStr::from_bytes))
    }
}

/// Upgrades of this emperor: one at a time.
pub struct Upgrade {
    /// The error if there was no `/proc` at the start.
    program: Result<Program>,
    origin: Rc<Origin>,
    trial: Option<Trial>,
    /// A trial that was killed and has not ended: it hangs in the kernel. While it does, another one would,
    /// too.
    left: Option<Pid>,
    /// The version of the program that was tried last.
    tried: Option<FileVersion>,
}

/// A child that tries the new program.
struct Trial {
    pid: Pid,
    /// When it is killed, or given up.
    until: Instant,
    is_killed: bool,
    /// The pipe with its standard error.
    output: OwnedFd,
}

/// The result of a trial.
pub struct Tried {
    /// Whether the new program can take over; the reason if it cannot.
    pub verdict: Result<(), String>,
    /// Its output to standard error.
    pub output: String,
}

impl Upgrade {
    /// Must be called before the program's file can have been replaced.
    pub fn new(origin: Rc<Origin>) -> Self {
        Self { program: Program::find(), origin, trial: None, left: None, tried: None }
    }

    /// Has a child try whether the present program file understands `state`. An earlier trial is forgotten.
    ///
    /// # Errors
    /// The program is not known, or cannot be executed; memfd_create(2), pipe(2), clone(2). An earlier trial
    /// hangs.
    pub fn try_out(&mut self, state: &[u8], now: Instant) -> Result<()> {
        self.forget_trial();
        let state = memory_file(state)?;
        let (output, written) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe")?;
        fcntl_setfl(&output, OFlags::NONBLOCK).context("create", "a pipe")?;
        let program = self.program.as_ref().map_err(Error::clone)?;
        if self.left.is_some() {
            let name = program.invoked.to_string_lossy();
            return Err(Error::new(
                "try",
                name,
                "the trial before has not ended: does its filesystem answer?",
            ));
        }
        let parent = rustix::process::getpid();
        // The emperor does not wait for the exec: the filesystem of the program may hang.
        match clone3(0).context("create", "a process")? {
            Side::Parent(child) => {
                self.trial = Some(Trial { pid: child.pid, until: now + TRIAL_MAX, is_killed: false, output });
                Ok(())
            }
            Side::Child => {
                let _ = clone::die_with(parent);
                let _ = rustix::stdio::dup2_stderr(&written);
                // Until the exec, descriptors that the emperor closes must not stay open here.
                if let Ok(state) = fd::keep_only(state) {
                    let stderr = rustix::stdio::stderr();
                    let mut version = Vec::new();
                    let push = &mut |number: u64| version.extend(number.to_le_bytes());
                    program.version().unwrap_or_default().each_number(push);
                    let _ = fd::write_all(stderr, &version);
                    let _ = fcntl_setfd(&state, FdFlags::empty());
                    let (argv, envp) = (program.argv(), self.environment(TRIAL_VARIABLE, &state));
                    self.origin.restore();
                    let errno = exec(program.path(), &argv, &envp);
                    let error = Error::os("execute", program.name(), errno);
                    let _ = fd::write_all(stderr, error.to_string().as_bytes());
                }
                clone::exit(NOT_EXECUTED)
            }
        }
    }

    /// Kills the trial, whose end is then not reported.
    fn forget_trial(&mut self) {
        if let Some(Trial { pid, .. }) = self.trial.take() {
            let _ = signal::kill(pid.as_raw_pid(), libc::SIGKILL);
        }
    }

    /// Called for each child that has ended: the result of the trial, if the child was one.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus) -> Option<Tried> {
        self.left.take_if(|left| *left == pid);
        let Trial { output, .. } = self.trial.take_if(|trial| trial.pid == pid)?;
        let output = read_all(&output);
        let mut text = &*output;
        self.tried = pull_version(&mut text);
        let mut output = String::from_utf8_lossy(text).into_owned();
        let verdict = match status {
            WaitStatus::Exited(UNDERSTOOD) => Ok(()),
            WaitStatus::Exited(NOT_EXECUTED) => Err(std::mem::take(&mut output)),
            status => Err(format!("{} {status}", self.invoked())),
        };
        Some(Tried { verdict, output })
    }

    /// When [`Upgrade::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(|trial| trial.until)
    }

    /// Kills a trial that takes too long. Its end is then its result. If it does not end, as its program's
    /// filesystem hangs, that is the result.
    pub fn time(&mut self, now: Instant) -> Option<Tried> {
        let trial = self.trial.as_mut().filter(|trial| trial.until <= now)?;
        if !trial.is_killed {
            (trial.until, trial.is_killed) = (now + KILLED_MAX, true);
            let _ = signal::kill(trial.pid.as_raw_pid(), libc::SIGKILL);
            return None;
        }
        self.left = self.trial.take().map(|trial| trial.pid);
        let time = Elapsed(TRIAL_MAX + KILLED_MAX);
        let why = format!("{}: not done after {time}: does its filesystem answer?", self.invoked());
        Some(Tried { verdict: Err(why), output: String::new() })
    }

    /// The path of the program. Whether the file is still there is not looked for: its filesystem may hang.
    fn invoked(&self) -> Cow<'_, str> {
        self.program.as_ref().map_or(Default::default(), |program| program.invoked.to_string_lossy())
    }

    /// Becomes the program that was tried. Returns only after a failure, with everything unchanged. It is a
    /// failure, too, if the program file has been replaced again. `before` is called right before the exec.
    pub fn exec(&self, state: &[u8], kept: &[i32], before: &dyn Fn()) -> Error {
        let (program, file) = match (&self.program, memory_file(state)) {
            (Ok(program), Ok(file)) => (program, file),
            (Err(error), _) => return error.clone(),
            (_, Err(error)) => return error,
        };
        let version = program.version();
        if version.is_some() && version != self.tried {
            return Error::new("execute", program.name(), "it has changed since it was tried");
        }
        let (argv, envp) = (program.argv(), self.environment(STATE_VARIABLE, &file));
        let program = program.path();
        let all = || kept.iter().copied().chain([file.as_raw_fd()]);
        log::finish();
        before();
        // The signals stay blocked: one that comes now is for the new program.
        self.origin.restore_dispositions();
        // While SIGCHLD is ignored, the kernel reaps children without telling their parent.
        signal::set_default(libc::SIGCHLD);
        all().for_each(|number| fd::set_cloexec(number, false));
        let errno = exec(program, &argv, &envp);
        all().for_each(|number| fd::set_cloexec(number, true));
        signal::set_own_dispositions();
        Error::os("execute", program.to_string_lossy(), errno)
    }

    fn environment(&self, variable: &str, state: &OwnedFd) -> Strings {
        let variable = (variable.into(), state.as_raw_fd().to_string().into());
        Strings::environment(self.origin.environment.iter().chain([&variable]))
    }
}

fn memory_file(state: &[u8]) -> Result<OwnedFd> {
    memfd::sealed("emperor-state", state, Use::Read).context("create", "memory file")
}

/// Reads the bytes that are in a pipe, without waiting for its end: a process that was left behind may still
/// have the other end.
fn read_all(pipe: &OwnedFd) -> Vec<u8> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    while text.len() < OUTPUT_MAX
        && let Ok(count @ 1..) = retry_on_intr(|| read(pipe, &mut chunk))
    {
        text.extend(chunk.iter().take(count));
    }
    text
}

/// The message about an upgrade that is refused.
pub fn refused(why: &str) -> String {
    format!("upgrade refused: {why}; everything stays as it is")
}
