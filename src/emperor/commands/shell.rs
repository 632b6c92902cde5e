//! Commands of the emperor's own configuration: processes of `/bin/sh`, in the emperor's namespaces.

use std::ffi::OsString;

use rustix::process::Pid;

use crate::emperor::instance::origin::Origin;
use crate::error::{Context, Result};
use crate::shell::Shell;
use crate::sys::exec::Strings;
use crate::sys::signal::kill;

/// Starts a command in a session of its own, with `variables` in addition to the emperor's environment. If
/// the emperor is killed, so is the command, but not the processes that the command has started.
///
/// # Errors
/// EAGAIN at the limit of processes, ENOMEM (clone(2)).
pub fn start(shell: Shell<'_>, variables: &[(OsString, OsString)], origin: &Origin) -> Result<Pid> {
    // The emperor itself may have been started by such a command, and so have some of these variables.
    let ours = |name: &OsString| variables.iter().any(|(our, _)| our == name);
    let inherited = origin.environment.iter().filter(|(name, _)| !ours(name));
    let environment = Some(Strings::environment(inherited.chain(variables)));
    let started = Shell { environment, ..shell }.start(&|| origin.begin_anew());
    Ok(started.context("start", "/bin/sh")?.pid)
}

/// Sends SIGKILL to a command and the processes in its group. The command must not have been reaped, so that
/// its pid is still its own.
pub fn kill_group(pid: Pid) {
    let pid = pid.as_raw_pid();
    // A process that was created just now may not lead its group yet.
    let _ = kill(pid, libc::SIGKILL);
    let _ = kill(-pid, libc::SIGKILL);
}
