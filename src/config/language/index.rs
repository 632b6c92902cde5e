//! All settings in order, and the first of each name without a search.

use std::collections::HashMap;

use crate::config::setting::Setting;

/// Settings in the order they were added. Keys do not change once they are in.
#[derive(Default)]
pub(super) struct Settings {
    list: Vec<Setting>,
    /// The index in `list` of the first setting of each name.
    first: HashMap<Vec<u8>, usize>,
}

impl Settings {
    /// Adds a setting behind all others.
    pub fn push(&mut self, setting: Setting) {
        if !self.first.contains_key(&setting.key) {
            self.first.insert(setting.key.clone(), self.list.len());
        }
        self.list.push(setting);
    }

    /// The value of the first setting of that name; the setting counts as used.
    pub fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        self.list.get(self.find(name)?)?.value.as_deref()
    }

    /// The index in the list of the first setting of that name; the setting counts as used.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let index = *self.first.get(name)?;
        self.list.get(index)?.used.set(true);
        Some(index)
    }

    /// All of them.
    pub fn list(&self) -> &[Setting] {
        &self.list
    }

    /// All of them, mutable. Their keys must not be changed.
    pub fn list_mut(&mut self) -> &mut [Setting] {
        &mut self.list
    }

    /// All of them, without the index.
    pub fn into_list(self) -> Vec<Setting> {
        self.list
    }
}
