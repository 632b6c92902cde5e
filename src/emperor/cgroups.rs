//! A cgroup (version 2) for each vassal, below one directory: made before the instance, which starts in it, and ended
//! with everything that is still in it.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, open, statfs, unlinkat};

use super::readable;
use crate::cgroup;
use crate::config::plan::{CgroupOption, EmperorPlan, Located};
use crate::error::{Context, Error, Result};

/// `CGROUP2_SUPER_MAGIC` (statfs(2)).
const CGROUP2: u64 = 0x6367_7270;

/// Controllers that limits are there for.
const CONTROLLERS: [&[u8]; 4] = [b"+memory", b"+cpu", b"+pids", b"+io"];

/// The directory that the vassals' cgroups are in.
pub struct Cgroups {
    directory: PathBuf,
    options: Vec<Located<CgroupOption>>,
    optional: bool,
}

/// The cgroup of an instance to be.
pub struct Cgroup {
    /// Where it is.
    pub path: PathBuf,
    /// For clone3(2).
    pub fd: OwnedFd,
}

impl Cgroups {
    /// The plan's, if it wants any; the directory is created if it is not there.
    ///
    /// # Errors
    /// It is not there, and cannot be created, or is no cgroup of version 2; not if cgroups are optional.
    pub fn new(plan: &EmperorPlan) -> Result<Option<Self>> {
        let Some(Located { value, key, at }) = &plan.cgroup else { return Ok(None) };
        let cgroups = Self {
            directory: value.clone(),
            options: plan.cgroup_options.clone(),
            optional: plan.cgroup_optional,
        };
        match cgroups.prepare() {
            Ok(()) => Ok(Some(cgroups)),
            Err(error) => {
                let error = Error::new(&format!("{at}:"), key, error);
                cgroup::optionally("", Err(error), plan.cgroup_optional).map(|()| None)
            }
        }
    }

    fn prepare(&self) -> Result<()> {
        let directory = &self.directory;
        cgroup::create(directory)?;
        let kind = statfs(directory).context("look at", directory.display())?.f_type;
        if kind as u64 != CGROUP2 {
            let reason = "not in a cgroup hierarchy of version 2";
            return Err(Error::new("use", directory.display(), reason));
        }
        for controller in CONTROLLERS {
            // Those that are not to be had are missed by the limit that needs one, and it says so.
            let _ = cgroup::write(&directory.join("cgroup.subtree_control"), controller);
        }
        Ok(())
    }

    /// Makes the cgroup of a vassal, without what may be left of an earlier one.
    ///
    /// # Errors
    /// mkdir(2), open(2), or an option that cannot be set; not if cgroups are optional.
    pub fn make(&self, vassal: &OsStr) -> Result<Option<Cgroup>> {
        let name = readable(vassal);
        match self.try_make(vassal, &name) {
            Ok(cgroup) => Ok(Some(cgroup)),
            Err(error) => cgroup::optionally(&name, Err(error), self.optional).map(|()| None),
        }
    }

    fn try_make(&self, vassal: &OsStr, name: &str) -> Result<Cgroup> {
        self.end(vassal);
        let path = self.path(vassal);
        cgroup::create(&path)?;
        cgroup::set(name, &[&path], &self.options, self.optional)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(&path, flags, Mode::empty()).context("open cgroup", path.display())?;
        Ok(Cgroup { path, fd })
    }

    /// Kills what is left of an instance, and removes its cgroup; returns how many of its processes the kernel has killed
    /// for want of memory.
    pub fn end(&self, vassal: &OsStr) -> u64 {
        let path = self.path(vassal);
        let kills = cgroup::oom_counter(&path).map_or(0, |(counter, _)| cgroup::oom_kills(counter));
        // Not there, or not gone yet: then the next instance gets it as it is.
        let _ = cgroup::write(&path.join("cgroup.kill"), b"1");
        let _ = unlinkat(CWD, &path, AtFlags::REMOVEDIR);
        kills
    }

    /// Marked, as a vassal may be named like one of the files that the kernel puts there; and in one part.
    fn path(&self, vassal: &OsStr) -> PathBuf {
        let mut name = b"v-".to_vec();
        for &byte in vassal.as_bytes() {
            match byte {
                b'/' => name.extend(b"%2f"),
                b'%' => name.extend(b"%25"),
                _ => name.push(byte),
            }
        }
        self.directory.join(OsStr::from_bytes(&name))
    }
}
