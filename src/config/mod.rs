//! uWSGI's ini dialect: bytes → entries with spans → expanded options → typed plan.
//!
//! Nothing here makes a system call: what a configuration may ask of the machine (files, environment, host name, …)
//! is asked of a [`World`] that the caller passes in.

pub mod plan;
