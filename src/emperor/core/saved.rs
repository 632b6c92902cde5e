//! Everything an emperor knows of its vassals, as bytes for the program that takes its place.
//!
//! The bytes begin with the versions of the link's messages and of this form: bytes of another version are
//! refused, and so are bytes that are cut off or padded. They come from a memory file that only an emperor
//! could write, so that a mistake in them is no attack. A time is written as its distance from the present,
//! since clocks of different programs cannot be compared otherwise.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::file_version::{FileId, FileVersion};
use super::history::{Failures, History, Runs};
use super::instance::{Instance, ProcessFacts};
use super::machine::{End, Machine, State, Then};
use super::mountpoints::{Mountpoint, Mountpoints};
use super::owner::Owner;
use super::vassal::Vassal;
use super::vassal_file::VassalFile;
use crate::config::{self, PlainSetting};
use crate::protocol::{self, ExitReason, FromVassal, SocketId};

/// To be raised with each change of what is written here.
const VERSION: u8 = 14;

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Attributes that the first emperor was started with.
    pub origin: SavedOrigin,
    /// Since when there is an emperor.
    pub began: Instant,
    /// The descriptor of the client that has asked for the upgrade by command.
    pub client: Option<i32>,
    /// The file with our pid; empty if there is none.
    pub pid_file: Vec<u8>,
    /// The settings and files that the emperor runs with.
    pub basis: SavedBasis,
    /// The emperor's own sockets.
    pub listeners: Vec<SavedListener>,
    /// The vassals.
    pub vassals: Vec<SavedVassal>,
}

/// Attributes that the first emperor was started with. The programs that it starts get them back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedOrigin {
    /// The signal mask.
    pub signal_mask: u64,
    /// The soft limit of open files; `None` if there is none.
    pub nofile_soft: Option<u64>,
    /// The hard limit of open files; `None` if there is none.
    pub nofile_hard: Option<u64>,
}

/// The settings and files that an emperor runs with: enough for the next program to go on where the
/// configuration cannot be read, or what the configuration asks for is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedBasis {
    /// The settings that its plan was made of.
    pub settings: Vec<PlainSetting>,
    /// The working directory as it was at the first start, where relative paths begin; empty if there are
    /// none.
    pub cwd: PathBuf,
    /// The descriptor of its vassal-init, a sealed memory file.
    pub vassal_init: i32,
    /// A descriptor of `/dev/null`.
    pub null: i32,
}

/// A listening socket of the emperor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedListener {
    /// Its place in the list of services.
    pub service: u64,
    /// Its descriptor.
    pub socket: i32,
    /// Its address as it is named.
    pub name: Vec<u8>,
    /// Its file, if it has one.
    pub file: Option<FileId>,
}

/// A vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedVassal {
    /// Its file.
    pub file: VassalFile,
    /// All that is known of it.
    pub vassal: Vassal,
    /// The descriptors of its process.
    pub process: Option<SavedProcess>,
    /// The sockets that are held for it.
    pub sockets: SavedSockets,
}

/// The descriptors of a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedProcess {
    /// The descriptor of the process.
    pub pidfd: i32,
    /// The descriptor of its link, if that is open.
    pub link: Option<i32>,
    /// Whether it runs as the owner of its file.
    pub owned: bool,
    /// Its cgroup; empty if the emperor has made none.
    pub cgroup: Vec<u8>,
}

/// The sockets that are held for a vassal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedSockets {
    /// All of them, with the on-demand socket.
    pub sockets: Vec<SavedSocket>,
    /// The user who has bound those that are the vassal's.
    pub owner: Owner,
}

/// A socket that is held for a vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSocket {
    /// Which one it is.
    pub id: SocketId,
    /// Its descriptor.
    pub socket: i32,
}

