//! Knowledge and decisions of the emperor.
//!
//! In: everything that happens, as an [`event::Event`] with the time. Out: decisions, as an
//! [`effect::Decision`]. [`registry`] holds all vassals and decides. [`vassal`], [`instance`] and [`history`]
//! are what the emperor knows of one vassal. [`machine`] is the life of one instance, [`replicas`] decides
//! how many there are. [`saved`] is all of it as bytes, for an upgrade; [`status`] is the part that other
//! rooms show.
//!
//! May not be done here: make a system call, hold a descriptor, or ask for the time, so that all of it can be
//! tested without processes and files. Nothing is imported from the other rooms of the emperor.

pub mod backoff;
pub mod effect;
pub mod event;
pub mod file_version;
pub mod history;
pub mod instance;
pub mod instance_id;
pub mod machine;
pub mod mountpoints;
pub mod names;
pub mod order;
pub mod owner;
pub mod rare;
pub mod refusals;
pub mod registry;
pub mod replicas;
pub mod rolls;
pub mod saved;
pub mod sorted_map;
pub mod starts;
pub mod status;
pub mod tally;
pub mod text;
pub mod timers;
pub mod vassal;
pub mod vassal_file;
