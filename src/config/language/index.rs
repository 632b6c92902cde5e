//! All settings in order, and the first of each name without looking at the others.

use super::magic::hash;
use crate::config::setting::Setting;

/// Settings in the order they were added. Keys do not change once they are in.
#[derive(Default)]
pub(super) struct Settings {
    list: Vec<Setting>,
    /// A hash table with open addressing: a setting's place in the list plus 1, or 0. At most half of it is in use; its
    /// length is a power of 2. (std's tables are many times the code.)
    slots: Vec<u32>,
    /// How many of them are in use.
    names: usize,
}

impl Settings {
    /// Adds a setting behind all others.
    pub fn push(&mut self, setting: Setting) {
        if self.names * 2 >= self.slots.len() {
            self.grow();
        }
        self.list.push(setting);
        self.enter(self.list.len());
    }

    /// The value of the first setting of that name; it counts as used.
    pub fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        self.list.get(self.find(name)?)?.value.as_deref()
    }

    /// The place in the list of the first setting of that name; it counts as used.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let place = (*self.slots.get(self.slot(name)?)? as usize).checked_sub(1)?;
        self.list.get(place)?.used.set(true);
        Some(place)
    }

    /// All of them.
    pub fn list(&self) -> &[Setting] {
        &self.list
    }

    /// All of them, to change what is not their key.
    pub fn list_mut(&mut self) -> &mut [Setting] {
        &mut self.list
    }

    /// All of them, without the index.
    pub fn into_list(self) -> Vec<Setting> {
        self.list
    }

    fn at(&self, entry: u32) -> Option<&Setting> {
        self.list.get((entry as usize).checked_sub(1)?)
    }

    /// Where a name is in the table, or would be.
    fn slot(&self, name: &[u8]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let start = hash(name) as usize;
        (0..=mask).map(|step| start.wrapping_add(step) & mask).find(|&slot| {
            let entry = self.slots.get(slot).copied().unwrap_or(0);
            self.at(entry).is_none_or(|setting| setting.key == name)
        })
    }

    /// Puts a setting's number (its place in the list plus 1) into the table, unless an earlier one has the name.
    fn enter(&mut self, number: usize) {
        let slot = self.at(number as u32).and_then(|setting| self.slot(&setting.key));
        if let Some(entry) = slot.and_then(|slot| self.slots.get_mut(slot))
            && *entry == 0
        {
            *entry = number as u32;
            self.names += 1;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; (self.slots.len() * 2).max(64)];
        self.names = 0;
        for number in 1..=self.list.len() {
            self.enter(number);
        }
    }
}
