//! `clone3(2)`: a new process, in new namespaces if required, with a pidfd from its first instant.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// `CLONE_INTO_CGROUP` (Linux 5.7).
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Enough stack for a child of [`vfork`].
const STACK_SIZE: usize = 32 << 10;

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

/// As [`clone3_into`], with a child that shares the caller's memory until it executes a program or ends. The
/// caller sleeps meanwhile, as with vfork(2). To copy the memory would take time in proportion to what the
/// caller has: for an emperor with 10,000 vassals half a millisecond, and as much at the exec.
///
/// The child runs `life`, whose result is its exit status. It must not wait for a filesystem or for another
/// process, nor close a file of a filesystem that may hang: nothing wakes the caller up meanwhile
/// ([`super::spawn`] is for that). It stays in the caller's cgroup, where what stops it or kills it does so
/// to the caller. It may allocate memory.
///
/// # Errors
/// As [`clone3_into`], and ENOSYS, EPERM, EINVAL without clone3, for which clone(2) is not tried.
pub fn vfork<F: FnMut() -> i32>(flags: u64, mut life: F) -> Result<Pid, Errno> {
    extern "C" fn child<F: FnMut() -> i32>(life: *mut c_void) -> ! {
        // SAFETY: this is the `life` below, whose owner sleeps while it is used.
        exit(unsafe { (*life.cast::<F>())() })
    }
    let mut stack = MaybeUninit::<[u128; STACK_SIZE / size_of::<u128>()]>::uninit();
    let args = libc::clone_args {
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: STACK_SIZE as u64,
        ..arguments(flags | (libc::CLONE_VM | libc::CLONE_VFORK) as u64, None)
    };
    // SAFETY: `args`, `stack` and `life` outlive the call, at whose end the child does not use this memory
    // any more. For the caller it is as if it had called `life` itself. The child does not touch the caller's
    // stack, and has its own descriptors (but for CLONE_FILES), signal dispositions and working directory.
    let pid = unsafe { start_on_stack(&args, child::<F>, (&raw mut life).cast()) };
    if pid < 0 {
        Err(Errno::from_raw_os_error(-pid as i32))
    } else {
        Pid::from_raw(pid as i32).ok_or(Errno::INVAL)
    }
}

/// clone3(2) with a child that calls `life` with its argument on the stack of `args`. Returns the pid, or the
/// number of the error, negative.
///
/// # Safety
/// As clone3(2): `args` is valid, and what the child uses stays valid for as long as it does.
unsafe fn start_on_stack(
    args: &libc::clone_args,
    life: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> libc::c_long {
    let result: libc::c_long;
    // SAFETY: as the caller promises. The kernel keeps all registers but those named, in the child too, whose
    // stack is empty and aligned. The child does not come back.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, {argument}",
            "call {life}",
            "ud2",
            "2:",
            life = in(reg) life,
            argument = in(reg) argument,
            in("rdi") args,
            in("rsi") size_of::<libc::clone_args>(),
            inout("rax") libc::SYS_clone3 => result,
            out("rcx") _,
            out("r11") _,
        );
        #[cfg(target_arch = "aarch64")]
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x0, {argument}",
            "blr {life}",
            "brk 1",
            "2:",
            life = in(reg) life,
            argument = in(reg) argument,
            in("x8") libc::SYS_clone3,
            in("x1") size_of::<libc::clone_args>(),
            inout("x0") args as *const libc::clone_args as libc::c_long => result,
        );
    }
    result
}

/// The arguments of clone3(2) without what follows from them.
fn arguments(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> libc::clone_args {
    let into = if cgroup.is_some() { INTO_CGROUP } else { 0 };
    libc::clone_args {
        flags: flags | into,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    }
}

fn create(
    flags: u64,
    at_end: i32,
    pidfd: Option<&mut RawFd>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<Pid>, Errno> {
    let with_pidfd = if pidfd.is_some() { flags | libc::CLONE_PIDFD as u64 } else { flags };
    let pidfd = pidfd.map_or(ptr::null_mut(), ptr::from_mut);
    let args =
        libc::clone_args { pidfd: pidfd as u64, exit_signal: at_end as u64, ..arguments(with_pidfd, cgroup) };
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
    use rustix::process::{WaitOptions, getpid, setsid, waitpid};
    use std::fs::read_to_string;
    use std::time::Duration;

    #[test]
    fn a_child_that_shares_memory_runs_before_its_parent_goes_on() {
        let (mut told, parent, before) = (String::new(), getpid(), "of the parent".to_owned());
        let child = vfork(0, || {
            std::thread::sleep(Duration::from_millis(20));
            let status = read_to_string("/proc/self/status").unwrap_or_default();
            let is_child = status.contains(&format!("PPid:\t{parent}\n"));
            told = format!("{before}, in a child: {is_child}");
            i32::from(setsid().is_err())
        });
        assert_eq!(told, "of the parent, in a child: true");
        let (_, ended) = waitpid(child.ok(), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(ended.exit_status(), Some(0));
        let refused = vfork(libc::SIGCHLD as u64, || 0);
        assert_eq!(refused, Err(Errno::INVAL), "clone3 has the signal elsewhere");
    }

    #[test]
    fn a_child_without_a_stored_handle_gets_one_or_none() {
        let own = getpid();
        // SAFETY: nothing was stored.
        let opened = unsafe { handle_of(own, -1) };
        assert_eq!(opened.is_some(), rustix::process::pidfd_open(own, PidfdFlags::empty()).is_ok());
        // SAFETY: as above.
        assert!(unsafe { handle_of(Pid::from_raw(i32::MAX).unwrap(), -1) }.is_none(), "no such process");
    }
}
