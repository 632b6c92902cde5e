//! Descriptors: inherited ones taken over, unwanted ones closed.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, retry_on_intr};

use super::clone::last_errno;

/// Takes over a descriptor that this process was started with, and whose number its starter has named.
///
/// # Errors
/// EBADF if there is no such descriptor.
pub fn inherited(fd: RawFd) -> Result<OwnedFd, Errno> {
    if !is_open(fd) {
        return Err(Errno::BADF);
    }
    // SAFETY: the descriptor is open, and by the contract with the starter it is ours alone: no code in this
    // process opened it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether there is a descriptor of this number.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Changes the mode of what a descriptor stands for, also one that was opened with O_PATH (fchmodat2(2)).
///
/// # Errors
/// ENOSYS before Linux 6.6.
pub fn chmod(fd: impl AsFd, mode: u32) -> Result<(), Errno> {
    /// The same on all machines.
    const FCHMODAT2: libc::c_long = 452;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: a live descriptor, an empty path, and plain integers.
    match unsafe { libc::syscall(FCHMODAT2, fd, c"".as_ptr(), mode, libc::AT_EMPTY_PATH) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The network namespace that a socket was made in.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN there.
pub fn network_of(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    opened_by(socket, libc::SIOCGSKNS)
}

/// The file that a unix socket is bound to, whatever name it has by now, as by O_PATH.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; before Linux 4.14, and in gVisor, there is no such request.
pub fn file_of(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
    opened_by(socket, SIOCUNIXFILE)
}

/// What a request to a socket opens.
fn opened_by(socket: impl AsFd, request: libc::c_ulong) -> Result<OwnedFd, Errno> {
    // SAFETY: a live descriptor, and a request without an argument.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request as _) } {
        -1 => Err(last_errno()),
        // SAFETY: the kernel has just opened it for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Whether a listening socket was shut down (shutdown(2)). A process that shares the socket can do that, and
/// no client can connect from then on.
pub fn is_shut_down(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|shut| shut > 0)
}

/// Closes every descriptor but the standard ones and `kept`, which may get another number.
///
/// # Errors
/// As dup(2).
pub fn keep_only(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    const NUMBER: RawFd = 3;
    let old = kept.into_raw_fd();
    // SAFETY: `old` is ours; dup3 gives us `NUMBER`, closing what was there. Nothing in this process uses a
    // descriptor above it after this call: its caller starts a new life in a child process.
    unsafe {
        if old != NUMBER && libc::dup3(old, NUMBER, libc::O_CLOEXEC) == -1 {
            return Err(last_errno());
        }
        close_range(NUMBER + 1, 0);
        Ok(OwnedFd::from_raw_fd(NUMBER))
    }
}

/// Sets or clears the close-on-exec flag of a descriptor that other code owns. A number that is not open is
/// left alone.
pub fn set_cloexec(fd: RawFd, cloexec: bool) {
    // SAFETY: F_SETFD changes a flag of whatever the number refers to, and nothing in memory.
    unsafe { libc::fcntl(fd, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC } else { 0 }) };
}

/// Closes every descriptor from `first` up, in a child that uses none of them any more.
pub fn close_from(first: RawFd) {
    // SAFETY: by the contract, none of them is used.
    unsafe { close_range(first, 0) }
}

/// Closes every descriptor but the standard ones. The caller must not have any.
pub fn close_inherited() {
    close_from(3);
}

/// Marks every descriptor from `first` up as close-on-exec.
pub fn cloexec_from(first: RawFd) {
    // SAFETY: no descriptor is closed, only flagged.
    unsafe { close_range(first, libc::CLOSE_RANGE_CLOEXEC as i32) }
}

/// The descriptors that this process was started with, but for the standard ones: they are for a child, and
/// this process neither knows nor uses them.
#[derive(Debug)]
pub enum Inherited {
    /// All that are open: this process opens none.
    All,
    /// These.
    Listed(Vec<RawFd>),
}

impl Inherited {
    /// Before this process has opened one of its own.
    pub fn list() -> Self {
        let listed = || {
            // The directory itself is among them, and closed again.
            let directory =
                rustix::fs::open(c"/proc/self/fd", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let mut buffer = [MaybeUninit::uninit(); 2048];
            let mut entries = RawDir::new(directory.ok()?, &mut buffer);
            let mut numbers = Vec::new();
            while let Some(Ok(entry)) = entries.next() {
                numbers.extend(entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()));
            }
            Some(numbers)
        };
        let mut all: Vec<RawFd> = listed().unwrap_or_else(|| {
            let mut open = Vec::new();
            each_open(3, |fd| open.push(fd));
            open
        });
        all.retain(|&fd| fd > 2 && is_open(fd));
        Self::Listed(all)
    }

    /// This one is taken over.
    pub fn without(mut self, fd: RawFd) -> Self {
        if let Self::Listed(all) = &mut self {
            all.retain(|&known| known != fd);
        }
        self
    }

    /// Closes them, once the child has its copies.
    pub fn close(self) {
        match self {
            Self::All => close_inherited(),
            Self::Listed(all) => all.into_iter().for_each(|fd| {
                // SAFETY: by the contract, nothing in this process uses it; and as it was open all the time,
                // nothing that this process has opened can have its number.
                unsafe { libc::close(fd) };
            }),
        }
    }
}

/// close_range(2) from `first` to the last one.
///
/// Seccomp filters that do not know it answer ENOSYS or EPERM, and `/proc` may not be there to list what is
/// open.
///
/// # Safety
/// Unless `flags` says that they are only flagged, nobody may use them any more.
unsafe fn close_range(first: RawFd, flags: i32) {
    // SAFETY: plain integers; the descriptors are the caller's business.
    if unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) } == 0 {
        return;
    }
    each_open(first, |fd| {
        // SAFETY: as above.
        unsafe {
            match flags {
                0 => libc::close(fd),
                _ => libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC),
            }
        };
    });
}

