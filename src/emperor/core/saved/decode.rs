//! The saved state, read from bytes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{
    Saved, SavedBasis, SavedListener, SavedOrigin, SavedProcess, SavedSocket, SavedSockets, SavedVassal,
    VERSION,
};
use crate::config::PlainSetting;
use crate::config::plan::Address;
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::history::{Failures, History, Runs};
use crate::emperor::core::instance::{Instance, ProcessFacts};
use crate::emperor::core::machine::{End, Machine, State, Then};
use crate::emperor::core::mountpoints::{Mountpoint, Mountpoints};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::vassal::Vassal;
use crate::emperor::core::vassal_file::VassalFile;
use crate::protocol::{self, ExitReason, FromVassal, SocketId};

/// Reads the bytes of [`encode`](super::encode::encode); `None` if they are of another version, or not whole.
pub fn decode(bytes: &[u8], now: Instant) -> Option<Saved> {
    let rest = bytes.strip_prefix(&[protocol::VERSION, VERSION])?;
    let mut input = Reader { rest, now };
    let saved = Saved {
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

/// Each function returns `None` if the bytes are something else.
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
        let on_demand = self.maybe(Self::address)?;
        let history = self.history()?;
        let mountpoints = Mountpoints(self.list(Self::mountpoint)?);
        let mut machine = self.machine()?;
        machine.set_on_demand(on_demand.is_some());
        let process = self.maybe(Self::facts)?;
        let instance = Instance { machine, process, is_checking: false };
        let (is_unclaimed, is_asking) = (true, false);
        // It is found out once the file is found.
        let owner = None;
        Some(Vassal {
            file_version,
            is_unclaimed,
            owner,
            on_demand,
            is_asking,
            history,
            mountpoints,
            instance,
        })
    }

    fn address(&mut self) -> Option<Address> {
        Some(Address { name: self.text()?, place: SocketId::from_bytes(&self.bytes()?)?.place })
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
                    5 => Then::Again,
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
