//! Reads files within bounds: a file that others control may be a fifo, a device, or endless.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, RawDir, fstat, fstatfs, open, openat};
use rustix::io::{Errno, read, retry_on_intr};

use crate::error::Cause;

/// The largest configuration file that is read.
pub const FILE_MAX: usize = 1 << 20;

/// Opens a regular file for reading. Never blocks: a fifo or a device is refused.
///
/// # Errors
/// As open(2); or the file is not a regular one.
pub fn open_file(path: &Path) -> Result<OwnedFd, Cause> {
    open_file_at(CWD, path, OFlags::empty())
}

/// As [`open_file`], for a path relative to an open directory, and with further flags.
///
/// # Errors
/// As [`open_file`].
pub fn open_file_at(directory: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Cause> {
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = openat(directory, path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(Cause::Because("it is not a regular file".into())),
    }
}

/// Reads an open configuration file to its end.
///
/// # Errors
/// As read(2); or the file has more than [`FILE_MAX`] bytes.
pub fn read_all(file: OwnedFd) -> Result<Vec<u8>, Cause> {
    let text = read_up_to(file, FILE_MAX + 1)?;
    if text.len() > FILE_MAX {
        return Err(Cause::Because(format!("it is larger than {} MiB", FILE_MAX >> 20).into()));
    }
    Ok(text)
}

/// Reads an open file to its end.
///
/// # Errors
/// As read(2).
pub fn read_to_end(file: OwnedFd) -> Result<Vec<u8>, Errno> {
    read_up_to(file, usize::MAX)
}

/// Reads a file of the system (in `/proc`, `/etc`) to its end.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_file(path: &str) -> Result<Vec<u8>, Errno> {
    read_file_at(CWD, path)
}

/// As [`read_file`], for a path relative to an open directory.
///
/// # Errors
/// As openat(2) and read(2).
pub fn read_file_at(directory: impl AsFd, path: &str) -> Result<Vec<u8>, Errno> {
    let fd = openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    read_up_to(fd, usize::MAX)
}

/// Opens a file of the system for reading.
///
/// # Errors
/// As open(2).
pub fn open_file_of_system(path: &str) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The mount table of this namespace, as seen from the present root.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Whether root here is an ordinary user outside of this user namespace, and nobody else exists in it.
pub fn is_user_alone() -> bool {
    // In a jail, `/proc` may be controlled by a tenant.
    let Ok(proc) = open_proc() else { return false };
    ["self/uid_map", "self/gid_map"].iter().all(|map| {
        let text = read_file_at(&proc, map).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        matches!(fields[..], ["0", outside, "1"] if outside != "0")
    })
}

/// Opens [`MOUNTINFO`], if it is part of a procfs. In a tenant's tree without a mount at `/proc`, another
/// file may have that name.
///
/// # Errors
/// As open(2); ENOENT if it is not part of a procfs.
fn open_mountinfo() -> Result<OwnedFd, Errno> {
    openat(open_proc()?, c"self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens the directory `/proc`, if it is a procfs.
///
/// # Errors
/// As open(2); ENOENT if it is not a procfs.
pub fn open_proc() -> Result<OwnedFd, Errno> {
    let proc = open(c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if fstatfs(&proc)?.f_type == PROC_SUPER_MAGIC { Ok(proc) } else { Err(Errno::NOENT) }
}

/// The children of a process, by the numbers of a procfs (`PID/task/TID/children`, CONFIG_PROC_CHILDREN). A
/// child belongs to the thread that has created it.
pub fn children_of(proc: BorrowedFd<'_>, pid: i32) -> Vec<i32> {
    let read = |thread: i32| read_file_at(proc, &format!("{pid}/task/{thread}/children")).unwrap_or_default();
    let text: Vec<u8> = numbers_in(proc, &format!("{pid}/task")).into_iter().flat_map(read).collect();
    let text = String::from_utf8_lossy(&text);
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The entries of a directory of a procfs that are numbers: processes, threads or descriptors. Empty if it
/// cannot be read.
pub fn numbers_in(proc: BorrowedFd<'_>, path: &str) -> Vec<i32> {
    /// For names, in bytes.
    const ROOM: usize = 1024;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(proc, path, flags, Mode::empty()) else { return Vec::new() };
    let (mut numbers, mut room) = (Vec::new(), Vec::with_capacity(ROOM));
    let mut entries = RawDir::new(&directory, room.spare_capacity_mut());
    while let Some(Ok(entry)) = entries.next() {
        numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()));
    }
    numbers
}

/// Reads [`MOUNTINFO`].
///
/// # Errors
/// As open(2) and read(2); ENOENT if it is not part of a procfs.
pub fn read_mountinfo() -> Result<Vec<u8>, Errno> {
    read_up_to(open_mountinfo()?, usize::MAX)
}

/// Reads an open file to its end, or until `max` bytes were read.
fn read_up_to(file: OwnedFd, max: usize) -> Result<Vec<u8>, Errno> {
    // Files of procfs have no size, and most of them fit into this room. They may change between two reads.
    const ROOM: usize = 8192;
    let size = fstat(&file).map_or(0, |status| usize::try_from(status.st_size).unwrap_or(0));
    let mut text = Vec::with_capacity(if (1..ROOM).contains(&size) { size + 1 } else { ROOM });
    while text.len() < max && retry_on_intr(|| read(&file, spare_capacity(&mut text)))? > 0 {
        text.reserve(1);
    }
    text.truncate(max);
    Ok(text)
}
