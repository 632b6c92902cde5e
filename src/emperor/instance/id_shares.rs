//! Shares of the emperor's IDs. With an emperor of root's, the user namespace of each vassal has IDs that no
//! other vassal has, so that none can touch what another one has written.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use rustix::process::{Pid, geteuid};

use crate::config::plan::{IdMap, MapsPlan, VassalsPlan};
use crate::emperor::core::text::hash;
use crate::error::{Error, Result};
use crate::log;
use crate::user_namespace::Maps;

/// How many IDs a vassal has, of users and of groups: as many as a usual /etc/passwd uses.
const SHARE: u32 = 65_536;

/// The IDs of the user namespaces of instances.
pub enum Ids {
    /// All have the same ones.
    Same(Maps),
    /// Each has a share of its own.
    Shares(Rc<Shares>),
}

impl Ids {
    /// The IDs for the user namespaces of a plan; `None` if it has none.
    ///
    /// # Errors
    /// As [`Maps::of`] and [`Shares::new`].
    pub fn of(vassals: &VassalsPlan) -> Result<Option<Self>> {
        if !vassals.has_namespace(libc::CLONE_NEWUSER) {
            return Ok(None);
        }
        let (maps, is_root) = (Maps::of(&vassals.maps)?, geteuid().is_root());
        if is_root && vassals.maps == MapsPlan::default() {
            log!(
                "'user' in 'emperor-use-clone' without 'map-users': root of a vassal is root of the machine"
            );
        }
        let is_auto = vassals.maps.users.iter().any(|entry| entry.value == IdMap::Auto);
        Ok(Some(match is_auto && is_root {
            true => Self::Shares(Shares::new(&maps)?),
            false => Self::Same(maps),
        }))
    }

    /// The IDs for an instance of the vassal with this name, with the share that they are.
    ///
    /// # Errors
    /// No share is left.
    pub fn take(&self, name: &OsStr) -> Result<(Maps, Option<Share>)> {
        Ok(match self {
            Self::Same(maps) => (maps.clone(), None),
            Self::Shares(shares) => {
                let share = shares.take(name)?;
                (share.maps.clone(), Some(share))
            }
        })
    }

    /// The IDs of a process that reads the file of the vassal with this name: those that the vassal has.
    ///
    /// # Errors
    /// It has none, and all are in use.
    pub fn for_check(&self, name: &OsStr) -> Result<Maps> {
        match self {
            Self::Same(maps) => Ok(maps.clone()),
            Self::Shares(shares) => shares.for_check(name),
        }
    }

    /// The share that a running instance has.
    pub fn of_running(&self, name: &OsStr, pid: Pid) -> Option<Share> {
        match self {
            Self::Same(_) => None,
            Self::Shares(shares) => shares.of(name, pid),
        }
    }
}

/// All shares, and who has them.
#[derive(Debug)]
pub struct Shares(RefCell<Vec<Place>>);

#[derive(Debug)]
struct Place {
    maps: Maps,
    /// The vassal that has it, or had it last.
    name: Option<OsString>,
    /// How many of its instances have it now.
    users: usize,
}

/// A share that is in use, until it is dropped.
#[derive(Debug)]
pub struct Share {
    number: usize,
    maps: Maps,
    of: Rc<Shares>,
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(place) = self.of.0.borrow_mut().get_mut(self.number) {
            place.users = place.users.saturating_sub(1);
        }
    }
}

impl Shares {
    /// The shares of these IDs.
    ///
    /// # Errors
    /// They are not enough for one.
    pub fn new(all: &Maps) -> Result<Rc<Self>> {
        let place = |maps| Place { maps, name: None, users: 0 };
        let places: Vec<_> = all.parts(SHARE).into_iter().map(place).collect();
        if places.is_empty() {
            let reason = format_args!("/etc/subuid and /etc/subgid must grant at least {SHARE} in one range");
            return Err(Error::new("map-users: share", "the IDs", reason));
        }
        Ok(Rc::new(Self(RefCell::new(places))))
    }

    /// A share for the vassal with this name: the one that it had before. Otherwise one that nobody has had,
    /// from a place on that depends on the name; one that a vassal has had which does not run only if there
    /// is no other.
    ///
    /// # Errors
    /// All are in use.
    pub fn take(self: &Rc<Self>, name: &OsStr) -> Result<Share> {
        let mut places = self.0.borrow_mut();
        let count = places.len();
        let first = (hash(name.as_bytes().iter().copied()) % count as u64) as usize;
        let find = |is_it: &dyn Fn(&Place) -> bool| {
            let is_found = |number: &usize| places.get(*number).is_some_and(is_it);
            (first..count).chain(0..first).find(is_found)
        };
        let is_its = |place: &Place| place.name.as_deref() == Some(name);
        let number = find(&is_its)
            .or_else(|| find(&|place| place.users == 0 && place.name.is_none()))
            .or_else(|| find(&|place| place.users == 0));
        let Some((number, place)) = number.and_then(|number| Some((number, places.get_mut(number)?))) else {
            let reason = format_args!(
                "all {count} that /etc/subuid and /etc/subgid grant are in use, of {SHARE} IDs each"
            );
            return Err(Error::new("map-users:", "no share is left", reason));
        };
        place.name = Some(name.to_owned());
        place.users += 1;
        Ok(Share { number, maps: place.maps.clone(), of: Rc::clone(self) })
    }

    fn for_check(self: &Rc<Self>, name: &OsStr) -> Result<Maps> {
        let is_its = |place: &&Place| place.name.as_deref() == Some(name);
        let its = self.0.borrow().iter().find(is_its).map(|place| place.maps.clone());
        its.map_or_else(|| self.take(name).map(|share| share.maps.clone()), Ok)
    }

    /// The share that the running vassal of this name has. IDs of its that are in no share of today's are
    /// nobody else's either, as long as this emperor lives.
    pub fn of(self: &Rc<Self>, name: &OsStr, pid: Pid) -> Option<Share> {
        let maps = Maps::read(pid)?;
        let mut found = None;
        for (number, place) in self.0.borrow_mut().iter_mut().enumerate() {
            if place.maps.meets(&maps) {
                place.name = Some(name.to_owned());
                place.users += 1;
                if place.maps == maps {
                    found = Some(number);
                }
            }
        }
        found.map(|number| Share { number, maps, of: Rc::clone(self) })
    }
}
