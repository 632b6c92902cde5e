//! Descriptors: takes over inherited ones, closes unwanted ones.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fs::{Mode, OFlags, RawDir};
use rustix::io::{Errno, retry_on_intr};

use super::clone::last_errno;

/// Takes over a descriptor that this process was started with, by the number that the starter has given.
///
/// # Errors
/// EBADF if there is no such descriptor.
pub fn inherited(fd: RawFd) -> Result<OwnedFd, Errno> {
    if !is_open(fd) {
        return Err(Errno::BADF);
    }
    // SAFETY: the descriptor is open, and by agreement with the starter this process owns it: no other code
    // here uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether there is a descriptor of this number.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Changes the mode of an open file, which may have been opened with O_PATH (fchmodat2(2)).
///
/// # Errors
/// ENOSYS before Linux 6.6.
pub fn chmod(fd: impl AsFd, mode: u32) -> Result<(), Errno> {
    /// The number is the same on all architectures.
    const FCHMODAT2: libc::c_long = 452;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: a live descriptor, an empty path, and plain integers.
    match unsafe { libc::syscall(FCHMODAT2, fd, c"".as_ptr(), mode, libc::AT_EMPTY_PATH) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// The network namespace in which a socket was created.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in that namespace.
pub fn network_of(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    opened_by(socket, libc::SIOCGSKNS)
}

/// The file that a unix socket is bound to, whatever its name is now, as if opened with O_PATH.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN; before Linux 4.14, and in gVisor, the request does not exist.
pub fn file_of(socket: impl AsFd) -> Result<OwnedFd, Errno> {
    const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
    opened_by(socket, SIOCUNIXFILE)
}

/// The descriptor that a request to a socket opens.
fn opened_by(socket: impl AsFd, request: libc::c_ulong) -> Result<OwnedFd, Errno> {
    // SAFETY: a live descriptor, and a request without an argument.
    match unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request as _) } {
        -1 => Err(last_errno()),
        // SAFETY: the kernel has just opened it for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Whether a listening socket was shut down (shutdown(2)). A process that shares the socket can do that,
/// after which no client can connect.
pub fn is_shut_down(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok_and(|shut| shut > 0)
}

/// Closes every descriptor except the standard ones and `kept`, which may get another number.
///
/// # Errors
/// As dup(2).
pub fn keep_only(kept: OwnedFd) -> Result<OwnedFd, Errno> {
    const NUMBER: RawFd = 3;
    let old = kept.into_raw_fd();
    // SAFETY: this function owns `old`; dup3 gives it `NUMBER`, closing the descriptor there. Nothing in this
    // process uses a higher descriptor after this call: the caller is a child process that starts on new
    // work.
    unsafe {
        if old != NUMBER && libc::dup3(old, NUMBER, libc::O_CLOEXEC) == -1 {
            return Err(last_errno());
        }
        close_range(NUMBER + 1, RawFd::MAX, 0);
        Ok(OwnedFd::from_raw_fd(NUMBER))
    }
}

/// Sets or clears the close-on-exec flag of a descriptor that other code owns. Nothing happens if the number
/// is not open.
pub fn set_cloexec(fd: RawFd, cloexec: bool) {
    // SAFETY: F_SETFD changes a flag of whatever the number refers to, and nothing in memory.
    unsafe { libc::fcntl(fd, libc::F_SETFD, if cloexec { libc::FD_CLOEXEC } else { 0 }) };
}

/// Closes every descriptor from `first` up, in a child that no longer uses them.
pub fn close_from(first: RawFd) {
    // SAFETY: by the contract, none of them is used.
    unsafe { close_range(first, RawFd::MAX, 0) }
}

/// Closes every descriptor except for the standard ones and `kept`, in a child that no longer uses them.
/// Allocates nothing.
pub fn close_all_but<const COUNT: usize>(mut kept: [RawFd; COUNT]) {
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        // SAFETY: by the contract, none of them is used.
        unsafe { close_range(first, fd - 1, 0) };
        first = fd + 1;
    }
    close_from(first);
}

/// Closes every descriptor except the standard ones. The caller must own none.
pub fn close_inherited() {
    close_from(3);
}

/// Marks every descriptor from `first` up as close-on-exec.
pub fn cloexec_from(first: RawFd) {
    // SAFETY: no descriptor is closed, only flagged.
    unsafe { close_range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) }
}

/// The descriptors that this process was started with, except for the standard ones. They are meant for a
/// child, and this process does not use them.
#[derive(Debug)]
pub enum Inherited {
    /// All that are open, because this process opens none of its own.
    All,
    /// These.
    Listed(Vec<RawFd>),
}

impl Inherited {
    /// Lists them, before this process opens a descriptor of its own.
    pub fn list() -> Self {
        let listed = || {
            // The list contains the directory itself, which is closed again.
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
            each_open(3, RawFd::MAX, &mut |fd| open.push(fd));
            open
        });
        all.retain(|&fd| fd > 2 && is_open(fd));
        Self::Listed(all)
    }

    /// Removes a descriptor from the list, because this process takes it over.
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
                // SAFETY: by agreement nothing in this process uses it. It was open all the time, so no
                // descriptor opened by this process can have its number.
                unsafe { libc::close(fd) };
            }),
        }
    }
}

