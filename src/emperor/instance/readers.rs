//! The processes that read vassals' files for the emperor, look at the files of sockets, and make these. Each
//! path may lead to a filesystem that hangs.
//!
//! One process does one [`Job`] after another, all of them called readings. While it is slow, another process
//! does the next one.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::process::{PidfdFlags, pidfd_open};

use super::reading::{self, Job};
use super::spawner::{ReadFile, Spawner};
use crate::config::plan::Address;
use crate::emperor::core::instance_id::InstanceId;
use crate::emperor::core::text::later;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::deputy::{Deputy, ends_within};
use crate::error::{Context, Error, Result};
use crate::log::Elapsed;
use crate::protocol::{Received, receive, send};

/// Set in the events of readers' links. The lower bits are the pid.
pub const READER: u64 = 1 << 33;

/// A reading that takes longer than this no longer delays others.
const SLOW: Duration = Duration::from_millis(20);
/// A reading that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many files of one directory are read at a time. When so many hang, the other files there would hang,
/// too. A link counts for the directory that it leads to, or the last of several links, once its reader has
/// said which.
const BESIDE_MAX: usize = 8;
/// So many of one user are, where users have vassals of their own: a user can make files that hang, and must
/// not keep back those of others in the same directory.
const OF_USER_MAX: usize = 2;

/// The purpose of a reading.
#[derive(Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To create an instance.
    Start,
    /// To send the file to PID 1 for a reload.
    Reload,
    /// To check in a separate process whether the file can be used.
    Check {
        /// Why the new configuration needs a fresh start.
        why: String,
    },
    /// To find out whether the vassal's file says something else than before.
    Compare,
    /// To find out the address of the on-demand socket.
    Address {
        /// Why the address is needed, for the log.
        why: String,
    },
    /// To find out whether clients can reach the on-demand socket.
    Look,
    /// To listen on the on-demand socket.
    Listen {
        /// The address, which is a path.
        address: Address,
        /// Whether an instance is to be created then.
        starts: bool,
    },
    /// To do this for the emperor itself.
    Own(Job),
}

/// What a reading is about. An instance has no more than one reading of each kind at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The vassal's file.
    File,
    /// What the vassal's file says.
    Text,
    /// The file with the address of the on-demand socket.
    Address,
    /// The file of the on-demand socket.
    Socket,
    /// A file of the emperor's own, which takes the place of a vassal's file.
    Own,
}

/// A result of a reading.
#[derive(Debug)]
pub enum News {
    /// It is finished.
    Read(Purpose, Result<ReadFile>),
    /// It takes long.
    Slow,
    /// It took too long, and is given up.
    Late(Purpose, Error),
    /// A reading that was given up has finished after all.
    Answers,
}

/// The readings, and the processes that do them.
#[derive(Debug, Default)]
pub struct Readers {
    waiting: VecDeque<Reading>,
    busy: Vec<(Deputy, Reading)>,
    /// A reader without work.
    idle: Option<Deputy>,
    told: VecDeque<Told>,
    /// The processes that hang over the text of a vassal. Until they have ended, no other tries it.
    hanging: Vec<(Rc<VassalFile>, OwnedFd)>,
}

/// A result of a reading for this instance.
#[derive(Debug)]
pub struct Told {
    /// The instance. For what is about a vassal as a whole, or the emperor itself, it is the first one.
    pub id: InstanceId,
    /// What was read.
    pub about: About,
    /// The result.
    pub news: News,
}

/// A file that is being read, or will be.
#[derive(Debug)]
struct Reading {
    /// The instance, as in [`Told`].
    id: InstanceId,
    /// The owner of the file; `None` if owners do not matter.
    user: Option<u32>,
    about: About,
    /// The path, if it is not that of the vassal's file.
    other: Option<PathBuf>,
    /// The directory to which the file is a link, or the last of several, as far as that is known.
    place: Option<PathBuf>,
    wanted: Wanted,
    /// When it was asked for, or begun.
    since: Instant,
    /// When to check whether the reader waits for a filesystem.
    look_at: Instant,
    is_slow: bool,
    /// Whether it took too long, or cannot begin because others do.
    is_late: bool,
}

/// Who waits for the result of a reading.
#[derive(Debug)]
enum Wanted {
    /// Nobody.
    No,
    /// The vassal, for this purpose.
    For(Purpose),
    /// The vassal, in order to try again.
    Again,
}

