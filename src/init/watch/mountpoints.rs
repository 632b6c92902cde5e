//! The checked mountpoints of a vassal: finds the owner of each, asks through the owner's prober, and
//! collects judgements.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::plan::{Located, MountpointLost, MountpointPlan};
use crate::error::Result;
use crate::identity::Identity;
use crate::init::child::reaper::Reaped;
use crate::init::watch::checked_path::{CheckedPath, Death, Lost, Maker, NOTHING};
use crate::init::watch::prober::{Prober, Rhythm};
use crate::init::watch::procfs::Procfs;
use crate::init::watch::watchdog::Watchdog;
use crate::mount::mountinfo::{self, Mount};
use crate::protocol::MountReport;

/// How often the mount of a path is looked for that is not there yet, besides at every change of the mount
/// table.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The most common reasons why a filesystem does not answer.
pub const HANGS: &str = "it does not answer: its daemon hangs, or it is a union whose branches are reached \
                         through its own mountpoint, which waits for itself (unionfs-fuse: -ochroot=DIR; \
                         fuse-overlayfs: none)";

fn goes_on(plan: &MountpointPlan) -> bool {
    matches!(plan.lost, MountpointLost::Hook(_))
}

/// What the phases have mounted, in order. An overlay answers for its root by itself, whatever becomes of
/// what lies under it; and what does, nobody tells: its options are a text, relative to who mounted it. A
/// FUSE filesystem that is older than the overlay may.
#[derive(Debug, Default)]
struct Layers {
    /// The FUSE connections, and what is served there.
    fuse: Vec<(u64, String)>,
    /// The devices of overlays, and how many of those connections are older.
    overlays: Vec<((u32, u32), usize)>,
}

impl Layers {
    /// Notes what is new. `daemons` are asked for when an overlay is: what was unmounted lazily is in no
    /// table.
    fn note(&mut self, mounts: &[Mount], daemons: impl Fn() -> Vec<(u64, Pid)>) {
        for mount in mounts {
            if let Some(connection) = mount.connection() {
                self.note_fuse(connection, || mount.mount_point.display().to_string());
            }
        }
        let overlays = mounts.iter().filter(|mount| mount.is_overlay()).map(|mount| mount.device);
        let new: Vec<_> =
            overlays.filter(|device| !self.overlays.iter().any(|(it, _)| it == device)).collect();
        if new.is_empty() {
            return;
        }
        for (connection, pid) in daemons() {
            self.note_fuse(connection, || format!("what pid {pid} serves and nothing shows"));
        }
        let older = self.fuse.len();
        self.overlays.extend(new.into_iter().map(|device| (device, older)));
    }

    fn note_fuse(&mut self, connection: u64, what: impl Fn() -> String) {
        if !self.fuse.iter().any(|(known, _)| *known == connection) {
            self.fuse.push((connection, what()));
        }
    }

    /// What may lie under an overlay.
    fn under(&self, overlay: &Mount) -> &[(u64, String)] {
        let older = self.overlays.iter().find(|(device, _)| *device == overlay.device);
        self.fuse.get(..older.map_or(0, |(_, older)| *older)).unwrap_or_default()
    }
}

/// All checked paths and their probers.
#[derive(Debug)]
pub struct Mountpoints {
    watched: Vec<CheckedPath>,
    procfs: Rc<Procfs>,
    rhythm: Rhythm,
    /// Probers of other callers, and those that were told to end.
    others: Vec<Pid>,
    /// The vassal's own user and its groups: a prober of that user has them too.
    user: Option<Identity>,
    /// Whether the app goes on without a mount, and nothing else tells that it is there again.
    goes_on: bool,
    /// Whether the mount table has changed since it was read.
    is_stale: bool,
    /// The FUSE connections that are older than the phases or the change of root. Others may use them.
    foreign: Vec<u64>,
    /// What may lie under overlays, before the gate.
    layers: Option<Layers>,
    /// The last report, without the times.
    reported: Vec<MountReport>,
    /// The daemons that were seen while PID 1 could look at all processes, with their connections.
    daemons: Vec<(u64, Pid)>,
    /// The latest death of a process that a hook had left behind.
    helper_death: Option<Death>,
}

/// A mount that is not watched any more.
#[derive(Debug)]
pub struct GivenUp {
    /// Where it was.
    pub path: PathBuf,
    /// Its ID in the mount table, as this process has read it.
    pub mount: Option<u64>,
    /// Its daemon, if that is known.
    pub daemon: Option<Pid>,
}

