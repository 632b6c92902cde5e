//! Mistakes in the program that end in a trap instruction of the processor.
//!
//! scripts/build has each panic compiled to such an instruction: the code that would print its message would
//! be 27 kB of each program. The kernel answers the instruction with a signal, and [`catch`] has it told.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signal that a trap instruction causes.
pub(super) const SIGNAL: i32 = if cfg!(target_arch = "x86_64") { libc::SIGILL } else { libc::SIGTRAP };

/// Whether the signal was ignored when this program was started.
static WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// What a trap is told to, with its place in the program file.
static REPORT: OnceLock<fn(usize) -> !> = OnceLock::new();

/// From now on a trap ends in `report`, which gets the place of the instruction, as `addr2line` takes it.
/// Only the function of the first call counts.
pub fn catch(report: fn(usize) -> !) {
    let _ = REPORT.set(report);
    set_handler();
}

/// Handles the signal again after [`restore`].
pub(super) fn set_handler() {
    if REPORT.get().is_none() {
        return;
    }
    // SAFETY: the handler has the arguments that SA_SIGINFO gives it. sigaction is plain data.
    unsafe {
        let (mut new, mut old): (libc::sigaction, libc::sigaction) = std::mem::zeroed();
        new.sa_sigaction = handle as *const () as libc::sighandler_t;
        new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        libc::sigaction(SIGNAL, &raw const new, &raw mut old);
        if old.sa_sigaction == libc::SIG_IGN {
            WAS_IGNORED.store(true, Ordering::Relaxed);
        }
    }
}

/// For a program that is executed: what is ignored stays ignored, and exec resets a handler.
pub(super) fn restore() {
    if WAS_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: SIG_IGN is no handler.
        unsafe { libc::signal(SIGNAL, libc::SIG_IGN) };
    }
}

extern "C" fn handle(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    unsafe extern "C" {
        /// The beginning of the program file in memory, by the linker.
        static __ehdr_start: u8;
    }
    // SAFETY: the kernel gives the handler a siginfo and the context that it returns to, whose mask has the
    // kernel's size at the least. The codes of a sent signal are 0 and below (sigaction(2)); only the kernel
    // says otherwise, and then si_addr is the instruction. One may send oneself a signal in anybody's name.
    unsafe {
        if (*info).si_code <= 0 {
            // Blocked, it waits until it is read like any other signal.
            let mask = (&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>();
            *mask |= 1 << (number - 1);
            libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), number, info);
        } else if let Some(report) = REPORT.get() {
            report(((*info).si_addr() as usize).wrapping_sub((&raw const __ehdr_start).addr()));
        }
    }
}
