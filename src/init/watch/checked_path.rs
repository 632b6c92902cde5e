//! One checked path: its mount, its prober, its daemon, and the judgement of the answers.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::plan::{Located, Phase};
use crate::error::Described;
use crate::init::child::reaper::{self, Reaped};
use crate::init::watch::prober::{Prober, Rhythm};
use crate::init::watch::procfs::Procfs;
use crate::init::watch::watchdog::{Judgement, Loss, Watchdog};
use crate::log::Elapsed;
use crate::mount::mountinfo::{self, Mount};
use crate::protocol::{MountReport, MountState};
use crate::running_time;
use crate::sys::child;

/// A loss within this time after the death of the daemon is attributed to that death.
const AFTER_DAEMON: Duration = Duration::from_secs(1);

/// A loss within this time after the death of a process that may have been the daemon is attributed to that
/// death.
const AFTER_HELPER: Duration = Duration::from_millis(500);

/// How long to wait for the end of a daemon whose connection has ended.
const DYING: Duration = Duration::from_millis(20);

/// The trouble with a path at which nothing is mounted.
pub(super) const NOTHING: &str = "nothing is mounted there";

/// One checked path, with its prober.
#[derive(Debug)]
pub(super) struct CheckedPath {
    /// Its path, normalized, and where it was configured.
    pub(super) check: Located<PathBuf>,
    pub(super) dog: Watchdog,
    /// The mount, from the mount table. The prober becomes its owner.
    pub(super) mount: Option<Mount>,
    /// The prober. Each path has its own, because a path that hangs would make others behind it seem to hang.
    pub(super) prober: Option<Prober>,
    /// Why the path is not up, for the message of a gate that gives up.
    pub(super) trouble: String,
    /// Whether the last answer said nothing about the filesystem. A change of this is logged.
    pub(super) is_blind: bool,
    /// What mounted it.
    pub(super) maker: Maker,
    /// Whether its mount was given up: until the next mount, its end is no loss.
    pub(super) is_given_up: bool,
    pub(super) took: Option<Duration>,
    /// The process that serves the filesystem, if it is known.
    pub(super) daemon: Option<Pid>,
    /// How and when that process ended.
    pub(super) daemon_death: Option<Death>,
    pub(super) lost: u32,
    pub(super) last: String,
}

/// Where a mount came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// Nothing is mounted yet.
    Nobody,
    /// The mount existed before the first phase, or before the change of root.
    Outside,
    /// A hook of this phase mounted it.
    Phase(Phase),
}

/// How a process ended, and when that was noticed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) child: Reaped,
    pub(super) at: Instant,
}

/// A path that was lost, and why.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The path.
    pub path: PathBuf,
    /// The kind of loss.
    pub loss: Loss,
    /// The path, the reason and the cause, for the log.
    pub what: String,
}

impl CheckedPath {
    /// Forgets the mount and the open question. Returns the prober, which was told to end.
    pub(super) fn begin_anew(&mut self) -> Option<Pid> {
        let now = running_time::now();
        self.dog.forget_mount();
        self.dog.forget_question(now);
        self.dog.suspect(now);
        let prober = self.prober.take()?;
        prober.kill();
        Some(prober.pid)
    }

