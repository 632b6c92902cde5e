//! A client of the emperor's own sockets, which asks one question and gets one answer.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// The longest question: a word or two and the name of a file, or the head of an HTTP request.
const QUESTION_MAX: usize = 8192;

/// The services, each with sockets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Commands. Only root and the emperor's own user may use it. A question ends when the client shuts down
    /// its side of the connection.
    Control,
    /// uWSGI's JSON, for any client, without a question.
    Stats,
    /// Metrics over HTTP. A question is the head of an HTTP request.
    Metrics,
    /// The lock on a directory, without a question. A client gets a byte if the emperor is stopping.
    Lock,
}

impl Service {
    /// The name of the service in log lines.
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
    /// When the connection is closed, however far the client is.
    pub(super) until: Instant,
    stage: Stage,
}

/// How far a client has come.
enum Stage {
    /// It is asking; this is the question so far.
    Asking(Vec<u8>),
    /// Its question is complete, and not answered yet.
    Waiting,
    /// It takes its answer, of which `sent` bytes were sent.
    Answering { text: Vec<u8>, sent: usize },
}

/// The result of serving a client that was ready.
pub(super) enum Progress {
    /// The connection stays open.
    Open,
    /// Its question is complete.
    Asked(Vec<u8>),
    /// The connection can be closed: the client has its answer, has left, or has sent too much.
    Over,
}

impl Connection {
    /// A client that was just accepted. For a service without a question, its question is complete.
    pub(super) fn new(id: u64, service: Service, socket: OwnedFd, until: Instant) -> Self {
        let stage = if service == Service::Stats { Stage::Waiting } else { Stage::Asking(Vec::new()) };
        Self { id, service, socket, until, stage }
    }

    /// Whether its question is complete.
    pub(super) fn has_asked(&self) -> bool {
        !matches!(self.stage, Stage::Asking(_))
    }

    /// Whether the client uses the command socket, and has not sent its command or not taken the whole
    /// answer.
    pub(super) fn is_being_served(&self) -> bool {
        self.service == Service::Control && !matches!(self.stage, Stage::Waiting)
    }

    /// The client's worth when one has to make room. A client without commands is worth less than one of the
    /// command socket; of these, one that has not sent its command is worth less than one that waits for the
    /// answer.
    pub(super) fn worth(&self) -> (bool, bool) {
        let commands = self.service == Service::Control;
        (commands, commands && self.has_asked())
    }

    /// Sends the client this answer from now on.
    pub(super) fn answer(&mut self, text: Vec<u8>) {
        self.stage = Stage::Answering { text, sent: 0 };
    }

    /// Reads or sends more, without waiting.
    pub(super) fn go_on(&mut self) -> Progress {
        match &mut self.stage {
            Stage::Asking(question) => {
                let mut buffer = [0; QUESTION_MAX];
                match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                    // The question ends when the client shuts down its side.
                    Ok((0, _)) => self.asked(),
                    Ok((count, _)) if question.len() + count <= QUESTION_MAX => {
                        question.extend(buffer.iter().take(count));
                        if is_complete(question, self.service) { self.asked() } else { Progress::Open }
                    }
                    Err(Errno::AGAIN | Errno::INTR) => Progress::Open,
                    Ok(_) | Err(_) => Progress::Over,
                }
            }
            // The client has left without waiting for its answer.
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

/// Whether a question is complete before the client shuts down its side of the connection.
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
