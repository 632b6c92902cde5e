//! The supervisor: keeps one instance of every vassal in its directories running.
//!
//! ```text
//! scouts ─ discovery ─ changes ──────────┐
//! signals ───────────────────────────────┼─▶ supervisor ─ events ─▶ core (pure) ─ effects ─▶ supervisor
//! links, deaths ─────────────────────────┤      └▶ instance (processes), commands (as-emperor and others)
//! clients ─ api ─ commands ──────────────┘
//! ```
//!
//! `daemon::main_loop` waits for the next of these, and for nothing else: every delay is a deadline. A vassal
//! that fails or hangs delays none of the others. Directories and files may hang, too: they are looked at and
//! read by processes of their own, each a [`deputy`] of the emperor's.
//!
//! # Without a pid namespace
//!
//! Only the end of a pid namespace ends every process in it. Without one (`emperor-use-clone` lacks `pid`)
//! vassal-init ends what its app has left, and the emperor, as a subreaper, what a vassal-init has left that
//! was killed: `supervisor::leftovers`.

pub mod api;
pub mod commands;
pub mod core;
pub mod daemon;
pub mod deputy;
pub mod discovery;
pub mod instance;
pub mod supervisor;

pub use daemon::start::run;
