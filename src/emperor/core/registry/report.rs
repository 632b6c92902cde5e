//! Reports about the vassals, for the log, commands, stats and metrics.

use std::ffi::OsStr;
use std::rc::Rc;
use std::time::Instant;

use super::Registry;
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

    /// The status of the instances of the vassal of that name, or of the instance of that name, or of all if
    /// the name is empty.
    ///
    /// # Errors
    /// There is none.
    pub fn statuses_of(&self, name: &OsStr, now: Instant) -> Result<Vec<Status<'_>>, String> {
        if name.is_empty() {
            return Ok(self.statuses(now));
        }
        let (file, number) = self.meant(name).ok_or_else(|| self.unknown(name))?;
        let all = self.vassal(file).into_iter().flat_map(|vassal| statuses_of(file, vassal, now));
        Ok(all.filter(|status| number.is_none_or(|number| number == status.replica)).collect())
    }
}

fn statuses_of<'a>(
    file: &'a VassalFile,
    vassal: &'a Vassal,
    now: Instant,
) -> impl Iterator<Item = Status<'a>> {
    vassal.instances().iter().map(move |instance| vassal.status(instance, file, now))
}
