//! Effects: the decisions of the registry, which the supervisor carries out in order.

use std::rc::Rc;

use super::instance_id::InstanceId;
use super::vassal_file::VassalFile;

/// A decision of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write a line to the log.
    Log {
        /// Whose line it is, as log lines show it.
        of: String,
        /// The line.
        line: String,
    },
    /// About a vassal.
    OfVassal(Rc<VassalFile>, Effect),
    /// About an instance.
    OfInstance(InstanceId, InstanceEffect),
}

/// A decision about a vassal. Each variant names the [`Event`](super::event::Event) that its result comes
/// back as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Find out the address of the on-demand socket: `Address`. An earlier question gets no answer.
    FindAddress {
        /// Why the vassal is refreshed, for the log. The event returns it.
        why: String,
    },
    /// The address is no longer needed.
    ForgetAddress,
    /// Find out what the file says now: `Compared`.
    Compare,
    /// Listen on the on-demand socket: `Listening` or `ListenFailed`.
    Listen,
    /// Wait for the first connection to the on-demand socket: `Connected`, or `ListenFailed` at once.
    Poll,
    /// Close the on-demand socket: clients are refused.
    CloseDemand,
    /// Close the kept sockets.
    CloseSockets {
        /// Whether no next process is expected at all, for the log.
        for_good: bool,
    },
    /// Give the kept sockets and the on-demand socket to another vassal.
    HandOverSockets {
        /// Its file.
        to: Rc<VassalFile>,
    },
    /// Stop looking at the on-demand socket, or listening on it.
    ForgetSocket,
    /// The vassal was removed from the registry: close and forget everything that the supervisor has for it.
    /// A process that still exists is left behind.
    Remove,
}

/// A decision about an instance. Each variant names the [`InstanceEvent`](super::event::InstanceEvent) that
/// its result comes back as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceEffect {
    /// Its turn to start has come: read the file, and create a process, with the kept sockets and the
    /// on-demand socket. `Reading`, then `Spawned` or `SpawnFailed`.
    Spawn,
    /// Run the commands of as-emperor for the process that was just created.
    RunCommands,
    /// Its turn has come: read the file, and send it to PID 1. `Reading`, then `ReloadSent`, `ReloadFailed`
    /// or `ReloadImpossible`.
    Reload,
    /// Have a separate process read the new configuration before the app is stopped for it: `CheckBegun` or
    /// `CheckFailed`, and at the end `Checked`.
    CheckConfig {
        /// Why the new configuration needs a fresh start.
        why: String,
    },
    /// Stop reading the file, and drop the check of the configuration.
    ForgetFile,
    /// Find out which file PID 1 waits for: `Waits`.
    Look,
    /// Tell PID 1 that the instance has taken over.
    TakeOver,
    /// Tell PID 1 to stop, as its app is not ready any more.
    GiveUp,
    /// Ask PID 1 to stop.
    AskToStop,
    /// Send SIGKILL. `Died` follows when it has worked.
    Kill,
    /// Ask PID 1 to stop, and to kill its app at once.
    KillApp,
}
