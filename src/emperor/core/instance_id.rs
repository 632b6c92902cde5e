//! The identity of an instance.

use std::rc::Rc;

use super::vassal_file::VassalFile;

/// The number of the first instance of a vassal, which is the only one of most vassals.
pub const FIRST: u16 = 1;

/// An instance: its vassal, and its number among the instances of that vassal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InstanceId {
    /// The file of its vassal.
    pub file: Rc<VassalFile>,
    /// Its number, from [`FIRST`]. An instance that takes the place of another one has another number for as
    /// long as both are there.
    pub number: u16,
}

impl InstanceId {
    /// The instance of that number.
    pub fn new(file: &Rc<VassalFile>, number: u16) -> Self {
        Self { file: Rc::clone(file), number }
    }
}
