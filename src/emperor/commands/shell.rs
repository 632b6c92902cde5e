//! Commands of the emperor's own configuration: processes of `/bin/sh`, in our own namespaces.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::Pid;

use crate::emperor::instance::origin::Origin;
use crate::error::{Context, Result};
use crate::protocol::EXIT_NOT_EXECUTABLE;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Strings, c_string, exec};
use crate::sys::signal::kill;

/// One command.
pub struct Shell<'a> {
    /// What the shell is to do.
    pub command: &'a OsStr,
    /// Its `$1`.
    pub argument: Option<&'a OsStr>,
    /// Variables besides the environment that we were started with.
    pub variables: &'a [(OsString, OsString)],
    /// Where it runs, if not where we do.
    pub directory: Option<&'a Path>,
    /// Its standard output, if not ours.
    pub output: Option<&'a OwnedFd>,
}

impl Shell<'_> {
    /// Begins it, in a process group of its own. If we are killed it goes too; what it has started, does not.
    ///
    /// # Errors
    /// There is no process to be had.
    pub fn start(&self, origin: &Origin) -> Result<Pid> {
        let shell = c"/bin/sh".to_owned();
        let words = [OsStr::new("/bin/sh"), OsStr::new("-c"), self.command];
        // What follows the command is its `$0` and `$1`.
        let argument = self.argument.map(|argument| [OsStr::new("sh"), argument]);
        let argv = Strings::new(words.into_iter().chain(argument.into_iter().flatten()));
        // An emperor may itself have been started by such a command.
        let ours = |name: &OsString| self.variables.iter().any(|(our, _)| our == name);
        let inherited = origin.environment.iter().filter(|(name, _)| !ours(name));
        let variables = inherited.chain(self.variables);
        let envp = Strings::environment(variables);
        let directory = self.directory.map(|directory| c_string(directory.as_os_str()));
        let parent = rustix::process::getpid();
        match clone3(0).context("start", "/bin/sh")? {
            Side::Parent(child) => Ok(child.pid),
            Side::Child => {
                // Nothing is allocated here.
                let _ = clone::die_with(parent);
                if let Some(directory) = &directory {
                    // One that went away in between is no reason to fail.
                    let _ = rustix::process::chdir(directory);
                }
                origin.restore();
                if self.output.is_none_or(|output| rustix::stdio::dup2_stdout(output).is_ok()) {
                    exec(&shell, &argv, &envp);
                }
                clone::exit(EXIT_NOT_EXECUTABLE)
            }
        }
    }
}

/// SIGKILL for a command and what it has started. Not reaped yet, so the pid is still its own.
pub fn kill_group(pid: Pid) {
    let pid = pid.as_raw_pid();
    // One that was created just now may not lead its group yet.
    let _ = kill(pid, libc::SIGKILL);
    let _ = kill(-pid, libc::SIGKILL);
}
