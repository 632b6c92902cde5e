//! The file of a vassal: its path, and which part of the path is the vassal's name.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::text::{hash, readable};

/// The file of a vassal. Two are equal if their paths are.
#[derive(Debug, Clone)]
pub struct VassalFile {
    path: Box<Path>,
    name_at: usize,
}

impl VassalFile {
    /// The file at `path`. The vassal's name begins at the byte `name_at` of the path. That is the name of
    /// the file; or, if a pattern can match files of the same name in several directories, the first
    /// directory that a wildcard stands for.
    pub fn new(path: PathBuf, name_at: usize) -> Self {
        Self { path: path.into(), name_at }
    }

    /// The file of this name in the same directory.
    pub fn beside(&self, name: &OsStr) -> Self {
        Self::new(self.path.with_file_name(name), self.name_at)
    }

    /// The byte of the path at which the vassal's name begins.
    pub fn name_at(&self) -> usize {
        self.name_at
    }

    /// A pseudo-random number, which differs between files and rounds, and is the same for the same file and
    /// round.
    pub fn chance(&self, round: u32) -> u32 {
        let bytes = self.path.as_os_str().as_bytes().iter().copied().chain(round.to_le_bytes());
        (hash(bytes) >> 32) as u32
    }

    /// The path from the beginning of the vassal's name.
    pub fn id(&self) -> &OsStr {
        let path = self.path.as_os_str().as_bytes();
        OsStr::from_bytes(path.get(self.name_at..).unwrap_or(path))
    }

    /// The vassal's name: the [id](Self::id) without the suffix of the file.
    pub fn name(&self) -> &OsStr {
        let id = self.id().as_bytes();
        let suffix = vassal_name(self.file()).len() as isize - self.file().len() as isize;
        let end = id.len().saturating_add_signed(suffix);
        OsStr::from_bytes(id.get(..end).unwrap_or(id))
    }

    /// The vassal's name, as log lines show it.
    pub fn shown(&self) -> Cow<'_, str> {
        readable(self.name())
    }

    /// The name of the file, without its directory.
    pub fn file(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// A vassal's name turned into a single file name, for a directory that has one file for each vassal.
pub fn as_file_name(vassal: &OsStr) -> Vec<u8> {
    let mut name = Vec::new();
    for &byte in vassal.as_bytes() {
        match byte {
            b'/' => name.extend(b"%2f"),
            b'%' => name.extend(b"%25"),
            // The kernel refuses a line break in the name of a cgroup.
            b'\n' => name.extend(b"%0a"),
            _ => name.push(byte),
        }
    }
    name
}

/// The name of a file up to its last dot, as in `%n`.
pub fn vassal_name(file: &OsStr) -> &OsStr {
    let file = file.as_bytes();
    OsStr::from_bytes(
        file.iter().rposition(|&byte| byte == b'.').and_then(|dot| file.get(..dot)).unwrap_or(file),
    )
}

impl Deref for VassalFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl PartialEq for VassalFile {
    fn eq(&self, other: &Self) -> bool {
        self.path.as_os_str() == other.path.as_os_str()
    }
}

impl Eq for VassalFile {}

impl PartialOrd for VassalFile {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VassalFile {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path.as_os_str().cmp(other.path.as_os_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_before_the_suffix_of_the_file() {
        for (path, name_at, name) in [
            ("/v/app.ini", 3, "app"),
            ("/v/one.d/app", 3, "one.d/app"),
            ("/v/one/app.001.ini", 3, "one/app.001"),
            ("/a.ini", 1, "a"),
            ("/v/x.ini", 99, "/v/x"),
        ] {
            assert_eq!(VassalFile::new(path.into(), name_at).name(), name);
        }
        assert_eq!(vassal_name(OsStr::new("a.vassal")), "a");
    }
}
