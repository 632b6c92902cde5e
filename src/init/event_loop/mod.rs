//! The one place where a vassal waits, and where everything it can hear comes in.
//!
//! In: signals, dead children, messages of the emperor, messages of the app, changes of the mount table,
//! answers of the probers, deadlines. Out: the events of one wake-up, for the caller to act on.
//!
//! Nothing here blocks except `poll` and the wait for signals, so a vassal is never deaf: every step that has
//! to wait waits here.
//!
//! Not here: decisions about the life of the vassal (`life`) and its steps (`steps`); this room imports
//! neither.

#[allow(clippy::module_inception, reason = "the room is named after it")]
pub mod event_loop;
pub mod notify;
pub mod ready_check;
pub mod running_app;
pub mod sources;
pub mod wakeup;
