//! The emperor's own sockets: clients that ask one question and get one answer.
//!
//! No client can hold the emperor up or make it grow. Sockets never block; a question is short; there are only so many
//! clients at a time, the oldest making room for a new one; and each has only so much time, to ask and to take its answer.
//! What they ask comes out of [`Server::turn`], what they are told goes in at [`Server::answer`].

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::{FileType, Mode, lstat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, recv, send, socket_with,
};

use crate::error::{Context, Described, Error, Result};
use crate::log;

/// More clients than anybody needs at a time.
const CLIENTS_MAX: usize = 16;
/// A question is a word or two and a file's name.
const QUESTION_MAX: usize = 1024;
/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const ANSWERING: Duration = Duration::from_secs(30);
/// Where there is no descriptor for one more client, the next try is after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// So many things are done before it is somebody else's turn.
const EVENTS_PER_TURN: usize = 32;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// The event of the listening socket; those of clients carry their numbers, which begin above.
const LISTENER: u64 = 0;

/// A listening socket and its clients.
pub struct Server {
    events: OwnedFd,
    listener: Listener,
    /// The oldest first.
    clients: Vec<Client>,
    last_id: u64,
    /// Until when nobody is accepted.
    paused: Option<Instant>,
}

/// A listening socket in the file system, which goes with it.
struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    inode: u64,
}

struct Client {
    id: u64,
    socket: OwnedFd,
    /// When it is given up.
    until: Instant,
    question: Vec<u8>,
    /// Whether the question is complete.
    asked: bool,
    answer: Option<Answer>,
}

/// What a client is told.
struct Answer {
    text: Vec<u8>,
    /// How much of it was taken.
    sent: usize,
}

/// What a client has asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom to answer.
    pub client: u64,
    /// The question.
    pub text: Vec<u8>,
}

