//! Child processes: how one is created and becomes a program, and how dead ones are reaped.
//!
//! In: what the child is to be (identity, working directory, environment, limits, descriptors, signals) and
//! what it is to do. Out: its pid, what it reports over a pipe until its program takes over, and its exit
//! status.
//!
//! All code that runs between clone and exec is here. It must not wait for anything but its own system calls,
//! and it reports a failure to the parent with the operation and the object.
//!
//! Not here: why a child is started (`steps`), and waiting for one (`event_loop`).

pub mod environment;
pub mod failure;
pub mod foreground;
pub mod interpreter;
pub mod job;
pub mod launch;
pub mod listen_fds;
pub mod notices;
pub mod reaper;
pub mod resources;
pub mod seccomp;
