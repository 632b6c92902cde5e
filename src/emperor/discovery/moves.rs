//! Files that are moved to another directory.
//!
//! The new name and the loss of the old one are found at different times, possibly by different scouts. A new
//! name waits until it is known whether the file is still there under its old name. So the vassal goes on
//! under the new name, and never runs twice. Within one directory a scan finds a rename by itself.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::scan::Change;
use super::scout::Finding;
use crate::emperor::core::text::later;
use crate::emperor::core::vassal_file::VassalFile;

/// How long a file that is gone may take to be found elsewhere.
const GONE_MAX: Duration = Duration::from_secs(10);
/// Where several scouts look, a file is gone only after this: another one may be about to find it.
const LEAVING: Duration = Duration::from_millis(200);

/// The files that scouts have found.
#[derive(Default)]
pub struct Moves {
    known: Vec<Known>,
    /// New names of files that have other names as well, or had them until just now.
    arriving: Vec<Arrival>,
    /// Files that are gone.
    gone: Vec<Gone>,
    /// Whether several scouts look.
    has_several: bool,
}

struct Gone {
    known: Known,
    /// What is not told yet, and when it is.
    untold: Option<(Finding, Instant)>,
    /// Until when it may be found elsewhere.
    until: Instant,
}

struct Known {
    file: Rc<VassalFile>,
    /// Of the name itself, which may be a link.
    identity: Identity,
    scout: usize,
}

struct Arrival {
    finding: Finding,
    scout: usize,
    since: Instant,
    /// When it counts as another name of the file, whatever scouts say.
    until: Instant,
}

impl Moves {
    /// Nothing was found yet. `has_several` scouts may find the same file.
    pub fn new(has_several: bool) -> Self {
        Self { has_several, ..Self::default() }
    }

    /// Takes in what a scout has found. Returns what is to be acted on. `waits` is how long a new name may
    /// wait for news of the old one; `None` if the scout has not found all its files yet.
    pub fn take_in(
        &mut self,
        mut finding: Finding,
        scout: usize,
        waits: Option<Duration>,
        now: Instant,
    ) -> Vec<Finding> {
        self.gone.retain(|gone| gone.until > now);
        let identity = finding.itself;
        let file = Rc::clone(&finding.change.file);
        let is_file = |known: &Known| *known.file == *file;
        let arrives = self.arriving.iter().position(|arrival| *arrival.finding.change.file == *file);
        match (&finding.change.change, arrives) {
            (Change::Appeared, _) => {
                // One that is back under its name was not moved, as after another mount was over it.
                self.gone.retain(|gone| !is_file(&gone.known));
                if let Some(waits) = waits.filter(|_| identity.id.inode != 0) {
                    if self.known.iter().any(|known| known.identity == identity && !is_file(known)) {
                        let until = later(now, waits);
                        self.arriving.push(Arrival { finding, scout, since: now, until });
                        return Vec::new();
                    }
                    if let Some(index) = self.gone.iter().position(|gone| gone.known.identity == identity) {
                        finding.change.change = renamed(&self.gone.swap_remove(index).known.file);
                    }
                }
                self.know(&file, identity, scout);
            }
            (Change::Renamed { before }, _) => {
                let before = file.beside(before);
                self.known.retain(|known| *known.file != before || known.identity != identity);
                // The file that had the new name until now.
                let replaced = self.known.extract_if(.., |known| is_file(known)).next();
                let moved = replaced.and_then(|replaced| self.arrival_of(&replaced.identity, &file));
                if let Some(arrival) = self.arriving.iter_mut().find(|other| other.is_of(&before)) {
                    finding.change.change = Change::Appeared;
                    arrival.finding = finding;
                    return moved.into_iter().collect();
                }
                self.know(&file, identity, scout);
                return moved.into_iter().chain([finding]).collect();
            }
            (Change::Changed, Some(index)) => {
                finding.change.change = Change::Appeared;
                if let Some(arrival) = self.arriving.get_mut(index) {
                    arrival.finding = finding;
                }
                return Vec::new();
            }
            (Change::Changed, None) => {
                let known = self.known.iter_mut().find(|known| is_file(known));
                let before = known.map(|known| std::mem::replace(&mut known.identity, identity));
                // Another file has the old name now.
                if let Some(before) = before.filter(|before| *before != identity) {
                    let moved = self.arrival_of(&before, &file);
                    return moved.into_iter().chain([finding]).collect();
                }
            }
            (Change::Removed, Some(index)) => {
                self.arriving.swap_remove(index);
                return Vec::new();
            }
            (Change::Removed, None) => {
                let Some(index) = self.known.iter().position(is_file) else { return vec![finding] };
                let known = self.known.swap_remove(index);
                if let Some(moved) = self.arrival_of(&known.identity, &file) {
                    return vec![moved];
                }
                let (told, untold) = match self.has_several {
                    true => (None, Some((finding, later(now, LEAVING)))),
                    false => (Some(finding), None),
                };
                self.gone.push(Gone { known, untold, until: later(now, GONE_MAX) });
                return told.into_iter().collect();
            }
            (Change::Refused(_) | Change::Gone, _) => {}
        }
        vec![finding]
    }

