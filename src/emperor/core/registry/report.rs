//! Reports about the vassals, for the log, commands, stats and metrics.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::machine::State;
use crate::emperor::core::names::is_pattern_of;
use crate::emperor::core::status::Status;
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::log::printable;

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
    /// all vassals if there is none. One instance of several has its number behind the name: `NAME/2`. A name
    /// that `is_other` may be that of no vassal.
    ///
    /// # Errors
    /// There is no such vassal.
    pub fn statuses_of(
        &self,
        names: &[&OsStr],
        is_other: &dyn Fn(&OsStr) -> bool,
        now: Instant,
    ) -> Result<Vec<Status<'_>>, String> {
        if names.is_empty() {
            return Ok(self.statuses(now));
        }
        // Whom a name means is looked up once, and no status is made for others.
        let known: Vec<_> = names.iter().map(|name| (*name, self.meant(name))).collect();
        for (name, meant) in &known {
            if meant.is_none() && !self.is_pattern_of_some(name) && !is_other(name) {
                return Err(self.unknown(name));
            }
        }
        let mut all = Vec::new();
        for (file, vassal) in self.vassals() {
            let numbers = known.iter().filter_map(|(name, meant)| match meant {
                Some((meant, number)) => (*meant == file).then_some(*number),
                None => is_pattern_of(name, file.name()).then_some(None),
            });
            let numbers: Vec<_> = numbers.collect();
            if !numbers.is_empty() {
                let is_it = |status: &Status<'_>| {
                    numbers.iter().any(|number| number.is_none_or(|number| number == status.replica))
                };
                all.extend(statuses_of(file, vassal, now).filter(is_it));
            }
        }
        Ok(all)
    }

    /// Whether a name is a pattern that matches that of a vassal.
    pub(super) fn is_pattern_of_some(&self, name: &OsStr) -> bool {
        self.vassals().any(|(file, _)| is_pattern_of(name, file.name()))
    }

    /// A line for each of these instances, for `ps` and `enter`: the pid of its PID 1 and that of its app in
    /// the vassal, each 0 if there is none; its state; and its name.
    ///
    /// # Errors
    /// As [`Registry::statuses_of`].
    pub fn processes(&self, names: &[&OsStr], now: Instant) -> Result<String, String> {
        let mut lines = String::new();
        for vassal in self.statuses_of(names, &|_| false, now)? {
            let (pid, app) = (vassal.pid.unwrap_or_default(), vassal.app.pid.unwrap_or_default());
            let _ = writeln!(lines, "{pid} {app} {} {}", vassal.state, printable(&vassal.name));
        }
        Ok(lines)
    }
}

fn statuses_of<'a>(
    file: &'a VassalFile,
    vassal: &'a Vassal,
    now: Instant,
) -> impl Iterator<Item = Status<'a>> {
    vassal.instances().iter().map(move |instance| vassal.status(instance, file, now))
}
