//! Removes the cgroups of vassals, together with those that a vassal has made inside.
//!
//! The vassal chooses how deep and how wide that tree is. So the tree is removed without recursion, with one
//! descriptor, and in slices between which the main loop goes on. Names are removed relative to an open
//! directory, because the path of a deep one is too long for the kernel.
//!
//! Linux before 5.14 has no `cgroup.kill`. There the tree is frozen, so that nothing in it can fork, and the
//! processes are killed one by one.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup;
use crate::error::{Cause, Context, Error, Result};
use crate::log;
use crate::running_time;
use crate::sys::signal::kill_pidfd;

/// The longest time for which a removal blocks the main loop.
const SLICE: Duration = Duration::from_millis(2);
/// The longest time for which the start of an instance blocks the main loop until the cgroup of the instance
/// before is gone: killed processes take a moment to end.
const AT_ONCE: Duration = Duration::from_millis(20);
/// The pause before the next try for a cgroup with processes in it. It doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A cgroup that is not gone after this time is given up: its processes are stuck in the kernel.
const GIVE_UP: Duration = Duration::from_secs(60);

/// The cgroups to be removed: one list for the whole emperor.
#[derive(Debug, Default)]
pub struct Removals(RefCell<Vec<Removal>>);

/// A cgroup to be removed.
#[derive(Debug)]
struct Removal {
    path: PathBuf,
    /// The present place in the tree; `None` before the first look, or after processes were in the way.
    walk: Option<TreeWalk>,
    /// Whether the kernel has `cgroup.kill`, or each process must be killed.
    has_kill: bool,
    /// When to continue.
    at: Instant,
    /// The next pause.
    pause: Duration,
    give_up_at: Instant,
}

/// The result of one slice of a removal.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Gone,
    /// The time is over.
    Unfinished,
    /// Processes are in the way.
    Busy,
}

impl Removals {
    /// Kills the processes in a cgroup, and removes the cgroup, now or later.
    pub fn add(&self, path: PathBuf) {
        let mut removal = Removal::new(path);
        if !removal.go_on(SLICE) {
            self.0.borrow_mut().push(removal);
        }
    }

    /// Kills the processes in a cgroup, and removes the cgroup. Blocks for up to 20 ms.
    ///
    /// # Errors
    /// The removal takes longer, and will be continued later; rmdir(2).
    pub fn remove_now(&self, path: &Path) -> Result<()> {
        self.remove_within(AT_ONCE, path)
    }

    fn remove_within(&self, limit: Duration, path: &Path) -> Result<()> {
        let mut all = self.0.borrow_mut();
        let known = all.iter().position(|removal| removal.path == path);
        let mut removal = known.map_or_else(|| Removal::new(path.to_owned()), |index| all.swap_remove(index));
        // The clock of deadlines may stand still, and this blocks the main loop.
        let until = Instant::now() + limit;
        loop {
            let reason = match removal.slice(until).context("remove cgroup", path.display())? {
                Progress::Gone => return Ok(()),
                Progress::Unfinished => "there are many in it, which are being removed",
                Progress::Busy if Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Progress::Busy => "there are processes in it, which were killed",
            };
            removal.at = running_time::now();
            all.push(removal);
            return Err(Error::new("remove cgroup", path.display(), reason));
        }
    }

    /// When [`Removals::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.borrow().iter().map(|removal| removal.at).min()
    }

    /// Continues a removal that is due. [`Removals::deadline`] stays in the past while others are due.
    pub fn time(&self, now: Instant) {
        let mut all = self.0.borrow_mut();
        let next = all.iter().enumerate().min_by_key(|(_, removal)| removal.at);
        if let Some(index) = next.filter(|(_, removal)| removal.at <= now).map(|(index, _)| index) {
            let mut removal = all.swap_remove(index);
            if !removal.go_on(SLICE) {
                all.push(removal);
            }
        }
    }

    /// Continues until everything is removed or the time is over. For the end of the emperor, when there is
    /// no main loop.
    pub fn finish(&self, limit: Duration) {
        let until = running_time::now() + limit;
        while let Some(next) = self.deadline()
            && running_time::now() < until
        {
            std::thread::sleep(next.min(until).saturating_duration_since(running_time::now()));
            self.time(running_time::now());
        }
        for removal in self.0.take() {
            log!("remove cgroup {}: it takes too long: it is left", removal.path.display());
        }
    }
}

