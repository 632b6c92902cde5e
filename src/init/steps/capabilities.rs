//! The capabilities that PID 1 keeps after the privilege drop.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Context, Result};
use crate::identity::held;

/// The mount operations that PID 1 may have to do after the privilege drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountPower {
    /// None: the mounts vanish with the namespace.
    None,
    /// Unmount a dead mount.
    Unmount,
    /// Run a phase of root again, whose commands may need any capability.
    All,
}

/// Leaves PID 1 only the capabilities that the rest of its work needs: to end processes, to start the app
/// ([`VassalPlan::start_rights`](crate::config::plan::VassalPlan::start_rights)), and to handle its mounts.
///
/// # Errors
/// As capset(2).
pub fn reduce_pid1(start_rights: u64, power: MountPower) -> Result<()> {
    let has = held()?;
    let mounts = match power {
        MountPower::None => CapabilitySet::empty(),
        // The path of a mount may lead through directories that only the app's user may search.
        MountPower::Unmount => CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH,
        MountPower::All => CapabilitySet::all(),
    };
    let start = CapabilitySet::from_bits_retain(start_rights);
    let kept = has.permitted & (CapabilitySet::KILL | start | mounts);
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).context("reduce", "the capabilities of PID 1")
}
