//! What PID 1 itself may still do after the privilege drop.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Context, Result};
use crate::identity::{Confinement, held};

/// What PID 1 itself still does after the drop: end processes, and start them as the user with what `cap` names.
const PID1: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP);

/// What PID 1 may still have to do about mounts after the drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPower {
    /// Nothing: they go with the namespace.
    None,
    /// Take a dead one away.
    Unmount,
    /// Run a phase of root's again, whose commands may need anything.
    All,
}

/// Leaves PID 1 with the capabilities that its remaining plan needs.
///
/// # Errors
/// As capset(2).
pub fn reduce_pid1(confinement: Confinement, power: MountPower) -> Result<()> {
    let has = held()?;
    let mounts = match power {
        MountPower::None => CapabilitySet::empty(),
        // The way to a mount may lead through directories that only the user may search.
        MountPower::Unmount => CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH,
        MountPower::All => CapabilitySet::all(),
    };
    let kept = has.permitted & (PID1 | confinement.capabilities | mounts);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).context("reduce", "the capabilities of PID 1")
}
