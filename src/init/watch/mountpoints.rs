//! The checked mountpoints of a vassal: finds each one's owner, asks through the owner's prober, collects judgements.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::plan::{Located, MountpointPlan, Phase};
use crate::error::{Described, Result};
use crate::identity::Identity;
use crate::init::child::reaper::Reaped;
use crate::init::watch::probe::{Probe, Rhythm};
use crate::init::watch::procfs::Procfs;
use crate::init::watch::watchdog::{Judgement, Loss, Watchdog};
use crate::log::Elapsed;
use crate::mount::mountinfo::{self, Mount};
use crate::protocol::{MountReport, MountState};

/// How often a path that is not mounted yet is looked for, besides every change of the mount table.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A loss that is noticed this soon after a death is put down to it.
const ATTRIBUTED: Duration = Duration::from_millis(100);

/// The trouble with a path that is none of ours yet.
const NOTHING: &str = "nothing is mounted there";

/// What a filesystem that does not answer most often is.
pub const HANGS: &str = "it does not answer: its daemon hangs, or it is a union whose branches are reached through its own \
    mountpoint, which waits for itself (unionfs-fuse: -ochroot=DIR)";

/// All checked paths and their probers.
#[derive(Debug)]
pub struct Mountpoints {
    watched: Vec<Watched>,
    procfs: Rc<Procfs>,
    rhythm: Rhythm,
    /// Probers that ask for somebody else, or were told to end.
    others: Vec<Pid>,
    /// The vassal's own user and its groups: a prober of that user has them too.
    user: Option<Identity>,
    /// Whether the mount table has changed since it was read.
    is_stale: bool,
    /// The FUSE connections that are older than the phases or the change of root. Others may use them.
    foreign: Vec<u64>,
    /// What was reported last, but for the times.
    reported: Vec<MountReport>,
    /// The latest death of a child that is not ours by origin, such as a daemon.
    last_death: Option<Death>,
}

/// The end of a child that we did not start ourselves.
#[derive(Debug, Clone, Copy)]
struct Death {
    child: Reaped,
    /// Whether it was there before the app, as the daemons of hooks are.
    is_helper: bool,
    at: Instant,
}

#[derive(Debug)]
struct Watched {
    /// Its path, normalized, and where it was configured.
    check: Located<PathBuf>,
    dog: Watchdog,
    /// What is mounted there, as the table has it: whom to ask as. Unknown until something is.
    mount: Option<Mount>,
    /// Who asks. One for each path, since behind a hung one another would seem hung too.
    probe: Option<Probe>,
    /// What is known of a path that is not up, for the day the gate gives up.
    trouble: String,
    /// Whether the last answer said nothing; it is logged when that changes.
    is_blind: bool,
    /// What has mounted it.
    maker: Maker,
    took: Option<Duration>,
    /// The process that serves the filesystem, if that is known.
    daemon: Option<Pid>,
    /// How and when that process ended.
    daemon_death: Option<Death>,
    lost: u32,
    last: String,
}

/// Where a mount came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Nothing is mounted yet.
    Nobody,
    /// It was there before the first phase, or before the change of root.
    Outside,
    /// A hook of this phase.
    Phase(Phase),
}

/// A path that was lost, and why.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub loss: Loss,
    /// All of it for the log, and how it was noticed.
    pub what: String,
}

impl Mountpoints {
    /// Watches the plan's paths. Nothing is asked yet.
    pub fn new(plan: &MountpointPlan, procfs: Rc<Procfs>, now: Instant) -> Self {
        let dog = Watchdog::new(plan.check_interval, plan.check_timeout, now);
        let watched = plan.checks.iter().map(|check| Watched {
            check: Located { value: mountinfo::normalize(&check.value), ..check.clone() },
            dog: dog.clone(),
            mount: None,
            probe: None,
            trouble: NOTHING.into(),
            is_blind: false,
            maker: Maker::Nobody,
            took: None,
            daemon: None,
            daemon_death: None,
            lost: 0,
            last: String::new(),
        });
        let rhythm = Rhythm { interval: plan.check_interval, patience: dog.patience() };
        let (user, foreign, reported) = (None, Vec::new(), Vec::new());
        let (watched, others) = (watched.collect(), Vec::new());
        Self { watched, procfs, rhythm, others, user, is_stale: true, foreign, reported, last_death: None }
    }

