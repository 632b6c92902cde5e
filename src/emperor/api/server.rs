//! The emperor's own sockets (control, stats, metrics, locks): clients ask one question and get one answer.
//!
//! No client can block the emperor or make it grow. Sockets never block; the length of a question is limited;
//! the number of clients is limited, and one of them makes room for a new one; and the time of each client is
//! limited, both to ask and to take its answer. [`Server::turn`] returns questions, [`Server::answer`] takes
//! answers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, send};

pub use super::connection::Service;
use super::connection::{Connection, Progress};
use super::control;
use crate::config::plan::Address;
use crate::emperor::core::file_version::FileId;
use crate::emperor::core::saved::SavedListener;
use crate::emperor::deputy::close_apart;
use crate::emperor::instance::reading::{Job, do_apart};
use crate::emperor::instance::socket_file::{Bound, Clients, SocketFile, is_known, listen_on, tell_once};
use crate::emperor::instance::spawner::ReadFile;
use crate::error::{Context, Described, Error, Result};
use crate::log;
use crate::place::Place;
use crate::running_time::earliest;
use crate::sys::{fd, peer};

/// The most clients at a time, more than are needed.
const CLIENTS_MAX: usize = 16;
/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const ANSWERING: Duration = Duration::from_secs(30);
/// The time until the next try if there is no descriptor for one more client.
const PAUSE: Duration = Duration::from_secs(1);
/// So many clients of a lock are answered at once, and after them none for [`REST`]: every user can connect
/// as often as they like, at the cost of the emperor.
const COMERS: usize = 64;
const REST: Duration = Duration::from_millis(50);
/// How many events are served before the rest of the main loop gets its turn.
const EVENTS_PER_TURN: usize = 32;
/// Events of listening sockets carry indices of the list, events of clients their numbers, which begin here.
const FIRST_CLIENT: u64 = 1 << 32;

/// The services, in the order of their numbers in the saved state.
const SERVICES: [Service; 4] = [Service::Control, Service::Stats, Service::Metrics, Service::Lock];

/// The listening sockets and their clients.
pub struct Server {
    events: OwnedFd,
    listeners: Vec<Listener>,
    /// Listeners of the program before the upgrade, until [`Server::add`] asks for them.
    inherited: Vec<Listener>,
    /// The oldest client comes first.
    clients: Vec<Connection>,
    last_id: u64,
    /// Until when a socket accepts no clients: no descriptor is left for them, or it is a lock with many
    /// clients.
    paused: Option<Instant>,
    /// Whether the emperor is stopping.
    is_stopping: bool,
}

struct Listener {
    service: Service,
    socket: OwnedFd,
    /// The socket's name in error messages.
    name: String,
    file: Option<SocketFile>,
    /// Why its file could not be made anew, as logged.
    trouble: Option<Error>,
}

/// The question of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The client that gets the answer.
    pub client: u64,
    /// The service that the question is for.
    pub service: Service,
    /// The text of the question.
    pub text: Vec<u8>,
}

impl Server {
    /// A server without sockets.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (epoll_create1(2)).
    pub fn new() -> Result<Self> {
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?;
        Ok(Self {
            events,
            listeners: Vec::new(),
            inherited: Vec::new(),
            clients: Vec::new(),
            last_id: FIRST_CLIENT,
            paused: None,
            is_stopping: false,
        })
    }

    /// Listens at an address. The file of a socket that a dead process has left is replaced, for which its
    /// filesystem may take `patience`.
    ///
    /// # Errors
    /// Another process listens at the address, or the path has another kind of file; as socket(2), bind(2).
    pub fn add(&mut self, service: Service, address: &Address, patience: Duration) -> Result<()> {
        let name = address.name.clone();
        let known = |known: &Listener| known.service == service && known.name == name;
        if self.listeners.iter().any(known) {
            return Ok(());
        }
        if let Some(index) = self.inherited.iter().position(known) {
            let listener = self.inherited.remove(index);
            self.listeners.push(listener);
            return self.listen(self.listeners.len() - 1);
        }
        let Bound { socket, file } = match &address.place {
            Place::File(path) => {
                let made = do_apart(job_of(service), path, patience)?;
                let socket = made.copy.ok_or(Errno::BADF).context("listen on", &name)?;
                Bound { socket, file: SocketFile::resume(path, Some(made.version.id())) }
            }
            _ => listen_on(address, clients_of(service))?,
        };
        self.listeners.push(Listener { service, socket, name, file, trouble: None });
        self.listen(self.listeners.len() - 1)
    }

