//! The vassal directories, which are scanned after events and at intervals.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, MemfdFlags, memfd_create, stat};
use rustix::io::{fcntl_dupfd_cloexec, pwrite};

use super::followers::{Followers, Job, Target};
use super::identity::Identity;
use super::inotify::{Watch, Watched, address};
use super::patterns::{Allowance, Place, Places, Wanted, below, fixed_part, places};
use super::scan::{self, Change, Entry, Listing, Mount, Rules, directory_id, mount_at};
use crate::config::plan::{Located, Source};
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::text::later;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::owned_file;
use crate::error::{Error, Result};
use crate::log;
use crate::log::Elapsed;
use crate::running_time;

/// The shortest time between two scans, so that a flood of events costs a limited share of the time.
pub const SPACING: Duration = Duration::from_millis(50);
/// The time between two scans is at least this many times the duration of one.
const REST: u32 = 4;

/// How many files a scan may look at alone. For more, all are listed.
const FEW: usize = 64;

/// Why a directory is not taken for one whose files were deleted.
const COVERED: &str = "another filesystem without vassals' files is there now: mount that of before, or \
                       stop each vassal with 'emperor stop'";

/// The shortest time between two reads of events.
const PAUSE: Duration = Duration::from_millis(2);

/// A scan without an event is put off if scans would take more than one part in so many of the time. With
/// thousands of files an idle emperor would do little else.
const SHARE: u32 = 2000;
/// A scan is put off by at most so many intervals.
const PUT_OFF: u32 = 10;

/// All directories of an emperor.
pub struct Directories {
    /// Reports changes.
    pub watch: Watch,
    sources: Vec<SourceState>,
    directories: Vec<Directory>,
    rules: Rc<Rules>,
    interval: Duration,
    last_scan: Option<Instant>,
    /// How long the last scan took.
    last_took: Duration,
    /// The last scan that looked at everything, and how long that took.
    last_whole: Option<Instant>,
    took: Duration,
    /// Whether it has found every file.
    was_settled: bool,
    /// The memory file that says which directory is being looked at.
    notes: Option<OwnedFd>,
    /// Look at what links lead to.
    pub followers: Followers,
    /// Whether the last scan could not look at some file.
    has_unknown: bool,
    /// Whether the last scan has left changes for the next one.
    has_more: bool,
}

/// A change of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The file.
    pub file: Rc<VassalFile>,
    /// What has happened.
    pub change: Change,
}

/// A directory or a pattern, as configured.
struct SourceState {
    source: Located<Source>,
    /// The directories that the last look could not read, with the errors.
    unread: Vec<(PathBuf, Error)>,
}

impl SourceState {
    /// Whether the last look may have missed a path of this source.
    fn has_missed(&self, path: &Path) -> bool {
        self.unread.iter().any(|(unread, _)| path.starts_with(unread))
    }
}

/// A directory with vassal files.
struct Directory {
    path: Rc<Path>,
    /// The byte of its files' paths at which the vassals' names begin.
    names_at: usize,
    /// The line of the configuration that names it.
    source: Located<()>,
    /// Which names in it count.
    wanted: Vec<Wanted>,
    /// Which names counted at the previous scan.
    before: Vec<Wanted>,
    listing: Listing,
    /// Which mount it was on then, and where that is mounted.
    mount: Mount,
    mount_point: PathBuf,
    watched: Watched,
    /// Why the last look failed. It is logged once, and not with every scan.
    trouble: Option<Error>,
    /// Why it cannot be watched, logged likewise.
    blind: Option<Error>,
    /// Whether it has symbolic links. The files that they lead to are not watched.
    has_links: bool,
    /// Shared with the directories that may belong to the same user.
    allowance: Rc<Allowance>,
}

impl Directories {
    /// Directories that were never scanned: the first scan is due at once. Relative paths start at `cwd`.
    pub fn new(sources: &[Located<Source>], rules: Rules, interval: Duration, cwd: &Path) -> Self {
        let followers = Followers::new(rules.owners);
        let rules = Rc::new(rules);
        let state = |source| SourceState { source: anchored(source, cwd), unread: Vec::new() };
        Self {
            watch: Watch::new(Rc::clone(&rules)),
            sources: sources.iter().map(state).collect(),
            directories: Vec::new(),
            rules,
            interval,
            last_scan: None,
            last_took: Duration::ZERO,
            last_whole: None,
            took: Duration::ZERO,
            was_settled: false,
            notes: None,
            followers,
            has_unknown: false,
            has_more: false,
        }
    }

