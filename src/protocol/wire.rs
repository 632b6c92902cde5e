//! The encoding of the messages as bytes, and back.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use super::messages::{
    Announcement, ExitReason, FileOwner, FromVassal, Hello, MountReport, MountState, OPTIONS_MAX,
    REPLICAS_MAX, REPORTS_MAX, Replication, SetupFailure, ToVassal, VERSION, WaitStatus,
};
use super::socket::{FileId, SocketId};
use crate::place::Place;

/// Longer texts are cut off, because a packet must fit into the buffer of the socket.
const TEXT_MAX: usize = 4096;

/// The same limit for the texts in a report about a mountpoint.
const REPORT_TEXT_MAX: usize = 256;

/// The largest packet: three texts, the options, and some numbers and lengths.
pub(super) const PACKET_MAX: usize = 3 * TEXT_MAX + OPTIONS_MAX + 128;

impl ToVassal {
    /// The message as a packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => Packet::new(0)
                .text(hello.name.as_bytes())
                .text(hello.path.as_os_str().as_bytes())
                .u64(hello.namespaces)
                .pairs(&hello.as_vassal)
                .u64(hello.is_program.into())
                .u64(hello.is_transcript.into())
                .u64(hello.replica.into())
                .u64(hello.is_one_of_several.into())
                .u64(hello.is_check.into())
                .u64(hello.kept)
                .pairs(&hello.before)
                .pairs(&hello.behind)
                .owner(hello.owner)
                .text(hello.cgroup.as_os_str().as_bytes())
                .done(),
            Self::Stop => Packet::new(1).done(),
            Self::Reload => Packet::new(2).done(),
            Self::Kept(socket) => Packet::new(3).socket(socket).done(),
            Self::Mountpoints => Packet::new(4).done(),
            Self::Outside => Packet::new(5).done(),
            Self::StopGracefully => Packet::new(6).done(),
            Self::Lent(socket) => Packet::new(7).socket(socket).done(),
            Self::TakesOver => Packet::new(8).done(),
            Self::GiveUp => Packet::new(9).done(),
            Self::StopNow => Packet::new(10).done(),
        }
    }

    /// Reads a packet; `None` if it is not a message of this version.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, mut fields) = Fields::open(packet)?;
        let message = match kind {
            0 => Self::Hello(Hello {
                name: OsString::from_vec(fields.text()?.to_vec()),
                path: OsString::from_vec(fields.text()?.to_vec()).into(),
                namespaces: fields.u64()?,
                as_vassal: fields.pairs()?,
                is_program: fields.u64()? != 0,
                is_transcript: fields.u64()? != 0,
                replica: fields.u64()?.try_into().ok()?,
                is_one_of_several: fields.u64()? != 0,
                is_check: fields.u64()? != 0,
                kept: fields.u64()?,
                before: fields.pairs()?,
                behind: fields.pairs()?,
                owner: fields.owner()?,
                cgroup: OsString::from_vec(fields.text()?.to_vec()).into(),
            }),
            1 => Self::Stop,
            2 => Self::Reload,
            3 => Self::Kept(fields.socket()?),
            4 => Self::Mountpoints,
            5 => Self::Outside,
            6 => Self::StopGracefully,
            7 => Self::Lent(fields.socket()?),
            8 => Self::TakesOver,
            9 => Self::GiveUp,
            10 => Self::StopNow,
            _ => return None,
        };
        fields.end().then_some(message)
    }
}

impl ExitReason {
    /// A packet with [`FromVassal::Exiting`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::App(WaitStatus::Exited(status)) => Packet::new(2).i32(*status).done(),
            Self::App(WaitStatus::Signaled(signal)) => Packet::new(3).i32(*signal).done(),
            Self::App(WaitStatus::Dumped(signal)) => Packet::new(24).i32(*signal).done(),
            Self::AppSaid(status, said) => {
                Packet::new(29).i32(status.to_number()).text(said.as_bytes()).done()
            }
            Self::Stopped => Packet::new(4).done(),
            Self::Config(mistake) => Packet::new(5).text(mistake.as_bytes()).done(),
            Self::Setup(failure) => Packet::new(6)
                .text(failure.phase.as_bytes())
                .u64(failure.index.into())
                .text(failure.what.as_bytes())
                .i32(failure.errno)
                .done(),
            Self::MountLost(what) => Packet::new(7).text(what.as_bytes()).done(),
            Self::NotReady(what) => Packet::new(26).text(what.as_bytes()).done(),
            Self::OutOfMemory(kills) => Packet::new(19).u64(*kills).done(),
        }
    }
}

