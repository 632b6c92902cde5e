//! The prober: a disposable process that touches a mount in place of PID 1.
//!
//! A hung filesystem blocks the process that asks it, uninterruptibly, and a private FUSE mount answers only
//! its owner. So a child that has become the owner asks the question, and PID 1 never waits for the child.
//!
//! The prober asks at every interval by itself. It passes an answer to PID 1 if PID 1 asked for it, if it
//! differs from the last one, or if it took long. A prober that hangs cannot say so. An alarm does: a timer
//! that both processes hold, and that the prober winds up before each question. So PID 1 sleeps as long as
//! all is well, which halves the cost of a thousand idle vassals.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Statx, StatxAttributes, StatxFlags, fstatfs, open, readlinkat, statx,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, socketpair};
use rustix::process::{DumpableBehavior, Pid, Signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::error::{Context, Error, Result, received};
use crate::files;
use crate::identity::{Identity, held};
use crate::init::watch::fuse_daemon;
use crate::init::watch::procfs::Procfs;
use crate::init::watch::watchdog::{Answer, Found};
use crate::mount::mountinfo::{self, Owner};
use crate::sys::child;
use crate::sys::clone::{self, Side, clone3};
use crate::sys::exec::{Strings, exec};
use crate::sys::fd;

/// The name of the prober's process, for ps(1), and the argument by which the program, executed again, knows
/// that it is to be a prober.
pub const NAME: &str = "vassal-probe";

/// The longest question: interval, patience, and a path (PATH_MAX) with its null byte.
const QUESTION_MAX: usize = 16 + 4096;

/// The longest packet that a prober sends.
const WORD_MAX: usize = 512;

/// The first byte of a packet from the prober: an answer follows, or the error for which the prober ends.
const REPLY: u8 = 0;
const FAILURE: u8 = 1;

/// The size of an answer on the wire: errno (0 for found), mount ID, whether it is a mount root, time taken,
/// daemon.
const REPLY_SIZE: usize = 4 + 8 + 1 + 8 + 4;

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): the mount ID that is never reused. rustix has no name for it.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The exit status of a prober that cannot do its work.
const EXIT_FAILED: i32 = 1;

/// A filesystem that takes longer than this is slow, and PID 1 is told each time.
const SLOW: Duration = Duration::from_millis(50);

/// A running prober.
#[derive(Debug)]
pub struct Prober {
    /// The process, a child of PID 1.
    pub pid: Pid,
    socket: OwnedFd,
    alarm: OwnedFd,
    /// Why the prober ends, once it has said so.
    failure: OnceCell<Error>,
}

/// The times by which a prober asks by itself.
#[derive(Debug, Clone, Copy)]
pub struct Rhythm {
    /// The time between two questions.
    pub interval: Duration,
    /// How long an answer may take before it is late.
    pub patience: Duration,
}

/// A message of the prober about one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// How long the filesystem took to answer.
    pub took: Duration,
    /// The process that serves the filesystem, if it is a child of PID 1 and known.
    pub daemon: Option<Pid>,
}

/// A packet of the prober.
enum Word {
    /// An answer.
    Reply(Reply),
    /// The error for which the prober ends.
    Failure(Error),
}

