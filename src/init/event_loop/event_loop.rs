//! Waiting: for a child, or for whatever comes next; and the books that are kept meanwhile.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::config::cmdline::entrypoint::Entrypoint;
use crate::init::child::job::Job;
use crate::init::child::reaper::Reaped;
use crate::init::entrypoint;
use crate::init::event_loop::notify::Request;
use crate::init::event_loop::running_app::RunningApp;
use crate::init::event_loop::sources::{NewFile, Sources};
use crate::init::watch::mountpoints::Lost;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::oom::OomKills;
use crate::init::watch::watchdog::Loss;
use crate::log::Elapsed;
use crate::protocol::Announcement;
use crate::protocol::{self, FromVassal, WaitStatus};
use crate::signal_names;
use crate::sys::signal;

/// A loss found this soon after a child's death is put down to it.
const BLAME: Duration = Duration::from_millis(100);

/// Requests to stop that come within this time are one.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// Heartbeats, and reloads of its own, that come faster say nothing more.
const BEAT: Duration = Duration::from_millis(500);

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

impl EventLoop {
    /// Waits for one child, unless a request to stop or the deadline comes first.
    pub(in crate::init) fn wait_for(
        &mut self,
        pid: Pid,
        deadline: Instant,
    ) -> Result<WaitStatus, Interrupted> {
        self.hook = Some(pid);
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
        self.hook = None;
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
        let report = self.report_asked.map(|asked| asked + REPORT_TIME);
        let status_due = self.app.as_ref().and_then(RunningApp::status_due);
        let oom_due = self.oom.deadline(now);
        let lines_due = crate::log::deadline(now);
        let deadline = [deadline, status_due, self.mountpoints.deadline(now), report, oom_due, lines_due]
            .into_iter()
            .flatten()
            .min();
        // Nobody waits for its start any more once it is to stop, and its report stays readable.
        let starting = self.app.as_ref().filter(|app| !app.is_started && app.status.is_none());
        let starting = starting.filter(|_| self.stop.is_none());
        let starting = starting.map(|app| app.launched.as_fd());
        let said = self.app.iter().flat_map(|app| app.listener.descriptors());
        let others = self.mountpoints.descriptors().chain(other).chain(starting).chain(said);
        let wakeup = self.sources.wait(others, self.oom.descriptors(), deadline);
        crate::log::flush();
        let now = Instant::now();
        let mut reaped = wakeup.reaped;
        reaped.retain(|child| !self.mountpoints.probe_died(child.pid, now));
        for child in &reaped {
            self.helper_pids.retain(|&pid| pid != child.pid);
            self.mountpoints.child_died(child.pid);
            match &mut self.app {
                Some(app) if app.launched.pid == child.pid => app.status = Some(child.status),
                _ if self.hook == Some(child.pid) => {}
                _ => {
                    self.last_death = Some((now, *child));
                    if let Some(entry) = &self.entry {
                        entrypoint::say_reaped(entry, child);
                    }
                }
            }
        }
        self.oom.look(self.app.as_ref().is_some_and(|app| app.status.is_none()), now);
        if wakeup.mounts_changed || !reaped.is_empty() {
            self.mountpoints.suspect(now);
        }
        let known = self.lost.len();
        if let Err(error) = self.mountpoints.judge(&mut self.lost, now) {
            // The watch is broken, the mounts may be fine. It is tried again at the next interval.
            crate::log!("mountpoint-check: {error}");
        }
        let death = self.last_death;
        self.lost.iter_mut().skip(known).for_each(|lost| blame(lost, death, now));
        self.report_mountpoints(wakeup.report, now);
        self.childless |= wakeup.childless;
        if let Some(who) = wakeup.stop {
            self.stop_requested(who);
        }
        if wakeup.reload.is_some() {
            self.reload = wakeup.reload;
        }
        if let Some(job) = self.job.as_ref().filter(|_| wakeup.child_changed) {
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
        let app_has_ended = self.app.as_ref().is_some_and(has_ended);
        let is_lost = !self.lost.is_empty() && !self.is_repairing;
        !self.is_ending && (self.stop.is_some() || is_lost || app_has_ended)
    }

    /// Tells the emperor of the mountpoints: what is new at once, the rest when it asks and they have answered, or soon in
    /// any case.
    pub(in crate::init) fn report_mountpoints(&mut self, is_asked: bool, now: Instant) {
        if self.sources.link().is_none() {
            return;
        }
        if let Some(reports) = self.mountpoints.news() {
            self.send(&FromVassal::Mountpoints(reports));
        }
        if is_asked && self.report_asked.is_none() {
            self.report_asked = Some(now);
            self.mountpoints.suspect(now);
            if let Err(error) = self.mountpoints.ask(now) {
                crate::log!("mountpoint-check: {error}");
            }
        }
        let Some(asked) = self.report_asked else { return };
        if !self.mountpoints.is_asking() || now >= asked + REPORT_TIME {
            self.report_asked = None;
            self.send(&FromVassal::Mountpoints(self.mountpoints.report()));
        }
    }

    /// A signal that is none of our own business. To a command all are handed on, as they came; before it runs, a request to stop is
    /// for us, and the rest can wait.
    pub(in crate::init) fn handle_signal(&mut self, number: i32) {
        let is_running = self.app.as_ref().is_some_and(|app| app.status.is_none());
        match (&self.entry, &mut self.job) {
            (None, _) => self.signal_app(number),
            // ESRCH: it has just ended.
            (Some(_), Some(job)) if is_running => drop(job.forward(number)),
            (Some(_), None) if ![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT].contains(&number) => {
                self.early_signals.push(number);
            }
            (Some(_), _) => self.stop_requested(signal_names::name(number)),
        }
    }

    /// Tells the emperor, if there is one. It learns of our end anyway, so a full or closed link is no failure.
    pub(in crate::init) fn send(&self, message: &FromVassal) {
        if let Some(link) = self.sources.link() {
            let _ = protocol::send(link, &message.encode(), None);
        }
    }

    /// A request to stop. A second one, while the app takes its time, is a demand; but one request can arrive twice: a
    /// terminal signals a whole process group, and so does timeout(1).
    pub(in crate::init) fn stop_requested(&mut self, who: String) {
        let now = Instant::now();
        let Some((_, since)) = self.stop else {
            self.stop = Some((who, now));
            return;
        };
        let is_alive = self.app.as_ref().is_some_and(|app| app.status.is_none());
        if is_alive && now.saturating_duration_since(since) >= SAME_REQUEST {
            crate::log!("{who} insists: SIGKILL to the app");
            self.signal_app(libc::SIGKILL);
        }
    }

    /// Asks something of the app, if it speaks uWSGI's protocol; whether it was asked.
    pub(in crate::init) fn ask_app(&self, request: Request) -> bool {
        self.app.as_ref().is_some_and(|app| app.status.is_none() && app.listener.ask(request))
    }

    /// Signals the app, if it is alive.
    pub(in crate::init) fn signal_app(&self, number: i32) {
        if let Some(app) = self.app.as_ref().filter(|app| app.status.is_none()) {
            // Not reaped yet, so the pid is still its own.
            let _ = signal::kill(app.launched.pid.as_raw_pid(), number);
        }
    }

    /// Whether what goes as it should is worth a line. The starter of a command did not ask for it.
    pub(in crate::init) fn is_talkative(&self) -> bool {
        self.entry.as_ref().is_none_or(|entry| entry.verbosity > 1)
    }

    /// Takes in what the app tells of itself. Only what is new is passed on: it may say it as often as it likes.
    pub(in crate::init) fn hear_app(&mut self) {
        let Some(app) = &mut self.app else { return };
        let mut wants_to_leave = false;
        for news in app.listener.news() {
            match news {
                Announcement::Status(text) => {
                    app.said.1 = Some(text);
                    continue;
                }
                Announcement::Heartbeat if app.beat.is_some_and(|beat| beat.elapsed() < BEAT) => continue,
                Announcement::Heartbeat => app.beat = Some(Instant::now()),
                Announcement::Reloading if app.reloaded.is_some_and(|last| last.elapsed() < BEAT) => continue,
                Announcement::Reloading => {
                    app.reloaded = Some(Instant::now());
                    app.announced.retain(|known| *known != Announcement::Ready);
                }
                Announcement::Ready
                | Announcement::Loyal
                | Announcement::Leave
                | Announcement::Stopping
                | Announcement::Stuck => {
                    if app.announced.contains(&news) {
                        continue;
                    }
                    app.announced.push(news.clone());
                    wants_to_leave |= news == Announcement::Leave;
                }
            }
            if news == Announcement::Ready {
                crate::log!("the app is ready, {} after its start", Elapsed(app.since.elapsed()));
                self.is_accepting = true;
            }
            if let Some(link) = self.sources.link() {
                let _ = protocol::send(link, &FromVassal::Announced(news).encode(), None);
            }
        }
        if app.status_due().is_some_and(|due| due <= Instant::now())
            && let Some(text) = app.said.1.take()
        {
            app.said.0 = Some(Instant::now());
            self.send(&FromVassal::Announced(Announcement::Status(text)));
        }
        if wants_to_leave && self.sources.link().is_none() {
            // There is no emperor that could decide on it, and uWSGI does not exit by itself then.
            self.stop_requested("the app itself".to_owned());
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
