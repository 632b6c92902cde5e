//! The documentation is true: man pages and completions are complete, the tutorial and the recipes work.

// To fail is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod documents;
mod faq;
mod faults;
mod links;
mod logs;
mod monitoring;
mod night;
mod recipes;
mod security;
mod tutorial;
mod walk;
mod walked;
