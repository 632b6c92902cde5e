//! Listening sockets that outlive an instance: what emperor and instance call one.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::place::Place;

/// More sockets than any vassal needs to have kept: the emperor's descriptors are for all.
pub const SOCKETS_MAX: usize = 32;

/// A listening socket of a vassal. Two are the same if they listen at the same place, by the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketId {
    /// Where it listens.
    pub place: Place,
    /// The file that it was bound to, for a place that is a file.
    pub file: Option<FileId>,
    /// Whether the emperor itself has bound it, to start the vassal at the first connection.
    pub is_on_demand: bool,
}

/// A socket that outlived its instance.
#[derive(Debug)]
pub struct KeptSocket {
    /// Which one it is.
    pub id: SocketId,
    /// The socket.
    pub fd: OwnedFd,
}

/// A file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Reads what it is displayed as.
    pub fn parse(text: &str) -> Option<Self> {
        let (device, inode) = text.split_once(':')?;
        Some(Self { device: device.parse().ok()?, inode: inode.parse().ok()? })
    }
}