impl Server {
    /// Listens on a socket at `path` that only root and we can connect to. One that a dead process has left there is
    /// replaced.
    ///
    /// # Errors
    /// Somebody listens there, or something else is there; as socket(2), bind(2).
    pub fn new(path: &Path) -> Result<Self> {
        let socket = listen_at(path)?;
        let inode = lstat(path).context("look at", path.display())?.st_ino;
        let listener = Listener { socket, path: path.to_owned(), inode };
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).context("create", "epoll")?;
        let mut server = Self { events, listener, clients: Vec::new(), last_id: LISTENER, paused: None };
        server.listen()?;
        Ok(server)
    }

    fn listen(&mut self) -> Result<()> {
        let data = epoll::EventData::new_u64(LISTENER);
        let added = epoll::add(&self.events, &self.listener.socket, data, epoll::EventFlags::IN);
        added.context("listen on", self.listener.path.display())
    }

    /// When [`Server::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).chain(self.paused).min()
    }

    /// Gives up clients whose time is over.
    pub fn time(&mut self, now: Instant) {
        self.clients.retain(|client| client.until > now);
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = match self.listen() {
                Ok(()) => None,
                Err(_) => Some(now + PAUSE),
            };
        }
    }

    /// Takes what is there without waiting and returns what was asked.
    pub fn turn(&mut self, now: Instant) -> Vec<Question> {
        let mut ready = Vec::with_capacity(EVENTS_PER_TURN);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut questions = Vec::new();
        if epoll::wait(&self.events, rustix::buffer::spare_capacity(&mut ready), Some(&at_once)).is_err() {
            return questions;
        }
        for event in ready {
            match event.data.u64() {
                LISTENER => self.accept(now),
                id => questions.extend(self.serve(id)),
            }
        }
        questions
    }

    /// Tells a client, if it is still there.
    pub fn answer(&mut self, client: u64, text: Vec<u8>, now: Instant) {
        let Some(index) = self.clients.iter().position(|known| known.id == client) else { return };
        if let Some(client) = self.clients.get_mut(index) {
            client.answer = Some(Answer { text, sent: 0 });
            client.until = now + ANSWERING;
            let writable = epoll::EventFlags::OUT;
            let _ =
                epoll::modify(&self.events, &client.socket, epoll::EventData::new_u64(client.id), writable);
        }
    }

    fn accept(&mut self, now: Instant) {
        let socket = match accept_with(&self.listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => socket,
            // It has left already.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => {
                // It would be ready again at once, for ever.
                let _ = epoll::delete(&self.events, &self.listener.socket);
                self.paused = Some(now + PAUSE);
                log!("control socket: accept a client: {}", Described(errno));
                return;
            }
        };
        if !may_command(&socket) {
            return;
        }
        self.last_id += 1;
        let id = self.last_id;
        if epoll::add(&self.events, &socket, epoll::EventData::new_u64(id), epoll::EventFlags::IN).is_err() {
            return;
        }
        if self.clients.len() == CLIENTS_MAX {
            self.clients.remove(0);
        }
        self.clients.push(Client {
            id,
            socket,
            until: now + ASKING,
            question: Vec::new(),
            asked: false,
            answer: None,
        });
    }

    /// Goes on with a client that is ready.
    fn serve(&mut self, id: u64) -> Option<Question> {
        let index = self.clients.iter().position(|client| client.id == id)?;
        let client = self.clients.get_mut(index)?;
        let goes_on = match &mut client.answer {
            Some(answer) => answer.send(&client.socket),
            // It has left without waiting for its answer.
            None if client.asked => false,
            None => match client.read() {
                Read::All => {
                    // From now on only its leaving makes it ready.
                    let data = epoll::EventData::new_u64(id);
                    let _ = epoll::modify(&self.events, &client.socket, data, epoll::EventFlags::empty());
                    client.asked = true;
                    return Some(Question { client: id, text: std::mem::take(&mut client.question) });
                }
                Read::Part => true,
                Read::Nonsense => false,
            },
        };
        if !goes_on {
            self.clients.remove(index);
        }
        None
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody may have taken the name for another emperor.
        if lstat(&self.path).is_ok_and(|there| there.st_ino == self.inode) {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

/// How far a question has come.
enum Read {
    All,
    Part,
    Nonsense,
}

impl Client {
    /// Reads on; the question ends with the client's side of the connection.
    fn read(&mut self) -> Read {
        let mut buffer = [0; QUESTION_MAX];
        match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((0, _)) => Read::All,
            Ok((count, _)) if self.question.len() + count <= QUESTION_MAX => {
                self.question.extend(buffer.iter().take(count));
                Read::Part
            }
            Err(Errno::AGAIN | Errno::INTR) => Read::Part,
            Ok(_) | Err(_) => Read::Nonsense,
        }
    }
}

impl Answer {
    /// Sends on; whether there is more.
    fn send(&mut self, socket: &OwnedFd) -> bool {
        let rest = self.text.get(self.sent..).unwrap_or_default();
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => self.sent += count,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        self.sent < self.text.len()
    }
}

/// Only root and our own user may command us. The socket's mode says so already; but it may have been changed, or the
/// connection may have been handed on.
fn may_command(socket: &OwnedFd) -> bool {
    match socket_peercred(socket) {
        Ok(peer) if peer.uid.is_root() || peer.uid == rustix::process::geteuid() => true,
        Ok(peer) => {
            log!("control socket: uid {} may not command us: refused", peer.uid.as_raw());
            false
        }
        Err(_) => false,
    }
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    let failed = || path.display();
    let address = SocketAddrUnix::new(path).context("listen on", failed())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let new = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let socket = new().context("create socket", failed())?;
    // From its first moment on, it is nobody else's.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let mut bound = bind(&socket, &address);
    if bound == Err(Errno::ADDRINUSE) {
        bound = match lstat(path) {
            Ok(there) if FileType::from_raw_mode(there.st_mode) != FileType::Socket => {
                rustix::process::umask(before);
                return Err(Error::new("listen on", failed(), "something that is no socket is there"));
            }
            _ => match connect(new().context("create socket", failed())?, &address) {
                Err(Errno::CONNREFUSED) => rustix::fs::unlink(path).and_then(|()| bind(&socket, &address)),
                _ => Err(Errno::ADDRINUSE),
            },
        };
    }
    rustix::process::umask(before);
    if bound == Err(Errno::ADDRINUSE) {
        return Err(Error::new("listen on", failed(), "another emperor is listening there"));
    }
    bound.context("listen on", failed())?;
    listen(&socket, BACKLOG).context("listen on", failed())?;
    Ok(socket)
}
