//! Files that are renamed: the vassal ends under its old name before it starts under the new one.
//!
//! If both ran at the same time, the new instance would find the ports and sockets of the old one in use. A
//! vassal that has the new name already ends first: its file was replaced, or has another name itself.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Instant;

use super::Registry;
use crate::emperor::core::effect::{Decision, Effect};
use crate::emperor::core::file_version::{FileId, FileVersion};
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
        version: FileVersion,
        owner: Option<u32>,
        now: Instant,
    ) {
        let (from, to) = (&self.known(from), &self.known(to));
        if from == to {
            return self.touched(to, "file changed", version.owner);
        }
        let id = version.id();
        let renamed = format!("file renamed to {}", named_beside(to, from));
        let replaced = format!("file replaced by that of {}", named_beside(from, to));
        // Renamed again, while the vassal is still ending under its first name. An editor may have made
        // another file of it in between.
        let has_own = self.vassals.get(from).is_some();
        let is_it = |renamed: &Renamed| renamed.to == *from && (renamed.id == id || !has_own);
        if let Some(index) = self.renamed.iter().position(is_it) {
            let mut renamed = self.renamed.remove(index);
            if renamed.from == *to && renamed.parked.is_none() {
                return self.refresh(to, "file is back");
            }
            renamed.to = Rc::clone(to);
            self.renamed.push(renamed);
            self.give_up(to, &replaced, now);
            return self.begin_parked(to, now);
        }
        let replaces = self.vassals.get(to).is_some();
        match self.vassals.get(from) {
            Some(vassal) if vassal.has_process() || !replaces => {
                let (is_held, keeps_sockets) = (vassal.is_held(), vassal.owner == owner);
                let (before, to) = (Rc::clone(from), Rc::clone(to));
                let parked = None;
                self.give_up(&to, &replaced, now);
                self.renamed.push(Renamed { from: before, to, owner, id, parked, is_held, keeps_sockets });
            }
            // One that does not run leaves nothing to the vassal of the name that its file has now.
            _ if replaces => self.touched(to, "file changed", version.owner),
            _ => self.found(to, None, false, owner),
        }
        self.give_up(from, &renamed, now);
    }

    /// Whether a file waits until the vassal of its old name has ended.
    pub(super) fn waits_for_its_old_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| *renamed.to == *file)
    }

    /// Whether the vassal of a file will go on under another name.
    pub(super) fn has_another_name(&self, file: &VassalFile) -> bool {
        self.renamed.iter().any(|renamed| renamed.is_from(file))
    }

    /// Forgets a file that waits under its new name.
    pub(super) fn forget_new_name(&mut self, file: &VassalFile) {
        for dropped in self.renamed.extract_if(.., |renamed| *renamed.to == *file) {
            if let Some(parked) = dropped.parked {
                self.decisions.push_back(Decision::OfVassal(parked, Effect::Remove));
            }
        }
    }

    /// The vassal of `file` has ended: takes the entry of the file's new name, if it has one.
    pub(super) fn take_renamed(&mut self, file: &VassalFile) -> Option<Renamed> {
        let index = self.renamed.iter().position(|renamed| renamed.is_from(file))?;
        Some(self.renamed.remove(index))
    }

    /// Starts vassals under this new name, unless there is one of another file still.
    pub(super) fn begin_parked(&mut self, file: &VassalFile, now: Instant) {
        let is_it = |renamed: &Renamed| renamed.parked.is_some() && *renamed.to == *file;
        while self.vassals.get(file).is_none()
            && let Some(index) = self.renamed.iter().position(is_it)
        {
            let renamed = self.renamed.remove(index);
            self.go_on_as(renamed, true, now);
        }
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
        let has_them = has_them && renamed.keeps_sockets;
        let Renamed { from, to, owner, parked, is_held, .. } = &renamed;
        let source = parked.as_ref().unwrap_or(from);
        if self.vassals.get(to).is_some() {
            // It is ending. No file has such a path.
            let place = Rc::new(VassalFile::new(from.join("moved"), from.name_at()));
            if has_them {
                self.push(&Rc::clone(source), Effect::HandOverSockets { to: Rc::clone(&place) });
            }
            return self.renamed.push(Renamed { parked: Some(place), ..renamed });
        }
        self.log(to, format!("its file was {} before", named_beside(from, to)));
        self.found(to, None, false, *owner);
        if let Some(vassal) = self.vassals.get_mut(to) {
            // Until it has read its file, the next program knows by this which one it is.
            let FileId { device, inode } = renamed.id;
            vassal.file_version = FileVersion { device, inode, ..FileVersion::default() };
            for id in self.those(to, |_| *is_held) {
                self.step(&id, Input::Hold, now);
            }
            // The address was asked for, and the vassal does not start before it is known.
            if has_them {
                self.push(source, Effect::HandOverSockets { to: Rc::clone(to) });
            }
        }
        if let Some(parked) = parked {
            self.push(parked, Effect::Remove);
        }
    }
}

/// The name of a file, with its path if the other one is in another directory.
fn named_beside<'a>(file: &'a VassalFile, other: &VassalFile) -> Cow<'a, str> {
    let is_near = file.parent() == other.parent();
    readable(if is_near { file.file() } else { file.as_os_str() })
}
