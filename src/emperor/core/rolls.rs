//! How many vassals replace their instances at a time: each needs the room of one instance more meanwhile.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::text::later;
use super::vassal_file::VassalFile;

/// A vassal that takes longer than this is not waited for any more by the others.
pub const SLOW: Duration = Duration::from_secs(10);

/// The vassals that replace their instances, and those that wait for their turn.
#[derive(Debug)]
pub struct Rolls {
    /// So many at a time.
    max: usize,
    /// Those under way, each with the time until which it is waited for.
    under_way: Vec<(Rc<VassalFile>, Instant)>,
    /// The first first.
    waiting: VecDeque<Rc<VassalFile>>,
}

impl Rolls {
    /// `max` at a time, but at least one.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), under_way: Vec::new(), waiting: VecDeque::new() }
    }

    /// Whether a vassal may start an instance that takes the place of another one. Otherwise it waits for its
    /// turn.
    pub fn may(&mut self, file: &Rc<VassalFile>, now: Instant) -> bool {
        if self.under_way.iter().any(|(other, _)| other == file) {
            return true;
        }
        if self.is_full(now) {
            if !self.waiting.contains(file) {
                self.waiting.push_back(Rc::clone(file));
            }
            return false;
        }
        self.waiting.retain(|other| other != file);
        self.under_way.push((Rc::clone(file), later(now, SLOW)));
        true
    }

    /// All instances of a vassal are new, or it has given up.
    pub fn end(&mut self, file: &VassalFile) {
        self.under_way.retain(|(other, _)| **other != *file);
        self.waiting.retain(|other| **other != *file);
    }

    /// A vassal whose turn has come. It waits no longer.
    pub fn next(&mut self, now: Instant) -> Option<Rc<VassalFile>> {
        if self.waiting.is_empty() || self.is_full(now) { None } else { self.waiting.pop_front() }
    }

    /// When a turn comes without any other event.
    pub fn deadline(&self) -> Option<Instant> {
        if self.waiting.is_empty() {
            return None;
        }
        // The one whose end makes room.
        let mut times: Vec<_> = self.under_way.iter().map(|(_, until)| *until).collect();
        times.sort_unstable();
        times.iter().nth_back(self.max - 1).copied()
    }

    fn is_full(&self, now: Instant) -> bool {
        self.under_way.iter().filter(|(_, until)| *until > now).count() >= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_a_time_and_one_that_takes_long_keeps_nobody_waiting() {
        let file = |name: &str| Rc::new(VassalFile::new(format!("/v/{name}.ini").into(), 3));
        let (mut rolls, now) = (Rolls::new(2), Instant::now());
        let may = |rolls: &mut Rolls, name: &str, now| rolls.may(&file(name), now);
        assert!(may(&mut rolls, "a", now) && may(&mut rolls, "b", now + Duration::from_secs(1)));
        assert!(may(&mut rolls, "a", now), "it goes on");
        assert!(!may(&mut rolls, "c", now) && !may(&mut rolls, "c", now) && !may(&mut rolls, "d", now));
        assert_eq!((rolls.next(now), rolls.deadline()), (None, Some(now + SLOW)));
        // One that has waited starts when another one is done, or has taken long.
        rolls.end(&file("b"));
        assert_eq!(rolls.next(now), Some(file("c")));
        assert!(may(&mut rolls, "c", now));
        assert_eq!(rolls.next(now), None);
        assert_eq!(rolls.next(now + SLOW), Some(file("d")));
        // One that is gone waits no longer.
        assert!(!may(&mut rolls, "e", now));
        rolls.end(&file("e"));
        assert_eq!((rolls.next(now + SLOW), rolls.deadline()), (None, None));
    }
}
