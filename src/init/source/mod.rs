//! Where the configuration comes from: the inputs it was read from, and how they are read again for a reload.
//!
//! In: inputs (files, texts of the emperor, options). Out: a plan, or the reason why there is none.
//!
//! A configuration that is read again gets the answers of a fresh start, or none: inside a jail the paths are
//! the tenant's, and a FUSE filesystem may hang.
//!
//! Not here: whether the running vassal can take on the new plan (`life`).

pub mod careful_world;
#[allow(clippy::module_inception, reason = "the room is named after it")]
pub mod source;
