//! A cgroup (version 2) for each vassal, below one directory: made before the instance, which starts in it,
//! and ended with everything that is still in it.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::process::getpid;

use super::cgroup_removal::Removals;
use crate::cgroup;
use crate::config::plan::{CgroupOption, CgroupsPlan, Located};
use crate::emperor::core::text::readable;
use crate::emperor::core::vassal_file::as_file_name;
use crate::error::{Context, Error, Result};

/// Every controller that has limits: which ones the files of vassals ask for is not known yet.
const CONTROLLERS: [&str; 8] = ["memory", "cpu", "pids", "io", "cpuset", "hugetlb", "rdma", "misc"];

/// Those of `memory-max`, `cpu-max` and `pids-max`: only these, and those of the emperor's own options, are
/// also enabled in the cgroups above the directory, as they are not the emperor's alone.
const WITH_KEYS: usize = 3;

/// Where an emperor goes that is in the way, beside its vassals.
const OWN_CGROUP: &str = "emperor-main";

/// The directory that the vassals' cgroups are in.
pub struct Cgroups {
    directory: PathBuf,
    options: Vec<Located<CgroupOption>>,
    optional: bool,
    is_prepared: Cell<bool>,
}

/// The cgroup of one instance. It ends with the instance: what is left in it is killed, and it is removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    removals: Rc<Removals>,
}

impl Cgroup {
    /// A cgroup that was made, by this program or by the one before it.
    pub fn new(path: PathBuf, removals: &Rc<Removals>) -> Self {
        Self { path, removals: Rc::clone(removals) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many of its processes the kernel has killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        cgroup::oom_counter(&self.path).map_or(0, |(counter, _)| cgroup::oom_kills(counter))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.removals.add(std::mem::take(&mut self.path));
    }
}

impl Cgroups {
    /// Those of the plan, if it has any. The directory is not looked at before the first instance.
    pub fn of(plan: &CgroupsPlan) -> Option<Self> {
        Some(Self {
            directory: plan.directory.as_ref()?.value.clone(),
            options: plan.options.clone(),
            optional: plan.is_optional,
            is_prepared: Cell::new(false),
        })
    }

    /// Those of the plan, if it has any; the directory is created if it is not there.
    ///
    /// # Errors
    /// The directory is not there and cannot be created, or is no cgroup of version 2; not if cgroups are
    /// optional.
    pub fn new(plan: &CgroupsPlan) -> Result<Option<Self>> {
        let (Some(cgroups), Some(Located { key, at, .. })) = (Self::of(plan), &plan.directory) else {
            return Ok(None);
        };
        match cgroups.prepare() {
            Ok(()) => Ok(Some(cgroups)),
            Err(error) => {
                let error = Error::new(&format!("{at}:"), key, error);
                cgroup::optionally("", Err(error), plan.is_optional).map(|()| None)
            }
        }
    }

    /// Makes the directory, and enables the controllers on the way down to it and in it. One that cannot be
    /// had is named in the error of the limit that needs it.
    fn prepare(&self) -> Result<()> {
        if self.is_prepared.get() {
            return Ok(());
        }
        let directory = &self.directory;
        cgroup::create(directory)?;
        if !cgroup::is_version_2(directory).context("look at", directory.display())? {
            let reason = "not in a cgroup hierarchy of version 2";
            return Err(Error::new("use", directory.display(), reason));
        }
        let own = self.options.iter().map(|option| cgroup::controller(&option.value.file));
        let above: Vec<_> = CONTROLLERS.into_iter().take(WITH_KEYS).chain(own).collect();
        cgroup::enable_above(directory, &above, make_way);
        cgroup::enable(directory, &CONTROLLERS, make_way);
        self.is_prepared.set(true);
        Ok(())
    }

    /// Makes the cgroup of an instance that is about to be created, and opens it for clone3(2).
    ///
    /// # Errors
    /// An earlier one is not gone yet. mkdir(2), open(2), or an option that cannot be set; not if
    /// cgroups are optional.
    pub fn make(&self, vassal: &OsStr, removals: &Rc<Removals>) -> Result<Option<(Cgroup, OwnedFd)>> {
        let (name, path) = (readable(vassal), self.path(vassal));
        // An earlier one is never used again: it has limits and counts of its own, and once cgroup.kill was
        // written to, newer kernels kill at once what clone3(2) creates there.
        removals.remove_now(&path)?;
        match self.try_make(path, &name, removals) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(error) => {
                // A controller that is missing may be there the next time.
                self.is_prepared.set(false);
                cgroup::optionally(&name, Err(error), self.optional).map(|()| None)
            }
        }
    }

    fn try_make(&self, path: PathBuf, name: &str, removals: &Rc<Removals>) -> Result<(Cgroup, OwnedFd)> {
        self.prepare()?;
        cgroup::create(&path)?;
        let cgroup = Cgroup::new(path, removals);
        let path = cgroup.path();
        cgroup::set(name, &[path], &self.options, self.optional)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(path, flags, Mode::empty()).context("open cgroup", path.display())?;
        Ok((cgroup, fd))
    }

    /// The path of a vassal's cgroup. Its name is marked, as a vassal may be named like a file that the
    /// kernel puts there, and has no slash.
    fn path(&self, vassal: &OsStr) -> PathBuf {
        let name = [b"v-", &as_file_name(vassal)[..]].concat();
        self.directory.join(OsStr::from_bytes(&name))
    }
}

/// Moves this process out of a cgroup into one inside: a cgroup that enables controllers may have no
/// processes (cgroups(7), "no internal processes"), and a service manager starts the emperor in the one that
/// is delegated to it. Whether it was there.
fn make_way(directory: &Path) -> bool {
    let procs = directory.join(cgroup::PROCS);
    cgroup::processes(CWD, &procs.to_string_lossy()).contains(&getpid())
        && cgroup::enter(&directory.join(OWN_CGROUP)).is_ok()
}
