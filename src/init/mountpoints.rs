//! The checked mountpoints of a vassal: finds each one's owner, asks through the owner's prober, collects judgements.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::creds::Identity;
use super::probe::Probe;
use super::watchdog::{Judgement, Loss, Watchdog};
use crate::config::plan::{Located, VassalPlan};
use crate::error::{Context, Described, Result};
use crate::mount::mountinfo::{self, Mount, Owner};
use crate::world;

/// How often a path that is not mounted yet is looked for, besides every change of the mount table.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a filesystem that does not answer most often is.
pub const HANGS: &str = "it does not answer: its daemon hangs, or it is a union whose branches are reached through its own \
    mountpoint, which waits for itself (unionfs-fuse: -ochroot=DIR)";

/// The mounts of this namespace, as seen from the present root.
///
/// # Errors
/// Without /proc nothing is known of mounts.
pub fn mount_table() -> Result<Vec<Mount>> {
    Ok(mountinfo::parse(&world::read_mountinfo().context("read", world::MOUNTINFO)?))
}

/// All checked paths and their probers.
#[derive(Debug)]
pub struct Mountpoints {
    watched: Vec<Watched>,
    /// The vassal's own user and its groups: a prober of that user has them too.
    user: Option<Identity>,
}

#[derive(Debug)]
struct Watched {
    /// Its path, normalized, and where it was configured.
    check: Located<PathBuf>,
    dog: Watchdog,
    /// Whom to ask as; unknown until something is mounted there.
    owner: Option<Owner>,
    /// Who asks. One for each path, since behind a hung one another would seem hung too.
    probe: Option<Probe>,
    /// What is known of a path that is not up, for the day the gate gives up.
    trouble: String,
    /// Whether the last answer said nothing; it is logged when that changes.
    is_blind: bool,
}

/// A path that was lost, and why.
#[derive(Debug)]
pub struct Lost {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub loss: Loss,
}

impl Mountpoints {
    /// Watches the plan's paths. Nothing is asked yet.
    pub fn new(plan: &VassalPlan, now: Instant) -> Self {
        let (interval, timeout) = (plan.mountpoint_check_interval, plan.mountpoint_check_timeout);
        let watched = plan.checks.iter().map(|check| Watched {
            check: Located { value: mountinfo::normalize(&check.value), ..check.clone() },
            dog: Watchdog::new(interval, timeout, now),
            owner: None,
            probe: None,
            trouble: "nothing is mounted there".into(),
            is_blind: false,
        });
        Self { watched: watched.collect(), user: None }
    }

    /// From now on a prober that asks as this user also has its groups: the way to a mount may need them.
    pub fn set_user(&mut self, user: Identity) {
        self.user = Some(user);
    }

    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Looks for the mounts of the paths that are not up yet; true when all are.
    ///
    /// # Errors
    /// The mount table cannot be read, or a prober cannot be started.
    pub fn look(&mut self, now: Instant) -> Result<bool> {
        if self.watched.iter().all(|watched| watched.dog.is_up()) {
            return Ok(true);
        }
        let mounts = mount_table()?;
        for watched in self.watched.iter_mut().filter(|watched| !watched.dog.is_up()) {
            watched.owner = mountinfo::topmost(&mounts, &watched.check.value).map(Mount::owner);
            if watched.owner.is_none() {
                watched.trouble = "nothing is mounted there".into();
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
        self.watched.iter().filter_map(|watched| watched.probe.as_ref()).map(AsFd::as_fd)
    }

    /// The probers' processes.
    pub fn probers(&self) -> impl Iterator<Item = Pid> {
        self.watched.iter().filter_map(|watched| watched.probe.as_ref()).map(|probe| probe.pid)
    }

    /// When to come back at the latest.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let deadline = |dog: &Watchdog| if dog.is_up() { dog.deadline() } else { now + LOOK_AGAIN };
        self.watched.iter().map(|watched| deadline(&watched.dog)).min()
    }

    /// Something happened that may have killed any of them: ask all as soon as possible.
    pub fn suspect(&mut self, now: Instant) {
        for watched in &mut self.watched {
            watched.dog.suspect(now);
        }
    }

    /// Whether `pid` was one of our probers; its open question is asked again, by another.
    pub fn probe_died(&mut self, pid: Pid, now: Instant) -> bool {
        let is_its = |watched: &&mut Watched| watched.probe.as_ref().is_some_and(|probe| probe.pid == pid);
        let Some(watched) = self.watched.iter_mut().find(is_its) else { return false };
        watched.probe = None;
        watched.dog.forget_question(now);
        watched.blind("its prober died");
        true
    }

    /// Takes the answers that are there, sends the questions that are due, and says what is lost.
    ///
    /// # Errors
    /// A prober cannot be started.
    pub fn judge(&mut self, now: Instant) -> Result<Option<Lost>> {
        for watched in &mut self.watched {
            let Some(answer) = watched.probe.as_ref().and_then(Probe::answer) else { continue };
            let was_up = watched.dog.is_up();
            match watched.dog.answer(answer, now) {
                Judgement::Alive if watched.is_blind => {
                    watched.is_blind = false;
                    crate::log!("mountpoint {} can be judged again", watched.check.value.display());
                }
                Judgement::Alive => {}
                Judgement::Unclear(errno) => watched.blind(Described(errno)),
                Judgement::Lost(loss) if was_up => return Ok(Some(watched.lost(loss))),
                // Not lost but not there yet; it is asked again.
                Judgement::Lost(loss) => watched.trouble = loss.to_string(),
            }
        }
        for watched in self.watched.iter().filter(|watched| watched.dog.is_up()) {
            if let Some(loss) = watched.dog.overdue(now) {
                return Ok(Some(watched.lost(loss)));
            }
        }
        self.ask(now)?;
        Ok(None)
    }

    /// Sends the questions that are due.
    fn ask(&mut self, now: Instant) -> Result<()> {
        for watched in &mut self.watched {
            let Some(owner) = watched.owner.filter(|_| watched.dog.is_due(now)) else { continue };
            let probe = match watched.probe.take() {
                Some(probe) => probe,
                None => {
                    // A question that cannot be asked is no question that goes unanswered.
                    let user = self.user.as_ref();
                    Probe::start(owner, user).inspect_err(|_| watched.dog.forget_question(now))?
                }
            };
            if !watched.dog.is_up() {
                watched.trouble = HANGS.into();
            }
            watched.dog.ask(now);
            // A prober that is gone is reaped soon, and its question is asked again.
            let _ = probe.ask(&watched.check.value);
            watched.probe = Some(probe);
        }
        Ok(())
    }

    /// Ends all probers.
    pub fn stop(&mut self) {
        for watched in self.watched.drain(..) {
            watched.probe.iter().for_each(Probe::kill);
        }
    }
}

impl Watched {
    /// The path cannot be judged, for this reason. That is no loss, but nobody shall think it is watched.
    fn blind(&mut self, why: impl fmt::Display) {
        self.trouble = format!("cannot judge it: {why}");
        if self.dog.is_up() && !self.is_blind {
            self.is_blind = true;
            crate::log!("mountpoint {}: {}", self.check.value.display(), self.trouble);
        }
    }

    fn lost(&self, loss: Loss) -> Lost {
        Lost { path: self.check.value.clone(), loss }
    }
}
