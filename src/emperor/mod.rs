//! The supervisor: keeps one instance of every vassal in its directories running.
//!
//! ```text
//! scouts ─ discovery ─ changes ──────────┐
//! signals ───────────────────────────────┼─▶ supervisor ─ events ─▶ core (pure) ─ effects ─▶ supervisor
//! links, deaths ─────────────────────────┤      └▶ instance (processes), commands (as-emperor and others)
//! clients ─ api ─ commands ──────────────┘
//! ```
//!
//! In: a command line and a configuration; changes of files, signals, messages of instances, clients. Out:
//! instances, with their cgroups and sockets; answers to clients; log lines.
//!
//! `daemon::main_loop` waits for the next of these: a delay is a deadline, not a sleep, so a vassal that
//! fails or hangs does not delay the others. Directories and files may hang, too, so each is looked at,
//! read, made or removed by a [`deputy`], a process of the emperor's own. Short waits remain in the loop:
//!
//! - a start waits up to 20 ms until the killed processes of the instance before have left the cgroup
//!   (`instance::cgroup_removal`), and for the exec of vassal-init from memory (`sys::clone::vfork`);
//! - while a filesystem of type `fuseblk` is mounted on the machine, the mount table of an instance is read
//!   after its messages and before SIGKILL, for up to 50 ms (`mount::fuse`);
//! - a deputy that has closed sockets is given up to 100 ms to end ([`deputy::close_apart`]).
//!
//! Nobody can wait in its place for the file of the program of an upgrade.
//!
//! May not be done here: sleep or wait elsewhere; read a vassal's file in the emperor itself; import `init`.
//!
//! # Without a pid namespace
//!
//! The kernel ends all processes of a pid namespace with its PID 1. Without one (`emperor-use-clone` lacks
//! `pid`), vassal-init ends the processes that its app has left. If vassal-init was killed, the emperor, as a
//! subreaper, ends the processes that it has left: `supervisor::leftovers`.

pub mod api;
mod at_work;
pub mod check;
pub mod commands;
pub mod core;
pub mod daemon;
pub mod deputy;
pub mod discovery;
pub mod instance;
mod links;
pub mod owned_file;
pub mod pid_file;
pub mod supervisor;

pub use daemon::start::run;
