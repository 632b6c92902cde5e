//! Watches the vassal directories by inotify.
//!
//! An event only says *look again*: the scan finds the change, and [`Holds`] decides which names the scan
//! must leave alone.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::holds::{Holds, hold_until};
use super::scan::Rules;
use crate::emperor::core::sorted_map::SortedMap;
use crate::error::{Context, Error, Result};

/// How many events are read at once: the default size of the kernel's queue. So all events up to now are
/// seen, but a writer that never stops cannot keep the emperor reading.
const EVENTS_PER_READ: usize = 16384;

/// The events that are watched: all that may add, change or remove a file.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // A writer of a file that was deleted or replaced must not hold the new file of that name.
    .union(WatchFlags::EXCL_UNLINK);

/// How many renames are remembered.
const MOVES_MAX: usize = 1000;

/// Watches directories for changes.
pub struct Watch {
    /// The inotify instance; `None` if it could not be created.
    inotify: Option<OwnedFd>,
    /// The directories, by the number of their watch and their address. Two paths of one directory share its
    /// watch.
    directories: SortedMap<(i32, usize), Rc<Path>>,
    holds: Holds,
    /// The renames since names were last looked at.
    moved: Vec<Moved>,
    /// The last name that a file was moved from: its cookie, its watch, and itself.
    left: Option<(u32, i32, OsString)>,
    /// When it was last read.
    read_at: Option<Instant>,
    rules: Rc<Rules>,
}

/// A rename within a directory, or several of one file.
struct Moved {
    /// The address of the directory.
    directory: usize,
    from: OsString,
    to: OsString,
}

/// The watch of a directory. It is stored with the directory, so that thousands of watches are not searched
/// at each scan.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Watched(Option<i32>);

impl Watch {
    /// Watches nothing until [`Watch::refresh`].
    pub fn new(rules: Rc<Rules>) -> Self {
        Self {
            inotify: None,
            directories: SortedMap::default(),
            holds: Holds::default(),
            moved: Vec::new(),
            left: None,
            read_at: None,
            rules,
        }
    }

    /// Readable after an event; `None` if nothing can be watched.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Makes sure that the directory now at the path is the one that is watched: another one may have been
    /// moved or mounted there. Must be called before the scan, so that no change is missed between the two.
    ///
    /// # Errors
    /// As inotify_init1(2), EMFILE at the user's limit of instances, and inotify_add_watch(2), ENOSPC at the
    /// limit of watches. Changes of the directory are then only found by the periodic scan.
    pub fn refresh(&mut self, directory: &Rc<Path>, watched: &mut Watched) -> Result<()> {
        let inotify = match &self.inotify {
            Some(inotify) => inotify,
            None => {
                let new = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
                self.inotify.insert(new.context("create", "inotify")?)
            }
        };
        let found = inotify::add_watch(inotify, &**directory, EVENTS);
        let before = std::mem::replace(&mut watched.0, found.ok());
        if before != watched.0 {
            if let Some(number) = watched.0 {
                self.directories.insert((number, address(directory)), Rc::clone(directory));
            }
            self.end(directory, before);
        }
        found.map(drop).context("watch directory", directory.display())
    }

    /// Stops watching a directory.
    pub fn forget(&mut self, directory: &Rc<Path>, watched: &Watched) {
        self.end(directory, watched.0);
    }

    /// Takes the watch from a directory, and removes it unless another path shares it.
    fn end(&mut self, directory: &Rc<Path>, watch: Option<i32>) {
        let Some(number) = watch else { return };
        self.directories.remove(&(number, address(directory)));
        if self.directories_of(number).next().is_none()
            && let Some(inotify) = &self.inotify
        {
            // Fails if the directory is gone, and its watch with it.
            let _ = inotify::remove_watch(inotify, number);
        }
    }

    /// The directories that have this watch.
    fn directories_of(&self, number: i32) -> impl Iterator<Item = &Rc<Path>> {
        let of_it = self.directories.from(&(number, 0)).take_while(move |((known, _), _)| *known == number);
        of_it.map(|(_, directory)| directory)
    }