impl Prober {
    /// Starts a prober that has the identity of `owner`. If that is the same user as `user`, it also gets the
    /// groups of `user`, because the path of the mount may lead through directories of a group. `procfs`
    /// leads to the program file.
    ///
    /// # Errors
    /// A socket, timer or process cannot be created. A prober that cannot take on the identity ends at once;
    /// this is not an error here.
    pub fn start(owner: Owner, user: Option<&Identity>, procfs: &Procfs) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .context("create the socket of", "the mount prober")?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags)
            .context("create the alarm of", "the mount prober")?;
        // Built before the fork: the child must not allocate.
        let argv = Strings::new([NAME]);
        let envp = Strings::new::<&str>([]);
        match clone3(0).context("start", "the mount prober")? {
            Side::Parent(child) => Ok(Self { pid: child.pid, socket: ours, alarm, failure: OnceCell::new() }),
            Side::Child => {
                drop(ours);
                // A /proc in a tenant's tree could have another program, which would then run as the owner.
                let is_there = procfs.enter().is_ok();
                become_prober(owner, user, theirs, &alarm);
                // A copy of PID 1 takes twice the memory of a fresh process. If the program cannot be
                // executed again (as the owner, or without procfs), the copy does the same work.
                if is_there {
                    exec(c"self/exe", &argv, &envp);
                }
                serve()
            }
        }
    }

    /// Sends a question, which the prober then repeats by itself.
    ///
    /// # Errors
    /// EPIPE if the prober has died.
    pub fn ask(&self, path: &Path, rhythm: Rhythm) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let (interval, patience) = (nanoseconds(rhythm.interval), nanoseconds(rhythm.patience));
        let question =
            [&interval.to_le_bytes()[..], &patience.to_le_bytes(), path.as_os_str().as_bytes(), b"\0"];
        rustix::net::send(&self.socket, &question.concat(), flags).map(drop)
    }

    /// The prober's next answer, if there is one.
    pub fn reply(&self) -> Option<Reply> {
        match self.word()? {
            Word::Reply(reply) => Some(reply),
            Word::Failure(error) => {
                let _ = self.failure.set(error);
                None
            }
        }
    }

    /// Text about a prober that has ended, with the reason if the prober sent one.
    pub fn why_it_ended(&self) -> String {
        while self.reply().is_some() {}
        self.failure.get().map_or("its prober died".into(), |error| format!("its prober died: {error}"))
    }

    fn word(&self) -> Option<Word> {
        let mut packet = [0; WORD_MAX];
        let mut next = || recv(&self.socket, &mut packet, RecvFlags::DONTWAIT);
        // ECONNRESET means that the prober ended without reading its question. It is returned once, before
        // the prober's last packets.
        let (_, length) =
            next().or_else(|errno| if errno == Errno::CONNRESET { next() } else { Err(errno) }).ok()?;
        Word::decode(packet.get(..length)?)
    }

    /// Whether a question that the prober asked by itself has taken longer than its patience. True once for
    /// each alarm.
    pub fn is_late(&self) -> bool {
        rustix::io::read(&self.alarm, &mut [0; 8]).is_ok()
    }

    /// Descriptors to poll: readable when there is a reply, or when a reply is late.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.alarm.as_fd()]
    }

    /// Kills the prober. If it hangs in a dead mount, it ends with the mount's connection.
    pub fn kill(&self) {
        child::kill(self.pid);
    }
}

/// In the child: takes on the owner's identity, and keeps two descriptors: the alarm as standard input, the
/// socket as standard output.
fn become_prober(owner: Owner, user: Option<&Identity>, socket: OwnedFd, alarm: &OwnedFd) {
    let places = rustix::stdio::dup2_stdin(alarm).and_then(|()| rustix::stdio::dup2_stdout(&socket));
    // If the prober kept a copy of the link, the emperor would not see the end of PID 1.
    fd::close_from(3);
    if places.is_err() {
        clone::exit(EXIT_FAILED);
    }
    // The descriptor was closed together with the rest.
    std::mem::forget(socket);
    become_owner(owner, user).unwrap_or_else(|error| fail(error));
}

/// A prober that may not become the owner asks with the identity that it has. The filesystem then answers or
/// refuses it.
fn become_owner(owner: Owner, user: Option<&Identity>) -> Result<()> {
    let mut identity = Identity { uid: Some(owner.uid), gid: Some(owner.gid), groups: None };
    if !identity.is_ours() {
        let same = user.filter(|user| user.uid == identity.uid).and_then(|user| user.groups.clone());
        identity.groups = Some(same.unwrap_or_default());
    }
    if held()?.effective.contains(identity.needs()) { identity.assume(None) } else { Ok(()) }
}

