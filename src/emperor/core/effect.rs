//! Effects: the registry's decisions, which the supervisor carries out in their order.

use std::rc::Rc;

use super::vassal_file::VassalFile;

/// A decision about one vassal. The result of carrying it out returns as the [`Event`](super::event::Event)
/// that is named here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write a line to the log.
    Log(String),
    /// Find out where the first connection is to be waited for: `Address`. An earlier question is not
    /// answered.
    FindAddress {
        /// Why the vassal is refreshed, for the log; it comes back with the answer.
        why: String,
    },
    /// The address is not needed any more.
    ForgetAddress,
    /// The vassal's turn to start has come: read its file, and create a process, with the sockets that are
    /// kept and the on-demand socket: `Reading`, then `Spawned` or `SpawnFailed`.
    Spawn,
    /// Run the commands of as-emperor for the process that was just created.
    RunCommands,
    /// Listen on the on-demand socket: `Listening` or `ListenFailed`.
    Listen,
    /// Wait for the first connection to the on-demand socket: `Connected`, or `ListenFailed` at once.
    Poll,
    /// Close the on-demand socket: clients are refused.
    CloseDemand,
    /// Close the sockets that are kept for the next process.
    CloseSockets {
        /// Whether no next process is in sight at all, for the log.
        for_good: bool,
    },
    /// Another vassal gets the sockets that are kept, and the on-demand socket.
    HandOverSockets {
        /// Its file.
        to: Rc<VassalFile>,
    },
    /// Read the file, and send it to PID 1: `Reading`, then `ReloadSent`, `ReloadFailed` or
    /// `ReloadImpossible`.
    Reload,
    /// Have the new configuration read by a process of its own before the app is stopped for it: `CheckBegun`
    /// or `CheckFailed`; at the end `Checked`.
    CheckConfig {
        /// Why the new configuration needs a fresh start.
        why: String,
    },
    /// The file is not to be read any more, nor is the check of the configuration needed.
    ForgetFile,
    /// Find out which file PID 1 waits for: `Waits`.
    Look,
    /// Ask PID 1 to stop.
    AskToStop,
    /// Send SIGKILL: `Died` when it has worked.
    Kill,
    /// The vassal is gone from the registry: close and forget everything that is held for it. A process that
    /// is still there is left behind.
    Remove,
}
