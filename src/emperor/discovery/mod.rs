//! Which files of vassals there are.
//!
//! Directories and patterns come in from the configuration; changes of files go out, one by one
//! ([`directories`]). [`inotify`] tells when to look, [`scan`] looks.
//!
//! Nothing here opens a vassal's file or knows of instances.

pub mod directories;
pub mod inotify;
pub mod scan;
