//! What the emperor and a vassal's PID 1 tell each other, over one SOCK_SEQPACKET pair per vassal.
//!
//! A message is one packet: the version, its kind, then its fields; numbers are little-endian, texts carry a u32
//! length. The vassal's side holds a hostile tenant's configuration, so decoding trusts nothing: a packet that does
//! not parse to its last byte is an error, never a guess.
//!
//! The emperor opens with [`ToVassal::Hello`], which carries the vassal's file as a sealed memfd (SCM_RIGHTS). The
//! end of the link means the end of the peer.
//!
//! # Reload
//!
//! [`ToVassal::Reload`] brings the changed file, to a vassal that has said [`FromVassal::Running`]. It is answered once,
//! with [`FromVassal::Reloaded`], [`FromVassal::Refused`] or [`FromVassal::NeedsRespawn`]; the next one is not sent before
//! that. The answer is waited for 5 s, or as long as [`FromVassal::Reloading`] has asked for. A vassal that ends instead
//! says so as ever.

use std::ffi::OsString;
use std::fmt;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Exit status: the configuration is invalid.
pub const EXIT_CONFIG: i32 = 78;
/// Exit status: a fatal phase failed.
pub const EXIT_SETUP: i32 = 71;
/// Exit status: a checked mountpoint was lost and the instance destroyed.
pub const EXIT_MOUNT_LOST: i32 = 75;
/// Exit status: the app was not found.
pub const EXIT_NOT_FOUND: i32 = 127;
/// Exit status: the app was found but could not be executed.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;

/// The environment variable that names the vassal's end of the link, a descriptor number.
pub const LINK_VARIABLE: &str = "VASSAL_LINK";

/// The environment variable that makes both programs log JSON, when its value is `json`.
pub const LOG_VARIABLE: &str = "VASSAL_LOG";

/// The first byte of every message. Both programs come from one build, so a difference is a mistake.
pub const VERSION: u8 = 8;

/// Longer texts are cut: a packet must fit the socket's buffer.
const TEXT_MAX: usize = 4096;

/// What the options of a [`Hello`] may take up in its packet: keys, values and 8 bytes for each pair. They are never cut,
/// since half a command is another command.
pub const OPTIONS_MAX: usize = 8192;

/// So many mountpoints are reported on, their texts cut to this length each: a report fits its packet.
pub const REPORTS_MAX: usize = 16;
const REPORT_TEXT_MAX: usize = 256;

/// The largest packet: three texts and the options, some numbers and lengths.
const PACKET_MAX: usize = 3 * TEXT_MAX + OPTIONS_MAX + 128;

/// From the emperor to a vassal's PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToVassal {
    /// The first message; the file's bytes come along as a sealed memfd.
    Hello(Hello),
    /// Shut down in order; also in the middle of a reload.
    Stop,
    /// The file has changed: run the app as it says now. Its bytes come along as a sealed memfd.
    Reload,
    /// A socket that an earlier instance gave us to keep comes along; as many follow the greeting as that says.
    Kept(String),
    /// How are the checked mountpoints? Answered with [`FromVassal::Mountpoints`].
    Mountpoints,
}

/// How the label of the socket begins that the emperor itself listens on for a vassal on demand; its address follows.
pub const ON_DEMAND: &str = "on-demand ";

/// More sockets than any vassal needs to have kept: the emperor's descriptors are for all.
pub const SOCKETS_MAX: usize = 32;

/// A socket that outlived its instance.
#[derive(Debug)]
pub struct KeptSocket {
    /// What the instance called it.
    pub label: String,
    /// The socket.
    pub fd: OwnedFd,
}

/// Who the vassal is and where it finds itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The vassal's name, its file name without the suffix.
    pub name: OsString,
    /// The path of its file as the emperor knows it: what `%p` and error messages show.
    pub path: PathBuf,
    /// The `CLONE_NEW*` bits of the namespaces it was created in.
    pub namespaces: u64,
    /// The hooks that the emperor's own configuration has for its vassals, as key and value, in order; all options here
    /// [fit](Self::options_fit).
    pub as_vassal: Vec<(String, OsString)>,
    /// Whether its file is a program, whose output is the configuration (`emperor-magic-exec`); then nothing is in the
    /// descriptor that comes along.
    pub is_program: bool,
    /// How many [`ToVassal::Kept`] follow.
    pub kept: u64,
    /// Whom to become before the file is read (`emperor-tyrant`).
    pub owner: Option<FileOwner>,
    /// The cgroup that the emperor has made for it; empty for none.
    pub cgroup: PathBuf,
    /// Options to be read before the vassal's file.
    pub before: Vec<(String, OsString)>,
    /// Options to be read behind it.
    pub behind: Vec<(String, OsString)>,
}