    /// Closes the locks that are no longer held. `is_held` gets their names.
    pub fn unlock(&mut self, is_held: &dyn Fn(&str) -> bool) {
        let is_left = |listener: &Listener| listener.service == Service::Lock && !is_held(&listener.name);
        while let Some(index) = self.listeners.iter().position(is_left) {
            let _ = epoll::delete(&self.events, &self.listeners.swap_remove(index).socket);
            // The last listener has moved to the index of the removed one.
            if let Some(moved) = self.listeners.get(index) {
                let data = epoll::EventData::new_u64(index as u64);
                let _ = epoll::modify(&self.events, &moved.socket, data, epoll::EventFlags::IN);
            }
        }
    }

    /// From now on tells every client of a lock that this emperor is stopping.
    pub fn stopping(&mut self) {
        self.is_stopping = true;
    }

    /// Gives the files of the sockets to a user and a group.
    ///
    /// # Errors
    /// open(2), chown(2).
    pub fn give_to(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.listeners.iter().filter_map(|listener| listener.file.as_ref()).try_for_each(|file| {
            file.give_to(uid.map(Uid::from_raw), gid.map(Gid::from_raw))
                .context("chown", file.path().display())
        })
    }

    /// The files of sockets at which a reader must look, because the kernel does not know whether they are
    /// still there.
    pub fn to_look_at(&self) -> Vec<PathBuf> {
        let files = self.listeners.iter().filter_map(|listener| listener.file.as_ref());
        let unknown = files.filter(|file| !is_known(file.path(), Some(file.id())));
        unknown.map(|file| file.path().to_owned()).collect()
    }

    /// The job that makes a socket anew, if the file that was found at its path is another one, or none.
    pub fn lost(&self, path: &Path, there: FileId) -> Option<Job> {
        let listener = self.listeners.get(self.at(path)?)?;
        let is_lost = listener.file.as_ref().is_some_and(|file| file.id() != there);
        is_lost.then_some(job_of(listener.service))
    }

    /// Takes in a socket that was made anew, or the error. A file that another emperor has put there stays,
    /// and the next look tries again.
    pub fn renew(&mut self, path: &Path, made: Result<ReadFile>) {
        let Some(index) = self.at(path) else { return };
        let Some(listener) = self.listeners.get_mut(index) else { return };
        let missing = format!("the {} socket {} was missing", listener.service.name(), path.display());
        match made {
            Ok(ReadFile { version, copy: Some(socket), .. }) => {
                let _ = epoll::delete(&self.events, &listener.socket);
                let file = SocketFile::resume(path, Some(version.id()));
                // The old file is gone. A deputy would have to look once more.
                std::mem::forget(std::mem::replace(&mut listener.file, file));
                listener.socket = socket;
                listener.trouble = None;
                match self.listen(index) {
                    Ok(()) => log!("{missing}: made anew"),
                    Err(error) => log!("{missing}: {error}"),
                }
            }
            Ok(_) => {}
            Err(error) => tell_once(&mut listener.trouble, &missing, error),
        }
    }

    /// The index of the socket whose file is at a path.
    fn at(&self, path: &Path) -> Option<usize> {
        let is_it = |listener: &Listener| listener.file.as_ref().is_some_and(|file| file.path() == path);
        self.listeners.iter().position(is_it)
    }

    /// How many listening sockets there are.
    pub fn count(&self) -> usize {
        self.listeners.len()
    }

    /// The file of one of them, if it has one.
    pub fn file(&mut self, index: usize) -> Option<&mut Option<SocketFile>> {
        self.listeners.get_mut(index).map(|listener| &mut listener.file)
    }

    /// The listening sockets, for the next program.
    pub fn save(&self) -> Vec<SavedListener> {
        let save = |listener: &Listener| SavedListener {
            service: SERVICES.iter().position(|service| *service == listener.service).unwrap_or_default()
                as u64,
            socket: listener.socket.as_raw_fd(),
            name: listener.name.clone().into_bytes(),
            file: listener.file.as_ref().map(SocketFile::id),
        };
        self.listeners.iter().chain(&self.inherited).map(save).collect()
    }

