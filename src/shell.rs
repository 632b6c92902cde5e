//! `/bin/sh -c` in a separate process.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::protocol::EXIT_NOT_EXECUTABLE;
use crate::sys::clone::{self, Child, Side, clone3};
use crate::sys::exec::{Strings, c_string, exec};

/// The shell for all commands.
const SHELL: &str = "/bin/sh";

/// One command.
#[derive(Default)]
pub struct Shell<'a> {
    /// The command.
    pub command: &'a OsStr,
    /// Its `$0`, `$1` and so on.
    pub arguments: &'a [&'a OsStr],
    /// Its environment; `None` for that of this program.
    pub environment: Option<Strings>,
    /// Its working directory; `None` for that of this process.
    pub directory: Option<&'a Path>,
    /// Its standard output; `None` for that of this process.
    pub output: Option<BorrowedFd<'a>>,
}

/// The arguments with which a shell runs a command.
pub fn words(command: &OsStr) -> [&OsStr; 3] {
    [OsStr::new(SHELL), OsStr::new("-c"), command]
}

impl Shell<'_> {
    /// Starts the command. It is killed when this process ends, but processes that it has started are not.
    ///
    /// `prepare` runs in the child and must not allocate. It restores signals and makes a process group.
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
                // From here on nothing is allocated.
                let _ = clone::die_with(parent);
                if let Some(directory) = &directory {
                    // If the directory was removed meanwhile, the command runs nevertheless.
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
