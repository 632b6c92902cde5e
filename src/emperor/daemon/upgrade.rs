//! The upgrade in place: this process becomes its new program and keeps its vassals.
//!
//! An exec keeps the pid, and with it every child; the descriptors that are to stay are let through, and everything else
//! that is known goes along in a memory file. What the new program makes of that is tried before, by a child that reads
//! it and does nothing: a program that is broken, of another version or has a configuration that it cannot read is found
//! out by that, and the old one goes on. Not before the child says that it has understood do we let go of anything.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Pid;

use crate::emperor::core::saved::Saved;
use crate::emperor::instance::origin::{Origin, VARIABLES};
use crate::emperor::instance::spawner::this_program;
use crate::error::{Context, Error, Result};
use crate::protocol::WaitStatus;
use crate::sys::clone;
use crate::sys::exec::{Strings, c_string, exec};
use crate::sys::memfd::{self, Use};
use crate::sys::spawn::spawn;
use crate::sys::start::executed_path;
use crate::sys::{fd, signal};
use crate::world;

/// The exit status of a child that has understood. No program ends with it by chance.
pub const UNDERSTOOD: i32 = 119;
/// A new program that has not read its state by then is not fit for it.
const TRIAL: Duration = Duration::from_secs(5);

/// Whether this program was started by an upgrade: there are vassals that would end with it.
pub fn has_vassals() -> bool {
    std::env::var_os(VARIABLES[0]).is_some()
}

/// What a program that was started by an upgrade finds.
pub struct Handover {
    /// What is known.
    pub saved: Saved,
    /// Whether it is only to be understood.
    pub trial: bool,
}

impl Handover {
    /// What we were handed; `None` for an emperor that starts afresh.
    ///
    /// # Errors
    /// It is not to be had, or not of this version.
    pub fn take(now: Instant) -> Result<Option<Self>> {
        for (variable, trial) in VARIABLES.into_iter().zip([false, true]) {
            let Some(number) = std::env::var_os(variable) else { continue };
            let failed = "the state of the emperor before us";
            let number = number.to_str().and_then(|number| number.parse().ok()).unwrap_or(-1);
            let file = fd::inherited(number).context("take", failed)?;
            let bytes = world::read_to_end(file).context("read", failed)?;
            let saved = Saved::decode(&bytes, now);
            let saved = saved.ok_or_else(|| Error::new("read", failed, "it is of another version"))?;
            return Ok(Some(Self { saved, trial }));
        }
        Ok(None)
    }
}

/// The program we were started as, for the next one.
pub struct Upgrade {
    /// Where it lies: by the path that it was started by, which may lead to another release by now, and without links.
    places: [CString; 2],
    /// Its words, each with a NUL at the end (proc_pid_cmdline(5)).
    command_line: Vec<u8>,
    origin: Rc<Origin>,
    /// The child that tries, and how long it may.
    trial: Option<(Pid, Instant)>,
}

impl Upgrade {
    /// To be called before the program's file can have been replaced.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn new(origin: Rc<Origin>) -> Result<Self> {
        let here = this_program()?;
        // A descriptor's name is not that of a file (execveat(2)). A relative path stays right: so does our directory.
        let is_file = |path: &OsString| !path.as_bytes().starts_with(b"/dev/fd/");
        let invoked = executed_path().filter(is_file).unwrap_or_else(|| here.clone().into());
        let places = [invoked, here.into()].map(|path| c_string(&path));
        let command_line = world::read_file("/proc/self/cmdline").context("read", "/proc/self/cmdline")?;
        Ok(Self { places, command_line, origin, trial: None })
    }

    /// The program that is to be executed now.
    fn program(&self) -> &CString {
        let [invoked, here] = &self.places;
        if access(invoked, Access::EXISTS).is_ok() { invoked } else { here }
    }

    /// Has a child try whether the program that is there now understands `state`.
    ///
    /// # Errors
    /// It cannot be executed; memfd_create(2), clone(2).
    pub fn try_out(&mut self, state: &[u8], now: Instant) -> Result<()> {
        let state = memory_file(state)?;
        let (argv, envp) = self.strings(VARIABLES[1], &state);
        let (program, mut failed) = (self.program(), None);
        // Nothing is allocated in the child, for which we sleep until it has executed. Nobody stops it meanwhile: it leads a
        // session of its own, where the signals of terminals do nothing.
        let parent = rustix::process::getpid();
        let child = spawn(|| {
            let _ = clone::die_with(parent);
            let _ = fcntl_setfd(&state, FdFlags::empty());
            self.origin.restore();
            failed = Some(exec(program, &argv, &envp));
            1
        });
        let child = child.context("create", "a process")?;
        if let Some(errno) = failed {
            return Err(Error::os("execute", program.to_string_lossy(), errno));
        }
        self.trial = Some((child, now + TRIAL));
        Ok(())
    }

    /// A child has ended. If it is the one that tried: whether we can go on.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus) -> Option<std::result::Result<(), String>> {
        self.trial.take_if(|(trying, _)| *trying == pid)?;
        match status {
            WaitStatus::Exited(UNDERSTOOD) => Some(Ok(())),
            status => Some(Err(format!("{} {status}", self.program().to_string_lossy()))),
        }
    }

    /// When [`Upgrade::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.trial.map(|(_, until)| until)
    }

    /// Ends a child that takes too long; its death is its answer.
    pub fn time(&mut self, now: Instant) {
        if let Some((pid, until)) = &mut self.trial
            && *until <= now
        {
            *until = now + TRIAL;
            let _ = signal::kill(pid.as_raw_nonzero().get(), libc::SIGKILL);
        }
    }

    /// Becomes the new program. Returns only on failure, with everything as it was.
    pub fn exec(&self, state: &[u8], kept: &[i32]) -> Error {
        let file = match memory_file(state) {
            Ok(file) => file,
            Err(error) => return error,
        };
        let (argv, envp) = self.strings(VARIABLES[0], &file);
        // The signals stay blocked: one that comes now is for the new program.
        self.origin.restore_dispositions();
        let all = || kept.iter().copied().chain([file.as_raw_fd()]);
        all().for_each(|number| fd::set_cloexec(number, false));
        let program = self.program();
        let errno = exec(program, &argv, &envp);
        all().for_each(|number| fd::set_cloexec(number, true));
        signal::block_all();
        Error::os("execute", program.to_string_lossy(), errno)
    }

    fn strings(&self, variable: &str, state: &OwnedFd) -> (Strings, Strings) {
        let variable = (variable.into(), state.as_raw_fd().to_string().into());
        let variables = self.origin.environment.iter().chain([&variable]);
        let envp = Strings::environment(variables);
        let words = self.command_line.split_inclusive(|&byte| byte == 0).map(OsStr::from_bytes);
        (Strings::new(words), envp)
    }
}

fn memory_file(state: &[u8]) -> Result<OwnedFd> {
    memfd::sealed("emperor-state", state, Use::Read).context("create", "memory file")
}

/// What is said of an upgrade that does not come about.
pub fn refused(why: &str) -> String {
    format!("upgrade refused: {why}; everything stays as it is")
}
