//! An allocator that waits when there is no memory.
//!
//! Rust ends a program when an allocation fails: PID 1 with its app, an emperor with all its vassals. Waiting
//! loses nothing. An allocation fails at a limit (RLIMIT_AS, setrlimit(2)), or if the system does not promise
//! more memory than it has (`vm.overcommit_memory`). While the program waits it holds nothing that others
//! need, and SIGKILL ends it.
//!
//! The first allocations come from a few kilobytes of the program's own memory, on a page that is written to
//! in any case. The init of a command needs no more. The C library's allocator would begin with several
//! mappings and pages.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::clock::monotonic_micros;

/// No sensible allocation is as large as this. A larger one is a mistake, and fails instead of waiting for
/// ever.
const HUGE: usize = 64 << 20;
/// The first wait. Each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about waiting, in microseconds.
const QUIET: u64 = 60_000_000;

/// The function that logs that there is no memory, or that there is some again.
static REPORT: OnceLock<fn(&str)> = OnceLock::new();

/// Sets the function that logs a wait, which must not allocate. Only the first call counts.
pub fn report_with(report: fn(&str)) {
    let _ = REPORT.set(report);
}

/// The size of the memory for the first allocations. Together with the other variables of vassal-init it
/// takes two pages.
const FIRST: usize = 5 << 10;

/// The memory for the first allocations. Blocks follow one another. Only the last one can grow or be freed.
struct First<const SIZE: usize> {
    bytes: UnsafeCell<MaybeUninit<[u8; SIZE]>>,
    used: AtomicUsize,
}

// SAFETY: the bytes belong to the owners of blocks, and each block has one owner: `used` moves past a block,
// or back, in one atomic step.
unsafe impl<const SIZE: usize> Sync for First<SIZE> {}

impl<const SIZE: usize> First<SIZE> {
    const fn new() -> Self {
        Self { bytes: UnsafeCell::new(MaybeUninit::uninit()), used: AtomicUsize::new(0) }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }

    /// A new block; null if there is no room.
    fn take(&self, layout: Layout) -> *mut u8 {
        let start = self.start();
        let used = self.used.load(Ordering::Acquire);
        let begin = (start.addr() + used).next_multiple_of(layout.align()) - start.addr();
        // A larger block would leave too little room for others.
        if layout.size() <= SIZE / 2 && self.moves(used, begin.saturating_add(layout.size())) {
            start.wrapping_add(begin)
        } else {
            null_mut()
        }
    }

    /// Moves the end of the last block. Returns false if the block is not the last one, or if there is no
    /// room.
    fn moves(&self, from: usize, to: usize) -> bool {
        to <= SIZE && self.used.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The offset of a block; `None` if it comes from the C library.
    fn place_of(&self, block: *mut u8) -> Option<usize> {
        Some(block.addr().wrapping_sub(self.start().addr())).filter(|&place| place < SIZE)
    }
}

static MEMORY: First<FIRST> = First::new();

/// The memory of a program, for its `#[global_allocator]`.
pub struct Patient;

// SAFETY: the C library aligns its memory for every type of C, and `take` as requested. A block is freed
// where it came from. A failed call of the C library has no effect, and may be repeated.
unsafe impl GlobalAlloc for Patient {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = MEMORY.take(layout);
        if !block.is_null() {
            return block;
        }
        // SAFETY: every size is allowed.
        get(layout, layout.size(), &|| unsafe { libc::malloc(layout.size()) }.cast())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above. Not taken from the first memory, parts of which have been used before.
        get(layout, layout.size(), &|| unsafe { libc::calloc(layout.size(), 1) }.cast())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(begin) = MEMORY.place_of(old) else {
            // SAFETY: `old` comes from the C library, and does not change until the call succeeds.
            return get(layout, size, &|| unsafe { libc::realloc(old.cast(), size) }.cast());
        };
        if MEMORY.moves(begin + layout.size(), begin.saturating_add(size)) || size <= layout.size() {
            return old;
        }
        // SAFETY: both blocks are live and do not overlap, and both have at least the size that is copied.
        // `size` is right by the contract.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(old, layout.size().min(size));
                self.dealloc(old, layout);
            }
            new
        }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        match MEMORY.place_of(old) {
            Some(begin) => _ = MEMORY.moves(begin + layout.size(), begin),
            // SAFETY: the block comes from the C library.
            None => unsafe { libc::free(old.cast()) },
        }
    }
}

fn get(layout: Layout, size: usize, allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
    // No type in these programs needs a larger alignment.
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
    /// When the last line was logged; 0 for never.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn the_first_blocks_are_apart_and_aligned_and_only_the_last_one_changes_its_end() {
        let memory = First::<64>::new();
        let [byte, word] = [layout(1, 1), layout(8, 8)].map(|layout| memory.take(layout));
        let begin = memory.place_of(word).unwrap();
        assert!(memory.place_of(byte) == Some(0) && (1..=8).contains(&begin) && word.addr() % 8 == 0);
        assert!(!memory.moves(1, 2), "another block begins there");
        assert!(memory.moves(begin + 8, begin + 16));
        assert!(!memory.moves(begin + 16, 65), "there is no room");
        assert!(memory.take(layout(33, 1)).is_null(), "one block for all of the memory");
        assert!(memory.moves(begin + 16, begin));
        assert_eq!(memory.take(layout(8, 8)), word, "it was taken back");
    }

    #[test]
    fn a_block_keeps_its_bytes_when_it_moves_to_the_c_library() {
        let (small, large) = (layout(16, 1), layout(FIRST, 1));
        // SAFETY: each block is used within its size, and freed once.
        unsafe {
            let [block, next] = [small; 2].map(|layout| Patient.alloc(layout));
            block.write_bytes(7, small.size());
            assert!(MEMORY.place_of(block).is_some() && MEMORY.place_of(next).is_some());
            let moved = Patient.realloc(block, small, large.size());
            assert_eq!(MEMORY.place_of(moved), None);
            assert_eq!(std::slice::from_raw_parts(moved, 16), [7; 16]);
            Patient.dealloc(next, small);
            Patient.dealloc(moved, large);
        }
    }
}
