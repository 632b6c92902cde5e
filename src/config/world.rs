//! What a configuration may ask of the machine. The caller passes it in: nothing in `config` makes a system call.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Cause;

/// The machine, as far as a configuration may ask about it.
pub trait World {
    /// The content of a file.
    ///
    /// # Errors
    /// As open(2) and read(2); also for what is no regular file, and for a file that is too large.
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause>;
    /// What a command of the shell prints (`exec://COMMAND`), or what is behind a descriptor (`fd://N`); `None` where the
    /// configuration is only looked at, and nothing is to be run or used up.
    ///
    /// # Errors
    /// No such scheme or descriptor, or one that is neither a file nor a pipe; no process to be had; too much, or it does not
    /// end in time; commands are refused.
    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause>;
    /// The names in a directory, in any order; none if it cannot be read.
    fn names(&self, directory: &Path) -> Vec<OsString>;
    /// What a path is, links followed; `None` if there is nothing.
    fn status(&self, path: &Path) -> Option<Status>;
    /// The path without links and dots (realpath(3)).
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
    /// The working directory.
    fn cwd(&self) -> PathBuf;
    /// The value of an environment variable.
    fn env(&self, name: &OsStr) -> Option<OsString>;
    /// The host's name.
    fn hostname(&self) -> OsString;
    /// The number of processors we may run on.
    fn cpus(&self) -> usize;
    /// The time since 1970.
    fn now(&self) -> Duration;
    /// Our user's number.
    fn uid(&self) -> u32;
    /// Our group's number.
    fn gid(&self) -> u32;
    /// Our user's name, empty if it has none.
    fn user_name(&self) -> OsString;
    /// Our group's name, empty if it has none.
    fn group_name(&self) -> OsString;
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
    /// Its inode number.
    pub inode: u64,
}
