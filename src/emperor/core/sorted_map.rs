//! A map kept as one sorted vector. A key is found by binary search, and added by moving the later ones.
//!
//! For the few thousand entries of an emperor this is as fast as a tree and takes less memory. `BTreeMap`
//! would make the program 37 kB larger, with one copy of its code for each type of key.

use std::borrow::Borrow;

/// Keys and values in the order of the keys.
#[derive(Debug, PartialEq, Eq)]
pub struct SortedMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> SortedMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The index of a key, or else the index at which to insert it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().and_then(|index| self.0.get(index)).map(|(_, value)| value)
    }

    /// A key in the form in which it was added.
    pub fn key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().and_then(|index| self.0.get(index)).map(|(known, _)| known)
    }

    /// The value of a key, mutable.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().and_then(|index| self.0.get_mut(index)).map(|(_, value)| value)
    }

    /// Adds a key, or replaces its value.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(index) => {
                if let Some(entry) = self.0.get_mut(index) {
                    entry.1 = value;
                }
            }
            Err(index) => self.0.insert(index, (key, value)),
        }
    }

    /// The value of a key, mutable. A key that is missing is added with a default value.
    pub fn get_or_insert(&mut self, key: &K) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        let index = self.find(key).unwrap_or_else(|index| {
            self.0.insert(index, (key.clone(), V::default()));
            index
        });
        #[allow(clippy::indexing_slicing)] // it was found there, or put there just above
        &mut self.0[index].1
    }

    /// Adds keys that are not in the map, and sorts once. To add thousands of keys one by one would move the
    /// rest each time.
    pub fn add(&mut self, entries: Vec<(K, V)>) {
        if !entries.is_empty() {
            self.0.extend(entries);
            self.0.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
    }

    /// Removes a key and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|index| self.0.remove(index).1)
    }

    /// Removes the entries for which `stays` is false.
    pub fn retain(&mut self, mut stays: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| stays(key, value));
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    /// The entries from a key on, in the order of their keys.
    pub fn from<Q: Ord + ?Sized>(&self, key: &Q) -> std::slice::Iter<'_, (K, V)>
    where
        K: Borrow<Q>,
    {
        let (Ok(start) | Err(start)) = self.find(key);
        self.0.get(start..).unwrap_or_default().iter()
    }

    /// The entries in the order of their keys; consumes the map.
    pub fn into_entries(self) -> Vec<(K, V)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_keys_in_order_and_once() {
        let mut table = SortedMap::default();
        for key in ["c", "a", "b", "a"] {
            table.insert(key.to_owned(), table.len());
        }
        let all: Vec<_> = table.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        assert_eq!(all, [("a", 3), ("b", 2), ("c", 0)]);
        assert_eq!((table.get("b"), table.get("x")), (Some(&2), None));
        let from = |key| table.from(key).map(|(key, _)| key.as_str()).collect::<Vec<_>>();
        assert_eq!((from("b"), from("bb"), from("d")), (vec!["b", "c"], vec!["c"], vec![]));
        assert_eq!((table.remove("a"), table.remove("a")), (Some(3), None));
        *table.get_mut("c").unwrap() = 7;
        assert_eq!(table.remove("c"), Some(7));
        assert!(table.len() == 1 && !table.is_empty());
        table.add(vec![("c".to_owned(), 5), ("a".to_owned(), 4)]);
        table.retain(|key, value| key != "b" && *value > 3);
        assert_eq!(table.into_entries(), [("a".to_owned(), 4), ("c".to_owned(), 5)]);
    }
}
