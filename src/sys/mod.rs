//! The only unsafe code: system calls that `rustix` does not have, and the entry, the allocator and the trap
//! handler of both programs.
//!
//! In: values and borrowed descriptors. Out: values, owned descriptors and `Errno`; only the caller knows
//! operation and object. Each `unsafe` block has the reason why it is sound, and each function names its man
//! page.
//!
//! May not be done here: decide, log, or know of vassals. Nothing is imported from `config`, `init`,
//! `emperor`, `mount` and `protocol`. Both programs have a single thread from start to end, and several
//! functions rely on that.

pub mod child;
pub mod clock;
pub mod clone;
pub mod creds;
pub mod environment;
pub mod exec;
pub mod fd;
pub mod low_numbers;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod peer;
pub mod poll;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod start;
pub mod terminal;
pub mod trap;