    /// Creates the memory file that says what is being looked at; `None` if it cannot be created.
    pub fn note_what_is_looked_at(&mut self) -> Option<OwnedFd> {
        let file = memfd_create("looks at", MemfdFlags::CLOEXEC).ok()?;
        let other = fcntl_dupfd_cloexec(&file, 0).ok();
        self.notes = Some(file);
        other
    }

    /// The directories of the sources, as in [`Found::Directory`](super::queue::Found::Directory), each noted
    /// before it is looked at.
    pub fn bases(&self) -> impl Iterator<Item = (&Path, Option<FileId>)> {
        let look = |path| {
            note(self.notes.as_ref(), path);
            (path, directory_id(path))
        };
        self.sources.iter().map(|state| fixed_part(&state.source.value)).map(look)
    }

    /// The version of a vassal's file, the identity of the name itself, which may be a link, and the user
    /// whose vassal it is, as far as these are known.
    pub fn facts(&mut self, file: &Path) -> (FileVersion, Identity, Option<u32>) {
        let owners = self.rules.owners;
        let itself = Identity::of_name(file);
        let (true, Some(directory), Some(name)) = (scan::is_far(file), file.parent(), file.file_name())
        else {
            return (owned_file::version(file, owners), itself, owned_file::owner(file, owners));
        };
        let answers = self.followers.follow(directory, vec![name.to_owned()], Job::FindAll);
        match answers.into_iter().next() {
            Some((_, Some(Ok(Target { version, user, .. })))) => (version, itself, user),
            _ => (FileVersion::default(), itself, None),
        }
    }

    /// When the next scan is due; `now` if there was none.
    pub fn due(&self, now: Instant) -> Instant {
        let (Some(last), Some(whole)) = (self.last_scan, self.last_whole) else { return now };
        let regular = if self.has_more { last } else { self.regular(whole) };
        let wanted = self.watch.scan_wanted().map_or(regular, |wanted| wanted.min(regular));
        wanted.max(self.rested(last))
    }

    /// When everything is to be looked at, after that was done the last time.
    fn regular(&self, whole: Instant) -> Instant {
        // Without events only scans find changes.
        let tells = |directory: &Directory| directory.blind.is_none() && !directory.has_links;
        let all_tell = self.directories.iter().all(tells);
        let rarely = (self.took * SHARE).clamp(self.interval, self.interval.saturating_mul(PUT_OFF));
        let regular = later(whole, if all_tell { rarely } else { self.interval });
        self.followers.look_again_at(whole).map_or(regular, |again| again.min(regular))
    }

    /// The earliest time for the scan after that of `last`.
    fn rested(&self, last: Instant) -> Instant {
        last + SPACING.max((self.last_took * REST).min(self.interval))
    }

    /// Until when events need not be read: no scan is possible before, or events were read just now.
    pub fn quiet_until(&self) -> Option<Instant> {
        let scan = self.last_scan.map(|last| self.rested(last));
        scan.max(self.watch.read_at().map(|read| read + PAUSE))
    }

    /// Whether the last scan has found every file.
    pub fn is_settled(&self) -> bool {
        let is_read = |source: &SourceState| source.unread.is_empty();
        !(self.has_unknown || self.has_more)
            && self.sources.iter().all(is_read)
            && self.directories.iter().all(Directory::is_read)
            && self.watch.scan_wanted().is_none()
    }

