//! The machine as configurations see it: [`World`] by system calls.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::config::{Status, World};

/// The largest file that is read.
pub const FILE_MAX: u64 = 1 << 20;

/// Reads an open file to its end.
///
/// # Errors
/// As read(2); also for more than [`FILE_MAX`].
pub fn read_all(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is larger than {} MiB", FILE_MAX >> 20)));
    }
    Ok(text)
}

/// The machine we run on.
#[derive(Debug, Clone, Copy)]
pub struct Machine;

impl World for Machine {
    /// Never blocks: a fifo or a device is refused, not waited for.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = open(path, flags, Mode::empty())?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(rustix::io::Errno::ISDIR.into()),
            _ => return Err(io::Error::other("it is not a regular file")),
        }
        read_all(fd.into())
    }

    fn status(&self, path: &Path) -> Option<Status> {
        let status = fs::metadata(path).ok()?;
        Some(Status {
            is_file: status.is_file(),
            is_directory: status.is_dir(),
            symlink: path.is_symlink(),
            inode: status.ino(),
        })
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        fs::canonicalize(path).ok()
    }

    fn cwd(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn env(&self, name: &OsStr) -> Option<OsString> {
        std::env::var_os(name)
    }

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

    fn user_name(&self) -> OsString {
        name_of("/etc/passwd", self.uid())
    }

    fn group_name(&self) -> OsString {
        name_of("/etc/group", self.gid())
    }
}

/// The name that passwd(5) or group(5) has for a number: in both the first field, the number being the third.
fn name_of(database: &str, id: u32) -> OsString {
    let text = fs::read(database).unwrap_or_default();
    let id = id.to_string();
    let name = text.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':');
        let name = fields.next()?;
        (fields.nth(1)? == id.as_bytes()).then(|| name.to_vec())
    });
    OsString::from_vec(name.unwrap_or_default())
}
