//! All settings in order, and the first of each name without a search.

use std::collections::HashMap;

use crate::config::setting::Setting;

/// Settings in the order they were added. Keys do not change once they are in.
#[derive(Default)]
pub(super) struct Settings {
    list: Vec<Setting>,
    /// The index in `list` of the first setting of each name: of those before the policy, and of the policy.
    first: [HashMap<Vec<u8>, usize>; 2],
    /// The index in `list` where the operator's policy begins.
    policy: Option<usize>,
}

impl Settings {
    /// Adds a setting behind all others.
    pub fn push(&mut self, setting: Setting) {
        let [vassals, policys] = &mut self.first;
        let first = if self.policy.is_some() { policys } else { vassals };
        if !first.contains_key(&setting.key) {
            first.insert(setting.key.clone(), self.list.len());
        }
        self.list.push(setting);
    }

    /// Marks where the policy begins: behind all settings so far. `None`: what is added now is none of it.
    pub fn set_policy(&mut self, at: Option<usize>) {
        self.policy = at;
    }

    /// Whether the setting at an index, or the next one to be added, is part of the policy.
    pub fn is_policy(&self, index: usize) -> bool {
        self.policy.is_some_and(|policy| policy <= index)
    }

    /// The value that a name has for the setting at the index `asker`; the setting it is of counts as used.
    pub fn value_of(&self, name: &[u8], asker: usize) -> Option<&[u8]> {
        self.list.get(self.find(name, asker)?)?.value.as_deref()
    }

    /// The index in the list of the first setting of that name; the setting counts as used. What the policy
    /// calls by a name of its own, a vassal cannot redefine.
    pub fn find(&self, name: &[u8], asker: usize) -> Option<usize> {
        let [vassals, policys] = &self.first;
        let is_policy = self.is_policy(asker);
        let (one, other) = if is_policy { (policys, vassals) } else { (vassals, policys) };
        let index = *one.get(name).or_else(|| other.get(name))?;
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
