//! Instances as processes.
//!
//! In: the file of a vassal, and its kept sockets. Out: a [`process::Process`], which has the descriptors and
//! the messages of an instance. [`readers`] [read](reading) the file with the rights of its owner,
//! and find out whether it [says](text) something else than before.
//! [`spawner`] then creates the process in a cgroup ([`cgroups`], removed by [`cgroup_removal`]), with the
//! limits and signals that the emperor itself was started with ([`origin`]), and with a mark ([`mark`]),
//! and in a user namespace with IDs of its own ([`id_shares`]).
//! [`kept_sockets`] and [`on_demand`] hold the sockets of a vassal between its instances, with their files
//! ([`socket_file`]); [`file_removal`] removes the files of closed ones.
//!
//! May not be done here: decide whether an instance is wanted. The supervisor asks for one, and for its end.

pub mod cgroup_removal;
pub mod cgroups;
pub mod file_removal;
pub mod id_shares;
pub mod kept_sockets;
pub mod mark;
pub mod on_demand;
pub mod origin;
pub mod process;
pub mod readers;
pub mod reading;
pub mod socket_file;
pub mod spawner;
pub mod text;
