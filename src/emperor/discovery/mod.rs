//! Which files of vassals there are.
//!
//! Directories and patterns come in from the configuration; what happens to their files goes out, one by one
//! ([`queue`]). Whatever touches a directory is done by a process of its own, a [`scout`], as a directory may
//! hang: there [`inotify`] tells when to look, [`scan`] looks at one directory, [`directories`] at all of
//! them. Others use the queue; the emperor's locks also ask which directory a source means.
//!
//! Nothing here opens a vassal's file or knows of instances.

pub mod directories;
pub mod holds;
pub mod inotify;
pub mod patterns;
pub mod queue;
pub mod scan;
pub mod scout;
