//! Settings → [`plan`](crate::config::plan): what all keys of a file say together.
//!
//! In: the settings of `language`, read by the tables of `keys`. Out: a plan, and every mistake with its key
//! and place. A plan with mistakes is not to be used.
//!
//! `vassal` and `emperor` each read one program's keys, with what they share in `settings`; `listen` decides
//! which sockets PID 1 binds, `maps` checks the IDs of a user namespace, `replicas` warns of what instances
//! cannot share, `uwsgi_files` finds the files that uWSGI would open as root, and `uwsgi_ini` writes what is
//! left over for uWSGI.
//!
//! May not be done here: to read a file or to expand a value. The grammar of one value is in `keys`.

pub(super) mod emperor;
pub(super) mod vassal;

mod listen;
pub(super) mod maps;
mod replicas;
pub(super) mod settings;
pub(crate) mod uwsgi_files;
mod uwsgi_ini;
