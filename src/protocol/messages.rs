//! The messages, and the types of their fields.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::socket::SocketId;

/// Exit status: the configuration is invalid.
pub const EXIT_CONFIG: i32 = 78;
/// Exit status: a fatal phase failed.
pub const EXIT_SETUP: i32 = 71;
/// Exit status: the app no longer passes its ready check.
pub const EXIT_NOT_READY: i32 = 69;
/// Exit status: a checked mountpoint was lost and the instance destroyed.
pub const EXIT_MOUNT_LOST: i32 = 75;
/// Exit status: the app was not found.
pub const EXIT_NOT_FOUND: i32 = 127;
/// Exit status: the app was found but could not be executed.
pub const EXIT_NOT_EXECUTABLE: i32 = 126;

/// The environment variable with the descriptor number of the vassal's end of the link.
pub const LINK_VARIABLE: &str = "VASSAL_LINK";

/// The first byte of every message. Both programs come from one build, so a difference is a mistake.
pub const VERSION: u8 = 16;

/// The most bytes that the options of a [`Hello`] may take in its packet: keys, values and 8 bytes for each
/// pair. They are never cut off, because half a command is another command.
pub const OPTIONS_MAX: usize = 8192;

/// The most bytes of a [`FromVassal::Transcript`]: the emperor has one in its memory for each vassal that
/// rolls.
pub const TRANSCRIPT_MAX: usize = 256 << 10;

/// How many mountpoints are reported, with shortened texts, so that a report fits into its packet.
pub const REPORTS_MAX: usize = 16;

/// From the emperor to a vassal's PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToVassal {
    /// The first message, with the file's content as a sealed memfd.
    Hello(Hello),
    /// Shut down in order, even during a reload.
    Stop,
    /// The same, once the app has answered what it has accepted: the vassal goes on with another instance.
    StopGracefully,
    /// The same, with an app that is killed at once.
    StopNow,
    /// The file has changed: run the app as it says now. Its content comes with the message as a sealed
    /// memfd.
    Reload,
    /// A kept socket of an earlier instance, which comes with the message. The greeting says how many follow
    /// it.
    Kept(SocketId),
    /// The same; others use it, too, and its file stays as it is until [`ToVassal::TakesOver`].
    Lent(SocketId),
    /// The instance is one of those that the vassal is to have: what its file says of the files of lent
    /// sockets counts from now on.
    TakesOver,
    /// It is the turn of this instance, whose app is [`FromVassal::Unready`]: stop in order.
    GiveUp,
    /// Report the checked mountpoints: [`FromVassal::Mountpoints`].
    Mountpoints,
    /// The socket to the process that tells whose files are, which comes with the message. Follows the
    /// greeting of a process in a user namespace.
    Outside,
}

/// The vassal's name, and the surroundings of its new process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The vassal's name: the name of its file without the suffix.
    pub name: OsString,
    /// The path of its file, for `%p` and error messages.
    pub path: PathBuf,
    /// The `CLONE_NEW*` bits of the namespaces that the process was created in.
    pub namespaces: u64,
    /// The hooks for vassals from the emperor's configuration, as key and value, in order. All options here
    /// [fit](Self::options_fit).
    pub as_vassal: Vec<(String, OsString)>,
    /// Whether the file is a program whose output is the configuration (`emperor-magic-exec`). The descriptor
    /// is empty then.
    pub is_program: bool,
    /// Whether the descriptor is no file, but the [`FromVassal::Transcript`] of an instance of before.
    pub is_transcript: bool,
    /// The number of the instance among those of its vassal, from 1, for `%(replica)`.
    pub replica: u16,
    /// Whether there may be several, so that log lines have the number.
    pub is_one_of_several: bool,
    /// Whether the process must only read the configuration. It then ends with [`ExitReason::Stopped`], or
    /// with the reason why the configuration cannot be used.
    pub is_check: bool,
    /// How many [`ToVassal::Kept`] follow.
    pub kept: u64,
    /// The user to become before the file is read (`emperor-tyrant`).
    pub owner: Option<FileOwner>,
    /// The cgroup that the emperor has made; empty without one.
    pub cgroup: PathBuf,
    /// Options to read before the vassal's file.
    pub before: Vec<(String, OsString)>,
    /// Options to read after it.
    pub behind: Vec<(String, OsString)>,
}

