//! An allocator that waits when there is no memory.
//!
//! Rust ends a program when an allocation fails: PID 1 with its app, an emperor with all its vassals. Waiting
//! loses nothing. An allocation fails at a limit (RLIMIT_AS, setrlimit(2)), or if the system does not promise
//! more memory than it has (`vm.overcommit_memory`). While the program waits it holds nothing that others
//! need, and SIGKILL ends it.
//!
//! The first allocations come from a few kilobytes of the program's own memory. The init of a command or of a
//! plain vassal needs no more. The C library's allocator would begin with several mappings, and would map and
//! unmap pages again and again while there are few blocks.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// The size of the memory for the first allocations. Only the pages that are used of it count.
const FIRST: usize = 28 << 10;
/// Sizes and addresses of blocks are multiples of this.
const UNIT: usize = size_of::<Gap>();

/// The memory for the first allocations: blocks, and between them gaps, the list of which is in the order of
/// their addresses. A new block is in the first gap with enough room.
#[repr(C, align(16))]
struct First<const SIZE: usize> {
    bytes: UnsafeCell<MaybeUninit<[u8; SIZE]>>,
    /// The first gap; null before the first block.
    gaps: UnsafeCell<*mut Gap>,
}

/// A gap begins with its size and the address of the next one; that is the end of the memory for the last.
struct Gap {
    size: usize,
    next: *mut Gap,
}

// SAFETY: the programs have one thread. A child that shares its parent's memory works while the parent waits.
unsafe impl<const SIZE: usize> Sync for First<SIZE> {}

impl<const SIZE: usize> First<SIZE> {
    const fn new() -> Self {
        Self { bytes: UnsafeCell::new(MaybeUninit::uninit()), gaps: UnsafeCell::new(null_mut()) }
    }

    fn start(&self) -> *mut Gap {
        self.bytes.get().cast()
    }

    /// A new block; null if there is no room.
    fn take(&self, layout: Layout) -> *mut u8 {
        let (size, end) = (room(layout.size()), self.start().wrapping_byte_add(SIZE));
        // A larger block would leave too little room for others.
        if layout.align() > UNIT || size > SIZE / 2 {
            return null_mut();
        }
        // SAFETY: each gap is in these bytes, is in nobody's use, and has room for its description. So has
        // what is left of one, as all sizes are multiples of that.
        unsafe {
            let mut link = self.gaps.get();
            if (*link).is_null() {
                *link = self.start();
                **link = Gap { size: SIZE, next: end };
            }
            while *link != end {
                let gap = *link;
                let Gap { size: has, next } = gap.read();
                if has >= size {
                    *link = if has == size { next } else { gap.byte_add(size) };
                    if has > size {
                        (*link).write(Gap { size: has - size, next });
                    }
                    return gap.cast();
                }
                link = &raw mut (*gap).next;
            }
        }
        null_mut()
    }

    /// Takes back a block of this size, or the end of one.
    ///
    /// # Safety
    /// It is such a block, and nobody uses it any more.
    unsafe fn give(&self, block: *mut u8, size: usize) {
        let (block, end) = (block.cast::<Gap>(), self.start().wrapping_byte_add(SIZE));
        // SAFETY: as in `take`. The block becomes a gap.
        unsafe {
            let (mut link, mut before) = (self.gaps.get(), null_mut::<Gap>());
            while *link < block {
                before = *link;
                link = &raw mut (*before).next;
            }
            block.write(Gap { size, next: *link });
            *link = block;
            for gap in [block, before] {
                if !gap.is_null() && (*gap).next != end && gap.byte_add((*gap).size) == (*gap).next {
                    let Gap { size, next } = (*gap).next.read();
                    gap.write(Gap { size: (*gap).size + size, next });
                }
            }
        }
    }

    /// Whether a block is one of these, and not the C library's.
    fn has(&self, block: *mut u8) -> bool {
        block.addr().wrapping_sub(self.start().addr()) < SIZE
    }
}

/// The room that a block of this size takes.
fn room(size: usize) -> usize {
    size.next_multiple_of(UNIT)
}

static MEMORY: First<FIRST> = First::new();

/// The memory of a program with one thread, for its `#[global_allocator]`.
pub struct Patient;

