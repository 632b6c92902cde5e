//! The steps of a setup: hooks and their actions, cgroups and limits, the change of root, the owner's
//! identity, sockets, the start of the app and of its ready checks.
//!
//! In: the plan, and the parts of the vassal that a step reads or changes. Out: success, or an error that
//! names operation, object and cause.
//!
//! A step that touches a filesystem runs in a child, because the filesystem may hang; the step waits for the
//! child in the event loop, so a request to stop interrupts it.
//!
//! Not here: the order of the steps (`life`).

pub mod action;
pub mod app;
pub mod bind;
pub mod capabilities;
pub mod cgroups;
pub mod holder;
pub mod hooks;
pub mod outputs;
pub mod owner;
pub mod ready_check;
pub mod root;
pub mod sockets;
pub mod uwsgi_files;
