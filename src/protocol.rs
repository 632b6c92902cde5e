//! What the emperor and a vassal's PID 1 tell each other, over one SOCK_SEQPACKET pair per vassal.
//!
//! A message is one packet: the version, its kind, then its fields; numbers are little-endian, texts carry a
//! u32 length. The vassal's side holds a hostile tenant's configuration, so decoding trusts nothing: a packet
//! that does not parse to its last byte is an error, never a guess.
//!
//! The emperor opens with [`ToVassal::Hello`], which carries the vassal's file as a sealed memfd
//! (SCM_RIGHTS). The end of the link means the end of the peer.
//!
//! # Reload
//!
//! [`ToVassal::Reload`] brings the changed file, to a vassal that has said [`FromVassal::Running`]. It is
//! answered once, with [`FromVassal::Reloaded`], [`FromVassal::Refused`] or [`FromVassal::NeedsRespawn`]; the
//! next one is not sent before that. The answer is waited for 5 s, or as long as [`FromVassal::Reloading`]
//! has asked for. A vassal that ends instead says so as ever.

mod link;
mod messages;
mod socket;
mod wire;

pub use link::{Received, receive, send};
pub use messages::*;
pub use socket::{FileId, KeptSocket, SOCKETS_MAX, SocketId};
