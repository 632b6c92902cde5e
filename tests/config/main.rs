//! The language of configurations and command lines: what a file means, what it may cost, and that uWSGI reads it alike.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // failing is a test's job

#[path = "../common/mod.rs"]
mod common;

mod cli;
mod differential;
mod fuzz;
mod jail;
mod keys;
mod limits;
mod oracle;
mod plan;
