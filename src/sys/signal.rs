//! Signals. This program blocks all of them and reads them from a descriptor. Children get the mask and the
//! dispositions that this program was started with.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::DumpableBehavior;

use super::clone::last_errno;
use super::trap;

/// Whether SIGPIPE was ignored when this program was started.
static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);

/// Ignores SIGPIPE from now on, as every Rust program does. Children get the former disposition.
pub(super) fn ignore_pipe() {
    // SAFETY: SIG_IGN is no handler.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    SIGPIPE_WAS_IGNORED.store(before == libc::SIG_IGN, Ordering::Relaxed);
}

/// The signal mask that this program was started with, and whether SIGCHLD was ignored.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: Mask,
    ignores_children: bool,
}

/// Blocks every signal except for that of a trap, and returns the former state.
///
/// SIGCHLD is set to its default if it is ignored, because the kernel would then reap the children, and their
/// status would be lost. Signals for faults (SIGSEGV, ...) are blocked as well, because any process can send
/// them. A real fault still ends this process, since the kernel does not let a process block that. A trap has
/// a handler, which blocks the signal when a process sends it.
pub fn block_all() -> Inherited {
    let mask = set_mask(BLOCKED);
    // SAFETY: SIG_DFL is no handler.
    let ignores_children = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_IGN };
    Inherited { mask, ignores_children }
}

/// Sets the dispositions that both programs use from their start on: SIGPIPE is ignored, SIGCHLD is not.
/// [`Inherited::restore_dispositions`] undoes it.
pub fn set_own_dispositions() {
    // SAFETY: SIG_IGN and SIG_DFL are not handlers.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    trap::set_handler();
}

/// A set of signals as in the kernel: bit n - 1 is signal n. The sets of the C library leave out the
/// real-time signals that it reserves for itself (32 to 34), which would then be neither blocked nor handed
/// on.
type Mask = u64;

const EVERY_SIGNAL: Mask = Mask::MAX;
/// The signals that are blocked while this program runs.
const BLOCKED: Mask = EVERY_SIGNAL & !(1 << (trap::SIGNAL - 1));

/// Sets the mask of this thread and returns the former one (rt_sigprocmask(2)).
fn set_mask(mask: Mask) -> Mask {
    let mut old: Mask = 0;
    // SAFETY: two live sets of the size passed. The kernel reads one and writes the other.
    unsafe {
        let (new, old) = (&raw const mask, &raw mut old);
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, new, old, size_of::<Mask>());
    }
    old
}

impl Inherited {
    /// In a child before its exec: restores the mask and the dispositions that this program was started with.
    /// (The exec resets handlers; nothing else was changed.)
    pub fn restore(&self) {
        self.restore_dispositions();
        set_mask(self.mask);
    }

    /// As [`Inherited::restore`], in a child of [`super::spawn`]. The parent sleeps until the child's exec.
    /// If the child were stopped before that, no process would be awake to continue it. So the child passes
    /// stop signals to the parent, which hands them to the program later.
    pub fn restore_beside_parent(&self) {
        extern "C" fn hand_back(number: i32) {
            // SAFETY: getppid(2) and kill(2) may be called in a handler.
            unsafe {
                let parent = libc::getppid();
                // The pid is 0 for a parent outside of this pid namespace. This process is PID 1 then, and
                // need not stop.
                if parent > 0 {
                    libc::kill(parent, number);
                }
            }
        }
        for number in STOPS {
            // SAFETY: the handler calls only functions that a handler may call, and the exec removes it.
            // Signals that were ignored stay ignored. Without CLONE_SIGHAND the parent keeps its own
            // dispositions.
            unsafe {
                if libc::signal(number, hand_back as *const () as libc::sighandler_t) == libc::SIG_IGN {
                    libc::signal(number, libc::SIG_IGN);
                }
            }
        }
        self.restore();
    }

    /// The state in which nothing is blocked or ignored, except for real-time signals. Needs all signals
    /// blocked.
    pub fn cleared() -> Self {
        // SIGPIPE keeps the disposition that this program has set for itself.
        (1..32).filter(|number| *number != libc::SIGPIPE).for_each(set_default);
        SIGPIPE_WAS_IGNORED.store(false, Ordering::Relaxed);
        Self { mask: 0, ignores_children: false }
    }