/// Calls `visit` with every descriptor from `first` up. poll(2) tells which are open, for many at once.
fn each_open(first: RawFd, mut visit: impl FnMut(RawFd)) {
    const BATCH: RawFd = 256;
    // Far more than a process may have by default (fs.nr_open).
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = limit.map_or(1 << 20, |limit| limit.min(1 << 20)) as RawFd;
    for batch in (first..limit).step_by(BATCH as usize) {
        let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; BATCH as usize];
        for (fd, entry) in (batch..).zip(&mut fds) {
            entry.fd = fd;
        }
        // SAFETY: a live array of the length passed; with the time 0 it does not wait.
        unsafe { libc::poll(fds.as_mut_ptr(), BATCH as _, 0) };
        let open = fds.iter().filter(|entry| entry.revents & libc::POLLNVAL == 0);
        open.for_each(|entry| visit(entry.fd));
    }
}

/// Occupies those of the standard descriptors that are closed, so that nothing else gets their numbers. With
/// `is_ours`, a program that is executed finds them closed again.
pub fn fill_standard(is_ours: bool) {
    for fd in 0..3 {
        if !is_open(fd) {
            let null = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty());
            // Without a /dev, a descriptor that can be neither read nor written.
            let _ = null.or_else(|_| epoll::create(epoll::CreateFlags::CLOEXEC)).map(IntoRawFd::into_raw_fd);
            set_cloexec(fd, is_ours);
        }
    }
}

/// Opens the terminals anew that are standard output or error, to be written to alone: who inherits them is
/// not to read what is typed there. One that cannot be opened again is of somebody else, and left as it is.
pub fn make_terminals_write_only() {
    for number in 1..3 {
        // SAFETY: a number, for which this asks the kernel.
        if unsafe { libc::isatty(number) } == 1
            && let Ok(output) = rustix::fs::open(
                format!("/proc/self/fd/{number}"),
                OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        {
            let _ = place(output, number);
        }
    }
}

/// Writes all of `text`.
///
/// # Errors
/// As write(2).
pub fn write_all(fd: BorrowedFd<'_>, text: &[u8]) -> Result<(), Errno> {
    let mut rest = text;
    while !rest.is_empty() {
        let written = retry_on_intr(|| rustix::io::write(fd, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// In a child about to exec: makes `number` a copy of `fd`. What was open at that number is closed.
///
/// # Errors
/// EBADF for a number beyond the limit (dup2(2)).
pub fn place(fd: impl AsFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: what was at `number` is closed. Its owner in this process is a copy that ends with the exec, or
    // with the child, and touches it no more.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } == -1 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Stat, fstat, stat};
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_file_of_a_socket_is_no_other_that_has_its_name_by_now() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let [ours, _other] = ["ours", "other"].map(|name| UnixListener::bind(at(name)).unwrap());
        std::fs::rename(at("ours"), at("moved")).unwrap();
        std::fs::rename(at("other"), at("ours")).unwrap();
        let file = fstat(file_of(&ours).unwrap()).unwrap();
        let id = |file: &Stat| (file.st_dev, file.st_ino);
        assert_eq!(id(&file), id(&stat(at("moved")).unwrap()));
    }
}
