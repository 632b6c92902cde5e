//! How many instances are set up or reloaded at a time: with hundreds at once, at boot, after a failure that
//! all have in common or when all files change, each would take as long as all of them together.

use std::time::{Duration, Instant};

use super::instance_id::InstanceId;
use super::text::later;

/// An instance that takes longer than this to set up is not waited for any more by the others.
pub const SLOW: Duration = Duration::from_secs(1);
/// How often those that set up are looked at, while others wait. One that only waits for something, such as a
/// filesystem that hangs, keeps nobody from the processors.
pub const LOOK: Duration = Duration::from_millis(20);

/// The instances that set up, and those that wait for their turn.
///
/// Nobody can keep the others from starting. One whose clients know it comes before one that they do not
/// know yet, but no more than every second time: one that lasts for two seconds each time would always
/// come first. In tyrant mode the turn is that of the user who has the fewest that set up, and one turn is
/// left for other users.
#[derive(Debug)]
pub struct Starts {
    /// So many set up at a time.
    max: usize,
    /// Those that set up, the first first.
    begun: Vec<Begun>,
    /// Those that wait and that clients know, and the others; the first first.
    urgent: Vec<Waiting>,
    patient: Vec<Waiting>,
    /// Whether the last turn was that of an urgent one.
    was_urgent: bool,
}

/// An instance that sets up.
#[derive(Debug)]
struct Begun {
    id: InstanceId,
    user: Option<u32>,
    /// Until when it is waited for.
    until: Instant,
    /// When to look whether it is at work.
    look_at: Instant,
}

/// An instance that waits.
#[derive(Debug)]
struct Waiting {
    id: InstanceId,
    /// Whose it is; `None` where that does not matter.
    user: Option<u32>,
}

impl Starts {
    /// `max` at a time, but at least one.
    pub fn new(max: usize) -> Self {
        let (begun, urgent, patient) = (Vec::new(), Vec::new(), Vec::new());
        Self { max: max.max(1), begun, urgent, patient, was_urgent: false }
    }

    /// An instance for this user waits for its turn. An urgent one has clients already.
    pub fn wait(&mut self, id: &InstanceId, user: Option<u32>, is_urgent: bool) {
        let queue = if is_urgent { &mut self.urgent } else { &mut self.patient };
        queue.push(Waiting { id: id.clone(), user });
    }

    /// The next instance whose turn has come; it sets up from now on.
    pub fn begin(&mut self, now: Instant) -> Option<InstanceId> {
        self.begun.retain(|begun| begun.until > now);
        if self.begun.len() >= self.max {
            return None;
        }
        let (urgent, patient) = (self.first(&self.urgent), self.first(&self.patient));
        let is_urgent = match (urgent, patient) {
            (Some((ours, _)), Some((theirs, _))) if ours == theirs => !self.was_urgent,
            (Some((ours, _)), Some((theirs, _))) => ours < theirs,
            _ => urgent.is_some(),
        };
        let (queue, found) =
            if is_urgent { (&mut self.urgent, urgent) } else { (&mut self.patient, patient) };
        let Waiting { id, user } = queue.remove(found?.1);
        self.was_urgent = is_urgent;
        self.set_up(&id, user, now);
        Some(id)
    }

    /// Ends the turns of instances that only wait for something, if others wait for a turn.
    pub fn look(&mut self, is_at_work: &dyn Fn(&InstanceId) -> bool, now: Instant) {
        if self.is_empty() {
            return;
        }
        for begun in self.begun.iter_mut().filter(|begun| begun.look_at <= now) {
            begun.look_at = later(now, LOOK);
            if !is_at_work(&begun.id) {
                begun.until = now;
            }
        }
    }

