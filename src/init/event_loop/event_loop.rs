//! Waiting: for a child, or for whatever comes next; and the books that are kept meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::cmdline::entrypoint::Entrypoint;
use crate::init::child::job::Job;
use crate::init::child::reaper::Reaped;
use crate::init::entrypoint;
use crate::init::event_loop::running_app::RunningApp;
use crate::init::event_loop::sources::{NewFile, Sources};
use crate::init::vassal::Vassal;
use crate::init::watch::mountpoints::Lost;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::oom::OomKills;
use crate::init::watch::watchdog::Loss;
use crate::log::Elapsed;
use crate::protocol::Announcement;
use crate::protocol::{self, FromVassal, WaitStatus};
use crate::signal_names;

/// A loss found this soon after a child's death is put down to it.
const BLAME: Duration = Duration::from_millis(100);

/// How long the answers of the mountpoints are waited for when the emperor asks for a report.
const REPORT_TIME: Duration = Duration::from_millis(100);

/// Why a child was not waited for to its end.
pub enum Interrupted {
    /// Somebody wants us to stop, or a mountpoint was lost.
    Stop,
    /// The deadline has come.
    Deadline,
}

/// What a vassal waits for, and what is known from that.
pub struct EventLoop {
    pub(in crate::init) sources: Sources,
    pub(in crate::init) mountpoints: Mountpoints,
    pub(in crate::init) oom: OomKills,
    /// For a command that is the app: what we are to it.
    pub(in crate::init) entry: Option<Rc<Entrypoint>>,
    /// The app, if it is the command of an entrypoint.
    pub(in crate::init) job: Option<Job>,
    /// Signals for it that came before it ran.
    pub(in crate::init) early_signals: Vec<i32>,
    pub(in crate::init) app: Option<RunningApp>,
    /// Processes that ran when the app was started, such as the daemons of hooks: they are not the app's.
    pub(in crate::init) helper_pids: Vec<Pid>,
    /// The child that a hook waits for.
    pub(in crate::init) hook: Option<Pid>,
    /// The latest death of a child that we did not start ourselves, such as a daemon.
    pub(in crate::init) last_death: Option<(Instant, Reaped)>,
    /// Set when no child is left.
    pub(in crate::init) childless: bool,
    /// Who wants us to stop, and since when, once somebody does.
    pub(in crate::init) stop: Option<(String, Instant)>,
    /// The mountpoints that were lost and not seen to yet, in the order in which that was noticed.
    pub(in crate::init) lost: Vec<Lost>,
    /// A new file, or a request to read the old one again.
    pub(in crate::init) reload: Option<NewFile>,
    /// Set when the app has said that it accepts requests, and the hooks for that are to run.
    pub(in crate::init) is_accepting: bool,
    /// Set while a loss is being dealt with that the app survives: another one has to wait.
    pub(in crate::init) is_repairing: bool,
    /// Set when the end has begun: nothing interrupts it.
    pub(in crate::init) is_ending: bool,
    /// Since when the emperor waits for a report on the mountpoints.
    pub(in crate::init) report_asked: Option<Instant>,
}

impl Vassal {
    /// Waits for one child, unless a request to stop or the deadline comes first.
    pub(in crate::init) fn wait_for(
        &mut self,
        pid: Pid,
        deadline: Instant,
    ) -> Result<WaitStatus, Interrupted> {
        self.events.hook = Some(pid);
        let result = loop {
            let reaped = self.wait(None, Some(deadline));
            if let Some(reaped) = reaped.iter().find(|reaped| reaped.pid == pid) {
                break Ok(reaped.status);
            }
            if self.is_interrupted() {
                break Err(Interrupted::Stop);
            }
            if Instant::now() >= deadline {
                break Err(Interrupted::Deadline);
            }
        };
        self.events.hook = None;
        result
    }

