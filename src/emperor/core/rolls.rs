//! How many vassals replace their instances at a time: each needs the room of one instance more meanwhile.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::text::later;
use super::vassal_file::VassalFile;

/// A vassal that takes longer than this is not waited for any more by the others.
pub const SLOW: Duration = Duration::from_secs(10);

/// The vassals that replace their instances, and those that wait for their turn.
///
/// In tyrant mode the turn is that of the user who has the fewest under way, and one turn is left for other
/// users, as with [starts](super::starts).
#[derive(Debug)]
pub struct Rolls {
    /// So many at a time.
    max: usize,
    /// Those under way.
    under_way: Vec<Roll>,
    /// The first first.
    waiting: Vec<(Rc<VassalFile>, Option<u32>)>,
}

/// A vassal that replaces its instances.
#[derive(Debug)]
struct Roll {
    file: Rc<VassalFile>,
    /// Whose it is; `None` where that does not matter.
    user: Option<u32>,
    /// Until when it is waited for; `None` if it is not any more.
    until: Option<Instant>,
}

impl Rolls {
    /// `max` at a time, but at least one.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), under_way: Vec::new(), waiting: Vec::new() }
    }

    /// Whether a vassal of this user may start an instance that takes the place of another one. Otherwise it
    /// waits for its turn.
    pub fn may(&mut self, file: &Rc<VassalFile>, user: Option<u32>, now: Instant) -> bool {
        if self.under_way.iter().any(|roll| roll.file == *file) {
            return true;
        }
        if self.room(user, now).is_none() {
            if !self.waiting.iter().any(|(other, _)| other == file) {
                self.waiting.push((Rc::clone(file), user));
            }
            return false;
        }
        self.waiting.retain(|(other, _)| other != file);
        self.under_way.push(Roll { file: Rc::clone(file), user, until: Some(later(now, SLOW)) });
        true
    }

    /// All instances of a vassal are new, or it has given up.
    pub fn end(&mut self, file: &VassalFile) {
        self.under_way.retain(|roll| *roll.file != *file);
        self.waiting.retain(|(other, _)| **other != *file);
    }

    /// A vassal whose turn has come. It waits no longer.
    pub fn next(&mut self, now: Instant) -> Option<Rc<VassalFile>> {
        let users: Vec<_> = self.waiting.iter().map(|(_, user)| *user).collect();
        let rooms = users.into_iter().enumerate().filter_map(|(at, user)| Some((self.room(user, now)?, at)));
        let (_, at) = rooms.min()?;
        Some(self.waiting.remove(at).0)
    }

    /// When a turn comes without any other event.
    pub fn deadline(&self) -> Option<Instant> {
        let times = self.under_way.iter().filter_map(|roll| roll.until);
        times.min().filter(|_| !self.waiting.is_empty())
    }

    /// How many vassals of a user are under way and waited for; `None` if there is no room for one more.
    fn room(&mut self, user: Option<u32>, now: Instant) -> Option<usize> {
        for roll in &mut self.under_way {
            roll.until = roll.until.filter(|at| *at > now);
        }
        let waited_for = || self.under_way.iter().filter(|roll| roll.until.is_some());
        let count = waited_for().filter(|roll| user.is_some() && roll.user == user).count();
        (waited_for().count() < self.max && count < (self.max - 1).max(1)).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_a_time_and_one_that_takes_long_keeps_nobody_waiting() {
        let file = |name: &str| Rc::new(VassalFile::new(format!("/v/{name}.ini").into(), 3));
        let (mut rolls, now) = (Rolls::new(2), Instant::now());
        let may = |rolls: &mut Rolls, name: &str, now| rolls.may(&file(name), None, now);
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
        assert!(["d", "f"].iter().all(|name| may(&mut rolls, name, now + SLOW)));
        assert!(!may(&mut rolls, "e", now + SLOW));
        rolls.end(&file("e"));
        assert_eq!((rolls.next(now + SLOW), rolls.deadline()), (None, None));
    }

    #[test]
    fn a_user_with_many_vassals_leaves_a_turn_for_others() {
        let file = |name: &str| Rc::new(VassalFile::new(format!("/v/{name}.ini").into(), 3));
        let (mut rolls, now) = (Rolls::new(3), Instant::now());
        let (eve, bob) = (Some(1000), Some(1001));
        let began: Vec<_> = (0..5).map(|n| rolls.may(&file(&format!("eve{n}")), eve, now)).collect();
        assert_eq!((began, rolls.next(now)), (vec![true, true, false, false, false], None));
        assert!(rolls.may(&file("bob0"), bob, now));
        assert!(!rolls.may(&file("bob1"), bob, now));
        // Whose turn is next does not depend on who came first.
        rolls.end(&file("bob0"));
        assert_eq!(rolls.next(now), Some(file("bob1")));
        // They do not keep each other waiting for ever.
        assert_eq!((rolls.deadline(), rolls.next(now + SLOW)), (Some(now + SLOW), Some(file("eve2"))));
    }
}