impl Removal {
    fn new(path: PathBuf) -> Self {
        let killed = cgroup::write(&path.join("cgroup.kill"), b"1");
        let has_kill = !matches!(killed, Err(Cause::Os(Errno::NOENT)));
        if !has_kill {
            let _ = cgroup::write(&path.join("cgroup.freeze"), b"1");
        }
        let now = running_time::now();
        Self { path, walk: None, has_kill, at: now, pause: PAUSE, give_up_at: now + GIVE_UP }
    }

    /// Continues for `limit`. Returns whether nothing is left to do. A cgroup that cannot be removed is
    /// logged.
    fn go_on(&mut self, limit: Duration) -> bool {
        let result = self.slice(Instant::now() + limit);
        let now = running_time::now();
        self.at = now;
        let failed = match result {
            Ok(Progress::Gone) => return true,
            Ok(Progress::Unfinished) => Errno::BUSY,
            Ok(Progress::Busy) => {
                self.at = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                Errno::BUSY
            }
            Err(errno) => {
                self.give_up_at = now;
                errno
            }
        };
        if now < self.give_up_at {
            return false;
        }
        log!("{}: it is left", Error::os("remove cgroup", self.path.display(), failed));
        true
    }

    fn slice(&mut self, until: Instant) -> rustix::io::Result<Progress> {
        loop {
            let walk = match &mut self.walk {
                Some(walk) => walk,
                None => match remove(CWD, &self.path)? {
                    true => return Ok(Progress::Gone),
                    false => match TreeWalk::begin(&self.path) {
                        Err(Errno::NOENT) => return Ok(Progress::Gone),
                        walk => self.walk.insert(walk?),
                    },
                },
            };
            match walk.step(until)? {
                StepResult::Taken => {}
                StepResult::Finished if remove(CWD, &self.path)? => return Ok(Progress::Gone),
                StepResult::Finished | StepResult::Blocked => {
                    if !self.has_kill {
                        kill_processes(&walk.directory);
                    }
                    self.walk = None;
                    return Ok(Progress::Busy);
                }
            }
            if Instant::now() >= until {
                return Ok(Progress::Unfinished);
            }
        }
    }
}

/// A walk through a tree of cgroups, which removes the innermost first.
#[derive(Debug)]
struct TreeWalk {
    /// The present directory.
    directory: OwnedFd,
    /// The names from the top to the present directory, without the top.
    names: Vec<CString>,
}

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
enum StepResult {
    /// There are more steps.
    Taken,
    /// No directory is left below the top.
    Finished,
    /// The present directory has no subdirectory, but cannot be removed.
    Blocked,
}

impl TreeWalk {
    fn begin(path: &Path) -> rustix::io::Result<Self> {
        Ok(Self { directory: open(CWD, path)?, names: Vec::new() })
    }

    /// Removes what can be removed in the present directory, and moves on to the next one.
    fn step(&mut self, until: Instant) -> rustix::io::Result<StepResult> {
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type() != FileType::Directory || [c".", c".."].contains(&name) {
                continue;
            }
            if !remove(&self.directory, name)? {
                return self.enter(name);
            }
            if Instant::now() >= until {
                return Ok(StepResult::Taken);
            }
        }
        self.leave()
    }

    fn enter(&mut self, name: &CStr) -> rustix::io::Result<StepResult> {
        match open(&self.directory, name) {
            // The directory has vanished by itself.
            Err(Errno::NOENT) => {}
            directory => {
                self.directory = directory?;
                self.names.push(name.to_owned());
            }
        }
        Ok(StepResult::Taken)
    }

    /// Moves to the parent directory, from which it removes the present one, whose subdirectories are gone.
    fn leave(&mut self) -> rustix::io::Result<StepResult> {
        let Some(name) = self.names.pop() else { return Ok(StepResult::Finished) };
        let above = open(&self.directory, c"..")?;
        if !remove(&above, &name)? {
            return Ok(StepResult::Blocked);
        }
        self.directory = above;
        Ok(StepResult::Taken)
    }
}

/// Kills the processes of one cgroup. A pid from the list may have been given to another process, so each
/// pidfd is opened first, and the list is then read once more.
fn kill_processes(directory: &OwnedFd) {
    let hold = |pid: Pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
    let held: Vec<_> = cgroup::processes(directory, cgroup::PROCS).into_iter().filter_map(hold).collect();
    let still_there = cgroup::processes(directory, cgroup::PROCS);
    for (_, pidfd) in held.iter().filter(|(pid, _)| still_there.contains(pid)) {
        let _ = kill_pidfd(pidfd, libc::SIGKILL);
    }
}

