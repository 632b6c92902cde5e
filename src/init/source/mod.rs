//! The inputs of the configuration, and how they are read again for a reload.
//!
//! In: inputs (files, texts from the emperor, options). Out: a plan, or the reason why there is none.
//!
//! A configuration that is read again gets the same answers as in a fresh start, or no answer: inside a jail
//! the paths belong to the tenant, and a FUSE filesystem may hang.
//!
//! Not here: whether the running vassal can use the new plan (`life`).

pub mod careful_world;
#[allow(clippy::module_inception, reason = "the room is named after it")]
pub mod source;
