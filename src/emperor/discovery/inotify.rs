//! When to look at the vassal directories again: inotify events, and the rule that keeps half-written files out.
//!
//! An event only says *look again*; what changed is for the scan to find. While somebody writes a file it is not
//! acted on: creating an empty file or writing to one holds it until it is closed, renamed or deleted, or until
//! [`WRITER_MAX`] after its last write. A name that has an event during a scan is held as well, since nobody can
//! say whether the scan saw it before or after; the next scan follows at once. Neither goes on for longer than
//! [`HOLD_MAX`]: who writes or touches his file without a pause then has it taken as each scan finds it.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::scan::Rules;
use crate::emperor::core::sorted_map::SortedMap;
use crate::error::{Context, Error, Result};

/// Nobody is waited for longer than this after his last write: a file can be held open for ever.
pub const WRITER_MAX: Duration = Duration::from_secs(1);

/// No name is held for longer than this: its owner could keep others' changes of the file from being seen.
pub const HOLD_MAX: Duration = Duration::from_secs(10);

/// A file that goes away is given this long to come back: some editors move the old one away before they write the new.
const RETURN: Duration = Duration::from_millis(100);

/// So many events are read at once: what the kernel queues by default, so that everything up to now is seen, yet
/// nobody who writes all the time can keep us reading.
const EVENTS_PER_READ: usize = 16384;

/// Watches directories for changes.
pub struct Watch {
    /// `None` while it is not to be had.
    inotify: Option<OwnedFd>,
    /// With the watch of each, if there is one.
    directories: Vec<(Rc<Path>, Option<i32>)>,
    holds: Holds,
    /// When it was read last.
    read_at: Option<Instant>,
    rules: Rc<Rules>,
}

impl Watch {
    /// Watches nothing yet; [`Watch::refresh`] begins.
    pub fn new(rules: Rc<Rules>) -> Self {
        Self { inotify: None, directories: Vec::new(), holds: Holds::default(), read_at: None, rules }
    }

    /// Readable when something has happened; `None` while nothing can be watched.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Makes sure that what is at the directory's path now is what is watched: it may have been replaced or mounted
    /// over. Call it before the scan, so that no change falls between the two.
    ///
    /// # Errors
    /// As inotify_init1(2), EMFILE at the user's limit of instances, and inotify_add_watch(2), ENOSPC at that of
    /// watches; the directory is then only found changed by the periodic scan.
    pub fn refresh(&mut self, directory: &Rc<Path>) -> Result<()> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR
            // Who still writes to a file that was deleted or replaced must not hold what has its name.
            | WatchFlags::EXCL_UNLINK;
        let inotify = match &self.inotify {
            Some(inotify) => inotify,
            None => {
                let new = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
                self.inotify.insert(new.context("create", "inotify")?)
            }
        };
        let found = inotify::add_watch(inotify, &**directory, flags);
        // Thousands are looked up with each scan: not by what they say.
        match self.directories.iter_mut().find(|(known, _)| Rc::ptr_eq(known, directory)) {
            Some((_, watch)) => {
                let before = std::mem::replace(watch, found.ok());
                if before != found.ok() {
                    self.end(before);
                }
            }
            None => self.directories.push((Rc::clone(directory), found.ok())),
        }
        found.map(drop).context("watch directory", directory.display())
    }

    /// Watches a directory no more.
    pub fn forget(&mut self, directory: &Rc<Path>) {
        if let Some(index) = self.directories.iter().position(|(known, _)| Rc::ptr_eq(known, directory)) {
            let (_, watch) = self.directories.swap_remove(index);
            self.end(watch);
        }
    }

    /// Ends a watch that nobody needs any more. Two paths to one directory share its watch.
    fn end(&self, watch: Option<i32>) {
        if let (Some(watch), Some(inotify)) = (watch, &self.inotify)
            && !self.directories.iter().any(|(_, other)| *other == Some(watch))
        {
            // Fails when the directory is gone, and the watch with it.
            let _ = inotify::remove_watch(inotify, watch);
        }
    }

    /// Takes in all events that have happened until now.
    ///
    /// # Errors
    /// ENOMEM (read(2)).
    pub fn read(&mut self, now: Instant) -> Result<()> {
        self.read_at = Some(now);
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        for _ in 0..EVENTS_PER_READ {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(Error::os("read events from", "inotify", errno)),
            };
            let name = OsStr::from_bytes(event.file_name().map_or(b"", |name| name.to_bytes()));
            let watch = Some(event.wd());
            let directories = self.directories.iter().filter(|(_, descriptor)| *descriptor == watch);
            for (directory, _) in directories {
                let until = match what(event.events(), name, &self.rules) {
                    What::Nothing => continue,
                    What::Done => now,
                    // A writer may set the times before it closes: that must not end its hold.
                    What::Touched if self.holds.holds(directory, name) => continue,
                    What::Touched => now,
                    What::Gone => now + RETURN,
                    What::Written => now + WRITER_MAX,
                    What::Created if is_empty_file(directory, name) => now + WRITER_MAX,
                    What::Created => now,
                };
                self.holds.note(directory, name, now, until);
            }
            // A lost queue belongs to no watch.
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.holds.note(&Rc::from(Path::new("")), OsStr::new(""), now, now);
            }
        }
        Ok(())
    }

    /// When everything that had happened was taken in last.
    pub fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// When the next scan is wanted because of an event; `None` when there was none.
    pub fn scan_wanted(&self) -> Option<Instant> {
        self.holds.deadline()
    }

    /// A scan begins: what was settled before is for it to see.
    pub fn scan_begins(&mut self, now: Instant) {
        self.holds.release(now);
    }

    /// Whether the scan that has begun must leave this name alone.
    pub fn holds(&self, directory: &Rc<Path>, name: &OsStr) -> bool {
        self.holds.holds(directory, name)
    }
}