/// Whom a vassal of tyrant mode runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// The file's user.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// Whether the user's groups from the group database are taken on as well.
    pub initgroups: bool,
}

impl Hello {
    /// Whether the options for all vassals stay within [`OPTIONS_MAX`].
    pub fn options_fit<'a>(options: impl IntoIterator<Item = &'a (String, OsString)>) -> bool {
        options.into_iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>() <= OPTIONS_MAX
    }
}

/// From a vassal's PID 1 to the emperor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromVassal {
    /// The app was started.
    Running,
    /// It is shutting down and will be gone within this time.
    Stopping(Duration),
    /// The new file is valid and the app is being restarted; the answer to the reload comes within this time. Counts
    /// once per reload.
    Reloading(Duration),
    /// Answer to a reload: the app runs as the new file says, in the same jail.
    Reloaded,
    /// Answer to a reload: the new file cannot be used, for this reason; the app was not touched.
    Refused(String),
    /// Answer to a reload: the new file asks for another jail, by this difference; the app was not touched. The emperor
    /// will stop this instance.
    NeedsRespawn(String),
    /// The last message: why PID 1 is about to exit.
    Exiting(ExitReason),
    /// The app told us something of itself.
    Announced(Announcement),
    /// The sockets that are in use: any other that is kept can be closed.
    Sockets(Vec<String>),
    /// A socket to be kept for the next instance comes along.
    Keep(String),
    /// The checked mountpoints, in the file's order, at most [`REPORTS_MAX`]: when something about them has changed, and as
    /// the answer to the question for them.
    Mountpoints(Vec<MountReport>),
}

/// What an app tells of itself, by uWSGI's emperor protocol or by sd_notify(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// It accepts requests.
    Ready,
    /// It has served: whatever was wrong with its last instances is over.
    Loyal,
    /// It is alive.
    Heartbeat,
    /// What it does at present, in its own words.
    Status(String),
    /// It has nothing to do, and wants to be stopped.
    Leave,
    /// It reads its own configuration again, and says when it accepts requests again.
    Reloading,
    /// It is about to end.
    Stopping,
    /// It wants to be restarted at once, as if it had given no heartbeat in time.
    Stuck,
}

impl Announcement {
    /// Reads a message of uWSGI's emperor protocol; `None` for one that says nothing to us.
    pub fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            5 => Some(Self::Ready),
            17 => Some(Self::Loyal),
            22 => Some(Self::Leave),
            26 => Some(Self::Heartbeat),
            _ => None,
        }
    }

    /// Reads a line of an sd_notify(3) message; `None` for one that says nothing to us.
    pub fn of_line(line: &[u8]) -> Option<Self> {
        match line {
            b"READY=1" => Some(Self::Ready),
            b"WATCHDOG=1" => Some(Self::Heartbeat),
            b"WATCHDOG=trigger" => Some(Self::Stuck),
            b"RELOADING=1" => Some(Self::Reloading),
            b"STOPPING=1" => Some(Self::Stopping),
            _ => {
                let text = line.strip_prefix(b"STATUS=")?;
                Some(Self::Status(String::from_utf8_lossy(text).into_owned()))
            }
        }
    }
}

/// What PID 1 knows of a checked mountpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountReport {
    /// Where it is, as the vassal sees it.
    pub path: PathBuf,
    /// The filesystem's type (`fuse.fuse-zip`), empty before one is mounted.
    pub fs_type: String,
    /// The process that serves it, by its pid in the vassal; 0 where that is not known.
    pub daemon: i32,
    /// How it is.
    pub state: MountState,
    /// How long the filesystem took for its last answer that PID 1 was told of.
    pub round_trip: Option<Duration>,
    /// How many times it was lost since this PID 1 started.
    pub lost: u32,
    /// Why it was lost last, empty if it never was.
    pub last: String,
}

/// The states of a checked mountpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountState {
    /// Not mounted, or not answering, yet.
    Awaited,
    /// It is the mount that it was, and answers.
    Up,
    /// It cannot be judged at the moment.
    Blind,
    /// It was lost, and is not back.
    Lost,
}

