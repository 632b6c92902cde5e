//! Patterns (`glob://`): which directories they concern, and which names in those.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use crate::config::language::glob;
use crate::config::plan::Source;
use crate::error::{Context, Error, Result};

/// So many names are looked at for one user in a look.
const NAMES_MAX: usize = 100_000;
/// Further names that one counts as that was found, as the file is looked at, too; and a directory.
const FOUND: usize = 9;
const DIRECTORY: usize = 50;
/// So many changes of files that users may write are told of one user in a look: what they cost the emperor
/// costs all others.
pub const CHANGES_MAX: usize = 100;

/// What is left to look at in one look: in all directories together below one that a wildcard stands for, as
/// they may be a user's, and in any other directory alone.
#[derive(Debug, Default)]
pub struct Allowance {
    /// The directory that it is for.
    pub whose: PathBuf,
    left: Cell<usize>,
    /// How many changes are left to tell; those behind them are found by the next look.
    pub changes: Cell<usize>,
    /// Whether it was told that nothing was left.
    pub is_told: Cell<bool>,
}

impl Allowance {
    /// That of a directory of a source where the names of vassals begin at the byte `names_at`; for one look,
    /// which may tell of so many changes.
    pub fn of(directory: &Path, names_at: usize, changes: usize) -> Self {
        let new = Self { whose: whose(directory, names_at).to_owned(), ..Self::default() };
        new.renew(changes);
        new
    }

    /// Whether it is also that of this directory.
    pub fn is_for(&self, directory: &Path, names_at: usize) -> bool {
        self.whose == whose(directory, names_at)
    }

    /// For another look, which may tell of so many changes.
    pub fn renew(&self, changes: usize) {
        self.left.set(NAMES_MAX + 2 * DIRECTORY);
        self.changes.set(changes);
    }

    /// Takes a directory.
    pub fn take_directory(&self) {
        self.left.set(self.left.get().saturating_sub(DIRECTORY));
    }

    /// Takes a name; one that was found takes more.
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
        let mut allowance = Allowance::default();
        for path in reached {
            let names_at = *names_at.get_or_insert(below(&path));
            if !allowance.is_for(&path, names_at) {
                allowance = Allowance::of(&path, names_at, 0);
            }
            allowance.take_directory();
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
    // A directory that a wildcard stands for may lack the rest of the path. One that is written out in full
    // is missed.
    if names_at.is_some() {
        all.retain(|place| is_directory(&place.path));
    }
    let names_at = names_at.unwrap_or_else(|| below(pattern.parent().unwrap_or(pattern)));
    Places { names_at, all, unread }
}

/// The part of a source's path that is the same for all that it can find.
pub fn fixed_part(source: &Source) -> &Path {
    let is_wild = |part: &&Path| glob::has_wildcard(part.as_os_str().as_bytes());
    match source {
        Source::Directory(path) => path,
        Source::Pattern(path) => path.ancestors().skip(1).find(|part| !is_wild(part)).unwrap_or(path),
    }
}

/// Whether a file of a vassal is one that a source would find.
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

/// Where in the path of a file in a directory its name begins.
pub fn below(directory: &Path) -> usize {
    directory.join("x").as_os_str().len() - 1
}

/// The paths of the names in a directory that match, whatever they are.
///
/// # Errors
/// open(2), getdents(2), or too many names; a directory that is not there has none.
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

/// Whether a path is that of a directory, or may be: one that cannot be looked at is no reason to end its
/// vassals.
fn is_directory(path: &Path) -> bool {
    match rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::TYPE) {
        Ok(status) => FileType::from_raw_mode(status.stx_mode.into()) == FileType::Directory,
        Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG),
    }
}
