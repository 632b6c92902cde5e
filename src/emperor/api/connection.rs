//! One client of the emperor's own sockets: it asks one question and gets one answer.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// A question is a word or two and the name of a file, or the head of a request.
const QUESTION_MAX: usize = 8192;

/// The purposes of the sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Commands; only root and the emperor's own user may use it. A question ends with the client's side of
    /// the connection.
    Control,
    /// uWSGI's JSON, for any client: there is nothing to ask.
    Stats,
    /// Metrics over HTTP. A question is the head of a request.
    Metrics,
    /// The lock on a directory. There is nothing to ask: who connects is sent a byte if the emperor is
    /// stopping.
    Lock,
}

impl Service {
    /// As log lines name its socket.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Stats => "stats",
            Self::Metrics => "metrics",
            Self::Lock => "lock",
        }
    }
}

/// A client that is connected.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) service: Service,
    pub(super) socket: OwnedFd,
    /// When it is given up.
    pub(super) until: Instant,
    stage: Stage,
}

/// How far a client is.
enum Stage {
    /// It has asked this much so far.
    Asking(Vec<u8>),
    /// Its question is complete, and not answered yet.
    Waiting,
    /// It takes its answer, of which so many bytes were sent.
    Answering { text: Vec<u8>, sent: usize },
}

/// The result of going on with a client that was ready.
pub(super) enum Progress {
    /// It goes on.
    Open,
    /// Its question is complete.
    Asked(Vec<u8>),
    /// It is to be closed: it has its answer, has left, or has sent too much.
    Over,
}

impl Connection {
    /// A client that was just accepted. A service that there is nothing to ask of has been asked already.
    pub(super) fn new(id: u64, service: Service, socket: OwnedFd, until: Instant) -> Self {
        let stage = if service == Service::Stats { Stage::Waiting } else { Stage::Asking(Vec::new()) };
        Self { id, service, socket, until, stage }
    }

    /// Whether its question is complete.
    pub(super) fn has_asked(&self) -> bool {
        !matches!(self.stage, Stage::Asking(_))
    }

    /// Whether it came with a command, and has not given it, or not taken the whole answer.
    pub(super) fn is_being_served(&self) -> bool {
        self.service == Service::Control && !matches!(self.stage, Stage::Waiting)
    }

    /// What it is worth when one of the clients has to make room: one that only looks is worth less than one
    /// with commands, and of these, one that has not given its command less than one that waits for the
    /// answer.
    pub(super) fn worth(&self) -> (bool, bool) {
        let commands = self.service == Service::Control;
        (commands, commands && self.has_asked())
    }

    /// From now on it is sent this answer.
    pub(super) fn answer(&mut self, text: Vec<u8>) {
        self.stage = Stage::Answering { text, sent: 0 };
    }

    /// Reads on, or sends on, without waiting.
    pub(super) fn go_on(&mut self) -> Progress {
        match &mut self.stage {
            Stage::Asking(question) => {
                let mut buffer = [0; QUESTION_MAX];
                match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                    // The end of the client's side is the end of its question.
                    Ok((0, _)) => self.asked(),
                    Ok((count, _)) if question.len() + count <= QUESTION_MAX => {
                        question.extend(buffer.iter().take(count));
                        if is_complete(question, self.service) { self.asked() } else { Progress::Open }
                    }
                    Err(Errno::AGAIN | Errno::INTR) => Progress::Open,
                    Ok(_) | Err(_) => Progress::Over,
                }
            }
            // It has left without waiting for its answer.
            Stage::Waiting => Progress::Over,
            Stage::Answering { text, sent } => send_on(&self.socket, text, sent),
        }
    }

    fn asked(&mut self) -> Progress {
        match std::mem::replace(&mut self.stage, Stage::Waiting) {
            Stage::Asking(question) => Progress::Asked(question),
            Stage::Waiting | Stage::Answering { .. } => Progress::Over,
        }
    }
}

/// Whether a question is complete before the client's side of the connection ends.
fn is_complete(question: &[u8], service: Service) -> bool {
    let has_ended = |end: &[u8]| question.windows(end.len()).any(|part| part == end);
    service == Service::Metrics && (has_ended(b"\r\n\r\n") || has_ended(b"\n\n"))
}

fn send_on(socket: &OwnedFd, text: &[u8], sent: &mut usize) -> Progress {
    match send(socket, text.get(*sent..).unwrap_or_default(), SendFlags::NOSIGNAL) {
        Ok(count) => *sent += count,
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(_) => return Progress::Over,
    }
    if *sent < text.len() {
        return Progress::Open;
    }
    // If bytes behind the question were left unread, TCP would reset the connection, and the client would
    // lose the end of the answer.
    let _ = recv(socket, &mut [0; 4096], RecvFlags::empty());
    Progress::Over
}