impl MountState {
    /// All of them; a state's place is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Awaited, Self::Up, Self::Blind, Self::Lost];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Up => "up",
            Self::Blind => "cannot be judged",
            Self::Lost => "lost",
        }
    }
}

/// Why a vassal's PID 1 ended, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The app ended, with this wait status.
    App(WaitStatus),
    /// It was told to stop, and did.
    Stopped,
    /// The configuration is invalid; the text is the first mistake.
    Config(String),
    /// A fatal phase failed.
    Setup(SetupFailure),
    /// A checked mountpoint was lost; the text says which and how it was noticed.
    MountLost(String),
    /// The app was killed by the kernel for want of memory: so many processes of its cgroup were.
    OutOfMemory(u64),
}

/// Where in the plan setting up failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupFailure {
    /// The phase by its name, such as `as-user`.
    pub phase: String,
    /// The operation's place within its phase, from 1; 0 for a step that is no hook.
    pub index: u32,
    /// Operation, object and cause.
    pub what: String,
    /// The kernel's error number, 0 where the reason is none of its own.
    pub errno: i32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

impl WaitStatus {
    /// From wait(2); `None` for a process that was only stopped or continued, which is told of when asked for.
    pub fn of(status: rustix::process::WaitStatus) -> Option<Self> {
        let signaled = || status.terminating_signal().map(Self::Signaled);
        status.exit_status().map(Self::Exited).or_else(signaled)
    }

    /// The status a shell would show: its own, or 128+n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signaled(signal) => write!(f, "killed by {}", crate::sys::signal::name(*signal)),
        }
    }
}

impl fmt::Display for SetupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => write!(f, "{}: {}", self.phase, self.what),
            index => write!(f, "{} #{index}: {}", self.phase, self.what),
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(status) => write!(f, "app {status}"),
            Self::Stopped => write!(f, "stopped"),
            Self::Config(mistake) => write!(f, "invalid configuration: {mistake}"),
            Self::Setup(failure) => write!(f, "setup failed in {failure}"),
            Self::MountLost(what) => write!(f, "{what}"),
            Self::OutOfMemory(kills) => {
                write!(
                    f,
                    "app killed by SIGKILL: out of memory (processes of its cgroup that the kernel has killed: {kills})"
                )
            }
        }
    }
}

impl ToVassal {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => Packet::new(0)
                .text(hello.name.as_bytes())
                .text(hello.path.as_os_str().as_bytes())
                .u64(hello.namespaces)
                .pairs(&hello.as_vassal)
                .u64(hello.is_program.into())
                .u64(hello.kept)
                .pairs(&hello.before)
                .pairs(&hello.behind)
                .owner(hello.owner)
                .text(hello.cgroup.as_os_str().as_bytes())
                .done(),
            Self::Stop => Packet::new(1).done(),
            Self::Reload => Packet::new(2).done(),
            Self::Kept(label) => Packet::new(3).text(label.as_bytes()).done(),
            Self::Mountpoints => Packet::new(4).done(),
        }
    }

    /// Reads a packet; `None` if it is not a message of this version.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, mut fields) = Fields::open(packet)?;
        let message = match kind {
            0 => Self::Hello(Hello {
                name: OsString::from_vec(fields.text()?.to_vec()),
                path: OsString::from_vec(fields.text()?.to_vec()).into(),
                namespaces: fields.u64()?,
                as_vassal: fields.pairs()?,
                is_program: fields.u64()? != 0,
                kept: fields.u64()?,
                before: fields.pairs()?,
                behind: fields.pairs()?,
                owner: fields.owner()?,
                cgroup: OsString::from_vec(fields.text()?.to_vec()).into(),
            }),
            1 => Self::Stop,
            2 => Self::Reload,
            3 => Self::Kept(fields.string()?),
            4 => Self::Mountpoints,
            _ => return None,
        };
        fields.end().then_some(message)
    }
}

impl ExitReason {
    /// The packet of a [`FromVassal::Exiting`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::App(WaitStatus::Exited(status)) => Packet::new(2).i32(*status).done(),
            Self::App(WaitStatus::Signaled(signal)) => Packet::new(3).i32(*signal).done(),
            Self::Stopped => Packet::new(4).done(),
            Self::Config(mistake) => Packet::new(5).text(mistake.as_bytes()).done(),
            Self::Setup(failure) => Packet::new(6)
                .text(failure.phase.as_bytes())
                .u64(failure.index.into())
                .text(failure.what.as_bytes())
                .i32(failure.errno)
                .done(),
            Self::MountLost(what) => Packet::new(7).text(what.as_bytes()).done(),
            Self::OutOfMemory(kills) => Packet::new(19).u64(*kills).done(),
        }
    }
}

