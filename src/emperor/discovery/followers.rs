//! Followers: processes that look at what is on other mounts, for a scout.
//!
//! A link, or a directory below a wildcard, may be on a filesystem that hangs. A follower looks at one after
//! another. One that gets no answer is left waiting, and another one looks at the rest. So what hangs delays
//! no other news of the scout.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, open, statx};
use rustix::io::Errno;

use super::identity::{Identity, MASK};
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::owner::{Owner, Owners};
use crate::emperor::core::text::later;
use crate::emperor::deputy::{Deputy, pull, pull_version, tell};
use crate::emperor::{links, owned_file};
use crate::error::received;
use crate::protocol::{Received, receive, send};
use crate::running_time;

/// What takes longer than this is late. Time in which the follower runs does not count.
const PATIENCE: Duration = Duration::from_millis(200);
/// After so long it is told, and looked at again every so often.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// How many followers may wait.
const LATE_MAX: usize = 16;
/// How many links a question names.
const BATCH: usize = 64;

/// The kinds of answers.
const LEADS_TO: u64 = 0;
const FOUND: u64 = 1;
const FAILED: u64 = 2;
/// The scout's answer to [`LEADS_TO`]: the follower may look there.
const GO_ON: &[u8] = b"go on";
/// The scout's answer: it may not, and goes on with the next link.
const STAY: &[u8] = b"stay";

/// What is done with what a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// It is looked at.
    Look,
    /// Likewise, and all is found out that is in [`Target`].
    FindAll,
    /// It is a directory, and read.
    Read,
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The type of the file.
    pub kind: FileType,
    /// Its version, with the owner of the file; or, if all was asked for, as in [`owned_file::version`].
    pub version: FileVersion,
    /// Which file it is.
    pub identity: Identity,
    /// The user whose vassal it is, if all was asked for, as in [`owned_file::owner`].
    pub user: Option<u32>,
}

/// The answer about a link. `None` if it is late.
pub type Answer = Option<Result<Target, Errno>>;

/// A directory that does not answer, or answers again.
#[derive(Debug, PartialEq, Eq)]
pub struct Lateness {
    /// The directory.
    pub place: PathBuf,
    /// The link that leads there.
    pub link: PathBuf,
    /// Since when it does not answer; `None` if it does again.
    pub since: Option<Instant>,
}

/// The followers of a scout.
#[derive(Debug)]
pub struct Followers {
    owners: Owners,
    idle: Option<Deputy>,
    late: Vec<Late>,
    /// Those that have been killed, or have ended.
    ended: Vec<Deputy>,
    news: Vec<Lateness>,
}

/// A follower that waits.
#[derive(Debug)]
struct Late {
    deputy: Deputy,
    link: PathBuf,
    /// The directory in which it waits.
    place: PathBuf,
    since: Instant,
    is_told: bool,
}

impl Target {
    /// From the result of statx(2).
    pub fn of(file: &Statx) -> Self {
        let owner = Owner { uid: file.stx_uid, gid: file.stx_gid };
        let kind = FileType::from_raw_mode(file.stx_mode.into());
        let version = FileVersion::of_known(file, Some(owner));
        Self { kind, version, identity: Identity::of(file), user: None }
    }
}

impl Followers {
    /// Without any process. `owners` decides whose vassals are whose.
    pub fn new(owners: Owners) -> Self {
        Self { owners, idle: None, late: Vec::new(), ended: Vec::new(), news: Vec::new() }
    }

    /// When to look again at what is late.
    pub fn look_again_at(&self, last: Instant) -> Option<Instant> {
        (!self.late.is_empty()).then(|| later(last, TOLD_AFTER))
    }

    /// What was noticed since the last call.
    pub fn take_news(&mut self) -> Vec<Lateness> {
        std::mem::take(&mut self.news)
    }

    /// Notes who answers by now, or has waited for long. What is late is asked for again only after this.
    pub fn review(&mut self, now: Instant) {
        let Self { late, news, ended, .. } = self;
        for late in late.extract_if(.., |late| late.deputy.has_said()) {
            if late.is_told {
                news.push(Lateness { place: late.place, link: late.link, since: None });
            }
            late.deputy.kill();
            ended.push(late.deputy);
        }
        for late in late {
            if !late.is_told && later(late.since, TOLD_AFTER) <= now {
                let since = Some(late.since);
                news.push(Lateness { place: late.place.clone(), link: late.link.clone(), since });
                late.is_told = true;
            }
        }
        ended.retain(|deputy| !deputy.is_reaped());
    }

