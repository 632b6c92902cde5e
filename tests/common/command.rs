//! `vassal-init` around one command, as a test starts it and sees it end.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use super::{Sandbox, eventually, process};

/// The lives that a command can have: with nothing for the init to prepare, and with an option that makes it
/// prepare something. The init is the process that was started in each of them. What a command and its
/// starter notice of the init is the same in all, so tests of that go through all.
pub const LIVES: [&[&str]; 3] = [&[], &["--umask", "022"], &["--user", "0", "--mountpoint-check", "/proc"]];

/// The life in which the process that was started waits outside, for the init in namespaces.
pub const IN_NAMESPACES: &[&str] = &["--unshare", "fs,pid"];

/// Exit status (128+n for signal n), standard output and standard error.
pub fn ended(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    (status, text(&output.stdout), text(&output.stderr))
}

/// The init with these arguments, to be started.
pub fn init(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = sandbox.program("vassal-init");
    command.args(arguments);
    command
}

/// The same as PID 1 of a new pid namespace, with a `/proc` of its own.
pub fn as_pid1(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command =
        sandbox.wrapped(&["unshare", "--mount", "--pid", "--fork", "--mount-proc"], "vassal-init");
    command.args(arguments);
    command
}

/// A started init, killed at the end.
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// The command's process, once it has executed a program of this name.
    pub fn command(&self, comm: &str) -> i32 {
        let is_it = |process: &process::Process| process.parent == self.pid() && process.comm == comm;
        eventually(comm, || process::all().into_iter().find(is_it)).pid
    }

    /// Waits for its end: exit status, 128+n for signal n.
    pub fn wait(&mut self) -> i32 {
        let status = eventually("the init's end", || self.0.try_wait().unwrap());
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
