//! Patterns (`glob://`): which directories they concern, and which names in those.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::language::glob;
use crate::error::{Context, Error, Result};

/// More names than this in one directory are not looked at: below a wildcard it may be a user's.
const MATCHES_MAX: usize = 10_000;
/// Nor is a directory with more names than this, whatever they are.
pub const NAMES_MAX: usize = 100_000;

/// Which names of a directory count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every one.
    All,
    /// Those that match this pattern.
    Matching(OsString),
    /// None: a pattern goes on in its subdirectories.
    Below,
}

impl Wanted {
    /// Whether a name counts.
    pub fn includes(&self, name: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::Matching(pattern) => glob::matches(pattern.as_bytes(), name.as_bytes()),
            Self::Below => false,
        }
    }
}

/// The directories of a source.
pub struct Places {
    /// Where in the paths of files the names of vassals begin.
    pub names_at: usize,
    /// All of them.
    pub all: Vec<Place>,
    /// The directories that are there but cannot be read, and why. What is known to be below them stays.
    pub unread: Vec<(PathBuf, Error)>,
}

/// A directory of a source.
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Which of its names count.
    pub wanted: Wanted,
}

/// The directories that a pattern concerns: those with its files, and those on the way to them where it has
/// wildcards, since other directories can appear there. The names of vassals begin with the first part of the
/// paths that is not the same for all.
pub fn places(pattern: &Path) -> Places {
    let file = pattern.file_name().unwrap_or_default().to_owned();
    let (mut all, mut unread) = (Vec::new(), Vec::new());
    let mut reached = vec![PathBuf::new()];
    let mut names_at = None;
    for part in pattern.parent().into_iter().flat_map(Path::components) {
        let part = part.as_os_str();
        if !glob::has_wildcard(part.as_bytes()) {
            reached.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for path in reached {
            names_at.get_or_insert(below(&path));
            match matching(&path, part) {
                Ok(found) => next.extend(found),
                Err(error) => unread.push((path.clone(), error)),
            }
            all.push(Place { path, wanted: Wanted::Below });
        }
        reached = next;
    }
    all.extend(reached.into_iter().map(|path| Place { path, wanted: Wanted::Matching(file.clone()) }));
    // A directory that a wildcard stands for may lack the rest of the path. One that is written out in full
    // is missed.
    if names_at.is_some() {
        all.retain(|place| is_directory(&place.path));
    }
    let names_at = names_at.unwrap_or_else(|| below(pattern.parent().unwrap_or(pattern)));
    Places { names_at, all, unread }
}

/// Where in the path of a file in a directory its name begins.
pub fn below(directory: &Path) -> usize {
    directory.join("x").as_os_str().len() - 1
}

/// The paths of the names in a directory that match, whatever they are.
///
/// # Errors
/// open(2), getdents(2), or too many names; a directory that is not there has none.
fn matching(path: &Path, pattern: &OsStr) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let failed = || path.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(found),
        fd => fd.context("open directory", failed())?,
    };
    for (index, entry) in Dir::read_from(&fd).context("read directory", failed())?.enumerate() {
        let entry = entry.context("read directory", failed())?;
        let name = entry.file_name().to_bytes();
        let dots = name == b"." || name == b"..";
        if !dots && glob::matches(pattern.as_bytes(), name) {
            found.push(path.join(OsStr::from_bytes(name)));
        }
        if index > NAMES_MAX || found.len() > MATCHES_MAX {
            return Err(Error::new("read directory", failed(), "it holds too many names"));
        }
    }
    Ok(found)
}

/// Whether a path is that of a directory, or may be: one that cannot be looked at is no reason to end its
/// vassals.
fn is_directory(path: &Path) -> bool {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::TYPE) {
        Ok(status) => FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory,
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG),
    }
}
