//! `emperor logs`: what a vassal has written, shown by the tools for its place.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::render::INDENT;
use crate::command;
use crate::error::Error;
use crate::log::push_printable;
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
        let argv = self.argv(places);
        let program = argv.first().copied().unwrap_or_default();
        let path = environment::variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let (words, envp) = (Strings::new(&argv), Strings::inherited_environment());
        let errno = exec_in_path(program, &path, Script::Refused, &words, &envp);
        format!("{}\n", Error::os("execute", program.display(), errno)).into_bytes()
    }

    /// What that program says, below an empty line, each line in a form that is safe for a terminal; nothing
    /// if it does not say it soon.
    pub fn text(&self, places: &[u8]) -> String {
        let said = command::run(OsStr::new("exec timeout 2 \"$0\" \"$@\" 2>&1"), &self.argv(places));
        let (said, _) = said.unwrap_or_default();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&said).lines() {
            text.push_str(if text.is_empty() { "\n" } else { "" });
            text.push_str(INDENT);
            push_printable(&mut text, line);
            text.push('\n');
        }
        text
    }

    /// The program, and what it is told.
    fn argv<'a>(&'a self, places: &'a [u8]) -> Vec<&'a OsStr> {
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
        argv
    }
}