impl Readers {
    /// Has a file read for an instance of a vassal of this user, or looked at. Replaces an earlier request of
    /// this kind. `other` is the path, if it is not that of the vassal's file.
    pub fn ask(
        &mut self,
        id: &InstanceId,
        user: Option<u32>,
        other: Option<PathBuf>,
        purpose: Purpose,
        now: Instant,
    ) {
        let about = purpose.about();
        self.forget(id, about);
        let (id, wanted) = (id.clone(), Wanted::For(purpose));
        let (since, look_at, is_slow, is_late) = (now, now, false, false);
        let place = None;
        let reading = Reading { id, user, about, other, place, wanted, since, look_at, is_slow, is_late };
        self.waiting.push_back(reading);
    }

    /// Notes that no reading of this kind is needed any longer.
    pub fn forget(&mut self, id: &InstanceId, about: About) {
        self.waiting.retain(|reading| !reading.is_of(id, about));
        self.told.retain(|told| told.id != *id || told.about != about);
        for (_, reading) in &mut self.busy {
            if reading.is_of(id, about) {
                reading.wanted = Wanted::No;
            }
        }
    }

    /// Whether a reading of this kind is under way, even if it was given up.
    pub fn is_asked(&self, id: &InstanceId, about: About) -> bool {
        self.all().any(|reading| reading.is_of(id, about))
    }

    /// Whether no result is waited for. Readings that were given up do not count.
    pub fn is_idle(&self) -> bool {
        self.all().all(|reading| !matches!(reading.wanted, Wanted::For(_)))
    }

