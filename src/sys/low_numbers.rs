//! Descriptors for a child that shares its parent's table of descriptors at first (CLONE_FILES, clone(2)).
//!
//! Otherwise a child gets a copy of the table. That takes time and memory in proportion to what the parent
//! holds, for as long as the child lives: the kernel never makes a table smaller. A child that shares the
//! table leaves it by close_range(2), and takes along what is below a number. So what it needs is put on low
//! numbers before it is created.
//!
//! The parent goes on meanwhile, and must not use such a number again before the child has a table of its
//! own. The child says so in memory that both share, because it may be stopped or frozen for as long as
//! others like.
#![allow(unsafe_code)]

use std::array;
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Pid;

use super::child;
use super::clone::last_errno;

/// The size of the kernel's smallest table. A child takes along what is below it.
pub const END: RawFd = 64;
/// How many numbers are reserved.
const COUNT: usize = 16;

/// Low numbers for what children need.
#[derive(Debug)]
pub struct LowNumbers {
    numbers: [OwnedFd; COUNT],
    /// The child that each number is lent to.
    children: [Cell<Option<Pid>>; COUNT],
    /// Whether that child may share the table still. Points to memory that children share.
    shared: *const [AtomicBool; COUNT],
    /// What is at a number that is not lent.
    null: Rc<OwnedFd>,
}

/// Numbers that are lent to a child. The one for what was not given is -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lent(pub [RawFd; 2]);

