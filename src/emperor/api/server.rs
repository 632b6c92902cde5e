//! The emperor's own sockets (control, stats, metrics): clients that ask one question and get one answer.
//!
//! No client can hold the emperor up or make it grow. Sockets never block; a question is short; there are only so many
//! clients at a time, one of them making room for a new one; and each has only so much time, to ask and to take its answer.
//! What they ask comes out of [`Server::turn`], what they are told goes in at [`Server::answer`].

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::control;
use crate::config::plan::Address;
use crate::emperor::core::saved::SavedListener;
use crate::emperor::instance::socket_file::{SocketFile, listen_on};
use crate::error::{Context, Described, Error, Result};
use crate::log;
use crate::sys::{fd, peer};

/// More clients than anybody needs at a time.
const CLIENTS_MAX: usize = 16;
/// A question is a word or two and a file's name, or the head of a request.
const QUESTION_MAX: usize = 8192;
/// How long a client may take to ask.
const ASKING: Duration = Duration::from_secs(5);
/// How long a client may take to read its answer.
const ANSWERING: Duration = Duration::from_secs(30);
/// Where there is no descriptor for one more client, the next try is after this time.
const PAUSE: Duration = Duration::from_secs(1);
/// So many things are done before it is somebody else's turn.
const EVENTS_PER_TURN: usize = 32;
/// The events of listening sockets carry their places, those of clients their numbers, which begin above.
const FIRST_CLIENT: u64 = 16;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Commands; only root and we may use it. A question ends with the client's side of the connection.
    Control,
    /// uWSGI's JSON, for whoever connects: there is nothing to ask.
    Stats,
    /// Metrics over HTTP. A question is the head of a request.
    Metrics,
}

const SERVICES: [Service; 3] = [Service::Control, Service::Stats, Service::Metrics];

/// The listening sockets and their clients.
pub struct Server {
    events: OwnedFd,
    listeners: Vec<Listener>,
    /// Those of the program in whose place we are, until they are asked for.
    inherited: Vec<Listener>,
    /// The oldest first.
    clients: Vec<Client>,
    last_id: u64,
    /// Until when nobody is accepted.
    paused: Option<Instant>,
}

struct Listener {
    service: Service,
    socket: OwnedFd,
    /// As error messages name it.
    name: String,
    file: Option<SocketFile>,
}

struct Client {
    id: u64,
    service: Service,
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
    /// Which socket it came to.
    pub service: Service,
    /// The question.
    pub text: Vec<u8>,
}

