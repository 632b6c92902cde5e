//! Reports mistakes in the program that end in a trap instruction of the processor.
//!
//! scripts/build compiles each panic to such an instruction, because the code that prints its message would
//! add 27 kB to each program. The kernel answers the instruction with a signal, and [`catch`] reports it.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The signal that a trap instruction causes.
pub(super) const SIGNAL: i32 = if cfg!(target_arch = "x86_64") { libc::SIGILL } else { libc::SIGTRAP };

/// Whether the signal was ignored when this program was started.
static WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// The function that gets the address of a trap in the program file.
static REPORT: OnceLock<fn(usize) -> !> = OnceLock::new();

/// From now on a trap ends in `report`, which gets the address of the instruction in the form for
/// `addr2line`. Only the first call counts.
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

/// For a program that is executed: a signal that was ignored is ignored again. The exec resets a handler.
pub(super) fn restore() {
    if WAS_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: SIG_IGN is no handler.
        unsafe { libc::signal(SIGNAL, libc::SIG_IGN) };
    }
}

extern "C" fn handle(number: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    unsafe extern "C" {
        /// The beginning of the program file in memory, defined by the linker.
        static __ehdr_start: u8;
    }
    // SAFETY: the kernel gives the handler a siginfo and the context to return to, whose mask has at least
    // the kernel's size. The codes of sent signals are 0 or negative (sigaction(2)). A positive code comes
    // from the kernel, and si_addr is then the address of the instruction. (A process can forge any code only
    // in a signal to itself.)
    unsafe {
        if (*info).si_code <= 0 {
            // Once the signal is blocked, it waits until it is read like any other.
            let mask = (&raw mut (*context.cast::<libc::ucontext_t>()).uc_sigmask).cast::<u64>();
            *mask |= 1 << (number - 1);
            libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), number, info);
        } else if let Some(report) = REPORT.get() {
            report(((*info).si_addr() as usize).wrapping_sub((&raw const __ehdr_start).addr()));
        }
    }
}