/// Calls close_range(2) from `first` to `last`.
///
/// Seccomp filters that do not know the call answer ENOSYS or EPERM, and without `/proc` the open descriptors
/// cannot be listed. So poll(2) finds them then.
///
/// # Safety
/// Unless `flags` asks for the close-on-exec flag only, no code may use these descriptors any more.
unsafe fn close_range(first: RawFd, last: RawFd, flags: i32) {
    // SAFETY: plain integers. The caller answers for the descriptors.
    if first > last || unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } == 0 {
        return;
    }
    each_open(first, last, &mut |fd| {
        // SAFETY: as above.
        unsafe {
            match flags {
                0 => libc::close(fd),
                _ => libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC),
            }
        };
    });
}

/// Calls `visit` with every descriptor from `first` to `last`. poll(2) tells which are open, many at once.
fn each_open(first: RawFd, last: RawFd, visit: &mut dyn FnMut(RawFd)) {
    const BATCH: RawFd = 256;
    // Far more than the default limit of a process (fs.nr_open).
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = limit.map_or(1 << 20, |limit| limit.min(1 << 20)) as RawFd;
    let limit = limit.min(last.saturating_add(1));
    for batch in (first..limit).step_by(BATCH as usize) {
        let mut fds = [libc::pollfd { fd: -1, events: 0, revents: 0 }; BATCH as usize];
        for (fd, entry) in (batch..).zip(&mut fds) {
            entry.fd = if fd < limit { fd } else { -1 };
        }
        // SAFETY: a live array of the length passed; with the time 0 it does not wait.
        unsafe { libc::poll(fds.as_mut_ptr(), BATCH as _, 0) };
        let open = fds.iter().filter(|entry| entry.fd >= 0 && entry.revents & libc::POLLNVAL == 0);
        open.for_each(|entry| visit(entry.fd));
    }
}

/// Opens those of the standard descriptors that are closed, so that no other file gets their numbers. With
/// `is_ours`, a program that is executed finds them closed again.
pub fn fill_standard(is_ours: bool) {
    for fd in 0..3 {
        if !is_open(fd) {
            let null = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty());
            // Without a /dev: a descriptor that can be neither read nor written.
            let _ = null.or_else(|_| epoll::create(epoll::CreateFlags::CLOEXEC)).map(IntoRawFd::into_raw_fd);
            set_cloexec(fd, is_ours);
        }
    }
}

/// Opens a file anew for writing that does not block. Other processes have the description of `fd`, and may
/// expect it to block.
///
/// # Errors
/// open(2): EACCES for a file of another user, ENOENT without `/proc`.
pub fn open_nonblocking(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty())
}

/// If standard output or error is a terminal, replaces it by a descriptor that can only be written, so that a
/// process that inherits it cannot read what is typed. A terminal that cannot be opened again belongs to
/// another user, and is left as it is.
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

/// In a child before its exec: makes `number` a copy of `fd`, closing the descriptor there.
///
/// # Errors
/// EBADF for a number above the limit (dup2(2)).
pub fn place(fd: impl AsFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: the descriptor at `number` is closed. Its owner in this process is a copy that ends with the
    // exec or with the child, and no longer uses it.
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
