//! `emperor logs`: what a vassal has written, shown by the tools for its place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::error::Error;
use crate::sys::environment;
use crate::sys::exec::{Script, Strings, exec_in_path};

/// How to show it.
pub(super) struct Logs {
    /// How many of the last lines.
    pub lines: OsString,
    /// Whether to go on with those that are still to come.
    pub follows: bool,
}

impl Default for Logs {
    fn default() -> Self {
        Self { lines: "100".into(), follows: false }
    }
}

impl Logs {
    /// Becomes the program that shows what a vassal has written to these places, one in a line, of which one
    /// at least can be shown. Returns the reason if there is no such program.
    pub fn show(&self, places: &[u8]) -> Vec<u8> {
        let mut files = Vec::new();
        let mut journal = None;
        for place in places.split(|&byte| byte == b'\n') {
            if let Some(file) = place.strip_prefix(b"file:") {
                files.push(OsStr::from_bytes(file));
            } else if let Some(identifier) = place.strip_prefix(b"journal:") {
                journal = Some(OsStr::from_bytes(identifier));
            }
        }
        let mut argv = vec![OsStr::new(if files.is_empty() { "journalctl" } else { "tail" })];
        argv.extend([OsStr::new("-n"), &self.lines]);
        argv.extend(self.follows.then_some(OsStr::new(if files.is_empty() { "-f" } else { "-F" })));
        argv.extend(
            journal.filter(|_| files.is_empty()).into_iter().flat_map(|name| [OsStr::new("-t"), name]),
        );
        argv.extend(files);
        let program = argv.first().copied().unwrap_or_default();
        let path = environment::variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let (words, envp) = (Strings::new(&argv), Strings::inherited_environment());
        let errno = exec_in_path(program, &path, Script::Refused, &words, &envp);
        format!("{}\n", Error::os("execute", program.display(), errno)).into_bytes()
    }
}
