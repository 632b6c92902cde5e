//! The life of a vassal: what happens in which order, and what each event means at that time.
//!
//! In: a plan, and the events of the event loop. Out: the exit status, and messages to the emperor about
//! where the vassal is in its life.
//!
//! From the beginning of the life on, the process may be PID 1 of a namespace, so it does not exit on an
//! error: every error becomes an end ([`End`](crate::init::outcome::End)) and goes through the shutdown.
//!
//! Not here: how a step is done (`steps`), and how events are collected (`event_loop`).

pub mod pause;
pub mod reload;
pub mod remount;
pub mod run;
pub mod serve;
pub mod setup;
pub mod shutdown;
