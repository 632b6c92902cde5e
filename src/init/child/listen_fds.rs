//! Listening sockets of the app, passed by the protocol of sd_listen_fds(3): descriptors from 3 on, and
//! variables that say how many there are and whose they are.

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
    /// Which one it is, for the next instance.
    pub id: SocketId,
    /// Its key, the name of it for the app.
    pub name: String,
    /// The socket. Its number is above those at which the app gets its sockets.
    pub fd: OwnedFd,
}

/// The lowest descriptor that no socket of the app takes the place of.
pub fn above(sockets: &[Socket]) -> i32 {
    FIRST + sockets.len() as i32
}

/// What the environment says of the sockets, but for `LISTEN_PID`.
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

/// In the child: puts the sockets at their descriptors.
///
/// # Errors
/// As dup2(2), with the place of the socket.
pub fn place(sockets: &[Socket]) -> Result<()> {
    for (number, socket) in (FIRST..).zip(sockets) {
        // An earlier app or the emperor may have made the socket non-blocking, and the flag is shared.
        let blocks = rustix::io::ioctl_fionbio(&socket.fd, false);
        blocks.and_then(|()| fd::place(&socket.fd, number)).context("pass on", &socket.id)?;
    }
    Ok(())
}
