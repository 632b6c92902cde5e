//! Watching: the checked mountpoints, and what the kernel tells about mounts, processes and cgroups.
//!
//! In: the paths to check, the mount table, answers of the probers. Out: judgements (up, lost, unclear) and
//! reports.
//!
//! PID 1 itself never touches a checked path, because the path may hang. A prober, a process with the
//! identity of the mount's owner, does it instead. The judgement of answers and times ([`watchdog`]) is pure.
//!
//! Not here: what follows from a loss (`life`).

pub mod cgroup_events;
pub mod checked_path;
pub mod counters;
pub mod fuse_daemon;
pub mod mountpoints;
pub mod oom;
pub mod prober;
pub mod procfs;
pub mod readiness;
pub mod refused_processes;
pub mod watchdog;
