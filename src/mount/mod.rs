//! Mounts: what the kernel says of them, and how ours are made.

pub mod flags;
pub mod fuse;
pub mod fuse_device;
pub mod fusectl;
pub mod mountinfo;
pub mod ops;
pub mod request;
pub mod safe_proc;
