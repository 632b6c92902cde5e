//! Writes without waiting for a reader.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, IoSlice, ReadWriteFlags, Result, pwritev2, write};
use rustix::net::{SendFlags, send};

use crate::sys::fd;

/// The terminal that is standard error, opened anew, so that it does not block for this process alone.
static TERMINAL: OnceLock<OwnedFd> = OnceLock::new();

/// Opens standard error anew if it is a terminal. Later that may be impossible: in a jail, or as another
/// user.
pub fn keep_terminal() {
    let stderr = rustix::stdio::stderr();
    if kind(stderr) == Ok(FileType::CharacterDevice)
        && let Ok(own) = fd::open_nonblocking(stderr)
    {
        let _ = TERMINAL.set(own);
    }
}

/// Writes as much as there is room for. The flag tells whether the rest can be written once there is room
/// again: what a regular file does not take has failed.
///
/// # Errors
/// EAGAIN without room; as write(2).
pub fn write_now(to: BorrowedFd<'_>, text: &[u8]) -> Result<(usize, bool)> {
    let may_wait = |written| (written, true);
    match kind(to)? {
        kind @ (FileType::Fifo | FileType::Socket) => {
            match pwritev2(to, &[IoSlice::new(text)], u64::MAX, ReadWriteFlags::NOWAIT) {
                // Linux before 6.5.
                Err(Errno::OPNOTSUPP) if kind == FileType::Socket => {
                    send(to, text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(may_wait)
                }
                Err(Errno::OPNOTSUPP) => write_anew(to, text).map(may_wait),
                result => result.map(may_wait),
            }
        }
        FileType::CharacterDevice => match TERMINAL.get() {
            Some(own) if is_same(own.as_fd(), to) => write(own, text).map(may_wait),
            _ => write_anew(to, text).map(may_wait),
        },
        // It has no reader. The write may wait for the disk.
        _ => write(to, text).map(|written| (written, false)),
    }
}

/// Writes to a file that is opened anew, so that it does not block. One that cannot be opened belongs to
/// another user, or there is no `/proc`.
fn write_anew(to: BorrowedFd<'_>, text: &[u8]) -> Result<usize> {
    match fd::open_nonblocking(to) {
        Ok(own) => write(&own, text),
        Err(_) => write(to, text),
    }
}

fn kind(of: BorrowedFd<'_>) -> Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(of)?.st_mode))
}

/// Whether two descriptors are of one file. In a child, another file may have the number by now.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let id = |file| fstat(file).map(|file| (file.st_dev, file.st_ino)).ok();
    one.as_raw_fd() == other.as_raw_fd() || id(one).is_some_and(|id_of_one| Some(id_of_one) == id(other))
}
