//! Actions on files and mounts. They run in a child process of their own: see [`super::launch`].

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;

use super::accounts::Accounts;
use crate::config::plan::{Action, Id, WaitKind};
use crate::error::{Context, Error, Result};
use crate::mount::ops::{self, Walk};

/// How often something that is waited for is looked for. Only the child of the action sleeps.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Performs an action that needs no other process than this one.
///
/// # Errors
/// The action's own, naming its object and, where there are several, the step.
pub fn perform(action: &Action, walk: &Walk) -> Result<()> {
    match action {
        Action::Mount(mount) => ops::mount(mount, walk),
        Action::Umount(umount) => ops::umount(umount),
        Action::Mkdir(path) => match fs::create_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result.context("mkdir", path.display()),
        },
        Action::Rmdir(path) => fs::remove_dir(path).context("rmdir", path.display()),
        Action::Unlink(path) => fs::remove_file(path).context("unlink", path.display()),
        Action::Create(path) => File::create(path).map(drop).context("create", path.display()),
        Action::Write { path, text, append } => write(path, text, *append),
        Action::WriteFifo { path, text, wait } => write_fifo(path, text, *wait),
        Action::Chmod { path, mode } => {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).context("chmod", path.display())
        }
        Action::Sticky(path) => {
            let mode = fs::metadata(path).context("sticky: look at", path.display())?.permissions().mode();
            let sticky = fs::Permissions::from_mode(mode | libc::S_ISVTX);
            fs::set_permissions(path, sticky).context("sticky: chmod", path.display())
        }
        Action::Chown { path, user, group } => chown(path, user, group.as_ref()),
        Action::WaitFor { kind, path } => {
            while !is_there(*kind, path) {
                std::thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        }
        // What changes PID 1 itself, or starts a program: done by the caller.
        Action::Exec(_)
        | Action::Chdir(_)
        | Action::Print(_)
        | Action::Putenv(..)
        | Action::Hostname(_)
        | Action::Chroot(_)
        | Action::Umask(_)
        | Action::Exit(_) => Ok(()),
    }
}

fn write(path: &Path, text: &OsStr, append: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(append).truncate(!append);
    let mut file = options.open(path).context("write: open", path.display())?;
    file.write_all(text.as_bytes()).context("write", path.display())
}

/// Opening a pipe that nobody reads fails (ENXIO), and so does one that is no pipe: it would be written to for ever.
fn write_fifo(path: &Path, text: &OsStr, wait: bool) -> Result<()> {
    loop {
        let opened = OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path);
        match opened {
            Ok(mut file) => {
                let is_fifo = file.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
                if !is_fifo {
                    return Err(Error::new("writefifo", path.display(), "not a named pipe"));
                }
                return file.write_all(text.as_bytes()).context("writefifo", path.display());
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NXIO | Errno::NOENT) if wait => std::thread::sleep(LOOK_AGAIN),
                _ => return Err(error).context("writefifo: open", path.display()),
            },
        }
    }
}

fn chown(path: &Path, user: &Id, group: Option<&Id>) -> Result<()> {
    let accounts = Accounts::read();
    let uid = accounts.user(user)?.uid;
    let gid = group.map(|group| accounts.group(group)).transpose()?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), gid.map(rustix::fs::Gid::from_raw));
    rustix::fs::chownat(CWD, path, Some(uid), gid, AtFlags::empty()).context("chown", path.display())
}

fn is_there(kind: WaitKind, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| match kind {
        WaitKind::Any => true,
        WaitKind::File => metadata.is_file(),
        WaitKind::Directory => metadata.is_dir(),
        WaitKind::Socket => metadata.file_type().is_socket(),
    })
}
