//! A vassal's file: where it is, and which part of that is the vassal's name.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::text::readable;

/// A path, by which alone it is compared.
#[derive(Debug, Clone)]
pub struct VassalFile {
    path: PathBuf,
    name_at: usize,
}

impl VassalFile {
    /// The file at `path`. Its vassal's name begins at this byte of it: with the file, or, where a pattern
    /// finds files of the same name in several directories, with the first directory that a wildcard stands
    /// for.
    pub fn new(path: PathBuf, name_at: usize) -> Self {
        Self { path, name_at }
    }

    /// Where the name begins.
    pub fn name_at(&self) -> usize {
        self.name_at
    }

    /// The path from there on.
    pub fn id(&self) -> &OsStr {
        let path = self.path.as_os_str().as_bytes();
        OsStr::from_bytes(path.get(self.name_at..).unwrap_or(path))
    }

    /// The vassal's name: that up to the last dot of the file.
    pub fn name(&self) -> &OsStr {
        let id = self.id().as_bytes();
        let suffix = vassal_name(self.file()).len() as isize - self.file().len() as isize;
        let end = id.len().saturating_add_signed(suffix);
        OsStr::from_bytes(id.get(..end).unwrap_or(id))
    }

    /// The name, as log lines show it.
    pub fn shown(&self) -> Cow<'_, str> {
        readable(self.name())
    }

    /// Writes a line about the vassal; use it through [`crate::log_of!`].
    #[inline(never)]
    pub fn log(&self, message: fmt::Arguments<'_>) {
        crate::log::line(&self.shown(), message);
    }

    /// The file's own name.
    pub fn file(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// A file's name up to its last dot, as `%n` has it.
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
