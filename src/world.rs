//! The machine as configurations see it: the trait [`World`] by system calls.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, RawDir, Stat, fstat, lstat, open, readlink, stat};
use rustix::io::Errno;

use crate::command;
use crate::config::{Host, Status, World};
use crate::error::Cause;
use crate::files::{open_file, read_all, read_file};
use crate::names;
use crate::sys::environment;

/// Reads an inherited descriptor: a file from its beginning, a pipe to its end. Other kinds are refused, such
/// as the link to the emperor, or a terminal, which would block.
fn read_descriptor(number: &[u8]) -> Result<Vec<u8>, Cause> {
    let number: u32 = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).ok_or(Errno::BADF)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = open(format!("/proc/self/fd/{number}"), flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::RegularFile => read_all(fd),
        FileType::Fifo => command::read_pipe(&fd),
        _ => Err(Cause::Because("it is neither a regular file nor a pipe".into())),
    }
}

/// The real machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl Host for Machine {
    fn hostname(&self) -> OsString {
        OsString::from_vec(rustix::system::uname().nodename().to_bytes().to_vec())
    }

    fn cpus(&self) -> usize {
        rustix::thread::sched_getaffinity(None).map_or(1, |cpus| cpus.count() as usize)
    }

    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn uid(&self) -> u32 {
        rustix::process::getuid().as_raw()
    }

    fn gid(&self) -> u32 {
        rustix::process::getgid().as_raw()
    }
}

impl World for Machine {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        read_all(open_file(path)?)
    }

    fn resource(&self, name: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        let name = name.as_bytes();
        if let Some(command) = name.strip_prefix(b"exec://") {
            command::output(OsStr::from_bytes(command)).map(Some)
        } else if let Some(number) = name.strip_prefix(b"fd://") {
            read_descriptor(number).map(Some)
        } else {
            Err(Cause::Because("only files, fd:// and exec:// can be read".into()))
        }
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(fd) = open(directory, flags, Mode::empty()) else { return Vec::new() };
        let mut buffer = Vec::with_capacity(4096);
        let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(Ok(entry)) = entries.next() {
            names.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        }
        names
    }

    fn status(&self, path: &Path) -> Option<Status> {
        let status = stat(path).ok()?;
        let kind = FileType::from_raw_mode(status.st_mode);
        let itself = lstat(path).ok();
        let is_link = |status: &Stat| FileType::from_raw_mode(status.st_mode) == FileType::Symlink;
        Some(Status {
            is_file: kind == FileType::RegularFile,
            is_directory: kind == FileType::Directory,
            symlink: itself.as_ref().is_some_and(is_link),
            inode: itself.map_or(status.st_ino, |itself| itself.st_ino),
            uid: status.st_uid,
            mode: status.st_mode & 0o7777,
        })
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        // The kernel knows the path of an open file. realpath(3) would walk the path a second time.
        let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let path = readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(path.into_bytes())))
    }

    fn cwd(&self) -> PathBuf {
        environment::working_directory().unwrap_or_else(|_| "/".into())
    }

    fn env(&self, name: &OsStr) -> Option<OsString> {
        environment::variable(name)
    }

    fn host(&self) -> &dyn Host {
        self
    }

    fn user_name(&self) -> OsString {
        name_of("/etc/passwd", self.uid())
    }

    fn group_name(&self) -> OsString {
        name_of("/etc/group", self.gid())
    }
}

/// The machine, but without running commands and reading descriptors.
#[derive(Debug, Clone, Copy)]
pub enum NoCommands<'a> {
    /// For a check, the output of a command is left open.
    LeftOpen,
    /// A command is an error. The environment consists of these variables.
    Refused(&'a [(OsString, OsString)]),
}

impl World for NoCommands<'_> {
    fn resource(&self, _: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        match self {
            Self::LeftOpen => Ok(None),
            Self::Refused(_) => Err(Cause::Because("no command may be run here".into())),
        }
    }

    fn trusts_cwd(&self) -> bool {
        matches!(self, Self::LeftOpen)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        Machine.read(path)
    }

    fn names(&self, directory: &Path) -> Vec<OsString> {
        Machine.names(directory)
    }

    fn status(&self, path: &Path) -> Option<Status> {
        Machine.status(path)
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Machine.real_path(path)
    }

    fn cwd(&self) -> PathBuf {
        Machine.cwd()
    }

    fn env(&self, name: &OsStr) -> Option<OsString> {
        match self {
            Self::LeftOpen => Machine.env(name),
            Self::Refused(variables) => variable(variables, name),
        }
    }

    fn host(&self) -> &dyn Host {
        &Machine
    }

    fn user_name(&self) -> OsString {
        Machine.user_name()
    }

    fn group_name(&self) -> OsString {
        Machine.group_name()
    }
}

/// Variables with which uWSGI's processes talk to each other, besides those that begin with `EMPEROR_`.
const INTERNAL: &str = "BROODLORD_NUM JAIL_PID ORIGINAL_PROC_NAME RELOADS VASSALS_DIR";

/// The options in the environment of this process, in uWSGI's form: `UWSGI_HTTP_SOCKET` is `http-socket`.
pub fn environment_options() -> Vec<(String, OsString)> {
    let mut options = Vec::new();
    for (name, value) in environment::pairs() {
        options.extend(environment_option(name).map(|option| (option, value.to_owned())));
    }
    options
}

/// The value of one of these variables.
pub fn variable(variables: &[(OsString, OsString)], name: &OsStr) -> Option<OsString> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// The option that a variable of this name sets; `None` for a variable with which uWSGI's processes talk to
/// each other.
pub fn environment_option(name: &OsStr) -> Option<String> {
    let option = name.to_str()?.strip_prefix("UWSGI_")?;
    let internal = option.starts_with("EMPEROR_") || names::contains(INTERNAL, option.as_bytes());
    (!internal).then(|| option.to_ascii_lowercase().replace('_', "-"))
}

/// The name for a number in passwd(5) or group(5): in both files the first field is the name, and the third
/// the number.
fn name_of(database: &str, id: u32) -> OsString {
    let text = read_file(database).unwrap_or_default();
    let id = id.to_string();
    let name = text.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == id.as_bytes()).then(|| name.to_vec())
    });
    OsString::from_vec(name.unwrap_or_default())
}