    /// Takes on the times of a reloaded plan, and the lines where its paths are written now. The paths are the same ones:
    /// a change of them takes a fresh jail. All are asked at once, which tells the probers the new times.
    pub fn set_plan(&mut self, plan: &MountpointPlan, now: Instant) {
        for (watched, check) in self.watched.iter_mut().zip(&plan.checks) {
            (watched.check.key, watched.check.at) = (Rc::clone(&check.key), check.at.clone());
            watched.dog.set_times(plan.check_interval, plan.check_timeout);
            self.rhythm = Rhythm { interval: plan.check_interval, patience: watched.dog.patience() };
        }
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

    /// Puts what was mounted since the last time down to `maker`. A filesystem from outside stays one when a phase binds it
    /// to another place: to unmount it by force would break it for everybody.
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
            match mountinfo::topmost(&mounts, &watched.check.value) {
                None => watched.maker = Maker::Nobody,
                Some(mount) if is_foreign(mount) => watched.maker = Maker::Outside,
                Some(_) if maker == Maker::Outside || watched.maker == Maker::Nobody => watched.maker = maker,
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Who has mounted what is at all the paths.
    pub fn makers(&self) -> impl Iterator<Item = Maker> {
        self.watched.iter().map(|watched| watched.maker)
    }

    /// Whether an answer is waited for.
    pub fn is_asking(&self) -> bool {
        self.watched.iter().any(|watched| watched.dog.is_asking())
    }

    /// Who has mounted what is at this path.
    pub fn maker(&self, path: &Path) -> Maker {
        let watched = self.watched.iter().find(|watched| watched.check.value == path);
        watched.map_or(Maker::Nobody, |watched| watched.maker)
    }

    /// Gives up all mounts of a phase: they are no loss from now on. Their paths, and the daemons that are known.
    pub fn give_up(&mut self, maker: Maker) -> Vec<(PathBuf, Option<Pid>)> {
        let of_phase = self.watched.iter_mut().filter(|watched| watched.maker == maker);
        of_phase
            .map(|watched| {
                watched.dog.forget_mount();
                watched.maker = Maker::Nobody;
                (watched.check.value.clone(), watched.daemon.take())
            })
            .collect()
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
        for watched in self.watched.iter_mut().filter(|watched| !watched.dog.is_up()) {
            let mount = mountinfo::topmost(&mounts, &watched.check.value);
            if mount.is_none() {
                watched.trouble = NOTHING.into();
            }
            if watched.mount.as_ref() != mount {
                // Another prober: this one may be another user, or hang in what was there before.
                if let Some(probe) = watched.probe.take() {
                    probe.kill();
                    watched.dog.forget_question(now);
                    watched.dog.suspect(now);
                }
                watched.mount = mount.cloned();
            }
        }
        self.ask(now)?;
        Ok(false)
    }

    /// Why the first path that is not up is not.
    pub fn trouble(&self) -> Option<(&Located<PathBuf>, &str)> {
        let watched = self.watched.iter().find(|watched| !watched.dog.is_up())?;
        Some((&watched.check, &watched.trouble))
    }

    /// What to poll for answers.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.watched.iter().filter_map(|watched| watched.probe.as_ref()).flat_map(Probe::descriptors)
    }

    /// The probers' processes, those that are about to end included.
    pub fn probers(&self) -> impl Iterator<Item = Pid> {
        let own = self.watched.iter().filter_map(|watched| watched.probe.as_ref()).map(|probe| probe.pid);
        own.chain(self.others.iter().copied())
    }

    /// Counts a prober that asks for somebody else among ours until it has ended.
    pub fn add_prober(&mut self, pid: Pid) {
        self.others.push(pid);
    }

    /// When to come back at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadline = |watched: &Watched| match watched.dog.is_up() || watched.lost > 0 {
            true => watched.dog.deadline(),
            false => Some(now + LOOK_AGAIN),
        };
        self.watched.iter().filter_map(deadline).min()
    }

    /// Something happened that may have killed any of them: ask all as soon as possible.
    pub fn suspect(&mut self, now: Instant) {
        self.is_stale = true;
        for watched in &mut self.watched {
            watched.dog.suspect(now);
        }
    }

    /// Whether `pid` was one of our probers; its open question is asked again, by another.
    pub fn probe_died(&mut self, pid: Pid, now: Instant) -> bool {
        if self.others.contains(&pid) {
            self.others.retain(|&other| other != pid);
            return true;
        }
        let is_its = |watched: &&mut Watched| watched.probe.as_ref().is_some_and(|probe| probe.pid == pid);
        let Some(watched) = self.watched.iter_mut().find(is_its) else { return false };
        let why = watched.probe.take().map_or(String::new(), |probe| probe.why_it_ended());
        watched.dog.forget_question(now);
        watched.blind(why);
        true
    }

    /// A child has ended. If it was a daemon, its pid is another process's from now on. `is_helper` tells that it was not the
    /// app's.
    pub fn child_died(&mut self, child: Reaped, is_helper: bool, now: Instant) {
        let death = Death { child, is_helper, at: now };
        self.last_death = Some(death);
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
            if let Some(loss) = watched.judge(self.rhythm, now) {
                lost.push(watched.lose(loss, self.last_death, now));
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
            let probe = match watched.probe.take() {
                Some(probe) => probe,
                None => {
                    // A question that cannot be asked is no question that goes unanswered.
                    let user = self.user.as_ref();
                    Probe::start(mount.owner(), user).inspect_err(|_| watched.dog.forget_question(now))?
                }
            };
            if !watched.dog.is_up() {
                watched.trouble = HANGS.into();
            }
            watched.dog.ask(now);
            // A prober that is gone is reaped soon, and its question is asked again.
            let _ = probe.ask(&watched.check.value, self.rhythm);
            watched.probe = Some(probe);
        }
        Ok(())
    }

    /// What there is to know of each.
    pub fn report(&self) -> Vec<MountReport> {
        self.watched.iter().map(Watched::report).collect()
    }

    /// The same, if there is more that is new than how long an answer took.
    pub fn news(&mut self) -> Option<Vec<MountReport>> {
        let mut timeless = self.report();
        timeless.iter_mut().for_each(|report| report.round_trip = None);
        // Those that are not watched any more, at the end, are no news.
        if timeless.is_empty() || timeless == self.reported {
            return None;
        }
        self.reported = timeless;
        Some(self.report())
    }

    /// Ends all probers.
    pub fn stop(&mut self) {
        for probe in self.watched.drain(..).filter_map(|watched| watched.probe) {
            probe.kill();
            self.others.push(probe.pid);
        }
    }
}

