//! The emperor's side of the scouts: starts them, and queues what they find.
//!
//! A directory may hang, and so may the target of a link in it. So a separate process, a [`scout`], looks at
//! each source of the configuration. A scout that hangs delays the news of its own directories only, and
//! continues by itself once the filesystem answers.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::pread;

use super::directories::{Directories, FileChange, anchored};
use super::followers::Lateness;
use super::moves::Moves;
use super::patterns::{covers, fixed_part};
use super::scan::{Change, Rules};
use super::scout::{self, Finding, Said};
use crate::config::plan::{Located, Source};
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::history::History;
use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::names::is_pattern_of;
use crate::emperor::core::status::{IGNORED, Status};
use crate::emperor::core::text::{later, readable};
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::deputy::Deputy;
use crate::error::{Context, Result};
use crate::log;
use crate::log::{Date, Elapsed, printable};
use crate::protocol::{Received, receive};
use crate::running_time::earliest;

/// A directory that takes longer than this to be looked at does not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The pause before another scout takes the place of one that has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// How many packets of one scout are read in a turn.
const PACKETS_PER_TURN: usize = 64;

/// How many files that cannot be vassals are remembered.
const IGNORED_MAX: usize = 1000;

static NO_MOUNTPOINTS: Mountpoints = Mountpoints::none();

/// A result of the scouts.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The directory at this path exists, or was replaced by another one. It is the directory of a source, or
    /// the one in which the wildcards of a pattern begin.
    Directory(PathBuf, FileId),
    /// A file has changed.
    Changed(Finding),
    /// A scan of all directories of a source is complete. Every change that it found was reported before.
    Complete {
        /// Whether it has left no change for the next scan.
        is_settled: bool,
        /// When it began.
        began: Instant,
    },
    /// The scout that has found these files has ended. The next one will report them as new.
    Forgotten(Vec<Rc<VassalFile>>),
}

/// Has the directories scanned, and queues the results.
pub struct Discovery {
    scouts: Vec<Scout>,
    moves: Moves,
    /// Results that come before those of the scouts.
    ready: VecDeque<Found>,
    rules: Rules,
    interval: Duration,
    /// Readable when a scout has sent something. The events carry the indices of the scouts.
    events: OwnedFd,
    /// The scout whose result was taken last.
    last: usize,
    /// Whether no more results are wanted.
    stopped: bool,
    /// The files that cannot be vassals.
    ignored: Vec<Ignored>,
}

/// A file that cannot be a vassal.
struct Ignored {
    file: Rc<VassalFile>,
    /// The scout that has found it.
    scout: usize,
    /// Has the reason as the last end.
    history: History,
}

/// The sources that one process scans.
struct Scout {
    sources: Vec<Located<Source>>,
    deputy: Option<Deputy>,
    /// When to start the next process, while there is none.
    begin_at: Instant,
    /// The memory file in which it notes what it looks at.
    notes: Option<OwnedFd>,
    /// Since when it has sent nothing, while it looks at something or is about to begin.
    looks: Option<Instant>,
    /// When it last began to look at something.
    began: Instant,
    /// Since when it does not answer.
    silent: Option<Silence>,
    /// Directories that do not answer, to which links in its own lead.
    late: Vec<Silence>,
    /// Whether a scan is complete.
    has_completed: bool,
    /// Whether that scan has left no change for the next one.
    is_settled: bool,
    /// Whether the present process has completed a scan.
    knows_all: bool,
    /// Its results that were not taken yet.
    found: VecDeque<Found>,
}

/// A directory does not answer.
struct Silence {
    since: Instant,
    /// `directory DIR does not answer since TIME`, with the link that leads there, if one does.
    text: String,
    directory: PathBuf,
}

