//! Carries out the decisions of [`core`](super::core), and reports the results to it.
//!
//! In: changes of files, orders from commands, messages of instances, deaths and deadlines, which become
//! events for the registry. Out: the effects that the registry queues, carried out one after another
//! (`effects`). `messages` reads the links; `handles` has every descriptor of a vassal; `leftovers` ends the
//! processes that a killed PID 1 has left; `resume` takes over the vassals of the program before an upgrade.
//!
//! May not be done here: wait, decide about a vassal, or change the state of the registry other than by
//! events.

#[expect(clippy::module_inception, reason = "the room is named after what it is about")]
pub mod supervisor;

mod effects;
mod handles;
mod leftovers;
mod messages;
mod resume;
