//! Listening sockets that outlive an instance, and their identity for emperor and instance.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::place::Place;

/// The most sockets that are kept for a vassal, more than any needs: all vassals share the emperor's
/// descriptors.
pub const SOCKETS_MAX: usize = 32;

/// The identity of a vassal's listening socket. Two are equal if they have the same address and the same
/// file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketId {
    /// Its address.
    pub place: Place,
    /// The file that it was bound to, if its address is a file.
    pub file: Option<FileId>,
    /// Whether the emperor itself has bound it, to start the vassal at the first connection.
    pub is_on_demand: bool,
}

/// A socket that outlived its instance.
#[derive(Debug)]
pub struct KeptSocket {
    /// Its identity.
    pub id: SocketId,
    /// The socket.
    pub fd: OwnedFd,
    /// Whether others use it, too, so that its file stays as it is until the instance takes over.
    pub is_lent: bool,
}

/// A file. The default stands for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.device, self.inode)
    }
}

impl FileId {
    /// Reads the text that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (device, inode) = text.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}
