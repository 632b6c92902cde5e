//! Commands of the emperor's own configuration: processes of `/bin/sh`, in our own namespaces.

use std::ffi::OsString;

use rustix::process::Pid;

use crate::emperor::instance::origin::Origin;
use crate::error::{Context, Result};
use crate::shell::Shell;
use crate::sys::exec::Strings;
use crate::sys::signal::kill;

/// Starts a command in a session of its own, with `variables` besides the environment of the emperor. If the emperor is
/// killed, so is the command; processes that it has started are not.
///
/// # Errors
/// There is no process to be had.
pub fn start(shell: Shell<'_>, variables: &[(OsString, OsString)], origin: &Origin) -> Result<Pid> {
    // An emperor may itself have been started by such a command.
    let ours = |name: &OsString| variables.iter().any(|(our, _)| our == name);
    let inherited = origin.environment.iter().filter(|(name, _)| !ours(name));
    let environment = Some(Strings::environment(inherited.chain(variables)));
    let started = Shell { environment, ..shell }.start(|| origin.restore());
    Ok(started.context("start", "/bin/sh")?.pid)
}

/// SIGKILL for a command and what it has started. Not reaped yet, so the pid is still its own.
pub fn kill_group(pid: Pid) {
    let pid = pid.as_raw_pid();
    // One that was created just now may not lead its group yet.
    let _ = kill(pid, libc::SIGKILL);
    let _ = kill(-pid, libc::SIGKILL);
}
