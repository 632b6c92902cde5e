//! Files that are renamed: the vassal ends under its old name before it starts under the new one.
//!
//! If both ran at the same time, the new instance would find the ports and sockets of the old one in use.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::effect::Effect;
use crate::emperor::core::machine::Input;
use crate::emperor::core::names::Renamed;
use crate::emperor::core::text::readable;
use crate::emperor::core::vassal_file::VassalFile;

impl Registry {
    /// Takes in that the file `from` is now called `to`.
    pub(super) fn renamed(
        &mut self,
        from: &Rc<VassalFile>,
        to: &Rc<VassalFile>,
        owner: Option<u32>,
        now: Instant,
    ) {
        let (from, to) = (&self.known(from), &self.known(to));
        // Renamed again, while the vassal is still ending under its first name.
        if let Some(index) = self.renamed.iter().position(|renamed| renamed.to == *from) {
            let mut renamed = self.renamed.remove(index);
            if renamed.from == *to {
                return self.refresh(to, "file is back");
            }
            renamed.to = Rc::clone(to);
            return self.renamed.push(renamed);
        }
        if let Some(vassal) = self.vassals.get(from) {
            let (is_held, keeps_sockets) = (vassal.is_held(), vassal.owner == owner);
            let (from, to) = (Rc::clone(from), Rc::clone(to));
            self.renamed.push(Renamed { from, to, owner, is_held, keeps_sockets });
        } else {
            self.found(to, None, false, owner);
        }
        self.removed(from, &format!("file renamed to {}", named_beside(to, from)), now);
    }

    /// Whether a file waits until the vassal of its old name has ended.
    pub(super) fn waits_for_its_old_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| *renamed.to == *file)
    }

    /// Whether the vassal of a file will go on under another name.
    pub(super) fn has_another_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| *renamed.from == *file)
    }

    /// Forgets a file that waits under its new name.
    pub(super) fn forget_new_name(&mut self, file: &VassalFile) {
        self.renamed.retain(|renamed| *renamed.to != *file);
    }

    /// The vassal of `file` has ended: takes the entry of the file's new name, if it has one.
    pub(super) fn take_renamed(&mut self, file: &VassalFile) -> Option<Renamed> {
        let index = self.renamed.iter().position(|renamed| *renamed.from == *file)?;
        Some(self.renamed.remove(index))
    }

    /// The instance of a vassal has ended, but the vassal goes on, with another file of the same name. Files
    /// that had this name before now start beside it. They do not get its sockets.
    pub(super) fn begin_beside(&mut self, file: &VassalFile, now: Instant) {
        let stays = self.vassals.get(file).is_some_and(|vassal| !vassal.has_process());
        while stays
            && !self.is_ending
            && let Some(renamed) = self.take_renamed(file)
        {
            self.go_on_as(renamed, false, now);
        }
    }

    /// Starts a vassal under its new name after it has ended under the old one, with the same sockets if
    /// `has_them`.
    pub(super) fn go_on_as(&mut self, renamed: Renamed, has_them: bool, now: Instant) {
        let Renamed { from, to, owner, is_held, keeps_sockets } = renamed;
        // A vassal of that name may exist and be ending. It goes on, with its own sockets.
        let is_new = self.vassals.get(&to).is_none();
        self.log(&to, format!("its file was {} before", named_beside(&from, &to)));
        self.found(&to, None, false, owner);
        if !is_new || self.vassals.get(&to).is_none() {
            return;
        }
        for id in self.those(&to, |_| is_held) {
            self.step(&id, Input::Hold, now);
        }
        // The address was asked for, and the vassal does not start before it is known.
        if has_them && keeps_sockets {
            self.push(&from, Effect::HandOverSockets { to });
        }
    }
}

/// The name of a file, with its path if the other one is in another directory.
fn named_beside<'a>(file: &'a VassalFile, other: &VassalFile) -> Cow<'a, str> {
    let is_near = file.parent() == other.parent();
    readable(if is_near { file.file() } else { file.as_os_str() })
}
