//! Reports about the vassals, for the log, commands, stats and metrics.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::config::language::glob;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::machine::State;
use crate::emperor::core::status::Status;
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;

impl Registry {
    /// Logs one line for every vassal.
    pub fn log_statuses(&mut self, now: Instant) {
        for file in self.files() {
            for id in self.those(&file, |_| true) {
                let vassal = self.vassal(&file);
                let line = vassal.and_then(|it| Some(it.status(it.instance(id.number)?, &file, now).line()));
                self.log_of(&id, line.unwrap_or_default());
            }
        }
    }

    /// One line with the number of vassals, and how many run and wait.
    pub fn summary(&self) -> String {
        let (mut running, mut waiting) = (0, 0);
        for (_, vassal) in self.vassals() {
            if vassal.instances.iter().any(Instance::is_up) {
                running += 1;
            } else if vassal.has(|state| matches!(state, State::Backoff { .. } | State::Invalid { .. })) {
                waiting += 1;
            }
        }
        format!("{}: {running} running, {waiting} waiting to be tried again", self.count())
    }

    /// A line for each owner who has as many vassals as allowed and more files, which are held back.
    pub fn held_back(&self) -> String {
        let mut lines = String::new();
        let mut owners: Vec<u32> = self.held_back.iter().map(|(_, owner)| *owner).collect();
        owners.sort_unstable();
        for of_one in owners.chunk_by(|one, other| one == other) {
            let files = Count(of_one.len() as u64, "file");
            if let Some(owner) = of_one.first() {
                let rule = "has as many vassals as emperor-tyrant-max allows";
                lines += &format!("User {owner} {rule}: {files} more\n");
            }
        }
        lines
    }

    /// The status of all instances.
    pub fn statuses(&self, now: Instant) -> Vec<Status<'_>> {
        self.vassals().flat_map(|(file, vassal)| statuses_of(file, vassal, now)).collect()
    }

    /// The vassal that is meant by a name, with the number of the instance if it is that of one of several
    /// (`app/2`).
    pub fn meant(&self, name: &OsStr) -> Option<(&Rc<VassalFile>, Option<u16>)> {
        if let Some(file) = self.names.get(name) {
            return Some((file, None));
        }
        let (name, number) = name.to_str()?.rsplit_once('/')?;
        let (file, number) = (self.names.get(OsStr::new(name))?, number.parse().ok()?);
        self.vassal(file).filter(|it| it.is_set() && it.instance(number).is_some())?;
        Some((file, Some(number)))
    }

    /// The status of the instances of the vassals whose name is one of these or matches one of them, or of
    /// all vassals if there is none. One instance of several has its number behind the name: `NAME/2`.
    ///
    /// # Errors
    /// There is no such vassal.
    pub fn statuses_of(&self, names: &[&OsStr], now: Instant) -> Result<Vec<Status<'_>>, String> {
        let mut files = Vec::new();
        for name in names {
            let known = files.len();
            match self.meant(name) {
                Some(one) => files.push(one),
                None if glob::has_wildcard(name.as_bytes()) => {
                    let is_meant = |file: &&Rc<VassalFile>| matches(name, file);
                    let meant = self.vassals.iter().map(|(file, _)| file).filter(is_meant);
                    files.extend(meant.map(|file| (file, None)));
                }
                None => {}
            }
            if files.len() == known {
                return Err(self.unknown(name));
            }
        }
        if files.is_empty() {
            return Ok(self.statuses(now));
        }
        files.sort_unstable();
        files.dedup();
        let vassals = files.into_iter().filter_map(|(file, number)| Some((file, self.vassal(file)?, number)));
        let all = vassals.flat_map(|(file, vassal, number)| {
            let is_meant = move |status: &Status<'_>| number.is_none_or(|number| status.replica == number);
            statuses_of(file, vassal, now).filter(is_meant)
        });
        Ok(all.collect())
    }
}

/// Whether the name of the vassal of a file matches a pattern.
fn matches(pattern: &OsStr, file: &VassalFile) -> bool {
    glob::matches(pattern.as_bytes(), file.name().as_bytes())
}

fn statuses_of<'a>(
    file: &'a VassalFile,
    vassal: &'a Vassal,
    now: Instant,
) -> impl Iterator<Item = Status<'a>> {
    vassal.instances().iter().map(move |instance| vassal.status(instance, file, now))
}
