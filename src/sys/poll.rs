//! `ppoll(2)` with the time that is left.
#![allow(unsafe_code)]

use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

use super::clone::last_errno;

/// Waits for `time` at most. Returns how many descriptors are ready, and how much of the time was left.
///
/// Time in which this process was stopped or frozen is left, too: the kernel leaves the wait before such a
/// time, and begins it anew after that with the rest.
pub fn poll(fds: &mut [PollFd<'_>], time: Duration) -> (Result<usize, Errno>, Duration) {
    const { assert!(size_of::<PollFd<'_>>() == size_of::<libc::pollfd>()) };
    let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let mut left = Timespec { tv_sec: second, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: rustix hands the same list to the same call (a PollFd is the kernel's pollfd), of the length
    // passed. The kernel reads and writes the time. There is no signal mask.
    let ready = unsafe {
        let (list, left) = (fds.as_mut_ptr(), &raw mut left);
        libc::syscall(libc::SYS_ppoll, list, fds.len(), left, ptr::null::<u64>(), 0)
    };
    let ready = usize::try_from(ready).map_err(|_| last_errno());
    let left = Duration::try_from(left).unwrap_or_default();
    (ready, left.min(time))
}
