//! `vassal-init`: one instance, from the first mount to the last process, and a command in a container.

// Failing is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod actions;
mod astray;
mod confinement;
mod containers;
mod entrypoint;
mod exit_status;
mod greeting;
mod identity;
mod jail;
mod launch;
mod limits;
mod lives;
mod mounts;
mod output;
mod personalities;
mod program;
mod readiness;
mod reaping;
mod replicas;
mod safe_proc;
mod seccomp;
mod signals;
mod stop;
mod terminal;
