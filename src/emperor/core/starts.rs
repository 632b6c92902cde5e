//! How many instances are set up at a time: with hundreds at once, at boot or after a failure that all have
//! in common, each would take as long as all of them together.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::text::later;
use super::vassal_file::VassalFile;

/// An instance that takes longer than this to set up is not waited for any more by the others.
pub const SLOW: Duration = Duration::from_secs(1);

/// The vassals that set up, and those that wait for their turn.
#[derive(Debug)]
pub struct Starts {
    /// So many set up at a time.
    max: usize,
    /// Those that set up, the first first, and until when they are waited for.
    begun: Vec<(Rc<VassalFile>, Instant)>,
    /// Those that wait, the next first.
    waiting: Vec<Rc<VassalFile>>,
    /// So many of them are ahead of the others.
    urgent: usize,
}

impl Starts {
    /// `max` at a time, but at least one.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), begun: Vec::new(), waiting: Vec::new(), urgent: 0 }
    }

    /// A vassal waits for its turn. One that `is_urgent` has clients already, and comes before all others.
    pub fn wait(&mut self, file: &Rc<VassalFile>, is_urgent: bool) {
        let index = if is_urgent { self.urgent } else { self.waiting.len() };
        self.waiting.insert(index, Rc::clone(file));
        self.urgent += usize::from(is_urgent);
    }

    /// The next vassal whose turn has come; it sets up from now on.
    pub fn begin(&mut self, now: Instant) -> Option<Rc<VassalFile>> {
        self.begun.retain(|(_, until)| *until > now);
        if self.begun.len() >= self.max || self.waiting.is_empty() {
            return None;
        }
        let file = self.waiting.remove(0);
        self.urgent = self.urgent.saturating_sub(1);
        self.set_up(&file, now);
        Some(file)
    }

    /// A vassal sets up from now on, whether or not there is room.
    pub fn set_up(&mut self, file: &Rc<VassalFile>, now: Instant) {
        self.end(file);
        self.begun.push((Rc::clone(file), later(now, SLOW)));
    }

    /// A vassal does not set up any more.
    pub fn end(&mut self, file: &VassalFile) {
        self.begun.retain(|(other, _)| **other != *file);
    }

    /// A vassal does not wait any more, if it did.
    pub fn give_up(&mut self, file: &VassalFile) {
        if let Some(index) = self.waiting.iter().position(|other| **other == *file) {
            self.waiting.remove(index);
            self.urgent -= usize::from(index < self.urgent);
        }
    }

    /// When a turn comes without any other event.
    pub fn deadline(&self) -> Option<Instant> {
        let (_, until) = self.begun.first().filter(|_| !self.waiting.is_empty())?;
        Some(*until)
    }
}
