//! Shares of the emperor's IDs. With an emperor of root's, the user namespace of each vassal has IDs that no
//! other vassal has, so that none can touch what another one has written.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::process::Pid;

use crate::emperor::core::text::hash;
use crate::error::{Error, Result};
use crate::user_namespace::Maps;

/// How many IDs a vassal has, of users and of groups: as many as a usual /etc/passwd uses.
const SHARE: u32 = 65_536;

/// All shares, and which of them are in use.
#[derive(Debug)]
pub struct Shares {
    maps: Vec<Maps>,
    is_taken: RefCell<Vec<bool>>,
}

/// A share that is in use, until it is dropped.
#[derive(Debug)]
pub struct Share {
    number: usize,
    of: Rc<Shares>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.mark(self.number, false);
    }
}

impl Shares {
    /// The shares of these IDs.
    ///
    /// # Errors
    /// They are not enough for one.
    pub fn new(all: &Maps) -> Result<Rc<Self>> {
        let maps: Vec<_> = (0..).map_while(|number| all.part(number, SHARE)).collect();
        if maps.is_empty() {
            let reason = format_args!("/etc/subuid and /etc/subgid must grant at least {SHARE} in one range");
            return Err(Error::new("map-users: share", "the IDs", reason));
        }
        let is_taken = RefCell::new(vec![false; maps.len()]);
        Ok(Rc::new(Self { maps, is_taken }))
    }

    /// A share for the vassal with this name: the same one as before, as long as no other vassal has it.
    ///
    /// # Errors
    /// All are in use.
    pub fn take(self: &Rc<Self>, name: &OsStr) -> Result<Share> {
        let (first, count) = (self.usual(name), self.maps.len());
        let is_free = |number: &usize| self.is_taken.borrow().get(*number) == Some(&false);
        let Some(number) = (first..count).chain(0..first).find(is_free) else {
            let reason = format_args!(
                "all {count} that /etc/subuid and /etc/subgid grant are in use, of {SHARE} IDs each"
            );
            return Err(Error::new("map-users:", "no share is left", reason));
        };
        Ok(self.taken(number))
    }

    /// The share of a process that is running.
    pub fn of(self: &Rc<Self>, pid: Pid) -> Option<Share> {
        let maps = Maps::read(pid)?;
        self.maps.iter().position(|share| *share == maps).map(|number| self.taken(number))
    }

    /// The IDs of a process that only reads the vassal's file: those of the vassal, unless another has them.
    pub fn for_check(&self, name: &OsStr) -> Option<&Maps> {
        self.maps.get(self.usual(name))
    }

    fn usual(&self, name: &OsStr) -> usize {
        (hash(name.as_bytes().iter().copied()) % self.maps.len() as u64) as usize
    }

    fn taken(self: &Rc<Self>, number: usize) -> Share {
        self.mark(number, true);
        Share { number, of: Rc::clone(self) }
    }

    fn mark(&self, number: usize, taken: bool) {
        if let Some(is_taken) = self.is_taken.borrow_mut().get_mut(number) {
            *is_taken = taken;
        }
    }
}

impl Share {
    /// Its IDs.
    pub fn maps(&self) -> Option<&Maps> {
        self.of.maps.get(self.number)
    }
}
