//! The process of an instance.

use std::os::fd::OwnedFd;

use rustix::process::Pid;

use super::cgroups::Cgroup;
use crate::emperor::core::owner::Owner;

/// The process of an instance; two descriptors.
#[derive(Debug)]
pub struct Process {
    /// Its pid here.
    pub pid: Pid,
    /// A handle to signal it by.
    pub pidfd: OwnedFd,
    /// Our end of its link; `None` once it is closed.
    pub link: Option<OwnedFd>,
    /// Whose its vassal's file is.
    pub owner: Owner,
    /// Whether it runs as the owner.
    pub owned: bool,
    /// Its cgroup, if the emperor has made one.
    pub cgroup: Option<Cgroup>,
}
