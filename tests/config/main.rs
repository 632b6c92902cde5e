//! The language of configurations and command lines: what a file means, what it may cost, and that uWSGI
//! reads it alike.

// To fail is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod differential;
mod fuzz;
mod import;
mod jail;
mod keys;
mod limits;
mod oracle;
mod plan;
mod writing;
