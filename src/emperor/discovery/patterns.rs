//! Patterns (`glob://`): the directories that a pattern concerns, and which names in them.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::language::glob;
use crate::config::plan::Source;
use crate::error::{Context, Error, Result};

/// How many names are looked at for one user in a scan.
const NAMES_MAX: usize = 100_000;
/// How many more names a matching one counts as, because its file is looked at, too; and how many a directory
/// does.
const FOUND: usize = 9;
const DIRECTORY: usize = 50;
/// How many changes of files that users may write are reported for one user in a scan: the emperor's work for
/// one is at the cost of all.
pub const CHANGES_MAX: usize = 100;

/// The rest of the work for one scan. All directories below one that a wildcard stands for share it, because
/// they may belong to one user. Any other directory has its own.
#[derive(Debug, Default)]
pub struct Allowance {
    /// The directory that it is for.
    pub whose: PathBuf,
    left: Cell<usize>,
    /// How many more changes may be reported. The next scan finds the rest.
    pub changes: Cell<usize>,
    /// Whether it was logged that nothing is left.
    pub is_told: Cell<bool>,
}

impl Allowance {
    /// The allowance of a directory of a source, for one scan that may report `changes` changes. In its
    /// files' paths the names of vassals begin at the byte `names_at`.
    pub fn of(directory: &Path, names_at: usize, changes: usize) -> Self {
        let new = Self { whose: whose(directory, names_at).to_owned(), ..Self::default() };
        new.renew(changes);
        new
    }

    /// Whether it also applies to this directory.
    pub fn is_for(&self, directory: &Path, names_at: usize) -> bool {
        self.whose == whose(directory, names_at)
    }

    /// Resets it for another scan, which may report so many changes.
    pub fn renew(&self, changes: usize) {
        self.left.set(NAMES_MAX + 2 * DIRECTORY);
        self.changes.set(changes);
    }

    /// Counts a directory.
    pub fn take_directory(&self) {
        self.left.set(self.left.get().saturating_sub(DIRECTORY));
    }

    /// Counts a name. One that matches counts more.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn take(&self, is_found: bool) -> Result<()> {
        self.left.set(self.left.get().saturating_sub(if is_found { FOUND } else { 1 }));
        match self.is_spent() {
            true => Err(Error::new("read directory", self.whose.display(), "it holds too many names")),
            false => Ok(()),
        }
    }

    /// Whether nothing is left.
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }
}

fn whose(directory: &Path, names_at: usize) -> &Path {
    let path = directory.as_os_str().as_bytes();
    let next = path.iter().skip(names_at).position(|&byte| byte == b'/');
    Path::new(OsStr::from_bytes(next.and_then(|at| path.get(..names_at + at)).unwrap_or(path)))
}

/// Which names of a directory count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Every one.
    All,
    /// Those that match this pattern.
    Matching(OsString),
    /// None: the pattern continues in the subdirectories.
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
    /// The byte of the files' paths at which the names of vassals begin.
    pub names_at: usize,
    /// The directories.
    pub all: Vec<Place>,
    /// The directories that exist and cannot be read, with the errors. Known files below them stay.
    pub unread: Vec<(PathBuf, Error)>,
}

/// A directory of a source.
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// Which of its names count.
    pub wanted: Wanted,
}

/// The directories that a pattern concerns: those with its files; and, where it has wildcards, the
/// directories above them, in which others can appear. The names of vassals begin with the first part of the
/// paths that differs. `answers` says whether a directory can be looked at, with the byte at which that part
/// of its path begins.
pub fn places(pattern: &Path, answers: &mut dyn FnMut(&Path, usize) -> bool) -> Places {
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
        let mut allowance = Allowance::default();
        for path in reached {
            let names_at = *names_at.get_or_insert(below(&path));
            if !allowance.is_for(&path, names_at) {
                allowance = Allowance::of(&path, names_at, 0);
            }
            allowance.take_directory();
            if !answers(&path, names_at) {
                unread.push(silent(path));
                continue;
            }
            match matching(&path, part, &allowance) {
                Ok(found) => next.extend(found),
                Err(error) => {
                    let whose = if allowance.is_spent() { &allowance.whose } else { &path };
                    let missed = (whose.clone(), error);
                    if unread.last() != Some(&missed) {
                        unread.push(missed);
                    }
                }
            }
            all.push(Place { path, wanted: Wanted::Below });
        }
        reached = next;
    }
    all.extend(reached.into_iter().map(|path| Place { path, wanted: Wanted::Matching(file.clone()) }));
    // A directory that a wildcard stands for may lack the rest of the path. A directory that is written out
    // is missed.
    if let Some(names_at) = names_at {
        all.retain(|place: &Place| {
            let answers = answers(&place.path, names_at);
            if !answers {
                unread.push(silent(place.path.clone()));
            }
            answers && is_directory(&place.path)
        });
    }
    let names_at = names_at.unwrap_or_else(|| below(pattern.parent().unwrap_or(pattern)));
    Places { names_at, all, unread }
}

/// The beginning of a source's path, which all files of the source share.
pub fn fixed_part(source: &Source) -> &Path {
    let is_wild = |part: &&Path| glob::has_wildcard(part.as_os_str().as_bytes());
    match source {
        Source::Directory(path) => path,
        Source::Pattern(path) => path.ancestors().skip(1).find(|part| !is_wild(part)).unwrap_or(path),
    }
}

/// Whether a source would find this file.
pub fn covers(source: &Source, file: &Path) -> bool {
    match source {
        Source::Directory(directory) => file.parent() == Some(directory),
        Source::Pattern(pattern) => {
            let matches = |(pattern, name): (Component<'_>, Component<'_>)| {
                glob::matches(pattern.as_os_str().as_bytes(), name.as_os_str().as_bytes())
            };
            pattern.components().count() == file.components().count()
                && pattern.components().zip(file.components()).all(matches)
        }
    }
}

/// The byte at which the file's name begins in the path of a file in a directory.
pub fn below(directory: &Path) -> usize {
    directory.join("x").as_os_str().len() - 1
}

/// A directory that does not answer.
fn silent(path: PathBuf) -> (PathBuf, Error) {
    let error = Error::os("read directory", path.display(), Errno::TIMEDOUT);
    (path, error)
}

/// The paths of the matching names in a directory, whatever type of file they are.
///
/// # Errors
/// open(2), getdents(2), or too many names. A directory that does not exist has none.
fn matching(path: &Path, pattern: &OsStr, allowance: &Allowance) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let failed = || path.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(found),
        fd => fd.context("open directory", failed())?,
    };
    for entry in Dir::read_from(&fd).context("read directory", failed())? {
        let entry = entry.context("read directory", failed())?;
        allowance.take(false)?;
        let name = entry.file_name().to_bytes();
        let dots = name == b"." || name == b"..";
        if !dots && glob::matches(pattern.as_bytes(), name) {
            allowance.take(true)?;
            found.push(path.join(OsStr::from_bytes(name)));
        }
    }
    Ok(found)
}

/// Whether a path is a directory, or may be one. A path that cannot be looked at must not end the vassals
/// below it.
fn is_directory(path: &Path) -> bool {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::TYPE) {
        Ok(status) => FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory,
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG),
    }
}