/// The main function of a prober.
pub fn serve() -> ! {
    let _ = rustix::thread::set_name(c"vassal-probe");
    // After the last change of identity, which would clear it.
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The app may be the same user, and must not trace the prober.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let (alarm, socket) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut question = [0; QUESTION_MAX];
    let mut interval = None;
    let mut told = None;
    let proc = match can_statx(alarm) {
        true => None,
        false => Some(files::open_proc()),
    };
    let proc = proc.transpose().context("open", "/proc").unwrap_or_else(|error| fail(error));
    loop {
        let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        let is_asked = match poll(&mut fds, interval.as_ref()) {
            Ok(0) => false,
            Ok(_) => match recv(socket, &mut question, RecvFlags::empty()) {
                Ok((_, length)) if length > 0 => true,
                Err(Errno::INTR) => continue,
                // PID 1 has closed its end.
                _ => clone::exit(0),
            },
            Err(_) => continue,
        };
        let Some((rhythm, path)) = parse(&question) else { clone::exit(0) };
        interval = timespec(rhythm.interval);
        arm(alarm, rhythm.patience);
        let start = Instant::now();
        let (answer, device) = match &proc {
            None => look(path),
            Some(proc) => look_without_statx(path, proc.as_fd()).unwrap_or_else(|error| fail(error)),
        };
        let took = start.elapsed();
        if rhythm.interval >= rhythm.patience {
            // With a shorter interval, the next question comes before the alarm goes off, and winds it up
            // again.
            arm(alarm, Duration::ZERO);
        }
        let is_new = told != Some(answer);
        // PID 1 may have asked meanwhile. With this answer it need not wait as long again.
        let is_slow = took >= rhythm.patience.min(SLOW);
        if is_asked || is_new || is_slow {
            let is_mounted = matches!(answer, Answer::Found(Found { is_mount_root: true, .. }));
            let daemon = if is_new && is_mounted { daemon_of(device) } else { None };
            tell(socket, Reply { answer, took, daemon });
            told = Some(answer);
        }
    }
}

fn tell(socket: BorrowedFd<'_>, reply: Reply) {
    if rustix::net::send(socket, &Word::Reply(reply).encode(), SendFlags::NOSIGNAL).is_err() {
        clone::exit(0);
    }
}

/// Ends because of an error that has nothing to do with the filesystem.
fn fail(error: Error) -> ! {
    let _ = rustix::net::send(rustix::stdio::stdout(), &Word::Failure(error).encode(), SendFlags::NOSIGNAL);
    clone::exit(EXIT_FAILED)
}

/// Winds up the alarm; a time of zero disarms it.
fn arm(alarm: BorrowedFd<'_>, time: Duration) {
    let Some(it_value) = timespec(time) else { return };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = timerfd_settime(alarm, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value });
}

fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads a question: interval and patience, then the path.
fn parse(question: &[u8]) -> Option<(Rhythm, &CStr)> {
    let (interval, rest) = question.split_first_chunk::<8>()?;
    let (patience, path) = rest.split_first_chunk::<8>()?;
    let time = |bytes: &[u8; 8]| Duration::from_nanos(u64::from_le_bytes(*bytes));
    let rhythm = Rhythm { interval: time(interval), patience: time(patience) };
    Some((rhythm, CStr::from_bytes_until_nul(path).ok()?))
}

/// The fields that are asked of statx(2).
///
/// FORCE_SYNC goes past the attribute cache, which survives a dead daemon. The mode is one of the fields
/// because the kernel answers for the mount ID alone without asking the daemon, even with FORCE_SYNC.
const FIELDS: StatxFlags = StatxFlags::MODE.union(StatxFlags::MNT_ID).union(MNT_ID_UNIQUE);

/// Whether statx(2) works and tells the mount of a file, as it does since Linux 5.8 unless a filter refuses
/// it. This is tried with a file of this process, because a filesystem may answer with the same errors. All
/// answers of a prober then come from the same call, so that their mount IDs are of the same kind.
fn can_statx(own: BorrowedFd<'_>) -> bool {
    statx(own, c"", AtFlags::EMPTY_PATH, FIELDS).is_ok_and(|stat| tells_the_mount(&stat))
}

/// Asks the filesystem. Returns the answer and the device number, which is also the number of a FUSE
/// connection.
fn look(path: &CStr) -> (Answer, u64) {
    match statx(CWD, path, AtFlags::STATX_FORCE_SYNC | AtFlags::NO_AUTOMOUNT, FIELDS) {
        Ok(stat) => {
            let is_mount_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
            let found = Found { mount_id: stat.stx_mnt_id, is_mount_root };
            (Answer::Found(found), mountinfo::number((stat.stx_dev_major, stat.stx_dev_minor)))
        }
        Err(errno) => (Answer::Failed(errno), 0),
    }
}

/// Whether the kernel has told which mount the path is on, and whether the path is the root of that mount.
fn tells_the_mount(stat: &Statx) -> bool {
    let mask = StatxFlags::from_bits_retain(stat.stx_mask);
    mask.intersects(StatxFlags::MNT_ID | MNT_ID_UNIQUE)
        && stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
}