/// The user of a vassal in tyrant mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// The file's user.
    pub uid: u32,
    /// The file's group.
    pub gid: u32,
    /// Whether the user's groups from the group database are used as well.
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
    /// The app's pid, as PID 1 sees it. Comes before [`FromVassal::Running`] and [`FromVassal::Reloaded`], if
    /// there is another app.
    App(i32),
    /// The app was started.
    Running,
    /// It is shutting down and will have ended within this time.
    Stopping(Duration),
    /// The new file is valid and the app is being restarted; the answer to the reload will come within this
    /// time. Counts once per reload. Without a reload: the app is being restarted on a new mount, and
    /// [`FromVassal::Running`] follows.
    Reloading(Duration),
    /// The answer to a reload: the app runs as the new file says, in the same jail.
    Reloaded,
    /// The answer to a reload: the new file cannot be used, for this reason; the app was not touched.
    Refused(String),
    /// The answer to a reload: the new file needs another jail, because of this difference; the app was not
    /// touched. The emperor will stop this instance.
    NeedsRespawn(String),
    /// The last message: why PID 1 exits.
    Exiting(ExitReason),
    /// A message of the app.
    Announced(Announcement),
    /// The app was ready and fails its ready check (`ready-check-failures`): the instance waits for its turn
    /// to be replaced ([`ToVassal::GiveUp`]). If the check succeeds again, [`Announcement::Ready`] follows.
    Unready,
    /// The app is not ready, and its ready check fails for this reason. Sent when there is another reason.
    NotReady(String),
    /// How many instances the vassal is to have, and how they are replaced. Sent before
    /// [`FromVassal::Running`] and [`FromVassal::Reloaded`] if it is not the default.
    Replication(Replication),
    /// Where the output goes, as the key has it (`file:PATH`), and in a second line that of errors, if that
    /// is another place. The reason follows where it is `inherit` in the place of what cannot be opened. Not
    /// sent if both are to go where PID 1 writes.
    Output(String),
    /// The first warning about its file, and how many more there are; empty if there are none. Sent at a
    /// start with warnings, and at each reload.
    Warnings(String),
    /// What the configuration was made of, which comes with the message as a sealed memfd of at most
    /// [`TRANSCRIPT_MAX`] bytes, if [`Replication::is_rolling`]. Sent before [`FromVassal::Replication`],
    /// but not by an instance that was started with such a one itself.
    Transcript,
    /// The sockets that are in use. Other kept ones can be closed.
    Sockets(Vec<SocketId>),
    /// A socket to be kept for the next instance, which comes with the message.
    Keep(SocketId),
    /// The checked mountpoints, in the order of the file, at most [`REPORTS_MAX`]. Sent after a change, and
    /// as the answer to [`ToVassal::Mountpoints`].
    Mountpoints(Vec<MountReport>),
}

/// How many instances a vassal has, and how they are replaced, as its file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replication {
    /// So many instances at a time (`replicas`), 1 to [`REPLICAS_MAX`].
    pub replicas: u16,
    /// Whether a new instance runs before an old one is stopped for it (`reload-strategy`).
    pub is_rolling: bool,
    /// How long the app of a new instance has to have run before it counts as ready, if it does not say so
    /// itself (`ready-after`).
    pub ready_after: Duration,
    /// A new instance that is not ready after this time, counted from its creation, is given up
    /// (`ready-timeout`).
    pub ready_timeout: Duration,
    /// Whether the app will say that it is ready, or a check will (`ready-check`), so that `ready_after` does
    /// not count.
    pub says_ready: bool,
}

/// The most instances that a vassal may have.
pub const REPLICAS_MAX: u16 = 100;

