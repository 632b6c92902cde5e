//! Limits of the vassal: its cgroups, its oom score, and what is limited of the app alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cgroup;
use crate::config::plan::{Limit, Limited, Located};
use crate::error::{Context, Error, Result};
use crate::init::vassal::Vassal;

/// How soon the kernel ends us for want of memory.
pub(in crate::init) const OOM_SCORE: &str = "/proc/self/oom_score_adj";

impl Vassal {
    /// Takes on what holds for everything in the vassal, before there is anything. The way to the cgroups is the host's.
    /// `oom_score` is [`OOM_SCORE`], if it could be opened, where the plan may ask for it.
    pub(in crate::init) fn limit(&mut self, oom_score: Option<rustix::io::Result<OwnedFd>>) -> Result<()> {
        let plan = std::rc::Rc::clone(&self.source.plan);
        for Located { value, key, at } in &plan.cgroups {
            let entered = cgroup::enter(value).map_err(|error| Error::new(&format!("{at}:"), key, error));
            cgroup::optionally("", entered, plan.cgroup_optional)?;
        }
        let made = Some(&self.jail.cgroup).filter(|made| !made.as_os_str().is_empty());
        let made = made.map(PathBuf::as_path);
        let all: Vec<_> = made.into_iter().chain(plan.cgroups.iter().map(|cgroup| &*cgroup.value)).collect();
        if let (true, Some(Located { key, at, .. })) = (all.is_empty(), plan.cgroup_options.first()) {
            let reason = "there is no cgroup for it: add 'cgroup = DIR', or 'emperor-cgroup = DIR' to the emperor's file";
            let missing = Err(Error::new(&format!("{at}:"), key, reason));
            cgroup::optionally("", missing, plan.cgroup_optional)?;
        }
        cgroup::set("", &all, &plan.cgroup_options, plan.cgroup_optional)?;
        // Opened here, as there may be no way to it later.
        self.events.oom = OomKills::new(&all);
        if let Some((Located { value, key, at }, opened)) = plan.oom_score_adj.as_ref().zip(oom_score) {
            let written = opened.and_then(|file| rustix::io::write(file, value.to_string().as_bytes()));
            written.context(&format!("{at}: {key}: write"), OOM_SCORE)?;
        }
        Ok(())
    }
}

/// A process that was killed for want of memory is gone after this time: if it was the app, we know by then.
const OOM_SETTLES: Duration = Duration::from_secs(1);

/// Processes that the kernel has killed for want of memory. It never says which.
#[derive(Default)]
pub(in crate::init) struct OomKills {
    /// With how many were known of last.
    counters: Vec<(u64, OwnedFd)>,
    /// Whether they have to be looked at to tell.
    silent: bool,
    /// Since when there are others.
    since: Option<Instant>,
}

impl OomKills {
    /// Those of these cgroups, from now on. What counts is opened here, as there may be no way to it later.
    fn new(cgroups: &[&Path]) -> Self {
        let mut new = Self::default();
        for (counter, tells) in cgroups.iter().filter_map(|directory| cgroup::oom_counter(directory)) {
            new.counters.push((cgroup::oom_kills(&counter), counter));
            new.silent |= !tells;
        }
        new
    }

    /// What tells of a change, by `POLLPRI`, until it is looked at.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.counters.iter().map(|(_, counter)| counter.as_fd())
    }

    /// When there is something to look at.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        self.since.or(self.silent.then_some(now)).map(|from| from + OOM_SETTLES)
    }

    /// Looks whether others were killed, and says so if the app outlives it.
    pub fn look(&mut self, app_is_alive: bool, now: Instant) {
        if self.count() == 0 || !app_is_alive {
            self.since = None;
        } else if now.saturating_duration_since(*self.since.get_or_insert(now)) >= OOM_SETTLES {
            let kills = self.take();
            crate::log!(
                "out of memory: processes of the cgroup that the kernel has killed: {kills}; the app goes on"
            );
        }
    }

    fn count(&self) -> u64 {
        let new = |(known, counter): &(u64, OwnedFd)| cgroup::oom_kills(counter).saturating_sub(*known);
        self.counters.iter().map(new).max().unwrap_or(0)
    }

    /// How many there are that nothing was said of; it is as if it were said now.
    pub fn take(&mut self) -> u64 {
        let kills = self.count();
        self.since = None;
        self.counters.iter_mut().for_each(|(known, counter)| *known = cgroup::oom_kills(counter));
        kills
    }
}

/// Limits the calling process, which is to become the app. A limit of 0 is none, as for uWSGI.
///
/// # Errors
/// EPERM for more than our own hard limit (setrlimit(2)).
pub(in crate::init) fn limit_app(limits: &[Located<Limit>]) -> Result<()> {
    for Located { value: Limit { resource, value }, key, at } in limits {
        let resource = match resource {
            Limited::AddressSpace => Resource::As,
            Limited::Descriptors => Resource::Nofile,
            Limited::Processes => Resource::Nproc,
        };
        if *value == 0 {
            continue;
        }
        let limit = Rlimit { current: Some(*value), maximum: Some(*value) };
        setrlimit(resource, limit).context(&format!("{at}: {key}: limit to"), value)?;
    }
    Ok(())
}
