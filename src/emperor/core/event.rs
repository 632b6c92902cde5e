//! Events: everything that the registry is told about one vassal.

use std::rc::Rc;
use std::time::Duration;

use super::file_version::FileVersion;
use super::machine::Answer;
use super::owner::Owner;
use super::vassal_file::VassalFile;
use crate::config::plan::Address;
use crate::error::Error;
use crate::protocol::{FromVassal, WaitStatus};

/// An event of one vassal.
#[derive(Debug)]
pub enum Event {
    /// A scan has found a file that it did not know.
    Found {
        /// The present version of the file, for a vassal that was taken over and not found since.
        version: Option<FileVersion>,
        /// Whether the vassal waits for a connection to an address that may not be the right one any more.
        has_old_address: bool,
        /// The user whose file it is, in tyrant mode, if that is known.
        owner: Option<u32>,
    },
    /// The file had another name before.
    Renamed {
        /// The file under that name.
        from: Rc<VassalFile>,
        /// As in `Found`.
        owner: Option<u32>,
    },
    /// The file has changed, or a reload is asked for; why, for the log.
    Changed(&'static str),
    /// The vassal is not to run any more; why, for the log.
    Removed(&'static str),
    /// Where the first connection is to be waited for; `None` if the vassal is not on demand.
    Address {
        /// As it was in the question.
        why: String,
        /// The answer.
        address: Result<Option<Address>, Error>,
    },
    /// The file that tells it is not read in time.
    AddressLate(Error),
    /// A scan has found the file in this version.
    Seen(FileVersion),
    /// The file was read in this version.
    Reading(FileVersion),
    /// It takes long to read the file.
    ReadsSlowly,
    /// A process was created.
    Spawned {
        /// Its pid.
        pid: i32,
        /// The owner of its file.
        owner: Owner,
    },
    /// No process could be created.
    SpawnFailed(Error),
    /// The on-demand socket listens at this address.
    Listening(String),
    /// The on-demand socket cannot listen, or its first connection cannot be waited for.
    ListenFailed(Error),
    /// A client connects to the on-demand socket.
    Connected,
    /// PID 1 was sent the file.
    ReloadSent,
    /// The file cannot be read, so that nothing was sent.
    ReloadFailed(Error),
    /// Nothing was sent, as the new configuration needs a fresh start for this reason.
    ReloadImpossible(String),
    /// A process reads the new configuration, and has this long for it.
    CheckBegun(Duration),
    /// The new configuration cannot be read by a process of its own.
    CheckFailed {
        /// Why not.
        error: Error,
        /// Why the new configuration needs a fresh start.
        why: String,
    },
    /// The process that has read the new configuration has ended: its answer to the reload, and the reason
    /// for it.
    Checked(Answer, String),
    /// PID 1 says something over its link.
    Said(FromVassal),
    /// PID 1 is in a system call on this file, if it is in one.
    Waits(Option<String>),
    /// The link is closed; the reason, if that was a mistake.
    LinkClosed(Option<String>),
    /// The process has ended and was reaped; `Died` follows when what it has left behind is gone.
    Ended,
    /// The process has ended and was reaped.
    Died {
        /// How.
        status: WaitStatus,
        /// Whether the kernel has killed processes of its cgroup because memory ran out.
        out_of_memory: bool,
    },
}
