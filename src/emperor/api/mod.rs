//! The emperor's own sockets: commands, stats and metrics.
//!
//! In: a client's question over a socket ([`server`]), which the main loop gets as bytes; and the state of
//! the vassals as [`Status`](super::core::status::Status). Out: text. [`render`] makes it for `status`, by
//! the rows of `fields`; [`metrics`] by rows of its own, over `http`; [`stats`] in the format of uWSGI.
//! [`page`] keeps it for a moment.
//! [`control`] has the words of the commands, for both sides; [`client`] is the side of `emperor status` and
//! its kin, `logs` that of `emperor logs`.
//!
//! May not be done here: use the supervisor, or change a vassal. The main loop answers the questions.

pub mod client;
mod connection;
pub mod control;
mod enter;
mod fields;
mod http;
mod logs;
pub mod metrics;
pub mod page;
mod processes;
mod relay;
pub mod render;
pub mod server;
pub mod stats;
mod watch;
