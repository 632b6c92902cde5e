//! A map kept as sorted vectors of at most `PART` entries. A key is found by two binary searches, and added
//! by moving the later ones of one vector: that costs the same however many there are.
//!
//! For the few thousand entries of an emperor this is as fast as a tree and takes less memory. `BTreeMap`
//! would make the program 37 kB larger, with one copy of its code for each type of key.

use std::borrow::Borrow;

/// The most entries in one vector.
const PART: usize = 128;

/// Keys and values in the order of the keys.
#[derive(Debug)]
pub struct SortedMap<K, V> {
    /// None of them is empty.
    parts: Vec<Vec<(K, V)>>,
    len: usize,
}

/// The place of an entry: which vector, and the index there.
type Place = (usize, usize);

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        Self { parts: Vec::new(), len: 0 }
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SortedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for SortedMap<K, V> {}

impl<K: Ord, V> SortedMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place of a key, or else the place at which to insert it.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let begins_before = |part: &Vec<(K, V)>| part.first().is_some_and(|(first, _)| first.borrow() <= key);
        let part = self.parts.partition_point(begins_before).saturating_sub(1);
        let entries = self.parts.get(part).map_or(&[][..], Vec::as_slice);
        let index = entries.binary_search_by(|(known, _)| known.borrow().cmp(key));
        index.map(|index| (part, index)).map_err(|index| (part, index))
    }

    fn at(&self, (part, index): Place) -> Option<&(K, V)> {
        self.parts.get(part)?.get(index)
    }

    fn at_mut(&mut self, (part, index): Place) -> Option<&mut (K, V)> {
        self.parts.get_mut(part)?.get_mut(index)
    }

    /// Adds an entry at the place that [`SortedMap::find`] has told. Returns where it is then.
    fn put(&mut self, (mut part, mut index): Place, entry: (K, V)) -> Place {
        if let Some(entries) = self.parts.get_mut(part)
            && entries.len() >= PART
        {
            // Keys that come in their order leave full vectors behind.
            let kept = if index == PART { PART } else { PART / 2 };
            let rest = entries.split_off(kept);
            self.parts.insert(part + 1, rest);
            if index >= kept {
                (part, index) = (part + 1, index - kept);
            }
        }
        match self.parts.get_mut(part) {
            Some(entries) => entries.insert(index, entry),
            None => self.parts.push(vec![entry]),
        }
        self.len += 1;
        (part, index)
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.at(self.find(key).ok()?).map(|(_, value)| value)
    }

    /// A key in the form in which it was added.
    pub fn key<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.at(self.find(key).ok()?).map(|(known, _)| known)
    }

    /// The value of a key, mutable.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.at_mut(self.find(key).ok()?).map(|(_, value)| value)
    }

    /// Adds a key, or replaces its value.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(place) => {
                if let Some(entry) = self.at_mut(place) {
                    entry.1 = value;
                }
            }
            Err(place) => _ = self.put(place, (key, value)),
        }
    }

    /// The value of a key, mutable. A key that is missing is added with a default value.
    pub fn get_or_insert(&mut self, key: &K) -> &mut V
    where
        K: Clone,
        V: Default,
    {
        let (part, index) =
            self.find(key).unwrap_or_else(|place| self.put(place, (key.clone(), V::default())));
        #[allow(clippy::indexing_slicing)] // it was found there, or put there just above
        &mut self.parts[part][index].1
    }

    /// Adds keys that are not in the map, and sorts once.
    pub fn add(&mut self, entries: Vec<(K, V)>) {
        if !entries.is_empty() {
            let mut all = std::mem::take(self).into_entries();
            all.extend(entries);
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            self.len = all.len();
            let mut all = all.into_iter().peekable();
            while all.peek().is_some() {
                self.parts.push(all.by_ref().take(PART).collect());
            }
        }
    }

    /// Removes a key and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (part, index) = self.find(key).ok()?;
        let entries = self.parts.get_mut(part)?;
        let (_, value) = entries.remove(index);
        if entries.is_empty() {
            self.parts.remove(part);
        }
        self.len -= 1;
        Some(value)
    }

    /// Removes the entries for which `stays` is false.
    pub fn retain(&mut self, mut stays: impl FnMut(&K, &V) -> bool) {
        self.parts.iter_mut().for_each(|part| part.retain(|(key, value)| stays(key, value)));
        self.parts.retain(|part| !part.is_empty());
        self.len = self.parts.iter().map(Vec::len).sum();
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.parts.iter().flatten()
    }

    /// The entries from a key on, in the order of their keys.
    pub fn from<'a, Q: Ord + ?Sized>(&'a self, key: &Q) -> impl Iterator<Item = &'a (K, V)> + use<'a, K, V, Q>
    where
        K: Borrow<Q>,
    {
        let (Ok((part, index)) | Err((part, index))) = self.find(key);
        self.parts.iter().skip(part).flatten().skip(index)
    }

    /// The entries in the order of their keys; consumes the map.
    pub fn into_entries(self) -> Vec<(K, V)> {
        let mut all = Vec::with_capacity(self.len);
        self.parts.into_iter().for_each(|part| all.extend(part));
        all
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

    #[test]
    fn thousands_of_keys_stay_in_order_in_vectors_of_bounded_size() {
        const COUNT: usize = 5000;
        // In their order, in the opposite one, and all over.
        let orders: [fn(usize) -> usize; 3] =
            [|index| index, |index| COUNT - 1 - index, |index| index * 1789 % COUNT];
        for order in orders {
            let mut table = SortedMap::default();
            for index in 0..COUNT {
                *table.get_or_insert(&(order(index) * 2)) = index;
            }
            assert!(table.iter().map(|(key, _)| *key).eq((0..COUNT).map(|index| index * 2)));
            assert!(table.parts.iter().all(|part| (1..=PART).contains(&part.len())));
            assert!(table.parts.len() <= 2 * COUNT / PART + 1, "{}", table.parts.len());
            for index in 0..COUNT {
                assert_eq!(table.get(&(order(index) * 2)), Some(&index));
                assert_eq!(table.get(&(order(index) * 2 + 1)), None);
            }
            let next = |key| table.from(&key).next().map(|(key, _)| *key);
            assert!((0..COUNT - 1).all(|index| next(index * 2 + 1) == Some(index * 2 + 2)));
            assert_eq!(next(COUNT * 2 - 1), None);
            table.retain(|key, _| key % 4 == 0);
            table.add((0..10).map(|index| (index * 4 + 1, 0)).collect());
            assert_eq!((table.len(), table.iter().count()), (COUNT / 2 + 10, COUNT / 2 + 10));
            for index in 0..COUNT {
                assert_eq!(table.remove(&(order(index) * 2)).is_some(), order(index) % 2 == 0);
            }
            assert_eq!((table.len(), table.parts.len()), (10, 1));
            let keys: Vec<_> = table.into_entries().into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, (0..10).map(|index| index * 4 + 1).collect::<Vec<_>>());
        }
    }
}
