//! Holds: names that a scan must leave alone, so that no half-written file is acted on.
//!
//! Creating an empty file or writing to a file holds its name until the file is closed, renamed or deleted,
//! or until [`WRITER_MAX`] after the last write. A name that has an event during a scan is held, too, because
//! the scan may have seen the file before or after the event; the next scan follows at once. No hold lasts
//! longer than `HOLD_MAX`: after that a file that is written or touched without a pause is taken as each scan
//! finds it. If a directory has thousands of such names, all its names are held.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::fs::inotify::ReadFlags;

use super::scan::Rules;
use crate::emperor::core::sorted_map::SortedMap;

/// A hold ends this long after the last write: a file can stay open for ever.
pub const WRITER_MAX: Duration = Duration::from_secs(1);

/// The longest hold. Without a limit the owner of a name could hide the changes that others make to the file.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// How long a file that vanishes may take to come back: some editors move the old file away before they write
/// the new one.
pub const RETURN: Duration = Duration::from_millis(100);

/// How many names of a directory are remembered.
const NAMES_MAX: usize = 2000;
/// Stands for all names of a directory. No file can have this name.
const ALL: &str = "/";

/// The names that had events, and until when they are held.
#[derive(Debug, Default)]
pub struct Holds {
    names: SortedMap<(usize, OsString), Hold>,
    /// When the last scan began.
    scan: Option<Instant>,
}

/// The events of one name.
#[derive(Debug)]
struct Hold {
    /// The time of the first event of the present series, in which events follow each other within
    /// [`WRITER_MAX`].
    since: Instant,
    /// The time of its last event.
    noted: Instant,
    /// When the hold ends.
    until: Instant,
}

impl Holds {
    /// Notes an event of a name, which is then held until the given time.
    pub fn note(&mut self, directory: &Rc<Path>, name: &OsStr, now: Instant, until: Instant) {
        let mut key = key(directory, name);
        let mut until = until;
        if self.names.get(&key).is_none() && self.is_crowded(directory) {
            key.1 = ALL.into();
            until = self.names.get(&key).map_or(until, |all| all.until.max(until));
        }
        let since = match self.names.get(&key) {
            Some(hold) if now.saturating_duration_since(hold.noted) < WRITER_MAX => hold.since,
            _ => now,
        };
        self.names.insert(key, Hold { since, noted: now, until: until.min(since + HOLD_MAX) });
    }

    /// Whether the limit of remembered names is reached. Each further name would move many others.
    fn is_crowded(&self, directory: &Rc<Path>) -> bool {
        let (first, all) = (key(directory, OsStr::new("")), key(directory, OsStr::new(ALL)));
        let is_its = |((address, _), _): &&((usize, OsString), Hold)| *address == first.0;
        let count = || self.names.from(&first).take_while(is_its).take(NAMES_MAX).count();
        self.names.len() >= NAMES_MAX && (self.names.get(&all).is_some() || count() == NAMES_MAX)
    }

    /// A scan begins: names whose hold is over are released, and forgotten at the next scan.
    pub fn release(&mut self, now: Instant) {
        let before = self.scan.replace(now);
        self.names.retain(|_, hold| hold.until > now || Some(hold.noted) > before);
    }

    fn is_held(&self, hold: &Hold) -> bool {
        Some(hold.until) > self.scan
    }

    /// Whether the scan that has begun must leave a name alone.
    pub fn holds(&self, directory: &Rc<Path>, name: &OsStr) -> bool {
        let is_held = |name| self.names.get(&key(directory, name)).is_some_and(|hold| self.is_held(hold));
        !self.names.is_empty() && (is_held(name) || is_held(OsStr::new(ALL)))
    }

    /// The names that had events, each with its directory, if these are all vassals' files, and no more than
    /// so many. Among them are those that the last scan has left alone.
    pub fn files(&self, rules: &Rules, max: usize) -> Option<impl Iterator<Item = (usize, &OsStr)>> {
        let is_file = |((_, name), _): &((usize, OsString), Hold)| rules.is_vassal(name);
        let are_files = self.names.len() <= max && self.names.iter().all(is_file);
        are_files.then(|| self.names.iter().map(|((directory, name), _)| (*directory, name.as_os_str())))
    }

    /// When the next scan is wanted. An event of a name that is no longer held can wait for a while.
    pub fn deadline(&self) -> Option<Instant> {
        let wanted = |hold: &Hold| match self.scan {
            Some(scan) if !self.is_held(hold) => (hold.noted > scan).then(|| scan + WRITER_MAX),
            _ => Some(hold.until),
        };
        self.names.iter().filter_map(|(_, hold)| wanted(hold)).min()
    }
}

