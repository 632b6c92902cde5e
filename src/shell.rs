//! `/bin/sh -c`: a command in a process of its own.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::protocol::EXIT_NOT_EXECUTABLE;
use crate::sys::clone::{self, Child, Side, clone3};
use crate::sys::exec::{Strings, c_string, exec};

/// The shell of all commands.
const SHELL: &str = "/bin/sh";

/// One command.
#[derive(Default)]
pub struct Shell<'a> {
    /// What the shell is to do.
    pub command: &'a OsStr,
    /// Its `$0`, `$1` and so on.
    pub arguments: &'a [&'a OsStr],
    /// Its environment; `None` for the one that this program was started with.
    pub environment: Option<Strings>,
    /// Where it runs; `None` for where this process does.
    pub directory: Option<&'a Path>,
    /// Its standard output; `None` for ours.
    pub output: Option<BorrowedFd<'a>>,
}

/// The words by which a shell runs a command.
pub fn words(command: &OsStr) -> [&OsStr; 3] {
    [OsStr::new(SHELL), OsStr::new("-c"), command]
}

impl Shell<'_> {
    /// Starts the command. It is killed when this process ends; processes that it has started are not.
    ///
    /// `prepare` is run in the child, and must not allocate: it restores signals and makes a process group.
    ///
    /// # Errors
    /// As [`clone3`].
    pub fn start(&self, prepare: impl FnOnce()) -> rustix::io::Result<Child> {
        let shell = c_string(SHELL.as_ref());
        let argv = Strings::new(words(self.command).iter().chain(self.arguments));
        let inherited = self.environment.is_none().then(Strings::inherited_environment);
        let environment = self.environment.as_ref().or(inherited.as_ref());
        let directory = self.directory.map(|directory| c_string(directory.as_os_str()));
        let parent = rustix::process::getpid();
        match clone3(0)? {
            Side::Parent(child) => Ok(child),
            Side::Child => {
                // Nothing is allocated here.
                let _ = clone::die_with(parent);
                if let Some(directory) = &directory {
                    // A directory that has been removed meanwhile is no reason to fail.
                    let _ = rustix::process::chdir(directory);
                }
                prepare();
                let has_output = self.output.is_none_or(|output| rustix::stdio::dup2_stdout(output).is_ok());
                if let (true, Some(environment)) = (has_output, environment) {
                    exec(&shell, &argv, environment);
                }
                clone::exit(EXIT_NOT_EXECUTABLE)
            }
        }
    }
}
