//! The supervisor: keeps one instance of every vassal in its directories running.
//!
//! ```text
//! inotify, timer ─ watch ─▶ scan ─ changes ─┐
//! signals ──────────────────────────────────┼─▶ roster ─ events ─▶ vassal (pure) ─ actions ─▶ spawn, stop, kill
//! links, deaths ────────────────────────────┤                                    └▶ commands (as-emperor), questions
//! clients ─ server ─ control ───────────────┘
//! ```
//!
//! [`mainloop`] waits for the next of these and never sleeps: every delay is a deadline. A vassal that fails or
//! hangs delays none of the others.
//!
//! # Without a pid namespace
//!
//! Only the end of a pid namespace ends every process in it. Without one (`emperor-use-clone` lacks `pid`) what a vassal
//! has started outlives a vassal-init that is killed before it could clean up, and a line at the
//! start warns of that. As a subreaper we would get such processes as our children, but could not tell them from the daemons that the
//! commands of as-emperor have left running, which are not ours to kill.

pub mod backoff;
pub mod cgroups;
pub mod commands;
pub mod control;
pub mod demand;
pub mod directories;
pub mod file;
pub mod files;
pub mod instance;
pub mod kept;
pub mod losses;
pub mod mainloop;
pub mod metrics;
pub mod notify;
pub mod questions;
pub mod roster;
pub mod scan;
pub mod server;
pub mod shell;
pub mod spawn;
pub mod state;
pub mod stats;
pub mod status;
pub mod table;
pub mod tyrant;
pub mod upgrade;
pub mod user;
pub mod vassal;
pub mod watch;

use std::fmt;
use std::time::{Duration, Instant};

pub use mainloop::run;

/// `1 vassal`, `2 vassals`.
pub struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// `now` and a wait that may come from a configuration: absurd ones end in a year, not in an overflow.
fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn one_is_no_plural() {
        let shown = [0, 1, 2].map(|count| Count(count, "vassal").to_string());
        assert_eq!(shown, ["0 vassals", "1 vassal", "2 vassals"]);
    }
}