    /// Looks only at the files that had events, and returns which have changed. `None` if that is not enough:
    /// something else had an event, a file came or went, or it is time to look at everything.
    pub fn scan_some(&mut self, now: Instant) -> Option<Vec<FileChange>> {
        if !self.was_settled || self.has_more || self.regular(self.last_whole?) <= now {
            return None;
        }
        let mut names: Vec<(usize, Vec<OsString>)> = Vec::new();
        for (directory, name) in self.watch.files(FEW)? {
            match names.last_mut().filter(|(last, _)| *last == directory) {
                Some((_, names)) => names.push(name.to_owned()),
                None => names.push((directory, vec![name.to_owned()])),
            }
        }
        let mut looked_at = Vec::new();
        for (of, names) in names {
            let index = self.directories.iter().position(|directory| address(&directory.path) == of)?;
            let directory = self.directories.get_mut(index)?;
            directory.allowance.renew(self.rules.changes_max());
            let path = Rc::clone(&directory.path);
            if !answers(&mut self.followers, &path, directory.names_at) {
                return None;
            }
            note(self.notes.as_ref(), &path);
            let before = directory.watched;
            let is_watched = self.watch.refresh(&path, &mut directory.watched).is_ok();
            let is_file = |name: &OsString| matches!(directory.listing.get(name), Some(Entry::File(_)));
            let is_known = is_watched && before == directory.watched && directory.is_read();
            if !is_known || directory.wanted.is_empty() || !names.iter().all(is_file) {
                return None;
            }
            let new =
                scan::list_again(&path, &names, &self.rules, &mut self.followers, &directory.allowance)?;
            looked_at.push((index, new));
        }
        self.last_scan = Some(now);
        self.watch.scan_begins(now);
        // As in a scan of everything.
        if let Err(error) = self.watch.read(Instant::now()) {
            log!("{error}");
        }
        let mut changes = Vec::new();
        for (index, new) in looked_at {
            let Some(directory) = self.directories.get_mut(index) else { continue };
            let mut known = Listing::default();
            for (name, entry) in new.iter() {
                directory.has_links |= matches!(entry, Entry::File(stamp) if stamp.elsewhere);
                if let Some(entry) = directory.listing.get(name) {
                    known.insert(name.clone(), entry.clone());
                }
            }
            let held = |name: &OsStr| self.watch.holds(&directory.path, name);
            let before = |name: &OsStr| self.watch.name_before(&directory.path, name);
            let found = scan::commit(&mut known, new, &held, &before, &directory.allowance.changes);
            self.watch.forget_moves(&directory.path);
            for (name, entry) in known.into_entries() {
                directory.listing.insert(name, entry);
            }
            self.has_more |= directory.allowance.changes.get() == 0;
            changes.extend(directory.changes_of(found));
        }
        self.last_took = running_time::since(now);
        Some(changes)
    }

    /// Scans every directory and returns the changes. If a directory cannot be read, that is logged, and its
    /// files stay as they were.
    pub fn scan(&mut self, now: Instant) -> Vec<FileChange> {
        let is_first = self.last_scan.is_none();
        (self.last_scan, self.last_whole) = (Some(now), Some(now));
        self.watch.scan_begins(now);
        self.followers.review(now);
        for directory in &self.directories {
            directory.allowance.renew(self.rules.changes_max());
        }
        let mut changes = self.find_directories();
        (self.has_unknown, self.has_more) = (false, false);
        for directory in &mut self.directories {
            let path = &Rc::clone(&directory.path);
            // A directory without wanted names is gone, and the ends of its vassals are being reported.
            if directory.allowance.is_spent() || directory.wanted.is_empty() || self.followers.waits_for(path)
            {
                continue;
            }
            directory.allowance.take_directory();
            note(self.notes.as_ref(), path);
            let watched = self.watch.refresh(path, &mut directory.watched);
            let wanted = |name: &OsStr| directory.wants(name);
            let listed = scan::list(path, &self.rules, &wanted, &mut self.followers, &directory.allowance);
            let listed = listed.and_then(|(mount, new)| directory.unless_covered(mount, new));
            // The listing may or may not have changes that happened until now, so names with events are held
            // until the next scan.
            if let Err(error) = self.watch.read(Instant::now()) {
                log!("{error}");
            }
            if let (true, Err(error)) = (directory.allowance.is_spent(), &listed) {
                if !directory.allowance.is_told.replace(true) {
                    let Located { key, at, .. } = &directory.source;
                    log!("{at}: {key}: {error}; keeping what runs");
                }
                continue;
            }
            directory.log_trouble(watched, &listed, self.interval);
            let Ok(new) = listed else { continue };
            self.has_unknown |= new.iter().any(|(_, entry)| matches!(entry, Entry::Unknown(_) | Entry::Late));
            directory.has_links = new.iter().any(|(_, entry)| match entry {
                Entry::File(stamp) => stamp.elsewhere,
                Entry::Refused(_) | Entry::Unknown(_) | Entry::Late => true,
            });
            let held = |name: &OsStr| self.watch.holds(path, name);
            let before = |name: &OsStr| self.watch.name_before(path, name);
            let found =
                scan::commit(&mut directory.listing, new, &held, &before, &directory.allowance.changes);
            self.watch.forget_moves(path);
            changes.extend(directory.changes_of(found));
        }
        for directory in &self.directories {
            self.has_more |= directory.allowance.changes.get() == 0;
            if !directory.allowance.is_spent() {
                directory.allowance.is_told.set(false);
            }
        }
        if is_first {
            self.tell_of_directories();
        }
        self.took = running_time::since(now);
        (self.last_took, self.was_settled) = (self.took, self.is_settled());
        // A file that was moved is to be known under its new name before it is gone.
        changes.sort_by_key(|of_file| of_file.change == Change::Removed);
        changes
    }