impl Discovery {
    /// Nothing was scanned yet, and the first scan is due at once. Relative paths start at `cwd`.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub fn new(
        sources: &[Located<Source>],
        rules: Rules,
        interval: Duration,
        cwd: &Path,
        now: Instant,
    ) -> Result<Self> {
        let mut scouts: Vec<Scout> = Vec::new();
        for source in sources.iter().map(|source| anchored(source, cwd)) {
            // Only a process that sees all directories in which a file may be can tell that it is gone for
            // good.
            let shares =
                |scout: &&mut Scout| scout.sources.iter().any(|other| overlap(&other.value, &source.value));
            match scouts.iter_mut().find(shares) {
                Some(scout) => scout.sources.push(source),
                None => scouts.push(Scout::new(source, now)),
            }
        }
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?;
        let (moves, ready) = (Moves::new(scouts.len() > 1), VecDeque::new());
        Ok(Self {
            scouts,
            moves,
            ready,
            rules,
            interval,
            events,
            last: 0,
            stopped: false,
            ignored: Vec::new(),
        })
    }

    /// Readable when a scout has sent something.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// When [`Discovery::time`] or [`Discovery::take`] has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.stopped {
            return None;
        }
        if !self.ready.is_empty() || self.next().is_some() {
            return Some(now);
        }
        self.scouts.iter().filter_map(Scout::deadline).chain(self.moves.deadline()).min()
    }

    /// Reads the packets of scouts.
    pub fn read_events(&mut self, now: Instant) {
        if self.stopped {
            return;
        }
        let mut ready = Vec::with_capacity(16);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut ready), Some(&at_once));
        for event in ready {
            let Self { scouts, events, .. } = self;
            if let Some(scout) = scouts.get_mut(event.data.u64() as usize) {
                scout.listen(events, now);
            }
        }
    }

    /// Starts scouts that are missing, and logs those that do not answer.
    pub fn time(&mut self, now: Instant) {
        if self.stopped {
            return;
        }
        let over = self.moves.time(now);
        self.ready.extend(over.into_iter().map(Found::Changed));
        for index in 0..self.scouts.len() {
            let Self { scouts, rules, interval, events, .. } = self;
            let Some(scout) = scouts.get_mut(index) else { return };
            if scout.deputy.is_none() && scout.begin_at <= now {
                scout.begin_at = later(now, PAUSE);
                match scout.begin(rules, *interval, events, index as u64) {
                    Ok(deputy) => scout.deputy = Some(deputy),
                    Err(error) => log!("{error}: {} is looked at later", scout.directory().display()),
                }
            }
            let is_heard = scout.silent.is_none() && scout.found.is_empty();
            if is_heard && scout.looks.is_some_and(|since| later(since, PATIENCE) <= now) {
                scout.falls_silent(now);
            }
        }
    }

    /// The next result.
    pub fn take(&mut self, now: Instant) -> Option<Found> {
        loop {
            if let Some(found) = self.ready.pop_front() {
                return Some(found);
            }
            let index = self.next()?;
            self.last = index;
            let scout = self.scouts.get_mut(index)?;
            match scout.found.pop_front()? {
                Found::Changed(finding) => {
                    let FileChange { file, change } = &finding.change;
                    note_ignored(&mut self.ignored, file, change, index);
                    let waits = scout.knows_all.then(|| self.interval.saturating_add(PAUSE));
                    let changes = self.moves.take_in(finding, index, waits, now);
                    self.ready.extend(changes.into_iter().map(Found::Changed));
                }
                Found::Complete { is_settled, began } => {
                    (scout.has_completed, scout.is_settled, scout.knows_all) = (true, is_settled, true);
                    if is_settled {
                        let over = self.moves.complete(index, began);
                        self.ready.extend(over.into_iter().map(Found::Changed));
                    }
                    self.ready.push_back(Found::Complete { is_settled, began });
                }
                Found::Forgotten(_) => {
                    scout.knows_all = false;
                    self.ignored.retain(|ignored| ignored.scout != index);
                    return Some(Found::Forgotten(self.moves.forget(index)));
                }
                found @ Found::Directory(..) => return Some(found),
            }
        }
    }

    /// The scout whose result is taken next. Until all are complete, the results come in the order of the
    /// configuration, so that of two files with one name always the same one is started. A scout that does
    /// not answer is skipped. Later the scouts take turns, because one may always have more.
    fn next(&self) -> Option<usize> {
        if self.scouts.iter().all(Scout::is_known) {
            let count = self.scouts.len();
            let mut by_turns = (1..=count).map(|after| (self.last + after) % count);
            return by_turns.find(|&index| self.scouts.get(index).is_some_and(|one| !one.found.is_empty()));
        }
        for (index, scout) in self.scouts.iter().enumerate() {
            if !scout.found.is_empty() {
                return Some(index);
            }
            if !scout.is_known() {
                return None;
            }
        }
        None
    }

    /// Whether every directory that answers was scanned, and all results were taken.
    pub fn is_idle(&self) -> bool {
        let is_idle = |scout: &Scout| scout.found.is_empty() && scout.is_known();
        self.stopped || self.ready.is_empty() && self.scouts.iter().all(is_idle)
    }

    /// Why a file that no scan has found is given up; `None` if it may still be found. A file that is in none
    /// of the directories is given up if it `is_late`.
    pub fn given_up(&self, file: &Path, is_late: bool) -> Option<&'static str> {
        let is_its = |scout: &&Scout| {
            let covers = |source: &Located<Source>| covers(&source.value, file);
            file.file_name().is_some_and(|name| self.rules.is_vassal(name))
                && scout.sources.iter().any(covers)
        };
        let mut looked_for = self.scouts.iter().filter(is_its).map(|scout| scout.is_settled).peekable();
        match looked_for.peek() {
            Some(_) => looked_for.all(|is_settled| is_settled).then_some("file removed"),
            None => is_late.then_some("its directory is not watched any more"),
        }
    }

    /// How many files cannot be vassals.
    pub fn ignored_count(&self) -> usize {
        self.ignored.len()
    }

    /// Why a file of this name, with the suffix or without, cannot be a vassal, if there is one.
    pub fn refusal(&self, name: &OsStr) -> Option<String> {
        let is_it = |ignored: &&Ignored| ignored.file.file() == name || ignored.file.name() == name;
        let Ignored { file, history, .. } = self.ignored.iter().find(is_it)?;
        let why = history.past.last_end.as_deref().unwrap_or_default();
        Some(format!("{} is ignored: {why}", readable(file.as_os_str())))
    }

    /// The files that cannot be vassals and whose whole name one of these patterns matches, or all if there
    /// is none, as the status of vassals.
    pub fn ignored(&self, patterns: &[&OsStr]) -> Vec<Status<'_>> {
        let mut all = Vec::new();
        for Ignored { file, history, .. } in &self.ignored {
            if patterns.is_empty() || patterns.iter().any(|pattern| is_pattern_of(pattern, file.file())) {
                let mut status = Status::down(file, IGNORED, history, &NO_MOUNTPOINTS);
                (status.name, status.problem) = (readable(file.file()), Some("ignored file"));
                all.push(status);
            }
        }
        all
    }

    /// The directories that do not answer, one line for each.
    pub fn silent(&self) -> String {
        let mut lines = String::new();
        for silence in self.scouts.iter().flat_map(|scout| scout.silent.iter().chain(&scout.late)) {
            let _ = writeln!(lines, "The {}", printable(&silence.text));
        }
        lines
    }

    /// Kills the scouts that may hang, before an exec. The others find their links closed then, and end; the
    /// followers end with their scouts. If the exec fails, others take their places.
    pub fn kill_hanging(&self) {
        let looking = self.scouts.iter().filter(|scout| scout.looks.is_some());
        looking.filter_map(|scout| scout.deputy.as_ref()).for_each(Deputy::kill);
    }

    /// Stops the scouts.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.ready.clear();
        self.scouts.iter_mut().for_each(|scout| scout.found.clear());
        self.scouts.iter().filter_map(|scout| scout.deputy.as_ref()).for_each(Deputy::kill);
    }

    /// Waits until all scouts have ended, except for those that hang.
    pub fn finish(self) {
        let answering = self.scouts.into_iter().filter(|scout| scout.silent.is_none());
        answering.filter_map(|scout| scout.deputy).for_each(|deputy| _ = deputy.end());
    }
}

