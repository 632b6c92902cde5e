//! Which file has which vassal name. Files in several directories can have the same name: the first file gets
//! the name, and the others wait until it ends.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use super::file_version::FileId;
use super::sorted_map::SortedMap;
use super::vassal_file::VassalFile;
use crate::config::language::glob;

/// The names that are taken, and the files that wait for a name.
#[derive(Debug, Default)]
pub struct Names {
    taken: SortedMap<OsString, Rc<VassalFile>>,
    /// In the order of their arrival.
    waiting: Vec<Rc<VassalFile>>,
}

/// The result of a claim of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// The file has its name.
    Taken,
    /// Another file has the name. The file waits from now on.
    WaitsFor(Rc<VassalFile>),
    /// The file was waiting already.
    StillWaits,
}

/// A file that was renamed.
#[derive(Debug)]
pub struct Renamed {
    /// The file under its old name.
    pub from: Rc<VassalFile>,
    /// The file under its new name, which waits for the end of the vassal of the old one.
    pub to: Rc<VassalFile>,
    /// The owner, in tyrant mode, if it is known.
    pub owner: Option<u32>,
    /// Which file it is.
    pub id: FileId,
    /// Stands for the vassal of the old name, which has ended, and has its sockets, while another vassal of
    /// the new name has not ended.
    pub parked: Option<Rc<VassalFile>>,
    /// Whether the vassal was stopped by command. It does not start under the new name either.
    pub is_held: bool,
    /// Whether the sockets go along: the owner is the same.
    pub keeps_sockets: bool,
}

impl Renamed {
    /// Whether it waits for the end of the vassal of this file.
    pub fn is_from(&self, file: &VassalFile) -> bool {
        self.parked.is_none() && *self.from == *file
    }
}

/// Whether a name is a pattern that matches another name.
pub fn is_pattern_of(name: &OsStr, other: &OsStr) -> bool {
    glob::has_wildcard(name.as_bytes()) && glob::matches(name.as_bytes(), other.as_bytes())
}

impl Names {
    /// The file that has this name.
    pub fn get(&self, name: &OsStr) -> Option<&Rc<VassalFile>> {
        self.taken.get(name)
    }

    /// Claims its name for a file.
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

    /// Takes a file out of the waiting list.
    pub fn stop_waiting(&mut self, file: &VassalFile) {
        self.waiting.retain(|waiting| **waiting != *file);
    }

    /// Takes its name away from a file. Returns the file that has waited longest for the name, which may
    /// claim it now.
    pub fn release(&mut self, file: &VassalFile) -> Option<Rc<VassalFile>> {
        self.taken.remove(file.name());
        let next = self.waiting.iter().position(|waiting| waiting.name() == file.name())?;
        Some(self.waiting.remove(next))
    }
}