    /// The mask, for the next program of an upgrade.
    pub fn mask(&self) -> u64 {
        self.mask
    }

    /// The same dispositions, with the mask that the program before the upgrade was started with.
    pub fn with_mask(self, mask: u64) -> Self {
        Self { mask, ..self }
    }

    /// Restores the dispositions only. All signals stay blocked.
    pub fn restore_dispositions(&self) {
        let disposition = |ignored| if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
        // SAFETY: SIG_IGN and SIG_DFL are not handlers.
        unsafe {
            libc::signal(libc::SIGPIPE, disposition(SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed)));
            libc::signal(libc::SIGCHLD, disposition(self.ignores_children));
        }
        trap::restore();
    }
}

/// In a child before its exec: no signal is blocked or ignored, whatever this program was started with.
pub fn set_defaults() {
    // The kernel's struct sigaction; all zero means SIG_DFL. The C library refuses its own real-time signals.
    let default = [0_u64; 4];
    for number in 1..=64 {
        // SAFETY: a live struct of at least the kernel's size, and a null pointer for the former action. The
        // kernel refuses SIGKILL and SIGSTOP.
        unsafe {
            let (new, old) = (&raw const default, ptr::null_mut::<u64>());
            libc::syscall(libc::SYS_rt_sigaction, number, new, old, size_of::<Mask>());
        }
    }
    set_mask(0);
}

/// Sets the default disposition of a signal.
pub fn set_default(number: i32) {
    // SAFETY: SIG_DFL is no handler.
    unsafe { libc::signal(number, libc::SIG_DFL) };
}

/// A descriptor that becomes readable when a blocked signal is pending (signalfd(2)); close-on-exec,
/// non-blocking.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// A signal to stop that is repeated within this time counts as one request: timeout(1) signals its child and
/// then the child's group, and a Ctrl-C can arrive in two ways.
pub const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The signals with which a terminal stops a job.
pub const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// The signals by which a terminal ends a job (Ctrl-C, Ctrl-\\).
pub const INTERRUPTS: [i32; 2] = [libc::SIGINT, libc::SIGQUIT];

const REQUESTS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// Whether a signal asks a process to stop.
pub fn asks_to_stop(number: i32) -> bool {
    REQUESTS.contains(&number)
}

/// A signal taken from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// The pid of the sender; 0 for the kernel, or for a sender outside of this pid namespace. For a SIGCHLD
    /// of the kernel, the child.
    pub sender: u32,
    /// Whether a process sent it, and not the kernel.
    pub is_sent: bool,
}

impl Signal {
    /// Whether this process has caused it itself: by a write to a pipe without a reader (while SIGPIPE is
    /// blocked it is queued even if it is ignored), or beyond the limit of the size of files.
    pub fn is_of_own_write(&self) -> bool {
        [libc::SIGPIPE, libc::SIGXFSZ].contains(&self.number) && self.sender == std::process::id()
    }
}

/// Waits for the next blocked signal, up to `time` (sigtimedwait(2)). Returns `None` when the time is over,
/// and sometimes before.
///
/// # Errors
/// ENOSYS or EPERM if a filter refuses the call (seccomp(2)).
pub fn wait(time: Option<Duration>) -> Result<Option<Signal>, Errno> {
    let all = EVERY_SIGNAL;
    let limit = time.map(|time| libc::timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX) as _,
        tv_nsec: time.subsec_nanos() as _,
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: a set of the size passed, a siginfo that the kernel fills in, and a time or null; all live. A
    // siginfo is plain data. si_pid can be read for every signal, because its offset is within the siginfo.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let (set, size) = (&raw const all, size_of::<Mask>());
        let number = libc::syscall(libc::SYS_rt_sigtimedwait, set, &raw mut info, limit, size);
        if number <= 0 {
            return match last_errno() {
                Errno::AGAIN | Errno::INTR => Ok(None),
                errno => Err(errno),
            };
        }
        // Positive codes come from the kernel (sigaction(2)).
        let (number, is_sent) = (number as i32, info.si_code <= 0);
        Ok(Some(Signal { number, sender: info.si_pid() as u32, is_sent }))
    }
}

/// Whether a blocked signal is pending (sigpending(2)).
pub fn is_pending(number: i32) -> bool {
    let mut pending: Mask = 0;
    // SAFETY: a live set of the size passed, which the kernel fills in.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size_of::<Mask>()) };
    pending & (1 << (number - 1)) != 0
}

