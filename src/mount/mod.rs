//! Mounts: their description by the kernel, and how new ones are made.
//!
//! In: the values of [`request`] (a mount, an unmount, another root), with flags by the names in [`flags`];
//! and the kernel's mount tables as bytes. Out: [`ops`] changes the mount table; [`mountinfo`] returns mounts
//! as values; [`fuse`], [`fusectl`] and [`fuse_device`] know which FUSE connection belongs to whom, abort
//! connections, and mount for a daemon; [`safe_proc`] protects a `/proc`.
//!
//! May not be done here: walk a path other than by [`path`](crate::path), which links of a tenant cannot lead
//! astray; ask a filesystem that may hang; decide when something is mounted, or what a lost mount means
//! (`init`). Nothing is imported from `init`, `emperor` and `config`.

pub mod flags;
pub mod fuse;
pub mod fuse_device;
pub mod fusectl;
pub mod mountinfo;
pub mod ops;
pub mod request;
pub mod safe_proc;
