//! The emperor as a process: its start, its main loop, its end and its upgrade.
//!
//! [`start`] makes an emperor of a configuration (`basis`), or of what the program before it has handed over.
//! `main_loop` waits for whatever happens and hands it to the room that it concerns; `requests` answers
//! clients. `privileges`, `files` and `systemd` are what a daemon owes to its machine; `renewal` looks after
//! names that others can remove, `locks` keeps a second emperor away; `upgrade` and `upgrade_flow` put a new
//! program into its place, and `stale` is for one whose configuration cannot be used.
//!
//! Nothing is decided about a vassal here: that is for [`core`](super::core). No other room imports this one.

mod basis;
mod emperor;
mod files;
mod locks;
mod main_loop;
mod privileges;
mod renewal;
mod requests;
mod stale;
pub mod start;
mod systemd;
mod upgrade;
mod upgrade_flow;
mod upgrades;