    /// Takes in that a scout has looked at all its directories since `began`, and that no change is left.
    /// Returns the new names of files that are still there under another one.
    pub fn complete(&mut self, scout: usize, began: Instant) -> Vec<Finding> {
        let Self { known, .. } = self;
        let is_its = |arrival: &Arrival| {
            let identity = arrival.finding.itself;
            known.iter().all(|known| known.identity != identity || known.scout == scout)
        };
        let over = self.arriving.extract_if(.., |arrival| arrival.since < began && is_its(arrival));
        let over: Vec<_> = over.collect();
        self.know_all(over)
    }

    /// The new names that have waited long enough, and the losses of old ones.
    pub fn time(&mut self, now: Instant) -> Vec<Finding> {
        let over = self.arriving.extract_if(.., |arrival| arrival.until <= now).collect();
        let mut all = self.know_all(over);
        let untold = self.gone.iter_mut().filter_map(|gone| gone.untold.take_if(|(_, at)| *at <= now));
        all.extend(untold.map(|(finding, _)| finding));
        all
    }

    /// When [`Moves::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let untold = self.gone.iter().filter_map(|gone| gone.untold.as_ref().map(|(_, at)| *at));
        self.arriving.iter().map(|arrival| arrival.until).chain(untold).min()
    }

    /// Takes in that a scout has ended. Returns its files, which the next one will find again.
    pub fn forget(&mut self, scout: usize) -> Vec<Rc<VassalFile>> {
        self.arriving.retain(|arrival| arrival.scout != scout);
        self.known.extract_if(.., |known| known.scout == scout).map(|known| known.file).collect()
    }

    fn know(&mut self, file: &Rc<VassalFile>, identity: Identity, scout: usize) {
        self.known.push(Known { file: Rc::clone(file), identity, scout });
    }

    fn know_all(&mut self, over: Vec<Arrival>) -> Vec<Finding> {
        for Arrival { finding, scout, .. } in &over {
            self.know(&finding.change.file, finding.itself, *scout);
        }
        over.into_iter().map(|arrival| arrival.finding).collect()
    }

    /// The new name of this file, which is gone from `before`.
    fn arrival_of(&mut self, identity: &Identity, before: &Path) -> Option<Finding> {
        let index = self.arriving.iter().position(|arrival| arrival.finding.itself == *identity)?;
        let Arrival { mut finding, scout, .. } = self.arriving.swap_remove(index);
        finding.change.change = renamed(before);
        self.know(&Rc::clone(&finding.change.file), finding.itself, scout);
        Some(finding)
    }
}

impl Arrival {
    fn is_of(&self, file: &VassalFile) -> bool {
        *self.finding.change.file == *file
    }
}

