//! A cgroup (version 2) for each vassal, below one directory. It is made before the instance, which starts in
//! it, and removed with every process that is still in it.

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
use crate::emperor::core::instance_id::{FIRST, InstanceId};
use crate::emperor::core::vassal_file::as_file_name;
use crate::error::{Context, Error, Result};

/// All controllers with limits. Which ones the files of vassals ask for is not known yet.
const CONTROLLERS: [&str; 8] = ["memory", "cpu", "pids", "io", "cpuset", "hugetlb", "rdma", "misc"];

/// The controllers of `memory-max`, `cpu-max` and `pids-max`. Only these, and those of the emperor's own
/// options, are also enabled in the cgroups above the directory, because those cgroups belong to others as
/// well.
const WITH_KEYS: usize = 3;

/// Beside the vassals' cgroups: where the emperor moves itself if it is in the way.
const OWN_CGROUP: &str = "emperor-main";

/// The directory with the vassals' cgroups.
pub struct Cgroups {
    directory: PathBuf,
    options: Vec<Located<CgroupOption>>,
    optional: bool,
    is_prepared: Cell<bool>,
}

/// The cgroup of one instance. At the end of the instance the processes that are left in it are killed, and
/// it is removed.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    removals: Rc<Removals>,
}

impl Cgroup {
    /// A cgroup that this program, or the one before an upgrade, has made.
    pub fn new(path: PathBuf, removals: &Rc<Removals>) -> Self {
        Self { path, removals: Rc::clone(removals) }
    }

    /// Its path.
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
    /// The cgroups of the plan, if it has any. The directory is not touched before the first instance.
    pub fn of(plan: &CgroupsPlan) -> Option<Self> {
        Some(Self {
            directory: plan.directory.as_ref()?.value.clone(),
            options: plan.options.clone(),
            optional: plan.is_optional,
            is_prepared: Cell::new(false),
        })
    }

    /// The cgroups of the plan, if it has any. The directory is created if necessary.
    ///
    /// # Errors
    /// The directory is missing and cannot be created, or is not a cgroup of version 2. No error if cgroups
    /// are optional.
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

    /// Makes the directory, and enables the controllers in it and on the path to it. A controller that is not
    /// available is named in the error of the limit that needs it.
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

    /// Whether the directory is frozen: an instance would not even begin to start.
    pub fn are_frozen(&self) -> bool {
        cgroup::freezes(&self.directory)
    }

    /// Makes the cgroup of an instance that is about to be created, and opens it for clone3(2).
    ///
    /// # Errors
    /// An earlier cgroup of the vassal is not gone yet; mkdir(2), open(2); or an option cannot be set. No
    /// error if cgroups are optional.
    pub fn make(&self, id: &InstanceId, removals: &Rc<Removals>) -> Result<Option<(Cgroup, OwnedFd)>> {
        let (name, path) = (id.file.shown(), self.path(id));
        // An earlier cgroup is never used again. It has its own limits and counters, and after a write to
        // cgroup.kill newer kernels kill at once what clone3(2) creates in it.
        removals.remove_now(&path)?;
        match self.try_make(path, &name, removals) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(error) => {
                // A controller that is missing now may be there the next time.
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

    /// The path of an instance's cgroup: `v-NAME`, and `v2-NAME` for the second instance. The name of the
    /// vassal has a prefix, because it may be that of one of the kernel's files there, and contains no slash.
    fn path(&self, InstanceId { file, number }: &InstanceId) -> PathBuf {
        let number = if *number == FIRST { String::new() } else { number.to_string() };
        let name = [b"v", number.as_bytes(), b"-", &as_file_name(file.name())].concat();
        self.directory.join(OsStr::from_bytes(&name))
    }
}

/// Moves this process from a cgroup into one inside it. A cgroup that enables controllers may have no
/// processes (cgroups(7), "no internal processes"), and a service manager starts the emperor in the cgroup
/// that it delegates. Returns whether the process was there.
fn make_way(directory: &Path) -> bool {
    let procs = directory.join(cgroup::PROCS);
    cgroup::processes(CWD, &procs.to_string_lossy()).contains(&getpid())
        && cgroup::enter(&directory.join(OWN_CGROUP)).is_ok()
}
