//! Carries out the decisions of [`core`](super::core), and tells it the results.
//!
//! Changes of files, orders of commands, messages of instances, deaths and deadlines come in, and are passed
//! on to the registry as events; the effects that it queues are carried out here, one after another
//! (`effects`). `messages` reads the links; `handles` holds every descriptor that belongs to a vassal;
//! `resume` goes on with the vassals of another program after an upgrade.
//!
//! Nothing here waits, and nothing here decides about a vassal. The registry's state is changed
//! by events only.

#[expect(clippy::module_inception, reason = "the room is named after what it is about")]
pub mod supervisor;

mod effects;
mod handles;
mod leftovers;
mod messages;
mod resume;
