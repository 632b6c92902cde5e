//! Limits of the vassal as a whole: its cgroups and its OOM score.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::cgroup;
use crate::config::plan::{Located, VassalPlan};
use crate::error::{Context, Error, Result};
use crate::init::jail::Jail;
use crate::init::watch::cgroup_events::CgroupEvents;
use crate::outside;

/// The file with the OOM score adjustment of a process (proc_pid_oom_score_adj(5)).
pub const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// Sets the limits before the vassal has another process, as long as the paths of the cgroups are the host's.
/// Returns the counters of the cgroups. `oom_score` is the file [`OOM_SCORE`], opened for writing where the
/// plan may ask for it.
///
/// # Errors
/// The key and its place, and the cgroup or file that refuses the value.
pub fn limit(
    jail: &Jail,
    plan: &VassalPlan,
    oom_score: Option<rustix::io::Result<OwnedFd>>,
) -> Result<CgroupEvents> {
    let options = plan.resources.cgroup_options.iter();
    let controllers: Vec<_> = options.map(|option| cgroup::controller(&option.value.file)).collect();
    for Located { value, key, at } in &plan.resources.cgroups {
        cgroup::enable_above(value, &controllers, |_| false);
        let entered = cgroup::enter(value).map_err(|error| Error::new(&format!("{at}:"), key, error));
        cgroup::optionally("", entered, plan.resources.cgroup_optional)?;
    }
    let made = Some(&jail.cgroup).filter(|made| !made.as_os_str().is_empty());
    let made = made.map(PathBuf::as_path);
    let all: Vec<_> =
        made.into_iter().chain(plan.resources.cgroups.iter().map(|cgroup| &*cgroup.value)).collect();
    if let (true, Some(Located { key, at, .. })) = (all.is_empty(), plan.resources.cgroup_options.first()) {
        let reason =
            "there is no cgroup for it: add 'cgroup = DIR', or 'emperor-cgroup = DIR' to the emperor's file";
        let missing = Err(Error::new(&format!("{at}:"), key, reason));
        cgroup::optionally("", missing, plan.resources.cgroup_optional)?;
    }
    cgroup::set("", &all, &plan.resources.cgroup_options, plan.resources.cgroup_optional)?;
    outside::end_limits();
    // The counters are opened now, because they may be out of reach later.
    let counters = CgroupEvents::new(&all);
    if let Some((Located { value, key, at }, opened)) = plan.resources.oom_score_adj.as_ref().zip(oom_score) {
        let written = opened.and_then(|file| rustix::io::write(file, value.to_string().as_bytes()));
        written.context(&format!("{at}: {key}: write"), OOM_SCORE)?;
    }
    Ok(counters)
}