impl Mountpoints {
    /// Watches the paths of a plan. Nothing is asked yet.
    pub fn new(plan: &MountpointPlan, procfs: Rc<Procfs>, now: Instant) -> Self {
        let dog = Watchdog::new(plan, now);
        let watched = plan.checks.iter().map(|check| CheckedPath {
            check: Located { value: mountinfo::normalize(&check.value), ..check.clone() },
            dog: dog.clone(),
            mount: None,
            prober: None,
            trouble: NOTHING.into(),
            is_blind: false,
            maker: Maker::Nobody,
            is_given_up: false,
            took: None,
            daemon: None,
            daemon_death: None,
            lost: 0,
            last: String::new(),
        });
        let rhythm = Rhythm { interval: plan.check_interval, patience: dog.patience() };
        let (user, foreign, reported) = (None, Vec::new(), Vec::new());
        let (watched, others) = (watched.collect(), Vec::new());
        Self {
            watched,
            procfs,
            rhythm,
            others,
            user,
            goes_on: goes_on(plan),
            is_stale: true,
            foreign,
            layers: Some(Layers::default()),
            reported,
            daemons: Vec::new(),
            helper_death: None,
        }
    }

    /// Takes on the times of a reloaded plan, and the lines where its paths are written now. The paths are
    /// the same: a change of them takes a fresh jail. All are asked at once, which tells the probers the new
    /// times.
    ///
    /// `plan` is that of a fresh start, since the mounts are: a reload's own plan lacks what `if-not-reload`
    /// guards.
    pub fn set_plan(&mut self, plan: &MountpointPlan, now: Instant) {
        for (watched, check) in self.watched.iter_mut().zip(&plan.checks) {
            (watched.check.key, watched.check.at) = (Rc::clone(&check.key), check.at.clone());
            watched.dog.set_times(plan);
            self.rhythm = Rhythm { interval: plan.check_interval, patience: watched.dog.patience() };
        }
        self.goes_on = goes_on(plan);
        self.suspect(now);
    }