/// Asks the filesystem without statx(2): statfs(2) asks the daemon too, and procfs tells what is mounted
/// there, if it is a procfs of this pid namespace.
///
/// # Errors
/// procfs does not tell.
fn look_without_statx(path: &CStr, proc: BorrowedFd<'_>) -> Result<(Answer, u64)> {
    let place = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let asked = place.and_then(|place| fstatfs(&place).map(|_| place));
    let place = match asked {
        Ok(place) => place,
        Err(errno) => return Ok((Answer::Failed(errno), 0)),
    };
    let number = place.as_raw_fd();
    let id = fuse_daemon::number_in(proc, &format!("self/fdinfo/{number}"), "mnt_id:");
    let id = id.ok_or(Errno::NOENT).context("read mnt_id in", "/proc/self/fdinfo")?;
    let name = readlinkat(proc, format!("self/fd/{number}"), Vec::new()).context("read", "/proc/self/fd")?;
    let mounts = files::read_file_at(proc, "self/mountinfo").context("read", files::MOUNTINFO)?;
    let mounts = mountinfo::parse(&mounts);
    // `None` if it was unmounted just now.
    let mount = mounts.iter().find(|mount| mount.id == id as u64);
    let is_mount_root =
        mount.is_some_and(|mount| mount.mount_point.as_os_str().as_bytes() == name.to_bytes());
    let found = Found { mount_id: id as u64, is_mount_root };
    Ok((Answer::Found(found), mount.map_or(0, |mount| mountinfo::number(mount.device))))
}

/// The daemon of a FUSE connection; `None` if it is not known, or if the prober may not look.
///
/// /proc may belong to an outer pid namespace, in which the numbers differ from those that PID 1 sees.
fn daemon_of(connection: u64) -> Option<Pid> {
    let proc = files::open_proc().ok()?;
    let proc = proc.as_fd();
    let parent = fuse_daemon::number_in(proc, "self/status", "PPid:")?;
    let mounts = || Some(mountinfo::parse(&files::read_file_at(proc, "self/mountinfo").ok()?));
    let daemons = fuse_daemon::among_children(proc, parent, &mounts);
    let (_, daemon) = daemons.into_iter().find(|(served, _)| *served == connection)?;
    Pid::from_raw(fuse_daemon::pid_with_us(proc, daemon)?)
}

impl Word {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Reply(reply) => encode(*reply),
            Self::Failure(error) => {
                let mut packet = [&[FAILURE][..], &error.to_bytes()].concat();
                packet.truncate(WORD_MAX);
                packet
            }
        }
    }

    fn decode(packet: &[u8]) -> Option<Self> {
        match packet.split_first()? {
            (&FAILURE, error) => Error::from_bytes(error).map(Self::Failure),
            (&REPLY, reply) => decode(reply.try_into().ok()?).map(Self::Reply),
            _ => None,
        }
    }
}

fn encode(reply: Reply) -> Vec<u8> {
    let (errno, found) = match reply.answer {
        Answer::Found(found) => (0, found),
        Answer::Failed(errno) => (errno.raw_os_error(), Found { mount_id: 0, is_mount_root: false }),
    };
    let mut packet = Vec::with_capacity(1 + REPLY_SIZE);
    packet.push(REPLY);
    packet.extend(errno.to_le_bytes());
    packet.extend(found.mount_id.to_le_bytes());
    packet.push(found.is_mount_root.into());
    packet.extend(nanoseconds(reply.took).to_le_bytes());
    packet.extend(Pid::as_raw(reply.daemon).to_le_bytes());
    packet
}

fn decode(packet: &[u8; REPLY_SIZE]) -> Option<Reply> {
    let (errno, rest) = packet.split_first_chunk::<4>()?;
    let (mount_id, rest) = rest.split_first_chunk::<8>()?;
    let (is_mount_root, rest) = rest.split_first()?;
    let (took, rest) = rest.split_first_chunk::<8>()?;
    let (daemon, _) = rest.split_first_chunk::<4>()?;
    let answer = match i32::from_le_bytes(*errno) {
        0 => Answer::Found(Found {
            mount_id: u64::from_le_bytes(*mount_id),
            is_mount_root: *is_mount_root != 0,
        }),
        errno => Answer::Failed(received(errno)),
    };
    // The prober runs as the tenant's user, so its packets are not trusted: 0, 1 and negative numbers are not
    // pids of a daemon.
    let daemon = Some(i32::from_le_bytes(*daemon)).filter(|pid| *pid > 1).and_then(Pid::from_raw);
    Some(Reply { answer, took: Duration::from_nanos(u64::from_le_bytes(*took)), daemon })
}

