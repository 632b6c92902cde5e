//! The only unsafe code: system calls that `rustix` does not have, each wrapped with the reason it is sound.
//!
//! Both programs are single-threaded from start to end; several wrappers rely on it.

pub mod clock;
pub mod clone;
pub mod creds;
pub mod environment;
pub mod exec;
pub mod fd;
pub mod memfd;
pub mod memory;
pub mod mount;
pub mod peer;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod start;
pub mod terminal;
pub mod trap;
