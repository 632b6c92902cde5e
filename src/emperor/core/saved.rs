//! Everything an emperor knows of its vassals, as bytes for the program that takes its place.
//!
//! Writing and reading are the same code, walked in one of two directions, so that they cannot differ. Times are
//! written as what they are from now on, or were. The bytes begin with the versions of the link's messages and of this:
//! they come from a memory file that only the emperor could write, so that a mistake in them is no attack; but it must not
//! be taken for something else.

use std::time::{Duration, Instant};

use super::machine::{End, State, Then};
use crate::protocol;

/// To be raised with each change of what is written here.
const VERSION: u8 = 10;

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The signal mask that the first emperor was started with, for vassals.
    pub mask: u64,
    /// The limit of open files that it was started with: soft, hard.
    pub nofile: [u64; 2],
    /// Since when there is an emperor.
    pub began: Instant,
    /// Who asked for the upgrade by command, a descriptor.
    pub client: Option<i32>,
    /// The file with our pid; empty if there is none.
    pub pid_file: Vec<u8>,
    /// The sockets.
    pub listeners: Vec<SavedListener>,
    /// The vassals.
    pub vassals: Vec<SavedVassal>,
}

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedListener {
    /// Its place in the list of services.
    pub service: u64,
    /// Its descriptor.
    pub socket: i32,
    /// Its address as it is named.
    pub name: Vec<u8>,
    /// Device and inode of its file; 0 if it has none.
    pub file: [u64; 2],
}

/// A vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedVassal {
    /// Its file.
    pub path: Vec<u8>,
    /// Where in that its name begins.
    pub name_at: u64,
    /// What tells the version of the file that was used from others.
    pub seen: [u64; 6],
    /// Where it is in its life.
    pub state: State,
    /// The delay after its next failure.
    pub backoff: Duration,
    /// When its app is given up, unless it says before that it is alive.
    pub alive_until: Option<Instant>,
    /// How many instances there have been.
    pub instances: u64,
    /// How often one was reloaded.
    pub reloads: u64,
    /// When the first one was created, and when the latest one.
    pub runs: [Option<Instant>; 2],
    /// Failures in a row: how many, the last wait.
    pub failures: (u64, Duration),
    /// When the first one was, and the last one.
    pub failed: [Option<Instant>; 2],
    /// Why the last instance ended; empty if there was none.
    pub last: Vec<u8>,
    /// Why the file was not taken by a reload; empty if it was.
    pub refused: Vec<u8>,
    /// Its listening sockets, labels and descriptors, and whose they are.
    pub kept: (Vec<(Vec<u8>, i32)>, [u64; 2]),
    /// Device and inode of the file of the one that we listen on ourselves; 0 if it has none.
    pub demand: [u64; 2],
    /// How its checked mountpoints are, as an instance has sent it, and how often instances before it have lost each.
    pub mountpoints: (Vec<u8>, Vec<u64>),
    /// Its process.
    pub instance: Option<SavedInstance>,
}

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedInstance {
    /// Its pid.
    pub pid: i32,
    /// The descriptor of the process.
    pub pidfd: i32,
    /// The descriptor of its link, if that is open.
    pub link: Option<i32>,
    /// Who owns its file: user, group.
    pub owner: [u64; 2],
    /// Whether it runs as the owner (0 or 1).
    pub owned: u64,
    /// When it was born, has been running, was asked to reload, was asked to stop, was killed, said that it is ready,
    /// that it is loyal, and last that it is alive.
    pub times: [Option<Instant>; 8],
    /// What its app does at present; empty if it has not said.
    pub status: Vec<u8>,
    /// Why it was killed, or is to be; empty if it is not.
    pub condemned: Vec<u8>,
    /// Its last words, as it sent them; empty if it has not said any.
    pub reason: Vec<u8>,
    /// Its cgroup; empty if the emperor has made none.
    pub cgroup: Vec<u8>,
}

impl Saved {
    /// All of it. `now` is what times are counted from.
    pub fn encode(mut self, now: Instant) -> Vec<u8> {
        let out = vec![protocol::VERSION, VERSION];
        let mut walk = Walk { bytes: Bytes::Out(out), now, broken: false };
        walk.all(&mut self);
        match walk.bytes {
            Bytes::Out(bytes) => bytes,
            Bytes::In(_) => Vec::new(),
        }
    }