    /// Logs each pattern that leads to directories and to no file: the files in them are meant.
    fn tell_of_directories(&mut self) {
        for SourceState { source: Located { value, key, at }, .. } in &self.sources {
            let Source::Pattern(pattern) = value else { continue };
            let is_its = |directory: &&Directory| directory.source.at == *at;
            if !self.directories.iter().filter(is_its).all(|directory| directory.listing.is_empty()) {
                continue;
            }
            let meant = pattern.join("*.ini");
            let found = places(&meant, &mut |path, at| answers(&mut self.followers, path, at)).all;
            let is_directory = |place: &Place| {
                stat(&place.path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
            };
            if found.iter().any(|place| place.wanted != Wanted::Below && is_directory(place)) {
                let (pattern, meant) = (pattern.display(), meant.display());
                log!("{at}: {key}: {pattern} leads to directories only: for the files in them write {meant}");
            }
        }
    }

    /// Updates the set of directories, and returns the removal of the files in those that no longer belong to
    /// it.
    fn find_directories(&mut self) -> Vec<FileChange> {
        for directory in &mut self.directories {
            directory.before = std::mem::take(&mut directory.wanted);
        }
        for SourceState { source, unread } in &mut self.sources {
            let Located { value, key, at } = source;
            note(self.notes.as_ref(), value.path());
            let places = places_of(value, &mut |path, at| answers(&mut self.followers, path, at));
            // A directory that cannot even be opened is reported by its own scan.
            let is_news = |new: &&(PathBuf, Error)| new.1.errno() == 0 && !unread.contains(new);
            for new in places.unread.iter().filter(is_news) {
                log!("{at}: {key}: {}; keeping what runs", new.1);
            }
            unread.clone_from(&places.unread);
            let located = Located { value: (), key: Rc::clone(key), at: at.clone() };
            add(&mut self.directories, places, &located, self.rules.changes_max());
        }
        self.drop_unwanted()
    }

    /// Drops directories without wanted names, except below a directory that could not be read, and on a
    /// filesystem that was unmounted.
    fn drop_unwanted(&mut self) -> Vec<FileChange> {
        let mut changes = Vec::new();
        self.directories.retain_mut(|directory| {
            let is_missed = || self.sources.iter().any(|source| source.has_missed(&directory.path));
            let stays = !directory.wanted.is_empty() || is_missed() || directory.is_unmounted();
            if !stays {
                let left = &directory.allowance.changes;
                let gone =
                    scan::commit(&mut directory.listing, Listing::default(), &|_| false, &|_| None, left);
                changes.extend(directory.changes_of(gone));
                if !directory.listing.is_empty() {
                    return true;
                }
                self.watch.forget(&directory.path, &directory.watched);
            } else if directory.wanted.is_empty() {
                directory.wanted = std::mem::take(&mut directory.before);
            }
            stays
        });
        changes
    }
}

/// A source with an absolute path; a relative one starts at `cwd`.
pub fn anchored(source: &Located<Source>, cwd: &Path) -> Located<Source> {
    let value = match &source.value {
        // Without dots and double slashes, with which the same directory would look like another one.
        Source::Directory(path) => Source::Directory(cwd.join(path).components().collect()),
        Source::Pattern(path) => Source::Pattern(cwd.join(path)),
    };
    Located { value, ..source.clone() }
}

fn has_files(listing: &Listing) -> bool {
    listing.iter().any(|(_, entry)| matches!(entry, Entry::File(_)))
}

/// Notes which directory is looked at.
fn note(notes: Option<&OwnedFd>, directory: &Path) {
    if let Some(notes) = notes {
        let text = [directory.as_os_str().as_bytes(), &[0]].concat();
        let _ = pwrite(notes, &text, 0);
    }
}

/// The directories of a source at present.
fn places_of(source: &Source, answers: &mut dyn FnMut(&Path, usize) -> bool) -> Places {
    match source {
        Source::Directory(path) => {
            let place = Place { path: path.clone(), wanted: Wanted::All };
            Places { names_at: below(path), all: vec![place], unread: Vec::new() }
        }
        Source::Pattern(pattern) => places(pattern, answers),
    }
}

/// Whether a directory can be looked at. One that is on another mount than the part of its path before the
/// byte `names_at` may hang, as the home directory of a user.
fn answers(followers: &mut Followers, path: &Path, names_at: usize) -> bool {
    let base = path.as_os_str().as_bytes().get(..names_at).unwrap_or_default();
    let base = Path::new(OsStr::from_bytes(base));
    match path.strip_prefix(base) {
        Ok(rest) if !rest.as_os_str().is_empty() && !scan::is_on_mount_of(base, rest) => {
            followers.answers(base, rest)
        }
        _ => true,
    }
}

/// Adds the directories of a source. The next scan may report `changes` changes of them.
fn add(
    directories: &mut Vec<Directory>,
    Places { names_at, all, .. }: Places,
    source: &Located<()>,
    changes: usize,
) {
    let mut next = 0;
    // Directories that share an allowance follow each other.
    let mut last: Option<Rc<Allowance>> = None;
    for Place { path, wanted } in all {
        let is_it = |known: &Directory| known.path.as_os_str() == path.as_os_str();
        // Most directories come in the same order as the last time, so that not each of thousands has to be
        // searched for.
        if !directories.get(next).is_some_and(is_it) {
            next = directories.iter().position(is_it).unwrap_or(directories.len());
        }
        let same = last.take().filter(|allowance| allowance.is_for(&path, names_at));
        match directories.get_mut(next) {
            Some(known) => {
                known.wanted.push(wanted);
                known.allowance = same.unwrap_or_else(|| Rc::clone(&known.allowance));
                last = Some(Rc::clone(&known.allowance));
            }
            None => {
                let allowance = same.unwrap_or_else(|| Rc::new(Allowance::of(&path, names_at, changes)));
                last = Some(Rc::clone(&allowance));
                directories.push(Directory::new(path.into(), names_at, source.clone(), wanted, allowance));
            }
        }
        next += 1;
    }
}

impl Directory {
    fn new(
        path: Rc<Path>,
        names_at: usize,
        source: Located<()>,
        wanted: Wanted,
        allowance: Rc<Allowance>,
    ) -> Self {
        let (wanted, before) = (vec![wanted], Vec::new());
        Self {
            path,
            names_at,
            source,
            wanted,
            before,
            listing: Listing::default(),
            mount: Mount::default(),
            mount_point: PathBuf::new(),
            watched: Watched::default(),
            trouble: None,
            blind: None,
            has_links: false,
            allowance,
        }
    }

