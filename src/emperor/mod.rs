//! The supervisor: keeps one instance of every vassal in its directories running.
//!
//! ```text
//! inotify, timer ─ watch ─▶ scan ─ changes ─┐
//! signals ──────────────────────────────────┼─▶ roster ─ events ─▶ vassal (pure) ─ actions ─▶ spawn, stop, kill
//! links, deaths ────────────────────────────┘                                    └▶ commands (as-emperor)
//! ```
//!
//! [`mainloop`] waits for the next of these and never sleeps: every delay is a deadline. A vassal that fails or
//! hangs delays none of the others.

pub mod backoff;
pub mod commands;
pub mod directories;
pub mod instance;
pub mod mainloop;
pub mod roster;
pub mod scan;
pub mod spawn;
pub mod vassal;
pub mod watch;

use std::time::{Duration, Instant};

pub use mainloop::run;

/// `now` and a wait that may come from a configuration: absurd ones end in a year, not in an overflow.
fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 3600))
}
