//! The tables: which keys, phases, actions and capabilities there are, and how one value is read.
//!
//! [`row`] says what a key has: its name, what it takes, its help. [`vassal`] and [`emperor`] have the rows,
//! `table` keeps them, and [`options`] are those of a program. `hooks` has the phases and the families of
//! keys that fill them, `actions` what a hook can do, `capabilities` their names. `values` reads one value
//! and knows no key; `suggest` finds the name that a misspelt one was probably meant to be, `uwsgi` knows the
//! names of uWSGI's options, `habits` what other formats have and values here do not.
//!
//! In: one key or one value as bytes. Out: a row, a typed value, or the text of the mistake: the caller adds
//! the place.
//!
//! May not be done here: to see more than one setting at a time. What several say together is for `build`.

pub mod actions;
pub mod emperor;
pub mod options;
pub mod row;
pub mod vassal;

pub(super) mod capabilities;
pub(super) mod draft;
pub(super) mod habits;
pub(super) mod hooks;
pub(super) mod read;
pub(super) mod sockets;
pub(crate) mod suggest;
mod table;
pub(super) mod uwsgi;
pub(super) mod values;

#[cfg(test)]
mod tests;
