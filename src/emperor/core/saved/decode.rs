//! The saved state, read from bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{
    Saved, SavedBasis, SavedListener, SavedOrigin, SavedProcess, SavedSocket, SavedSockets, SavedVassal,
    VERSION,
};
use crate::config::PlainSetting;
use crate::config::plan::Address;
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::history::{Ended, Failures, History, Past, Recent, Runs};
use crate::emperor::core::instance::{Ending, Instance, ProcessFacts, Said, Transcript, UsedFile};
use crate::emperor::core::machine::{End, Machine, State, Then};
use crate::emperor::core::mountpoints::{Mountpoint, Mountpoints};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::rare::Rare;
use crate::emperor::core::vassal::{Proven, Vassal};
use crate::emperor::core::vassal_file::VassalFile;
use crate::protocol::{self, ExitReason, FromVassal, Replication, SocketId};

/// Reads the bytes of [`encode`](super::encode::encode); `None` if they are of another version or incomplete.
pub fn decode(bytes: &[u8], now: Instant) -> Option<Saved> {
    let rest = bytes.strip_prefix(&[protocol::VERSION, VERSION])?;
    let mut input = Reader { rest, now, failed: false };
    let saved = Saved {
        origin: input.origin(),
        began: input.time(),
        client: input.maybe(Reader::descriptor),
        pid_file: input.bytes(),
        basis: input.basis(),
        listeners: input.list(Reader::listener),
        vassals: input.list(Reader::saved_vassal),
    };
    (input.rest.is_empty() && !input.failed).then_some(saved)
}

/// After a mistake in the bytes, the values that are returned have no meaning.
struct Reader<'a> {
    rest: &'a [u8],
    now: Instant,
    /// Whether there was a mistake in the bytes.
    failed: bool,
}