    /// Takes over the sockets of the program before the upgrade. [`Server::settle`] closes those that
    /// [`Server::add`] has not asked for by then.
    pub fn inherit(&mut self, saved: &[SavedListener]) {
        for SavedListener { service, socket, name, file } in saved {
            let service = SERVICES.get(*service as usize).copied();
            if let (Some(service), Ok(socket)) = (service, fd::inherited(*socket)) {
                let name = String::from_utf8_lossy(name).into_owned();
                let file = SocketFile::resume(name.as_ref(), *file);
                self.inherited.push(Listener { service, socket, name, file, trouble: None });
            }
        }
    }

    /// Closes inherited sockets that were not asked for. A lock can be asked for later, when its directory
    /// answers: then not `all` are closed yet.
    pub fn settle(&mut self, all: bool) {
        self.inherited.retain(|listener| !all && listener.service == Service::Lock);
    }

    /// The descriptor of a client's socket, over which the next program can answer.
    pub fn descriptor_of(&self, client: u64) -> Option<i32> {
        let client = self.clients.iter().find(|known| known.id == client)?;
        Some(client.socket.as_raw_fd())
    }

    /// Answers a client of the program before the upgrade.
    pub fn answer_inherited(&mut self, client: i32, text: Vec<u8>, now: Instant) {
        let Ok(socket) = fd::inherited(client) else { return };
        self.last_id += 1;
        let (id, service, until) = (self.last_id, Service::Control, now + ANSWERING);
        if epoll::add(&self.events, &socket, epoll::EventData::new_u64(id), epoll::EventFlags::OUT).is_ok() {
            let mut client = Connection::new(id, service, socket, until);
            client.answer(text);
            self.clients.push(client);
        }
    }

