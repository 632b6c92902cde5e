//! Actions on files and mounts. They run in a child process of their own: see [`crate::init::child::launch`].

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, ftruncate, mkdirat, readlinkat, unlinkat};
use rustix::io::Errno;

use crate::accounts::Accounts;
use crate::config::plan::{Action, Id, WaitKind};
use crate::error::{Cause, Context, Error, Result};
use crate::init::jail::Jail;
use crate::mount::ops::{self, walked};
use crate::mount::safe_proc;
use crate::path::{self, Walk};
use crate::sys::exec::c_string;
use crate::sys::fd::{self, write_all};
use crate::user_namespace;

/// The time between two looks at the file that an action waits for. Only the child that performs the action
/// sleeps.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Performs an action that needs no other process.
///
/// # Errors
/// The operation that failed, its object, and for an action with several steps the step.
pub fn perform(action: &Action, jail: &Jail, walk: &Walk) -> Result<()> {
    let (operation, path, done) = match action {
        Action::Mount(mount) => return ops::mount(mount, walk),
        Action::Umount(umount) => return ops::umount(umount, walk),
        Action::SafeProc => return safe_proc::protect(walk),
        Action::Write { path, text, append } => return write(walk, path, text, *append),
        Action::WriteFifo { path, text, wait } => return write_fifo(walk, path, text, *wait),
        Action::Chown { path, user, group } => return chown(jail, walk, path, user, group.as_ref()),
        Action::Mkdir(path) => ("mkdir", path, mkdir(walk, path)),
        Action::Rmdir(path) => ("rmdir", path, remove(walk, path, AtFlags::REMOVEDIR)),
        Action::Unlink(path) => ("unlink", path, remove(walk, path, AtFlags::empty())),
        Action::Create(path) => ("create", path, create(walk, path, OFlags::TRUNC).map(drop)),
        Action::Chmod { path, mode } => ("chmod", path, chmod(walk, path, Some(*mode))),
        Action::Sticky(path) => ("sticky", path, chmod(walk, path, None)),
        // The action only looks.
        Action::WaitFor { kind, path } => {
            wait_for(*kind, &c_string(path.as_os_str()));
            return Ok(());
        }
        // These change PID 1 itself or start a program, so the caller does them.
        Action::Exec(_)
        | Action::Fuse(_)
        | Action::Chdir(_)
        | Action::Print(_)
        | Action::Putenv(..)
        | Action::Hostname(_)
        | Action::Chroot(_)
        | Action::Umask(_)
        | Action::Exit(_) => return Ok(()),
    };
    done.context(operation, path.display())
}

/// Creates a directory, unless there is one.
fn mkdir(walk: &Walk, path: &Path) -> Result<(), Cause> {
    let (directory, name) = walk.entry(path)?;
    match mkdirat(directory, name, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) => match walk.open(path, path::DIRECTORY) {
            Err(Cause::Os(_)) => Err(Errno::EXIST.into()),
            found => found.map(drop),
        },
        result => Ok(result?),
    }
}

fn remove(walk: &Walk, path: &Path, flags: AtFlags) -> Result<(), Cause> {
    let (directory, name) = walk.entry(path)?;
    match unlinkat(&directory, &name, flags) {
        Err(Errno::NOTDIR) if readlinkat(&directory, &name, Vec::new()).is_ok() => {
            Err(Cause::Because("it is a symbolic link".into()))
        }
        result => Ok(result?),
    }
}

/// Opens a file to write to it, and creates it if necessary. A file that exists is emptied only once the
/// write is known to be allowed.
fn create(walk: &Walk, path: &Path, how: OFlags) -> Result<OwnedFd, Cause> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOCTTY;
    let file = walk.open_to_change(path, flags | (how - OFlags::TRUNC), Mode::from_raw_mode(0o666))?;
    if how.contains(OFlags::TRUNC) && FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::RegularFile
    {
        ftruncate(&file, 0)?;
    }
    Ok(file)
}

/// Sets the mode; without one, the sticky bit.
fn chmod(walk: &Walk, path: &Path, mode: Option<u32>) -> Result<(), Cause> {
    let file = walk.open_to_change(path, OFlags::PATH, Mode::empty())?;
    let mode = mode.unwrap_or(fstat(&file)?.st_mode | libc::S_ISVTX) & 0o7777;
    match fd::chmod(&file, mode) {
        // Before Linux 6.6, or under an older filter of system calls.
        Err(Errno::NOSYS | Errno::PERM) if walk.as_user => {
            Ok(rustix::fs::chmod(c_string(path.as_os_str()), Mode::from_raw_mode(mode))?)
        }
        Err(Errno::NOSYS | Errno::PERM) => Ok(chmod_by_name(&file, mode)?),
        result => Ok(result?),
    }
}

/// Sets the mode of an open file without fchmodat2(2).
pub(super) fn chmod_by_name(file: &OwnedFd, mode: u32) -> rustix::io::Result<()> {
    ops::by_name(file, &|name: &CStr| rustix::fs::chmod(name, Mode::from_raw_mode(mode)))
}

fn write(walk: &Walk, path: &Path, text: &OsStr, append: bool) -> Result<()> {
    let how = if append { OFlags::APPEND } else { OFlags::TRUNC };
    let file = walked(create(walk, path, how), "write", path)?;
    write_all(file.as_fd(), text.as_bytes()).context("write", path.display())
}

/// Writes to a named pipe. With `wait`, waits until the pipe exists and a process reads it (ENXIO before
/// that). Another kind of file is refused, because a write to it might not end.
fn write_fifo(walk: &Walk, path: &Path, text: &OsStr, wait: bool) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    loop {
        match walk.open_to_change(path, flags, Mode::empty()) {
            Ok(file) => {
                let kind = fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
                if kind != Ok(FileType::Fifo) {
                    return Err(Error::new("writefifo", path.display(), "not a named pipe"));
                }
                return write_all(file.as_fd(), text.as_bytes()).context("writefifo", path.display());
            }
            Err(Cause::Os(Errno::NXIO | Errno::NOENT)) if wait => std::thread::sleep(LOOK_AGAIN),
            refused => return walked(refused, "writefifo", path).map(drop),
        }
    }
}

fn chown(jail: &Jail, walk: &Walk, path: &Path, user: &Id, group: Option<&Id>) -> Result<()> {
    let file = walk.open_to_change(path, OFlags::PATH, Mode::empty()).context("chown", path.display())?;
    let accounts = jail.accounts().unwrap_or_else(Accounts::read);
    let uid = accounts.user(user)?.uid;
    let gid = group.map(|group| accounts.group(group)).transpose()?;
    user_namespace::chown(&file, Some(uid), gid).context("chown", path.display())
}

fn wait_for(kind: WaitKind, path: &CStr) {
    let is_there = |kind_there: FileType| match kind {
        WaitKind::Any => true,
        WaitKind::File => kind_there == FileType::RegularFile,
        WaitKind::Directory => kind_there == FileType::Directory,
        WaitKind::Socket => kind_there == FileType::Socket,
    };
    while !rustix::fs::stat(path).is_ok_and(|there| is_there(FileType::from_raw_mode(there.st_mode))) {
        std::thread::sleep(LOOK_AGAIN);
    }
}
