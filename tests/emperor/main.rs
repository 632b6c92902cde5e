//! The emperor: vassals that come, change, fail and go, and what operators and tools see of them.

// Failing is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../common/mod.rs"]
mod common;

mod alone;
mod bad_input;
mod bad_vassals;
mod closing;
mod content;
mod control;
mod demand;
mod frozen;
mod hanging;
mod inherited;
mod lifecycle;
mod monitors;
mod namespaced;
mod operator;
mod output;
mod readiness;
mod reload;
mod replaced;
mod replicas;
mod rootless;
mod seeing;
mod sockets;
mod stages;
mod surviving;
mod tyrant;
mod unmapped;
mod unprivileged;
mod upgrade;
mod upgrade_in_trouble;