    /// Waits for the next events and keeps the books: who died, who wants us to stop, what may have happened to the
    /// mounts. Returns the children that were reaped, without the probers. `other` is one more thing to wake up for.
    pub(in crate::init) fn wait(
        &mut self,
        other: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Vec<Reaped> {
        let now = Instant::now();
        let report = self.events.report_asked.map(|asked| asked + REPORT_TIME);
        let status_due = self.events.app.as_ref().and_then(RunningApp::status_due);
        let oom_due = self.events.oom.deadline(now);
        let lines_due = crate::log::deadline(now);
        let deadline =
            [deadline, status_due, self.events.mountpoints.deadline(now), report, oom_due, lines_due]
                .into_iter()
                .flatten()
                .min();
        // Nobody waits for its start any more once it is to stop, and its report stays readable.
        let starting = self.events.app.as_ref().filter(|app| !app.is_started && app.status.is_none());
        let starting = starting.filter(|_| self.events.stop.is_none());
        let starting = starting.map(|app| app.launched.as_fd());
        let said = self.events.app.iter().flat_map(|app| app.listener.descriptors());
        let others = self.events.mountpoints.descriptors().chain(other).chain(starting).chain(said);
        let wakeup = self.events.sources.wait(others, self.events.oom.descriptors(), deadline);
        crate::log::flush();
        let now = Instant::now();
        let mut reaped = wakeup.reaped;
        reaped.retain(|child| !self.events.mountpoints.probe_died(child.pid, now));
        for child in &reaped {
            self.events.helper_pids.retain(|&pid| pid != child.pid);
            self.events.mountpoints.child_died(child.pid);
            match &mut self.events.app {
                Some(app) if app.launched.pid == child.pid => app.status = Some(child.status),
                _ if self.events.hook == Some(child.pid) => {}
                _ => {
                    self.events.last_death = Some((now, *child));
                    if let Some(entry) = &self.events.entry {
                        entrypoint::say_reaped(entry, child);
                    }
                }
            }
        }
        self.events.oom.look(self.events.app.as_ref().is_some_and(|app| app.status.is_none()), now);
        if wakeup.mounts_changed || !reaped.is_empty() {
            self.events.mountpoints.suspect(now);
        }
        let known = self.events.lost.len();
        if let Err(error) = self.events.mountpoints.judge(&mut self.events.lost, now) {
            // The watch is broken, the mounts may be fine. It is tried again at the next interval.
            crate::log!("mountpoint-check: {error}");
        }
        let death = self.events.last_death;
        self.events.lost.iter_mut().skip(known).for_each(|lost| blame(lost, death, now));
        self.report_mountpoints(wakeup.report, now);
        self.events.childless |= wakeup.childless;
        if let Some(who) = wakeup.stop {
            self.stop_requested(who);
        }
        if wakeup.reload.is_some() {
            self.events.reload = wakeup.reload;
        }
        if let Some(job) = self.events.job.as_ref().filter(|_| wakeup.child_changed) {
            job.look_for_stop();
        }
        for number in wakeup.signals {
            self.handle_signal(number);
        }
        self.hear_app();
        reaped
    }

    /// Whether something came up that makes further preparations pointless. The end of an app that was ready to serve does;
    /// one that does its work and ends at once may well do so before its hooks have run.
    pub(in crate::init) fn is_interrupted(&self) -> bool {
        let has_ended =
            |app: &RunningApp| app.status.is_some() && app.announced.contains(&Announcement::Ready);
        let app_has_ended = self.events.app.as_ref().is_some_and(has_ended);
        let is_lost = !self.events.lost.is_empty() && !self.events.is_repairing;
        !self.events.is_ending && (self.events.stop.is_some() || is_lost || app_has_ended)
    }

    /// Tells the emperor of the mountpoints: what is new at once, the rest when it asks and they have answered, or soon in
    /// any case.
    pub(in crate::init) fn report_mountpoints(&mut self, is_asked: bool, now: Instant) {
        if self.events.sources.link().is_none() {
            return;
        }
        if let Some(reports) = self.events.mountpoints.news() {
            self.tell(&FromVassal::Mountpoints(reports));
        }
        if is_asked && self.events.report_asked.is_none() {
            self.events.report_asked = Some(now);
            self.events.mountpoints.suspect(now);
            if let Err(error) = self.events.mountpoints.ask(now) {
                crate::log!("mountpoint-check: {error}");
            }
        }
        let Some(asked) = self.events.report_asked else { return };
        if !self.events.mountpoints.is_asking() || now >= asked + REPORT_TIME {
            self.events.report_asked = None;
            self.tell(&FromVassal::Mountpoints(self.events.mountpoints.report()));
        }
    }

    /// A signal that is none of our own business. To a command all are handed on, as they came; before it runs, a request to stop is
    /// for us, and the rest can wait.
    pub(in crate::init) fn handle_signal(&mut self, number: i32) {
        let is_running = self.events.app.as_ref().is_some_and(|app| app.status.is_none());
        match (&self.events.entry, &mut self.events.job) {
            (None, _) => self.signal_app(number),
            // ESRCH: it has just ended.
            (Some(_), Some(job)) if is_running => drop(job.forward(number)),
            (Some(_), None) if ![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&number) => {
                self.events.early_signals.push(number);
            }
            (Some(_), _) => self.stop_requested(signal_names::name(number)),
        }
    }

    /// Tells the emperor, if there is one. It learns of our end anyway, so a full or closed link is no failure.
    pub(in crate::init) fn tell(&self, message: &FromVassal) {
        if let Some(link) = self.events.sources.link() {
            let _ = protocol::send(link, &message.encode(), None);
        }
    }
}

/// Puts a loss that was noticed right after a child's death down to it.
fn blame(lost: &mut Lost, death: Option<(Instant, Reaped)>, now: Instant) {
    let is_dead = matches!(lost.loss, Loss::Dead(_) | Loss::NotMounted);
    if let Some((at, child)) = death.filter(|(at, _)| is_dead && now.saturating_duration_since(*at) <= BLAME)
    {
        let after = Elapsed(now.saturating_duration_since(at));
        lost.what += &format!(", {after} after the daemon died (pid {}, {})", child.pid, child.status);
    }
}
