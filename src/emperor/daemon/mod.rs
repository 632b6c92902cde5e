//! The emperor as a process: its main loop, its start, its end and its upgrade.
//!
//! [`main_loop`] waits for whatever happens and hands it to the room that it concerns. [`privileges`],
//! [`files`] and [`systemd`] are what a daemon owes to its machine; [`upgrade`] and [`upgrade_flow`] put a
//! new program into its place.
//!
//! Nothing is decided about a vassal here: that is for [`core`](super::core). No other room imports this one.

pub mod files;
pub mod main_loop;
pub mod privileges;
pub mod systemd;
pub mod upgrade;
pub mod upgrade_flow;