/// Notes what a scout has found, if it is about a file that cannot be a vassal.
fn note_ignored(all: &mut Vec<Ignored>, file: &Rc<VassalFile>, change: &Change, scout: usize) {
    // A refused file is told of as removed, too, if it was a vassal's before.
    if *change != Change::Removed {
        all.retain(|ignored| ignored.file != *file);
    }
    if let (Change::Refused(why), ..IGNORED_MAX) = (change, all.len()) {
        let mut history = History::default();
        history.past.last_end = Some(why.clone());
        all.push(Ignored { file: Rc::clone(file), scout, history });
    }
}

/// Whether two sources may share a directory. The target of a link counts as another directory.
fn overlap(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Directory(one), Source::Directory(other)) => one == other,
        _ => {
            let (one, other) = (fixed_part(one), fixed_part(other));
            one.starts_with(other) || other.starts_with(one)
        }
    }
}

impl Scout {
    fn new(source: Located<Source>, now: Instant) -> Self {
        Self {
            sources: vec![source],
            deputy: None,
            begin_at: now,
            notes: None,
            looks: Some(now),
            began: now,
            silent: None,
            late: Vec::new(),
            has_completed: false,
            is_settled: false,
            knows_all: false,
            found: VecDeque::new(),
        }
    }

    /// The first directory or pattern, which represents the others.
    fn directory(&self) -> &Path {
        self.sources.first().map_or(Path::new(""), |source| source.value.path())
    }