/// The change of a file that was at this path before.
fn renamed(before: &Path) -> Change {
    Change::Renamed { before: before.as_os_str().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::file_version::{FileId, FileVersion};
    use crate::emperor::discovery::directories::FileChange;

    /// What two scouts have found, and what comes of it.
    struct Story {
        moves: Moves,
        now: Instant,
    }

    impl Story {
        /// Both know all of their files, among them one file of each.
        fn new() -> Self {
            let mut story = Self { moves: Moves::default(), now: Instant::now() };
            for (scout, path) in [(0, "/v/a.ini"), (1, "/w/b.ini")] {
                assert_eq!(
                    story.find(scout, path, Change::Appeared, scout as u64),
                    [format!("{path} Appeared")]
                );
            }
            story
        }

        fn find(&mut self, scout: usize, path: &str, change: Change, inode: u64) -> Vec<String> {
            self.find_among(scout, path, change, inode, Some(Duration::from_secs(4)))
        }

        fn find_among(
            &mut self,
            scout: usize,
            path: &str,
            change: Change,
            inode: u64,
            waits: Option<Duration>,
        ) -> Vec<String> {
            let is_gone = change == Change::Removed;
            let file = Rc::new(VassalFile::new(path.into(), 1));
            let version = FileVersion::default();
            let inode = if is_gone { 0 } else { 100 + inode };
            let itself = Identity { id: FileId { device: 1, inode }, ..Identity::default() };
            let change = FileChange { file, change };
            let finding = Finding { change, version, itself, owner: None };
            shown(self.moves.take_in(finding, scout, waits, self.now))
        }

        fn pass(&mut self, seconds: u64) -> Vec<String> {
            self.now += Duration::from_secs(seconds);
            shown(self.moves.time(self.now))
        }
    }

    fn shown(findings: Vec<Finding>) -> Vec<String> {
        let show = |finding: Finding| {
            let FileChange { file, change } = finding.change;
            match change {
                Change::Renamed { before } => format!("{} was {}", file.display(), before.display()),
                change => format!("{} {change:?}", file.display()),
            }
        };
        findings.into_iter().map(show).collect()
    }

    fn renamed(before: &str) -> Change {
        Change::Renamed { before: before.into() }
    }

    const NOTHING: [&str; 0] = [];

    #[test]
    fn a_file_that_is_moved_is_one_whichever_news_comes_first() {
        let mut story = Story::new();
        assert_eq!(story.find(1, "/w/z.ini", Change::Appeared, 0), NOTHING);
        assert_eq!(story.pass(3), NOTHING);
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/w/z.ini was /v/a.ini"]);
        assert_eq!(story.moves.deadline(), None);
        // Back, and its loss is found first.
        assert_eq!(story.find(1, "/w/z.ini", Change::Removed, 0), ["/w/z.ini Removed"]);
        story.pass(9);
        assert_eq!(story.find(0, "/v/a.ini", Change::Appeared, 0), ["/v/a.ini was /w/z.ini"]);
        // Gone and back under the same name, as with a mount that covers it for a while.
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/v/a.ini Removed"]);
        assert_eq!(story.find(0, "/v/a.ini", Change::Appeared, 0), ["/v/a.ini Appeared"]);
        // Too late, or another file.
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/v/a.ini Removed"]);
        assert_eq!(story.find(1, "/w/c.ini", Change::Appeared, 7), ["/w/c.ini Appeared"]);
        story.pass(10);
        assert_eq!(story.find(1, "/w/z.ini", Change::Appeared, 0), ["/w/z.ini Appeared"]);
    }

    #[test]
    fn a_file_whose_loss_is_found_first_is_still_one_where_several_look() {
        let mut story = Story::new();
        story.moves.has_several = true;
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), NOTHING);
        assert_eq!(story.find(1, "/w/z.ini", Change::Appeared, 0), ["/w/z.ini was /v/a.ini"]);
        assert_eq!(story.moves.deadline(), None);
        assert_eq!(story.find(1, "/w/z.ini", Change::Removed, 0), NOTHING);
        assert_eq!(story.pass(1), ["/w/z.ini Removed"]);
        assert_eq!(story.pass(1), NOTHING);
    }

    #[test]
    fn a_file_that_was_renamed_over_is_one_elsewhere_and_so_are_two_that_were_exchanged() {
        let mut story = Story::new();
        story.find(0, "/v/c.ini", Change::Appeared, 2);
        assert_eq!(story.find(1, "/w/a.ini", Change::Appeared, 0), NOTHING);
        let both = ["/w/a.ini was /v/a.ini", "/v/a.ini was c.ini"];
        assert_eq!(story.find(0, "/v/a.ini", renamed("c.ini"), 2), both);
        story.find(0, "/v/d.ini", Change::Appeared, 3);
        assert_eq!(story.find(0, "/v/d.ini", renamed("a.ini"), 2), ["/v/d.ini was a.ini"]);
        assert_eq!(story.find(0, "/v/a.ini", renamed("d.ini"), 3), ["/v/a.ini was d.ini"]);
        // Both are known under their present names.
        assert_eq!(story.find(1, "/w/d.ini", Change::Appeared, 2), NOTHING);
        assert_eq!(story.find(0, "/v/d.ini", Change::Removed, 0), ["/w/d.ini was /v/d.ini"]);
        assert_eq!(story.find(1, "/w/e.ini", Change::Appeared, 3), NOTHING);
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/w/e.ini was /v/a.ini"]);
    }

    #[test]
    fn what_has_two_names_waits_no_longer_than_until_the_old_one_is_looked_at() {
        let mut story = Story::new();
        assert_eq!(story.find(1, "/w/link.ini", Change::Appeared, 0), NOTHING);
        // A scan that began before proves nothing, nor does one of other directories.
        let later = story.now + Duration::from_secs(1);
        assert_eq!(shown(story.moves.complete(0, story.now)), NOTHING);
        assert_eq!(shown(story.moves.complete(1, later)), NOTHING);
        assert_eq!(shown(story.moves.complete(0, later)), ["/w/link.ini Appeared"]);
        assert_eq!(story.find(1, "/w/link2.ini", Change::Appeared, 0), NOTHING);
        assert_eq!(story.pass(4), ["/w/link2.ini Appeared"]);
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/v/a.ini Removed"]);
        // A scout that is not through with its first scan finds what ran before.
        assert_eq!(story.find_among(1, "/w/c.ini", Change::Appeared, 1, None), ["/w/c.ini Appeared"]);
    }

    #[test]
    fn a_file_may_be_changed_renamed_and_removed_while_it_waits() {
        let mut story = Story::new();
        assert_eq!(story.find(1, "/w/x.ini", Change::Appeared, 0), NOTHING);
        assert_eq!(story.find(1, "/w/x.ini", Change::Changed, 0), NOTHING);
        assert_eq!(story.find(1, "/w/y.ini", renamed("x.ini"), 0), NOTHING);
        assert_eq!(story.find(0, "/v/a.ini", Change::Removed, 0), ["/w/y.ini was /v/a.ini"]);
        assert_eq!(story.find(1, "/w/b2.ini", renamed("b.ini"), 1), ["/w/b2.ini was b.ini"]);
        // Another file has the old name at once.
        assert_eq!(story.find(0, "/v/b.ini", Change::Appeared, 1), NOTHING);
        let both = ["/v/b.ini was /w/b2.ini", "/w/b2.ini Changed"];
        assert_eq!(story.find(1, "/w/b2.ini", Change::Changed, 9), both);
        // It goes before anybody knew of it; and with its scout.
        assert_eq!(story.find(1, "/w/b3.ini", Change::Appeared, 1), NOTHING);
        assert_eq!(story.find(1, "/w/b3.ini", Change::Removed, 0), NOTHING);
        assert_eq!(story.find(1, "/w/b4.ini", Change::Appeared, 1), NOTHING);
        assert_eq!(story.moves.forget(1).len(), 2);
        assert_eq!(story.moves.deadline(), None);
        assert_eq!(story.find(0, "/v/b.ini", Change::Removed, 0), ["/v/b.ini Removed"]);
    }
}
