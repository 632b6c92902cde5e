//! Limits of the vassal: its cgroups, its oom score, and what is limited of the app alone.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::run::Vassal;
use crate::cgroup;
use crate::config::plan::{Limit, Limited, Located};
use crate::error::{Context, Error, Result};

impl Vassal {
    /// Takes on what holds for everything in the vassal, before there is anything. The way to the cgroups is the host's.
    pub(super) fn limit(&mut self) -> Result<()> {
        let plan = std::rc::Rc::clone(&self.plan);
        for Located { value, key, at } in &plan.cgroups {
            let entered = cgroup::enter(value).map_err(|error| Error::new(&format!("{at}:"), key, error));
            cgroup::optionally("", entered, plan.cgroup_optional)?;
        }
        let made = Some(&self.cgroup).filter(|made| !made.as_os_str().is_empty());
        let made = made.map(PathBuf::as_path);
        let all: Vec<_> = made.into_iter().chain(plan.cgroups.iter().map(|cgroup| &*cgroup.value)).collect();
        if let (true, Some(Located { key, at, .. })) = (all.is_empty(), plan.cgroup_options.first()) {
            let reason = "there is no cgroup for it: add 'cgroup = DIR', or 'emperor-cgroup = DIR' to the emperor's file";
            let missing = Err(Error::new(&format!("{at}:"), key, reason));
            cgroup::optionally("", missing, plan.cgroup_optional)?;
        }
        cgroup::set("", &all, &plan.cgroup_options, plan.cgroup_optional)?;
        // Opened here, as there may be no way to it later.
        let counters = all.iter().filter_map(|directory| cgroup::oom_counter(directory));
        self.oom_counters = counters.map(|counter| (cgroup::oom_kills(&counter), counter)).collect();
        if let Some(Located { value, key, at }) = &plan.oom_score_adj {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let written = open("/proc/self/oom_score_adj", flags, Mode::empty())
                .and_then(|file| rustix::io::write(file, value.to_string().as_bytes()));
            written.context(&format!("{at}: {key}: write"), "/proc/self/oom_score_adj")?;
        }
        Ok(())
    }

    /// How many processes of the vassal the kernel has killed for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let since = |(before, counter): &(u64, OwnedFd)| cgroup::oom_kills(counter).saturating_sub(*before);
        self.oom_counters.iter().map(since).max().unwrap_or(0)
    }
}

/// Limits the calling process, which is to become the app.
///
/// # Errors
/// EPERM for more than our own hard limit (setrlimit(2)).
pub(super) fn limit_app(limits: &[Located<Limit>]) -> Result<()> {
    for Located { value: Limit { resource, value }, key, at } in limits {
        let resource = match resource {
            Limited::AddressSpace => Resource::As,
            Limited::Descriptors => Resource::Nofile,
            Limited::Processes => Resource::Nproc,
        };
        let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
        setrlimit(resource, limit).context(&format!("{at}: {key}: limit to"), value)?;
    }
    Ok(())
}
