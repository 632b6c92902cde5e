//! Timers: at most one for each key.

use std::time::Instant;

use super::sorted_map::SortedMap;

/// The timers, in the order of their times.
#[derive(Debug)]
pub struct Timers<K> {
    by_time: SortedMap<(Instant, K), ()>,
    by_key: SortedMap<K, Instant>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: SortedMap::default(), by_key: SortedMap::default() }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets the timer of a key, replacing its earlier one; `None` removes it.
    pub fn set(&mut self, key: &K, at: Option<Instant>) {
        let before = self.by_key.get(key).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key.clone()));
        }
        match at {
            Some(at) => {
                self.by_time.insert((at, key.clone()), ());
                self.by_key.insert(key.clone(), at);
            }
            None => drop(self.by_key.remove(key)),
        }
    }

    /// When the next timer is due.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.iter().next().map(|((at, _), ())| *at)
    }

    /// The key of the first timer, if that is due. The timer stays until it is [set](Self::set) again.
    pub fn due(&self, now: Instant) -> Option<K> {
        let ((at, key), ()) = self.by_time.iter().next()?;
        (*at <= now).then(|| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_key_has_one_timer_and_the_earliest_comes_first() {
        let now = Instant::now();
        let [soon, late] = [1, 2].map(|seconds| now + Duration::from_secs(seconds));
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.due(late)), (None, None));
        timers.set(&"a", Some(late));
        timers.set(&"b", Some(late));
        timers.set(&"a", Some(soon));
        assert_eq!((timers.next(), timers.due(now), timers.due(soon)), (Some(soon), None, Some("a")));
        timers.set(&"a", None);
        assert_eq!((timers.next(), timers.due(late)), (Some(late), Some("b")));
        timers.set(&"b", None);
        assert_eq!(timers.next(), None);
    }
}
