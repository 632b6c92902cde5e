//! A socket that listens at an address, and its file.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Statx, StatxFlags, Uid, chownat, fstat,
    lstat, open, openat2, statat, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{fchdir, geteuid};

use crate::config::plan::Address;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::error::{Cause, Context, Error, Result};
use crate::listen::{Listening, is_left_over, listen_at};
use crate::log;
use crate::path::{self, Walk};
use crate::place::Place;
use crate::sys::fd;

/// Who accepts the clients of a socket, and what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// The emperor, to take commands. The file is accessible to its user only, from the beginning.
    Commanding,
    /// The emperor, to answer other questions.
    Asking,
    /// An app, which may let its clients send descriptors.
    OfApp,
}

/// A listening socket.
pub struct Bound {
    /// The socket.
    pub socket: OwnedFd,
    /// Its file, if it has one.
    pub file: Option<SocketFile>,
}

/// The file of a socket that the emperor has bound. It is removed when this value is dropped, unless the path
/// has another file by then. That may hang: while there are vassals, only a deputy may drop it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    /// The file of the program before the upgrade; `None` if there was none.
    pub fn resume(path: &Path, id: Option<FileId>) -> Option<Self> {
        Some(Self { path: path.into(), id: id? })
    }

    /// Gives it to a user and a group, if it is still the file at its path.
    ///
    /// # Errors
    /// open(2), chown(2).
    pub fn give_to(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        let file = open(&self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let there = fstat(&file)?;
        // A user with write access to the directory may have put another file there, which must not be given
        // away.
        if id(&there) != self.id || FileType::from_raw_mode(there.st_mode) != FileType::Socket {
            return Ok(());
        }
        chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The identity of the file.
    pub fn id(&self) -> FileId {
        self.id
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        remove(&self.path, &|there| id(there) == self.id);
    }
}

/// The identity of a file.
pub fn id(file: &Stat) -> FileId {
    FileId { device: file.st_dev, inode: file.st_ino }
}

/// Facts about an open file, from the kernel's memory: the filesystem is not asked, as it may hang.
///
/// # Errors
/// EBADF (statx(2)).
pub fn remembered(file: impl AsFd) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
}

/// Whether a path leads to something, and to this file if it is given, as far as the kernel knows without
/// asking a filesystem. No if it does not know, and always before Linux 5.12.
pub fn is_known(path: &Path, file: Option<FileId>) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED).and_then(remembered);
    there.is_ok_and(|there| file.is_none_or(|file| FileVersion::of_known(&there, None).id() == file))
}

/// Whether the file of a socket has no name any more. No if the kernel does not tell.
pub fn is_unlinked(socket: &OwnedFd) -> bool {
    fd::file_of(socket).and_then(remembered).is_ok_and(|there| there.stx_nlink == 0)
}

/// The file at a path; the default if there is none, or only a socket that a dead process has left. Its
/// filesystem is asked.
///
/// # Errors
/// lstat(2).
pub fn look(path: &Path) -> Result<FileVersion> {
    match lstat(path) {
        Ok(_) if is_left_over(path) => Ok(FileVersion::default()),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(FileVersion::default()),
        there => Ok(FileVersion::of(&there.context("look at", path.display())?, None)),
    }
}

/// A socket that listens at an address, and its file. The file of a socket that a dead process has left is
/// replaced.
///
/// # Errors
/// Another process listens at the address, or the path has another kind of file; as socket(2), bind(2).
pub fn listen_on(address: &Address, clients: Clients) -> Result<Bound> {
    let takes_descriptors = clients == Clients::OfApp;
    let how = Listening { backlog: 64, reuse_port: false, takes_descriptors, flags: SocketFlags::NONBLOCK };
    match &address.place {
        Place::File(path) => listen_at_file(path, how, clients == Clients::Commanding),
        place => {
            let socket = listen_at(place, how).context("listen on", &address.name)?;
            Ok(Bound { socket, file: None })
        }
    }
}

fn listen_at_file(path: &Path, how: Listening, private: bool) -> Result<Bound> {
    let failed = || path.display();
    let back = open(c".", path::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context("open", ".")?;
    let name = &Walk::default().approach(path).context("listen on", failed())?;
    let place = &Place::File(name.clone());
    let before = private.then(|| rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR));
    let mut bound = listen_at(place, how);
    if matches!(bound, Err(Errno::ADDRINUSE)) && is_left_over(name) {
        bound = rustix::fs::unlink(name).and_then(|()| listen_at(place, how));
    }
    if let Some(before) = before {
        rustix::process::umask(before);
    }
    // The socket itself tells its file. The path may have another file by now.
    let own = bound.as_ref().ok().and_then(|socket| fstat(fd::file_of(socket).ok()?).ok());
    let there = own.map_or_else(|| lstat(name), Ok);
    fchdir(back).context("chdir", "back")?;
    match (bound, there) {
        (Err(Errno::ADDRINUSE), Ok(there)) => {
            let reason = match FileType::from_raw_mode(there.st_mode) {
                FileType::Socket if private => "another emperor is listening there",
                FileType::Socket => "somebody is listening there already",
                _ => "something that is no socket is there",
            };
            Err(Error::new("listen on", failed(), reason))
        }
        (bound, there) => {
            let socket = bound.context("listen on", failed())?;
            let file = there.ok().map(|there| SocketFile { path: path.to_owned(), id: id(&there) });
            Ok(Bound { socket, file })
        }
    }
}

/// Logs why a file that is `missing` could not be made anew, unless the same error was logged last.
pub fn tell_once(told: &mut Option<Error>, missing: &str, error: Error) {
    if told.as_ref() != Some(&error) {
        log!("{missing}, and cannot be made anew: {error}; tried again with each scan");
        *told = Some(error);
    }
}

/// Removes a file that the emperor has made, if it is still the file at the path. Logs a failure, unless the
/// emperor is not root any more and the directory is root's: the next emperor replaces the file.
pub fn remove(path: &Path, is_it: &dyn Fn(&Stat) -> bool) {
    let removed = Walk::default().entry(path).and_then(|(directory, name)| {
        match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if is_it(&there) => Ok(unlinkat(&directory, &name, AtFlags::empty())?),
            _ => Ok(()),
        }
    });
    let is_roots = matches!(removed, Err(Cause::Os(Errno::ACCESS | Errno::PERM))) && !geteuid().is_root();
    if let (Err(error), false) = (removed.context("remove", path.display()), is_roots) {
        log!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_kernel_knows_without_its_filesystem_whether_a_file_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let [path, other] = ["socket", "other"].map(|name| directory.path().join(name));
        let Bound { socket, file } = listen_on(&Address::file(path.clone()), Clients::Asking).unwrap();
        let id = file.as_ref().unwrap().id();
        let is_there = |path: &Path| (is_known(path, Some(id)), is_known(path, None));
        assert_eq!((is_there(&path), is_unlinked(&socket)), ((true, true), false));
        assert_eq!(look(&path).unwrap().id(), id);
        fs::write(&other, "").unwrap();
        assert_eq!(is_there(&other), (false, true));
        assert_ne!(look(&other).unwrap().id(), id);
        fs::remove_file(&path).unwrap();
        assert_eq!((is_there(&path), is_unlinked(&socket)), ((false, false), true));
        assert_eq!(look(&path).unwrap(), FileVersion::default());
        // A socket without a listener is as good as none.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(look(&path).unwrap(), FileVersion::default());
        std::mem::forget(file);
    }
}