impl Watched {
    /// Takes the answers that are there; the loss, if they come to one.
    fn judge(&mut self, rhythm: Rhythm, now: Instant) -> Option<Loss> {
        while let Some(reply) = self.probe.as_ref().and_then(Probe::reply) {
            (self.took, self.daemon) = (Some(reply.took), reply.daemon.or(self.daemon));
            let was_up = self.dog.is_up();
            match self.dog.answer(reply.answer, now) {
                Judgement::Alive => {
                    if self.is_blind || (self.lost > 0 && !was_up) {
                        crate::log!("mountpoint {} is there, and answers", self.check.value.display());
                    }
                    self.is_blind = false;
                }
                Judgement::Unclear(errno) => self.blind(Described(errno)),
                Judgement::Lost(loss) if was_up => return Some(loss),
                // Not lost but not there yet; its prober goes on asking.
                Judgement::Lost(loss) => self.trouble = loss.to_string(),
            }
        }
        if let Some(probe) = self.probe.as_ref().filter(|probe| probe.is_late())
            && self.dog.late(now)
        {
            // If it comes back to life, it is to say so.
            let _ = probe.ask(&self.check.value, rhythm);
        }
        self.dog.overdue(now).filter(|_| self.dog.is_up())
    }

    /// The path cannot be judged, for this reason. That is no loss, but nobody shall think it is watched.
    fn blind(&mut self, why: impl fmt::Display) {
        self.trouble = format!("cannot judge it: {why}");
        if self.dog.is_up() && !self.is_blind {
            self.is_blind = true;
            crate::log!("mountpoint {}: {}", self.check.value.display(), self.trouble);
        }
    }

    fn lose(&mut self, loss: Loss, last_death: Option<Death>, now: Instant) -> Lost {
        let death = self.attribute(&loss, last_death, now);
        self.dog.forget_mount();
        self.trouble = loss.to_string();
        (self.lost, self.last) = (self.lost.saturating_add(1), self.trouble.clone());
        let what = format!("mountpoint {} lost: {loss}{death}", self.check.value.display());
        Lost { path: self.check.value.clone(), loss, what }
    }

    /// What a loss is put down to: the death of the daemon, if it was noticed right before. Where the daemon is not known it
    /// may have been a process that was there before the app, and a process of the app cannot be ruled out.
    fn attribute(&mut self, loss: &Loss, last_death: Option<Death>, now: Instant) -> String {
        let of_daemon = self.daemon_death.take();
        let is_daemon = of_daemon.is_some() || last_death.is_some_and(|death| death.is_helper);
        let death = of_daemon.or(last_death.filter(|_| self.daemon.is_none()));
        let is_dead = matches!(loss, Loss::Dead(_) | Loss::NotMounted);
        match death.map(|Death { child, at, .. }| (child, now.saturating_duration_since(at))) {
            Some((child, time)) if is_dead && time <= ATTRIBUTED => {
                let (time, what) =
                    (Elapsed(time), if is_daemon { "the daemon" } else { "a process of the jail" });
                format!(", {time} after {what} died (pid {}, {})", child.pid, child.status)
            }
            _ => String::new(),
        }
    }

    fn report(&self) -> MountReport {
        let state = match (self.dog.is_up(), self.is_blind) {
            (true, false) => MountState::Up,
            (true, true) => MountState::Blind,
            (false, _) if self.lost > 0 => MountState::Lost,
            (false, _) => MountState::Awaited,
        };
        MountReport {
            path: self.check.value.clone(),
            fs_type: self.mount.as_ref().map(|mount| mount.fs_type.clone()).unwrap_or_default(),
            daemon: self.daemon.map_or(0, |pid| pid.as_raw_pid()),
            state,
            round_trip: self.took,
            lost: self.lost,
            last: self.last.clone(),
        }
    }
}
