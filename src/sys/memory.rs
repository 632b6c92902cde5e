//! An allocator that waits while there is no memory.
//!
//! Rust ends a program whose allocation fails: PID 1 with its app, an emperor with all its vassals. Waiting
//! loses nothing. An allocation fails at a limit (RLIMIT_AS, setrlimit(2)), or where the system promises no
//! more memory than it has (`vm.overcommit_memory`). While the program waits it holds nothing that others
//! need, and SIGKILL ends it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::clock::monotonic_micros;

/// No allocation is as large as this. One that is, is a mistake, and fails instead of waiting for ever.
const HUGE: usize = 64 << 20;
/// The first wait. Each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// Waits are logged no more often than this, in microseconds.
const QUIET: u64 = 60_000_000;

/// Logs that there is no memory, and that there is some again.
static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// Sets the function that logs a wait; it must not allocate. Only the first call counts.
pub fn report_with(report: fn(&str)) {
    let _ = REPORT.set(report);
}

/// The C library's memory, for the `#[global_allocator]` of a program.
pub struct Patient;

// SAFETY: all of it is the C library's, which aligns it for every type of C. A call that has failed has done
// nothing, and may be made again.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any size is right.
        get(layout, layout.size(), &|| unsafe { libc::malloc(layout.size()) }.cast())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        get(layout, layout.size(), &|| unsafe { libc::calloc(layout.size(), 1) }.cast())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: `old` is from here; until it succeeds, `old` is what it was.
        get(layout, size, &|| unsafe { libc::realloc(old.cast(), size) }.cast())
    }

    unsafe fn dealloc(&self, old: *mut u8, _layout: Layout) {
        // SAFETY: it is from here.
        unsafe { libc::free(old.cast()) }
    }
}

fn get(layout: Layout, size: usize, allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
    // Nothing that we do needs more.
    if layout.align() > align_of::<libc::max_align_t>() {
        return null_mut();
    }
    let memory = allocate();
    if memory.is_null() && size < HUGE { wait(allocate) } else { memory }
}

fn report(message: &str) {
    if let Some(report) = REPORT.get() {
        report(message);
    }
}

#[cold]
fn wait(allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
    /// When it was said last; 0 for never.
    static SAID: AtomicU64 = AtomicU64::new(0);
    let (now, said) = (monotonic_micros(), SAID.load(Ordering::Relaxed));
    let is_news = said == 0 || now.saturating_sub(said) > QUIET;
    if is_news {
        SAID.store(now, Ordering::Relaxed);
        report("out of memory: waiting until there is some");
    }
    let mut pause = FIRST_WAIT;
    loop {
        std::thread::sleep(pause);
        pause = LAST_WAIT.min(pause * 2);
        let memory = allocate();
        if !memory.is_null() {
            if is_news {
                report("there is memory again: going on");
            }
            return memory;
        }
    }
}
