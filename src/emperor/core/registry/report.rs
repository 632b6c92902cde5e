//! Reports about the vassals, for the log, commands, stats and metrics.

use std::ffi::OsStr;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::machine::State;
use crate::emperor::core::status::Status;
use crate::emperor::core::text::Count;

impl Registry {
    /// Logs one line for every vassal.
    pub fn log_statuses(&mut self, now: Instant) {
        for file in self.files() {
            if let Some(line) = self.vassal(&file).map(|vassal| vassal.status(&file, now).line()) {
                self.log(&file, line);
            }
        }
    }

    /// One line with the number of vassals, and how many run and wait.
    pub fn summary(&self) -> String {
        let (mut running, mut waiting) = (0, 0);
        for (_, vassal) in self.vassals() {
            match vassal.state() {
                State::Running { .. } | State::Reloading { .. } => running += 1,
                State::Backoff { .. } | State::Invalid { .. } => waiting += 1,
                State::Idle | State::Starting { .. } | State::Stopping { .. } => {}
                State::Held | State::Waiting => {}
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

    /// The status of all vassals.
    pub fn statuses(&self, now: Instant) -> Vec<Status<'_>> {
        self.vassals().map(|(file, vassal)| vassal.status(file, now)).collect()
    }

    /// The status of the vassal of that name, or of all vassals if the name is empty.
    ///
    /// # Errors
    /// There is no such vassal.
    pub fn statuses_of(&self, name: &OsStr, now: Instant) -> Result<Vec<Status<'_>>, String> {
        if name.is_empty() {
            return Ok(self.statuses(now));
        }
        let file = self.names.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(self.vassal(file).map(|vassal| vassal.status(file, now)).into_iter().collect())
    }
}
