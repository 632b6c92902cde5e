//! FUSE filesystems: found broken, replaced, and unmounted without losing what the app has written.

// Failing is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod attribution;
mod errors;
mod faults;
mod flush;
mod handed_over;
mod lost;
mod mountpoint;
mod teardown;
