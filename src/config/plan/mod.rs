//! The typed plans, which the programs run by. In a plan everything is decided, and nothing is done yet.
//!
//! In: the settings, by way of `build`. Out: the plans, for `init` and `emperor`, which read no settings; a
//! [`Located`] has the key and the place of a value, for their messages. The default of a plan holds where
//! the file says nothing.
//!
//! [`vassal`](VassalPlan) and [`emperor`](EmperorPlan) are the plans of the two programs, `hooks` has phases
//! and actions, `common` what both plans are made of.
//!
//! May not be done here: to read a file or a setting, or to make a system call.

mod common;
mod emperor;
mod hooks;
mod vassal;

pub use common::{Address, CgroupOption, Id, IdMap, IdRange, Located, Location, MapsPlan, RunAs};
pub use emperor::{CgroupsPlan, DiscoveryPlan, EmperorPlan, OnDemand, Source, Tyrant, VassalsPlan};
pub use hooks::{Action, Hook, Phase, WaitKind};
pub use vassal::{
    App, EnvChange, JailPlan, Limit, Limited, Listen, MountpointLost, MountpointPlan, Output, OutputPlan,
    Owner, Privileges, ReadinessPlan, ReadyCheck, ReloadPlan, ResourcePlan, Seccomp, StopPlan, VassalPlan,
};
