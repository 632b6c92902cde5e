//! Events: everything that the registry hears about a vassal.

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
    /// A scan has found a new file.
    Found {
        /// The present version of the file, for a vassal that was taken over and not found since.
        version: Option<FileVersion>,
        /// Whether the vassal waits for a connection at an address that may be out of date.
        has_old_address: bool,
        /// The owner of the file, in tyrant mode, if it is known.
        owner: Option<u32>,
    },
    /// The file had another name before.
    Renamed {
        /// The file under that name.
        from: Rc<VassalFile>,
        /// The present version of the file.
        version: FileVersion,
        /// As in `Found`.
        owner: Option<u32>,
    },
    /// The file has another version. The text says how that was noticed, for the log. The owner is known in
    /// tyrant mode.
    Touched(&'static str, Option<Owner>),
    /// What the file says by now; `None` if each change of it counts, or if nobody can tell.
    Compared(Option<u64>),
    /// The file counts as changed, or a reload was requested. The text says which, for the log.
    Changed(&'static str),
    /// The vassal must not run any longer. The text says why, for the log.
    Removed(&'static str),
    /// The address of the on-demand socket; `None` if the vassal is not on demand.
    Address {
        /// The reason from the question.
        why: String,
        /// The answer.
        address: Result<Option<Address>, Error>,
    },
    /// The file with the address could not be read in time.
    AddressLate(Error),
    /// A scan has seen the file in this version.
    Seen(FileVersion),
    /// The file was read in this version.
    Reading(FileVersion),
    /// The on-demand socket listens at this address.
    Listening(String),
    /// The on-demand socket cannot listen, or cannot be polled.
    ListenFailed(Error),
    /// A client connects to the on-demand socket.
    Connected,
}

/// An event of one instance.
#[derive(Debug)]
pub enum InstanceEvent {
    /// Its file takes long to read.
    ReadsSlowly,
    /// No process may be created now. The text says for what the instance waits.
    Blocked(&'static str),
    /// That has ended.
    Unblocked,
    /// A process was created.
    Spawned {
        /// Its pid.
        pid: i32,
        /// The owner of its file.
        owner: Owner,
        /// What its file says, as in [`Event::Compared`].
        text: Option<u64>,
        /// Whether it was created with what was [proven](super::registry::Registry::proven), and not with the
        /// file.
        is_of_before: bool,
    },
    /// No process could be created.
    SpawnFailed(Error),
    /// PID 1 was sent the file, which says this, as in [`Event::Compared`].
    ReloadSent(Option<u64>),
    /// The file cannot be read, so that nothing was sent.
    ReloadFailed(Error),
    /// Nothing was sent, because the new configuration needs a fresh start. The text is the reason.
    ReloadImpossible(String),
    /// A separate process reads the new configuration, and has this much time.
    CheckBegun(Duration),
    /// No separate process can read the new configuration.
    CheckFailed {
        /// The error.
        error: Error,
        /// Why the new configuration needs a fresh start.
        why: String,
    },
    /// The separate process that read the new configuration has ended: the answer to the reload, and the
    /// reason.
    Checked(Answer, String),
    /// PID 1 has sent a message over its link.
    Said(FromVassal),
    /// PID 1 has sent what its configuration was made of.
    Transcript(Vec<u8>),
    /// PID 1 is in a system call on this file; `None` if it is in none.
    Waits(Option<String>),
    /// The link was closed. The text is the mistake that was the reason, if any.
    LinkClosed(Option<String>),
    /// The process has ended and was reaped. `Died` follows once its remaining processes are gone.
    Ended,
    /// The process has ended and was reaped.
    Died {
        /// How the process ended.
        status: WaitStatus,
        /// Whether the kernel has killed a process of its cgroup because memory ran out.
        out_of_memory: bool,
    },
}
