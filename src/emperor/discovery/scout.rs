//! A scout: a process that scans directories, because they may hang. It waits for events, scans, and reports
//! what it has found. It reports before it looks at anything, so that the emperor knows since when it hangs.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::directories::{Directories, FileChange};
use super::followers::Lateness;
use super::identity::Identity;
use super::scan::Change;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::deputy::{pull, pull_version, tell};
use crate::log;
use crate::running_time;

/// The kinds of packets, each the first number of one.
const HELLO: u64 = 0;
const LOOKS: u64 = 1;
const RESTS: u64 = 2;
const COMPLETE: u64 = 3;
const COMPLETE_AND_SETTLED: u64 = 4;
const FOUND: u64 = 5;
const DIRECTORY: u64 = 6;
const LATE: u64 = 7;
const ANSWERS: u64 = 8;

/// The kinds of changes in a packet of kind [`FOUND`].
const APPEARED: u64 = 0;
const CHANGED: u64 = 1;
const REMOVED: u64 = 2;
const REFUSED: u64 = 3;
const RENAMED: u64 = 4;
const GONE: u64 = 5;

/// The packets of a scout.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// The first packet, with the memory file in which the scout notes what it looks at.
    Hello,
    /// It begins to look at something.
    Looks,
    /// It waits for the next event or deadline.
    Rests,
    /// This directory exists, as in [`Found::Directory`](super::queue::Found::Directory).
    Directory(PathBuf, FileId),
    /// A file has changed.
    Found(Finding),
    /// A directory to which a link leads does not answer, or answers again.
    Late(Lateness),
    /// A scan of all its directories is complete.
    Complete {
        /// Whether no change is left for the next scan: every directory could be read, and no file is being
        /// written.
        is_settled: bool,
    },
}

/// A change of a file, and facts about the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The change.
    pub change: FileChange,
    /// The version of the file; the default for a file that is gone.
    pub version: FileVersion,
    /// The identity of the name itself, which may be a link.
    pub itself: Identity,
    /// The owner of the file, in tyrant mode, if it is known.
    pub owner: Option<u32>,
}

/// The main function of a scout.
pub fn run(mut directories: Directories, link: &OwnedFd) {
    let noted = directories.note_what_is_looked_at();
    let mut deaf_until: Option<Instant> = None;
    let mut bases = Vec::new();
    let mut goes_on = tell(link, &Said::Hello.encode(), noted.as_ref());
    while goes_on {
        let now = running_time::now();
        deaf_until = deaf_until.filter(|until| *until > now);
        let until = running_time::earliest(&[Some(directories.due(now)), deaf_until, log::deadline(now)]);
        let events = directories.watch.descriptor().filter(|_| deaf_until.is_none());
        let listens = events.is_some();
        // The list has a fixed length. Without a descriptor for events it contains the link twice.
        let mut ready = [
            PollFd::new(link, PollFlags::IN),
            PollFd::from_borrowed_fd(events.unwrap_or(link.as_fd()), PollFlags::IN),
        ];
        if running_time::poll(&mut ready, until).is_err() {
            std::thread::sleep(super::directories::SPACING);
        }
        let [hears, has_events] = ready.map(|fd| !fd.revents().is_empty());
        if hears {
            // The emperor never sends anything, so it has ended.
            return;
        }
        log::flush();
        let now = running_time::now();
        if has_events && listens {
            deaf_until = directories.quiet_until().filter(|until| *until > now);
        }
        let (reads, scans) = (has_events && listens && deaf_until.is_none(), directories.due(now) <= now);
        if reads || scans {
            goes_on = look(&mut directories, &mut bases, link, (reads, scans), now);
        }
    }
}

/// Reads events, scans, or both. Returns whether the emperor still exists.
fn look(
    directories: &mut Directories,
    bases: &mut Vec<(PathBuf, Option<FileId>)>,
    link: &OwnedFd,
    (reads, scans): (bool, bool),
    now: Instant,
) -> bool {
    if !tell(link, &Said::Looks.encode(), None) {
        return false;
    }
    if reads && let Err(error) = directories.watch.read(now) {
        log!("{error}");
    }
    if scans || directories.due(now) <= now {
        let some = directories.scan_some(now);
        let is_whole = some.is_none();
        let changes = some.unwrap_or_else(|| directories.scan(now));
        // After the scan, and told before its changes: a directory that appears meanwhile may be another
        // emperor's, and no file of it must be taken up before the lock.
        let now_there: Vec<_> = directories.bases().map(|(path, id)| (path.to_owned(), id)).collect();
        for (path, id) in now_there.iter().filter(|base| !bases.contains(base)) {
            if let Some(id) = id
                && !tell(link, &Said::Directory(path.clone(), *id).encode(), None)
            {
                return false;
            }
        }
        *bases = now_there;
        for change in changes {
            let (version, itself, owner) = match change.change {
                Change::Removed | Change::Refused(_) | Change::Gone => Default::default(),
                _ => directories.facts(&change.file),
            };
            if !tell(link, &Said::Found(Finding { change, version, itself, owner }).encode(), None) {
                return false;
            }
        }
        let news = directories.followers.take_news();
        if !news.into_iter().all(|lateness| tell(link, &Said::Late(lateness).encode(), None)) {
            return false;
        }
        if is_whole && !tell(link, &Said::Complete { is_settled: directories.is_settled() }.encode(), None) {
            return false;
        }
    }
    tell(link, &Said::Rests.encode(), None)
}