    /// Whether a directory answers whose path is relative to another one.
    pub fn answers(&mut self, base: &Path, path: &Path) -> bool {
        let all = self.follow(base, vec![path.as_os_str().to_owned()], Job::Read);
        all.iter().all(|(_, answer)| answer.is_some())
    }

    /// Whether a follower waits in this directory, or above it.
    pub fn waits_for(&self, directory: &Path) -> bool {
        self.late.iter().any(|late| directory.starts_with(&late.place))
    }

    /// Does this with what these links in a directory lead to.
    pub fn follow(&mut self, directory: &Path, links: Vec<OsString>, job: Job) -> Vec<(OsString, Answer)> {
        let mut answers = Vec::with_capacity(links.len());
        let mut rest = VecDeque::from(links);
        while let Some(first) = rest.front() {
            let is_late = self.late.iter().any(|late| late.link == directory.join(first));
            if is_late || self.late.len() >= LATE_MAX {
                answers.extend(rest.pop_front().map(|link| (link, None)));
                continue;
            }
            let owners = self.owners;
            let deputy = match self.idle.take() {
                Some(deputy) => Ok(deputy),
                None => Deputy::start(c"emperor-follow", |link| run(owners, &link)),
            };
            match deputy {
                Ok(deputy) => self.ask(deputy, directory, &mut rest, job, &mut answers),
                Err(error) => {
                    let errno = received(error.errno());
                    answers.extend(rest.drain(..).map(|link| (link, Some(Err(errno)))));
                }
            }
        }
        answers
    }

    /// Has a follower look at the first links of the rest, until one of them is late.
    fn ask(
        &mut self,
        deputy: Deputy,
        directory: &Path,
        rest: &mut VecDeque<OsString>,
        job: Job,
        answers: &mut Vec<(OsString, Answer)>,
    ) {
        let is_late = |link: &&OsString| self.late.iter().any(|late| late.link == directory.join(link));
        let batch = rest.iter().take(BATCH).take_while(|link| !is_late(link)).count();
        let is_careful = !self.late.is_empty();
        let mut question = Vec::new();
        for number in [u64::from(is_careful), job as u64] {
            question.extend(number.to_le_bytes());
        }
        question.extend(directory.as_os_str().as_bytes());
        for link in rest.iter().take(batch) {
            question.push(0);
            question.extend(link.as_bytes());
        }
        let _ = send(&deputy.link, &question, None);
        for _ in 0..batch {
            let mut place = directory.to_owned();
            let answer = loop {
                let packet = match deputy.hear(PATIENCE) {
                    Some(Ok(Received::Packet(packet, _))) => packet,
                    Some(Ok(Received::Nothing)) => continue,
                    // It has ended.
                    Some(Ok(Received::Closed) | Err(_)) => {
                        answers.extend(rest.pop_front().map(|link| (link, None)));
                        return self.ended.push(deputy);
                    }
                    None => {
                        let Some(name) = rest.pop_front() else { return };
                        let (link, since) = (directory.join(&name), running_time::now());
                        self.late.push(Late { deputy, link, place, since, is_told: false });
                        answers.push((name, None));
                        return;
                    }
                };
                match Said::decode(&packet) {
                    Some(Said::LeadsTo(other)) => {
                        let is_late = self.late.iter().any(|late| late.place == other);
                        place = other;
                        if is_careful {
                            let _ = send(&deputy.link, if is_late { STAY } else { GO_ON }, None);
                        }
                        if is_careful && is_late {
                            break None;
                        }
                    }
                    Some(Said::Found(target)) => break Some(target),
                    None => break None,
                }
            };
            answers.extend(rest.pop_front().map(|link| (link, answer)));
        }
        self.idle = Some(deputy);
    }
}