/// What an event means for a name.
#[derive(Debug, PartialEq, Eq)]
enum What {
    /// It cannot concern a vassal.
    Nothing,
    /// It is complete as it is.
    Done,
    /// It has just been deleted or moved away.
    Gone,
    /// Its times or its permissions were changed.
    Touched,
    /// Somebody is writing to it.
    Written,
    /// It is new: complete if it is a link, about to be written if it is an empty file.
    Created,
}

fn what(events: ReadFlags, name: &OsStr, rules: &Rules) -> What {
    let done = ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO;
    let gone = ReadFlags::MOVED_FROM | ReadFlags::DELETE;
    if name.is_empty() {
        // The directory itself was deleted, moved or unmounted.
        What::Done
    } else if !rules.is_vassal(name) {
        // A symbolic link that was switched over may be what the vassals' files are links through, and a directory may
        // be one that a pattern names.
        let comes_or_goes = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM;
        let directory = events.contains(ReadFlags::ISDIR) && events.intersects(comes_or_goes);
        if directory || events.contains(ReadFlags::MOVED_TO) { What::Done } else { What::Nothing }
    } else if events.contains(ReadFlags::CREATE) {
        What::Created
    } else if events.contains(ReadFlags::MODIFY) {
        What::Written
    } else if events.intersects(done) {
        What::Done
    } else if events.intersects(gone) {
        What::Gone
    } else if events.contains(ReadFlags::ATTRIB) {
        What::Touched
    } else {
        What::Nothing
    }
}

/// A new file that is empty has just been created by somebody who is about to write to it and close it. A link,
/// hard or symbolic, or a file that was moved into its name is complete: no close will follow.
fn is_empty_file(directory: &Path, name: &OsStr) -> bool {
    let file = rustix::fs::lstat(&*directory.join(name));
    file.is_ok_and(|file| FileType::from_raw_mode(file.st_mode) == FileType::RegularFile && file.st_size == 0)
}

/// Which names had events, and which of them are not to be touched.
#[derive(Debug, Default)]
struct Holds {
    names: SortedMap<(usize, OsString), Hold>,
    /// When the last scan began.
    scan: Option<Instant>,
}

/// One name.
#[derive(Debug)]
struct Hold {
    /// The first of its events that were followed by another in less than [`WRITER_MAX`].
    since: Instant,
    /// The last one.
    noted: Instant,
    /// Until when it is held, if that is not over.
    until: Instant,
}

impl Holds {
    fn note(&mut self, directory: &Rc<Path>, name: &OsStr, now: Instant, until: Instant) {
        let key = key(directory, name);
        let since = match self.names.get(&key) {
            Some(hold) if now.saturating_duration_since(hold.noted) < WRITER_MAX => hold.since,
            _ => now,
        };
        self.names.insert(key, Hold { since, noted: now, until: until.min(since + HOLD_MAX) });
    }