#[cfg(test)]
impl Prober {
    /// One that has said this.
    pub(super) fn that_said(reply: Reply) -> Self {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::send(&theirs, &Word::Reply(reply).encode(), SendFlags::NOSIGNAL).unwrap();
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, flags).unwrap();
        Self { pid: Pid::INIT, socket, alarm, failure: OnceCell::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_survive_the_wire() {
        for (answer, daemon) in [
            (Answer::Found(Found { mount_id: 1 << 40, is_mount_root: true }), Pid::from_raw(7)),
            (Answer::Failed(Errno::NOTCONN), None),
        ] {
            let reply = Reply { answer, took: Duration::from_nanos(1_234_567), daemon };
            let packet = Word::Reply(reply).encode();
            assert!(matches!(Word::decode(&packet), Some(Word::Reply(same)) if same == reply));
            assert!(Word::decode(packet.split_last().unwrap().1).is_none());
        }
    }

    #[test]
    fn a_prober_that_ends_before_it_reads_the_question_has_said_why() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let alarm = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).unwrap();
        let probe = Prober { pid: Pid::INIT, socket: ours, alarm, failure: OnceCell::new() };
        let rhythm = Rhythm { interval: Duration::from_secs(1), patience: Duration::from_secs(1) };
        probe.ask(Path::new("/"), rhythm).unwrap();
        let failure = Word::Failure(Error::os("become", "the owner", Errno::PERM)).encode();
        rustix::net::send(&theirs, &failure, SendFlags::NOSIGNAL).unwrap();
        drop(theirs);
        assert!(probe.why_it_ended().contains("the owner"), "{}", probe.why_it_ended());
    }

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Word::Failure(Error::os("become", "the owner", Errno::PERM));
        let Some(Word::Failure(error)) = Word::decode(&failure.encode()) else { panic!("no failure") };
        assert_eq!(error.to_string(), "become the owner: Operation not permitted (EPERM)");
        assert!(Word::decode(&[]).is_none() && Word::decode(&[7]).is_none());
    }

    #[test]
    fn the_root_directory_is_a_mount_root() {
        let Answer::Found(root) = look(c"/proc").0 else { panic!("/proc does not answer") };
        let Answer::Found(inside) = look(c"/proc/self").0 else { panic!("/proc/self does not answer") };
        assert!(root.is_mount_root && !inside.is_mount_root);
        assert_eq!(look(c"/proc/nothing").0, Answer::Failed(Errno::NOENT));
    }

    #[test]
    fn without_statx_the_answers_are_the_same() {
        let (ours, _) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert!(can_statx(ours.as_fd()), "which needs Linux 5.8");
        let proc = open(c"/proc", OFlags::PATH, Mode::empty()).unwrap();
        for path in [c"/proc", c"/proc/self", c"/proc/nothing", c"/proc/version/x"] {
            let (with, without) = (look(path), look_without_statx(path, proc.as_fd()).unwrap());
            let is_root = |answer| match answer {
                Answer::Found(found) => Ok(found.is_mount_root),
                Answer::Failed(errno) => Err(errno),
            };
            assert_eq!((is_root(with.0), with.1), (is_root(without.0), without.1), "{path:?}");
        }
        // Without procfs nothing is known, and the filesystem is not to blame.
        let elsewhere = open(c"/", OFlags::PATH, Mode::empty()).unwrap();
        assert!(look_without_statx(c"/proc", elsewhere.as_fd()).is_err());
        assert_eq!(
            look_without_statx(c"/nothing", elsewhere.as_fd()).unwrap().0,
            Answer::Failed(Errno::NOENT)
        );
    }

    #[test]
    fn an_answer_of_an_old_kernel_is_not_taken_for_no_mount() {
        let fields = StatxFlags::MODE | StatxFlags::MNT_ID;
        let mut stat = statx(CWD, c"/proc", AtFlags::empty(), fields).unwrap();
        assert!(tells_the_mount(&stat));
        stat.stx_mask &= !(StatxFlags::MNT_ID | MNT_ID_UNIQUE).bits();
        assert!(!tells_the_mount(&stat), "no mount ID");
        stat.stx_mask |= StatxFlags::MNT_ID.bits();
        stat.stx_attributes_mask = StatxAttributes::empty();
        assert!(!tells_the_mount(&stat), "no word on the root of a mount");
    }

    #[test]
    fn a_question_without_a_path_is_none() {
        assert!(parse(&[0; 15]).is_none() && parse(&[1; 32]).is_none());
    }
}
