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
        let (mut files, mut journal) = (Vec::new(), OsStr::new(""));
        for place in places.split(|&byte| byte == b'\n') {
            if let Some(file) = place.strip_prefix(b"file:") {
                files.push(OsStr::from_bytes(file));
            } else if let Some(identifier) = place.strip_prefix(b"journal:") {
                journal = OsStr::from_bytes(identifier);
            }
        }
        let [program, follow] = if files.is_empty() { ["journalctl", "-f"] } else { ["tail", "-F"] };
        let mut argv = vec![OsStr::new(program), OsStr::new("-n"), &self.lines];
        if self.follows {
            argv.push(OsStr::new(follow));
        }
        if files.is_empty() {
            files = vec![OsStr::new("-t"), journal];
        }
        argv.append(&mut files);
        let program = OsStr::new(program);
        let path = environment::variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let (words, envp) = (Strings::new(&argv), Strings::inherited_environment());
        let errno = exec_in_path(program, &path, Script::Refused, &words, &envp);
        format!("{}\n", Error::os("execute", program.display(), errno)).into_bytes()
    }
}
