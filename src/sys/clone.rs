//! `clone3(2)`: a new process, in new namespaces if required, with a pidfd from its first instant.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// `CLONE_INTO_CGROUP` (Linux 5.7).
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone3`] is running.
pub enum Side {
    /// The caller, with the child's pid and a pidfd on it (close-on-exec).
    Parent(Child),
    /// The new process.
    Child,
}

/// A process that was just created.
#[derive(Debug)]
pub struct Child {
    /// Its pid in the caller's pid namespace.
    pub pid: Pid,
    /// A handle that does not refer to a later process with the same number. `None` if the kernel has no
    /// pidfds (before Linux 5.3, and gVisor); until the child is reaped, its pid is as good.
    pub pidfd: Option<OwnedFd>,
}

/// Creates a process like `fork(2)`, in new namespaces according to `namespaces` (`CLONE_NEW*` bits).
///
/// The C library does not know about the child: musl keeps the parent's thread ID in it. So the child must
/// not call abort(3) or raise(3), which would signal the parent. It can call [`super::signal::abort`].
///
/// The child is a copy of the caller and may run any code, but must not return into the caller's main loop.
/// At its end the parent gets SIGCHLD.
///
/// If clone3 fails with ENOSYS or EPERM (seccomp filters that do not know it), or EINVAL (gVisor), clone(2)
/// is tried.
///
/// # Errors
/// As clone3(2): EPERM without CAP_SYS_ADMIN for namespaces, ENOSPC or EUSERS at a namespace limit, EAGAIN at
/// the process limit.
pub fn clone3(namespaces: u64) -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    Ok(match create(namespaces, libc::SIGCHLD, Some(&mut pidfd), None)? {
        None => Side::Child,
        Some(pid) => {
            // SAFETY: the kernel has either stored a new descriptor in `pidfd`, which nobody else owns, or
            // left the variable unchanged.
            let pidfd = unsafe { handle_of(pid, pidfd) };
            Side::Parent(Child { pid, pidfd })
        }
    })
}

/// As [`clone3`], with a child that ends unheard: there is no SIGCHLD, and wait(2) without `__WALL` does not
/// know of it.
///
/// # Errors
/// As [`clone3`].
pub fn clone3_unheard() -> Result<Side, Errno> {
    let mut pidfd: RawFd = -1;
    Ok(match create(0, 0, Some(&mut pidfd), None)? {
        None => Side::Child,
        // SAFETY: as in `clone3`.
        Some(pid) => Side::Parent(Child { pid, pidfd: unsafe { handle_of(pid, pidfd) } }),
    })
}

/// As [`clone3`], without a pidfd, with the child in another cgroup (version 2) from its first instant.
/// `flags` may have CLONE_FILES, too ([`super::low_numbers`]). Returns the pid of the child, and in the child
/// `None`.
///
/// # Errors
/// As [`clone3`]. ENOSYS without clone3, because clone(2) does not know cgroups. EBADF if the descriptor is
/// not a cgroup; EACCES, EBUSY, EOPNOTSUPP if the cgroup cannot have processes.
pub fn clone3_into(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Pid>, Errno> {
    create(flags, libc::SIGCHLD, None, cgroup)
}

fn create(
    flags: u64,
    at_end: i32,
    pidfd: Option<&mut RawFd>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<Pid>, Errno> {
    let into = if cgroup.is_some() { INTO_CGROUP } else { 0 };
    let with_pidfd = if pidfd.is_some() { flags | libc::CLONE_PIDFD as u64 } else { flags };
    let pidfd = pidfd.map_or(ptr::null_mut(), ptr::from_mut);
    let args = libc::clone_args {
        flags: with_pidfd | into,
        pidfd: pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: at_end as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a valid clone_args of the size passed and outlives the call. Without CLONE_VM the
    // child works on its own copy of the address space, and since there is one thread only, no other thread
    // can hold a lock in that copy. The raw clone takes a null stack for the present one, and stores the
    // pidfd through its third argument.
    let pid = unsafe {
        let mut pid = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>());
        if cgroup.is_none() && has_failed(pid, &[Errno::NOSYS, Errno::PERM, Errno::INVAL]) {
            let old = |flags: u64, pidfd: *mut RawFd| {
                libc::syscall(libc::SYS_clone, flags | at_end as u64, 0, pidfd, 0, 0)
            };
            pid = old(with_pidfd, pidfd);
            // gVisor refuses to make a pidfd. Older versions of it, and older kernels, ignore the flag.
            if has_failed(pid, &[Errno::INVAL]) {
                pid = old(flags, ptr::null_mut());
            }
        }
        pid
    };
    if pid < 0 { Err(last_errno()) } else { Ok(Pid::from_raw(pid as i32)) }
}

/// Whether a call that returned `result` has failed for one of these reasons.
fn has_failed(result: libc::c_long, reasons: &[Errno]) -> bool {
    result == -1 && reasons.contains(&last_errno())
}

/// The pidfd that clone has stored. It is -1 after clone(2) in a kernel that does not know CLONE_PIDFD and
/// ignores it.
///
/// # Safety
/// `stored` is -1, or a descriptor that nobody else owns.
unsafe fn handle_of(pid: Pid, stored: RawFd) -> Option<OwnedFd> {
    match stored {
        -1 => rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok(),
        // SAFETY: as the caller promises.
        stored => Some(unsafe { OwnedFd::from_raw_fd(stored) }),
    }
}

/// In a child of `parent`: has the kernel kill the child when the parent ends. If the parent has ended
/// already, the child exits here, because the kernel would send nothing.
///
/// # Errors
/// As prctl(2).
pub fn die_with(parent: Pid) -> Result<(), Errno> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // A child in a pid namespace of its own does not see its parent.
    if rustix::process::getppid().is_some_and(|now| now != parent) {
        exit(128 + libc::SIGKILL);
    }
    Ok(())
}

/// Ends a child of [`clone3`] that could not exec. Exit handlers of the parent are not run (_exit(2)).
pub fn exit(status: i32) -> ! {
    // SAFETY: a system call on a plain integer that does not return.
    unsafe { libc::_exit(status) }
}

/// The error of the system call that just failed.
pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_without_a_stored_handle_gets_one_or_none() {
        let own = rustix::process::getpid();
        // SAFETY: nothing was stored.
        let opened = unsafe { handle_of(own, -1) };
        assert_eq!(opened.is_some(), rustix::process::pidfd_open(own, PidfdFlags::empty()).is_ok());
        // SAFETY: as above.
        assert!(unsafe { handle_of(Pid::from_raw(i32::MAX).unwrap(), -1) }.is_none(), "no such process");
    }
}
