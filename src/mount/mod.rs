//! Mounts: what the kernel says of them, and how ours are made.

pub mod flags;
pub mod mountinfo;
pub mod ops;