    /// A scan begins: what was over before is released, and forgotten with the next scan.
    fn release(&mut self, now: Instant) {
        let before = self.scan.replace(now);
        self.names.retain(|_, hold| hold.until > now || Some(hold.noted) > before);
    }

    fn is_held(&self, hold: &Hold) -> bool {
        Some(hold.until) > self.scan
    }

    fn holds(&self, directory: &Rc<Path>, name: &OsStr) -> bool {
        !self.names.is_empty() && self.names.get(&key(directory, name)).is_some_and(|hold| self.is_held(hold))
    }

    /// What happens to a name that is not held any more can wait for a while.
    fn deadline(&self) -> Option<Instant> {
        let wanted = |hold: &Hold| match self.scan {
            Some(scan) if !self.is_held(hold) => (hold.noted > scan).then(|| scan + WRITER_MAX),
            _ => Some(hold.until),
        };
        self.names.iter().filter_map(|(_, hold)| wanted(hold)).min()
    }
}

/// A directory is the same one, and has the same address, for as long as it is watched.
fn key(directory: &Rc<Path>, name: &OsStr) -> (usize, OsString) {
    (Rc::as_ptr(directory).cast::<u8>() as usize, name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;

    /// A watched directory of its own, deleted at the end.
    struct Fixture {
        path: Rc<Path>,
        watch: Watch,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vassal-watch-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            let path = Rc::from(path);
            let mut watch = Watch::new(Rc::default());
            watch.refresh(&path).unwrap();
            Self { path, watch }
        }

        /// Whether a scan that begins after everything up to now must leave the name alone.
        fn holds(&mut self, name: &str) -> bool {
            self.watch.read(Instant::now()).unwrap();
            self.watch.scan_begins(Instant::now());
            self.watch.holds(&self.path, OsStr::new(name))
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&*self.path);
        }
    }

    #[test]
    fn a_file_is_held_from_its_creation_until_it_is_closed() {
        let mut fixture = Fixture::new("writer");
        let path = fixture.path.join("a.ini");
        let mut file = File::create(&path).unwrap();
        assert!(fixture.holds("a.ini"));
        file.write_all(b"[uwsgi]").unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(fixture.holds("a.ini"));
        assert!(fixture.watch.scan_wanted().is_some_and(|at| at > Instant::now()));
        drop(file);
        assert!(!fixture.holds("a.ini"));
        assert_eq!(fixture.watch.scan_wanted(), None);
    }

    #[test]
    fn a_writer_is_not_waited_for_for_ever() {
        let mut fixture = Fixture::new("held-open");
        let _file = File::create(fixture.path.join("a.ini")).unwrap();
        assert!(fixture.holds("a.ini"));
        fixture.watch.scan_begins(Instant::now() + WRITER_MAX);
        assert!(!fixture.watch.holds(&fixture.path, OsStr::new("a.ini")));
    }

    #[test]
    fn a_writer_who_does_not_end_is_waited_for_no_longer_than_others() {
        let mut fixture = Fixture::new("endless");
        let path = fixture.path.join("a.ini");
        fs::write(&path, "text").unwrap();
        fixture.watch.scan_begins(Instant::now());
        let mut file = File::options().append(true).open(&path).unwrap();
        let begin = Instant::now();
        for tenths in 0..110 {
            let now = begin + Duration::from_millis(tenths * 100);
            file.write_all(b"#").unwrap();
            fixture.watch.read(now).unwrap();
            fixture.watch.scan_begins(now);
            let is_held = fixture.watch.holds(&fixture.path, OsStr::new("a.ini"));
            assert_eq!(is_held, tenths < 100, "{tenths}");
        }
    }

    #[test]
    fn who_touches_his_file_during_each_scan_is_seen_all_the_same() {
        let mut fixture = Fixture::new("restless");
        let path = fixture.path.join("a.ini");
        let file = File::create(&path).unwrap();
        fixture.watch.scan_begins(Instant::now());
        let begin = Instant::now();
        for tenths in 0..120 {
            let now = begin + Duration::from_millis(tenths * 100);
            fixture.watch.scan_begins(now);
            // A pause of a second lets it be one of many again.
            if !(105..115).contains(&tenths) {
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
            fixture.watch.read(now + Duration::from_millis(1)).unwrap();
            let is_held = fixture.watch.holds(&fixture.path, OsStr::new("a.ini"));
            assert_eq!(is_held, !(101..115).contains(&tenths), "{tenths}");
            // What nobody is kept from acting on is looked for once a second.
            if (101..105).contains(&tenths) {
                assert_eq!(fixture.watch.scan_wanted(), Some(now + WRITER_MAX), "{tenths}");
            }
        }
    }

    #[test]
    fn saves_with_a_pause_between_them_are_each_held_and_seen() {
        let mut fixture = Fixture::new("patient");
        let path = fixture.path.join("a.ini");
        let begin = Instant::now();
        for seconds in (0..60).step_by(2) {
            let now = begin + Duration::from_secs(seconds);
            let file = File::create(&path).unwrap();
            fixture.watch.read(now).unwrap();
            fixture.watch.scan_begins(now + Duration::from_millis(1));
            assert!(fixture.watch.holds(&fixture.path, OsStr::new("a.ini")), "{seconds}");
            drop(file);
            let closed = now + Duration::from_millis(500);
            fixture.watch.read(closed).unwrap();
            assert_eq!(fixture.watch.scan_wanted(), Some(closed), "{seconds}");
            fixture.watch.scan_begins(closed);
            assert!(!fixture.watch.holds(&fixture.path, OsStr::new("a.ini")), "{seconds}");
        }
    }

    #[test]
    fn links_renames_and_touches_are_complete_at_once() {
        let mut fixture = Fixture::new("complete");
        fs::write(fixture.path.join("x.tmp"), "text").unwrap();
        assert!(!fixture.holds("x.tmp"));
        let at = |name: &str| fixture.path.join(name);
        fs::hard_link(at("x.tmp"), at("hard.ini")).unwrap();
        std::os::unix::fs::symlink("x.tmp", at("soft.ini")).unwrap();
        fs::rename(at("x.tmp"), at("moved.ini")).unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.scan_wanted().is_some());
        for name in ["hard.ini", "soft.ini", "moved.ini"] {
            assert!(!fixture.holds(name), "{name}");
        }
    }

    #[test]
    fn a_file_that_goes_may_come_back_soon() {
        let mut fixture = Fixture::new("gone");
        let (path, backup) = (fixture.path.join("a.ini"), fixture.path.join("a.ini~"));
        fs::write(&path, "old").unwrap();
        assert!(!fixture.holds("a.ini"));
        fs::rename(&path, &backup).unwrap();
        assert!(fixture.holds("a.ini"));
        assert!(fixture.watch.scan_wanted().is_some_and(|at| at <= Instant::now() + RETURN));
        fs::write(&path, "new").unwrap();
        assert!(!fixture.holds("a.ini"));
        fs::remove_file(&path).unwrap();
        assert!(fixture.holds("a.ini"));
        fixture.watch.scan_begins(Instant::now() + RETURN);
        assert!(!fixture.watch.holds(&fixture.path, OsStr::new("a.ini")));
    }

    #[test]
    fn an_event_during_a_scan_holds_the_name_for_that_scan() {
        let mut fixture = Fixture::new("during");
        fixture.watch.scan_begins(Instant::now());
        fs::write(fixture.path.join("a.ini"), "text").unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.holds(&fixture.path, OsStr::new("a.ini")));
        assert!(fixture.watch.scan_wanted().is_some_and(|at| at <= Instant::now()));
        assert!(!fixture.holds("a.ini"));
    }

    #[test]
    fn other_files_are_no_reason_to_scan() {
        let mut fixture = Fixture::new("other");
        for name in ["a.log", ".a.ini.swp", "a.ini~"] {
            fs::write(fixture.path.join(name), "text").unwrap();
        }
        fixture.watch.read(Instant::now()).unwrap();
        assert_eq!(fixture.watch.scan_wanted(), None);
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_again() {
        let mut fixture = Fixture::new("replaced");
        fs::remove_dir(&*fixture.path).unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.scan_wanted().is_some());
        assert!(fixture.watch.refresh(&fixture.path).is_err());
        fs::create_dir(&*fixture.path).unwrap();
        fixture.watch.refresh(&fixture.path).unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        fixture.watch.scan_begins(Instant::now());
        fs::write(fixture.path.join("a.ini"), "text").unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.scan_wanted().is_some());
    }
}