impl FromVassal {
    /// The message as a packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Running => Packet::new(0).done(),
            Self::Transcript => Packet::new(33).done(),
            Self::App(pid) => Packet::new(30).i32(*pid).done(),
            Self::Stopping(within) => Packet::new(1).time(*within).done(),
            Self::Exiting(reason) => reason.encode(),
            Self::Reloading(within) => Packet::new(8).time(*within).done(),
            Self::Reloaded => Packet::new(9).done(),
            Self::Refused(why) => Packet::new(10).text(why.as_bytes()).done(),
            Self::NeedsRespawn(why) => Packet::new(11).text(why.as_bytes()).done(),
            Self::Announced(Announcement::Ready) => Packet::new(12).done(),
            Self::Unready => Packet::new(27).done(),
            Self::NotReady(why) => Packet::new(32).text(why.as_bytes()).done(),
            Self::Announced(Announcement::Loyal) => Packet::new(13).done(),
            Self::Announced(Announcement::Heartbeat) => Packet::new(17).done(),
            Self::Announced(Announcement::Status(text)) => Packet::new(18).text(text.as_bytes()).done(),
            Self::Announced(Announcement::Leave) => Packet::new(20).done(),
            Self::Announced(Announcement::Reloading) => Packet::new(21).done(),
            Self::Announced(Announcement::Stopping) => Packet::new(22).done(),
            Self::Announced(Announcement::Stuck) => Packet::new(23).done(),
            Self::Replication(set) => Packet::new(25)
                .u64(set.replicas.into())
                .u64(set.is_rolling.into())
                .time(set.ready_after)
                .time(set.ready_timeout)
                .u64(set.says_ready.into())
                .done(),
            Self::Sockets(sockets) => {
                let count = Packet::new(14).u64(sockets.len() as u64);
                sockets.iter().fold(count, Packet::socket).done()
            }
            Self::Output(place) => Packet::new(28).text(place.as_bytes()).done(),
            Self::Warnings(text) => Packet::new(31).text(text.as_bytes()).done(),
            Self::Keep(socket) => Packet::new(15).socket(socket).done(),
            Self::Mountpoints(reports) => {
                let reports = reports.get(..REPORTS_MAX).unwrap_or(reports);
                reports.iter().fold(Packet::new(16).u64(reports.len() as u64), Packet::report).done()
            }
        }
    }

    /// Reads a packet; `None` if it is not a message of this version.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (kind, mut fields) = Fields::open(packet)?;
        let message = match kind {
            0 => Self::Running,
            33 => Self::Transcript,
            30 => Self::App(fields.i32()?),
            1 => Self::Stopping(fields.time()?),
            2 => Self::Exiting(ExitReason::App(WaitStatus::Exited(fields.i32()?))),
            3 => Self::Exiting(ExitReason::App(WaitStatus::Signaled(fields.i32()?))),
            24 => Self::Exiting(ExitReason::App(WaitStatus::Dumped(fields.i32()?))),
            29 => {
                let status = WaitStatus::of_number(fields.i32()?);
                Self::Exiting(ExitReason::AppSaid(status, fields.string()?))
            }
            4 => Self::Exiting(ExitReason::Stopped),
            5 => Self::Exiting(ExitReason::Config(fields.string()?)),
            6 => Self::Exiting(ExitReason::Setup(SetupFailure {
                phase: fields.string()?,
                index: u32::try_from(fields.u64()?).ok()?,
                what: fields.string()?,
                errno: fields.i32()?,
            })),
            7 => Self::Exiting(ExitReason::MountLost(fields.string()?)),
            8 => Self::Reloading(fields.time()?),
            9 => Self::Reloaded,
            10 => Self::Refused(fields.string()?),
            11 => Self::NeedsRespawn(fields.string()?),
            12 => Self::Announced(Announcement::Ready),
            27 => Self::Unready,
            32 => Self::NotReady(fields.string()?),
            13 => Self::Announced(Announcement::Loyal),
            14 => Self::Sockets(fields.list(Fields::socket)?),
            15 => Self::Keep(fields.socket()?),
            28 => Self::Output(fields.string()?),
            31 => Self::Warnings(fields.string()?),
            16 => Self::Mountpoints(fields.list(Fields::report)?),
            17 => Self::Announced(Announcement::Heartbeat),
            18 => Self::Announced(Announcement::Status(fields.string()?)),
            19 => Self::Exiting(ExitReason::OutOfMemory(fields.u64()?)),
            26 => Self::Exiting(ExitReason::NotReady(fields.string()?)),
            20 => Self::Announced(Announcement::Leave),
            21 => Self::Announced(Announcement::Reloading),
            22 => Self::Announced(Announcement::Stopping),
            23 => Self::Announced(Announcement::Stuck),
            25 => Self::Replication(Replication {
                replicas: fields.u64()?.try_into().ok().filter(|count| (1..=REPLICAS_MAX).contains(count))?,
                is_rolling: fields.flag()?,
                ready_after: fields.time()?,
                ready_timeout: fields.time()?,
                says_ready: fields.flag()?,
            }),
            _ => return None,
        };
        fields.end().then_some(message)
    }
}