    /// Reads what [`Saved::encode`] wrote; `None` if it is of another version.
    pub fn decode(bytes: &[u8], now: Instant) -> Option<Self> {
        let rest = bytes.strip_prefix(&[protocol::VERSION, VERSION])?;
        let mut walk = Walk { bytes: Bytes::In(rest), now, broken: false };
        let mut saved = Self {
            mask: 0,
            nofile: [0; 2],
            began: now,
            client: None,
            pid_file: Vec::new(),
            listeners: Vec::new(),
            vassals: Vec::new(),
        };
        walk.all(&mut saved);
        let complete = matches!(walk.bytes, Bytes::In([])) && !walk.broken;
        complete.then_some(saved)
    }

    /// The descriptors that stay open.
    pub fn descriptors(&self) -> Vec<i32> {
        let mut all = Vec::new();
        for process in self.vassals.iter().filter_map(|vassal| vassal.instance.as_ref()) {
            all.push(process.pidfd);
            all.extend(process.link);
        }
        for vassal in &self.vassals {
            all.extend(vassal.kept.0.iter().map(|(_, socket)| *socket));
        }
        all.extend(self.listeners.iter().map(|listener| listener.socket));
        all.extend(self.client);
        all
    }
}

/// What is written to, or read from.
enum Bytes<'a> {
    Out(Vec<u8>),
    In(&'a [u8]),
}

/// A walk over everything, which either writes it or fills it in.
struct Walk<'a> {
    bytes: Bytes<'a>,
    now: Instant,
    /// What was read makes no sense.
    broken: bool,
}

impl Walk<'_> {
    fn all(&mut self, saved: &mut Saved) {
        self.numbers(std::slice::from_mut(&mut saved.mask));
        self.numbers(&mut saved.nofile);
        self.instant(&mut saved.began);
        self.descriptor(&mut saved.client);
        self.text(&mut saved.pid_file);
        self.list(&mut saved.listeners, SavedListener::default, |walk, listener| {
            walk.numbers([&mut listener.service]);
            walk.numbers(&mut listener.file);
            walk.integer(&mut listener.socket);
            walk.text(&mut listener.name);
        });
        let now = self.now;
        let blank = || SavedVassal {
            path: Vec::new(),
            name_at: 0,
            seen: [0; 6],
            state: State::Idle,
            backoff: Duration::ZERO,
            alive_until: None,
            instances: 0,
            reloads: 0,
            runs: [None; 2],
            failures: (0, Duration::ZERO),
            failed: [None; 2],
            last: Vec::new(),
            refused: Vec::new(),
            kept: Default::default(),
            demand: [0; 2],
            mountpoints: Default::default(),
            instance: None,
        };
        self.list(&mut saved.vassals, blank, |walk, vassal| walk.vassal(vassal, now));
    }

    fn vassal(&mut self, vassal: &mut SavedVassal, now: Instant) {
        self.text(&mut vassal.path);
        self.numbers(vassal.seen.iter_mut().chain([&mut vassal.name_at]));
        let mut parts = parts(vassal.state, now);
        self.numbers([&mut parts.0, &mut parts.2]);
        parts.1.iter_mut().for_each(|time| self.instant(time));
        match state(parts) {
            Some(state) => vassal.state = state,
            None => self.broken = true,
        }
        self.duration(&mut vassal.backoff);
        self.maybe(&mut vassal.alive_until);
        self.numbers([&mut vassal.instances, &mut vassal.reloads, &mut vassal.failures.0]);
        self.duration(&mut vassal.failures.1);
        vassal.runs.iter_mut().chain(&mut vassal.failed).for_each(|time| self.maybe(time));
        self.text(&mut vassal.last);
        self.text(&mut vassal.refused);
        self.numbers(vassal.kept.1.iter_mut().chain(&mut vassal.demand));
        self.list(&mut vassal.kept.0, Default::default, |walk, (label, socket)| {
            walk.text(label);
            walk.integer(socket);
        });
        self.text(&mut vassal.mountpoints.0);
        self.list(&mut vassal.mountpoints.1, u64::default, Self::number);
        let mut instances: Vec<_> = vassal.instance.take().into_iter().collect();
        self.list(&mut instances, SavedInstance::default, |walk, instance| {
            walk.integer(&mut instance.pid);
            walk.integer(&mut instance.pidfd);
            walk.descriptor(&mut instance.link);
            walk.numbers(instance.owner.iter_mut().chain([&mut instance.owned]));
            instance.times.iter_mut().for_each(|time| walk.maybe(time));
            walk.text(&mut instance.status);
            walk.text(&mut instance.condemned);
            walk.text(&mut instance.reason);
            walk.text(&mut instance.cgroup);
        });
        vassal.instance = instances.pop();
    }

    #[inline(never)]
    fn number(&mut self, number: &mut u64) {
        match &mut self.bytes {
            Bytes::Out(out) => out.extend(number.to_le_bytes()),
            Bytes::In(rest) => match rest.split_first_chunk() {
                Some((head, tail)) => (*number, *rest) = (u64::from_le_bytes(*head), tail),
                None => self.broken = true,
            },
        }
    }

    fn numbers<'n>(&mut self, numbers: impl IntoIterator<Item = &'n mut u64>) {
        numbers.into_iter().for_each(|number| self.number(number));
    }

    fn integer(&mut self, number: &mut i32) {
        let mut wide = i64::from(*number).cast_unsigned();
        self.number(&mut wide);
        *number = wide.cast_signed() as i32;
    }

    /// -1 is none.
    fn descriptor(&mut self, descriptor: &mut Option<i32>) {
        let mut number = descriptor.unwrap_or(-1);
        self.integer(&mut number);
        *descriptor = (number >= 0).then_some(number);
    }

    /// In nanoseconds; half a millennium at most.
    fn duration(&mut self, duration: &mut Duration) {
        let mut nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.number(&mut nanos);
        *duration = Duration::from_nanos(nanos);
    }

    fn instant(&mut self, time: &mut Instant) {
        let (now, mut future) = (self.now, u64::from(*time > self.now));
        let mut distance = if future == 1 { *time - now } else { now - *time };
        self.number(&mut future);
        self.duration(&mut distance);
        *time =
            if future == 1 { now.checked_add(distance) } else { now.checked_sub(distance) }.unwrap_or(now);
    }

    fn maybe(&mut self, time: &mut Option<Instant>) {
        let (mut there, mut when) = (u64::from(time.is_some()), time.unwrap_or(self.now));
        self.number(&mut there);
        self.instant(&mut when);
        *time = (there == 1).then_some(when);
    }

    fn text(&mut self, text: &mut Vec<u8>) {
        let mut length = text.len() as u64;
        self.number(&mut length);
        match &mut self.bytes {
            Bytes::Out(out) => out.extend(&*text),
            Bytes::In(rest) => match rest.split_at_checked(usize::try_from(length).unwrap_or(usize::MAX)) {
                Some((head, tail)) => (*text, *rest) = (head.to_vec(), tail),
                None => self.broken = true,
            },
        }
    }

    fn list<T>(&mut self, list: &mut Vec<T>, blank: impl Fn() -> T, each: impl Fn(&mut Self, &mut T)) {
        let mut count = list.len() as u64;
        self.number(&mut count);
        if matches!(self.bytes, Bytes::In(_)) {
            for _ in 0..count {
                let mut item = blank();
                each(self, &mut item);
                if self.broken {
                    return;
                }
                list.push(item);
            }
        } else {
            list.iter_mut().for_each(|item| each(self, item));
        }
    }
}

