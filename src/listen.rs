//! Listening sockets, for the emperor and for apps.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, lstat};
use rustix::io::{Errno, Result};
use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::place::Place;
use crate::sys::peer::refuse_descriptors;

/// The options of a listening socket.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// How many connections may wait to be accepted.
    pub backlog: i32,
    /// Whether other sockets may be bound to the same port.
    pub reuse_port: bool,
    /// Whether clients may send descriptors.
    pub takes_descriptors: bool,
    /// Further flags of the socket, besides close-on-exec.
    pub flags: SocketFlags,
}

/// A new socket that listens at a place.
///
/// # Errors
/// EADDRINUSE if another socket listens there, or a file is there; as socket(2), bind(2).
pub fn listen_at(place: &Place, how: Listening) -> Result<OwnedFd> {
    let address: SocketAddrAny = match place {
        Place::File(path) => SocketAddrUnix::new(path)?.into(),
        Place::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?.into(),
        Place::Internet(address) => (*address).into(),
    };
    let family = address.address_family();
    let socket = socket_with(family, SocketType::STREAM, how.flags | SocketFlags::CLOEXEC, None)?;
    if family != AddressFamily::UNIX {
        // Otherwise old connections of the last process, which the kernel still remembers, would block the
        // port.
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, how.reuse_port)?;
    }
    if !how.takes_descriptors {
        // Fails before Linux 6.16, and for TCP, which passes no descriptors.
        let _ = refuse_descriptors(&socket);
    }
    bind(&socket, &address)?;
    listen(&socket, how.backlog)?;
    Ok(socket)
}

/// Whether the file at a path is a socket on which no process listens, left by a process that has ended.
pub fn is_left_over(path: &Path) -> bool {
    let is_socket = lstat(path).is_ok_and(|there| FileType::from_raw_mode(there.st_mode) == FileType::Socket);
    // A client of another socket type is refused if no process listens, and is never a connection to accept.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let client = || socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    let refused = || connect(client()?, &SocketAddrUnix::new(path)?);
    is_socket && refused() == Err(Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn only_a_socket_without_a_listener_is_left_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let how =
            Listening { backlog: 1, reuse_port: false, takes_descriptors: true, flags: SocketFlags::empty() };
        let place = Place::File(path.clone());
        assert!(!is_left_over(&path));
        let socket = listen_at(&place, how).unwrap();
        assert!(!is_left_over(&path));
        // No connection is waiting.
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        assert_eq!(rustix::net::accept(&socket).err(), Some(Errno::AGAIN));
        assert_eq!(listen_at(&place, how).err(), Some(Errno::ADDRINUSE));
        drop(socket);
        assert!(is_left_over(&path));
        fs::remove_file(&path).unwrap();
        File::create(&path).unwrap();
        assert!(!is_left_over(&path));
        fs::remove_file(&path).unwrap();
    }
}
