//! Does what [`core`](super::core) has decided, and tells it what came of that.
//!
//! Changes of files, orders, messages of instances, deaths and deadlines come in; processes are created,
//! asked, and killed by it. [`effects`] carries out the actions of the state machine, [`messages`] reads the
//! links, [`orders`] takes commands, [`report`] tells how the vassals are, [`resume`] goes on after an
//! upgrade.
//!
//! Nothing here waits, and nothing here decides what follows from an event.

#[expect(clippy::module_inception, reason = "the room is named after what it is about")]
pub mod supervisor;

mod effects;
mod handles;
mod messages;
mod resume;
