//! The messages of the app: over uWSGI's emperor protocol (`UWSGI_EMPEROR_FD`), or by sd_notify(3)
//! (`NOTIFY_SOCKET`). This file only reads them; others decide what to do.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::config::plan::{App, EnvChange, VassalPlan};
use crate::error::{Context, Result};
use crate::protocol::Announcement;
use crate::sys::peer::{self, Peer};

/// The variable with the descriptor number of the app's end of uWSGI's emperor protocol.
pub const EMPEROR_FD: &str = "UWSGI_EMPEROR_FD";
/// The variable with the socket of sd_notify(3).
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// How many messages are read at one wake-up, so that an app that sends without end does not keep PID 1 from
/// its other work.
const MESSAGES_PER_TURN: usize = 16;
/// The longest datagram of sd_notify; a longer one is cut off.
const DATAGRAM_MAX: usize = 2048;

/// The vassal's ends of both protocols, for one run of the app.
#[derive(Debug, Default)]
pub struct Listener {
    pipe: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    /// The user of the app.
    user: u32,
    /// Whether the app has begun to speak uWSGI's protocol. Only such an app also reads it; others may write
    /// that they are ready, and nothing else.
    speaks: bool,
}

/// The requests of uWSGI's protocol, each the byte that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop.
    Stop = 0,
    /// Read your configuration again.
    Reload = 1,
    /// Stop when the accepted requests are answered.
    StopGracefully = 2,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uWSGI's message {}", *self as u8)
    }
}

/// The first byte that an app sends over the protocol when it is up.
const SPEAKS: u8 = 1;

/// The app's ends of both protocols.
#[derive(Debug, Default)]
pub struct Offer {
    /// The descriptor that the app inherits.
    pub pipe: Option<OwnedFd>,
    /// The variables that the app gets.
    pub variables: Vec<(OsString, OsString)>,
}

/// Opens the protocols that the app may use, unless the plan sets or removes their variable (`env`, `unenv`).
/// uWSGI gets its own protocol only, as from its own emperor. The app runs as `user`, and its descriptor gets
/// the number `above` or a higher one.
///
/// # Errors
/// As socketpair(2) and socket(2).
pub fn open(plan: &VassalPlan, user: u32, above: i32) -> Result<(Listener, Offer)> {
    let wanted = |name: &str| {
        !plan.environment.iter().any(|change| match change {
            EnvChange::Set(known, _) | EnvChange::Unset(known) => known == name,
        })
    };
    let mut offer = Offer::default();
    let mut listener = Listener { user, ..Listener::default() };
    if wanted(EMPEROR_FD) {
        let flags = SocketFlags::CLOEXEC;
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (ours, theirs) = pair.context("create", EMPEROR_FD)?;
        let _ = peer::refuse_descriptors(&ours);
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, above).context("create", EMPEROR_FD)?;
        offer.variables.push((EMPEROR_FD.into(), theirs.as_raw_fd().to_string().into()));
        (listener.pipe, offer.pipe) = (Some(ours), Some(theirs));
    }
    if !matches!(plan.app, App::Uwsgi { .. }) && wanted(NOTIFY_SOCKET) {
        let (socket, name) = notify_socket().context("create", NOTIFY_SOCKET)?;
        offer.variables.push((NOTIFY_SOCKET.into(), name));
        listener.notify = Some(socket);
    }
    Ok((listener, offer))
}

/// A socket with an abstract name that the kernel chooses. The name is the same under every root directory,
/// and vanishes with this process. Every process of the network namespace can send to it, so the kernel is
/// asked for the sender of each message.
fn notify_socket() -> rustix::io::Result<(OwnedFd, OsString)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_passcred(&socket, true)?;
    let _ = peer::refuse_descriptors(&socket);
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(&socket)?)?;
    let name = address.abstract_name().ok_or(Errno::INVAL)?;
    Ok((socket, OsString::from_vec([b"@", name].concat())))
}

impl Listener {
    /// Readable when the app has sent something.
    pub fn descriptors(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [&self.pipe, &self.notify].map(|fd| fd.as_ref().map(AsFd::as_fd))
    }

    /// Sends the app a request. Returns `false` if the app does not speak the protocol.
    pub fn ask(&self, request: Request) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let pipe = self.pipe.as_ref().filter(|_| self.speaks);
        pipe.is_some_and(|pipe| rustix::net::send(pipe, &[request as u8], flags).is_ok())
    }

    /// The messages of the app since the last call. If there are too many for one wake-up, the next call
    /// returns the rest.
    pub fn news(&mut self) -> Vec<Announcement> {
        let mut news = Vec::new();
        if let Some(pipe) = &self.pipe {
            let mut bytes = [0; MESSAGES_PER_TURN];
            match rustix::net::recv(pipe, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((_, count @ 1..)) => {
                    let said = || bytes.iter().take(count).copied();
                    self.speaks |= said().any(|byte| byte == SPEAKS);
                    news.extend(said().filter_map(Announcement::of_byte));
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                // The app has closed its end, as a program does that does not know the protocol.
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
        let Some(socket) = &self.notify else { return news };
        // On the stack: memory for each turn would be mapped and unmapped by the kernel.
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..MESSAGES_PER_TURN {
            let Ok((length, sender)) = peer::receive(socket, &mut buffer) else { break };
            if sender.is_some_and(|sender| is_ours(sender, self.user)) {
                let lines = buffer.split_at(length.min(DATAGRAM_MAX)).0.split(|&byte| byte == b'\n');
                news.extend(lines.filter_map(Announcement::of_line));
            }
        }
        news
    }
}

/// Whether a process belongs to the vassal. In a pid namespace the kernel tells no number for a process
/// outside. Elsewhere the user decides: a sender such as systemd-notify(1) has often ended by now, and its
/// parent is no longer known.
fn is_ours(sender: Peer, user: u32) -> bool {
    if rustix::process::getpid().is_init() { sender.pid != 0 } else { [0, user].contains(&sender.uid) }
}