    /// Changes of names as changes of files.
    fn changes_of(&self, names: Vec<(OsString, Change)>) -> impl Iterator<Item = FileChange> {
        names.into_iter().map(|(name, change)| {
            let file = Rc::new(VassalFile::new(self.path.join(name), self.names_at));
            FileChange { file, change }
        })
    }

    /// Whether the last scan has read the whole directory.
    fn is_read(&self) -> bool {
        self.trouble.is_none() && !self.allowance.is_spent()
    }

    /// The listing of a scan, unless the directory has no file any more and is on another mount: the one with
    /// its files was unmounted, or another one is over it.
    fn unless_covered(&mut self, mount: Mount, new: Listing) -> Result<Listing> {
        if mount != self.mount {
            if has_files(&self.listing) && !has_files(&new) {
                return Err(Error::new("read directory", self.path.display(), COVERED));
            }
            let is_on_it = |above: &&Path| mount_at(above) == Some(mount);
            let all = self.path.ancestors().take_while(is_on_it);
            (self.mount, self.mount_point) = (mount, all.last().unwrap_or(&self.path).to_owned());
        }
        Ok(new)
    }

    /// Whether another mount is where the one with its files was.
    fn is_unmounted(&self) -> bool {
        has_files(&self.listing) && mount_at(&self.mount_point).is_some_and(|mount| mount != self.mount)
    }

    fn wants(&self, name: &OsStr) -> bool {
        self.wanted.iter().any(|wanted| wanted.includes(name))
    }

