//! The saved state as bytes.
//!
//! Everything is written in the order of the fields; `decode` has the same functions in the other direction.

use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use super::{Saved, SavedBasis, SavedListener, SavedOrigin, SavedProcess, SavedVassal, VERSION};
use crate::config::PlainSetting;
use crate::config::plan::Address;
use crate::emperor::core::file_version::{FileId, FileVersion};
use crate::emperor::core::history::{History, Past};
use crate::emperor::core::instance::{Instance, ProcessFacts, UsedFile};
use crate::emperor::core::machine::{End, Machine, State, Then};
use crate::emperor::core::owner::Owner;
use crate::emperor::core::vassal::Vassal;
use crate::protocol::{self, FromVassal, Replication, SocketId};

/// The state as bytes. Times are counted from `now`.
pub fn encode<V: Deref<Target = Vassal>>(saved: &Saved<V>, now: Instant) -> Vec<u8> {
    let mut out = Writer { bytes: vec![protocol::VERSION, VERSION], now };
    out.origin(&saved.origin);
    out.time(saved.began);
    out.maybe(saved.client.as_ref(), |out, client| out.descriptor(*client));
    out.bytes(&saved.pid_file);
    out.basis(&saved.basis);
    out.list(&saved.listeners, Writer::listener);
    out.list(&saved.vassals, Writer::saved_vassal);
    out.bytes
}

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

    fn saved_vassal<V: Deref<Target = Vassal>>(&mut self, saved: &SavedVassal<V>) {
        self.bytes(saved.file.as_os_str().as_bytes());
        self.number(saved.file.name_at() as u64);
        self.vassal(&saved.vassal);
        self.list(&saved.processes, |out, process| out.maybe(process.as_ref(), Self::process));
        self.list(&saved.sockets.sockets, |out, socket| {
            out.bytes(&socket.id.to_bytes());
            out.descriptor(socket.socket);
        });
        self.owner(&saved.sockets.owner);
    }

    fn process(&mut self, process: &SavedProcess) {
        self.maybe(process.link.as_ref(), |out, link| out.descriptor(*link));
        self.flag(process.owned);
        self.bytes(&process.cgroup);
    }

    fn vassal(&mut self, vassal: &Vassal) {
        let Vassal { file_version, on_demand, .. } = vassal;
        self.file_version(file_version);
        self.maybe(on_demand.as_deref(), Self::address);
        self.maybe_text(vassal.refused.as_ref());
        self.maybe(vassal.proven.as_ref(), |out, proven| {
            out.bytes(&proven.text);
            out.owner(&proven.owner);
            out.used_file(&proven.file);
            out.flag(proven.is_of_before);
        });
        self.flag(vassal.is_roll);
        self.flag(vassal.announces);
        self.replication(&vassal.replication);
        self.list(&vassal.instances, Self::instance);
    }

    fn instance(&mut self, instance: &Instance) {
        self.number(instance.number.into());
        self.flag(instance.is_old);
        self.flag(instance.is_on_trial);
        self.flag(instance.is_unproven);
        self.flag(instance.is_unready);
        self.history(&instance.history);
        self.list(&instance.mountpoints.0, |out, mountpoint| {
            out.bytes(&FromVassal::Mountpoints(vec![mountpoint.report.clone()]).encode());
            out.number(mountpoint.before);
        });
        self.machine(&instance.machine);
        self.maybe(instance.app.as_ref(), |out, pid| out.descriptor(*pid));
        self.maybe(instance.process.as_ref(), Self::facts);
    }

    fn replication(&mut self, replication: &Replication) {
        self.bytes(&FromVassal::Replication(*replication).encode());
    }

    /// The place is written as well as the name, because a path that is not UTF-8 cannot be recovered from
    /// the name.
    fn address(&mut self, Address { name, place }: &Address) {
        self.bytes(name.as_bytes());
        let id = SocketId { place: place.clone(), file: None, is_on_demand: true };
        self.bytes(&id.to_bytes());
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
        self.maybe(history.past.0.as_ref(), |out, past| out.past(past));
        self.bytes(history.output.as_bytes());
        self.bytes(history.warnings.as_bytes());
    }

    fn past(&mut self, past: &Past) {
        self.maybe(past.failures.as_ref(), |out, failures| {
            out.number(failures.count.into());
            out.time(failures.first);
            out.time(failures.last);
            out.duration(failures.wait);
        });
        self.maybe_text(past.last_end.as_ref());
        self.list(&past.ends, |out, end| {
            out.time(end.at);
            out.duration(end.date);
            out.bytes(end.why.as_bytes());
            out.flag(end.is_asked);
        });
        self.maybe_time(past.recent.since);
        past.recent.counts.iter().for_each(|count| self.number((*count).into()));
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
                    Then::Again => 5,
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
        self.maybe(facts.ending.0.as_ref(), |out, ending| {
            out.maybe_time(ending.asked_to_stop);
            out.maybe_time(ending.killed);
            out.maybe_text(ending.condemned.as_ref());
            out.maybe(ending.exit_reason.as_ref(), |out, reason| out.bytes(&reason.encode()));
        });
        self.maybe(facts.said.0.as_ref(), |out, said| {
            out.maybe_time(said.ready);
            out.maybe_time(said.loyal);
            out.maybe_time(said.heartbeat);
            out.bytes(said.status.as_bytes());
            out.maybe(said.unready.as_ref(), |out, why| out.bytes(why.as_bytes()));
        });
        self.maybe(facts.replication.as_deref(), Self::replication);
        self.used_file(&facts.file);
        self.maybe(facts.sent.as_deref(), Self::used_file);
        self.maybe(facts.transcript.as_ref(), |out, transcript| out.bytes(&transcript.0));
    }

    fn used_file(&mut self, file: &UsedFile) {
        self.maybe(file.text.as_ref(), |out, text| out.number(*text));
        self.number(file.modified.cast_unsigned());
        self.maybe(file.owner.as_ref(), Self::owner);
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

    /// In nanoseconds, up to half a millennium.
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