    /// From now on a prober that asks as this user also has its groups: the way to a mount may need them.
    pub fn set_user(&mut self, user: Identity) {
        self.user = Some(user);
    }

    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Puts what was mounted since the last time down to `maker`. A filesystem from outside stays one when a
    /// phase binds it to another place: to unmount it by force would break it for everybody.
    ///
    /// # Errors
    /// The mount table cannot be read.
    pub fn note_maker(&mut self, maker: Maker) -> Result<()> {
        let mounts = self.procfs.mounts()?;
        if maker == Maker::Outside {
            self.foreign.extend(mounts.iter().filter_map(Mount::connection));
        }
        let is_foreign = |mount: &Mount| mount.connection().is_some_and(|it| self.foreign.contains(&it));
        for watched in &mut self.watched {
            match mountinfo::visible(&mounts, &watched.check.value) {
                // It is lost, which is told in a moment.
                None if watched.dog.is_up() => {}
                None => watched.maker = Maker::Nobody,
                Some(mount) if is_foreign(mount) => watched.maker = Maker::Outside,
                Some(_) if maker == Maker::Outside || watched.maker == Maker::Nobody => {
                    watched.maker = maker;
                    if std::mem::take(&mut watched.is_given_up) {
                        self.others.extend(watched.begin_anew());
                    }
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// What has mounted the filesystems at all paths.
    pub fn makers(&self) -> impl Iterator<Item = Maker> {
        self.watched.iter().map(|watched| watched.maker)
    }

    /// Whether an answer is waited for.
    pub fn is_asking(&self) -> bool {
        self.watched.iter().any(|watched| watched.dog.is_asking())
    }

    /// What has mounted the filesystem at this path.
    pub fn maker(&self, path: &Path) -> Maker {
        let watched = self.watched.iter().find(|watched| watched.check.value == path);
        watched.map_or(Maker::Nobody, |watched| watched.maker)
    }

    /// Gives up all mounts of a phase: their end is no loss.
    pub fn give_up(&mut self, maker: Maker) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        for watched in self.watched.iter_mut().filter(|watched| watched.maker == maker) {
            watched.maker = Maker::Nobody;
            watched.is_given_up = true;
            self.others.extend(watched.begin_anew());
            given_up.push(GivenUp {
                path: watched.check.value.clone(),
                mount: watched.mount.as_ref().map(|mount| mount.id),
                daemon: watched.daemon.take(),
            });
        }
        given_up
    }

    /// Looks for the mounts of the paths that are not up; true when all are.
    ///
    /// # Errors
    /// The mount table cannot be read, or a prober cannot be started.
    pub fn look(&mut self, now: Instant) -> Result<bool> {
        if self.watched.iter().all(|watched| watched.dog.is_up()) {
            return Ok(true);
        }
        let mounts = self.procfs.mounts()?;
        self.is_stale = false;
        self.note_layers(Some(&mounts));
        for watched in self.watched.iter_mut().filter(|watched| !watched.dog.is_up()) {
            let mount = mountinfo::visible(&mounts, &watched.check.value);
            if mount.is_none() {
                watched.trouble = NOTHING.into();
            }
            if watched.mount.as_ref() != mount {
                // It takes another prober: this one may be another user, or hang in the earlier mount.
                if let Some(prober) = watched.prober.take() {
                    prober.kill();
                    self.others.push(prober.pid);
                    watched.dog.forget_question(now);
                    watched.dog.suspect(now);
                }
                watched.mount = mount.cloned();
                let is_its =
                    |(connection, _): &&(u64, Pid)| mount.and_then(Mount::connection) == Some(*connection);
                watched.daemon = self.daemons.iter().find(is_its).map(|(_, pid)| *pid);
            }
        }
        self.ask(now)?;
        Ok(false)
    }

    /// Notes the FUSE filesystems and overlays that are mounted, unless the gate has been passed: later the
    /// numbers of devices may be used again.
    pub fn note_layers(&mut self, mounts: Option<&[Mount]>) {
        let Some(layers) = self.layers.as_mut().filter(|_| !self.watched.is_empty()) else { return };
        let procfs = &self.procfs;
        match mounts {
            Some(mounts) => layers.note(mounts, || procfs.fuse_daemons()),
            None => layers.note(&procfs.mounts().unwrap_or_default(), || procfs.fuse_daemons()),
        }
    }

    /// Notes the mounts that are older than the phases: no FUSE filesystem of a phase lies under them.
    pub fn note_older(&mut self, mounts: &[Mount]) {
        if let Some(layers) = &mut self.layers {
            let overlays = mounts.iter().filter(|mount| mount.is_overlay());
            layers.overlays.extend(overlays.map(|mount| (mount.device, 0)));
        }
    }

    /// The first path that is an overlay under which there may be a FUSE filesystem, other than the `foreign`
    /// ones, that no path is on; and what that is.
    pub fn unchecked_layer(&mut self, foreign: &[u64]) -> Option<(&Located<PathBuf>, String)> {
        let layers = self.layers.take()?;
        let mounts = || self.watched.iter().filter_map(|watched| watched.mount.as_ref());
        let is_checked = |connection| mounts().any(|mount| mount.connection() == Some(connection));
        let is_missed =
            |(connection, _): &&(u64, String)| !foreign.contains(connection) && !is_checked(*connection);
        self.watched.iter().find_map(|watched| {
            let overlay = watched.mount.as_ref()?;
            let (_, what) = layers.under(overlay).iter().find(is_missed)?;
            Some((&watched.check, what.clone()))
        })
    }

    /// Whether all paths have answered a question that was asked at this time or later.
    pub fn have_answered_since(&self, time: Instant) -> bool {
        self.watched.iter().all(|watched| watched.dog.has_answered_since(time))
    }

    /// The first path that is not up, and why.
    pub fn trouble(&self) -> Option<(&Located<PathBuf>, &str)> {
        let watched = self.watched.iter().find(|watched| !watched.dog.is_up())?;
        Some((&watched.check, &watched.trouble))
    }

    /// Adds what to poll for answers.
    pub fn add_descriptors<'a>(&'a self, to: &mut Vec<BorrowedFd<'a>>) {
        for prober in self.watched.iter().filter_map(|watched| watched.prober.as_ref()) {
            to.extend_from_slice(&prober.descriptors());
        }
    }

    /// All probers, those that are about to end included.
    pub fn probers(&self) -> impl Iterator<Item = Pid> {
        let own = self.watched.iter().filter_map(|watched| watched.prober.as_ref()).map(|prober| prober.pid);
        own.chain(self.others.iter().copied())
    }

    /// Counts the prober of another caller among the probers until it has ended.
    pub fn add_prober(&mut self, pid: Pid) {
        self.others.push(pid);
    }

    /// When to call [`Mountpoints::look`] or [`Mountpoints::judge`] at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadline = |watched: &CheckedPath| match watched.dog.is_up() || watched.lost > 0 {
            // There is nothing to ask before the mount table changes.
            true if watched.mount.is_none() => None,
            true => watched.dog.deadline(),
            false => Some(now + LOOK_AGAIN),
        };
        self.watched.iter().filter_map(deadline).min()
    }