    /// Logs when looking or watching begins to fail, fails in another way, or works again.
    fn log_trouble(&mut self, watched: Result<()>, listed: &Result<Listing>, interval: Duration) {
        let Located { key, at, .. } = &self.source;
        let trouble = listed.as_ref().err().cloned();
        if trouble != self.trouble {
            match &trouble {
                Some(error) => {
                    log!("{at}: {key}: {error}; keeping what runs, next look in {}", Elapsed(interval));
                }
                None => log!("{at}: {key}: {} can be read again", self.path.display()),
            }
        }
        // A directory that cannot be read cannot be watched either, so one line is enough.
        let blind = watched.err().filter(|_| trouble.is_none());
        if blind != self.blind
            && let Some(error) = &blind
        {
            log!("{at}: {key}: {error}; changes are found only every {}", Elapsed(interval));
        }
        self.trouble = trouble;
        self.blind = blind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Location;
    use crate::emperor::core::owner::Owners;
    use crate::emperor::discovery::holds::RETURN;
    use crate::emperor::discovery::patterns::CHANGES_MAX;
    use std::fs;
    use std::path::PathBuf;

    /// A directory of its own, deleted at the end, and an emperor's view of it.
    struct Fixture {
        path: PathBuf,
        directories: Directories,
    }

    impl Fixture {
        fn new(name: &str, sources: &[fn(&Path) -> Source]) -> Self {
            let path = tempfile::Builder::new().prefix(name).tempdir().unwrap().keep();
            let at = Location { file: "emperor.ini".into(), line: 2, column: 1 };
            let located = |source: &fn(&Path) -> Source| Located {
                value: source(&path),
                key: "emperor".into(),
                at: at.clone(),
            };
            let sources: Vec<_> = sources.iter().map(located).collect();
            let directories =
                Directories::new(&sources, Rules::default(), Duration::from_secs(3), Path::new(""));
            Self { path, directories }
        }

        fn write(&self, name: &str) {
            let path = self.path.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "text").unwrap();
        }

        /// The changes that a scan finds after a pause without events.
        fn scan_when_due(&mut self) -> Vec<(String, Change)> {
            let due = self.directories.due(Instant::now());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            self.scan()
        }

        /// What the next scan finds, with paths below the fixture's.
        fn scan(&mut self) -> Vec<(String, Change)> {
            self.directories.watch.read(Instant::now()).unwrap();
            let changes = self.directories.scan(Instant::now());
            let below = |path: &Path| path.strip_prefix(&self.path).unwrap().to_str().unwrap().to_owned();
            changes.into_iter().map(|FileChange { file, change }| (below(&file), change)).collect()
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.path);
        }
    }

    fn appeared(name: &str) -> (String, Change) {
        (name.to_owned(), Change::Appeared)
    }

    fn removed(name: &str) -> (String, Change) {
        (name.to_owned(), Change::Removed)
    }

    #[test]
    fn a_directory_that_cannot_be_read_loses_no_vassal() {
        let mut fixture = Fixture::new("away", &[|path| Source::Directory(path.join("v"))]);
        let (path, away) = (fixture.path.join("v"), fixture.path.join("away"));
        fixture.write("v/a.ini");
        let now = Instant::now();
        assert_eq!(fixture.directories.due(now), now);
        assert_eq!(fixture.scan(), [appeared("v/a.ini")]);
        let directories = &mut fixture.directories;
        let last = directories.last_scan.unwrap();
        for (took, wait) in [(1, 3), (5, 10), (60, 30)] {
            (directories.took, directories.last_took) =
                (Duration::from_millis(took), Duration::from_millis(took));
            assert_eq!(directories.due(now), last + Duration::from_secs(wait), "{took} ms");
        }

        fs::rename(&path, &away).unwrap();
        assert_eq!(fixture.scan(), []);
        fs::rename(&away, &path).unwrap();
        assert_eq!(fixture.scan(), []);
        fs::remove_file(path.join("a.ini")).unwrap();
        fixture.directories.watch.read(Instant::now()).unwrap();
        let now = Instant::now();
        assert!(fixture.directories.due(now) <= now + Duration::from_secs(1));
        assert_eq!(fixture.scan_when_due(), [removed("v/a.ini")]);
    }