    /// Whether its first scan is complete, or cannot be waited for.
    fn is_known(&self) -> bool {
        self.has_completed || self.silent.is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        let is_heard = self.silent.is_none() && self.found.is_empty();
        let tell_at = self.looks.filter(|_| is_heard).map(|since| later(since, PATIENCE));
        let begin_at = self.deputy.is_none().then_some(self.begin_at);
        earliest(&[tell_at, begin_at])
    }

    fn begin(&self, rules: &Rules, interval: Duration, events: &OwnedFd, place: u64) -> Result<Deputy> {
        let deputy = Deputy::start(c"emperor-scout", |link| {
            let directories = Directories::new(&self.sources, rules.clone(), interval, Path::new(""));
            scout::run(directories, &link);
        })?;
        let data = epoll::EventData::new_u64(place);
        epoll::add(events, &deputy.link, data, epoll::EventFlags::IN).context("listen to", "scout")?;
        Ok(deputy)
    }

    /// Reads the packets of the process.
    fn listen(&mut self, events: &OwnedFd, now: Instant) {
        for _ in 0..PACKETS_PER_TURN {
            let Some(deputy) = &self.deputy else { return };
            match receive(&deputy.link) {
                Ok(Received::Nothing) => return,
                Ok(Received::Packet(packet, file)) => {
                    self.answers(now);
                    self.notes = file.or(self.notes.take());
                    match Said::decode(&packet) {
                        Some(said) => self.said(said, now),
                        None => return,
                    }
                }
                Ok(Received::Closed) | Err(_) => return self.ended(events, now),
            }
        }
    }

    fn said(&mut self, said: Said, now: Instant) {
        match said {
            Said::Hello => {}
            Said::Looks => self.began = now,
            Said::Rests => self.looks = None,
            Said::Directory(path, id) => self.found.push_back(Found::Directory(path, id)),
            Said::Late(Lateness { place, link, since: Some(since) }) => {
                let text = format!("{}: waiting for {}", no_answer(&place, since, now), link.display());
                self.tell(&format!("{text}; keeping what runs"));
                self.late.push(Silence { since, text, directory: place });
            }
            Said::Late(Lateness { place, .. }) => {
                if let Some(index) = self.late.iter().position(|late| late.directory == place) {
                    let silence = self.late.swap_remove(index);
                    self.tell_end(&silence, now);
                }
            }
            Said::Found(finding) => self.found.push_back(Found::Changed(finding)),
            Said::Complete { is_settled } => {
                self.found.push_back(Found::Complete { is_settled, began: self.began });
            }
        }
    }

    /// Takes in that the process has ended, which it does not do by itself.
    fn ended(&mut self, events: &OwnedFd, now: Instant) {
        let Some(deputy) = self.deputy.take() else { return };
        let (pid, shown) = (deputy.pid(), self.directory().display());
        log!(
            "pid {pid}, which looks at {shown}, has ended: another one takes its place in {}",
            Elapsed(PAUSE)
        );
        // Explicitly: a child that has not reached its exec yet may hold a copy of the descriptor.
        let _ = epoll::delete(events, &deputy.link);
        self.begin_at = later(now, PAUSE);
        self.looks = Some(now);
        self.is_settled = false;
        self.late.clear();
        self.found.push_back(Found::Forgotten(Vec::new()));
    }

    /// Notes that the process has sent something.
    fn answers(&mut self, now: Instant) {
        self.looks = Some(now);
        if let Some(silence) = self.silent.take() {
            self.tell_end(&silence, now);
        }
    }