    /// Whether nobody waits for a turn.
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.patient.is_empty()
    }

    /// Whose turn it is in a queue: how many of that user set up, and the place. `None` if the next turn is
    /// for other users than those that wait.
    fn first(&self, queue: &[Waiting]) -> Option<(usize, usize)> {
        let of_user = |user: Option<u32>| match user {
            None => 0,
            Some(_) => self.begun.iter().filter(|begun| begun.user == user).count(),
        };
        // One turn is left for others, where there is more than one.
        let (mut least, mut first) = (self.max.saturating_sub(1).max(1), None);
        for (index, waiting) in queue.iter().enumerate() {
            let count = of_user(waiting.user);
            if count < least {
                (least, first) = (count, Some((count, index)));
            }
            if least == 0 {
                break;
            }
        }
        first
    }

    /// An instance for this user sets up from now on, whether or not there is room.
    pub fn set_up(&mut self, id: &InstanceId, user: Option<u32>, now: Instant) {
        self.end(id);
        let (until, look_at) = (later(now, SLOW), later(now, LOOK));
        self.begun.push(Begun { id: id.clone(), user, until, look_at });
    }

    /// An instance does not set up any more.
    pub fn end(&mut self, id: &InstanceId) {
        self.begun.retain(|begun| begun.id != *id);
    }

    /// An instance does not wait any more, if it did.
    pub fn give_up(&mut self, id: &InstanceId) {
        for queue in [&mut self.urgent, &mut self.patient] {
            queue.retain(|waiting| waiting.id != *id);
        }
    }

    /// Those that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &InstanceId> {
        self.urgent.iter().chain(&self.patient).map(|waiting| &waiting.id)
    }

    /// When a turn comes without any other event, or those who set up are to be looked at.
    pub fn deadline(&self) -> Option<Instant> {
        let begun = self.begun.iter().filter(|_| !self.is_empty());
        begun.map(|begun| begun.until.min(begun.look_at)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emperor::core::instance_id::FIRST;
    use crate::emperor::core::vassal_file::VassalFile;
    use std::rc::Rc;

    fn id(name: &str) -> InstanceId {
        let file = Rc::new(VassalFile::new(format!("/v/{name}.ini").into(), 3));
        InstanceId::new(&file, FIRST)
    }

    fn begin(starts: &mut Starts, now: Instant) -> Option<String> {
        starts.begin(now).map(|id| id.file.name().display().to_string())
    }

    #[test]
    fn urgent_ones_without_end_keep_nobody_from_starting() {
        let (mut starts, now) = (Starts::new(1), Instant::now());
        for number in 0..13 {
            starts.wait(&id(&format!("urgent{number}")), None, true);
        }
        starts.wait(&id("new"), None, false);
        starts.wait(&id("newer"), None, false);
        let mut order = Vec::new();
        for number in 0..4 {
            let name = begin(&mut starts, now).unwrap();
            starts.end(&id(&name));
            // It is back at once.
            starts.wait(&id(&format!("again{number}")), None, true);
            order.push(name);
        }
        assert_eq!(order, ["urgent0", "new", "urgent1", "newer"]);
    }

    #[test]
    fn a_user_with_many_vassals_leaves_a_turn_for_others() {
        let (mut starts, now) = (Starts::new(4), Instant::now());
        let (eve, alice, bob) = (Some(1000), Some(1001), Some(1002));
        for number in 0..20 {
            starts.wait(&id(&format!("eve{number}")), eve, true);
        }
        let names: Vec<_> = std::iter::from_fn(|| begin(&mut starts, now)).collect();
        assert_eq!(names, ["eve0", "eve1", "eve2"]);
        starts.wait(&id("alice0"), alice, false);
        assert_eq!(begin(&mut starts, now).as_deref(), Some("alice0"));
        // Whose turn is next does not depend on who came first.
        starts.wait(&id("alice1"), alice, false);
        starts.wait(&id("bob"), bob, false);
        starts.end(&id("eve0"));
        assert_eq!(begin(&mut starts, now).as_deref(), Some("bob"));
        starts.end(&id("eve1"));
        assert!([Some("eve3"), Some("alice1")].contains(&begin(&mut starts, now).as_deref()));
        // One that takes long is not waited for.
        assert_eq!(begin(&mut starts, now), None);
        assert!(begin(&mut starts, now + SLOW).is_some());
    }

    #[test]
    fn who_only_waits_keeps_nobody_from_a_turn() {
        let (mut starts, mut now) = (Starts::new(2), Instant::now());
        for name in ["hung1", "works", "hung2", "hung3", "near"] {
            starts.wait(&id(name), None, false);
        }
        let is_at_work = |id: &InstanceId| id.file.name() == "works";
        let mut order = Vec::new();
        while order.len() < 5 {
            order.extend(std::iter::from_fn(|| begin(&mut starts, now)));
            now = starts.deadline().unwrap_or(now);
            starts.look(&is_at_work, now);
        }
        assert_eq!(order, ["hung1", "works", "hung2", "hung3", "near"]);
        assert_eq!(starts.begun.len(), 2);
        assert!(starts.begun.iter().any(|begun| begun.id == id("works")));
    }

    #[test]
    fn a_single_turn_is_anybodys() {
        let (mut starts, now) = (Starts::new(1), Instant::now());
        starts.wait(&id("a"), Some(1000), false);
        starts.wait(&id("b"), Some(1000), false);
        assert_eq!(begin(&mut starts, now).as_deref(), Some("a"));
        assert_eq!(begin(&mut starts, now), None);
        starts.give_up(&id("b"));
        assert!(starts.deadline().is_none());
    }
}
