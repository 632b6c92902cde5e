//! Processes that are none of the instances: what the configuration has the emperor run.
//!
//! [`as_emperor`] runs the commands of as-emperor, [`on_demand_exec`] asks a command for an address,
//! [`config_check`] has a configuration read before a restart; [`shell`] starts what is a shell's. The
//! supervisor begins them and hands on the children that have ended; what they have found goes back to it as
//! values.
//!
//! Nothing here waits for a process, or touches a vassal.

pub mod as_emperor;
pub mod config_check;
pub mod on_demand_exec;
pub mod shell;
