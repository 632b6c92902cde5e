//! The FUSE daemon that misbehaves when told to (tests/programs/faulty_fuse.rs).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Sandbox, built, process, run, unmount};
use rustix::process::Signal;

/// Checks that find a hang within seconds, and often.
pub const CHECKED: &str = "\
mountpoint-check = /app
mountpoint-check-interval = 50ms
mountpoint-check-timeout = 2s";

/// The timeout in it.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Behind [`CHECKED`], where nothing is to hang: on a busy machine an answer may take long.
pub const PATIENT: &str = "mountpoint-check-timeout = 10s";

/// Its program, for all users of a sandbox, and the file that tells it what to do.
pub struct Faulty {
    program: PathBuf,
    mode: PathBuf,
}

impl Sandbox {
    /// The daemon, which behaves at first.
    pub fn faulty(&self) -> Faulty {
        let built = built("faulty-fuse");
        let program = self.path("faulty-fuse");
        if !program.exists() {
            fs::copy(&built, &program).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mode = self.file("mode", "");
        Faulty { program, mode }
    }

    /// Mounts it and stops it: whoever looks at a file below its place waits.
    pub fn hanging(&self) -> Hanging {
        let place = self.path("mount").display().to_string();
        run("mkdir", &["-p", &place]);
        run("sh", &["-c", &self.faulty().command(&place, "direct")]);
        let server = process::only("faulty-fuse").pid;
        process::signal(server, Signal::STOP);
        Hanging { place, server }
    }
}

/// A mounted filesystem whose daemon is stopped.
pub struct Hanging {
    /// Where it is mounted.
    pub place: String,
    server: i32,
}

impl Hanging {
    /// Ends the daemon, and takes the mount away.
    pub fn end(self) {
        process::signal(self.server, Signal::KILL);
        unmount(&self.place);
    }
}

impl Faulty {
    /// What mounts it.
    pub fn command(&self, place: &str, options: &str) -> String {
        self.command_with(place, options, &self.mode)
    }

    /// The same with a file of its own for its mode.
    pub fn command_with(&self, place: &str, options: &str, mode: &Path) -> String {
        format!("{} {place} {} {options}", self.program.display(), mode.display())
    }

    /// Whether it has read a request, and does not answer it, that is more than a question for the status:
    /// one of the app. Who waits for the answer to that cannot be killed.
    pub fn holds_the_app(&self) -> bool {
        holds_an_app(&self.mode)
    }

    /// Whether it has read any request that it does not answer.
    pub fn holds_anything(&self) -> bool {
        fs::read_to_string(self.mode.with_extension("held")).is_ok_and(|held| !held.trim().is_empty())
    }

    /// How many questions for attributes it has answered late.
    pub fn answered_late(&self) -> u32 {
        let count = fs::read_to_string(self.mode.with_extension("late"));
        // Looked at while it is written, the file is empty.
        count.map_or(0, |count| count.parse().unwrap_or_default())
    }

    /// From now on it behaves like this; in one step, as it looks all the time.
    pub fn behave(&self, mode: &str) {
        let draft = self.mode.with_extension("draft");
        fs::write(&draft, mode).unwrap();
        fs::rename(draft, &self.mode).unwrap();
    }
}

/// [`Faulty::holds_the_app`] for a daemon with this file for its mode.
pub fn holds_an_app(mode: &Path) -> bool {
    let held = fs::read_to_string(mode.with_extension("held")).unwrap_or_default();
    // LOOKUP, OPEN, READ, FLUSH: neither a new daemon's INIT nor an INTERRUPT.
    held.split_whitespace().any(|opcode| ["1", "14", "15", "25"].contains(&opcode))
}