impl Server {
    /// No sockets yet.
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
        })
    }

    /// Listens at an address. A socket that a dead process has left in the file system is replaced.
    ///
    /// # Errors
    /// Somebody listens there, or something else is there; as socket(2), bind(2).
    pub fn add(&mut self, service: Service, address: &Address) -> Result<()> {
        let name = address.name.clone();
        let known = |known: &Listener| known.service == service && known.name == name;
        if let Some(index) = self.inherited.iter().position(known) {
            let listener = self.inherited.remove(index);
            self.listeners.push(listener);
            return self.listen(self.listeners.len() - 1);
        }
        let (socket, file) = listen_on(address, service == Service::Control)?;
        self.listeners.push(Listener { service, socket, name, file });
        self.listen(self.listeners.len() - 1)
    }

    /// Makes the files of our sockets somebody's.
    ///
    /// # Errors
    /// open(2), chown(2).
    pub fn give_to(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        self.listeners.iter().filter_map(|listener| listener.file.as_ref()).try_for_each(|file| {
            file.give_to(uid.map(Uid::from_raw), gid.map(Gid::from_raw))
                .context("chown", file.path().display())
        })
    }

    /// What a program that takes our place needs to know.
    pub fn save(&self) -> Vec<SavedListener> {
        let save = |listener: &Listener| SavedListener {
            service: SERVICES.iter().position(|service| *service == listener.service).unwrap_or_default()
                as u64,
            socket: listener.socket.as_raw_fd(),
            name: listener.name.clone().into_bytes(),
            file: listener.file.as_ref().map(SocketFile::id),
        };
        self.listeners.iter().map(save).collect()
    }

    /// Takes over the sockets of the program in whose place we are. Those that are not [asked for](Self::add) again
    /// are closed by [`Server::settle`].
    pub fn inherit(&mut self, saved: &[SavedListener]) {
        for SavedListener { service, socket, name, file } in saved {
            let service = SERVICES.get(*service as usize).copied();
            if let (Some(service), Ok(socket)) = (service, fd::inherited(*socket)) {
                let name = String::from_utf8_lossy(name).into_owned();
                let file = SocketFile::resume(name.as_ref(), *file);
                self.inherited.push(Listener { service, socket, name, file });
            }
        }
    }

    /// All sockets have been asked for.
    pub fn settle(&mut self) {
        self.inherited.clear();
    }

    /// The socket of a client that waits, to be kept for it.
    pub fn descriptor_of(&self, client: u64) -> Option<i32> {
        let client = self.clients.iter().find(|known| known.id == client)?;
        Some(client.socket.as_raw_fd())
    }

    /// A client of the program in whose place we are, who is told `text`.
    pub fn tell(&mut self, client: i32, text: Vec<u8>, now: Instant) {
        let Ok(socket) = fd::inherited(client) else { return };
        self.last_id += 1;
        let (id, service, until) = (self.last_id, Service::Control, now + ANSWERING);
        if epoll::add(&self.events, &socket, epoll::EventData::new_u64(id), epoll::EventFlags::OUT).is_ok() {
            let answer = Some(Answer { text, sent: 0 });
            self.clients.push(Client {
                id,
                service,
                socket,
                until,
                question: Vec::new(),
                asked: true,
                answer,
            });
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

    /// Whether everybody who has come with a command was told, but for those who [wait](Self::wait).
    pub fn has_answered(&self) -> bool {
        let is_served =
            |client: &Client| client.service != Service::Control || (client.asked && client.answer.is_none());
        self.clients.iter().all(is_served)
    }

    /// When [`Server::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.until).chain(self.paused).min()
    }

    /// Gives up clients whose time is over.
    pub fn time(&mut self, now: Instant) {
        self.clients.retain(|client| client.until > now);
        if self.paused.is_some_and(|until| until <= now) {
            let all = (0..self.listeners.len()).all(|index| self.listen(index).is_ok());
            self.paused = if all { None } else { Some(now + PAUSE) };
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
                index if index < FIRST_CLIENT => questions.extend(self.accept(index as usize, now)),
                id => questions.extend(self.serve(id)),
            }
        }
        questions
    }

    /// A client's answer will take until then.
    pub fn wait(&mut self, client: u64, until: Instant) {
        if let Some(client) = self.clients.iter_mut().find(|known| known.id == client) {
            client.until = until;
        }
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

    /// Takes a client in. One that has nothing to ask has asked already.
    fn accept(&mut self, index: usize, now: Instant) -> Option<Question> {
        let listener = self.listeners.get(index)?;
        let service = listener.service;
        let socket = match accept_with(&listener.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => socket,
            // It has left already.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return None,
            Err(errno) => {
                // It would be ready again at once, for ever.
                let _ = epoll::delete(&self.events, &listener.socket);
                self.paused = Some(now + PAUSE);
                log!("accept a client at {}: {}", listener.name, Described(errno));
                return None;
            }
        };
        if service == Service::Control && !may_command(&socket) {
            return None;
        }
        self.last_id += 1;
        let (id, asked) = (self.last_id, service == Service::Stats);
        let wanted = if asked { epoll::EventFlags::empty() } else { epoll::EventFlags::IN };
        epoll::add(&self.events, &socket, epoll::EventData::new_u64(id), wanted).ok()?;
        if self.clients.len() == CLIENTS_MAX {
            let (index, least) = self.clients.iter().enumerate().min_by_key(|(_, client)| client.worth())?;
            if least.service == Service::Control && service != Service::Control {
                return None;
            }
            self.clients.remove(index);
        }
        let (until, text) = (now + ASKING, Vec::new());
        self.clients.push(Client { id, service, socket, until, question: text, asked, answer: None });
        asked.then(|| Question { client: id, service, text: Vec::new() })
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
                    let text = std::mem::take(&mut client.question);
                    return Some(Question { client: id, service: client.service, text });
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

/// How far a question has come.
enum Read {
    All,
    Part,
    Nonsense,
}

impl Client {
    /// Who makes room for a new client is the oldest of the least worth: whoever may only look makes room for commands, and
    /// of these one that has not been given yet for one that waits for its answer.
    fn worth(&self) -> (bool, bool) {
        let commands = self.service == Service::Control;
        (commands, commands && self.asked)
    }

    /// Reads on, until the question is complete.
    fn read(&mut self) -> Read {
        let mut buffer = [0; QUESTION_MAX];
        match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
            Ok((0, _)) => Read::All,
            Ok((count, _)) if self.question.len() + count <= QUESTION_MAX => {
                self.question.extend(buffer.iter().take(count));
                let has_ended = |end: &[u8]| self.question.windows(end.len()).any(|part| part == end);
                match self.service {
                    Service::Metrics if has_ended(b"\r\n\r\n") || has_ended(b"\n\n") => Read::All,
                    _ => Read::Part,
                }
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
        if self.sent < self.text.len() {
            return true;
        }
        // What was never asked for must not be left unread: TCP would take back the end of the answer.
        let _ = recv(socket, &mut [0; 4096], RecvFlags::empty());
        false
    }
}

/// Only root and our own user may command us. The socket's mode says so already; but it may have been changed, or the
/// connection may have been handed on.
fn may_command(socket: &OwnedFd) -> bool {
    match peer::of_connection(socket) {
        Ok(peer) if peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw() => true,
        Ok(peer) => {
            log!("control socket: uid {} may not command us: refused", peer.uid);
            let text = control::answer(Err("only root and the emperor's own user may command it".to_owned()));
            let _ = send(socket, &text, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            false
        }
        Err(_) => false,
    }
}
