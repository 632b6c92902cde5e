//! A child that shares the parent's memory until it executes a program, as with vfork(2): no memory is
//! copied for the child, and it can store there why it could not execute.
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

/// Enough for a child that looks a program up and executes it.
const STACK_SIZE: usize = 128 * 1024;

/// How long the child's exec usually takes at most. After that the parent looks for signals, too.
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Runs `life` in a new process and returns when it has executed a program, or ended; what `life` returns is
/// its exit status then.
///
/// clone(2) is used since older seccomp filters refuse clone3(2). All signals are blocked, so no handler runs
/// meanwhile. Where `life` unblocks them, the child must not stop before the exec
/// ([`super::signal::Inherited::restore_beside_parent`]).
///
/// The kernel could let us sleep until then (CLONE_VFORK), but nothing would wake us from that if the program
/// is on a filesystem that hangs. A pipe that exec closes tells it as well: for the command of an init
/// (`is_command`), a request to stop that comes in between is handed on to the child, whose end ends the
/// wait. The child's working directory is its own: the one of an init is left for good meanwhile, as it would
/// keep a filesystem from being unmounted.
///
/// # Errors
/// EAGAIN at the process limit, ENOMEM, EMFILE.
pub fn spawn<F: FnMut() -> i32>(is_command: bool, mut life: F) -> Result<Pid, Errno> {
    extern "C" fn child<F: FnMut() -> i32>(life: *mut c_void) -> i32 {
        // SAFETY: it is the `life` below, whose owner waits for as long as we use it.
        exit(unsafe { (*life.cast::<F>())() })
    }
    let (alive, held) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: a mapping of our own. The child runs on it, so that it leaves our stack alone, and we wait
    // until it has ended or has a memory of its own: then nobody uses the mapping any more. In between `wait`
    // leaves our memory to it: to us, it is as if we had called `life` ourselves. Descriptors, signal
    // dispositions and the working directory are its own.
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

/// Waits until nobody has the other end of the pipe any more. The memory is the child's meanwhile: nothing is
/// allocated here.
fn wait(child: Pid, alive: &OwnedFd, is_command: bool) {
    let mut fds = [PollFd::new(alive, PollFlags::IN)];
    if poll(&mut fds, Some(&SOON)) != Ok(0) {
        return;
    }
    // Those that come to an emperor are its own, and wait.
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
