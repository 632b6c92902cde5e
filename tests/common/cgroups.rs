//! The outermost cgroup of version 2, which all tests of the machine have in common, also those of other
//! checkouts.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::until;

/// It is locked while this lives: what has controllers from it cannot lose them, so who changes which they
/// are has it alone.
pub struct OutermostCgroup {
    /// Where it is mounted.
    pub path: PathBuf,
    directory: File,
    was_used: bool,
}

/// The file of it that is locked by who waits for it. So whoever wants it alone waits only for those that
/// have it, and is not passed by others that come later.
const GATE: &str = "cgroup.controllers";

/// How often this test has it. It waits only for the first time, as others may wait for it from then on.
static HELD: AtomicU32 = AtomicU32::new(0);

/// A controller that nothing else on a machine uses: a test may have it enabled in the outermost cgroup. All
/// others are systemd's as well, which takes and gives them.
pub const UNUSED: &str = "hugetlb";

impl OutermostCgroup {
    /// Beside other tests.
    pub fn open() -> Self {
        Self::locked(FlockOperation::LockShared)
    }

    /// Beside no other test.
    pub fn alone() -> Self {
        Self::locked(FlockOperation::LockExclusive)
    }

    fn locked(operation: FlockOperation) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup2");
        let path = PathBuf::from(mount.split(' ').nth(1).unwrap());
        let directory = File::open(&path).unwrap();
        let gate = File::open(path.join(GATE)).unwrap();
        if HELD.fetch_add(1, Ordering::Relaxed) == 0 {
            flock(&gate, FlockOperation::LockExclusive).unwrap();
        }
        // For as long as the tests take that have it.
        flock(&directory, operation).unwrap();
        drop(gate);
        let mut outermost = Self { path, directory, was_used: false };
        outermost.was_used = outermost.is_used();
        outermost
    }

    /// Takes [`UNUSED`] from the cgroups in it, unless they had it before.
    pub fn give_back(&self) {
        if !self.was_used {
            fs::write(self.control(), format!("-{UNUSED}")).unwrap();
        }
    }

    /// The cgroups in it have [`UNUSED`] if they had it before.
    pub fn is_as_it_was(&self) {
        assert_eq!(self.is_used(), self.was_used);
    }

    fn is_used(&self) -> bool {
        fs::read_to_string(self.control()).unwrap().contains(UNUSED)
    }

    /// Also where something is mounted over it.
    fn control(&self) -> String {
        format!("/proc/self/fd/{}/cgroup.subtree_control", self.directory.as_raw_fd())
    }
}

impl Drop for OutermostCgroup {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The path of a cgroup below `parent` for this test, which no other sandbox on this machine has. A test that
/// was killed may have left it frozen, as the numbers of namespaces are used again: it is thawed.
pub fn of_test(parent: &Path, name: &str) -> PathBuf {
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let group = parent.join(format!("vassal-test-{name}-{}", own.display()));
    let freeze = group.join("cgroup.freeze");
    if freeze.exists() {
        fs::write(freeze, "0").unwrap();
    }
    group
}

/// Removes a cgroup with those in it, once the last process has left them.
pub fn remove(path: &Path) {
    until(format_args!("{} is left", path.display()), || {
        let _ = Command::new("find").arg(path).args(["-depth", "-type", "d", "-delete"]).output().unwrap();
        !path.exists()
    });
}