impl Saved {
    /// All of it. `now` is what times are counted from.
    pub fn encode(&self, now: Instant) -> Vec<u8> {
        let mut out = Writer { bytes: vec![protocol::VERSION, VERSION], now };
        out.origin(&self.origin);
        out.time(self.began);
        out.maybe(self.client.as_ref(), |out, client| out.descriptor(*client));
        out.bytes(&self.pid_file);
        out.basis(&self.basis);
        out.list(&self.listeners, Writer::listener);
        out.list(&self.vassals, Writer::saved_vassal);
        out.bytes
    }

    /// Reads the bytes of [`Saved::encode`]; `None` if they are of another version, or not whole.
    pub fn decode(bytes: &[u8], now: Instant) -> Option<Self> {
        let rest = bytes.strip_prefix(&[protocol::VERSION, VERSION])?;
        let mut input = Reader { rest, now };
        let saved = Self {
            origin: input.origin()?,
            began: input.time()?,
            client: input.maybe(Reader::descriptor)?,
            pid_file: input.bytes()?,
            basis: input.basis()?,
            listeners: input.list(Reader::listener)?,
            vassals: input.list(Reader::saved_vassal)?,
        };
        input.rest.is_empty().then_some(saved)
    }

    /// The descriptors that stay open.
    pub fn descriptors(&self) -> Vec<i32> {
        let mut all = vec![self.basis.vassal_init, self.basis.null];
        for SavedVassal { process, sockets, .. } in &self.vassals {
            if let Some(process) = process {
                all.push(process.pidfd);
                all.extend(process.link);
            }
            all.extend(sockets.sockets.iter().map(|socket| socket.socket));
        }
        all.extend(self.listeners.iter().map(|listener| listener.socket));
        all.extend(self.client);
        all
    }
}

/// Everything is written in the order of the fields; [`Reader`] has the same functions in the other
/// direction.
struct Writer {
    bytes: Vec<u8>,
    now: Instant,
}

impl Writer {
    fn origin(&mut self, origin: &SavedOrigin) {
        self.number(origin.signal_mask);
        self.maybe(origin.nofile_soft.as_ref(), |out, limit| out.number(*limit));
        self.maybe(origin.nofile_hard.as_ref(), |out, limit| out.number(*limit));
    }

    fn basis(&mut self, basis: &SavedBasis) {
        self.list(&basis.settings, |out, PlainSetting { key, value, file, line, column }| {
            out.bytes(key);
            out.maybe(value.as_ref(), |out, value| out.bytes(value));
            out.bytes(file.as_bytes());
            out.number(u64::from(*line));
            out.number(u64::from(*column));
        });
        self.bytes(basis.cwd.as_os_str().as_bytes());
        self.descriptor(basis.vassal_init);
        self.descriptor(basis.null);
    }

    fn listener(&mut self, listener: &SavedListener) {
        self.number(listener.service);
        self.descriptor(listener.socket);
        self.bytes(&listener.name);
        self.maybe(listener.file.as_ref(), Self::file_id);
    }

    fn saved_vassal(&mut self, saved: &SavedVassal) {
        self.bytes(saved.file.as_os_str().as_bytes());
        self.number(saved.file.name_at() as u64);
        self.vassal(&saved.vassal);
        self.maybe(saved.process.as_ref(), Self::process);
        self.list(&saved.sockets.sockets, |out, socket| {
            out.bytes(&socket.id.to_bytes());
            out.descriptor(socket.socket);
        });
        self.owner(&saved.sockets.owner);
    }

    fn process(&mut self, process: &SavedProcess) {
        self.descriptor(process.pidfd);
        self.maybe(process.link.as_ref(), |out, link| out.descriptor(*link));
        self.flag(process.owned);
        self.bytes(&process.cgroup);
    }

    fn vassal(&mut self, vassal: &Vassal) {
        let Vassal { file_version, is_unclaimed: _, on_demand, is_asking: _, .. } = vassal;
        self.file_version(file_version);
        self.maybe(on_demand.as_ref(), |out, address| out.bytes(address.name.as_bytes()));
        self.history(&vassal.history);
        self.list(&vassal.mountpoints.0, |out, mountpoint| {
            out.bytes(&FromVassal::Mountpoints(vec![mountpoint.report.clone()]).encode());
            out.number(mountpoint.before);
        });
        self.machine(&vassal.instance.machine);
        self.maybe(vassal.instance.process.as_ref(), Self::facts);
    }

