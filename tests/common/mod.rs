//! What the integration tests stand on: a sandbox for each, the static binaries started in it, and a way to
//! wait.
//!
//! A test is a closure given to [`sandboxed`]. It runs as root in mount, pid, network and IPC namespaces of
//! its own, so it may mount, kill and listen as it likes, and run beside any other. When it is over, nothing
//! may be left: no process, no mount. When it fails, the logs of everything it started are shown.
//!
//! Nobody sleeps for luck: [`eventually`] polls until a deadline that only a broken program misses.

#![allow(dead_code)] // each test program uses a part of it
// Failing is a test's job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod cgroups;
pub mod command;
pub mod cow;
pub mod daemon;
pub mod faulty;
pub mod filter;
pub mod link;
pub mod process;
pub mod random;
pub mod sandbox;
pub mod tutorial;

use std::fmt::Display;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[allow(unused_imports)] // as above
pub use self::{daemon::Daemon, sandbox::Sandbox, sandbox::sandboxed};

/// Far more than anything here takes, also beside a compiler.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than our programs take to notice that a time is up, also on a busy machine; shorter than the time
/// to the next thing that they would try.
pub const NOTICED: Duration = Duration::from_secs(5);

/// How long a vassal must have run to be respawned at once ([`Sandbox::until_up`]).
pub const UP: Duration = Duration::from_secs(1);

/// What a probe of a FUSE filesystem hears whose connection has ended, before it asked or while it waited for
/// the answer.
pub const ENDED: [&str; 2] =
    ["Transport endpoint is not connected (ENOTCONN)", "Software caused connection abort (ECONNABORTED)"];

/// How many times as long everything may take here: in a guest (scripts/vm), far more than on a machine.
pub const SLOWNESS: &str = "VASSAL_SLOWNESS";

/// The value of [`SLOWNESS`].
pub fn slowness() -> u32 {
    std::env::var(SLOWNESS).map_or(1, |times| times.parse().expect(SLOWNESS))
}

/// Polls until `look` finds something.
pub fn eventually<T>(what: impl Display, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let patience = PATIENCE * slowness();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = start.elapsed();
        assert!(waited < patience, "waited {patience:?} in vain: {what}");
        // What takes long is looked at less often: a look may cost as much as what it waits for.
        std::thread::sleep((waited / 50).clamp(Duration::from_millis(3), Duration::from_millis(20)));
    }
}

/// Waits until nobody listens at a port of this machine. The emperor has another process close a socket, and
/// waits for it, but not for long.
pub fn nobody_listens(port: u16) {
    until(format_args!("nobody listens at {port}"), || TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// Polls until `holds` does.
pub fn until(what: impl Display, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Waits until so much time has passed since `start`. For times that a program is told or promises, such as
/// the second that an app must have run; never for something to have happened by then.
pub fn until_passed(start: Instant, time: Duration) {
    std::thread::sleep(time.saturating_sub(start.elapsed()));
}

/// A program of tests/programs, which cargo has built along with this one.
pub fn built(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.ancestors().nth(2).unwrap().join("examples").join(name)
}

/// Unmounts a place, once nobody looks at it any more.
pub fn unmount(place: &str) {
    let attempt = || std::process::Command::new("umount").arg(place).output().expect("umount");
    until(format_args!("{place} is unmounted"), || {
        let output = attempt();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || text.contains("busy"), "{place}: {text}");
        output.status.success()
    });
}

/// Runs a tool of the machine to its end and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().expect(program);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}: {text}", output.status);
    text
}
