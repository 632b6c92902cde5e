//! The emperor's own sockets: commands, stats and metrics.
//!
//! A client's question comes in over a socket ([`server`]) and goes to the main loop as bytes; what the
//! vassals are like comes in as [`Status`](super::core::status::Status) and goes out as text ([`render`],
//! [`stats`], [`metrics`]). [`control`] has the words of the commands, for both sides; [`client`] is the side
//! of `emperor status` and the like.
//!
//! Nothing here knows the supervisor, or changes a vassal: whoever takes a question here answers it.

pub mod client;
pub mod control;
pub mod metrics;
pub mod render;
pub mod server;
pub mod stats;
