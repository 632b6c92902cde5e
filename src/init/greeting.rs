//! The greeting: the first messages of the emperor to a vassal over the link.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use crate::error::{Context, Error, Result};
use crate::files;
use crate::outside;
use crate::protocol::{self, Hello, KeptSocket, LINK_VARIABLE, Received, ToVassal};
use crate::running_time;
use crate::sys::fd;

/// The emperor sends the greeting before it creates the vassal. If it has not come after this time, it never
/// will.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The content of the greeting.
pub struct Greeting {
    /// The message itself.
    pub hello: Hello,
    /// The content of the vassal's file.
    pub text: Vec<u8>,
    /// Sockets of an earlier instance.
    pub kept: Vec<KeptSocket>,
}

/// Takes over the link, whose number the emperor has put into the environment. All other open descriptors are
/// closed, because one of them could give the jail access to something of the host.
///
/// # Errors
/// There is no such descriptor.
pub fn take_link(number: &str) -> Result<OwnedFd> {
    let number = number.parse().map_err(|_| bad("not a number"))?;
    let link = fd::inherited(number).context("take the emperor's link from", LINK_VARIABLE)?;
    fd::keep_only(link).context("keep only", "the emperor's link")
}

/// Waits for the greeting and reads it.
///
/// # Errors
/// The greeting does not come in time or is of another version, or the vassal's file cannot be read.
pub fn read(link: &OwnedFd) -> Result<Greeting> {
    let deadline = running_time::now() + TIMEOUT;
    loop {
        match protocol::receive(link).context("read", "the emperor's link")? {
            Received::Packet(packet, Some(file)) => {
                let Some(ToVassal::Hello(hello)) = ToVassal::decode(&packet) else {
                    return Err(bad("its first message is no greeting of this version"));
                };
                let text = files::read_all(file).context("read", hello.path.display())?;
                if hello.namespaces & libc::CLONE_NEWUSER as u64 != 0 {
                    outside::ask_over(next_outside(link));
                }
                // The sockets follow the greeting directly.
                let kept = (0..hello.kept).map_while(|_| next_kept(link)).collect();
                return Ok(Greeting { hello, text, kept });
            }
            Received::Packet(_, None) => return Err(bad("its first message carries no file")),
            Received::Closed => return Err(bad("the emperor is gone")),
            Received::Nothing => {}
        }
        if deadline <= running_time::now() {
            return Err(bad("no greeting came"));
        }
        let mut fds = [PollFd::from_borrowed_fd(link.as_fd(), PollFlags::IN)];
        // ENOMEM is a wake-up without news.
        let _ = running_time::poll(&mut fds, Some(deadline));
    }
}

fn next_kept(link: &OwnedFd) -> Option<KeptSocket> {
    let Ok(Received::Packet(packet, Some(fd))) = protocol::receive(link) else { return None };
    match ToVassal::decode(&packet) {
        Some(ToVassal::Kept(id)) => Some(KeptSocket { id, fd, is_lent: false }),
        Some(ToVassal::Lent(id)) => Some(KeptSocket { id, fd, is_lent: true }),
        _ => None,
    }
}

fn next_outside(link: &OwnedFd) -> Option<OwnedFd> {
    let Ok(Received::Packet(packet, Some(socket))) = protocol::receive(link) else { return None };
    (ToVassal::decode(&packet) == Some(ToVassal::Outside)).then_some(socket)
}

fn bad(why: &str) -> Error {
    Error::new("take the emperor's link from", LINK_VARIABLE, why)
}
