//! Actions on files and mounts. They run in a child process of their own: see [`crate::init::child::launch`].

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::accounts::Accounts;
use crate::config::plan::{Action, Id, Touched, WaitKind};
use crate::error::{Context, Error, Result};
use crate::mount::ops::{self, Walk};
use crate::mount::safe_proc;
use crate::sys::exec::c_string;
use crate::sys::fd::write_all;

/// The time between two looks at what an action waits for. Only the child that performs the action sleeps.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Performs an action that needs no other process than this one.
///
/// # Errors
/// The operation that failed, its object, and the step of an action that has several.
pub fn perform(action: &Action, walk: &Walk) -> Result<()> {
    match action.touched() {
        Touched::File(operation, path) => walk.refuse_links(operation, path)?,
        Touched::Entry(operation, path) => walk.refuse_links(operation, path.parent().unwrap_or(path))?,
        // PID 1 looks at these itself before it enters them.
        Touched::Directory(..) | Touched::Mountpoint | Touched::Nothing => {}
    }
    let (operation, path, done) = match action {
        Action::Mount(mount) => return ops::mount(mount, walk),
        Action::Umount(umount) => return ops::umount(umount, walk),
        Action::SafeProc => return safe_proc::protect(walk),
        Action::Write { path, text, append } => return write(path, text, *append),
        Action::WriteFifo { path, text, wait } => return write_fifo(path, text, *wait),
        Action::Chown { path, user, group } => return chown(path, user, group.as_ref()),
        Action::Mkdir(path) => ("mkdir", path, mkdir(&c_string(path.as_os_str()))),
        Action::Rmdir(path) => ("rmdir", path, rustix::fs::rmdir(c_string(path.as_os_str()))),
        Action::Unlink(path) => ("unlink", path, rustix::fs::unlink(c_string(path.as_os_str()))),
        Action::Create(path) => ("create", path, open(path, OFlags::CREATE | OFlags::TRUNC).map(drop)),
        Action::Chmod { path, mode } => ("chmod", path, chmod(path, *mode)),
        Action::Sticky(path) => {
            let done = mode(&c_string(path.as_os_str())).and_then(|mode| chmod(path, mode | libc::S_ISVTX));
            ("sticky", path, done)
        }
        Action::WaitFor { kind, path } => {
            wait_for(*kind, &c_string(path.as_os_str()));
            return Ok(());
        }
        // These change PID 1 itself or start a program: the caller does them.
        Action::Exec(_)
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

/// Creates a directory, or finds one there.
fn mkdir(path: &CStr) -> rustix::io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
        Err(Errno::EXIST) if FileType::from_raw_mode(mode(path)?) == FileType::Directory => Ok(()),
        result => result,
    }
}

fn open(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(c_string(path.as_os_str()), flags, Mode::from_raw_mode(0o666))
}

fn chmod(path: &Path, mode: u32) -> rustix::io::Result<()> {
    rustix::fs::chmod(c_string(path.as_os_str()), Mode::from_raw_mode(mode & 0o7777))
}

fn mode(path: &CStr) -> rustix::io::Result<u32> {
    Ok(rustix::fs::stat(path)?.st_mode)
}

fn write(path: &Path, text: &OsStr, append: bool) -> Result<()> {
    let how = if append { OFlags::APPEND } else { OFlags::TRUNC };
    let file = open(path, OFlags::CREATE | how).context("write: open", path.display())?;
    write_all(file.as_fd(), text.as_bytes()).context("write", path.display())
}

/// Writes to a named pipe; `wait` waits until it exists and a process reads it (ENXIO before that). Another
/// kind of file is refused, as a write to it would not end.
fn write_fifo(path: &Path, text: &OsStr, wait: bool) -> Result<()> {
    loop {
        match open(path, OFlags::NONBLOCK) {
            Ok(file) => {
                let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
                if kind != Ok(FileType::Fifo) {
                    return Err(Error::new("writefifo", path.display(), "not a named pipe"));
                }
                return write_all(file.as_fd(), text.as_bytes()).context("writefifo", path.display());
            }
            Err(Errno::NXIO | Errno::NOENT) if wait => std::thread::sleep(LOOK_AGAIN),
            Err(errno) => return Err(Error::os("writefifo: open", path.display(), errno)),
        }
    }
}

fn chown(path: &Path, user: &Id, group: Option<&Id>) -> Result<()> {
    let accounts = Accounts::read();
    let uid = rustix::fs::Uid::from_raw(accounts.user(user)?.uid);
    let gid = group.map(|group| accounts.group(group)).transpose()?.map(rustix::fs::Gid::from_raw);
    rustix::fs::chownat(CWD, c_string(path.as_os_str()), Some(uid), gid, AtFlags::empty())
        .context("chown", path.display())
}

fn wait_for(kind: WaitKind, path: &CStr) {
    let is_there = |kind_there: FileType| match kind {
        WaitKind::Any => true,
        WaitKind::File => kind_there == FileType::RegularFile,
        WaitKind::Directory => kind_there == FileType::Directory,
        WaitKind::Socket => kind_there == FileType::Socket,
    };
    while !mode(path).is_ok_and(|mode| is_there(FileType::from_raw_mode(mode))) {
        std::thread::sleep(LOOK_AGAIN);
    }
}