    /// When [`Readers::serve`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let deadline = |reading: &Reading| match (reading.is_slow, reading.is_late) {
            (false, _) => Some(reading.look_at),
            (true, false) => Some(later(reading.since, PATIENCE)),
            (true, true) => None,
        };
        self.busy.iter().filter_map(|(_, reading)| deadline(reading)).min()
    }

    /// Gives up readings that take too long, and begins those that can begin. `events` gets the links of the
    /// readers, which are copies of this process and read what `spawner` reads.
    pub fn serve(&mut self, spawner: &Spawner, events: BorrowedFd<'_>, now: Instant) {
        for (deputy, reading) in &mut self.busy {
            if !reading.is_slow && reading.look_at <= now {
                reading.look_at = later(now, SLOW);
                // On a busy machine the reader may only be waiting for a processor, or its answer for the
                // emperor.
                if !deputy.is_at_work() {
                    reading.is_slow = true;
                    reading.tell(&mut self.told, News::Slow);
                }
            }
            if !reading.is_late && later(reading.since, PATIENCE) <= now {
                reading.give_up(reading.since, false, now, &mut self.told);
            }
        }
        let has_late = self.busy.iter().any(|(_, reading)| reading.is_late);
        for index in 0..if has_late { self.waiting.len() } else { 0 } {
            let hangs = self.waiting.get(index).and_then(|reading| self.hangs(reading));
            if let (Some((since, by_others)), Some(reading)) = (hangs, self.waiting.get_mut(index)) {
                reading.give_up(since, by_others, now, &mut self.told);
            }
        }
        while let Some(index) = self.next() {
            let deputy = self.idle.take().map_or_else(|| begin(spawner, events), Ok);
            let Some(mut reading) = self.waiting.remove(index) else { return };
            match deputy {
                Ok(deputy) => {
                    // A reader that has ended closes its link, which is reported.
                    self.hanging.retain(|(_, pidfd)| !ends_within(pidfd, Duration::ZERO));
                    let job = match reading.job() {
                        Job::Read if self.hanging.iter().any(|(file, _)| *file == reading.id.file) => {
                            Job::ReadOnly
                        }
                        job => job,
                    };
                    let question = reading::question(job, reading.path());
                    let _ = send(&deputy.link, &question, None);
                    (reading.since, reading.look_at) = (now, later(now, SLOW));
                    (reading.is_slow, reading.is_late) = (false, false);
                    self.busy.push((deputy, reading));
                }
                Err(error) => reading.end(&mut self.told, Err(error)),
            }
        }
        if self.busy.iter().any(|(_, reading)| reading.is_slow) {
            for reading in self.waiting.iter_mut().filter(|reading| !reading.is_slow) {
                if beside(&self.busy, reading) == BESIDE_MAX {
                    reading.is_slow = true;
                    reading.tell(&mut self.told, News::Slow);
                }
            }
        }
    }

    /// Reads the answer of a reader.
    pub fn listen(&mut self, pid: i32, events: BorrowedFd<'_>) {
        let is_it = |deputy: &Deputy| deputy.pid().as_raw_pid() == pid;
        if let Some(deputy) = self.idle.take_if(|deputy| is_it(deputy)) {
            // An idle reader sends nothing, so it has ended.
            return end(&deputy, events);
        }
        let Some(index) = self.busy.iter().position(|(deputy, _)| is_it(deputy)) else { return };
        let said = self.busy.get(index).map(|(deputy, _)| receive(&deputy.link));
        let read = match said {
            Some(Ok(Received::Packet(packet, None))) if let Some(place) = reading::leads_to(&packet) => {
                return self.follow(index, place, events);
            }
            Some(Ok(Received::Packet(packet, copy))) => reading::decode(&packet, copy),
            Some(Ok(Received::Nothing)) => return,
            Some(Ok(Received::Closed) | Err(_)) | None => None,
        };
        let (deputy, reading) = self.busy.swap_remove(index);
        if let Some(Ok(ReadFile { hanging: Some(pid), .. })) = &read
            && let Ok(pidfd) = pidfd_open(*pid, PidfdFlags::empty())
        {
            self.hanging.push((Rc::clone(&reading.id.file), pidfd));
        }
        if read.is_none() || self.idle.is_some() {
            end(&deputy, events);
        } else {
            self.idle = Some(deputy);
        }
        let gone = || reading.error(&format!("pid {pid} has ended over it"));
        let read = read.unwrap_or_else(|| Err(gone()));
        reading.end(&mut self.told, read);
    }

    /// Has a reader follow a link to this directory, unless as many others hang there as may.
    fn follow(&mut self, index: usize, place: PathBuf, events: BorrowedFd<'_>) {
        let (deputy, mut reading) = self.busy.swap_remove(index);
        // The directory of the link has answered.
        reading.place = Some(place);
        if beside(&self.busy, &reading) < BESIDE_MAX {
            let _ = send(&deputy.link, reading::GO_ON, None);
            self.busy.push((deputy, reading));
            return;
        }
        let _ = send(&deputy.link, reading::STAY, None);
        if self.idle.is_some() {
            end(&deputy, events);
        } else {
            self.idle = Some(deputy);
        }
        self.waiting.push_back(reading);
    }

    /// The next result.
    pub fn take(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Kills the readers that may hang, before an exec. An idle one finds its link closed then, and ends. If
    /// the exec fails, what they were to read is read anew.
    pub fn kill_hanging(&self) {
        self.busy.iter().for_each(|(deputy, _)| deputy.kill());
    }

    /// Stops all readings.
    pub fn stop(&mut self) {
        self.waiting.clear();
        self.told.clear();
        self.busy.drain(..).for_each(|(deputy, _)| deputy.kill());
    }

    /// Waits until no reader is left except for those that hang.
    pub fn finish(&mut self) {
        self.stop();
        if let Some(deputy) = self.idle.take() {
            deputy.end();
        }
    }

    fn all(&self) -> impl Iterator<Item = &Reading> {
        self.busy.iter().map(|(_, reading)| reading).chain(&self.waiting)
    }

    /// Since when the readings hang that keep this one from beginning, and whether these are all of others;
    /// `None` if it can begin.
    fn hangs(&self, reading: &Reading) -> Option<(Instant, bool)> {
        if reading.is_late {
            return None;
        }
        let (mut beside, mut since, mut by_others) = (0, None, true);
        for (_, other) in self.busy.iter().filter(|(_, other)| other.is_late) {
            let weight = reading.weight_of(other);
            beside += weight;
            by_others &= !other.is_of(&reading.id, reading.about);
            since = since.or(Some(other.since).filter(|_| weight > 0));
        }
        since.filter(|_| beside >= BESIDE_MAX).map(|since| (since, by_others))
    }

    /// The next reading that can begin. The directory with the fewest readers comes first.
    fn next(&self) -> Option<usize> {
        if self.idle.is_none() && self.busy.iter().any(|(_, reading)| !reading.is_slow) {
            return None;
        }
        let (mut next, mut least) = (None, BESIDE_MAX);
        for (index, reading) in self.waiting.iter().enumerate() {
            let beside = beside(&self.busy, reading);
            if beside < least {
                (next, least) = (Some(index), beside);
            }
            if least == 0 {
                break;
            }
        }
        next
    }
}

impl Reading {
    fn is_of(&self, id: &InstanceId, about: About) -> bool {
        self.about == about && self.id == *id
    }

