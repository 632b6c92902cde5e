//! The questions that a configuration may ask about the machine. The caller answers them, since `config`
//! makes no system call.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Cause;

/// The machine, as far as a configuration may ask about it.
pub trait World {
    /// The content of a file.
    ///
    /// # Errors
    /// As open(2) and read(2); the file is not a regular one, or is too large.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause>;
    /// The output of a shell command (`exec://COMMAND`), or what can be read from a descriptor (`fd://N`);
    /// `None` for a check, which runs no command and reads no descriptor.
    ///
    /// # Errors
    /// The scheme or the descriptor does not exist; the descriptor is neither a file nor a pipe; no process
    /// can be created; the output is too long or does not end in time; or this world runs no commands.
    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause>;
    /// Whether the operator's policy may name files relative to the working directory. It may not where a
    /// tenant owns that directory.
    fn trusts_cwd(&self) -> bool {
        true
    }
    /// The names in a directory, in any order; none if it cannot be read.
    fn names(&self, directory: &Path) -> Vec<OsString>;
    /// Type, owner and mode of a file, links followed; `None` if there is no such file.
    fn status(&self, path: &Path) -> Option<Status>;
    /// The path without links, `.` and `..` (realpath(3)).
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
    /// The working directory.
    fn cwd(&self) -> PathBuf;
    /// The value of an environment variable.
    fn env(&self, name: &OsStr) -> Option<OsString>;
    /// What is the same for everybody who asks.
    fn host(&self) -> &dyn Host;
    /// The name of the user, empty if it has none.
    fn user_name(&self) -> OsString;
    /// The name of the group, empty if it has none.
    fn group_name(&self) -> OsString;
}

/// What the kernel says of the host and of this process, without a path.
pub trait Host {
    /// The host's name.
    fn hostname(&self) -> OsString;
    /// The number of processors that this process may use.
    fn cpus(&self) -> usize;
    /// The time since 1970.
    fn now(&self) -> Duration;
    /// The user ID of this process.
    fn uid(&self) -> u32;
    /// The group ID of this process.
    fn gid(&self) -> u32;
}

/// What [`World::status`] tells of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// It is a regular file.
    pub is_file: bool,
    /// It is a directory.
    pub is_directory: bool,
    /// The path itself is a symbolic link.
    pub symlink: bool,
    /// The inode number of the path itself.
    pub inode: u64,
    /// The user that it belongs to.
    pub uid: u32,
    /// Its mode bits.
    pub mode: u32,
}
