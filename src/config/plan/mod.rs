//! The typed plans: what the programs run by. Everything is decided in them, and nothing is done yet.
//!
//! In: what `build` makes of the settings. Out: to `init` and `emperor`, which read no options; a [`Located`]
//! has the key and the place of a value, for their messages. The default of a plan is what holds where the
//! file says nothing.
//!
//! [`vassal`](VassalPlan) and [`emperor`](EmperorPlan) are the plans of the two programs, `hooks` has phases
//! and actions, `common` what both plans are made of.
//!
//! May not be done here: to read a file or a setting, or to make a system call.

mod common;
mod emperor;
mod hooks;
mod vassal;

pub use common::{Address, CgroupOption, Id, Located, Location, RunAs};
pub use emperor::{CgroupsPlan, DiscoveryPlan, EmperorPlan, OnDemand, Source, Tyrant, VassalsPlan};
pub use hooks::{Action, Hook, Phase, WaitKind};
pub use vassal::{
    App, EnvChange, JailPlan, Limit, Limited, Listen, MountpointLost, MountpointPlan, Owner, Privileges,
    ResourcePlan, Seccomp, StopPlan, VassalPlan,
};
