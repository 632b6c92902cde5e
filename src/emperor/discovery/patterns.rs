//! Patterns (`glob://`): which directories they concern, and which names in those.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::language::glob;
use crate::error::{Context, Error, Result};

/// More directories than this are not looked at for one pattern.
const MATCHES_MAX: usize = 10_000;

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

/// The directories that a pattern concerns, and which of their names: those with its files, and those on the
/// way to them where it has wildcards, since other ones can appear there. And where in the paths the names of
/// vassals begin: with the first part that is not the same for all.
///
/// # Errors
/// A directory on the way that is there but cannot be read; or there are too many.
pub fn places(pattern: &Path) -> Result<(usize, Vec<(PathBuf, Wanted)>)> {
    let file = pattern.file_name().unwrap_or_default().to_owned();
    let mut places = Vec::new();
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
            subdirectories(&path, part, &mut next)?;
            places.push((path, Wanted::Below));
        }
        reached = next;
    }
    places.extend(reached.into_iter().map(|path| (path, Wanted::Matching(file.clone()))));
    // What a wildcard has led to may lack the rest of the path; a directory that is written out is missed.
    if names_at.is_some() {
        places.retain(|(path, _)| is_directory(path));
    }
    if places.len() > MATCHES_MAX {
        let reason = format!("more than {MATCHES_MAX} directories match");
        return Err(Error::new("expand", pattern.display(), reason));
    }
    Ok((names_at.unwrap_or_else(|| below(pattern.parent().unwrap_or(pattern))), places))
}

/// Where in the path of something in a directory its name begins.
pub fn below(directory: &Path) -> usize {
    directory.join("x").as_os_str().len() - 1
}

/// Adds the subdirectories, or links to some, whose names match; other files as well.
///
/// # Errors
/// open(2), getdents(2); a directory that is not there has none.
fn subdirectories(path: &Path, pattern: &OsStr, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || path.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        fd => fd.context("open directory", failed())?,
    };
    for entry in Dir::read_from(&fd).context("read directory", failed())? {
        let entry = entry.context("read directory", failed())?;
        let name = entry.file_name().to_bytes();
        let dots = name == b"." || name == b"..";
        if !dots && glob::matches(pattern.as_bytes(), name) && found.len() <= MATCHES_MAX {
            found.push(path.join(OsStr::from_bytes(name)));
        }
    }
    Ok(())
}

/// Whether it is one, as far as can be known: one that cannot be looked at is no reason to end its vassals.
fn is_directory(path: &Path) -> bool {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::TYPE) {
        Ok(status) => FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory,
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG),
    }
}
