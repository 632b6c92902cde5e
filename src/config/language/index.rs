//! All settings in order, and the first of each name without a search.

use crate::config::setting::Setting;

/// Settings in the order they were added. Keys do not change once they are in.
#[derive(Default)]
pub(super) struct Settings {
    list: Vec<Setting>,
    /// The first setting of each name: among those before the policy, and among those of the policy.
    first: [First; 2],
    /// The index in `list` where the operator's policy begins.
    policy: Option<usize>,
}

impl Settings {
    /// Adds a setting behind all others.
    pub fn push(&mut self, setting: Setting) {
        let [vassals, policys] = &mut self.first;
        let first = if self.policy.is_some() { policys } else { vassals };
        self.list.push(setting);
        first.add_last(&self.list);
    }

    /// Marks where the policy begins: after all settings so far. With `None`, later settings are not part of
    /// it.
    pub fn set_policy(&mut self, at: Option<usize>) {
        self.policy = at;
    }

    /// Whether the setting at an index, or the next one to be added, is part of the policy.
    pub fn is_policy(&self, index: usize) -> bool {
        self.policy.is_some_and(|policy| policy <= index)
    }

    /// The value of a name, as seen by the setting at the index `asker`. The setting that has the name counts
    /// as used.
    pub fn value_of(&self, name: &[u8], asker: usize) -> Option<&[u8]> {
        self.list.get(self.find(name, asker)?)?.value.as_deref()
    }

    /// The index of the first setting of that name, which then counts as used. Where a setting of the policy
    /// asks for a name that the policy defines, the vassal's definition does not count.
    pub fn find(&self, name: &[u8], asker: usize) -> Option<usize> {
        let [vassals, policys] = &self.first;
        let is_policy = self.is_policy(asker);
        let (one, other) = if is_policy { (policys, vassals) } else { (vassals, policys) };
        let index = one.find(&self.list, name).or_else(|| other.find(&self.list, name))?;
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

/// The first setting of each name, in a hash table. (The hash table of std would add 3 kB to each program.)
struct First {
    /// Indices of settings. Each is in the first place that was free, counted from its hash. The length is a
    /// power of two, and at most half of the places are taken.
    places: Vec<Option<u32>>,
    taken: usize,
    /// A number that a tenant cannot know, and so cannot write a file of names that all have the same hash.
    factor: u64,
}

impl Default for First {
    fn default() -> Self {
        // The kernel chooses the address at random when it loads the program.
        let chosen = std::ptr::from_ref(&0_u8).addr() as u64;
        Self { places: vec![None; 16], taken: 0, factor: chosen.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }
}

impl First {
    /// Adds the last setting of the list, unless there is one of its name.
    fn add_last(&mut self, list: &[Setting]) {
        if self.taken * 2 == self.places.len() {
            let empty = vec![None; self.places.len() * 2];
            let old = std::mem::replace(&mut self.places, empty);
            old.into_iter().flatten().for_each(|index| self.put(list, index));
        }
        let last = list.len().saturating_sub(1) as u32;
        if list.last().is_some_and(|last| self.find(list, &last.key).is_none()) {
            self.put(list, last);
            self.taken += 1;
        }
    }

    /// Puts the index of a setting in its place.
    fn put(&mut self, list: &[Setting], index: u32) {
        let place = list.get(index as usize).map(|setting| self.place(list, &setting.key));
        if let Some(place) = place.and_then(|place| self.places.get_mut(place)) {
            *place = Some(index);
        }
    }

    /// The index of the setting of this name.
    fn find(&self, list: &[Setting], name: &[u8]) -> Option<usize> {
        let index = self.places.get(self.place(list, name)).copied().flatten()?;
        Some(index as usize)
    }

    /// The place that has the setting of this name, or that it would have.
    fn place(&self, list: &[Setting], name: &[u8]) -> usize {
        let add = |hash: u64, byte: &u8| hash.wrapping_add(1 + u64::from(*byte)).wrapping_mul(self.factor);
        // The upper bits depend on all of the name.
        let mut place = (name.iter().fold(0, add) >> 32) as usize;
        loop {
            place &= self.places.len() - 1;
            match self.places.get(place).copied().flatten().and_then(|index| list.get(index as usize)) {
                Some(other) if other.key != name => place += 1,
                _ => return place,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::setting::PlainSetting;

    #[test]
    fn the_first_of_each_name_is_found_among_many() {
        let mut settings = Settings::default();
        let key = |number: u32| format!("key{number}").into_bytes();
        for number in 0..10_000 {
            // Each name occurs twice.
            settings.push(Setting::of_plain(&PlainSetting { key: key(number / 2), ..Default::default() }));
        }
        for number in 0..5_000 {
            assert_eq!(settings.find(&key(number), 0), Some(number as usize * 2));
        }
        assert_eq!((settings.find(&key(5_000), 0), settings.find(b"", 0)), (None, None));
    }
}