    /// Reads the answers, and returns the loss if they show one. `goes_on`: the app goes on after a loss, so
    /// no gate will log that the path is up again.
    pub(super) fn judge(
        &mut self,
        procfs: &Procfs,
        rhythm: Rhythm,
        goes_on: bool,
        now: Instant,
    ) -> Option<Loss> {
        while let Some(reply) = self.prober.as_ref().and_then(Prober::reply) {
            self.took = Some(reply.took);
            // The prober runs as the mount's owner, who may manipulate it. So it can name only a child of PID
            // 1 that the owner could kill anyway.
            let owner = self.mount.as_ref().map_or(0, |mount| mount.owner().uid);
            let is_its = |pid: &Pid| child::is_child(*pid) && (owner == 0 || procfs.is_of(*pid, owner));
            self.daemon = reply.daemon.filter(is_its).or(self.daemon);
            let was_up = self.dog.is_up();
            let judgement = self.dog.answer(reply.answer, now);
            // The mount table tells whether it is still mounted. The daemon's errors would not.
            if let Judgement::Unclear(_) | Judgement::Lost(Loss::Failing(..)) = judgement
                && let Some(loss) = self.missing(procfs)
            {
                return Some(loss);
            }
            match judgement {
                // The path of the mount may lead through a filesystem that died together with it, and then
                // fails by itself.
                Judgement::Unclear(errno) if self.has_lost_daemon(now) => return Some(Loss::Dead(errno)),
                Judgement::Alive => {
                    if self.is_blind || (self.lost > 0 && !was_up && goes_on) {
                        crate::log!("mountpoint {} is there, and answers", self.check.value.display());
                    }
                    self.is_blind = false;
                }
                Judgement::Unclear(errno) => {
                    let most = Elapsed(self.dog.patience_with(errno));
                    self.blind(format_args!("{}, which is a loss if it lasts {most}", Described(errno)));
                }
                Judgement::Lost(loss) if was_up => return Some(loss),
                // Not mounted yet. The prober goes on asking.
                Judgement::Lost(loss) => self.trouble = loss.to_string(),
            }
        }
        if let Some(prober) = self.prober.as_ref().filter(|prober| prober.is_late())
            && self.dog.late(now)
        {
            // If an answer comes after all, PID 1 must hear it.
            let _ = prober.ask(&self.check.value, rhythm);
        }
        self.dog.overdue(running_time::was_late(), now).filter(|_| self.dog.is_up())
    }

    fn has_lost_daemon(&self, now: Instant) -> bool {
        self.daemon_death.is_some_and(|death| now.saturating_duration_since(death.at) <= AFTER_DAEMON)
    }

    /// What the mount table says about a mount that was there: the loss, or nothing if the mount is still
    /// there.
    fn missing(&self, procfs: &Procfs) -> Option<Loss> {
        let (known, mounts) = (self.mount.as_ref()?, procfs.mounts().ok()?);
        match mountinfo::visible(&mounts, &self.check.value) {
            None => Some(Loss::NotMounted),
            Some(mount) => ((mount.id, mount.device) != (known.id, known.device)).then_some(Loss::Replaced),
        }
    }

    /// Notes that the path cannot be judged, and why. That is no loss, but it is logged, because the path is
    /// not watched meanwhile.
    pub(super) fn blind(&mut self, why: impl fmt::Display) {
        self.trouble = format!("cannot judge it: {why}");
        if self.dog.is_up() && !self.is_blind {
            self.is_blind = true;
            crate::log!("mountpoint {}: {}", self.check.value.display(), self.trouble);
        }
    }

    pub(super) fn lose(
        &mut self,
        loss: Loss,
        procfs: &Procfs,
        helper_death: Option<Death>,
        now: Instant,
    ) -> Lost {
        let cause = match (&loss, self.daemon) {
            // It is stopped, or waits for what hangs itself.
            (Loss::NoAnswer(_), Some(pid)) => format!("; the daemon is {}", procfs.describe(pid)),
            _ => self.attribute_to_daemon(&loss, helper_death, now).unwrap_or_default(),
        };
        self.dog.forget_mount();
        self.is_blind = false;
        self.trouble = loss.to_string();
        (self.lost, self.last) = (self.lost.saturating_add(1), self.trouble.clone());
        let what = format!("mountpoint {} lost: {loss}{cause}", self.check.value.display());
        Lost { path: self.check.value.clone(), loss, what }
    }