    /// Reads all events that have happened until now.
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
            let number = event.wd();
            let of_it = self.directories.from(&(number, 0)).take_while(|((known, _), _)| *known == number);
            let left = self.left.take_if(|(cookie, watch, _)| (*cookie, *watch) == (event.cookie(), number));
            let from = left.map(|(_, _, from)| from).filter(|_| event.events().contains(ReadFlags::MOVED_TO));
            if event.events().contains(ReadFlags::MOVED_FROM) {
                self.left = Some((event.cookie(), number, name.to_owned()));
            }
            for (_, directory) in of_it {
                if let Some(from) = &from {
                    note_move(&mut self.moved, &self.rules, address(directory), from, name);
                }
                if let Some(until) =
                    hold_until(event.events(), directory, name, &self.holds, &self.rules, now)
                {
                    self.holds.note(directory, name, now, until);
                }
            }
            // A lost event is reported without a watch.
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.holds.note(&Rc::from(Path::new("")), OsStr::new(""), now, now);
            }
        }
        Ok(())
    }

    /// When all events were last read.
    pub fn read_at(&self) -> Option<Instant> {
        self.read_at
    }

    /// The files that had events, each with the address of its directory: at most so many. `None` if
    /// something else had one, too.
    pub fn files(&self, max: usize) -> Option<impl Iterator<Item = (usize, &OsStr)>> {
        self.holds.files(&self.rules, max)
    }

    /// When an event asks for the next scan; `None` without one.
    pub fn scan_wanted(&self) -> Option<Instant> {
        self.holds.deadline()
    }

    /// A scan begins, which sees every name whose hold is over.
    pub fn scan_begins(&mut self, now: Instant) {
        self.holds.release(now);
    }

    /// The name that the file of this name had when it was last looked at, if it was renamed.
    pub fn name_before(&self, directory: &Rc<Path>, name: &OsStr) -> Option<&OsStr> {
        let is_it = |moved: &&Moved| moved.directory == address(directory) && moved.to == name;
        self.moved.iter().find(is_it).map(|moved| &*moved.from)
    }

    /// The names of a directory were looked at, except for those that are held.
    pub fn forget_moves(&mut self, directory: &Rc<Path>) {
        let Self { moved, holds, .. } = self;
        moved.retain(|moved| moved.directory != address(directory) || holds.holds(directory, &moved.to));
    }

    /// Whether the scan that has begun must leave this name alone.
    pub fn holds(&self, directory: &Rc<Path>, name: &OsStr) -> bool {
        self.holds.holds(directory, name)
    }
}

/// Notes that a file was renamed. A file that was no vassal's before only replaces one, as editors do.
fn note_move(moved: &mut Vec<Moved>, rules: &Rules, directory: usize, from: &OsStr, to: &OsStr) {
    let of = |moved: &Vec<Moved>, name: &OsStr| {
        moved.iter().position(|moved| moved.directory == directory && moved.to == name)
    };
    let before = of(moved, from).map_or_else(|| from.to_owned(), |index| moved.swap_remove(index).from);
    if !rules.is_vassal(&before) || moved.len() >= MOVES_MAX {
        return;
    }
    if let Some(index) = of(moved, to) {
        moved.swap_remove(index);
    }
    moved.push(Moved { directory, from: before, to: to.to_owned() });
}