/// A directory is identified by its address in memory, which stays the same while it is watched.
fn key(directory: &Rc<Path>, name: &OsStr) -> (usize, OsString) {
    (Rc::as_ptr(directory).cast::<u8>() as usize, name.to_owned())
}

/// Until when an event holds a name; `None` if the event cannot concern a vassal.
pub fn hold_until(
    events: ReadFlags,
    directory: &Rc<Path>,
    name: &OsStr,
    holds: &Holds,
    rules: &Rules,
    now: Instant,
) -> Option<Instant> {
    match meaning(events, name, rules) {
        Meaning::Nothing => None,
        Meaning::Done => Some(now),
        // A writer may set the times before it closes the file. That must not end the hold.
        Meaning::Touched if holds.holds(directory, name) => None,
        Meaning::Touched => Some(now),
        // Exchanged with another file, or replaced by one.
        Meaning::Gone if rustix::fs::lstat(&*directory.join(name)).is_ok() => Some(now),
        Meaning::Gone => Some(now + RETURN),
        Meaning::Written => Some(now + WRITER_MAX),
        Meaning::Created if is_empty_file(directory, name) => Some(now + WRITER_MAX),
        Meaning::Created => Some(now),
    }
}

/// The meaning of an event for the file of that name.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Nothing that concerns a vassal.
    Nothing,
    /// The file is complete as it is.
    Done,
    /// The file was deleted or moved away.
    Gone,
    /// The times or the permissions of the file were changed.
    Touched,
    /// The file is being written.
    Written,
    /// The file is new. A link is complete; an empty file is about to be written.
    Created,
}

fn meaning(events: ReadFlags, name: &OsStr, rules: &Rules) -> Meaning {
    let done = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO;
    let gone = ReadFlags::MOVED_FROM | ReadFlags::DELETE;
    if name.is_empty() {
        // The directory itself was deleted, moved or unmounted.
        Meaning::Done
    } else if !rules.is_vassal(name) {
        // A symbolic link that was switched may be one that leads to the vassals' files, and a directory may
        // be one that a pattern matches.
        let comes_or_goes = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM;
        let directory = events.contains(ReadFlags::ISDIR) && events.intersects(comes_or_goes);
        if directory || events.contains(ReadFlags::MOVED_TO) { Meaning::Done } else { Meaning::Nothing }
    } else if events.contains(ReadFlags::CREATE) {
        Meaning::Created
    } else if events.contains(ReadFlags::MODIFY) {
        Meaning::Written
    } else if events.intersects(done) {
        Meaning::Done
    } else if events.intersects(gone) {
        Meaning::Gone
    } else if events.contains(ReadFlags::ATTRIB) {
        Meaning::Touched
    } else {
        Meaning::Nothing
    }
}

/// Whether a new file is empty, so that its creator will write to it and close it. A link, hard or symbolic,
/// or a file that was moved there is complete, and no close follows.
fn is_empty_file(directory: &Path, name: &OsStr) -> bool {
    let file = rustix::fs::lstat(&*directory.join(name));
    file.is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::RegularFile && file.st_size == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_thousands_of_names_in_a_directory_a_part_is_remembered_and_all_are_held() {
        let directories: [Rc<Path>; 2] = ["/flood", "/other"].map(|path| Path::new(path).into());
        let [flood, other] = &directories;
        let mut holds = Holds::default();
        let now = Instant::now();
        holds.release(now);
        for number in 0..2 * NAMES_MAX {
            holds.note(flood, OsStr::new(&number.to_string()), now, now + RETURN);
        }
        assert_eq!(holds.names.len(), NAMES_MAX + 1);
        holds.note(other, OsStr::new("a"), now, now + RETURN);
        holds.note(flood, OsStr::new("last"), now, now);
        let held = |holds: &Holds| {
            [(flood, "0"), (flood, "last"), (other, "a"), (other, "b")]
                .map(|(directory, name)| holds.holds(directory, OsStr::new(name)))
        };
        assert_eq!(held(&holds), [true, true, true, false]);
        assert_eq!(holds.deadline(), Some(now + RETURN));
        holds.release(now + RETURN);
        assert_eq!(held(&holds), [false; 4]);
        holds.release(now + RETURN);
        assert!(holds.names.is_empty());
    }
}
