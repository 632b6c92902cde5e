//! A child that shares the parent's memory until its exec, as with vfork(2). No memory is copied for the
//! child, and it can store there why the exec failed.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use super::clone::{exit, last_errno};
use super::signal::SignalFd;

/// Enough stack for a child that searches for a program and executes it.
const STACK_SIZE: usize = 128 * 1024;

/// How long an exec usually takes at most. After this time the parent also looks for signals.
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Runs `life` in a new process. Returns when that process has executed a program, or ended; the result of
/// `life` is then its exit status.
///
/// clone(2) is used because older seccomp filters refuse clone3(2). All signals are blocked, so no handler
/// runs meanwhile. If `life` unblocks them, the child must not be stopped before the exec
/// ([`super::signal::Inherited::restore_beside_parent`]).
///
/// With CLONE_VFORK the kernel would let the parent sleep until the exec, but nothing could wake the parent
/// if the program is on a filesystem that hangs. A pipe that the exec closes shows the same. For the command
/// of an init (`is_command`), a request to stop that comes meanwhile is passed to the child, whose end ends
/// the wait. The child has its own working directory. An init leaves its working directory for good
/// meanwhile, because it would keep a filesystem from being unmounted.
///
/// # Errors
/// EAGAIN at the process limit, ENOMEM, EMFILE.
pub fn spawn<F: FnMut() -> i32>(is_command: bool, mut life: F) -> Result<Pid, Errno> {
    extern "C" fn child<F: FnMut() -> i32>(life: *mut c_void) -> i32 {
        // SAFETY: this is the `life` below, whose owner waits while it is used.
        exit(unsafe { (*life.cast::<F>())() })
    }
    let (alive, held) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the stack is a new mapping. The child runs on it and does not touch the parent's stack. The
    // parent waits until the child has ended or has a memory of its own, after which nothing uses the
    // mapping. Meanwhile `wait` does not touch memory that the child uses: for the parent it is as if it had
    // called `life` itself. The child has its own descriptors, signal dispositions and working directory.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        let stack = libc::mmap(ptr::null_mut(), STACK_SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let flags = libc::CLONE_VM | libc::SIGCHLD;
        let pid = libc::clone(child::<F>, stack.add(STACK_SIZE), flags, (&raw mut life).cast());
        let result = if pid > 0 { Pid::from_raw(pid).ok_or(Errno::INVAL) } else { Err(last_errno()) };
        drop(held);
        if let Ok(pid) = result {
            if is_command {
                let _ = rustix::process::chdir(c"/");
            }
            wait(pid, &alive, is_command);
        }
        libc::munmap(stack, STACK_SIZE);
        result
    }
}

/// Waits until no process has the other end of the pipe. The child uses the memory meanwhile, so nothing is
/// allocated here.
fn wait(child: Pid, alive: &OwnedFd, is_command: bool) {
    let mut fds = [PollFd::new(alive, PollFlags::IN)];
    if poll(&mut fds, Some(&SOON)) != Ok(0) {
        return;
    }
    // Requests to an emperor are for the emperor, and wait.
    let Some(requests) = is_command.then(SignalFd::of_requests).and_then(Result::ok) else {
        let _ = poll(&mut fds, None);
        return;
    };
    loop {
        let mut fds = [PollFd::new(alive, PollFlags::IN), PollFd::new(&requests, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        match fds.each_ref().map(|fd| !fd.revents().is_empty()) {
            [true, _] => return,
            [false, true] => {
                let number = requests.next().and_then(|signal| Signal::from_named_raw(signal.number));
                number.map(|number| kill_process(child, number));
            }
            [false, false] => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::signal::{self, asks_to_stop};
    use rustix::process::{WaitOptions, waitpid};
    use std::time::Duration;

    #[test]
    fn a_request_to_an_emperor_waits_until_its_program_runs() {
        let inherited = signal::block_all();
        // SAFETY: plain integers, and the signal is blocked in this thread.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), libc::SIGTERM) };
        let child = spawn(false, || {
            std::thread::sleep(Duration::from_millis(100));
            5
        });
        let ended = waitpid(child.ok(), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(ended.1.exit_status(), Some(5));
        let request = SignalFd::of_requests().unwrap().next().unwrap();
        assert!(asks_to_stop(request.number));
        inherited.restore();
    }
}
