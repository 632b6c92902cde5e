//! The owners of files, in tyrant mode: a user has only so many vassals, and further files wait.

use std::rc::Rc;

use super::Registry;
use crate::emperor::core::instance::Instance;
use crate::emperor::core::text::Count;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;

impl Registry {
    /// Whether the owner of a file may have one more vassal. Otherwise the file waits for the end of one.
    pub(super) fn admits(&mut self, file: &Rc<VassalFile>, owner: Option<u32>) -> bool {
        let Some(owner) = owner.filter(|_| self.vassals.get(file).is_none()) else { return true };
        let count = self.instances_of(owner, |_| true);
        if count < self.rules.max_per_owner {
            return true;
        }
        if !self.held_back.iter().any(|(_, other)| *other == owner) {
            let (shown, count) = (file.display(), Count(count as u64, "vassal"));
            let line = format!("{shown} has to wait: user {owner} has {count} (emperor-tyrant-max)");
            self.log(file, format!("{line}; further files of the user are not told of"));
        }
        self.held_back.push((Rc::clone(file), owner));
        false
    }

    /// How many instances that count a user has, of all vassals together.
    pub(super) fn instances_of(&self, owner: u32, counts: impl Fn(&Instance) -> bool) -> usize {
        let count = |vassal: &Vassal| vassal.instances.iter().filter(|instance| counts(instance)).count();
        self.vassals().filter(|(_, vassal)| vassal.is_of(owner)).map(|(_, vassal)| count(vassal)).sum()
    }

    /// Lets files of a user in that had to wait, as many as the user may have.
    pub(super) fn admit(&mut self, owner: Option<u32>) {
        let Some(owner) = owner else { return };
        while self.instances_of(owner, |_| true) < self.rules.max_per_owner
            && let Some(index) = self.held_back.iter().position(|(_, other)| *other == owner)
        {
            let (file, _) = self.held_back.remove(index);
            self.begin_turn(&file);
            self.note_owner(&file, Some(owner));
        }
    }

    pub(super) fn begin_turn(&mut self, file: &Rc<VassalFile>) {
        self.log(file, format!("{}: its turn has come", file.display()));
        self.refresh(file, "");
    }

    pub(super) fn note_owner(&mut self, file: &VassalFile, owner: Option<u32>) {
        if let Some(vassal) = self.vassals.get_mut(file) {
            vassal.owner = owner;
        }
    }
}
