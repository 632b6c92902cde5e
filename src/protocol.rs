//! The messages between the emperor and the PID 1 of a vassal, over one SOCK_SEQPACKET pair per vassal.
//!
//! A message is one packet: the version, its kind, then its fields. Numbers are little-endian; a text has a
//! u32 length before it. The vassal's side runs a configuration that may be hostile, so the decoder trusts
//! nothing: a packet that does not parse to its last byte is an error, and nothing is guessed.
//!
//! The emperor's first message is [`ToVassal::Hello`], with the vassal's file as a sealed memfd (SCM_RIGHTS).
//! The end of the link means the end of the peer.
//!
//! # Reload
//!
//! [`ToVassal::Reload`] brings the changed file to a vassal that has sent [`FromVassal::Running`]. There is
//! one answer, [`FromVassal::Reloaded`], [`FromVassal::Refused`] or [`FromVassal::NeedsRespawn`], and the
//! next reload is not sent before it. The emperor waits for the answer for 5 s, or as long as
//! [`FromVassal::Reloading`] has asked for. A vassal that ends instead of answering sends its usual last
//! message.

mod link;
mod messages;
mod socket;
mod wire;

pub use link::{Received, receive, send};
pub use messages::*;
pub use socket::{FileId, KeptSocket, SOCKETS_MAX, SocketId};