/// The main function of a follower: looks at one link after another, until the scout has ended.
fn run(owners: Owners, link: &OwnedFd) {
    loop {
        let _ = poll(&mut [PollFd::new(link, PollFlags::IN)], None);
        let question = match receive(link) {
            Ok(Received::Packet(question, _)) => question,
            Ok(Received::Nothing) => continue,
            Ok(Received::Closed) | Err(_) => return,
        };
        let mut rest = &question[..];
        let (Some(is_careful), Some(job)) = (pull(&mut rest), pull(&mut rest)) else { return };
        let mut names = rest.split(|&byte| byte == 0).map(OsStr::from_bytes);
        let directory = Path::new(names.next().unwrap_or_default());
        for name in names {
            let path = directory.join(name);
            let mut goes_on = |place: &Path| {
                let is_told = tell(link, &Said::LeadsTo(place.to_owned()).encode(), None);
                is_told && (is_careful == 0 || may_go_on(link))
            };
            let may_look = match job == Job::Read as u64 {
                true => goes_on(&path),
                false => links::follow(&path, &mut goes_on),
            };
            if !may_look {
                continue;
            }
            let file = statx(CWD, &path, AtFlags::empty(), MASK);
            let mut found = file.map(|file| Target::of(&file));
            if job == Job::Read as u64 {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let entries = open(&path, flags, Mode::empty()).and_then(|fd| Dir::read_from(&fd));
                let _ = entries.map(|mut entries| entries.next());
            }
            if let (Ok(target), true) = (&mut found, job == Job::FindAll as u64) {
                target.version = owned_file::version(&path, owners);
                target.user = owned_file::owner(&path, owners);
            }
            if !tell(link, &Said::Found(found).encode(), None) {
                return;
            }
        }
    }
}

fn may_go_on(link: &OwnedFd) -> bool {
    let _ = poll(&mut [PollFd::new(link, PollFlags::IN)], None);
    matches!(receive(link), Ok(Received::Packet(answer, _)) if answer == GO_ON)
}

/// The packets of a follower.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The link leads to this directory.
    LeadsTo(PathBuf),
    /// That is there.
    Found(Result<Target, Errno>),
}

impl Said {
    fn encode(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        let mut push = |number: u64| packet.extend(number.to_le_bytes());
        match self {
            Self::LeadsTo(place) => {
                push(LEADS_TO);
                packet.extend(place.as_os_str().as_bytes());
            }
            Self::Found(Ok(Target { kind, version, identity, user })) => {
                push(FOUND);
                push(kind.as_raw_mode().into());
                push(user.map_or(0, |uid| 1 + u64::from(uid)));
                version.each_number(&mut push);
                identity.each_number(&mut push);
            }
            Self::Found(Err(errno)) => {
                push(FAILED);
                push(errno.raw_os_error() as u64);
            }
        }
        packet
    }

    fn decode(packet: &[u8]) -> Option<Self> {
        let mut rest = packet;
        Some(match pull(&mut rest)? {
            LEADS_TO => Self::LeadsTo(OsStr::from_bytes(rest).into()),
            FOUND => {
                let kind = FileType::from_raw_mode(pull(&mut rest)? as u32);
                let user = pull(&mut rest)?.checked_sub(1).map(|uid| uid as u32);
                let (version, identity) = (pull_version(&mut rest)?, Identity::pull(&mut rest)?);
                Self::Found(Ok(Target { kind, version, identity, user }))
            }
            _ => Self::Found(Err(received(pull(&mut rest)? as i32))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_say_what_was_said() {
        let owner = Some(Owner { uid: 0, gid: 7 });
        let version = FileVersion { inode: 9, size: 5, owner, ..FileVersion::default() };
        let identity = Identity { id: version.id(), born: (-1, 5) };
        let target = |user| Target { kind: FileType::RegularFile, version, identity, user };
        for said in [
            Said::LeadsTo("/a/b".into()),
            Said::Found(Ok(target(None))),
            Said::Found(Ok(target(Some(0)))),
            Said::Found(Err(Errno::NOENT)),
        ] {
            assert_eq!(Said::decode(&said.encode()), Some(said));
        }
        for packet in [&[][..], &[0; 7], &[1; 8], &[2, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Said::decode(packet), None);
        }
    }
}
