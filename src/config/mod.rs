//! uWSGI's ini dialect: a file's bytes → entries with their places → expanded settings → a typed plan.
//!
//! In: [`Input`]s (files, options of the command line), and a [`World`] that answers for the machine. Out: a
//! [`plan`] or a [`diagnostic::Report`]. What may not be done here: no system call, no import of `sys`,
//! `init` or `emperor`. Text passes the rooms in this order, and a room imports only from those before it and
//! from the files beside this one:
//!
//! | room | job |
//! |---|---|
//! | [`language`] | inputs → [`Setting`]s: the ini dialect, includes, `if`/`for`, placeholders |
//! | [`keys`] | the tables of keys, phases, actions and capabilities, and how one value is read |
//! | `build` | settings → [`plan`] |
//! | [`cmdline`] | the command line of both programs, their help, and the init under other programs' names |
//!
//! [`load_vassal`] and its kin lead through all of them; [`diagnostic`] shows mistakes where they were
//! written; `reload` says whether a new plan fits the jail of the old one, `rights` what PID 1 needs to start
//! a plan's app.

pub mod cmdline;
pub mod diagnostic;
pub mod input;
pub mod keys;
pub mod language;
pub mod plan;
pub mod setting;
pub mod world;

mod build;
mod bytes;
mod load;
mod reload;
mod rights;

pub use input::{Input, ToCheck, placed};
pub use load::{
    AS_ROOT, Loaded, address, check_emperor, check_vassal, command_alone, duration, expanded, load_command,
    load_emperor, load_emperor_again, load_vassal, show_config,
};
pub use setting::{PlainSetting, Setting};
pub use world::{Host, Status, World};