    /// The death to which a loss is attributed: that of the daemon. If the daemon is not known, a process
    /// that a hook left behind may have been it, but never a process of the app.
    fn attribute_to_daemon(
        &mut self,
        loss: &Loss,
        helper_death: Option<Death>,
        now: Instant,
    ) -> Option<String> {
        let (what, Death { child, at }, time) = match (self.daemon_death.take(), self.daemon) {
            (Some(death), _) => ("the daemon", death, AFTER_DAEMON),
            // When a process is killed, its FUSE connection ends a little before the process does.
            (None, Some(pid)) => {
                let time = if matches!(loss, Loss::Dead(_)) { DYING } else { Duration::ZERO };
                let status = reaper::end_of(pid, time)?;
                ("the daemon", Death { child: Reaped { pid, status }, at: now }, AFTER_DAEMON)
            }
            (None, None) => ("a process that a hook had left behind", helper_death?, AFTER_HELPER),
        };
        let is_cause = match loss {
            Loss::Dead(_) => true,
            // A daemon that ends in order unmounts first, and it also ends after an unmount by others. Its
            // death is the cause only if another process unmounts for it (option `auto_unmount` of
            // fusermount).
            Loss::NotMounted => child.status.signal().is_some(),
            Loss::Failing(..) | Loss::Replaced | Loss::NoAnswer(_) => false,
        };
        let after = now.saturating_duration_since(at);
        (is_cause && after <= time)
            .then(|| format!(", {} after {what} died (pid {}, {})", Elapsed(after), child.pid, child.status))
    }

    pub(super) fn report(&self) -> MountReport {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use crate::config::plan::{Location, VassalPlan};
    use crate::init::watch::prober::Reply;
    use crate::init::watch::watchdog::{Answer, Found};

    const OWNER: u32 = 4242;

    /// Which process counts as the daemon of a mount of this user's once its prober has said that it is this
    /// one, where `known` was the daemon before.
    fn daemon_by(owner: u32, said: Pid, known: Option<Pid>) -> Option<Pid> {
        let mount = format!("40 22 0:35 / /app rw - fuse.x x rw,user_id={owner},group_id={owner}");
        let plan = VassalPlan::default().mountpoints;
        let answer = Answer::Found(Found { mount_id: 7, is_mount_root: true });
        let reply = Reply { answer, took: Duration::ZERO, daemon: Some(said) };
        let at = Location { file: "a.ini".into(), line: 1, column: 1 };
        let mut path = CheckedPath {
            check: Located { value: "/app".into(), key: "mountpoint-check".into(), at },
            dog: Watchdog::new(&plan, Instant::now()),
            mount: mountinfo::parse(mount.as_bytes()).pop(),
            prober: Some(Prober::that_said(reply)),
            trouble: String::new(),
            is_blind: false,
            maker: Maker::Nobody,
            is_given_up: false,
            took: None,
            daemon: known,
            daemon_death: None,
            lost: 0,
            last: String::new(),
        };
        let rhythm = Rhythm { interval: plan.check_interval, patience: path.dog.patience() };
        assert!(path.judge(&Procfs::at_proc(), rhythm, false, Instant::now()).is_none());
        assert!(path.dog.is_up(), "the reply was not read");
        path.daemon
    }

    fn sleeping_as(user: u32) -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").uid(user).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    /// The prober is the owner's, who may have another process speak in its place.
    #[test]
    fn a_prober_can_name_a_child_of_the_owners_and_no_other_process() {
        let [own, roots] = [OWNER, 0].map(sleeping_as);
        let parent = rustix::process::getppid().unwrap();
        assert_eq!(daemon_by(OWNER, own.1, None), Some(own.1));
        assert_eq!(daemon_by(0, own.1, None), Some(own.1), "root may have started it as another user");
        for (owner, said) in [(OWNER, roots.1), (OWNER, parent), (0, parent), (OWNER, Pid::INIT)] {
            assert_eq!(daemon_by(owner, said, None), None, "{said} for {owner}");
            assert_eq!(daemon_by(owner, said, Some(own.1)), Some(own.1), "{said} for {owner}");
        }
        for (mut child, _) in [own, roots] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