    /// How much room for this reading another one takes, of [`BESIDE_MAX`]. One process at a time reads what
    /// a vassal's file says.
    fn weight_of(&self, other: &Self) -> usize {
        let says = |reading: &Self| matches!(reading.about, About::File | About::Text);
        if other.is_of(&self.id, self.about) || (other.id.file == self.id.file && says(self) && says(other)) {
            BESIDE_MAX
        } else if other.place() != self.place() {
            0
        } else if self.user.is_some() && self.user == other.user {
            BESIDE_MAX / OF_USER_MAX
        } else {
            1
        }
    }

    /// The path that it is about.
    fn path(&self) -> &Path {
        self.other.as_deref().unwrap_or(&self.id.file)
    }

    /// The directory of the file itself, as far as that is known.
    fn place(&self) -> &[u8] {
        match &self.place {
            Some(place) => place.as_os_str().as_bytes(),
            None => directory(self.path()),
        }
    }

    /// What is to be done. If nobody waits for more, the answer only shows that the filesystem answers.
    fn job(&self) -> Job {
        match (self.about, &self.wanted) {
            (About::File | About::Text, _) => Job::Read,
            (About::Address, _) => Job::ReadAddress,
            (About::Socket, Wanted::For(Purpose::Listen { .. })) => Job::Listen,
            (About::Own, Wanted::For(Purpose::Own(job))) => *job,
            (About::Socket | About::Own, _) => Job::Look,
        }
    }

    fn error(&self, reason: &str) -> Error {
        let operation = match self.about {
            About::File | About::Text | About::Address => "read",
            About::Socket | About::Own => "look at",
        };
        Error::new(operation, self.path().display(), reason)
    }

    fn tell(&self, told: &mut VecDeque<Told>, news: News) {
        told.push_back(Told { id: self.id.clone(), about: self.about, news });
    }

    /// Reports the result.
    fn end(mut self, told: &mut VecDeque<Told>, read: Result<ReadFile>) {
        match std::mem::replace(&mut self.wanted, Wanted::No) {
            Wanted::For(purpose) => self.tell(told, News::Read(purpose, read)),
            Wanted::Again => self.tell(told, News::Answers),
            Wanted::No => {}
        }
    }

    /// Gives up, because its filesystem has answered neither this one since then, nor others there
    /// (`by_others`).
    fn give_up(&mut self, since: Instant, by_others: bool, now: Instant, told: &mut VecDeque<Told>) {
        self.is_late = true;
        if let Wanted::For(_) = self.wanted
            && let Wanted::For(purpose) = std::mem::replace(&mut self.wanted, Wanted::Again)
        {
            let time = Elapsed(now.saturating_duration_since(since));
            let reason = if by_others {
                let place = String::from_utf8_lossy(self.place());
                format!("not begun: others in {place} are not done after {time}: does its filesystem answer?")
            } else {
                format!("not done after {time}: does its filesystem answer?")
            };
            let error = self.error(&reason);
            self.tell(told, News::Late(purpose, error));
        }
    }
}

impl Purpose {
    fn about(&self) -> About {
        match self {
            Self::Start | Self::Reload | Self::Check { .. } => About::File,
            Self::Compare => About::Text,
            Self::Address { .. } => About::Address,
            Self::Look | Self::Listen { .. } => About::Socket,
            Self::Own(_) => About::Own,
        }
    }
}

/// The directory in a path.
fn directory(path: &Path) -> &[u8] {
    let path = path.as_os_str().as_bytes();
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or_default();
    path.get(..end).unwrap_or_default()
}

/// How much of the room for a reading the others take that are under way.
fn beside(busy: &[(Deputy, Reading)], reading: &Reading) -> usize {
    let taken: usize = busy.iter().map(|(_, other)| reading.weight_of(other)).sum();
    taken.min(BESIDE_MAX)
}

fn begin(spawner: &Spawner, events: BorrowedFd<'_>) -> Result<Deputy> {
    let deputy = Deputy::start(c"emperor-reader", |link| reading::run(spawner, &link))?;
    let data = epoll::EventData::new_u64(READER | deputy.pid().as_raw_pid() as u64);
    epoll::add(events, &deputy.link, data, epoll::EventFlags::IN).context("listen to", "reader")?;
    Ok(deputy)
}

/// Ends a reader. Its link is unregistered explicitly: a child that has not reached its exec yet may hold a
/// copy.
fn end(deputy: &Deputy, events: BorrowedFd<'_>) {
    let _ = epoll::delete(events, &deputy.link);
    deputy.kill();
}
