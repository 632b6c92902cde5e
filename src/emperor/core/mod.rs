//! What the emperor knows and decides, without doing anything.
//!
//! Events and times come in as arguments; states, actions and text go out. [`machine`] is the life of one
//! vassal, the others are what is known of it.
//!
//! Nothing here makes a system call, holds a descriptor, or asks what time it is; nothing is imported from
//! the other rooms.

pub mod backoff;
pub mod effect;
pub mod event;
pub mod file_version;
pub mod instance;
pub mod machine;
pub mod mountpoints;
pub mod names;
pub mod order;
pub mod owner;
pub mod registry;
pub mod saved;
pub mod sorted_map;
pub mod status;
pub mod text;
pub mod timers;
pub mod vassal;
pub mod vassal_file;
