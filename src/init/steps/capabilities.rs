//! The capabilities that PID 1 keeps after the privilege drop.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Context, Result};
use crate::identity::held;

/// What PID 1 may have to do about mounts after the drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPower {
    /// Nothing: the mounts go with the namespace.
    None,
    /// Unmount a dead one.
    Unmount,
    /// Run a phase of root again, whose commands may need anything.
    All,
}

/// Leaves PID 1 with the capabilities that its remaining plan needs: to end processes, to start the app
/// ([`VassalPlan::start_rights`](crate::config::plan::VassalPlan::start_rights)), and for its mounts.
///
/// # Errors
/// As capset(2).
pub fn reduce_pid1(start_rights: u64, power: MountPower) -> Result<()> {
    let has = held()?;
    let mounts = match power {
        MountPower::None => CapabilitySet::empty(),
        // The way to a mount may lead through directories that only the app's user may search.
        MountPower::Unmount => CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH,
        MountPower::All => CapabilitySet::all(),
    };
    let start = CapabilitySet::from_bits_retain(start_rights);
    let kept = has.permitted & (CapabilitySet::KILL | start | mounts);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).context("reduce", "the capabilities of PID 1")
}
