//! Errors that pass: the same call succeeds a moment later, although nothing was changed.
//!
//! Which states pass, by system call:
//!
//! | call | error | state |
//! |---|---|---|
//! | umount2(2) | EBUSY | a file of the mount is being closed, or a process that ends holds it |
//! | mount(2), mount_setattr(2) | EBUSY | a write to what becomes read-only; a device being looked at |
//!
//! EBUSY from rmdir(2) of a cgroup passes as well, once killed processes have ended. That takes too long to
//! wait for here, so [`cgroup_removal`](crate::emperor::instance::cgroup_removal) tries again later.
//!
//! The following do not pass, and are not retried. pivot_root(2) fails with EBUSY if the new root is on the
//! present one; mkdir(2) of a cgroup with EAGAIN at a limit (`cgroup.max.depth`); a write to `cgroup.procs`
//! or `cgroup.subtree_control` with EBUSY if processes and controllers exclude each other. The kernel itself
//! retries on ESTALE. EINTR needs a signal handler or a stop, and both programs block all signals.

use std::time::{Duration, Instant};

use rustix::io::{Errno, Result};

/// How many calls are made without a pause at first: most of these states last for microseconds.
const AT_ONCE: u32 = 16;
/// The pause between two calls after that.
const PAUSE: Duration = Duration::from_millis(1);

/// Calls until it succeeds, fails with another error than `passing`, or `limit` is over.
///
/// # Errors
/// The error of the last call.
pub fn while_passing<T>(passing: Errno, limit: Duration, mut call: impl FnMut() -> Result<T>) -> Result<T> {
    let mut calls = 0;
    let mut deadline = None;
    loop {
        match call() {
            Err(errno) if errno == passing => {
                calls += 1;
                let now = Instant::now();
                if now >= *deadline.get_or_insert(now + limit) {
                    return Err(errno);
                }
                if calls >= AT_ONCE {
                    std::thread::sleep(PAUSE);
                }
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_error_is_tried_again_and_not_for_ever() {
        let calls_of = |results: &[Result<()>], limit| {
            let mut left = results.iter();
            let result = while_passing(Errno::AGAIN, limit, || *left.next().unwrap());
            (result, results.len() - left.len())
        };
        let long = Duration::from_secs(60);
        let again = Err(Errno::AGAIN);
        assert_eq!(calls_of(&[again, again, Ok(())], long), (Ok(()), 3));
        assert_eq!(calls_of(&[again, Err(Errno::NOENT), Ok(())], long), (Err(Errno::NOENT), 2));
        assert_eq!(calls_of(&[again; 3], Duration::ZERO), (again, 1));
        let mut calls = 0;
        let lasts = while_passing(Errno::AGAIN, Duration::from_millis(300), || {
            calls += 1;
            Err::<(), _>(Errno::AGAIN)
        });
        assert_eq!(lasts, Err(Errno::AGAIN));
        assert!(calls > AT_ONCE && calls <= AT_ONCE + 301, "{calls} calls");
    }
}