impl Said {
    /// The packet as bytes.
    fn encode(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        let mut push = |number: u64| packet.extend(number.to_le_bytes());
        match self {
            Self::Hello => push(HELLO),
            Self::Looks => push(LOOKS),
            Self::Rests => push(RESTS),
            Self::Complete { is_settled: false } => push(COMPLETE),
            Self::Complete { is_settled: true } => push(COMPLETE_AND_SETTLED),
            Self::Directory(path, FileId { device, inode }) => {
                [DIRECTORY, *device, *inode].into_iter().for_each(push);
                packet.extend(path.as_os_str().as_bytes());
            }
            Self::Late(Lateness { place, link, since }) => {
                let waited = since.map(|since| running_time::since(since).as_millis() as u64);
                let path = place.as_os_str().as_bytes();
                push(if waited.is_some() { LATE } else { ANSWERS });
                push(waited.unwrap_or_default());
                push(path.len() as u64);
                packet.extend(path);
                packet.extend(link.as_os_str().as_bytes());
            }
            Self::Found(Finding { change: FileChange { file, change }, version, itself, owner }) => {
                let (kind, text): (u64, &[u8]) = match change {
                    Change::Appeared => (APPEARED, b""),
                    Change::Changed => (CHANGED, b""),
                    Change::Removed => (REMOVED, b""),
                    Change::Gone => (GONE, b""),
                    Change::Refused(why) => (REFUSED, why.as_bytes()),
                    Change::Renamed { before } => (RENAMED, before.as_bytes()),
                };
                let path = file.as_os_str().as_bytes();
                let owner = owner.map_or(0, |uid| 1 + u64::from(uid));
                let numbers = [FOUND, kind, file.name_at() as u64, path.len() as u64, owner];
                numbers.into_iter().for_each(&mut push);
                version.each_number(&mut push);
                itself.each_number(&mut push);
                packet.extend(path);
                packet.extend(text);
            }
        }
        packet
    }

    /// Reads a packet; `None` if it is not one.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = packet;
        let kind = pull(&mut rest)?;
        if kind == DIRECTORY {
            let id = FileId { device: pull(&mut rest)?, inode: pull(&mut rest)? };
            return Some(Self::Directory(OsString::from_vec(rest.to_vec()).into(), id));
        }
        if kind == LATE || kind == ANSWERS {
            let waited = Duration::from_millis(pull(&mut rest)?);
            let length = pull(&mut rest)?;
            let (place, link) = rest.split_at_checked(length as usize)?;
            let [place, link] = [place, link].map(|path| OsStr::from_bytes(path).into());
            let since = running_time::now().checked_sub(waited).filter(|_| kind == LATE);
            return Some(Self::Late(Lateness { place, link, since }));
        }
        if kind != FOUND {
            return match kind {
                HELLO => Some(Self::Hello),
                LOOKS => Some(Self::Looks),
                RESTS => Some(Self::Rests),
                COMPLETE | COMPLETE_AND_SETTLED => {
                    Some(Self::Complete { is_settled: kind == COMPLETE_AND_SETTLED })
                }
                _ => None,
            };
        }
        let mut numbers = [0; 4];
        for number in &mut numbers {
            *number = pull(&mut rest)?;
        }
        let [kind, name_at, length, owner] = numbers;
        let (version, itself) = (pull_version(&mut rest)?, Identity::pull(&mut rest)?);
        let (path, text) = rest.split_at_checked(length as usize)?;
        let change = match kind {
            APPEARED => Change::Appeared,
            CHANGED => Change::Changed,
            REMOVED => Change::Removed,
            GONE => Change::Gone,
            REFUSED => Change::Refused(String::from_utf8_lossy(text).into_owned()),
            _ => Change::Renamed { before: OsString::from_vec(text.to_vec()) },
        };
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        let change = FileChange { file: Rc::new(VassalFile::new(path, name_at as usize)), change };
        let owner = owner.checked_sub(1).map(|uid| uid as u32);
        Some(Self::Found(Finding { change, version, itself, owner }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::owner::Owner;

    #[test]
    fn packets_say_what_was_said() {
        let finding = |change, version, owner| {
            let file = Rc::new(VassalFile::new("/v/a.ini".into(), 3));
            let itself = Identity { id: FileId { device: 1, inode: 7 }, born: (-1, 5) };
            Said::Found(Finding { change: FileChange { file, change }, version, itself, owner })
        };
        let owner = Some(Owner { uid: 0, gid: u32::MAX });
        let version =
            FileVersion { modified: -1, modified_nanos: 2, device: 3, inode: u64::MAX, size: 5, owner };
        for said in [
            Said::Hello,
            Said::Looks,
            Said::Rests,
            Said::Directory("/v".into(), FileId { device: 1, inode: u64::MAX }),
            Said::Complete { is_settled: false },
            Said::Complete { is_settled: true },
            finding(Change::Appeared, version, Some(0)),
            finding(Change::Changed, FileVersion { owner: None, ..version }, None),
            finding(Change::Removed, FileVersion::default(), None),
            finding(Change::Gone, FileVersion::default(), None),
            finding(Change::Renamed { before: "b.ini".into() }, version, None),
            finding(Change::Refused("a fifo".to_owned()), FileVersion::default(), Some(u32::MAX)),
        ] {
            let packet = said.encode();
            assert_eq!(Said::decode(&packet), Some(said));
        }
        for packet in [&[][..], &[0; 7], &[9; 8], &[5, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Said::decode(packet), None);
        }
    }
}