impl FromVassal {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Running => Packet::new(0).done(),
            Self::Stopping(within) => Packet::new(1).time(*within).done(),
            Self::Exiting(reason) => reason.encode(),
            Self::Reloading(within) => Packet::new(8).time(*within).done(),
            Self::Reloaded => Packet::new(9).done(),
            Self::Refused(why) => Packet::new(10).text(why.as_bytes()).done(),
            Self::NeedsRespawn(why) => Packet::new(11).text(why.as_bytes()).done(),
            Self::Announced(Announcement::Ready) => Packet::new(12).done(),
            Self::Announced(Announcement::Loyal) => Packet::new(13).done(),
            Self::Announced(Announcement::Heartbeat) => Packet::new(17).done(),
            Self::Announced(Announcement::Status(text)) => Packet::new(18).text(text.as_bytes()).done(),
            Self::Announced(Announcement::Leave) => Packet::new(20).done(),
            Self::Announced(Announcement::Reloading) => Packet::new(21).done(),
            Self::Announced(Announcement::Stopping) => Packet::new(22).done(),
            Self::Announced(Announcement::Stuck) => Packet::new(23).done(),
            Self::Sockets(labels) => {
                let count = Packet::new(14).u64(labels.len() as u64);
                labels.iter().fold(count, |packet, label| packet.text(label.as_bytes())).done()
            }
            Self::Keep(label) => Packet::new(15).text(label.as_bytes()).done(),
            Self::Mountpoints(reports) => {
                let reports = reports.get(..REPORTS_MAX).unwrap_or(reports);
                reports.iter().fold(Packet::new(16).u64(reports.len() as u64), Packet::report).done()
            }
        }
    }

    /// Reads a packet; `None` if it is not a message of this version.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, mut fields) = Fields::open(packet)?;
        let message = match kind {
            0 => Self::Running,
            1 => Self::Stopping(fields.time()?),
            2 => Self::Exiting(ExitReason::App(WaitStatus::Exited(fields.i32()?))),
            3 => Self::Exiting(ExitReason::App(WaitStatus::Signaled(fields.i32()?))),
            4 => Self::Exiting(ExitReason::Stopped),
            5 => Self::Exiting(ExitReason::Config(fields.string()?)),
            6 => Self::Exiting(ExitReason::Setup(SetupFailure {
                phase: fields.string()?,
                index: u32::try_from(fields.u64()?).ok()?,
                what: fields.string()?,
                errno: fields.i32()?,
            })),
            7 => Self::Exiting(ExitReason::MountLost(fields.string()?)),
            8 => Self::Reloading(fields.time()?),
            9 => Self::Reloaded,
            10 => Self::Refused(fields.string()?),
            11 => Self::NeedsRespawn(fields.string()?),
            12 => Self::Announced(Announcement::Ready),
            13 => Self::Announced(Announcement::Loyal),
            14 => Self::Sockets((0..fields.u64()?).map(|_| fields.string()).collect::<Option<_>>()?),
            15 => Self::Keep(fields.string()?),
            16 => Self::Mountpoints(fields.reports()?),
            17 => Self::Announced(Announcement::Heartbeat),
            18 => Self::Announced(Announcement::Status(fields.string()?)),
            19 => Self::Exiting(ExitReason::OutOfMemory(fields.u64()?)),
            20 => Self::Announced(Announcement::Leave),
            21 => Self::Announced(Announcement::Reloading),
            22 => Self::Announced(Announcement::Stopping),
            23 => Self::Announced(Announcement::Stuck),
            _ => return None,
        };
        fields.end().then_some(message)
    }
}

/// Sends one packet, with a descriptor if given; never blocks and never raises SIGPIPE.
///
/// # Errors
/// AGAIN when the peer does not read, PIPE or CONNRESET when it is gone (send(2)).
pub fn send(link: impl AsFd, packet: &[u8], fd: Option<&OwnedFd>) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(link, &[IoSlice::new(packet)], &mut control, flags).map(drop)
}