impl Reader<'_> {
    fn origin(&mut self) -> SavedOrigin {
        SavedOrigin {
            signal_mask: self.number(),
            nofile_soft: self.maybe(Self::number),
            nofile_hard: self.maybe(Self::number),
        }
    }

    fn basis(&mut self) -> SavedBasis {
        SavedBasis {
            settings: self.list(Self::setting),
            cwd: OsString::from_vec(self.bytes()).into(),
            vassal_init: self.descriptor(),
            null: self.descriptor(),
        }
    }

    fn setting(&mut self) -> Option<PlainSetting> {
        Some(PlainSetting {
            key: self.bytes(),
            value: self.maybe(Self::bytes),
            file: self.text(),
            line: self.small(),
            column: self.small(),
        })
    }

    fn listener(&mut self) -> Option<SavedListener> {
        Some(SavedListener {
            service: self.number(),
            socket: self.descriptor(),
            name: self.bytes(),
            file: self.maybe(Self::file_id),
        })
    }

    fn saved_vassal(&mut self) -> Option<SavedVassal> {
        let path = PathBuf::from(OsString::from_vec(self.bytes()));
        Some(SavedVassal {
            file: Rc::new(VassalFile::new(path, self.length())),
            vassal: Box::new(self.vassal()),
            processes: self.list(|input| Some(input.maybe(Self::process))),
            sockets: SavedSockets { sockets: self.list(Self::socket), owner: self.owner() },
        })
    }

    fn socket(&mut self) -> Option<SavedSocket> {
        Some(SavedSocket { id: SocketId::from_bytes(&self.bytes())?, socket: self.descriptor() })
    }

    fn process(&mut self) -> SavedProcess {
        SavedProcess { link: self.maybe(Self::descriptor), owned: self.flag(), cgroup: self.bytes() }
    }

    fn vassal(&mut self) -> Vassal {
        let file_version = self.file_version();
        let on_demand = self.maybe(Self::address).flatten().map(Box::new);
        let refused = self.maybe(Self::text);
        let proven = self.maybe(Self::proven);
        let (is_roll, announces) = (self.flag(), self.flag());
        let replication = self.replication();
        let instances = self.list(|input| Some(input.instance()));
        // Nothing can be done with a vassal that has none.
        self.failed |= instances.is_empty();
        let (is_unclaimed, is_asking, is_comparing) = (true, false, false);
        // Until a scan finds the file: a user may have no more instances meanwhile either.
        let owner = file_version.owner.map(|owner| owner.uid);
        Vassal {
            file_version,
            is_unclaimed,
            owner,
            on_demand,
            is_asking,
            is_comparing,
            refused,
            is_roll,
            proven,
            announces,
            replication,
            instances,
        }
    }

    fn proven(&mut self) -> Box<Proven> {
        let (text, owner) = (self.bytes().into(), self.owner());
        Box::new(Proven { text, owner, file: self.used_file(), is_of_before: self.flag() })
    }

    fn transcript(&mut self) -> Box<Transcript> {
        Box::new(Transcript(self.bytes().into()))
    }

    fn used_file(&mut self) -> UsedFile {
        UsedFile {
            text: self.maybe(Self::number),
            modified: self.number().cast_signed(),
            owner: self.maybe(Self::owner),
        }
    }

    fn instance(&mut self) -> Instance {
        let number = u16::try_from(self.number()).ok();
        Instance {
            number: self.valid(number).unwrap_or_default(),
            is_old: self.flag(),
            is_on_trial: self.flag(),
            is_unproven: self.flag(),
            is_unready: self.flag(),
            history: self.history(),
            mountpoints: Mountpoints(self.list(Self::mountpoint)),
            machine: self.machine(),
            is_refused: false,
            is_late: false,
            app: self.maybe(Self::descriptor),
            process: self.maybe(Self::facts),
            check: None,
            down_since: None,
        }
    }

    fn replication(&mut self) -> Replication {
        match FromVassal::decode(&self.bytes()) {
            Some(FromVassal::Replication(replication)) => replication,
            _ => self.other(Replication::default()),
        }
    }

    fn address(&mut self) -> Option<Address> {
        let (name, place) = (self.text(), SocketId::from_bytes(&self.bytes()));
        let place = self.valid(place)?.place;
        Some(Address { name, place })
    }

    fn file_id(&mut self) -> FileId {
        FileId { device: self.number(), inode: self.number() }
    }

    fn file_version(&mut self) -> FileVersion {
        FileVersion {
            modified: self.number().cast_signed(),
            modified_nanos: self.small(),
            device: self.number(),
            inode: self.number(),
            size: self.number(),
            owner: self.maybe(Self::owner),
        }
    }

    fn history(&mut self) -> History {
        History {
            instances: self.number(),
            reloads: self.number(),
            runs: self.maybe(|input| Runs { first: input.time(), last: input.time() }),
            past: Rare(self.maybe(Self::past)),
            output: self.text(),
            warnings: self.text(),
        }
    }

    fn past(&mut self) -> Box<Past> {
        Box::new(Past {
            failures: self.maybe(|input| Failures {
                count: input.small(),
                first: input.time(),
                last: input.time(),
                wait: input.duration(),
            }),
            last_end: self.maybe(Self::text),
            ends: self.list(|input| {
                let (at, date) = (input.time(), input.duration());
                Some(Ended { at, date, why: input.text(), is_asked: input.flag() })
            }),
            recent: Recent { since: self.maybe(Self::time), counts: std::array::from_fn(|_| self.small()) },
        })
    }

    fn mountpoint(&mut self) -> Option<Mountpoint> {
        let Some(FromVassal::Mountpoints(mut reports)) = FromVassal::decode(&self.bytes()) else {
            return None;
        };
        Some(Mountpoint { report: reports.pop()?, before: self.number() })
    }

    /// The limits of the delays come from the configuration, which sets them later.
    fn machine(&mut self) -> Machine {
        let (state, next_delay) = (self.state(), self.duration());
        Machine::resume(state, Backoff::new(next_delay, next_delay), self.maybe(Self::time))
    }

    fn state(&mut self) -> State {
        match self.number() {
            0 => State::Idle,
            1 => State::Starting { since: self.time(), remind_at: self.time() },
            2 => State::Running { since: self.time() },
            3 => State::Reloading {
                since: self.time(),
                answer_by: self.time(),
                settled: self.flag(),
                again: self.flag(),
            },
            4 => State::Stopping { then: self.then(), kill_at: self.time(), end: self.end() },
            5 => State::Backoff { until: self.time() },
            6 => State::Invalid { until: self.time() },
            7 => State::Held,
            8 => State::Waiting,
            _ => self.other(State::Idle),
        }
    }

    fn then(&mut self) -> Then {
        match self.number() {
            0 => Then::Respawn,
            1 => Then::Backoff,
            2 => Then::Nothing,
            3 => Then::Hold,
            4 => Then::Rest,
            5 => Then::Again,
            _ => self.other(Then::Nothing),
        }
    }

    fn end(&mut self) -> End {
        match self.number() {
            0 => End::Asked,
            1 => End::Announced,
            2 => End::Killed,
            _ => self.other(End::Asked),
        }
    }

    fn facts(&mut self) -> ProcessFacts {
        ProcessFacts {
            pid: self.descriptor(),
            owner: self.owner(),
            is_linked: self.flag(),
            born: self.time(),
            running: self.maybe(Self::time),
            asked_to_reload: self.maybe(Self::time),
            ending: Rare(self.maybe(Self::ending)),
            said: Rare(self.maybe(Self::said)),
            is_half: true,
            wait: None,
            // No upgrade happens while remaining processes are being ended.
            has_ended: false,
            replication: self.maybe(|input| Box::new(input.replication())),
            file: self.used_file(),
            sent: self.maybe(|input| Box::new(input.used_file())),
            transcript: self.maybe(Self::transcript),
        }
    }

    fn ending(&mut self) -> Box<Ending> {
        Box::new(Ending {
            asked_to_stop: self.maybe(Self::time),
            killed: self.maybe(Self::time),
            condemned: self.maybe(Self::text),
            exit_reason: self.maybe(Self::exit_reason).flatten(),
        })
    }

    fn said(&mut self) -> Box<Said> {
        Box::new(Said {
            ready: self.maybe(Self::time),
            loyal: self.maybe(Self::time),
            heartbeat: self.maybe(Self::time),
            status: self.text(),
            unready: self.maybe(Self::text).map(String::into_boxed_str),
        })
    }

    fn exit_reason(&mut self) -> Option<ExitReason> {
        match FromVassal::decode(&self.bytes()) {
            Some(FromVassal::Exiting(reason)) => Some(reason),
            _ => self.other(None),
        }
    }

    fn owner(&mut self) -> Owner {
        Owner { uid: self.small(), gid: self.small() }
    }

    fn number(&mut self) -> u64 {
        match self.rest.split_first_chunk() {
            Some((head, tail)) => {
                self.rest = tail;
                u64::from_le_bytes(*head)
            }
            None => self.other(0),
        }
    }

    fn small(&mut self) -> u32 {
        let number = u32::try_from(self.number()).ok();
        self.valid(number).unwrap_or_default()
    }

    fn length(&mut self) -> usize {
        let number = usize::try_from(self.number()).ok();
        self.valid(number).unwrap_or_default()
    }

    fn descriptor(&mut self) -> i32 {
        let number = i32::try_from(self.number().cast_signed()).ok();
        self.valid(number).unwrap_or_default()
    }

    fn flag(&mut self) -> bool {
        match self.number() {
            0 => false,
            1 => true,
            _ => self.other(false),
        }
    }

    fn duration(&mut self) -> Duration {
        Duration::from_nanos(self.number())
    }

    fn time(&mut self) -> Instant {
        let (ahead, ago) = (self.duration(), self.duration());
        let time = self.now.checked_add(ahead);
        self.valid(time).and_then(|time| time.checked_sub(ago)).unwrap_or(self.now)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = self.length();
        match self.rest.split_at_checked(length) {
            Some((head, tail)) => {
                self.rest = tail;
                head.to_vec()
            }
            None => self.other(Vec::new()),
        }
    }

    fn text(&mut self) -> String {
        let text = String::from_utf8(self.bytes()).ok();
        self.valid(text).unwrap_or_default()
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| read(self))
    }

    fn list<T>(&mut self, read: fn(&mut Self) -> Option<T>) -> Vec<T> {
        let mut list = Vec::new();
        for _ in 0..self.number() {
            match read(self) {
                Some(one) if !self.failed => list.push(one),
                _ => return self.other(list),
            }
        }
        list
    }

    /// A value that must be there.
    fn valid<T>(&mut self, value: Option<T>) -> Option<T> {
        self.failed |= value.is_none();
        value
    }

    /// Notes a mistake in the bytes, and returns some value.
    fn other<T>(&mut self, value: T) -> T {
        self.failed = true;
        value
    }
}