    #[test]
    fn what_links_lead_to_is_looked_at_in_time() {
        let mut fixture = Fixture::new("links", &[|path| Source::Directory(path.to_path_buf())]);
        std::os::unix::fs::symlink("elsewhere/a", fixture.path.join("a.ini")).unwrap();
        fixture.write("elsewhere/a");
        for name in ["elsewhere/a", "b.ini"] {
            fixture.write(name);
            fixture.scan();
            let directories = &mut fixture.directories;
            (directories.took, directories.last_took) =
                (Duration::from_millis(700), Duration::from_millis(700));
            let last = directories.last_scan.unwrap();
            assert_eq!(directories.due(last), last + Duration::from_secs(3), "{name}");
        }
        fixture.write("a.new");
        fs::rename(fixture.path.join("a.new"), fixture.path.join("a.ini")).unwrap();
        fixture.scan();
        let directories = &mut fixture.directories;
        (directories.took, directories.last_took) = (Duration::from_secs(1), Duration::from_secs(1));
        let last = directories.last_scan.unwrap();
        assert_eq!(directories.due(last), last + Duration::from_secs(30));
    }

    #[test]
    fn a_pattern_finds_directories_that_come_and_go() {
        let mut fixture = Fixture::new("glob", &[|path| Source::Pattern(path.join("*/v/a*.ini"))]);
        for name in ["one/v/a.ini", "one/v/b.ini", "one/a2.ini", "two/w/a3.ini", ".three/v/a4.ini"] {
            fixture.write(name);
        }
        assert_eq!(fixture.scan(), [appeared("one/v/a.ini")]);
        fixture.write("four/v/a5.ini");
        fixture.directories.watch.read(Instant::now()).unwrap();
        assert!(fixture.directories.watch.scan_wanted().is_some(), "a new directory went unnoticed");
        assert_eq!(fixture.scan(), [appeared("four/v/a5.ini")]);
        fs::rename(fixture.path.join("one"), fixture.path.join(".hidden")).unwrap();
        assert_eq!(fixture.scan(), [removed("one/v/a.ini")]);
        assert_eq!(fixture.scan(), []);
    }

    #[test]
    fn many_directories_of_a_users_are_not_all_looked_at_and_hide_nobody_elses() {
        let mut fixture = Fixture::new("crowd", &[|path| Source::Pattern(path.join("*/v/*/*.ini"))]);
        let names: Vec<_> = (0..2_500).map(|number| format!("two/v/{number}/a.ini")).collect();
        for name in &names {
            fixture.write(name);
        }
        let all = fixture.scan();
        assert!((500..2_000).contains(&all.len()), "{} are looked at", all.len());
        let is_missed = |fixture: &Fixture| {
            let Directories { sources, directories, .. } = &fixture.directories;
            sources.iter().any(|source| !source.unread.is_empty())
                || !directories.iter().all(Directory::is_read)
        };
        assert!(is_missed(&fixture));
        // No vassal is given up.
        fixture.write("one/v/a/a.ini");
        assert_eq!(fixture.scan(), [appeared("one/v/a/a.ini")]);
        for name in &names[500..] {
            fs::remove_dir_all(fixture.path.join(name).parent().unwrap()).unwrap();
        }
        let mut changes = fixture.scan();
        changes.retain(|(_, change)| *change == Change::Removed);
        assert!(!is_missed(&fixture) && changes.len() < all.len(), "{} are gone", changes.len());
    }

    #[test]
    fn who_changes_all_his_files_keeps_no_other_user_waiting() {
        let mut fixture = Fixture::new("flood", &[|path| Source::Pattern(path.join("*/v/*.ini"))]);
        fixture.directories.rules = Rc::new(Rules { owners: Owners::OfLinks, ..Rules::default() });
        let count = 2 * CHANGES_MAX + 50;
        for number in 0..count {
            fixture.write(&format!("flood/v/{number}.ini"));
        }
        let told = |fixture: &mut Fixture, name: &str, change: Change| {
            fixture.write(name);
            let looks = [(); 3].map(|()| {
                let mut changes = fixture.scan();
                let of_other = changes.iter().position(|(file, _)| file == name);
                let is_told = of_other.map(|index| changes.swap_remove(index)).is_some();
                assert!(changes.iter().all(|(_, other)| *other == change));
                let directories = &fixture.directories;
                let last = directories.last_scan.unwrap();
                let is_soon = directories.due(last) == directories.rested(last);
                assert_ne!(directories.is_settled(), is_soon);
                (changes.len(), is_told, is_soon)
            });
            let all = CHANGES_MAX;
            assert_eq!(looks, [(all, true, true), (all, false, true), (50, false, false)]);
        };
        told(&mut fixture, "other/v/a.ini", Change::Appeared);
        fs::rename(fixture.path.join("flood/v"), fixture.path.join("flood/away")).unwrap();
        told(&mut fixture, "other/v/b.ini", Change::Removed);
    }

