//! The vassals across an upgrade: what the next program needs to know of them, and going on with them there.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::supervisor::{Roster, Vassal};
use crate::config;
use crate::emperor::core::machine::{Action, Machine};
use crate::emperor::core::mountpoints::Mountpoints;
use crate::emperor::core::saved::{Saved, SavedVassal};
use crate::emperor::core::status::Failures;
use crate::emperor::core::vassal_file::VassalFile;
use crate::emperor::instance::instance::Instance;
use crate::emperor::instance::kept_sockets::Kept;
use crate::log_of;

impl Roster {
    /// What a program that takes our place needs to know.
    pub fn save(&self) -> Vec<SavedVassal> {
        let save = |(path, vassal): &(Rc<VassalFile>, Box<Vassal>)| SavedVassal {
            path: path.as_os_str().as_bytes().to_vec(),
            name_at: path.name_at() as u64,
            seen: vassal.seen,
            state: vassal.machine.state(),
            backoff: vassal.machine.next_delay(),
            alive_until: vassal.machine.alive_until(),
            instances: vassal.instances,
            reloads: vassal.reloads,
            runs: [vassal.runs.map(|(first, _)| first), vassal.runs.map(|(_, last)| last)],
            failures: vassal
                .failures
                .map_or((0, Duration::ZERO), |failures| (failures.count.into(), failures.wait)),
            failed: [
                vassal.failures.map(|failures| failures.first),
                vassal.failures.map(|failures| failures.last),
            ],
            last: vassal.last.clone().unwrap_or_default().into_bytes(),
            refused: vassal.refused.clone().unwrap_or_default().into_bytes(),
            kept: vassal.kept.save(),
            demand: vassal.kept.file(),
            mountpoints: vassal.mountpoints.save(),
            instance: vassal.instance.as_ref().map(Instance::save),
        };
        self.vassals.iter().map(save).collect()
    }

    /// Goes on with the vassals of the program in whose place we are.
    pub fn resume(&mut self, saved: Saved, now: Instant) {
        for saved in saved.vassals {
            let path = PathBuf::from(OsString::from_vec(saved.path));
            let path = Rc::new(VassalFile::new(path, saved.name_at as usize));
            let text = |bytes: Vec<u8>| {
                Some(bytes)
                    .filter(|bytes| !bytes.is_empty())
                    .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let failures = match (saved.failures, saved.failed) {
                ((count, wait), [Some(first), Some(last)]) => {
                    Some(Failures { count: count as u32, first, last, wait })
                }
                _ => None,
            };
            let instance = saved.instance.map(|saved| Instance::resume(&saved, &self.links)).transpose();
            let instance = match instance {
                Ok(instance) => instance,
                // Its link is closed by that: it ends. Its file is found by the next scan, as a new one.
                Err(error) => {
                    log_of!(path, "{error}: starting it anew");
                    continue;
                }
            };
            if let Some(instance) = &instance {
                self.pids.insert(instance.pid(), Rc::clone(&path));
            }
            let announces = instance.as_ref().is_some_and(Instance::is_ready);
            let kept = Kept::resume(&saved.kept.0, saved.kept.1, saved.demand);
            let demand = kept.demand().and_then(|(address, _)| config::address(address.as_bytes()).ok());
            let mut vassal = Vassal {
                machine: Machine::resume(
                    saved.state,
                    self.backoff.clone().resume(saved.backoff),
                    saved.alive_until,
                ),
                seen: saved.seen,
                unclaimed: true,
                timer: None,
                instance,
                instances: saved.instances,
                reloads: saved.reloads,
                runs: saved.runs[0].zip(saved.runs[1]),
                failures,
                last: text(saved.last),
                refused: text(saved.refused),
                kept,
                counted: 0,
                mountpoints: Mountpoints::resume(saved.mountpoints),
                announces,
                demand,
                armed: None,
            };
            vassal.machine.set_on_demand(vassal.demand.is_some());
            self.names.insert(path.name().to_owned(), Rc::clone(&path));
            self.vassals.insert(Rc::clone(&path), Box::new(vassal));
            self.perform(&path, Action::None, now);
        }
    }

    /// After a look at the directories: ends vassals that were taken over and whose files are not there any more, or
    /// `would_be` found by now if their directories were watched. Whether there are others that nobody has claimed yet.
    pub fn drop_unclaimed(&mut self, would_be: impl Fn(&VassalFile) -> bool, now: Instant) -> bool {
        let mut left = false;
        for path in self.paths() {
            let Some(vassal) = self.vassals.get_mut(&path).filter(|vassal| vassal.unclaimed) else {
                continue;
            };
            let there = !matches!(rustix::fs::stat(&**path), Err(Errno::NOENT));
            let directory = path.parent().is_some_and(|directory| rustix::fs::stat(directory).is_ok());
            let why = match there {
                false if directory => "file removed",
                true if would_be(&path) => "its directory is not watched any more",
                _ => {
                    left = true;
                    continue;
                }
            };
            vassal.unclaimed = false;
            self.stop(&path, why, now);
        }
        left
    }
}
