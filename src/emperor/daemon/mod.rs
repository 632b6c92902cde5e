//! The emperor as a process: its start, its main loop, its end and its upgrade.
//!
//! In: the configuration, or the state of the program before an upgrade; signals; whatever the other rooms
//! wait for. Out: calls of the other rooms, and the exit status.
//!
//! [`start`] makes an emperor from a configuration (`basis`), or from the state of the program before an
//! upgrade. `main_loop` waits for events and calls the room that each concerns; `requests` answers clients.
//! `privileges`, `log_file` and `systemd` are the usual duties of a daemon. `renewal` says when to check
//! the names that others can remove, `own_names` restores those of the emperor. `locks` keeps a second
//! emperor away, and `limits` says how many instances there may be. `upgrade` and `upgrade_flow` replace the
//! program, and `stale` is about an emperor that could not use its new configuration.
//!
//! May not be done here: decide about a vassal, which is for [`core`](super::core). No other room imports
//! this one.

mod basis;
mod emperor;
mod limits;
mod locks;
mod log_file;
mod main_loop;
mod own_names;
mod privileges;
mod renewal;
mod requests;
mod stale;
pub mod start;
mod systemd;
mod upgrade;
mod upgrade_flow;
mod upgrades;