/// A state taken apart: which one, its times, and its other values. `now` stands for times that it does not have.
fn parts(state: State, now: Instant) -> (u64, [Instant; 2], u64) {
    match state {
        State::Idle => (0, [now; 2], 0),
        State::Starting { since, remind_at } => (1, [since, remind_at], 0),
        State::Running { since } => (2, [since, now], 0),
        State::Reloading { since, answer_by, settled, again } => {
            (3, [since, answer_by], u64::from(settled) | u64::from(again) << 1)
        }
        State::Stopping { then, kill_at, end } => {
            let then = match then {
                Then::Respawn => 0,
                Then::Backoff => 1,
                Then::Nothing => 2,
                Then::Hold => 3,
                Then::Rest => 4,
            };
            let end = match end {
                End::Asked => 0,
                End::Announced => 8,
                End::Killed => 16,
            };
            (4, [kill_at, now], then | end)
        }
        State::Backoff { until } => (5, [until, now], 0),
        State::Invalid { until } => (6, [until, now], 0),
        State::Held => (7, [now; 2], 0),
        State::Waiting => (8, [now; 2], 0),
    }
}

/// The state that [`parts`] took apart.
fn state((kind, [first, second], values): (u64, [Instant; 2], u64)) -> Option<State> {
    Some(match kind {
        0 => State::Idle,
        1 => State::Starting { since: first, remind_at: second },
        2 => State::Running { since: first },
        3 => {
            let (settled, again) = (values & 1 == 1, values & 2 == 2);
            State::Reloading { since: first, answer_by: second, settled, again }
        }
        4 => {
            let then = match values & 7 {
                0 => Then::Respawn,
                1 => Then::Backoff,
                2 => Then::Nothing,
                3 => Then::Hold,
                4 => Then::Rest,
                _ => return None,
            };
            let end = match values >> 3 {
                0 => End::Asked,
                1 => End::Announced,
                2 => End::Killed,
                _ => return None,
            };
            State::Stopping { then, kill_at: first, end }
        }
        5 => State::Backoff { until: first },
        6 => State::Invalid { until: first },
        7 => State::Held,
        8 => State::Waiting,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(now: Instant) -> Saved {
        let [past, future] = [now - Duration::from_nanos(5_000_000_001), now + Duration::from_secs(77)];
        let mut states = vec![
            State::Idle,
            State::Starting { since: past, remind_at: future },
            State::Running { since: past },
            State::Backoff { until: future },
            State::Invalid { until: past },
            State::Held,
            State::Waiting,
        ];
        for (settled, again) in [(false, false), (true, false), (false, true), (true, true)] {
            states.push(State::Reloading { since: past, answer_by: future, settled, again });
        }
        for then in [Then::Respawn, Then::Backoff, Then::Nothing, Then::Hold, Then::Rest] {
            for end in [End::Asked, End::Announced, End::Killed] {
                states.push(State::Stopping { then, kill_at: future, end });
            }
        }
        let vassal = |(index, state)| SavedVassal {
            path: format!("/v/\n{index}.ini").into(),
            name_at: 3,
            seen: [1, 2, u64::MAX, index as u64, 1000, 0],
            state,
            backoff: Duration::from_millis(1500),
            alive_until: Some(future),
            instances: 7,
            reloads: 8,
            runs: [Some(past), None],
            failures: (3, Duration::from_secs(9)),
            failed: [None, Some(future)],
            last: b"stopped".to_vec(),
            refused: Vec::new(),
            kept: ((0..index as i32 % 3).map(|number| (b":80".to_vec(), number)).collect(), [1000, 1001]),
            demand: [8, index as u64],
            mountpoints: (b"m".to_vec(), vec![3; index % 3]),
            instance: (index % 2 == 0).then(|| SavedInstance {
                pid: 42,
                pidfd: 5,
                link: (index % 4 == 0).then_some(6),
                owner: [1000, 1001],
                owned: 1,
                times: [Some(past), None, Some(now), None, Some(future), None, Some(past), None],
                status: b"s".to_vec(),
                condemned: b"c".to_vec(),
                reason: b"x".to_vec(),
                cgroup: b"/g/v-x".to_vec(),
            }),
        };
        let listener = SavedListener { service: 2, socket: 9, name: b"[::1]:1".to_vec(), file: [8, 77] };
        let vassals = states.into_iter().enumerate().map(vassal).collect();
        Saved {
            mask: 5,
            nofile: [1024, 4096],
            began: past,
            client: Some(3),
            pid_file: b"/run/pid".to_vec(),
            listeners: vec![listener],
            vassals,
        }
    }

    #[test]
    fn everything_is_read_as_it_was_written() {
        let now = Instant::now();
        let saved = saved(now);
        let bytes = saved.clone().encode(now);
        assert_eq!(Saved::decode(&bytes, now).as_ref(), Some(&saved));
        // Times are what they were from now, whenever that is.
        let later = now + Duration::from_secs(1);
        let moved = Saved::decode(&bytes, later).unwrap();
        assert_eq!(moved.began, saved.began + Duration::from_secs(1));
    }

    #[test]
    fn cut_padded_or_foreign_bytes_are_refused() {
        let now = Instant::now();
        let bytes = saved(now).encode(now);
        for end in (0..bytes.len()).step_by(7) {
            assert_eq!(Saved::decode(&bytes[..end], now), None, "{end}");
        }
        assert_eq!(Saved::decode(&[&bytes[..], b"\0"].concat(), now), None);
        for index in [0, 1] {
            let mut other = bytes.clone();
            other[index] += 1;
            assert_eq!(Saved::decode(&other, now), None);
        }
    }

    #[test]
    fn the_descriptors_of_all_are_kept() {
        let now = Instant::now();
        let mut saved = saved(now);
        saved.vassals.truncate(5);
        assert_eq!(saved.descriptors(), [5, 6, 5, 5, 6, 0, 0, 1, 0, 9, 3]);
    }
}
