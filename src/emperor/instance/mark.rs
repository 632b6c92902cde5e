//! The mark of an instance that shares its pid namespace: everything that it starts has it, and nothing else
//! has.
//!
//! It is the limit of file locks (RLIMIT_LOCKS), which processes inherit, and which no kernel has looked at
//! since Linux 2.4. A process can take it off by lowering the limit: then it is nobody's, as without it.

use rustix::process::{Resource, Rlimit, getpid, setrlimit};

use crate::files;

/// The mark is this number and the pid of the instance.
const MARK: u64 = 0x7661_7373 << 32;

/// In a new process: marks it, and everything that it will start, as an instance of its own. It allocates
/// nothing.
pub fn mark() {
    let mark = Some(MARK | getpid().as_raw_pid() as u64);
    let _ = setrlimit(Resource::Locks, Rlimit { current: mark, maximum: mark });
}

/// The pid of the instance that a process was started by; `None` if that is none of ours.
pub fn instance_of(pid: i32) -> Option<i32> {
    let text = files::read_file(&format!("/proc/{pid}/limits")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let limit = text.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
    let mark: u64 = limit.split_ascii_whitespace().next()?.parse().ok()?;
    (mark & MARK == MARK).then_some(mark as i32)
}