impl Default for Replication {
    fn default() -> Self {
        Self {
            replicas: 1,
            is_rolling: false,
            ready_after: Duration::from_secs(1),
            ready_timeout: Duration::from_secs(60),
            says_ready: false,
        }
    }
}

/// A message of an app, by uWSGI's emperor protocol or by sd_notify(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// It accepts requests.
    Ready,
    /// It has served requests, so earlier failures no longer count.
    Loyal,
    /// It is alive.
    Heartbeat,
    /// Its present activity, in its own words.
    Status(String),
    /// It has nothing to do, and wants to be stopped.
    Leave,
    /// It reads its own configuration again, and will say when it accepts requests again.
    Reloading,
    /// It is about to end.
    Stopping,
    /// It wants to be restarted at once, as if a heartbeat were missing.
    Stuck,
}

impl Announcement {
    /// Reads a message of uWSGI's emperor protocol; `None` for one without a meaning here.
    pub fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            5 => Some(Self::Ready),
            17 => Some(Self::Loyal),
            22 => Some(Self::Leave),
            26 => Some(Self::Heartbeat),
            _ => None,
        }
    }

    /// Reads a line of an sd_notify(3) message; `None` for one without a meaning here.
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

/// The facts that PID 1 knows about a checked mountpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountReport {
    /// Its path in the vassal.
    pub path: PathBuf,
    /// The filesystem's type (`fuse.fuse-zip`), empty before one is mounted.
    pub fs_type: String,
    /// The pid in the vassal of the process that serves it; 0 if it is not known.
    pub daemon: i32,
    /// Its state.
    pub state: MountState,
    /// How long the filesystem took for the last answer that PID 1 has got.
    pub round_trip: Option<Duration>,
    /// How many times it was lost since this PID 1 started.
    pub lost: u32,
    /// Why it was last lost; empty if it never was.
    pub last: String,
}

#[cfg(test)]
impl MountReport {
    /// For tests: a mountpoint that is up.
    pub fn sample(path: &str, lost: u32, last: &str) -> Self {
        Self {
            path: path.into(),
            fs_type: "fuse.x".into(),
            daemon: 6,
            state: MountState::Up,
            round_trip: Some(Duration::from_nanos(31_415)),
            lost,
            last: last.into(),
        }
    }
}

/// How mountpoints are lost, each as a part of the text that says so and as a label for metrics. The text of
/// any other loss is that of an error.
pub const LOSSES: [(&str, &str); 3] =
    [(NOT_MOUNTED, "unmounted"), (REPLACED, "replaced"), (NO_ANSWER, "no-answer")];
/// Nothing is mounted there.
pub const NOT_MOUNTED: &str = "no longer mounted";
/// Another filesystem is mounted there.
pub const REPLACED: &str = "replaced by another mount";
/// The time follows.
pub const NO_ANSWER: &str = "no answer for ";

/// The states of a checked mountpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountState {
    /// Not mounted yet, or not answering yet.
    Awaited,
    /// The same mount as before is there, and answers.
    Up,
    /// It cannot be judged at the moment.
    Blind,
    /// It was lost, and has not come back.
    Lost,
}

impl MountState {
    /// All states. The index of a state is its number on the wire.
    pub const ALL: [Self; 4] = [Self::Awaited, Self::Up, Self::Blind, Self::Lost];

    /// The name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Up => "up",
            Self::Blind => "cannot be judged",
            Self::Lost => "lost",
        }
    }
}

/// Why a vassal's PID 1 ended, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The app ended, with this wait status.
    App(WaitStatus),
    /// The same. The text has the last line of its output, or where that is; after status 0, the processes
    /// that it has left.
    AppSaid(WaitStatus, String),
    /// It was told to stop, and did.
    Stopped,
    /// The configuration is invalid; the text is the first mistake.
    Config(String),
    /// A fatal phase failed.
    Setup(SetupFailure),
    /// A checked mountpoint was lost; the text says which and how it was noticed.
    MountLost(String),
    /// The app was ready and no longer passes its check; the text says why.
    NotReady(String),
    /// The kernel killed the app because memory ran out, and so many processes of its cgroup.
    OutOfMemory(u64),
}

