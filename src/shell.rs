//! `/bin/sh -c` in a separate process.

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::names;
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

/// The words of a command that a shell would only split at blanks, to execute without one; none if it has to
/// do more. It takes half as long as the start of a small program.
pub fn plain_words(command: &OsStr) -> Vec<&OsStr> {
    /// What a shell does itself, or as a program of that name does not.
    const ITS_OWN: &str = "alias bg break case cd command continue do done echo elif else esac eval exec \
        exit export fc fg fi for function getopts hash if in jobs kill let local printf pwd read readonly \
        return set shift test then time times trap type ulimit umask unalias unset until wait while";
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" /._-,:+@%=".contains(byte);
    let words = command.as_bytes().split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(OsStr::from_bytes).collect();
    let first = words.first().map_or(&b"="[..], |word| word.as_bytes());
    // A word with `=` in front of the others is a variable, and `.` and `:` are commands.
    let is_other = first.contains(&b'=') || matches!(first, b"." | b":") || names::contains(ITS_OWN, first);
    if is_other || !command.as_bytes().iter().all(is_plain) { Vec::new() } else { words }
}

impl Shell<'_> {
    /// Starts the command. It is killed when this process ends, but processes that it has started are not.
    ///
    /// `prepare` runs in the child and must not allocate. It restores signals and makes a process group.
    ///
    /// # Errors
    /// As [`clone3`].
    pub fn start(&self, prepare: &dyn Fn()) -> rustix::io::Result<Child> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_just_split_is_plain() {
        for (command, count) in [
            ("fuse-zip -r /var/www/app.zip /app", 4),
            ("  /usr/bin/install  -d -o user001 /run/a", 5),
            ("mount -o size=1m,mode=755 tmpfs /a", 5),
            ("prog a:b +x user@host 50%", 5),
        ] {
            assert_eq!(plain_words(OsStr::new(command)).len(), count, "{command}");
        }
        for command in [
            "",
            " ",
            "cd /app",
            "exit 3",
            "A=1 prog",
            ". /x",
            ": x",
            "[ -e x ]",
            "! prog",
            "echo a",
            "a;b",
            "a&",
            "a|b",
            "a>b",
            "a<b",
            "$A",
            "`a`",
            "a*",
            "a?",
            "~/a",
            "\"a\"",
            "'a'",
            "a\\b",
            "(a)",
            "{ a",
            "a\tb",
            "a\nb",
            "a # b",
            "if x",
            "caf\u{e9}",
        ] {
            assert_eq!(plain_words(OsStr::new(command)), [""; 0], "{command}");
        }
    }
}
