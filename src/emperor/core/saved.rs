//! Everything an emperor knows of its vassals, as bytes for the program that takes its place.
//!
//! The bytes begin with the version of the link's messages and the version of this format. Bytes of other
//! versions are refused, and so are bytes that are cut off or padded. They come from a memory file that only
//! an emperor can have written, so a mistake in them is not an attack. A time is written as its distance from
//! the present, because clocks of different programs cannot be compared.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::file_version::FileId;
use super::owner::Owner;
use super::vassal::Vassal;
use super::vassal_file::VassalFile;
use crate::config::PlainSetting;
use crate::protocol::SocketId;

pub mod decode;
pub mod encode;

/// Must be raised with each change of the format, also that of [transcripts](crate::transcript) with their
/// [questions](crate::asker::Question) and answers.
const VERSION: u8 = 26;

/// The saved state. To write it, a vassal is borrowed (`V`); after reading, it is owned.
#[derive(Debug, PartialEq, Eq)]
pub struct Saved<V = Box<Vassal>> {
    /// Attributes that the first emperor was started with.
    pub origin: SavedOrigin,
    /// Since when an emperor has run.
    pub began: Instant,
    /// The descriptor of the client that requested the upgrade by command.
    pub client: Option<i32>,
    /// The emperor's pid file; empty without one.
    pub pid_file: Vec<u8>,
    /// The settings and files that the emperor runs with.
    pub basis: SavedBasis,
    /// The emperor's own sockets.
    pub listeners: Vec<SavedListener>,
    /// The vassals.
    pub vassals: Vec<SavedVassal<V>>,
}

/// Attributes that the first emperor was started with. Programs that the emperor starts get them back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedOrigin {
    /// The signal mask.
    pub signal_mask: u64,
    /// The soft limit of open files; `None` if there is none.
    pub nofile_soft: Option<u64>,
    /// The hard limit of open files; `None` if there is none.
    pub nofile_hard: Option<u64>,
}

/// The settings and files that an emperor runs with. With them the next program can go on if its
/// configuration cannot be read, or names something that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedBasis {
    /// The settings that its plan was made of.
    pub settings: Vec<PlainSetting>,
    /// The working directory at the first start, from which relative paths start; empty without relative
    /// paths.
    pub cwd: PathBuf,
    /// The descriptor of its vassal-init, a sealed memory file.
    pub vassal_init: i32,
    /// A descriptor of `/dev/null`.
    pub null: i32,
}

/// A listening socket of the emperor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedListener {
    /// Its index in the list of services.
    pub service: u64,
    /// Its descriptor.
    pub socket: i32,
    /// Its address as text.
    pub name: Vec<u8>,
    /// Its file, if it has one.
    pub file: Option<FileId>,
}

/// A vassal.
#[derive(Debug, PartialEq, Eq)]
pub struct SavedVassal<V = Box<Vassal>> {
    /// Its file.
    pub file: Rc<VassalFile>,
    /// Everything that the core knows of it.
    pub vassal: V,
    /// The processes, for each of its instances in their order.
    pub processes: Vec<Option<SavedProcess>>,
    /// Its sockets, which the emperor holds.
    pub sockets: SavedSockets,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedProcess {
    /// The descriptor of its link, if that is open.
    pub link: Option<i32>,
    /// Whether it runs as the owner of its file.
    pub owned: bool,
    /// Its cgroup; empty if the emperor has made none.
    pub cgroup: Vec<u8>,
}

/// The sockets that the emperor holds for a vassal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedSockets {
    /// All sockets, including the on-demand socket.
    pub sockets: Vec<SavedSocket>,
    /// The user who bound those that belong to the vassal.
    pub owner: Owner,
}

/// A socket that the emperor holds for a vassal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSocket {
    /// Its identity.
    pub id: SocketId,
    /// Its descriptor.
    pub socket: i32,
}

/// The number written for a descriptor that is missing.
const LOST: i32 = -1;

impl<V> Saved<V> {
    /// Calls `visit` with the number of each descriptor that stays open.
    pub fn each_descriptor(&mut self, visit: &mut dyn FnMut(&mut i32)) {
        visit(&mut self.basis.vassal_init);
        visit(&mut self.basis.null);
        for SavedVassal { processes, sockets, .. } in &mut self.vassals {
            for process in processes.iter_mut().flatten() {
                process.link.iter_mut().for_each(&mut *visit);
            }
            sockets.sockets.iter_mut().for_each(|socket| visit(&mut socket.socket));
        }
        self.listeners.iter_mut().for_each(|listener| visit(&mut listener.socket));
        self.client.iter_mut().for_each(visit);
    }

    /// Forgets descriptors that are missing, before a file that is opened later can get their numbers.
    pub fn forget_lost(&mut self, is_open: impl Fn(i32) -> bool) {
        self.each_descriptor(&mut |number| {
            if !is_open(*number) {
                *number = LOST;
            }
        });
    }
}

#[cfg(test)]
mod tests;