    fn file_id(&mut self, file: &FileId) {
        self.number(file.device);
        self.number(file.inode);
    }

    fn file_version(&mut self, version: &FileVersion) {
        self.number(version.modified.cast_unsigned());
        self.number(version.modified_nanos.into());
        self.number(version.device);
        self.number(version.inode);
        self.number(version.size);
        self.maybe(version.owner.as_ref(), Self::owner);
    }

    fn history(&mut self, history: &History) {
        self.number(history.instances);
        self.number(history.reloads);
        self.maybe(history.runs.as_ref(), |out, runs| {
            out.time(runs.first);
            out.time(runs.last);
        });
        self.maybe(history.failures.as_ref(), |out, failures| {
            out.number(failures.count.into());
            out.time(failures.first);
            out.time(failures.last);
            out.duration(failures.wait);
        });
        self.maybe_text(history.last_end.as_ref());
        self.maybe_text(history.refused.as_ref());
        self.flag(history.announces);
    }

    fn machine(&mut self, machine: &Machine) {
        self.state(machine.state());
        self.duration(machine.next_delay());
        self.maybe_time(machine.alive_until());
    }

    fn state(&mut self, state: State) {
        match state {
            State::Idle => self.number(0),
            State::Starting { since, remind_at } => {
                self.number(1);
                self.time(since);
                self.time(remind_at);
            }
            State::Running { since } => {
                self.number(2);
                self.time(since);
            }
            State::Reloading { since, answer_by, settled, again } => {
                self.number(3);
                self.time(since);
                self.time(answer_by);
                self.flag(settled);
                self.flag(again);
            }
            State::Stopping { then, kill_at, end } => {
                self.number(4);
                self.number(match then {
                    Then::Respawn => 0,
                    Then::Backoff => 1,
                    Then::Nothing => 2,
                    Then::Hold => 3,
                    Then::Rest => 4,
                });
                self.time(kill_at);
                self.number(match end {
                    End::Asked => 0,
                    End::Announced => 1,
                    End::Killed => 2,
                });
            }
            State::Backoff { until } => {
                self.number(5);
                self.time(until);
            }
            State::Invalid { until } => {
                self.number(6);
                self.time(until);
            }
            State::Held => self.number(7),
            State::Waiting => self.number(8),
        }
    }

    fn facts(&mut self, facts: &ProcessFacts) {
        self.descriptor(facts.pid);
        self.owner(&facts.owner);
        self.flag(facts.is_linked);
        self.time(facts.born);
        self.maybe_time(facts.running);
        self.maybe_time(facts.asked_to_reload);
        self.maybe_time(facts.asked_to_stop);
        self.maybe_time(facts.killed);
        self.maybe_text(facts.condemned.as_ref());
        self.maybe_time(facts.ready);
        self.maybe_time(facts.loyal);
        self.maybe_time(facts.heartbeat);
        self.bytes(facts.status.as_bytes());
        self.maybe(facts.exit_reason.as_ref(), |out, reason| out.bytes(&reason.encode()));
    }

    fn owner(&mut self, owner: &Owner) {
        self.number(owner.uid.into());
        self.number(owner.gid.into());
    }

    fn number(&mut self, number: u64) {
        self.bytes.extend(number.to_le_bytes());
    }

    /// A descriptor or a pid.
    fn descriptor(&mut self, number: i32) {
        self.number(i64::from(number).cast_unsigned());
    }

    fn flag(&mut self, flag: bool) {
        self.number(flag.into());
    }

    /// In nanoseconds; half a millennium at most.
    fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn time(&mut self, time: Instant) {
        self.duration(time.saturating_duration_since(self.now));
        self.duration(self.now.saturating_duration_since(time));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend(bytes);
    }

