//! The vassal directories: scanned when something happened in them, and now and then anyway.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::later;
use super::scan::{self, Change, Listing};
use super::watch::Watch;
use crate::config::plan::Located;
use crate::error::{Error, Result};
use crate::log;
use crate::log::Elapsed;

/// Scans follow each other no faster than this, so that a flood of events costs a bounded share of the time.
const SPACING: Duration = Duration::from_millis(50);

/// A scan that nothing asked for is put off while it would take more than one part in this many of the time: with thousands
/// of files it would be most of what an idle emperor does.
const SHARE: u32 = 1000;
/// It is put off to no more than so many intervals.
const PUT_OFF: u32 = 10;

/// All directories of an emperor.
pub struct Directories {
    /// What tells us of changes.
    pub watch: Watch,
    directories: Vec<Directory>,
    interval: Duration,
    last_scan: Option<Instant>,
    /// How long the last scan took.
    took: Duration,
}

struct Directory {
    source: Located<PathBuf>,
    listing: Listing,
    /// Why the last look failed, so that it is said once and not with every scan.
    trouble: Option<Error>,
    /// The same for the watch.
    blind: Option<Error>,
}

impl Directories {
    /// Directories that were never looked at: the first scan is due at once.
    ///
    /// # Errors
    /// As [`Watch::new`].
    pub fn new(sources: &[Located<PathBuf>], interval: Duration) -> Result<Self> {
        let watch = Watch::new(sources.iter().map(|source| source.value.clone()))?;
        let directories = sources
            .iter()
            .map(|source| Directory {
                source: source.clone(),
                listing: Listing::new(),
                trouble: None,
                blind: None,
            })
            .collect();
        Ok(Self { watch, directories, interval, last_scan: None, took: Duration::ZERO })
    }

    /// When the next scan is due; `now` if there was none.
    pub fn due(&self, now: Instant) -> Instant {
        let Some(last) = self.last_scan else { return now };
        // Where nothing tells of changes, scans are the only way to find them.
        let told = self.directories.iter().all(|directory| directory.blind.is_none());
        let rarely = (self.took * SHARE).clamp(self.interval, self.interval.saturating_mul(PUT_OFF));
        let regular = later(last, if told { rarely } else { self.interval });
        let wanted = self.watch.scan_wanted().map_or(regular, |wanted| wanted.min(regular));
        wanted.max(last + SPACING)
    }

    /// Looks at every directory and returns what changed, by path. What cannot be read is logged, and stays as it was.
    pub fn scan(&mut self, now: Instant) -> Vec<(Rc<Path>, Change)> {
        self.last_scan = Some(now);
        self.watch.scan_begins(now);
        let mut changes = Vec::new();
        for (index, directory) in self.directories.iter_mut().enumerate() {
            let watched = self.watch.refresh(index);
            let listed = scan::list(&directory.source.value);
            // What happened up to here may or may not be in the listing: these names are held until the next scan.
            if let Err(error) = self.watch.read(Instant::now()) {
                log!("{error}");
            }
            directory.say_trouble(watched, &listed, self.interval);
            let Ok(new) = listed else { continue };
            let found = scan::commit(&mut directory.listing, new, |name| self.watch.holds(index, name));
            let path = &directory.source.value;
            changes.extend(found.into_iter().map(|(name, change)| (Rc::from(path.join(name)), change)));
        }
        self.took = now.elapsed();
        changes
    }
}

impl Directory {
    /// One line when looking or watching begins to fail, fails differently, or works again.
    fn say_trouble(&mut self, watched: Result<()>, listed: &Result<Listing>, interval: Duration) {
        let Located { value, key, at } = &self.source;
        let trouble = listed.as_ref().err().cloned();
        if trouble != self.trouble {
            match &trouble {
                Some(error) => {
                    log!(
                        "{at}: {key}: {error}; its vassals stay as they are, next look in {}",
                        Elapsed(interval)
                    );
                }
                None => log!("{at}: {key}: {} can be read again", value.display()),
            }
        }
        // A directory that cannot be read cannot be watched either; once is enough.
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
    use std::fs;

    #[test]
    fn a_directory_that_cannot_be_read_loses_no_vassal() {
        let path = std::env::temp_dir().join(format!("vassal-directories-{}", std::process::id()));
        let away = path.with_extension("away");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a.ini"), "text").unwrap();
        let at = Location { file: "emperor.ini".into(), line: 2, column: 1 };
        let source = Located { value: path.clone(), key: "emperor".into(), at };
        let mut directories = Directories::new(&[source], Duration::from_secs(3)).unwrap();
        let now = Instant::now();
        assert_eq!(directories.due(now), now);
        assert_eq!(directories.scan(now), [(Rc::from(path.join("a.ini")), Change::Appeared)]);
        assert_eq!(directories.due(now), now + Duration::from_secs(3).max(directories.took * SHARE));
        for (took, wait) in [(2, 3), (5, 5), (60, 30)] {
            directories.took = Duration::from_millis(took);
            assert_eq!(directories.due(now), now + Duration::from_secs(wait), "{took} ms");
        }

        fs::rename(&path, &away).unwrap();
        assert_eq!(directories.scan(Instant::now()), []);
        fs::rename(&away, &path).unwrap();
        assert_eq!(directories.scan(Instant::now()), []);
        fs::remove_file(path.join("a.ini")).unwrap();
        directories.watch.read(Instant::now()).unwrap();
        let now = Instant::now();
        assert!(directories.due(now) <= now + SPACING);
        assert_eq!(directories.scan(now), [(Rc::from(path.join("a.ini")), Change::Removed)]);
        fs::remove_dir(&path).unwrap();
    }
}