fn open(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Removes a cgroup. Returns whether it is gone: it stays while it has others or processes in it.
fn remove(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<bool> {
    match unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;
    use rustix::time::{ClockId, clock_gettime};
    use std::fs;

    /// Far more processor time than a slice takes.
    const HELD_MAX: Duration = Duration::from_millis(500);

    /// The processor time of some work, which other programs do not affect.
    fn held(work: impl FnOnce()) -> Duration {
        let began = clock_gettime(ClockId::ThreadCPUTime);
        work();
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime) - began).unwrap()
    }

    /// A directory tree: `deep` directories inside each other, each with `wide` others.
    fn tree(name: &str, deep: usize, wide: usize) -> PathBuf {
        // On a memory filesystem if possible: the test is about directories only.
        let place = Some(PathBuf::from("/dev/shm")).filter(|place| place.is_dir());
        let place = place.unwrap_or_else(std::env::temp_dir);
        let top = tempfile::Builder::new().prefix(name).tempdir_in(place).unwrap().keep();
        let mut directory = open(CWD, &top).unwrap();
        for _ in 0..deep {
            for number in 0..wide {
                mkdirat(&directory, number.to_string(), Mode::RWXU).unwrap();
            }
            mkdirat(&directory, "a name that is not short", Mode::RWXU).unwrap();
            directory = open(&directory, "a name that is not short").unwrap();
        }
        top
    }

    /// The number of further slices until a removal has ended.
    fn slices(removals: &Removals) -> usize {
        let mut count = 0;
        while removals.deadline().is_some() {
            let held = held(|| removals.time(Instant::now() + PAUSE_MAX));
            assert!(held < HELD_MAX, "held for {held:?}");
            count += 1;
        }
        count
    }

    #[test]
    fn a_deep_tree_and_a_wide_one_are_removed_in_slices() {
        // The path of the deepest directory is too long for any system call.
        for (name, deep, wide) in [("deep", 2_000, 0), ("wide", 1, 4_000), ("both", 60, 60)] {
            let top = tree(name, deep, wide);
            let removals = Removals::default();
            removals.add(top.clone());
            assert!(slices(&removals) > 1, "{name}: at once");
            assert!(!top.exists(), "{name} is left");
        }
    }

    #[test]
    fn a_new_instance_waits_only_for_what_is_gone_soon() {
        let removals = Removals::default();
        let small = tree("small", 3, 3);
        assert_eq!(removals.remove_within(PAUSE_MAX * 30, &small), Ok(()));
        assert!(!small.exists());
        assert_eq!(removals.remove_now(&small), Ok(()));
        let large = tree("large", 2, 100);
        let mut error = String::new();
        let held = held(|| error = removals.remove_within(Duration::ZERO, &large).unwrap_err().to_string());
        assert!(error.ends_with(": there are many in it, which are being removed"), "{error}");
        assert!(held < HELD_MAX, "held for {held:?}");
        assert!(slices(&removals) > 0);
        assert!(!large.exists());
    }

    #[test]
    fn without_cgroup_kill_each_process_is_killed_wherever_it_is() {
        let top = tree("kill", 2, 1);
        let spawn = || std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let mut inside = [spawn(), spawn()];
        let mut outside = spawn();
        let list = |place: &Path, child: &std::process::Child| {
            fs::write(place.join("cgroup.procs"), format!("{}\n0\n", child.id())).unwrap();
        };
        list(&top, &inside[0]);
        list(&top.join("0"), &inside[1]);
        let removals = Removals::default();
        removals.add(top.clone());
        for (child, place) in inside.iter_mut().rev().zip([top.join("0"), top.clone()]) {
            // A slice may be over before it comes to that cgroup.
            while child.try_wait().unwrap().is_none() {
                removals.time(Instant::now() + PAUSE_MAX);
            }
            fs::remove_file(place.join("cgroup.procs")).unwrap();
        }
        slices(&removals);
        assert!(!top.exists());
        assert!(outside.try_wait().unwrap().is_none(), "a process of nobody's cgroup was killed");
        outside.kill().unwrap();
        outside.wait().unwrap();
    }

    #[test]
    fn what_others_are_in_is_tried_again_and_not_for_ever() {
        let top = tree("busy", 1, 0);
        // A directory with a file in it cannot be removed.
        fs::write(top.join("a name that is not short/file"), "").unwrap();
        let removals = Removals::default();
        removals.add(top.clone());
        assert!(removals.deadline().is_some_and(|at| at <= Instant::now() + PAUSE));
        assert!(removals.remove_now(&top).is_err());
        assert_eq!(removals.0.borrow().len(), 1);
        removals.0.borrow_mut()[0].give_up_at = running_time::now();
        assert_eq!(slices(&removals), 1);
        assert!(top.exists());
        fs::remove_dir_all(top).unwrap();
    }
}