/// What [`receive`] found.
#[derive(Debug)]
pub enum Received {
    /// A packet, with the descriptor that came along.
    Packet(Vec<u8>, Option<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The peer has closed its end or died.
    Closed,
}

/// Takes the next packet off the link without waiting.
///
/// A packet larger than any message is cut here and refused by the decoder.
///
/// # Errors
/// ENOMEM and the like (recv(2)); a reset connection is [`Received::Closed`].
pub fn receive(link: impl AsFd) -> Result<Received, Errno> {
    let mut buffer = vec![0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut taken = rustix::net::recvmsg(&link, &mut iov, &mut control, flags);
    if let Err(Errno::CONNRESET) = taken {
        // The peer left something of ours unread. The kernel says so once, ahead of what the peer had to say.
        taken = rustix::net::recvmsg(&link, &mut iov, &mut control, flags);
    }
    let bytes = match taken {
        Ok(message) => message.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
        Err(Errno::CONNRESET) => return Ok(Received::Closed),
        Err(errno) => return Err(errno),
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if bytes == 0 {
        return Ok(Received::Closed);
    }
    buffer.truncate(bytes);
    Ok(Received::Packet(buffer, fd))
}

/// A packet being written.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// In whole milliseconds.
    fn time(self, time: Duration) -> Self {
        self.u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn text(self, text: &[u8]) -> Self {
        self.uncut(text.get(..TEXT_MAX).unwrap_or(text))
    }

    fn pairs(self, pairs: &[(String, OsString)]) -> Self {
        let counted = self.u64(pairs.len() as u64);
        pairs
            .iter()
            .fold(counted, |packet, (key, value)| packet.uncut(key.as_bytes()).uncut(value.as_bytes()))
    }

    fn report(self, report: &MountReport) -> Self {
        let cut = |text: &[u8]| text.get(..REPORT_TEXT_MAX).unwrap_or(text).to_vec();
        // Nanoseconds, from 1; 0 stands for none.
        let took =
            report.round_trip.map_or(0, |took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.uncut(&cut(report.path.as_os_str().as_bytes()))
            .uncut(&cut(report.fs_type.as_bytes()))
            .i32(report.daemon)
            .i32(report.state as i32)
            .u64(took)
            .u64(report.lost.into())
            .uncut(&cut(report.last.as_bytes()))
    }

    /// Nothing for nobody, else one number for each part.
    fn owner(self, owner: Option<FileOwner>) -> Self {
        match owner {
            None => self.u64(0),
            Some(FileOwner { uid, gid, initgroups }) => {
                self.u64(1 + u64::from(initgroups)).u64(uid.into()).u64(gid.into())
            }
        }
    }

    fn uncut(mut self, text: &[u8]) -> Self {
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text);
        self
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The rest of a packet being read; every getter is `None` past its end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn open(packet: &'a [u8]) -> Option<(u8, Self)> {
        match packet {
            [VERSION, kind, fields @ ..] => Some((*kind, Self(fields))),
            _ => None,
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.array().map(u32::from_le_bytes)? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        self.text().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    fn time(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_millis)
    }

    fn pairs(&mut self) -> Option<Vec<(String, OsString)>> {
        // Nothing is allocated for a count before there is something to count.
        let count = self.u64()?;
        (0..count).map(|_| Some((self.string()?, OsString::from_vec(self.text()?.to_vec())))).collect()
    }

    fn reports(&mut self) -> Option<Vec<MountReport>> {
        let mut reports = Vec::new();
        for _ in 0..self.u64()? {
            reports.push(MountReport {
                path: OsString::from_vec(self.text()?.to_vec()).into(),
                fs_type: self.string()?,
                daemon: self.i32()?,
                state: *MountState::ALL.get(usize::try_from(self.i32()?).ok()?)?,
                round_trip: Some(self.u64()?).filter(|&took| took > 0).map(Duration::from_nanos),
                lost: u32::try_from(self.u64()?).ok()?,
                last: self.string()?,
            });
        }
        Some(reports)
    }

    fn owner(&mut self) -> Option<Option<FileOwner>> {
        let initgroups = match self.u64()? {
            0 => return Some(None),
            1 => false,
            2 => true,
            _ => return None,
        };
        let (uid, gid) = (self.u64()?.try_into().ok()?, self.u64()?.try_into().ok()?);
        Some(Some(FileOwner { uid, gid, initgroups }))
    }

    fn end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
