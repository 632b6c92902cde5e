//! Child processes: how one is created and becomes a program, and how dead ones are reaped.
//!
//! In: the state that the child takes on (identity, working directory, environment, limits, descriptors,
//! signals), and its program or work. Out: its pid, its reports over a pipe until its program takes over, and
//! its exit status.
//!
//! All code that runs between clone and exec is here. It must not wait for anything but its own system calls,
//! and it reports a failure to the parent with the operation and the object.
//!
//! Not here: the reason for a child (`steps`), and the wait for one (`event_loop`).

pub mod enclosed;
pub mod environment;
pub mod failure;
pub mod foreground;
pub mod interpreter;
pub mod job;
pub mod launch;
pub mod listen_fds;
pub mod notices;
pub mod outputs;
pub mod reaper;
pub mod relay;
pub mod resources;
pub mod seccomp;
