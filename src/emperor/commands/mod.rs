//! Processes that are not instances: what the configuration has the emperor run.
//!
//! In: a vassal to run commands for ([`as_emperor`]), to find the address of ([`on_demand_exec`]), or to read
//! the changed configuration of ([`config_check`]); and each child that has ended. Out: what they have found,
//! as values. [`shell`] starts the processes that are a shell's.
//!
//! May not be done here: wait for a process, or touch a vassal.

pub mod as_emperor;
pub mod config_check;
pub mod fuse_abort;
pub mod on_demand_exec;
pub mod shell;
