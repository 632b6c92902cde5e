//! Packets on the link, sent and received without blocking.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recv,
};

use super::wire::PACKET_MAX;

/// Sends one packet, with a descriptor if given. Never blocks, and never raises SIGPIPE.
///
/// # Errors
/// EAGAIN if the peer does not read; EPIPE or ECONNRESET if it is gone (send(2)).
pub fn send(link: impl AsFd, packet: &[u8], fd: Option<&OwnedFd>) -> Result<(), Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(link, &[IoSlice::new(packet)], &mut control, flags).map(drop)
}

/// The result of [`receive`].
#[derive(Debug)]
pub enum Received {
    /// A packet, with the descriptor that came with it.
    Packet(Vec<u8>, Option<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The peer has closed its end or died.
    Closed,
}

/// Takes the next packet from the link without blocking.
///
/// A packet larger than any message is cut off here and refused by the decoder.
///
/// # Errors
/// ENOMEM and the like (recv(2)). A connection that was reset is [`Received::Closed`].
pub fn receive(link: impl AsFd) -> Result<Received, Errno> {
    // Its length is asked for first. With room for the largest packet, the C library would have to map and
    // unmap memory for each, and for finding that there is none.
    let asks = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
    let mut length = recv(&link, &mut [0; 0], asks);
    if let Err(Errno::CONNRESET) = length {
        // The peer has closed without reading a packet of ours. The kernel reports that once, before the
        // peer's last packets.
        length = recv(&link, &mut [0; 0], asks);
    }
    let length = match length {
        Ok((_, 0)) | Err(Errno::CONNRESET) => return Ok(Received::Closed),
        Ok((_, length)) => length,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
        Err(errno) => return Err(errno),
    };
    let mut buffer = vec![0; length.min(PACKET_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [std::io::IoSliceMut::new(&mut buffer)];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let bytes = rustix::net::recvmsg(&link, &mut iov, &mut control, flags)?.bytes;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    buffer.truncate(bytes);
    Ok(Received::Packet(buffer, fd))
}
