//! The emperor's own sockets: commands, stats and metrics.
//!
//! A client's question comes in over a socket ([`server`]) and goes to the main loop as bytes. How the
//! vassals are comes in as [`Status`](super::core::status::Status) and goes out as text: [`render`] for
//! `status`, by the rows of `fields`; [`metrics`], by rows of its own, over `http`; [`stats`] in the
//! words of uWSGI. [`control`] has the words of the commands, for both sides; [`client`] is the side of
//! `emperor status` and the like.
//!
//! May not be done here: know the supervisor, or change a vassal. The main loop answers the questions.

pub mod client;
mod connection;
pub mod control;
mod fields;
mod http;
pub mod metrics;
pub mod render;
pub mod server;
pub mod stats;