    fn maybe_text(&mut self, text: Option<&String>) {
        self.maybe(text, |out, text| out.bytes(text.as_bytes()));
    }

    fn maybe_time(&mut self, time: Option<Instant>) {
        self.maybe(time.as_ref(), |out, time| out.time(*time));
    }

    fn maybe<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(&mut self, list: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(list.len() as u64);
        list.iter().for_each(|item| write(self, item));
    }
}

/// Reads the bytes of a [`Writer`]. Each function returns `None` if the bytes are something else.
struct Reader<'a> {
    rest: &'a [u8],
    now: Instant,
}

impl Reader<'_> {
    fn origin(&mut self) -> Option<SavedOrigin> {
        Some(SavedOrigin {
            signal_mask: self.number()?,
            nofile_soft: self.maybe(Self::number)?,
            nofile_hard: self.maybe(Self::number)?,
        })
    }

    fn basis(&mut self) -> Option<SavedBasis> {
        Some(SavedBasis {
            settings: self.list(|input| {
                Some(PlainSetting {
                    key: input.bytes()?,
                    value: input.maybe(Self::bytes)?,
                    file: input.text()?,
                    line: u32::try_from(input.number()?).ok()?,
                    column: u32::try_from(input.number()?).ok()?,
                })
            })?,
            cwd: OsString::from_vec(self.bytes()?).into(),
            vassal_init: self.descriptor()?,
            null: self.descriptor()?,
        })
    }

    fn listener(&mut self) -> Option<SavedListener> {
        Some(SavedListener {
            service: self.number()?,
            socket: self.descriptor()?,
            name: self.bytes()?,
            file: self.maybe(Self::file_id)?,
        })
    }

    fn saved_vassal(&mut self) -> Option<SavedVassal> {
        let path = PathBuf::from(OsString::from_vec(self.bytes()?));
        Some(SavedVassal {
            file: VassalFile::new(path, usize::try_from(self.number()?).ok()?),
            vassal: self.vassal()?,
            process: self.maybe(Self::process)?,
            sockets: SavedSockets {
                sockets: self.list(|input| {
                    Some(SavedSocket {
                        id: SocketId::from_bytes(&input.bytes()?)?,
                        socket: input.descriptor()?,
                    })
                })?,
                owner: self.owner()?,
            },
        })
    }

    fn process(&mut self) -> Option<SavedProcess> {
        Some(SavedProcess {
            pidfd: self.descriptor()?,
            link: self.maybe(Self::descriptor)?,
            owned: self.flag()?,
            cgroup: self.bytes()?,
        })
    }

    fn vassal(&mut self) -> Option<Vassal> {
        let file_version = self.file_version()?;
        let on_demand = self.maybe(|input| config::address(&input.bytes()?).ok())?;
        let history = self.history()?;
        let mountpoints = Mountpoints(self.list(Self::mountpoint)?);
        let mut machine = self.machine()?;
        machine.set_on_demand(on_demand.is_some());
        let process = self.maybe(Self::facts)?;
        let instance = Instance { machine, process, is_checking: false };
        let (is_unclaimed, is_asking) = (true, false);
        Some(Vassal { file_version, is_unclaimed, on_demand, is_asking, history, mountpoints, instance })
    }

    fn file_id(&mut self) -> Option<FileId> {
        Some(FileId { device: self.number()?, inode: self.number()? })
    }

    fn file_version(&mut self) -> Option<FileVersion> {
        Some(FileVersion {
            modified: self.number()?.cast_signed(),
            modified_nanos: u32::try_from(self.number()?).ok()?,
            device: self.number()?,
            inode: self.number()?,
            size: self.number()?,
            owner: self.maybe(Self::owner)?,
        })
    }

    fn history(&mut self) -> Option<History> {
        Some(History {
            instances: self.number()?,
            reloads: self.number()?,
            runs: self.maybe(|input| Some(Runs { first: input.time()?, last: input.time()? }))?,
            failures: self.maybe(|input| {
                Some(Failures {
                    count: u32::try_from(input.number()?).ok()?,
                    first: input.time()?,
                    last: input.time()?,
                    wait: input.duration()?,
                })
            })?,
            last_end: self.maybe(Self::text)?,
            refused: self.maybe(Self::text)?,
            announces: self.flag()?,
        })
    }

    fn mountpoint(&mut self) -> Option<Mountpoint> {
        let Some(FromVassal::Mountpoints(mut reports)) = FromVassal::decode(&self.bytes()?) else {
            return None;
        };
        Some(Mountpoint { report: reports.pop()?, before: self.number()? })
    }

    /// The limits of the delays are the present program's, which sets them.
    fn machine(&mut self) -> Option<Machine> {
        let (state, next_delay) = (self.state()?, self.duration()?);
        Some(Machine::resume(state, Backoff::new(next_delay, next_delay), self.maybe(Self::time)?))
    }

    fn state(&mut self) -> Option<State> {
        Some(match self.number()? {
            0 => State::Idle,
            1 => State::Starting { since: self.time()?, remind_at: self.time()? },
            2 => State::Running { since: self.time()? },
            3 => State::Reloading {
                since: self.time()?,
                answer_by: self.time()?,
                settled: self.flag()?,
                again: self.flag()?,
            },
            4 => State::Stopping {
                then: match self.number()? {
                    0 => Then::Respawn,
                    1 => Then::Backoff,
                    2 => Then::Nothing,
                    3 => Then::Hold,
                    4 => Then::Rest,
                    _ => return None,
                },
                kill_at: self.time()?,
                end: match self.number()? {
                    0 => End::Asked,
                    1 => End::Announced,
                    2 => End::Killed,
                    _ => return None,
                },
            },
            5 => State::Backoff { until: self.time()? },
            6 => State::Invalid { until: self.time()? },
            7 => State::Held,
            8 => State::Waiting,
            _ => return None,
        })
    }

    fn facts(&mut self) -> Option<ProcessFacts> {
        Some(ProcessFacts {
            pid: self.descriptor()?,
            owner: self.owner()?,
            is_linked: self.flag()?,
            born: self.time()?,
            running: self.maybe(Self::time)?,
            asked_to_reload: self.maybe(Self::time)?,
            asked_to_stop: self.maybe(Self::time)?,
            killed: self.maybe(Self::time)?,
            condemned: self.maybe(Self::text)?,
            ready: self.maybe(Self::time)?,
            loyal: self.maybe(Self::time)?,
            heartbeat: self.maybe(Self::time)?,
            status: self.text()?,
            exit_reason: self.maybe(Self::exit_reason)?,
        })
    }

    fn exit_reason(&mut self) -> Option<ExitReason> {
        match FromVassal::decode(&self.bytes()?)? {
            FromVassal::Exiting(reason) => Some(reason),
            _ => None,
        }
    }

    fn owner(&mut self) -> Option<Owner> {
        Some(Owner { uid: u32::try_from(self.number()?).ok()?, gid: u32::try_from(self.number()?).ok()? })
    }

    fn number(&mut self) -> Option<u64> {
        let (head, tail) = self.rest.split_first_chunk()?;
        self.rest = tail;
        Some(u64::from_le_bytes(*head))
    }

    fn descriptor(&mut self) -> Option<i32> {
        i32::try_from(self.number()?.cast_signed()).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn duration(&mut self) -> Option<Duration> {
        Some(Duration::from_nanos(self.number()?))
    }

    fn time(&mut self) -> Option<Instant> {
        let (ahead, ago) = (self.duration()?, self.duration()?);
        Some(self.now.checked_add(ahead)?.checked_sub(ago).unwrap_or(self.now))
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.number()?).ok()?;
        let (head, tail) = self.rest.split_at_checked(length)?;
        self.rest = tail;
        Some(head.to_vec())
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests;
