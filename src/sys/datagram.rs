//! Datagrams with the sender's pid and user, vouched for by the kernel. (rustix takes the pid for one that is never 0; it is 0 for
//! a sender outside our pid namespace.)
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// Room for one `SCM_CREDENTIALS` message and no more: descriptors that come along find none, and the kernel closes them.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    credentials: libc::ucred,
}

/// Who sent a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Its pid as seen from here, 0 for one outside our pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// Takes the next datagram off a socket with `SO_PASSCRED` without waiting: its length, and its sender if the kernel knows.
///
/// # Errors
/// AGAIN while there is none (recvmsg(2)).
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Option<Sender>), Errno> {
    // SAFETY: both are plain numbers and pointers, for which all zero is a value.
    let (mut control, mut message) = unsafe { std::mem::zeroed::<(Control, libc::msghdr)>() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points to the buffer, the vector and the control block, with their lengths; all outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(count) = usize::try_from(count) else { return Err(last_errno()) };
    let is_credentials =
        control.header.cmsg_level == libc::SOL_SOCKET && control.header.cmsg_type == libc::SCM_CREDENTIALS;
    let libc::ucred { pid, uid, .. } = control.credentials;
    Ok((count, is_credentials.then_some(Sender { pid, uid })))
}
