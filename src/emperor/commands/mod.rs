//! Processes that are not instances, which the emperor starts for one purpose each.
//!
//! In: a vassal to run commands for ([`as_emperor`]), to ask the address of ([`on_demand_exec`]), or to check
//! the changed configuration of ([`config_check`]); instances that were killed, to free them from FUSE
//! connections ([`fuse_abort`]); and each child that has ended. Out: results as values. [`shell`] starts
//! those processes that run a shell command.
//!
//! May not be done here: wait for a process, decide about a vassal, or touch one. The supervisor passes the
//! results to the registry.

pub mod as_emperor;
pub mod config_check;
pub mod fuse_abort;
pub mod on_demand_exec;
pub mod shell;
