//! Files that get another name: one vassal, which ends under its old name before it begins under the new one.
//!
//! Started beside each other, the new instance would find the ports and sockets of the old one in use.

use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::effect::Effect;
use crate::emperor::core::machine::Input;
use crate::emperor::core::names::Renamed;
use crate::emperor::core::text::readable;
use crate::emperor::core::vassal_file::VassalFile;

impl Registry {
    /// The file `from` is called `to` now.
    pub(super) fn renamed(
        &mut self,
        from: &Rc<VassalFile>,
        to: &Rc<VassalFile>,
        owner: Option<u32>,
        now: Instant,
    ) {
        let (from, to) = (&self.known(from), &self.known(to));
        // Renamed once more while the vassal still ends under its first name.
        if let Some(index) = self.renamed.iter().position(|renamed| renamed.to == *from) {
            let mut renamed = self.renamed.remove(index);
            if renamed.from == *to {
                return self.refresh(to, "file is back");
            }
            renamed.to = Rc::clone(to);
            return self.renamed.push(renamed);
        }
        let vassal = self.vassals.get(from);
        if let Some(is_held) = vassal.map(|vassal| vassal.is_held()) {
            let (from, to) = (Rc::clone(from), Rc::clone(to));
            self.renamed.push(Renamed { from, to, owner, is_held });
        } else {
            self.found(to, None, false, owner);
        }
        self.removed(from, &format!("file renamed to {}", readable(to.file())), now);
    }

    /// Whether a file waits for the end of the vassal that it was before it got its name.
    pub(super) fn waits_for_its_old_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| *renamed.to == *file)
    }

    /// Whether the vassal of a file goes on under another name.
    pub(super) fn has_another_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| *renamed.from == *file)
    }

    /// The file does not wait any more.
    pub(super) fn forget_new_name(&mut self, file: &VassalFile) {
        self.renamed.retain(|renamed| *renamed.to != *file);
    }

    /// The vassal of `file` has ended: the file under its new name, if it has one.
    pub(super) fn take_renamed(&mut self, file: &VassalFile) -> Option<Renamed> {
        let index = self.renamed.iter().position(|renamed| *renamed.from == *file)?;
        Some(self.renamed.remove(index))
    }

    /// The instance of a vassal has ended, and another one follows it: there is another file of its name. The
    /// files that had the name before begin beside it. What the vassal has is its own.
    pub(super) fn begin_beside(&mut self, file: &VassalFile, now: Instant) {
        let stays = self.vassals.get(file).is_some_and(|vassal| vassal.process().is_none());
        while stays
            && !self.is_ending
            && let Some(renamed) = self.take_renamed(file)
        {
            self.go_on_as(renamed, false, now);
        }
    }

    /// A vassal that has ended under its old name begins under the new one, with the same sockets if it
    /// `has_them`. Returns whether there is one more vassal by that: the name may be taken.
    pub(super) fn go_on_as(&mut self, renamed: Renamed, has_them: bool, now: Instant) -> bool {
        let Renamed { from, to, owner, is_held } = renamed;
        // There may be a vassal of that name which is on its way out: it goes on, with its own sockets.
        let is_new = self.vassals.get(&to).is_none();
        self.log(&to, format!("its file was {} before", readable(from.file())));
        self.found(&to, None, false, owner);
        if !is_new || self.vassals.get(&to).is_none() {
            return false;
        }
        if is_held {
            self.step(&to, Input::Hold, now);
        }
        // Nothing is started before its address is known, which is asked for by now.
        if has_them {
            self.push(&from, Effect::HandOverSockets { to });
        }
        true
    }
}
