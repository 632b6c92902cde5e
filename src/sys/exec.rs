//! `execve(2)` and `execveat(2)` on arguments built before the process was created.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::fs::Access;
use rustix::io::Errno;

use super::clone::last_errno;
use super::environment;

/// A null-terminated array of strings, as exec takes it.
pub struct Strings {
    // Owns the strings that `pointers` points to, each with a NUL behind it.
    strings: Vec<Vec<u8>>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    /// Copies `items`. An item with a NUL inside ends there, as a C program would read it.
    pub fn new<T: AsRef<OsStr>>(items: impl IntoIterator<Item = T>) -> Self {
        let mut all = Self { strings: Vec::new(), pointers: Vec::new() };
        items.into_iter().for_each(|item| all.push(&[item.as_ref().as_bytes(), b"\0"]));
        all.pointers.push(ptr::null());
        all
    }

    fn push(&mut self, parts: &[&[u8]]) {
        let string = parts.concat();
        self.pointers.push(string.as_ptr().cast());
        self.strings.push(string);
    }

    /// The environment that this process was started with.
    pub fn inherited_environment() -> Self {
        let mut new = Self { strings: Vec::new(), pointers: Vec::new() };
        for entry in environment::entries() {
            new.pointers.push(entry.as_ptr());
        }
        new.pointers.push(ptr::null());
        new
    }

    /// An environment block, `NAME=value` each.
    pub fn environment<'a>(variables: impl IntoIterator<Item = &'a (OsString, OsString)>) -> Self {
        let mut all = Self { strings: Vec::new(), pointers: Vec::new() };
        for (name, value) in variables {
            all.push(&[name.as_bytes(), b"=", value.as_bytes(), b"\0"]);
        }
        all.pointers.push(ptr::null());
        all
    }
}

/// Replaces the program of the calling process by the file at `path`; returns only on failure.
///
/// Nothing is allocated. Paths are not searched for: see [`exec_in_path`].
pub fn exec(path: &CStr, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: path is null-terminated, both arrays end with a null pointer and point to live strings.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    last_errno()
}

/// Replaces the program by the file that `fd` refers to (AT_EMPTY_PATH); returns only on failure.
pub fn exec_fd(fd: impl AsFd, argv: &Strings, envp: &Strings) -> Errno {
    // SAFETY: as for `exec`, with a live descriptor and an empty path.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

/// What happens with an executable file that the kernel does not know as a program: a script without `#!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// It is an error (ENOEXEC).
    Refused,
    /// `/bin/sh` runs it, as in execvp(3).
    ForShell,
}

/// Replaces the program by `program`, which is searched for in the directories of `path` unless it contains a
/// slash. Returns only on failure: EACCES if a file was found that may not be executed, else the last error.
pub fn exec_in_path(program: &OsStr, path: &OsStr, script: Script, argv: &Strings, envp: &Strings) -> Errno {
    let exec = |file: &CString| match exec(file, argv, envp) {
        Errno::NOEXEC if script == Script::ForShell => exec_by_shell(file, argv, envp),
        errno => errno,
    };
    if program.is_empty() {
        return Errno::NOENT;
    }
    if program.as_bytes().contains(&b'/') {
        return exec(&c_string(program));
    }
    let mut result = Errno::NOENT;
    for directory in path.as_bytes().split(|&byte| byte == b':') {
        let mut file = if directory.is_empty() { b".".to_vec() } else { directory.to_vec() };
        file.push(b'/');
        file.extend_from_slice(program.as_bytes());
        let file = c_string(OsStr::from_bytes(&file));
        match exec(&file) {
            Errno::NOENT | Errno::NOTDIR => {}
            // The error is the same for a directory that may not be searched, in which nothing can be found.
            Errno::ACCESS if rustix::fs::access(&file, Access::EXISTS).is_ok() => result = Errno::ACCESS,
            Errno::ACCESS => {}
            other => return other,
        }
    }
    result
}

fn exec_by_shell(file: &CString, argv: &Strings, envp: &Strings) -> Errno {
    const SHELL: &CStr = c"/bin/sh";
    let arguments = argv.pointers.iter().skip(1).copied();
    let pointers = [SHELL.as_ptr(), file.as_ptr()].into_iter().chain(arguments).collect();
    let argv = Strings { strings: Vec::new(), pointers };
    exec(SHELL, &argv, envp)
}

/// `text` up to its first NUL, as a C program would read it.
pub fn c_string(text: &OsStr) -> CString {
    let bytes = text.as_bytes().split(|&byte| byte == 0).next().unwrap_or_default();
    CString::new(bytes).unwrap_or_default()
}
