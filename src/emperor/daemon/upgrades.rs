//! The upgrades of an emperor: the one that is under way, and what has come of the last one.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::stale::Stale;
use super::upgrade::Upgrade;
use crate::emperor::instance::origin::Origin;
use crate::running_time::earliest;

/// So long an upgrade waits for clients that are being answered. A client that says nothing, or does not
/// read, loses its connection then.
pub const HANGING_UP: Duration = Duration::from_secs(1);

/// Upgrades, past and present.
pub struct Upgrades {
    /// Tries and executes new programs.
    pub upgrade: Upgrade,
    /// The one that is under way.
    pub under_way: Option<UnderWay>,
    /// Why the last one could not take the new configuration.
    pub stale: Option<Stale>,
    /// When the vassals of another program were taken over, while some of them may not be claimed by a file
    /// yet.
    pub unclaimed_since: Option<Instant>,
}

/// An upgrade that is under way.
pub struct UnderWay {
    /// Why it is tried.
    pub reason: Reason,
    /// When its trial has succeeded.
    pub accepted: Option<Instant>,
}

/// Why an upgrade is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A signal asks for it.
    Signal,
    /// A command asks for it, from this client.
    Command(u64),
    /// The configuration that the last one could not take may be mended.
    Stale,
}

impl Upgrades {
    /// To be called before the program's file can have been replaced.
    pub fn new(origin: Rc<Origin>) -> Self {
        Self { upgrade: Upgrade::new(origin), under_way: None, stale: None, unclaimed_since: None }
    }

    /// Why the configuration is that of before the last upgrade; `None` if it is not.
    pub fn refused(&self) -> Option<&str> {
        self.stale.as_ref().map(Stale::reason)
    }

    /// When `upgrade_flow::go_on` has something to do.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let hang_up_at = match &self.under_way {
            Some(UnderWay { accepted, .. }) => {
                accepted.map(|since| since + HANGING_UP).filter(|at| *at > now)
            }
            None => self.stale.as_ref().map(Stale::try_at),
        };
        earliest(&[self.upgrade.deadline(), hang_up_at])
    }
}
