//! Finds the files of vassals.
//!
//! In: directories and patterns from the configuration. Out: changes of files, one by one ([`queue`]). A
//! directory may hang, so only a separate process touches it, a [`scout`]. In a scout, [`inotify`] tells when
//! to scan, [`scan`] scans one directory, [`directories`] all of them. Where links lead may hang, too, so
//! [`followers`] look there. `moves` knows a file that is moved to another directory. Other rooms use the
//! queue; the emperor's locks also ask which directory a source means.
//!
//! May not be done here: read a vassal's file, or know of instances.

pub mod directories;
pub mod followers;
pub mod holds;
pub mod identity;
pub mod inotify;
mod moves;
pub mod patterns;
pub mod queue;
pub mod scan;
pub mod scout;