// SAFETY: the C library aligns its memory for every type of C, and `take` likewise. A block is freed where it
// came from. A failed call of the C library has no effect, and may be repeated.
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
        let block = MEMORY.take(layout);
        if !block.is_null() {
            // SAFETY: the block has this size.
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
        // SAFETY: every size is allowed.
        get(layout, layout.size(), &|| unsafe { libc::calloc(layout.size(), 1) }.cast())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !MEMORY.has(old) {
            // SAFETY: `old` comes from the C library, and does not change until the call succeeds.
            return get(layout, size, &|| unsafe { libc::realloc(old.cast(), size) }.cast());
        }
        let (has, needs) = (room(layout.size()), room(size));
        // SAFETY: both blocks are live and do not overlap, and both have at least the size that is copied.
        // `size` is right by the contract. Nobody uses the end of a block that gets smaller.
        unsafe {
            if needs <= has {
                if needs < has {
                    MEMORY.give(old.add(needs), has - needs);
                }
                return old;
            }
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(old, layout.size());
                self.dealloc(old, layout);
            }
            new
        }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the block is freed where it came from.
        unsafe {
            if MEMORY.has(old) {
                MEMORY.give(old, room(layout.size()));
            } else {
                libc::free(old.cast());
            }
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
    fn blocks_are_apart_and_what_is_free_is_one_gap_again() {
        let memory = First::<256>::new();
        let take = |size| memory.take(layout(size, 8));
        let [first, second, third] = [1, 40, 16].map(take);
        assert!([first, second, third].iter().all(|block| memory.has(*block) && block.addr() % 16 == 0));
        let place = |block: *mut u8| block.addr() - memory.start().addr();
        assert_eq!([first, second, third].map(place), [0, 16, 64]);
        assert!(take(129).is_null(), "one block for most of the memory");
        assert!(memory.take(layout(16, 32)).is_null(), "not aligned");
        // SAFETY: each block is given back once, with its size.
        unsafe {
            memory.give(second, 48);
            assert_eq!(place(take(64)), 80, "there is no room in the gap");
            assert_eq!(place(take(16)), 16);
            memory.give(memory.start().byte_add(80).cast(), 64);
            memory.give(memory.start().byte_add(16).cast(), 16);
            for block in [third, first] {
                memory.give(block, 16);
            }
        }
        let all: Vec<_> = std::iter::from_fn(|| Some(take(128)).filter(|block| !block.is_null())).collect();
        assert_eq!(all.iter().map(|block| place(*block)).collect::<Vec<_>>(), [0, 128]);
        assert!(take(1).is_null(), "nothing is left");
        // SAFETY: as above.
        unsafe { memory.give(all[1].byte_add(64), 64) };
        assert_eq!(place(take(64)), 192, "the end of a block was taken back");
    }

    #[test]
    fn a_block_keeps_its_bytes_when_it_moves_to_the_c_library() {
        let (small, large) = (layout(16, 1), layout(FIRST, 1));
        // SAFETY: each block is used within its size, and freed once.
        unsafe {
            let [block, next] = [small; 2].map(|layout| Patient.alloc(layout));
            block.write_bytes(7, small.size());
            assert!(MEMORY.has(block) && MEMORY.has(next));
            let moved = Patient.realloc(block, small, large.size());
            assert!(!MEMORY.has(moved));
            assert_eq!(std::slice::from_raw_parts(moved, 16), [7; 16]);
            let zeros = Patient.alloc_zeroed(small);
            assert_eq!((zeros, std::slice::from_raw_parts(zeros, 16)), (block, &[0; 16][..]));
            Patient.dealloc(next, small);
            Patient.dealloc(zeros, small);
            Patient.dealloc(moved, large);
        }
    }

    #[test]
    fn blocks_of_any_sizes_in_any_order_never_overlap() {
        let memory = First::<4096>::new();
        let (mut live, mut seed) = (Vec::<(*mut u8, usize)>::new(), 1_u64);
        let mut chance = |of: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % of
        };
        for round in 0..20_000 {
            let size = 1 + chance(if round % 7 == 0 { 600 } else { 60 });
            let block = memory.take(layout(size, 1));
            if !block.is_null() {
                // SAFETY: the block is the test's, with this size.
                unsafe { block.write_bytes(round as u8, size) };
                live.push((block, size));
                let bytes = |(block, size): &(*mut u8, usize)| block.addr()..block.addr() + size;
                let (new, others) = live.split_last().unwrap();
                let is_apart =
                    |other| bytes(other).end <= bytes(new).start || bytes(new).end <= bytes(other).start;
                assert!(others.iter().all(is_apart));
            }
            while live.len() > chance(60) {
                let (block, size) = live.swap_remove(chance(live.len()));
                // SAFETY: as above; it is given back once.
                unsafe { memory.give(block, room(size)) };
            }
        }
        // SAFETY: as above.
        live.into_iter().for_each(|(block, size)| unsafe { memory.give(block, room(size)) });
        assert!([2048; 2].iter().all(|size| !memory.take(layout(*size, 1)).is_null()));
    }
}