    /// Has all paths asked as soon as possible, since something happened that may have ended a mount.
    pub fn suspect(&mut self, now: Instant) {
        self.is_stale = true;
        for watched in &mut self.watched {
            watched.dog.suspect(now);
        }
    }

    /// Whether a process that has ended was a prober. Another one asks its open question again.
    pub fn prober_died(&mut self, pid: Pid, now: Instant) -> bool {
        if self.others.contains(&pid) {
            self.others.retain(|&other| other != pid);
            return true;
        }
        let is_its =
            |watched: &&mut CheckedPath| watched.prober.as_ref().is_some_and(|prober| prober.pid == pid);
        let Some(watched) = self.watched.iter_mut().find(is_its) else { return false };
        let why = watched.prober.take().map_or(String::new(), |prober| prober.why_it_ended());
        watched.dog.forget_question(now);
        watched.blind(why);
        true
    }

    /// Looks for the daemons that hooks have left behind, before PID 1 gives up the right to: a prober may
    /// not look at those that have more capabilities.
    pub fn note_daemons(&mut self) {
        if !self.watched.is_empty() {
            self.daemons = self.procfs.fuse_daemons();
        }
    }

    /// A child has ended; `is_helper` if a hook had left it behind. If it was a daemon, its pid is another
    /// process's from now on.
    pub fn child_died(&mut self, child: Reaped, is_helper: bool, at: Instant) {
        let death = Death { child, at };
        if is_helper {
            self.helper_death = Some(death);
        }
        self.daemons.retain(|(_, pid)| *pid != child.pid);
        for watched in self.watched.iter_mut().filter(|watched| watched.daemon == Some(child.pid)) {
            watched.daemon = None;
            watched.daemon_death = Some(death);
        }
    }

    /// Takes the answers that are there, sends the questions that are due, and adds what is lost to `lost`.
    ///
    /// # Errors
    /// A prober cannot be started.
    pub fn judge(&mut self, lost: &mut Vec<Lost>, now: Instant) -> Result<()> {
        for watched in &mut self.watched {
            let loss = watched.judge(&self.procfs, self.rhythm, self.goes_on, now);
            if watched.is_given_up && loss.is_some() {
                watched.dog.forget_mount();
            } else if let Some(loss) = loss {
                lost.push(watched.lose(loss, &self.procfs, self.helper_death, now));
            }
        }
        if self.is_stale && self.watched.iter().any(|watched| watched.lost > 0 && !watched.dog.is_up()) {
            self.look(now)?;
        }
        self.ask(now)
    }

    /// Sends the questions that are due.
    ///
    /// # Errors
    /// A prober cannot be started.
    pub fn ask(&mut self, now: Instant) -> Result<()> {
        for watched in &mut self.watched {
            let Some(mount) = watched.mount.as_ref().filter(|_| watched.dog.is_due(now)) else { continue };
            let prober = match watched.prober.take() {
                Some(prober) => prober,
                None => {
                    // A question that was not asked does not wait for an answer.
                    let user = self.user.as_ref();
                    let started = Prober::start(mount.owner(), user, &self.procfs);
                    started.inspect_err(|_| watched.dog.forget_question(now))?
                }
            };
            if !watched.dog.is_up() {
                watched.trouble = HANGS.into();
            }
            watched.dog.ask(now);
            // An error means that the prober has ended. When it is reaped the question is asked again.
            let _ = prober.ask(&watched.check.value, self.rhythm);
            watched.prober = Some(prober);
        }
        Ok(())
    }

    /// The state of each path.
    pub fn report(&self) -> Vec<MountReport> {
        self.watched.iter().map(CheckedPath::report).collect()
    }

    /// The same, if more has changed than the times of answers.
    pub fn news(&mut self) -> Option<Vec<MountReport>> {
        let mut timeless = self.report();
        timeless.iter_mut().for_each(|report| report.round_trip = None);
        // At the end there are no paths any more, which is no news.
        if timeless.is_empty() || timeless == self.reported {
            return None;
        }
        self.reported = timeless;
        Some(self.report())
    }

    /// Ends all probers. Returns the mounts that were watched, by their paths and IDs.
    pub fn stop(&mut self) -> Vec<(PathBuf, u64)> {
        let mut mounts = Vec::new();
        for watched in self.watched.drain(..) {
            mounts.extend(watched.mount.map(|mount| (watched.check.value, mount.id)));
            if let Some(prober) = watched.prober {
                prober.kill();
                self.others.push(prober.pid);
            }
        }
        mounts
    }
}