    fn listen(&self, index: usize) -> Result<()> {
        let Some(listener) = self.listeners.get(index) else { return Ok(()) };
        let data = epoll::EventData::new_u64(index as u64);
        match epoll::add(&self.events, &listener.socket, data, epoll::EventFlags::IN) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::os("listen on", &listener.name, errno)),
        }
    }

    /// Whether every client of the command socket was answered, except for those that [wait](Self::wait).
    pub fn has_answered(&self) -> bool {
        !self.clients.iter().any(Connection::is_being_served)
    }

    /// When [`Server::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        earliest(&[self.clients.iter().map(|client| client.until).min(), self.paused])
    }

    /// Closes clients whose time is over, and accepts new ones again after a pause.
    pub fn time(&mut self, now: Instant) {
        self.clients.retain(|client| client.until > now);
        if self.paused.is_some_and(|until| until <= now) {
            let all = (0..self.listeners.len()).all(|index| self.listen(index).is_ok());
            self.paused = if all { None } else { Some(now + PAUSE) };
        }
    }

    /// Serves the clients that are ready, and returns what they have asked.
    pub fn turn(&mut self, now: Instant) -> Vec<Question> {
        let mut ready = Vec::with_capacity(EVENTS_PER_TURN);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut questions = Vec::new();
        if epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut ready), Some(&at_once)).is_err() {
            return questions;
        }
        for event in ready {
            match event.data.u64() {
                index if index < FIRST_CLIENT => questions.extend(self.accept(index as usize, now)),
                id => questions.extend(self.serve(id)),
            }
        }
        questions
    }

    /// Gives the answer to a client time until then.
    pub fn wait(&mut self, client: u64, until: Instant) {
        if let Some(client) = self.clients.iter_mut().find(|known| known.id == client) {
            client.until = until;
        }
    }

    /// Answers a client, if it is still there.
    pub fn answer(&mut self, client: u64, text: Vec<u8>, now: Instant) {
        let Some(index) = self.clients.iter().position(|known| known.id == client) else { return };
        if let Some(client) = self.clients.get_mut(index) {
            client.answer(text);
            client.until = now + ANSWERING;
            let writable = epoll::EventFlags::OUT;
            let _ =
                epoll::modify(&self.events, &client.socket, epoll::EventData::new_u64(client.id), writable);
        }
    }

    /// Accepts a client. For a service without a question, returns its question at once.
    fn accept(&mut self, index: usize, now: Instant) -> Option<Question> {
        let listener = self.listeners.get(index)?;
        let service = listener.service;
        let accept = || accept_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let socket = match accept() {
            Ok(socket) => socket,
            // The client has left already.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return None,
            Err(errno) => {
                // Otherwise the socket would be ready again at once, without end.
                let _ = epoll::delete(&self.events, &listener.socket);
                self.paused = Some(now + PAUSE);
                log!("accept a client at {}: {}", listener.name, Described(errno));
                return None;
            }
        };
        if service == Service::Lock {
            let comers = std::iter::successors(Some(socket), |_| accept().ok()).take(COMERS);
            let comers: Vec<_> = comers.collect();
            for comer in comers.iter().filter(|_| self.is_stopping) {
                let _ = send(comer, b"s", SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
            // Any user can connect, and before Linux 6.16 can have sent descriptors.
            if comers.iter().any(|comer| peer::refuse_descriptors(comer).is_err()) {
                close_apart(comers);
            }
            let _ = epoll::delete(&self.events, &listener.socket);
            self.paused.get_or_insert(now + REST);
            return None;
        }
        if service == Service::Control && !may_command(&socket) {
            return None;
        }
        self.last_id += 1;
        let id = self.last_id;
        let client = Connection::new(id, service, socket, now + ASKING);
        let asked = client.has_asked();
        let wanted = if asked { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        epoll::add(&self.events, &client.socket, epoll::EventData::new_u64(id), wanted).ok()?;
        if !self.make_room(service) {
            return None;
        }
        self.clients.push(client);
        asked.then(|| Question { client: id, service, text: Vec::new() })
    }

    /// If there are as many clients as allowed, closes the oldest of those with the least worth. Returns
    /// whether there is room now.
    fn make_room(&mut self, service: Service) -> bool {
        if self.clients.len() < CLIENTS_MAX {
            return true;
        }
        let least = self.clients.iter().enumerate().min_by_key(|(_, client)| client.worth());
        let Some((index, least)) = least else { return true };
        if least.service == Service::Control && service != Service::Control {
            return false;
        }
        self.clients.remove(index);
        true
    }

    /// Serves a client that is ready.
    fn serve(&mut self, id: u64) -> Option<Question> {
        let index = self.clients.iter().position(|client| client.id == id)?;
        let client = self.clients.get_mut(index)?;
        match client.go_on() {
            Progress::Open => None,
            Progress::Asked(text) => {
                // From now on the client is only ready when it leaves.
                let data = epoll::EventData::new_u64(id);
                let _ = epoll::modify(&self.events, &client.socket, data, epoll::EventFlags::empty());
                Some(Question { client: id, service: client.service, text })
            }
            Progress::Over => {
                self.clients.remove(index);
                None
            }
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn job_of(service: Service) -> Job {
    if service == Service::Control { Job::ListenForCommands } else { Job::ListenForQuestions }
}

fn clients_of(service: Service) -> Clients {
    if service == Service::Control { Clients::Commanding } else { Clients::Asking }
}

/// Whether a client may give commands: root and the emperor's own user may. The mode of the socket file says
/// the same, but it can be changed, and a connection can be passed to another process.
fn may_command(socket: &OwnedFd) -> bool {
    match peer::of_connection(socket) {
        Ok(peer) if peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw() => return true,
        Ok(peer) => log!("control socket: uid {} may not command us: refused", peer.uid),
        Err(errno) => log!("control socket: who asks is not known: {}: refused", Described(errno)),
    }
    let text = control::answer(Err("only root and the emperor's own user may command it".to_owned()));
    let _ = send(socket, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use std::io::{ErrorKind, Read};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};

    #[test]
    fn who_comes_for_a_lock_again_and_again_waits() {
        let name = format!("lock of {}", std::process::id());
        let mut server = Server::new().unwrap();
        let address = Address { place: Place::Abstract(name.clone().into_bytes()), name: name.clone() };
        server.add(Service::Lock, &address, Duration::ZERO).unwrap();
        let come = || {
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let comer = UnixStream::connect_addr(&address).unwrap();
            comer.set_nonblocking(true).unwrap();
            comer
        };
        let answer = |mut comer: &UnixStream| comer.read(&mut [0; 8]).map_err(|error| error.kind());
        let now = Instant::now();
        let first = [come(), come(), come()];
        server.turn(now);
        assert!(first.iter().all(|comer| answer(comer) == Ok(0)));
        let later = come();
        server.turn(now);
        server.time(now);
        assert_eq!(answer(&later), Err(ErrorKind::WouldBlock));
        server.stopping();
        server.time(server.deadline().unwrap());
        server.turn(now);
        assert_eq!(answer(&later), Ok(1));
    }
}