    fn tell_end(&self, Silence { since, directory, .. }: &Silence, now: Instant) {
        let after = Elapsed(now.saturating_duration_since(*since));
        self.tell(&format!("directory {} answers again, after {after}", directory.display()));
    }

    /// Notes that the process has sent nothing for too long.
    fn falls_silent(&mut self, now: Instant) {
        let since = self.looks.unwrap_or(now);
        let mut text = [0; 8192];
        let length = self.notes.as_ref().and_then(|notes| pread(notes, &mut text, 0).ok()).unwrap_or(0);
        let noted = text.get(..length).unwrap_or_default().split(|&byte| byte == 0).next();
        let noted = noted.filter(|path| !path.is_empty()).map(|path| Path::new(OsStr::from_bytes(path)));
        let directory = noted.unwrap_or(self.directory()).to_owned();
        let text = match self.deputy {
            Some(_) => no_answer(&directory, since, now),
            None => format!("directory {} is not looked at since {}", directory.display(), ago(since, now)),
        };
        self.tell(&format!("{text}; keeping what runs"));
        self.silent = Some(Silence { since, text, directory });
    }

    fn tell(&self, text: &str) {
        if let Some(Located { at, key, .. }) = self.sources.first() {
            log!("{at}: {key}: {text}");
        }
    }
}

fn no_answer(directory: &Path, since: Instant, now: Instant) -> String {
    format!("directory {} does not answer since {}", directory.display(), ago(since, now))
}

fn ago(since: Instant, now: Instant) -> Date {
    Date::ago(now.saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Location;

    #[test]
    fn a_source_that_always_has_more_keeps_no_other_one_waiting() {
        let at = Location { file: "emperor.ini".into(), line: 2, column: 1 };
        let sources = ["/a", "/b"].map(|path| Located {
            value: Source::Directory(path.into()),
            key: "emperor".into(),
            at: at.clone(),
        });
        let (pause, cwd) = (Duration::from_secs(3), Path::new(""));
        let mut discovery = Discovery::new(&sources, Rules::default(), pause, cwd, Instant::now()).unwrap();
        for scout in &mut discovery.scouts {
            scout.has_completed = true;
            let path = scout.directory().to_owned();
            let found = |inode| Found::Directory(path.clone(), FileId { device: 1, inode });
            scout.found.extend([1, 2].map(found));
        }
        let taken: Vec<_> = std::iter::from_fn(|| match discovery.take(Instant::now())? {
            Found::Directory(path, id) => Some((path, id.inode)),
            _ => None,
        })
        .collect();
        assert_eq!(taken, [("/b", 1), ("/a", 1), ("/b", 2), ("/a", 2)].map(|(path, id)| (path.into(), id)));
    }

    #[test]
    fn a_directory_that_no_process_can_look_at_is_not_said_to_hang() {
        let at = Location { file: "emperor.ini".into(), line: 2, column: 1 };
        let source = Located { value: Source::Directory("/a".into()), key: "emperor".into(), at };
        let mut scout = Scout::new(source, Instant::now());
        scout.falls_silent(Instant::now());
        let text = scout.silent.unwrap().text;
        assert!(text.starts_with("directory /a is not looked at since "), "{text}");
    }

    #[test]
    fn sources_that_may_have_a_directory_in_common_are_looked_at_together() {
        let directory = |path: &str| Source::Directory(path.into());
        let pattern = |path: &str| Source::Pattern(path.into());
        for (one, other, is_shared) in [
            (directory("/v"), directory("/v"), true),
            (directory("/v"), directory("/v/a"), false),
            (directory("/v"), pattern("/v/*.ini"), true),
            (directory("/v/a"), pattern("/v/*/x.ini"), true),
            (directory("/w"), pattern("/v/*/x.ini"), false),
            (pattern("/v/a/*/x.ini"), pattern("/v/*/*/y.ini"), true),
            (pattern("/v/a*/x.ini"), pattern("/w/*/y.ini"), false),
        ] {
            assert_eq!(overlap(&one, &other), is_shared, "{one:?} {other:?}");
            assert_eq!(overlap(&other, &one), is_shared, "{one:?} {other:?}");
        }
    }
}