impl SocketId {
    /// Its bytes inside a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        Packet(Vec::new()).socket(self).done()
    }

    /// Reads the bytes of [`SocketId::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let socket = fields.socket()?;
        fields.end().then_some(socket)
    }
}

/// A packet while it is written.
struct Packet(Vec<u8>);

impl Packet {
    fn new(kind: u8) -> Self {
        Self(vec![VERSION, kind])
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// In whole milliseconds.
    fn time(self, time: Duration) -> Self {
        self.u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn text(self, text: &[u8]) -> Self {
        self.uncut(text.get(..TEXT_MAX).unwrap_or(text))
    }

    fn pairs(self, pairs: &[(String, OsString)]) -> Self {
        let counted = self.u64(pairs.len() as u64);
        pairs
            .iter()
            .fold(counted, |packet, (key, value)| packet.uncut(key.as_bytes()).uncut(value.as_bytes()))
    }

    fn report(self, report: &MountReport) -> Self {
        let cut = |text: &[u8]| text.get(..REPORT_TEXT_MAX).unwrap_or(text).to_vec();
        // In nanoseconds plus 1; 0 stands for none.
        let took =
            report.round_trip.map_or(0, |took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.uncut(&cut(report.path.as_os_str().as_bytes()))
            .uncut(&cut(report.fs_type.as_bytes()))
            .i32(report.daemon)
            .i32(report.state as i32)
            .u64(took)
            .u64(report.lost.into())
            .uncut(&cut(report.last.as_bytes()))
    }

    /// Nothing for no owner, else one number for each part.
    fn owner(self, owner: Option<FileOwner>) -> Self {
        match owner {
            None => self.u64(0),
            Some(FileOwner { uid, gid, initgroups }) => {
                self.u64(1 + u64::from(initgroups)).u64(uid.into()).u64(gid.into())
            }
        }
    }

    fn socket(self, socket: &SocketId) -> Self {
        let packet = match &socket.place {
            Place::File(path) => self.u64(0).text(path.as_os_str().as_bytes()),
            Place::Abstract(name) => self.u64(1).text(name),
            Place::Internet(address) => self.u64(2).text(address.to_string().as_bytes()),
        };
        let packet = match socket.file {
            None => packet.u64(0),
            Some(FileId { device, inode }) => packet.u64(1).u64(device).u64(inode),
        };
        packet.u64(socket.is_on_demand.into())
    }

    fn uncut(mut self, text: &[u8]) -> Self {
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text);
        self
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The rest of a packet while it is read. Every getter returns `None` past its end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn open(packet: &'a [u8]) -> Option<(u8, Self)> {
        match packet {
            [VERSION, kind, fields @ ..] => Some((*kind, Self(fields))),
            _ => None,
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.array().map(u32::from_le_bytes)? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        self.text().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    fn time(&mut self) -> Option<Duration> {
        self.u64().map(Duration::from_millis)
    }

    fn pairs(&mut self) -> Option<Vec<(String, OsString)>> {
        self.list(|fields| Some((fields.string()?, OsString::from_vec(fields.text()?.to_vec()))))
    }

    fn list<T>(&mut self, read: fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // A count allocates nothing before its elements are there.
        let mut list = Vec::new();
        for _ in 0..self.u64()? {
            list.push(read(self)?);
        }
        Some(list)
    }

    fn report(&mut self) -> Option<MountReport> {
        Some(MountReport {
            path: OsString::from_vec(self.text()?.to_vec()).into(),
            fs_type: self.string()?,
            daemon: self.i32()?,
            state: *MountState::ALL.get(usize::try_from(self.i32()?).ok()?)?,
            round_trip: Some(self.u64()?).filter(|&took| took > 0).map(Duration::from_nanos),
            lost: u32::try_from(self.u64()?).ok()?,
            last: self.string()?,
        })
    }

    fn owner(&mut self) -> Option<Option<FileOwner>> {
        let initgroups = match self.u64()? {
            0 => return Some(None),
            1 => false,
            2 => true,
            _ => return None,
        };
        let (uid, gid) = (self.u64()?.try_into().ok()?, self.u64()?.try_into().ok()?);
        Some(Some(FileOwner { uid, gid, initgroups }))
    }

    fn socket(&mut self) -> Option<SocketId> {
        let place = match self.u64()? {
            0 => Place::File(OsString::from_vec(self.text()?.to_vec()).into()),
            1 => Place::Abstract(self.text()?.to_vec()),
            2 => Place::Internet(self.string()?.parse().ok()?),
            _ => return None,
        };
        let file = match self.u64()? {
            0 => None,
            1 => Some(FileId { device: self.u64()?, inode: self.u64()? }),
            _ => return None,
        };
        Some(SocketId { place, file, is_on_demand: self.flag()? })
    }

    fn flag(&mut self) -> Option<bool> {
        match self.u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
