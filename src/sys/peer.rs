//! The process at the other end of a socket: its pid and user, which the kernel guarantees. (rustix declares
//! the pid as never 0. But it is 0 for a process outside of this pid namespace, which would be undefined
//! behaviour.)
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;

use super::clone::last_errno;

/// Room for one `SCM_CREDENTIALS` message only. Descriptors in the same message find no room, and the kernel
/// closes them.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    credentials: libc::ucred,
}

/// The process at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The pid as seen by this process; 0 for a process outside of its pid namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
}

/// The process that connected (SO_PEERCRED, unix(7)).
///
/// # Errors
/// As getsockopt(2).
pub fn of_connection(socket: impl AsFd) -> Result<Peer, Errno> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a live descriptor, and a ucred with its length, which the kernel fills in.
    let result = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        let value = (&raw mut credentials).cast();
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, value, &raw mut length)
    };
    match result {
        0 => Ok(Peer { pid: credentials.pid, uid: credentials.uid }),
        _ => Err(last_errno()),
    }
}

/// From now on nobody can send descriptors to this unix socket, or to the sockets that it accepts. This
/// process would close the descriptors, and to close a TCP socket may take as long as the sender likes
/// (SO_LINGER, socket(7)). What was sent before stays, so this is called before others know the socket.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.16; EOPNOTSUPP if it is no unix socket.
pub fn refuse_descriptors(socket: impl AsFd) -> Result<(), Errno> {
    /// The number is the same on all supported architectures.
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let length = size_of_val(&off) as libc::socklen_t;
    // SAFETY: a live descriptor, and an int with its length.
    let result = unsafe {
        let value = (&raw const off).cast();
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, value, length)
    };
    match result {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Takes the next datagram from a socket with `SO_PASSCRED`, without waiting. Returns its length, and its
/// sender if the kernel knows it.
///
/// # Errors
/// EAGAIN if there is none (recvmsg(2)).
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(usize, Option<Peer>), Errno> {
    // SAFETY: both are plain numbers and pointers, for which all zero is a value.
    let (mut control, mut message) = unsafe { std::mem::zeroed::<(Control, libc::msghdr)>() };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>() as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` points to the buffer, the vector and the control block, with their lengths; all
    // outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let Ok(count) = usize::try_from(count) else { return Err(last_errno()) };
    let is_credentials =
        control.header.cmsg_level == libc::SOL_SOCKET && control.header.cmsg_type == libc::SCM_CREDENTIALS;
    let libc::ucred { pid, uid, .. } = control.credentials;
    Ok((count, is_credentials.then_some(Peer { pid, uid })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_connection_has_a_peer() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = of_connection(&one).unwrap();
        let own = (std::process::id() as i32, rustix::process::geteuid().as_raw());
        assert_eq!((peer.pid, peer.uid), own);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(of_connection(file), Err(Errno::NOTSOCK));
    }
}
