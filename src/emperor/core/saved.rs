//! Everything an emperor knows of its vassals, as bytes for the program that takes its place.
//!
//! The bytes begin with the versions of the link's messages and of this form: bytes of another version are
//! refused, and so are bytes that are cut off or padded. They come from a memory file that only an emperor
//! could write, so that a mistake in them is no attack. A time is written as its distance from the present,
//! since clocks of different programs cannot be compared otherwise.

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

/// To be raised with each change of what is written here.
const VERSION: u8 = 16;

/// Everything that is kept. A vassal is only lent to be written, and is the reader's own once it is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Saved<V = Box<Vassal>> {
    /// Attributes that the first emperor was started with.
    pub origin: SavedOrigin,
    /// Since when there is an emperor.
    pub began: Instant,
    /// The descriptor of the client that has asked for the upgrade by command.
    pub client: Option<i32>,
    /// The emperor's pid file; empty if there is none.
    pub pid_file: Vec<u8>,
    /// The settings and files that the emperor runs with.
    pub basis: SavedBasis,
    /// The emperor's own sockets.
    pub listeners: Vec<SavedListener>,
    /// The vassals.
    pub vassals: Vec<SavedVassal<V>>,
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
#[derive(Debug, PartialEq, Eq)]
pub struct SavedVassal<V = Box<Vassal>> {
    /// Its file.
    pub file: Rc<VassalFile>,
    /// All that is known of it.
    pub vassal: V,
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

/// In place of the number of a descriptor that is not there.
const LOST: i32 = -1;

impl<V> Saved<V> {
    /// Visits the number of each descriptor that stays open.
    pub fn each_descriptor(&mut self, visit: &mut dyn FnMut(&mut i32)) {
        visit(&mut self.basis.vassal_init);
        visit(&mut self.basis.null);
        for SavedVassal { process, sockets, .. } in &mut self.vassals {
            if let Some(process) = process {
                visit(&mut process.pidfd);
                process.link.iter_mut().for_each(&mut *visit);
            }
            sockets.sockets.iter_mut().for_each(|socket| visit(&mut socket.socket));
        }
        self.listeners.iter_mut().for_each(|listener| visit(&mut listener.socket));
        self.client.iter_mut().for_each(visit);
    }

    /// Forgets the descriptors that are not there, before anything else that is opened can get their numbers.
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
