//! The mark of an instance that shares its pid namespace. All processes that the instance starts have it, and
//! no others.
//!
//! The mark is the limit of file locks (RLIMIT_LOCKS). Processes inherit it, and no kernel since Linux 2.4
//! uses it. A process can remove the mark by lowering the limit; it then counts as nobody's, as if there were
//! no marks.

use rustix::process::{Resource, Rlimit, getpid, setrlimit};

use crate::files;

/// The upper half of the mark; the lower half is the pid of the instance.
const MARK: u64 = 0x7661_7373 << 32;

/// In a new process: marks it, and everything that it will start, as an instance. Allocates nothing.
pub fn mark() {
    let mark = Some(MARK | getpid().as_raw_pid() as u64);
    let _ = setrlimit(Resource::Locks, Rlimit { current: mark, maximum: mark });
}

/// The pid of the instance that has started a process; `None` if no instance has.
pub fn instance_of(pid: i32) -> Option<i32> {
    let text = files::read_file(&format!("/proc/{pid}/limits")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let limit = text.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    let mark: u64 = limit.split_ascii_whitespace().next()?.parse().ok()?;
    (mark & MARK == MARK).then_some(mark as i32)
}
