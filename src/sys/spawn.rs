//! A child that shares the parent's memory until it executes a program (vfork(2)): no memory is copied for
//! the child, and it can store there why it could not execute.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr;

use rustix::io::Errno;
use rustix::process::Pid;

use super::clone::{exit, last_errno};

/// Enough for a child that looks a program up and executes it.
const STACK_SIZE: usize = 128 * 1024;

/// Runs `life` in a new process and returns when it has executed a program, or ended; what `life` returns is
/// its exit status then.
///
/// clone(2) is used since older seccomp filters refuse clone3(2). All signals are blocked, so no handler runs
/// meanwhile. Where `life` unblocks them, the child must not stop before the exec
/// ([`super::signal::Inherited::restore_beside_parent`]).
///
/// # Errors
/// EAGAIN at the process limit, ENOMEM.
pub fn spawn<F: FnMut() -> i32>(mut life: F) -> Result<Pid, Errno> {
    extern "C" fn child<F: FnMut() -> i32>(life: *mut c_void) -> i32 {
        // SAFETY: it is the `life` below, whose owner sleeps for as long as we use it.
        exit(unsafe { (*life.cast::<F>())() })
    }
    // SAFETY: a mapping of our own. The child runs on it, so that it leaves our stack alone, and with
    // CLONE_VFORK we sleep until it has ended or has a memory of its own: then nobody uses the mapping any
    // more. In between it is the only user of our memory: to us, it is as if we had called `life` ourselves.
    // Descriptors, signal dispositions and the working directory are its own.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let pid = libc::clone(child::<F>, stack.add(STACK_SIZE), flags, (&raw mut life).cast());
        let result = if pid > 0 { Ok(pid) } else { Err(last_errno()) };
        libc::munmap(stack, STACK_SIZE);
        result.and_then(|pid| Pid::from_raw(pid).ok_or(Errno::INVAL))
    }
}
