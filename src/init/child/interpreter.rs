//! Finds what is to blame when a program cannot be executed. execve(2) has the same error for the program
//! itself, for the interpreter in its first line, for the loader of a dynamic program, and for a directory on
//! the way to one of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags, access, openat, readlink, stat};
use rustix::io::{Errno, pread};
use rustix::process::geteuid;

/// The first bytes of a program: the kernel reads 256 of them for the first line, and the program headers of
/// a dynamic program usually end before this.
const HEAD: usize = 1024;

/// The longest name of a loader.
const NAME_MAX: usize = 256;

/// How many symbolic links are followed, as many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The file by which the program is executed and which is missing: its kind and its path.
pub fn culprit(program: &OsStr, path: &OsStr) -> Option<(&'static str, OsString)> {
    let (what, name) = named_in(&found(program, path)?)?;
    let can_be = access(name.as_slice(), Access::EXEC_OK).is_ok();
    (!can_be).then(|| (what, OsString::from_vec(name)))
}

/// Opens and reads what the kernel opens and reads in order to execute a program. Waits as long as that
/// would.
pub fn look(program: &OsStr, path: &OsStr) {
    let by = found(program, path).and_then(|file| named_in(&file));
    by.and_then(|(_, name)| named_in(OsStr::from_bytes(&name)));
}

/// Why this user is refused at `path` (EACCES): the first directory on the way, it included, or behind a
/// symbolic link on the way, that the user may not search; else the mode of what is there.
pub fn refusal(path: &Path) -> Option<String> {
    let user = geteuid();
    if let Some(closed) = closed_directory(path) {
        return Some(format!("user {user} may not search {}", closed.display()));
    }
    let there = stat(path).ok()?;
    Some(format!("for user {user}, the mode of {} is {:o}", path.display(), there.st_mode & 0o7777))
}

fn closed_directory(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let parts: Vec<_> = path.ancestors().collect();
        let closed = |part: &&&Path| stat(part.join(".")).err() == Some(Errno::ACCESS);
        let first = parts.iter().rev().find(closed)?;
        let Ok(link) = readlink(*first, Vec::new()) else { return Some(first.to_path_buf()) };
        path = first.parent()?.join(OsString::from_vec(link.into_bytes()));
    }
    None
}

/// The path that was to be executed.
pub fn found(program: &OsStr, path: &OsStr) -> Option<OsString> {
    if program.as_bytes().contains(&b'/') {
        return Some(program.to_owned());
    }
    path.as_bytes().split(|&byte| byte == b':').find_map(|directory| {
        let file = OsString::from_vec([directory, b"/", program.as_bytes()].concat());
        access(file.as_os_str(), Access::EXISTS).ok().map(|()| file)
    })
}

/// The kind and the path of the file that executes another file.
fn named_in(file: &OsStr) -> Option<(&'static str, Vec<u8>)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(CWD, file, flags, Mode::empty()).ok()?;
    let mut head = [0; HEAD];
    let length = pread(&file, &mut head, 0).ok()?;
    let head = head.get(..length)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next()?;
        let mut words = line.split(|byte| b" \t\0".contains(byte)).filter(|word| !word.is_empty());
        return Some(("interpreter", words.next()?.to_vec()));
    }
    let (offset, size) = loader_in(head)?;
    let mut name = [0; NAME_MAX];
    let name = name.get_mut(..size.min(NAME_MAX))?;
    let length = pread(&file, &mut *name, offset).ok()?;
    let name = name.get(..length)?.split(|&byte| byte == 0).next()?;
    Some(("loader", name.to_vec()))
}

/// The offset and the length of the loader's name in a dynamic program (ELF, 64 bits; elf(5), PT_INTERP).
fn loader_in(head: &[u8]) -> Option<(u64, usize)> {
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let parts = (0..count).map_while(|part| usize::try_from(table.checked_add(part * size)?).ok());
    let mut loaders = parts.take_while(|at| *at < head.len()).filter(|at| number(*at, 4) == Some(3));
    let at = loaders.next()?;
    Some((number(at.checked_add(8)?, 8)?, usize::try_from(number(at.checked_add(32)?, 8)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn names_what_executes_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let culprit_of = |content: &[u8]| {
            fs::write(directory.join("program"), content).unwrap();
            let path = OsString::from_vec([b"/nonexistent:", directory.as_os_str().as_bytes()].concat());
            culprit(OsStr::new("program"), &path)
        };
        let interpreter = |name: &str| Some(("interpreter", OsString::from(name)));
        assert_eq!(culprit_of(b"#!/nonexistent/x -e\n"), interpreter("/nonexistent/x"));
        assert_eq!(culprit_of(b"#! /bin/sh\r\necho"), interpreter("/bin/sh\r"));
        assert_eq!(culprit_of(b"#!/etc/passwd"), interpreter("/etc/passwd"), "it is no program");
        for content in [&b"#!/bin/sh\n"[..], b"#!", b"#!\n", b"", b"\x7fELF\x02\x01", b"text"] {
            assert_eq!(culprit_of(content), None, "{content:?}");
        }
        let mut program = fs::read("/proc/self/exe").unwrap();
        program.truncate(1 << 16);
        assert_eq!(culprit_of(&program), None, "its loader is there");
        let (at, _) = loader_in(program.get(..HEAD).unwrap()).unwrap();
        program[at as usize + 1] = b'X';
        let (what, name) = culprit_of(&program).unwrap();
        assert!(what == "loader" && name.to_str().unwrap().starts_with("/X"));
    }
}
