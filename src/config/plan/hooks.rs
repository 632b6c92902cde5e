//! The hooks of a vassal: phases and actions.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::common::{Id, Located};
use crate::mount::request::{Fuse, MountRequest, Umount};

/// The phases of a vassal's life, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// In the new process before anything else; configured in the emperor.
    AsVassal,
    /// As soon as the configuration is read.
    Asap,
    /// Before the root changes, all privileges.
    PreJail,
    /// After the root changed.
    PostJail,
    /// After `post-jail`, before the last phase of root.
    InJail,
    /// Last phase with root's privileges.
    AsRoot,
    /// After the privilege drop.
    AsUser,
    /// Right before the app starts.
    PreApp,
    /// When the app was started.
    PostApp,
    /// When the app says that it accepts requests.
    Accepting,
    /// After the app ended, as its user.
    AsUserAtexit,
    /// After the loss of a checked mountpoint, as the user. Its only key is `mountpoint-lost`.
    MountpointLost,
}

/// One action in one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub phase: Phase,
    /// What it does.
    pub action: Action,
    /// Whether its failure is logged and forgotten (`safeexec`, `call`).
    pub tolerant: bool,
    /// Whether its text is kept out of the log (`!exec:...`).
    pub private: bool,
    /// Its text, key and place, for errors.
    pub source: Located<String>,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs `/bin/sh -c COMMAND` and waits; a status other than 0 is a failure.
    Exec(OsString),
    /// Mounts a FUSE filesystem, then runs its command as [`Action::Exec`] does.
    Fuse(Fuse),
    /// Changes the working directory of everything that comes later.
    Chdir(PathBuf),
    /// Writes a line to the log (`print`, `log`, `alarm`).
    Print(String),
    /// Mounts a filesystem.
    Mount(MountRequest),
    /// Unmounts one, or all below it.
    Umount(Umount),
    /// Creates a directory; one that is there is no failure.
    Mkdir(PathBuf),
    /// Creates a directory; it is no failure if the directory exists.
    Rmdir(PathBuf),
    /// Removes a file.
    Unlink(PathBuf),
    /// Creates an empty file, or empties one.
    Create(PathBuf),
    /// Writes to a file.
    Write {
        /// The file.
        path: PathBuf,
        /// All of it, a line break included where the action adds one.
        text: OsString,
        /// Whether it is added at the end; else it replaces what was there.
        append: bool,
    },
    /// Writes to a named pipe that has a reader.
    WriteFifo {
        /// The file.
        path: PathBuf,
        /// The text.
        text: OsString,
        /// Whether to wait for a pipe or a reader that is not there yet (`spinningfifo`).
        wait: bool,
    },
    /// Changes a file's mode.
    Chmod {
        /// The file.
        path: PathBuf,
        /// The mode bits.
        mode: u32,
    },
    /// Changes a file's owner.
    Chown {
        /// The file.
        path: PathBuf,
        /// The new owner.
        user: Id,
        /// The new group; `None` leaves it.
        group: Option<Id>,
    },
    /// Sets the sticky bit.
    Sticky(PathBuf),
    /// Sets an environment variable for everything that comes later.
    Putenv(OsString, OsString),
    /// Sets the host name.
    Hostname(OsString),
    /// Changes the root directory of everything that comes later.
    Chroot(PathBuf),
    /// Sets the file mode creation mask of everything that comes later.
    Umask(u32),
    /// Waits until a file exists.
    WaitFor {
        /// The type of the file.
        kind: WaitKind,
        /// The path.
        path: PathBuf,
    },
    /// Ends the vassal with this status.
    Exit(i32),
    /// Makes the files of `/proc` that belong to the machine read-only, or hides them. Its key is `proc =
    /// safe`.
    SafeProc,
}

/// What [`Action::WaitFor`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitKind {
    /// Anything.
    Any,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsVassal => "as-vassal",
            Self::Asap => "asap",
            Self::PreJail => "pre-jail",
            Self::PostJail => "post-jail",
            Self::InJail => "in-jail",
            Self::AsRoot => "as-root",
            Self::AsUser => "as-user",
            Self::PreApp => "pre-app",
            Self::PostApp => "post-app",
            Self::Accepting => "accepting",
            Self::AsUserAtexit => "as-user-atexit",
            Self::MountpointLost => "mountpoint-lost",
        })
    }
}
