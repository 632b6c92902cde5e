//! Which file a vassal's name means. The files of several directories can have the same name: the first one
//! has it, the others wait for its end.

use std::ffi::{OsStr, OsString};
use std::rc::Rc;

use super::sorted_map::SortedMap;
use super::vassal_file::VassalFile;

/// The names that are taken, and the files that wait for one.
#[derive(Debug, Default)]
pub struct Names {
    taken: SortedMap<OsString, Rc<VassalFile>>,
    /// In the order in which they came.
    waiting: Vec<Rc<VassalFile>>,
}

/// The answer to a claim of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The file has its name.
    Taken,
    /// The name is another file's: it waits from now on.
    WaitsFor(Rc<VassalFile>),
    /// The file waits already.
    StillWaits,
}

/// A file that has another name now.
#[derive(Debug)]
pub struct Renamed {
    /// Under its old name, whose vassal has not ended yet.
    pub from: Rc<VassalFile>,
    /// Under its new name, which waits for that.
    pub to: Rc<VassalFile>,
    /// Its owner, in tyrant mode, if that is known.
    pub owner: Option<u32>,
    /// Whether the vassal was stopped by command: it does not start under another name either.
    pub is_held: bool,
}

impl Names {
    /// The file that has a name.
    pub fn get(&self, name: &OsStr) -> Option<&Rc<VassalFile>> {
        self.taken.get(name)
    }

    /// The file is to have its name.
    pub fn claim(&mut self, file: &Rc<VassalFile>) -> Claim {
        match self.taken.get(file.name()) {
            Some(owner) if owner == file => Claim::Taken,
            Some(_) if self.waiting.contains(file) => Claim::StillWaits,
            Some(owner) => {
                self.waiting.push(Rc::clone(file));
                Claim::WaitsFor(Rc::clone(owner))
            }
            None => {
                self.taken.insert(file.name().to_owned(), Rc::clone(file));
                Claim::Taken
            }
        }
    }

    /// The file does not wait for a name any more.
    pub fn stop_waiting(&mut self, file: &VassalFile) {
        self.waiting.retain(|waiting| **waiting != *file);
    }

    /// The file does not have its name any more. Returns the file that has waited for it longest, which may
    /// claim it.
    pub fn release(&mut self, file: &VassalFile) -> Option<Rc<VassalFile>> {
        self.taken.remove(file.name());
        let next = self.waiting.iter().position(|waiting| waiting.name() == file.name())?;
        Some(self.waiting.remove(next))
    }
}