/// Lets a pending signal act on this process (SIGTSTP stops it), and blocks the signal again.
pub fn let_through(number: i32) {
    set_mask(BLOCKED & !(1 << (number - 1)));
    set_mask(BLOCKED);
}

/// Ends this process by a signal, without a core dump. Returns if the signal is ignored.
pub fn end_by(number: i32) {
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // SAFETY: a system call on plain integers.
    unsafe { libc::kill(libc::getpid(), number) };
    let_through(number);
}

impl SignalFd {
    /// Reads all signals that [`block_all`] has blocked.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (signalfd(2)).
    pub fn new() -> Result<Self, Errno> {
        Self::of(EVERY_SIGNAL)
    }

    /// Reads only the requests to stop ([`asks_to_stop`]).
    ///
    /// # Errors
    /// As [`SignalFd::new`].
    pub fn of_requests() -> Result<Self, Errno> {
        Self::of(REQUESTS.iter().fold(0, |mask, number| mask | 1 << (number - 1)))
    }

    fn of(all: Mask) -> Result<Self, Errno> {
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: a live set of the size passed; signalfd4 returns a new descriptor or -1.
        unsafe {
            let all = &raw const all;
            match libc::syscall(libc::SYS_signalfd4, -1, all, size_of::<Mask>(), flags) {
                -1 => Err(last_errno()),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd as i32))),
            }
        }
    }

    /// The next pending signal, if there is one.
    pub fn next(&self) -> Option<Signal> {
        // SAFETY: signalfd_siginfo is plain data; read fills it completely or fails.
        let (info, got) = unsafe {
            let mut info: libc::signalfd_siginfo = std::mem::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            let got = libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size);
            (info, got == size as isize)
        };
        got.then_some(Signal {
            number: info.ssi_signo as i32,
            sender: info.ssi_pid,
            is_sent: info.ssi_code <= 0,
        })
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends `signal` to every process in the pid namespace that the caller may signal, except for itself
/// (kill(2) with -1).
///
/// # Errors
/// ESRCH if there is none.
pub fn kill_everyone(signal: i32) -> Result<(), Errno> {
    kill(-1, signal)
}

/// `kill(2)` with any signal number, real-time ones too.
///
/// # Errors
/// ESRCH, EPERM, EINVAL.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: a system call on plain integers.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Ends this process by SIGABRT, as abort(3) does. abort(3) itself cannot be used: in a child of
/// [`super::clone::clone3`] musl still has the parent's thread ID, and would signal the parent. The kernel
/// does not deliver the signal to PID 1 of a namespace, which therefore exits with the status that a shell
/// shows for it.
pub fn abort() -> ! {
    const ALL_BUT_ABORT: Mask = EVERY_SIGNAL & !(1 << (libc::SIGABRT - 1));
    // SAFETY: SIG_DFL is no handler; the rest are plain integers.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        set_mask(ALL_BUT_ABORT);
        libc::kill(libc::getpid(), libc::SIGABRT);
        libc::_exit(128 + libc::SIGABRT)
    }
}

/// Sends a signal to the process of a pidfd (pidfd_send_signal(2)), which cannot hit another process.
///
/// # Errors
/// ESRCH if the process has ended and was reaped.
pub fn kill_pidfd(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a live descriptor, a number, a null siginfo (as kill) and no flags.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, ptr::null::<u8>(), 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mask of this thread in the kernel.
    fn blocked() -> Mask {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        Mask::from_str_radix(mask.trim(), 16).unwrap()
    }

    #[test]
    fn a_mask_survives_with_the_signals_that_the_c_library_keeps_to_itself() {
        const RESERVED: Mask = 0b111 << 31;
        let before = set_mask(RESERVED);
        assert_eq!(blocked(), RESERVED);
        let inherited = block_all();
        assert_eq!((inherited.mask, blocked() & RESERVED), (RESERVED, RESERVED));
        let signals = SignalFd::new().unwrap();
        // SAFETY: plain integers, and the signal is blocked in this thread.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), libc::gettid(), 34) };
        assert_eq!(signals.next().map(|signal| signal.number), Some(34));
        inherited.restore();
        assert_eq!(set_mask(before), RESERVED);
    }
}
