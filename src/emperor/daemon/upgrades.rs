//! The upgrades of an emperor: the one that is under way, and the result of the last one.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::stale::Stale;
use super::upgrade::Upgrade;
use crate::emperor::discovery::scout::Finding;
use crate::emperor::instance::origin::Origin;
use crate::running_time::earliest;

/// How long an upgrade waits for clients that are being answered, and for vassals that go on under another
/// name. A client that sends or reads nothing then loses its connection.
pub const HANGING_UP: Duration = Duration::from_secs(1);

/// The upgrades of an emperor.
pub struct Upgrades {
    /// Tries and executes new programs.
    pub upgrade: Upgrade,
    /// The upgrade that is under way.
    pub under_way: Option<UnderWay>,
    /// Why the last upgrade could not use the new configuration.
    pub stale: Option<Stale>,
    /// When vassals were taken over, as long as no scan may have found the files of some of them.
    pub unclaimed_since: Option<Instant>,
    /// New names of the files of such vassals, which wait until it is known whether the old names are gone.
    pub arriving: Vec<Finding>,
}

/// An upgrade that is under way.
pub struct UnderWay {
    /// The reason for it.
    pub reason: Reason,
    /// When its trial has succeeded.
    pub accepted: Option<Instant>,
}

/// The reason for an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A signal.
    Signal,
    /// A command, from this client.
    Command(u64),
    /// The configuration that the last upgrade could not use may have been mended.
    Stale,
}

impl Upgrades {
    /// Must be called before the program's file can have been replaced.
    pub fn new(origin: Rc<Origin>) -> Self {
        let (upgrade, arriving) = (Upgrade::new(origin), Vec::new());
        Self { upgrade, under_way: None, stale: None, unclaimed_since: None, arriving }
    }

    /// Why the old configuration is still in use; `None` if it is not.
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
