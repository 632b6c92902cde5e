//! Listening sockets for the app, passed by the protocol of sd_listen_fds(3): descriptors from 3 on, and
//! variables with their number, their names and the pid of the process that they are for.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use crate::error::{Context, Result};
use crate::protocol::SocketId;
use crate::sys::fd;

/// The descriptor of the first socket (`SD_LISTEN_FDS_START`).
pub const FIRST: i32 = 3;

/// A socket that is listening.
#[derive(Debug)]
pub struct Socket {
    /// The socket's identity, by which the next instance finds it.
    pub id: SocketId,
    /// The key of the socket, which the app gets as its name.
    pub name: String,
    /// The socket. Its number is higher than the numbers under which the app gets its sockets.
    pub fd: OwnedFd,
}

/// The lowest descriptor that no socket of the app needs.
pub fn above(sockets: &[Socket]) -> i32 {
    FIRST + sockets.len() as i32
}

/// The variables about the sockets, except for `LISTEN_PID`.
pub fn variables(sockets: &[Socket]) -> Vec<(OsString, OsString)> {
    if sockets.is_empty() {
        return Vec::new();
    }
    let names: Vec<_> = sockets.iter().map(|socket| socket.name.as_str()).collect();
    vec![
        ("LISTEN_FDS".into(), sockets.len().to_string().into()),
        ("LISTEN_FDNAMES".into(), names.join(":").into()),
    ]
}

/// In the child: moves the sockets to their descriptors.
///
/// # Errors
/// As dup2(2), with the number of the descriptor.
pub fn place(sockets: &[Socket]) -> Result<()> {
    for (number, socket) in (FIRST..).zip(sockets) {
        // The flag belongs to the socket, and an earlier app or the emperor may have set it.
        let blocks = rustix::io::ioctl_fionbio(&socket.fd, false);
        blocks.and_then(|()| fd::place(&socket.fd, number)).context("pass on", &socket.id)?;
    }
    Ok(())
}