    #[test]
    fn scans_take_a_bounded_share_of_the_time() {
        let mut fixture = Fixture::new("flood", &[|path| Source::Directory(path.to_path_buf())]);
        for (took, wait) in [(1, 50), (100, 400)] {
            fixture.scan();
            fixture.write("a.ini");
            let directories = &mut fixture.directories;
            (directories.took, directories.last_took) =
                (Duration::from_millis(took), Duration::from_millis(took));
            let last = directories.last_scan.unwrap();
            directories.watch.read(last + Duration::from_millis(1)).unwrap();
            assert_eq!(directories.due(last), last + Duration::from_millis(wait));
        }
    }

    #[test]
    fn two_lines_for_one_directory_find_each_vassal_once() {
        let sources: [fn(&Path) -> Source; 2] =
            [|path| Source::Directory(path.join("./")), |path| Source::Pattern(path.join("[ab].ini"))];
        let mut fixture = Fixture::new("twice", &sources);
        fixture.write("a.ini");
        fixture.write("c.ini");
        assert_eq!(fixture.scan(), [appeared("a.ini"), appeared("c.ini")]);
    }

    #[test]
    fn for_a_file_that_is_touched_no_other_one_is_looked_at() {
        let mut fixture = Fixture::new("some", &[|path| Source::Directory(path.join("v"))]);
        for name in ["v/a.ini", "v/b.ini", "v/notes.txt"] {
            fixture.write(name);
        }
        fixture.scan();
        fixture.scan_when_due();
        let touch = |fixture: &Fixture, name: &str, seconds| {
            let file = fs::File::open(fixture.path.join(name)).unwrap();
            // As touch(1): with one of the two the kernel would tell that the file is being written.
            let at = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            file.set_times(fs::FileTimes::new().set_accessed(at).set_modified(at)).unwrap();
        };
        let some = |fixture: &mut Fixture| {
            fixture.directories.watch.read(Instant::now()).unwrap();
            fixture.directories.scan_some(Instant::now()).map(|changes| changes.len())
        };
        let whole = fixture.directories.last_whole;
        touch(&fixture, "v/a.ini", 5);
        assert_eq!((some(&mut fixture), fixture.scan_when_due().len()), (Some(1), 0), "known by now");
        touch(&fixture, "v/a.ini", 6);
        // Not looked at, as nothing says that it has changed.
        let Some(Entry::File(stamp)) =
            fixture.directories.directories[0].listing.get_mut(OsStr::new("b.ini"))
        else {
            panic!("b.ini is no file")
        };
        stamp.version.size = 77;
        assert_eq!(some(&mut fixture), Some(1));
        assert!(fixture.directories.last_whole > whole);
        assert_eq!(fixture.scan(), [("v/b.ini".to_owned(), Change::Changed)]);
        let all: [fn(&Path); 4] = [
            |path| fs::write(path.join("v/new.ini"), "text").unwrap(),
            |path| fs::remove_file(path.join("v/a.ini")).unwrap(),
            |path| fs::rename(path.join("v/b.ini"), path.join("v/c.ini")).unwrap(),
            |path| {
                fs::rename(path.join("v"), path.join("w")).unwrap();
                fs::create_dir(path.join("v")).unwrap();
            },
        ];
        for (index, act) in all.into_iter().enumerate() {
            fixture.scan_when_due();
            assert!(fixture.directories.is_settled(), "{index}");
            act(&fixture.path);
            assert_eq!(some(&mut fixture), None, "{index}");
            std::thread::sleep(RETURN);
            fixture.scan();
        }
        // Everything is looked at when it is time for that, whatever happens to one file.
        fixture.scan_when_due();
        fixture.write("v/last.ini");
        fixture.scan();
        fixture.scan_when_due();
        touch(&fixture, "v/last.ini", 7);
        fixture.directories.last_whole = Some(Instant::now() - Duration::from_secs(3));
        assert_eq!(some(&mut fixture), None);
    }
}
