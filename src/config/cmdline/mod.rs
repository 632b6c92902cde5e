//! The command line of both programs.
//!
//! [`args`] turns words into an [`args::Invocation`], by the rows of `keys`; [`help`] prints those rows.
//! [`entrypoint`] is what the init does for one command, under its own name and under those of tini,
//! dumb-init and catatonit, whose command lines `getopt` takes apart as the C library does.
//!
//! In: words, and the environment variables that count. Out: what is to be done, or the mistake with a caret
//! beneath its word.
//!
//! May not be done here: to carry it out. The programs do that, through [`cli`](crate::cli).

pub mod args;
pub mod entrypoint;
pub mod help;

mod getopt;