impl LowNumbers {
    /// Reserves numbers. `None` if there are not enough, or if the kernel (before Linux 5.9) or a filter
    /// refuses what the child has to do.
    pub fn reserve(null: &Rc<OwnedFd>) -> Option<Self> {
        // SAFETY: plain integers. No descriptor has this number, and this process shares no table.
        let is_known = unsafe { leave_table(RawFd::MAX) }.is_ok();
        let below_end = |fd: &OwnedFd| fd.as_raw_fd() < END;
        let number = || fcntl_dupfd_cloexec(null, 3).ok().filter(below_end);
        let numbers: Vec<_> = (0..COUNT).map_while(|_| number()).collect();
        let (numbers, null) = (numbers.try_into().ok().filter(|_| is_known)?, Rc::clone(null));
        // SAFETY: a new mapping, which is given back in `drop` only. It is zeroed, which is `false`.
        let shared = unsafe {
            let (access, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
            libc::mmap(ptr::null_mut(), size_of::<[AtomicBool; COUNT]>(), access, flags, -1, 0)
        };
        let children = array::from_fn(|_| Cell::new(None));
        (shared != libc::MAP_FAILED).then(|| Self { numbers, children, shared: shared.cast(), null })
    }

    /// Puts descriptors on numbers for a child that is about to be created. `None` if all numbers are lent to
    /// children that do not get on: the next one gets a copy of the table.
    pub fn lend(&self, fds: [Option<BorrowedFd<'_>>; 2]) -> Option<Lent> {
        self.tidy();
        let mut free = self.numbers.iter().zip(&self.children).zip(self.shared());
        let mut lent = Lent([-1; 2]);
        for (fd, number) in fds.iter().zip(&mut lent.0) {
            let Some(fd) = fd else { continue };
            let Some(((place, _), shared)) = free.find(|((_, child), _)| child.get().is_none()) else {
                self.give(lent, None);
                return None;
            };
            shared.store(true, Ordering::Release);
            *number = place.as_raw_fd();
            if !put(*fd, place) {
                self.give(lent, None);
                return None;
            }
        }
        Some(lent)
    }

    /// In the parent: the child that these numbers are lent to; `None` if it could not be created.
    pub fn give(&self, lent: Lent, child: Option<Pid>) {
        self.each(lent, |number, of, _| {
            if child.is_some() {
                of.set(child);
            } else {
                put(self.null.as_fd(), number);
            }
        });
    }

    /// In the child: takes a table of its own, with the descriptors below [`END`]. Nothing may be closed or
    /// opened in the child before that.
    ///
    /// # Errors
    /// ENOMEM. The table is still the parent's.
    pub fn leave(&self, lent: Lent) -> Result<(), Errno> {
        // SAFETY: by the contract, no higher descriptor is used in this process.
        unsafe { leave_table(END) }?;
        self.each(lent, |_, _, shared| shared.store(false, Ordering::Release));
        Ok(())
    }

    /// In the parent: closes what children have taken along. Returns whether no child may share the table
    /// still.
    pub fn tidy(&self) -> bool {
        for ((number, child), shared) in self.numbers.iter().zip(&self.children).zip(self.shared()) {
            let is_over = |child| !shared.load(Ordering::Acquire) || has_ended(child);
            if child.get().is_some_and(is_over) && put(self.null.as_fd(), number) {
                child.set(None);
            }
        }
        self.children.iter().all(|child| child.get().is_none())
    }

    fn shared(&self) -> &[AtomicBool; COUNT] {
        // SAFETY: the mapping lives as long as `self`. All that is in it is atomic.
        unsafe { &*self.shared }
    }

    fn each(&self, lent: Lent, mut visit: impl FnMut(&OwnedFd, &Cell<Option<Pid>>, &AtomicBool)) {
        for ((number, child), shared) in self.numbers.iter().zip(&self.children).zip(self.shared()) {
            if lent.0.contains(&number.as_raw_fd()) {
                visit(number, child, shared);
            }
        }
    }
}

impl Drop for LowNumbers {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `reserve`, and nothing refers to it any more. Children have a
        // mapping of their own.
        unsafe { libc::munmap(self.shared.cast_mut().cast(), size_of::<[AtomicBool; COUNT]>()) };
    }
}

/// Puts a copy of `fd` in the place of another descriptor. Returns false for one above the limit, which
/// somebody has lowered.
fn put(fd: BorrowedFd<'_>, place: &OwnedFd) -> bool {
    // SAFETY: the owner of the number keeps it, with another file.
    unsafe { libc::dup3(fd.as_raw_fd(), place.as_raw_fd(), libc::O_CLOEXEC) != -1 }
}

/// Whether a child has ended, and so does not share the table any more.
fn has_ended(child: Pid) -> bool {
    !matches!(child::end(child), Ok(None))
}

/// Takes a table of its own for this process, without what is from `first` on.
///
/// # Safety
/// No code in this process uses these descriptors any more.
unsafe fn leave_table(first: RawFd) -> Result<(), Errno> {
    // SAFETY: plain integers. The caller answers for the descriptors.
    let left = unsafe { libc::syscall(libc::SYS_close_range, first, RawFd::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if left == 0 { Ok(()) } else { Err(last_errno()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clone::{clone3_into, exit};
    use crate::sys::fd::is_open;
    use rustix::fs::{Mode, OFlags, open};
    use rustix::io::{read, write};
    use rustix::pipe::pipe;
    use rustix::process::{Signal, WaitOptions, kill_process, waitpid};
    use std::fs::{read_link, read_to_string};

    fn null() -> Rc<OwnedFd> {
        Rc::new(open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap())
    }

    /// The kernel gives a thread a table of its own where it would do so for a process.
    fn is_null(fd: &OwnedFd) -> bool {
        read_link(format!("/proc/thread-self/fd/{}", fd.as_raw_fd())).is_ok_and(|file| file.ends_with("null"))
    }

    fn child(life: impl FnOnce() -> i32) -> Pid {
        match clone3_into(libc::CLONE_FILES as u64, None).unwrap() {
            None => exit(life()),
            Some(pid) => pid,
        }
    }

    fn status(pid: Pid) -> Option<i32> {
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status()
    }

    #[test]
    fn a_child_has_a_small_table_with_what_was_lent_to_it() {
        let numbers = LowNumbers::reserve(&null()).unwrap();
        let ((from, to), far) = (pipe().unwrap(), fcntl_dupfd_cloexec(null(), 5000).unwrap());
        let lent = numbers.lend([Some(to.as_fd()), None]).unwrap();
        // The table is shared: this changes nothing for the child.
        drop(to);
        let pid = child(|| {
            if numbers.leave(lent).is_err() || is_open(far.as_raw_fd()) {
                return 1;
            }
            // SAFETY: the number is lent to this process.
            let to = unsafe { BorrowedFd::borrow_raw(lent.0[0]) };
            let text = read_to_string("/proc/self/status").unwrap();
            i32::from(write(to, text.as_bytes()).is_err())
        });
        numbers.give(lent, Some(pid));
        assert_eq!(status(pid), Some(0));
        assert!(numbers.tidy());
        let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = read(&from, &mut chunk) {
            text.extend_from_slice(&chunk[..count]);
        }
        assert!(String::from_utf8(text).unwrap().contains("\nFDSize:\t64\n"));
        assert!(is_open(far.as_raw_fd()), "the child's own table lost it");
        assert!(numbers.numbers.iter().all(is_null));
    }

    #[test]
    fn a_number_is_not_used_again_before_its_child_has_left_the_table_or_ended() {
        let numbers = LowNumbers::reserve(&null()).unwrap();
        let (from, to) = pipe().unwrap();
        let (waits, go) = pipe().unwrap();
        let lent = numbers.lend([Some(to.as_fd()), Some(waits.as_fd())]).unwrap();
        // SAFETY: both stay open for as long as the child uses them.
        let [ours, waits_at] = lent.0.map(|number| unsafe { BorrowedFd::borrow_raw(number) });
        let (slow, stuck) = (
            child(|| {
                let _ = read(waits_at, &mut [0]);
                i32::from(numbers.leave(lent).is_err() || write(ours, b"x").is_err())
            }),
            child(|| i32::from(rustix::event::poll(&mut [], None).is_err())),
        );
        numbers.give(lent, Some(slow));
        let lend = || {
            let lent = numbers.lend([Some(from.as_fd()), None])?;
            numbers.give(lent, Some(stuck));
            Some(lent)
        };
        let others: Vec<_> = (0..COUNT).map_while(|_| lend()).collect();
        assert_eq!(others.len(), COUNT - 2);
        assert!(!numbers.tidy());
        assert!(others.iter().all(|other| !lent.0.contains(&other.0[0])));
        assert_eq!(lend(), None);
        write(&go, b"g").unwrap();
        assert_eq!(status(slow), Some(0));
        assert_eq!(read(&from, &mut [0; 2]), Ok(1));
        assert_eq!((0..COUNT).map_while(|_| lend()).count(), 2, "those of the first child are free again");
        kill_process(stuck, Signal::KILL).unwrap();
        assert_eq!(status(stuck), None);
        assert_eq!((0..COUNT).map_while(|_| lend()).count(), COUNT, "the other child has ended");
    }

    #[test]
    fn what_no_child_was_created_for_is_free_again() {
        let numbers = LowNumbers::reserve(&null()).unwrap();
        let lent = numbers.lend([Some(null().as_fd()), None]).unwrap();
        numbers.give(lent, None);
        assert_eq!(numbers.lend([Some(null().as_fd()), None]), Some(lent));
    }
}
