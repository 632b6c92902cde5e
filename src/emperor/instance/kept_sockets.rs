//! The listening sockets of a vassal, kept while it has no instance, so that connections wait for the next
//! one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::socket_file::{id, is_known, is_unlinked, remembered};
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::saved::{SavedSocket, SavedSockets};
use crate::emperor::core::text::hash;
use crate::emperor::deputy::close_apart;
use crate::place::Place;
use crate::protocol::{self, KeptSocket, SOCKETS_MAX, SocketId, ToVassal};
use crate::sys::fd;

/// The trouble with an on-demand socket whose file was removed.
const GONE: &str = "the file of its on-demand socket is gone";
/// The trouble with an on-demand socket whose file was replaced by another one.
pub const TAKEN: &str = "the file of its on-demand socket is somebody else's now";

/// The sockets kept for one vassal.
#[derive(Debug, Default)]
pub struct Kept {
    /// The on-demand socket, on which the emperor itself listens. It stays when the vassal's own sockets are
    /// closed.
    demand: Option<KeptSocket>,
    /// Why clients cannot reach the on-demand socket, if that was noticed.
    noticed: Option<&'static str>,
    sockets: Vec<KeptSocket>,
    /// Those of them whose files were found to be removed.
    removed: Vec<SocketId>,
    /// The user who bound the other sockets: root, or else the owner of the vassal's file.
    owner: Owner,
    left: Left,
}

/// Sockets that are no longer kept, and their files.
#[derive(Debug, Default)]
pub struct Left {
    /// Sockets that must be closed.
    pub sockets: Vec<OwnedFd>,
    /// The files of such sockets, which must be removed.
    pub files: Vec<LeftFile>,
}

impl Left {
    /// Adds others.
    pub fn append(&mut self, mut others: Self) {
        self.sockets.append(&mut others.sockets);
        self.files.append(&mut others.files);
    }

    /// Closes the sockets now. The processes that share them can make that take long.
    pub fn close(&mut self) {
        close_apart(std::mem::take(&mut self.sockets));
    }
}

/// The user of the PID 1 that bound a socket; for an on-demand socket also the directory of its file, as a
/// hash.
pub type Group = (Owner, Option<u64>);

/// The file of a socket that is no longer kept.
#[derive(Debug)]
pub struct LeftFile {
    /// Its path, as PID 1 reported it.
    pub path: PathBuf,
    file: FileId,
    /// Its version, if known. Its creation time counts, because another file can get its inode number.
    version: Option<FileVersion>,
    /// Files of other groups do not wait for it.
    pub group: Group,
}

impl LeftFile {
    /// Whether it is the file that was found at the path.
    pub fn is_it(&self, there: &Stat) -> bool {
        FileType::from_raw_mode(there.st_mode) == FileType::Socket
            && id(there) == self.file
            && self.version.is_none_or(|version| version == FileVersion::of(there, None))
    }
}

impl Kept {
    /// Keeps one more socket, which this user has bound, unless there are too many. PID 1 knows how many are
    /// allowed, and logs if there are more; while instances are replaced, there are those of the old ones,
    /// too.
    ///
    /// # Errors
    /// EMFILE.
    pub fn keep(&mut self, socket: KeptSocket, user: Owner) -> Result<(), Errno> {
        self.belong_to(user);
        if let Some(index) = self.sockets.iter().position(|other| other.id == socket.id) {
            self.left.sockets.push(self.sockets.remove(index).fd);
        }
        let has_room = self.sockets.len() < 2 * SOCKETS_MAX;
        match has_room && !socket.id.is_on_demand {
            true => self.sockets.push(socket),
            false => self.left.sockets.push(socket.fd),
        }
        if has_room { Ok(()) } else { Err(Errno::MFILE) }
    }

    /// The sockets for the next instance: of those with the same address the newest. Where a socket had to be
    /// bound anew, no client reaches the earlier one, which old instances may use until they end.
    pub fn newest(&self) -> impl Iterator<Item = &KeptSocket> {
        let later = |index: usize| self.sockets.iter().skip(index + 1);
        let is_newest = move |(index, socket): &(usize, &KeptSocket)| {
            later(*index).all(|other| other.id.place != socket.id.place)
        };
        self.demand.iter().chain(self.sockets.iter().enumerate().filter(is_newest).map(|(_, socket)| socket))
    }

    /// Whether one of them has the address that another vassal could not have, by the message about that. An
    /// address with a port alone is that of all hosts.
    pub fn is_in_the_way(&self, message: &str) -> bool {
        for socket in self.all() {
            let place = &socket.id.place;
            let mut texts = [": ", " (of user "].map(|end| format!("listen on {place}{end}"));
            if let Place::Internet(address) = place {
                let port = address.port();
                let is_any = address.ip().is_unspecified();
                let [start, end] = if is_any { ["", "Address"] } else { ["listen on ", ""] };
                texts[1] = format!("{start}:{port}: {end}");
            }
            if texts.iter().any(|text| message.contains(text)) {
                return true;
            }
        }
        false
    }

