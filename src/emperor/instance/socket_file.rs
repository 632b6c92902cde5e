//! A socket that listens at an address, and its file.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, lstat, open};
use rustix::io::Errno;
use rustix::net::addr::SocketAddrArg;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::config::plan::Address;
use crate::emperor::core::file_version::FileId;
use crate::error::{Context, Error, Result};
use crate::log;
use crate::place::Place;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// The file of a socket that we have bound. It goes with the socket, unless somebody else has taken its name.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    id: FileId,
}

impl SocketFile {
    /// That of the program in whose place we are; `None` if that had none.
    pub fn resume(path: &Path, id: Option<FileId>) -> Option<Self> {
        Some(Self { path: path.into(), id: id? })
    }

    /// Whether it is still the one of that name.
    pub fn is_there(&self) -> bool {
        lstat(&self.path).is_ok_and(|there| id(&there) == self.id)
    }

    /// Makes it somebody's, if it still is the one of that name.
    ///
    /// # Errors
    /// open(2), chown(2).
    pub fn give_to(&self, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
        let file = open(&self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let there = fstat(&file)?;
        // Whoever may write to the directory may have put something else there, which is not to be given away.
        if id(&there) != self.id || FileType::from_raw_mode(there.st_mode) != FileType::Socket {
            return Ok(());
        }
        chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            remove(&self.path);
        }
    }
}

/// Which file it is.
pub fn id(file: &Stat) -> FileId {
    FileId { device: file.st_dev, inode: file.st_ino }
}

/// A socket that listens at an address, and its file. One that a dead process has left in the file system is replaced; a `private` one is
/// nobody else's from its first moment on.
///
/// # Errors
/// Somebody listens there, or something else is there; as socket(2), bind(2).
pub fn listen_on(address: &Address, private: bool) -> Result<(OwnedFd, Option<SocketFile>)> {
    let bound = match &address.place {
        Place::File(path) => return listen_at(path, private),
        Place::Abstract(name) => SocketAddrUnix::new_abstract_name(name)
            .and_then(|address| new_listener(AddressFamily::UNIX, &address)),
        Place::Internet(address) => {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            new_listener(family, address)
        }
    };
    Ok((bound.context("listen on", &address.name)?, None))
}

fn new_listener(family: AddressFamily, address: &impl SocketAddrArg) -> Result<OwnedFd, Errno> {
    let socket = new_socket(family)?;
    if family != AddressFamily::UNIX {
        // Connections of the emperor before us may still be in the kernel's memory.
        set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn new_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

fn listen_at(path: &Path, private: bool) -> Result<(OwnedFd, Option<SocketFile>)> {
    let failed = || path.display();
    let address = SocketAddrUnix::new(path).context("listen on", failed())?;
    let before = private.then(|| rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR));
    let mut bound = new_listener(AddressFamily::UNIX, &address);
    if matches!(bound, Err(Errno::ADDRINUSE)) && is_left_over(path, &address) {
        bound = rustix::fs::unlink(path).and_then(|()| new_listener(AddressFamily::UNIX, &address));
    }
    if let Some(before) = before {
        rustix::process::umask(before);
    }
    match (bound, lstat(path)) {
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
            Ok((socket, file))
        }
    }
}

/// Whether a socket is there that nobody listens on.
fn is_left_over(path: &Path, address: &SocketAddrUnix) -> bool {
    let is_socket = lstat(path).is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Socket);
    let connected = new_socket(AddressFamily::UNIX).and_then(|socket| connect(socket, address));
    is_socket && connected == Err(Errno::CONNREFUSED)
}

/// Removes a file of ours.
pub fn remove(path: &Path) {
    if let Err(error) = rustix::fs::unlink(path).context("remove", path.display()) {
        log!("{error}");
    }
}
