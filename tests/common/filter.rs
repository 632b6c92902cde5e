//! Programs under a seccomp filter that refuses some system calls, as those of container runtimes do.

use std::process::Command;

use super::Sandbox;

/// Executes its arguments under a filter that answers ERRNO to the calls of a list. The upper half of a
/// number are bits: then only those calls are meant that have one of them in the first argument.
const FILTER: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
errno, refused = int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")]
code = [(0x20, 0, 0, 0)]
for number in refused:
    bits = [(0x20, 0, 0, 16), (0x45, 0, 1, number >> 32)] if number >> 32 else []
    refusal = bits + [(0x06, 0, 0, 0x00050000 | errno), (0x20, 0, 0, 0)]
    code += [(0x15, 0, len(refusal), number & 0xFFFFFFFF)] + refusal
code += [(0x06, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program, len(program))
filter = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, filter, 0, 0) == 0, os.strerror(ctypes.get_errno())
assert libc.syscall(refused[0] & 0xFFFFFFFF, -1, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno() == errno
os.execvp(sys.argv[3], sys.argv[3:])
"#;

/// Refused by filters that are older than the calls.
pub const NEWER_CALLS: [i64; 4] =
    [libc::SYS_close_range, libc::SYS_clone3, libc::SYS_pidfd_open, libc::SYS_statx];

/// clone(2) where it is to make a pidfd, too.
pub const CLONE_WITH_PIDFD: i64 = libc::SYS_clone | (libc::CLONE_PIDFD as i64) << 32;

impl Sandbox {
    /// The command that executes its last arguments under a filter which answers `errno` to `calls`.
    pub fn filter(&self, calls: &[i64], errno: i32) -> Vec<String> {
        let script = self.file("filter.py", FILTER).display().to_string();
        let calls: Vec<_> = calls.iter().map(i64::to_string).collect();
        vec!["/usr/bin/python3".into(), script, errno.to_string(), calls.join(",")]
    }

    /// One of our programs under such a filter, to be started.
    pub fn filtered(&self, calls: &[i64], errno: i32, name: &str) -> Command {
        let wrapper = self.filter(calls, errno);
        self.wrapped(&wrapper.iter().map(String::as_str).collect::<Vec<_>>(), name)
    }
}
