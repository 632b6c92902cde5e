//! Instances as processes.
//!
//! [`spawner`] creates one, [`process`] holds its descriptors and speaks over its link; the other files
//! are what it needs: cgroups, sockets, the file of its owner.
//!
//! Nothing here decides whether an instance is wanted: the supervisor asks for one, and for its end.

pub mod cgroup_removal;
pub mod cgroups;
pub mod kept_sockets;
pub mod on_demand;
pub mod origin;
pub mod owned_file;
pub mod process;
pub mod socket_file;
pub mod spawner;