/// Identifies a directory for as long as it is watched.
pub fn address(directory: &Rc<Path>) -> usize {
    Rc::as_ptr(directory).cast::<u8>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::discovery::holds::{RETURN, WRITER_MAX};
    use rustix::fs::CWD;
    use rustix::time::{ClockId, clock_gettime};
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    /// A watched directory of its own, deleted at the end.
    struct Fixture {
        path: Rc<Path>,
        watch: Watch,
        watched: Watched,
    }

    impl Fixture {
        fn new(name: &str) -> Self {
            // On a memory filesystem if possible: other disks are slow with thousands of directories.
            let place = Some(std::path::PathBuf::from("/dev/shm")).filter(|place| place.is_dir());
            let place = place.unwrap_or_else(std::env::temp_dir);
            let path = Rc::from(tempfile::Builder::new().prefix(name).tempdir_in(place).unwrap().keep());
            let (mut watch, mut watched) = (Watch::new(Rc::default()), Watched::default());
            watch.refresh(&path, &mut watched).unwrap();
            Self { path, watch, watched }
        }

        /// Whether a scan that begins now must leave the name alone.
        fn holds(&mut self, name: &str) -> bool {
            // At one moment, so that no short hold ends in between.
            let now = Instant::now();
            self.watch.read(now).unwrap();
            self.watch.scan_begins(now);
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
            // After a pause of a second it is one of many again.
            if !(105..115).contains(&tenths) {
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }
            fixture.watch.read(now + Duration::from_millis(1)).unwrap();
            let is_held = fixture.watch.holds(&fixture.path, OsStr::new("a.ini"));
            assert_eq!(is_held, !(101..115).contains(&tenths), "{tenths}");
            // A name that is not held is looked at once a second after an event.
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
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        fs::write(&path, "new").unwrap();
        assert!(!fixture.holds("a.ini"));
        rustix::fs::renameat_with(CWD, &backup, CWD, &path, exchange).unwrap();
        assert!(!fixture.holds("a.ini"));
    }

    #[test]
    fn a_file_that_is_renamed_and_replaced_is_known_by_its_first_name() {
        let mut fixture = Fixture::new("moved");
        let at = |name: &str| fixture.path.join(name);
        fs::write(at("a.ini"), "text").unwrap();
        for (from, to) in [("a.ini", "b.tmp"), ("b.tmp", "c.ini")] {
            fs::rename(at(from), at(to)).unwrap();
        }
        fs::write(at("edited"), "text").unwrap();
        fs::rename(at("edited"), at("c.ini")).unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        let before = |fixture: &Fixture| {
            fixture.watch.name_before(&fixture.path, OsStr::new("c.ini")).map(OsStr::to_owned)
        };
        assert_eq!(before(&fixture), Some("a.ini".into()));
        fixture.watch.scan_begins(Instant::now() + RETURN);
        fixture.watch.forget_moves(&Rc::clone(&fixture.path));
        assert_eq!(before(&fixture), None);
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
        assert!(fixture.watch.refresh(&fixture.path, &mut fixture.watched).is_err());
        fs::create_dir(&*fixture.path).unwrap();
        fixture.watch.refresh(&fixture.path, &mut fixture.watched).unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        fixture.watch.scan_begins(Instant::now());
        fs::write(fixture.path.join("a.ini"), "text").unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.scan_wanted().is_some());
    }

    #[test]
    fn a_directory_that_two_paths_lead_to_is_watched_until_both_are_forgotten() {
        let mut fixture = Fixture::new("twice");
        let other: Rc<Path> = fixture.path.join(".").into();
        let mut watched = Watched::default();
        fixture.watch.refresh(&other, &mut watched).unwrap();
        fixture.watch.forget(&fixture.path, &fixture.watched);
        fs::write(fixture.path.join("a.ini"), "text").unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert!(fixture.watch.holds(&other, OsStr::new("a.ini")));
        fixture.watch.forget(&other, &watched);
        fixture.watch.scan_begins(Instant::now() + WRITER_MAX);
        fixture.watch.scan_begins(Instant::now() + WRITER_MAX);
        fs::write(fixture.path.join("a.ini"), "text").unwrap();
        fixture.watch.read(Instant::now()).unwrap();
        assert_eq!(fixture.watch.scan_wanted(), None);
    }

    #[test]
    fn a_directory_of_thousands_takes_no_longer_than_one_of_hundreds() {
        let fixture = Fixture::new("many");
        // The least processor time of a scan, so that other programs do not count.
        let each = |count: usize| {
            let mut watch = Watch::new(Rc::default());
            let path = |number: usize| Rc::from(fixture.path.join(format!("{count}-{number}")));
            let mut all: Vec<(Rc<Path>, _)> = (0..count).map(|n| (path(n), Watched::default())).collect();
            for (path, _) in &all {
                fs::create_dir(path).unwrap();
            }
            let mut scan = || {
                let began = clock_gettime(ClockId::ThreadCPUTime);
                for (path, watched) in &mut all {
                    watch.refresh(path, watched).unwrap();
                }
                let took = clock_gettime(ClockId::ThreadCPUTime) - began;
                Duration::try_from(took).unwrap() / count as u32
            };
            scan();
            (0..5).map(|_| scan()).min().unwrap()
        };
        let (few, many) = (each(200), each(6_000));
        assert!(many < few * 12, "{few:?} each of 200, {many:?} each of 6000");
    }
}
