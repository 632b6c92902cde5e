//! The listening sockets of a vassal, kept while it has no instance: connections wait for the next one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::socket_file::{FileId, SocketFile};
use crate::emperor::core::owner::Owner;
use crate::protocol::{self, KeptSocket, ON_DEMAND, SOCKETS_MAX, ToVassal};
use crate::sys::fd;

/// A vassal that is down for longer than this is really down: whoever connects shall be told so at once.
pub const LONG: Duration = Duration::from_secs(10);

/// What is kept for one vassal.
#[derive(Debug, Default)]
pub struct Kept {
    /// The one that we listen on ourselves. It is not the vassal's: whatever becomes of that, it stays.
    demand: Option<KeptSocket>,
    /// Its file.
    file: Option<SocketFile>,
    sockets: Vec<KeptSocket>,
    /// Who has bound them; root where nobody else does.
    owner: Owner,
}

impl Kept {
    /// Keeps one more. PID 1 asks for no more than there may be, and has said so.
    pub fn keep(&mut self, socket: KeptSocket) {
        self.sockets.retain(|other| other.label != socket.label);
        if self.sockets.len() < SOCKETS_MAX && !socket.label.starts_with(ON_DEMAND) {
            self.sockets.push(socket);
        }
    }

    /// The address of the socket that we listen on ourselves, and the socket.
    pub fn demand(&self) -> Option<(&str, BorrowedFd<'_>)> {
        let socket = self.demand.as_ref()?;
        Some((socket.label.strip_prefix(ON_DEMAND)?, socket.fd.as_fd()))
    }

    /// Whether nobody can connect to that socket any more: its file, if it has one, is gone, or an instance has shut it down.
    pub fn is_lost(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !file.is_there())
            || self.demand.as_ref().is_some_and(|socket| fd::is_shut_down(&socket.fd))
    }

    /// Listens there ourselves from now on, or not any more.
    pub fn set_demand(&mut self, socket: Option<(&str, OwnedFd, Option<SocketFile>)>) {
        (self.demand, self.file) = match socket {
            Some((address, fd, file)) => {
                (Some(KeptSocket { label: format!("{ON_DEMAND}{address}"), fd }), file)
            }
            None => (None, None),
        };
    }

    /// Closes all but those with these labels.
    pub fn retain(&mut self, labels: &[String]) {
        self.sockets.retain(|socket| labels.contains(&socket.label));
    }

    /// The next instance is this user's: what somebody else has bound is not for it, and closed.
    pub fn belong_to(&mut self, owner: Owner) {
        if self.owner != owner {
            self.close();
            self.owner = owner;
        }
    }

    /// Closes all that are the vassal's. How many there were.
    pub fn close(&mut self) -> usize {
        std::mem::take(&mut self.sockets).len()
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.all().count() as u64
    }

    fn all(&self) -> impl Iterator<Item = &KeptSocket> {
        self.demand.iter().chain(&self.sockets)
    }

    /// Sends them all to a new instance, behind its greeting.
    ///
    /// # Errors
    /// As [`protocol::send`].
    pub fn send(&self, link: &OwnedFd) -> rustix::io::Result<()> {
        let send = |socket: &KeptSocket| {
            protocol::send(link, &ToVassal::Kept(socket.label.clone()).encode(), Some(&socket.fd))
        };
        self.all().try_for_each(send)
    }

    /// Which file the socket has that we listen on ourselves, for a program that takes our place; 0 if there is none.
    pub fn file(&self) -> FileId {
        self.file.as_ref().map_or(FileId::default(), SocketFile::id)
    }

    /// Labels and descriptors, and whose they are, for a program that takes our place.
    pub fn save(&self) -> (Vec<(Vec<u8>, i32)>, [u64; 2]) {
        let sockets =
            self.all().map(|socket| (socket.label.clone().into_bytes(), socket.fd.as_raw_fd())).collect();
        (sockets, self.owner.save())
    }

    /// Those of the program in whose place we are. One that is not there was lost: it is bound anew.
    pub fn resume(saved: &[(Vec<u8>, i32)], owner: [u64; 2], file: FileId) -> Self {
        let taken = saved.iter().filter_map(|(label, number)| {
            let label = String::from_utf8_lossy(label).into_owned();
            Some(KeptSocket { label, fd: fd::inherited(*number).ok()? })
        });
        let (mut demand, sockets): (Vec<_>, Vec<_>) =
            taken.partition(|socket: &KeptSocket| socket.label.starts_with(ON_DEMAND));
        let demand = demand.pop();
        let path = demand.as_ref().and_then(|socket| socket.label.strip_prefix(ON_DEMAND));
        let file = path.and_then(|path| SocketFile::resume(path, file));
        Self { demand, file, sockets, owner: Owner::resume(owner) }
    }
}