    /// The address and the on-demand socket.
    pub fn demand(&self) -> Option<(&Place, BorrowedFd<'_>)> {
        self.demand.as_ref().map(|socket| (&socket.id.place, socket.fd.as_fd()))
    }

    /// Whether no client can connect to the on-demand socket any more: its file, if it has one, is gone, or
    /// an instance has shut the socket down. No filesystem is asked: a file that was renamed counts as gone
    /// only once it was noticed.
    pub fn is_lost(&self) -> bool {
        let is_useless = |socket: &KeptSocket| fd::is_shut_down(&socket.fd) || is_unlinked(&socket.fd);
        self.noticed.is_some() || self.demand.as_ref().is_some_and(is_useless)
    }

    /// The path of the on-demand socket, if a reader must look whether it still leads to the socket.
    pub fn to_look_at(&self) -> Option<&PathBuf> {
        match &self.demand.as_ref()?.id {
            SocketId { place: Place::File(path), file: Some(file), .. } => {
                Some(path).filter(|path| !is_known(path, Some(*file)))
            }
            _ => None,
        }
    }

    /// The trouble with the file of the on-demand socket, if it is new. `there` is the file that was found at
    /// its path; the default stands for none.
    pub fn notice(&mut self, there: FileId) -> Option<&'static str> {
        let why = match self.demand.as_ref()?.id.file {
            Some(file) if file == there => None,
            _ if there == FileId::default() => Some(GONE),
            _ => Some(TAKEN),
        };
        (std::mem::replace(&mut self.noticed, why) != why).then_some(why)?
    }

    /// Those of the other sockets whose files were removed since the last call. No filesystem is asked.
    pub fn newly_removed(&mut self) -> Vec<&SocketId> {
        let is_removed = |socket: &&KeptSocket| {
            socket.id.file.is_some() && !socket.id.is_on_demand && is_unlinked(&socket.fd)
        };
        let removed: Vec<_> = self.newest().filter(is_removed).map(|socket| socket.id.clone()).collect();
        let before = std::mem::replace(&mut self.removed, removed);
        self.removed.iter().filter(|id| !before.contains(id)).collect()
    }

    /// The sockets whose files were found to be removed.
    pub fn removed(&self) -> impl Iterator<Item = &SocketId> {
        self.removed.iter().filter(|id| self.newest().any(|socket| socket.id == **id))
    }

    /// Sets another on-demand socket, which listens at `place`, with its file.
    pub fn set_demand(&mut self, place: Place, fd: OwnedFd, file: Option<FileId>) {
        let id = SocketId { place, file, is_on_demand: true };
        (self.demand, self.noticed) = (Some(KeptSocket { id, fd, is_lent: false }), None);
    }

    /// Gives up the on-demand socket.
    pub fn close_demand(&mut self) {
        if let Some(socket) = self.demand.take() {
            self.leave(socket);
        }
    }

    /// Gives up the on-demand socket for another one that is to listen at `place`. It will replace the file
    /// of the same path, which must not be removed at the same time.
    pub fn replace_demand(&mut self, place: Option<&Place>) {
        match self.demand.take_if(|socket| Some(&socket.id.place) == place) {
            Some(socket) => self.left.sockets.push(socket.fd),
            None => self.close_demand(),
        }
    }

    /// Gives up all sockets except these and the on-demand socket.
    pub fn retain(&mut self, ids: &[SocketId]) {
        for socket in std::mem::take(&mut self.sockets) {
            match ids.contains(&socket.id) {
                true => self.sockets.push(socket),
                false => self.leave(socket),
            }
        }
    }

    /// Gives up all sockets, and takes those of another vassal.
    pub fn become_those(&mut self, others: Self) {
        self.close();
        self.close_demand();
        *self = Self { left: self.take_left(), ..others };
    }

    /// Prepares for an instance of this user, or a socket of its. Sockets that another user has bound are not
    /// for it, and are closed before it can bind its own.
    pub fn belong_to(&mut self, owner: Owner) {
        if self.owner != owner {
            self.close();
            self.left.close();
            self.owner = owner;
        }
    }

    /// Gives up all sockets except the on-demand socket. Returns how many there were.
    pub fn close(&mut self) -> usize {
        let count = self.sockets.len();
        self.retain(&[]);
        count
    }

    /// The sockets given up since the last call. Others can listen at these addresses only after the sockets
    /// are closed and their files are removed.
    pub fn take_left(&mut self) -> Left {
        std::mem::take(&mut self.left)
    }

    /// Gives up a socket, whose file must then be removed.
    fn leave(&mut self, KeptSocket { id: SocketId { place, file, is_on_demand }, fd, .. }: KeptSocket) {
        // The word of a tenant's process is not enough to remove a file. The kernel's memory of the file is
        // enough.
        let there = fd::file_of(&fd).and_then(remembered);
        let (file, version) = match there.map(|there| FileVersion::of_known(&there, None)) {
            Ok(version) => (Some(version.id()), Some(version)),
            Err(_) => (file.filter(|_| is_on_demand || self.owner == Owner::default()), None),
        };
        if let (Place::File(path), Some(file)) = (place, file) {
            // The emperor itself has bound an on-demand socket, at a path that may be any tenant's.
            let directory = path.parent().filter(|_| is_on_demand);
            let directory = directory.map(|path| hash(path.as_os_str().as_bytes().iter().copied()));
            self.left.files.push(LeftFile { path, file, version, group: (self.owner, directory) });
        }
        self.left.sockets.push(fd);
    }

    /// The number of sockets.
    pub fn count(&self) -> u64 {
        self.all().count() as u64
    }

    fn all(&self) -> impl Iterator<Item = &KeptSocket> {
        self.demand.iter().chain(&self.sockets)
    }

    /// Sends the [newest](Kept::newest) sockets to a new instance, after its greeting. `lends` means that
    /// others use them, too.
    ///
    /// # Errors
    /// As [`protocol::send`].
    pub fn send(&self, link: &OwnedFd, lends: bool) -> rustix::io::Result<()> {
        let gives = if lends { ToVassal::Lent } else { ToVassal::Kept };
        let send =
            |socket: &KeptSocket| protocol::send(link, &gives(socket.id.clone()).encode(), Some(&socket.fd));
        self.newest().try_for_each(send)
    }

    /// The sockets in the form for the next program.
    pub fn save(&self) -> SavedSockets {
        let save = |socket: &KeptSocket| SavedSocket { id: socket.id.clone(), socket: socket.fd.as_raw_fd() };
        SavedSockets { sockets: self.all().map(save).collect(), owner: self.owner }
    }

    /// Takes over the sockets of the program before the upgrade. A socket that is missing was lost, and will
    /// be bound anew.
    pub fn resume(saved: SavedSockets) -> Self {
        let mut kept = Self { owner: saved.owner, ..Self::default() };
        for SavedSocket { id, socket } in saved.sockets {
            let Ok(fd) = fd::inherited(socket) else { continue };
            let socket = KeptSocket { id, fd, is_lent: false };
            match socket.id.is_on_demand {
                true => kept.demand = Some(socket),
                false => kept.sockets.push(socket),
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_kernel_says_which_file_a_socket_has_and_not_the_tenant() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let socket = |name: &str| OwnedFd::from(UnixListener::bind(at(name)).unwrap());
        let (own, _others) = (socket("own"), socket("others"));
        let stat = |name: &str| rustix::fs::lstat(at(name)).unwrap();
        let claimed = SocketId {
            place: Place::File(at("others")),
            file: Some(id(&stat("others"))),
            is_on_demand: false,
        };
        let mut kept = Kept::default();
        let socket = KeptSocket { id: claimed, fd: own, is_lent: false };
        kept.keep(socket, Owner { uid: 1000, gid: 1000 }).unwrap();
        assert_eq!(kept.close(), 1);
        let left = kept.take_left().files;
        assert!(left.iter().all(|left| !left.is_it(&stat("others"))));
        assert!(left.iter().any(|left| left.is_it(&stat("own"))));
        assert!(kept.take_left().files.is_empty());
    }

    #[test]
    fn a_removed_file_is_told_once_and_known_until_another_socket_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut kept = Kept::default();
        let bind = |kept: &mut Kept| {
            let fd = OwnedFd::from(UnixListener::bind(&path).unwrap());
            let file = Some(id(&rustix::fs::lstat(&path).unwrap()));
            let id = SocketId { place: Place::File(path.clone()), file, is_on_demand: false };
            kept.retain(&[]);
            kept.keep(KeptSocket { id, fd, is_lent: false }, Owner::default()).unwrap();
        };
        let found = |kept: &mut Kept| (kept.newly_removed().len(), kept.removed().count());
        bind(&mut kept);
        for _ in 0..2 {
            assert_eq!(found(&mut kept), (0, 0));
            std::fs::remove_file(&path).unwrap();
            assert_eq!(found(&mut kept), (1, 1));
            assert_eq!(found(&mut kept), (0, 1));
            bind(&mut kept);
            assert_eq!(kept.removed().count(), 0);
        }
    }
}