impl ExitReason {
    /// Whether the app has ended by itself with status 0.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::App(WaitStatus::Exited(0)) | Self::AppSaid(WaitStatus::Exited(0), _))
    }
}

/// The step of the setup that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupFailure {
    /// The phase by its name, such as `as-user`.
    pub phase: String,
    /// The index of the hook within its phase, from 1; 0 for a step that is not a hook.
    pub index: u32,
    /// Operation, object and cause.
    pub what: String,
    /// The kernel's error number; 0 if the kernel did not refuse.
    pub errno: i32,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
    /// This signal killed it, and the kernel has dumped its memory.
    Dumped(i32),
}

/// What is added to the number of a signal that has killed, without and with a dump.
const SIGNALED: i32 = 256;
const DUMPED: i32 = 512;

impl WaitStatus {
    /// The result of wait(2); `None` for a process that was only stopped or continued, which wait(2) reports
    /// on request.
    pub fn of(status: rustix::process::WaitStatus) -> Option<Self> {
        let kind = if libc::WCOREDUMP(status.as_raw()) { Self::Dumped } else { Self::Signaled };
        let signaled = || status.terminating_signal().map(kind);
        status.exit_status().map(Self::Exited).or_else(signaled)
    }

    /// The signal that killed it, with or without a dump; `None` if it exited.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled(signal) | Self::Dumped(signal) => Some(signal),
        }
    }

    /// The status as one number.
    pub(super) fn to_number(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => SIGNALED + signal,
            Self::Dumped(signal) => DUMPED + signal,
        }
    }

    /// Reads the number of [`WaitStatus::to_number`].
    pub(super) fn of_number(number: i32) -> Self {
        match number {
            ..SIGNALED => Self::Exited(number),
            SIGNALED..DUMPED => Self::Signaled(number - SIGNALED),
            DUMPED.. => Self::Dumped(number - DUMPED),
        }
    }

    /// The status that a shell would show: its own, or 128+n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) | Self::Dumped(signal) => 128 + signal,
        }
    }
}

impl fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signaled(signal) | Self::Dumped(signal) => {
                let dumped = if matches!(self, Self::Dumped(_)) { ", core dumped" } else { "" };
                write!(f, "killed by {}{dumped}", crate::signal_names::name(*signal))
            }
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
            Self::AppSaid(status, said) => write!(f, "app {status}, {said}"),
            Self::Stopped => write!(f, "stopped"),
            Self::Config(mistake) => write!(f, "invalid configuration: {mistake}"),
            Self::Setup(failure) => write!(f, "setup failed in {failure}"),
            Self::MountLost(what) | Self::NotReady(what) => write!(f, "{what}"),
            Self::OutOfMemory(kills) => {
                write!(
                    f,
                    "app killed by SIGKILL: out of memory \
                     (processes of its cgroup that the kernel has killed: {kills})"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_core_dump_is_told_where_the_kernel_has_made_one() {
        let directory = tempfile::tempdir().unwrap();
        for crash in ["ulimit -c 0; kill -SEGV $$", "ulimit -c unlimited; kill -SEGV $$"] {
            let mut command = Command::new("bash");
            let child = command.args(["-c", crash]).current_dir(directory.path()).stderr(Stdio::null());
            let pid = rustix::process::Pid::from_child(&child.spawn().unwrap());
            let options = rustix::process::WaitOptions::empty();
            let (_, status) = rustix::process::waitpid(Some(pid), options).unwrap().unwrap();
            // The machine decides whether there is a dump: kernel.core_pattern, and the limit.
            let is_dumped = status.as_raw() & 0x80 != 0;
            let status = WaitStatus::of(status).unwrap();
            let said = if is_dumped { "killed by SIGSEGV, core dumped" } else { "killed by SIGSEGV" };
            assert_eq!((status.to_string().as_str(), status.code()), (said, 139), "{crash}");
            assert_eq!(status.signal(), Some(libc::SIGSEGV), "{crash}");
        }
    }
}
