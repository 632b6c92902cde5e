//! Waits for a child or for any event, and keeps facts up to date meanwhile.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Pid;

use crate::config::cmdline::entrypoint::{Entrypoint, Event};
use crate::config::plan::ReadinessPlan;
use crate::error::{Context, Result};
use crate::init::child::job::Job;
use crate::init::child::notices::{self, EVERYTHING, Facts};
use crate::init::child::reaper;
use crate::init::event_loop::notify::Request;
use crate::init::event_loop::ready_check::{Check, Checking};
use crate::init::event_loop::running_app::RunningApp;
use crate::init::event_loop::sources::{Heard, NewFile, Sources};
use crate::init::event_loop::wakeup::{
    Attention, Interrupted, Interruption, StopRequest, Unfinished, Wakeup,
};
use crate::init::watch::cgroup_events::CgroupEvents;
use crate::init::watch::mountpoints::Mountpoints;
use crate::init::watch::procfs::Procfs;
use crate::init::watch::readiness::Verdict;
use crate::protocol::{self, Announcement, FromVassal, Replication, WaitStatus};
use crate::running_time;
use crate::signal_names;
use crate::sys::child;
use crate::sys::signal::{self, Signal};

/// How long a report to the emperor waits for the answers of the mountpoints.
const REPORT_TIME: Duration = Duration::from_millis(100);

/// The event sources of a vassal, and the facts that follow from the events so far.
pub struct EventLoop {
    sources: Sources,
    /// What the init does for a command; `None` if the app is not one.
    pub(in crate::init) entry: Option<Rc<Entrypoint>>,
    /// When a process first asked the command, or the init before the command ran, to stop.
    pub(in crate::init) stop_asked: Option<Instant>,
    /// The running command; `None` if the app is not one.
    pub(in crate::init) job: Option<Job>,
    /// The descriptor over which the starter is told that the command runs; `None` once that was done.
    ready_fd: Option<i32>,
    pub(in crate::init) app: Option<RunningApp>,
    pub(in crate::init) mountpoints: Mountpoints,
    check: Checking,
    cgroups: CgroupEvents,
    /// Processes that existed when the app was started, such as daemons of hooks. They do not belong to the
    /// app.
    pub(in crate::init) helper_pids: Vec<Pid>,
    /// Which events interrupt a step.
    attention: Attention,
    /// The child that a step waits for.
    awaited: Option<Awaited>,
    /// Events that no caller has dealt with yet. The next caller of `wait` gets them.
    put_back: Wakeup,
    /// Since when the emperor waits for a report on the mountpoints.
    report_asked: Option<Instant>,
}

/// A child that a step waits for.
struct Awaited {
    pid: Pid,
    /// How it ended, once it has.
    status: Option<WaitStatus>,
}

/// What was found when dead children were reaped.
#[derive(Debug, Clone, Copy, Default)]
struct Deaths {
    /// Whether one of them was neither a prober nor a ready check.
    any: bool,
    /// Whether there are living children.
    has_children: bool,
}

impl EventLoop {
    /// Needs all signals blocked. `entry` says what to do for a command, `link` leads to the emperor.
    pub fn new(entry: Option<Rc<Entrypoint>>, link: Option<OwnedFd>, mountpoints: Mountpoints) -> Self {
        Self {
            sources: Sources::new(link),
            ready_fd: entry.as_ref().and_then(|entry| entry.ready_fd),
            entry,
            stop_asked: None,
            job: None,
            app: None,
            mountpoints,
            check: Checking::default(),
            cgroups: CgroupEvents::new(&[]),
            helper_pids: Vec::new(),
            attention: Attention::All,
            awaited: None,
            put_back: Wakeup::default(),
            report_asked: None,
        }
    }

    /// Also waits for changes of the mount table from now on, as seen from the present root.
    ///
    /// # Errors
    /// There is no procfs to watch.
    pub fn watch_mounts(&mut self, procfs: &Procfs) -> Result<()> {
        self.sources.watch_mounts(procfs)
    }

    /// The link to the emperor, while there is one.
    pub fn link(&self) -> Option<BorrowedFd<'_>> {
        self.sources.link()
    }

    /// As [`Sources::taken_over`].
    ///
    /// # Errors
    /// As there.
    pub fn taken_over(&mut self) -> Result<&OwnedFd> {
        self.sources.taken_over()
    }

    /// Waits until an event happens, `other` becomes readable, or the deadline has come.
    pub fn wait(&mut self, other: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Wakeup {
        let earlier = std::mem::take(&mut self.put_back);
        let deadline = if earlier.is_empty() { deadline } else { Some(running_time::now()) };
        earlier.followed_by(self.collect(other, deadline))
    }

    /// Waits as a step does, which deals with interruptions only: all other events are put back. The caller
    /// checks whether the event it waits for has happened. If an interruption comes at the same time, the
    /// next call returns it.
    ///
    /// # Errors
    /// An event that makes the step pointless.
    pub fn pause(
        &mut self,
        other: Option<BorrowedFd<'_>>,
        deadline: Option<Instant>,
    ) -> Result<(), Interrupted> {
        self.check()?;
        let wakeup = self.collect(other, deadline);
        self.put_back(wakeup);
        Ok(())
    }

    /// Waits without dealing with any event: all of them are put back.
    pub fn pass_time(&mut self, deadline: Instant) {
        let wakeup = self.collect(None, Some(deadline));
        self.put_back(wakeup);
    }

    /// Waits for one child, unless an interruption or the deadline comes first.
    ///
    /// # Errors
    /// The child has not ended: an interruption or the deadline came first.
    pub fn wait_for(&mut self, pid: Pid, deadline: Instant) -> Result<WaitStatus, Unfinished> {
        self.awaited = Some(Awaited { pid, status: None });
        let result = loop {
            if let Err(interruption) = self.pause(None, Some(deadline)) {
                break Err(Unfinished::Interrupted(interruption));
            }
            if let Some(status) = self.awaited.as_ref().and_then(|child| child.status) {
                break Ok(status);
            }
            if running_time::now() >= deadline {
                break Err(Unfinished::Deadline);
            }
        };
        self.awaited = None;
        result
    }

    /// Waits for one child as [`EventLoop::wait_for`], and kills it if something else comes first. An
    /// interruption is put back. Returns how the child has ended.
    pub fn wait_or_kill(&mut self, pid: Pid, deadline: Instant) -> Option<WaitStatus> {
        let unfinished = match self.wait_for(pid, deadline) {
            Ok(status) => return Some(status),
            Err(unfinished) => unfinished,
        };
        child::kill(pid);
        if let Unfinished::Interrupted(interruption) = unfinished {
            self.put_interruption_back(*interruption);
        }
        None
    }

    /// Puts back events that the caller cannot deal with now. The next `wait` returns them, and an
    /// interruption among them interrupts the next step.
    pub fn put_back(&mut self, wakeup: Wakeup) {
        self.put_back = std::mem::take(&mut self.put_back).followed_by(wakeup);
    }

    /// Puts back an interruption. The next caller that waits gets it.
    pub fn put_interruption_back(&mut self, interruption: Interruption) {
        match interruption {
            Interruption::Stop(request) => self.put_back.stop = Some(request),
            Interruption::Lost(lost) => self.put_back.lost.insert(0, lost),
            // The end of the app need not be put back: its status stays known.
            Interruption::AppEnded(_) => {}
        }
    }

    /// Checks for an event that makes further preparations pointless. The end of an app that was ready to
    /// serve is one. An app that does its work and ends at once may end before its hooks have run, which is
    /// none.
    ///
    /// # Errors
    /// The event that makes further preparations pointless.
    pub fn check(&mut self) -> Result<(), Interrupted> {
        if self.attention == Attention::Ending {
            return Ok(());
        }
        let Wakeup { stop, lost, reload: _, signals } = &mut self.put_back;
        if self.attention == Attention::All && !lost.is_empty() {
            return Err(Interruption::Lost(lost.remove(0)).into());
        }
        // A command that does not run yet is not started after a request to stop.
        let request = StopRequest::among(signals);
        if let Some(request) = stop.take().or(request) {
            return Err(Interruption::Stop(request).into());
        }
        match self.app.as_ref().filter(|app| app.is_ready()).and_then(|app| app.status) {
            Some(status) => Err(Interruption::AppEnded(status).into()),
            None => Ok(()),
        }
    }

    /// Sets which events interrupt a step from now on.
    pub fn set_attention(&mut self, attention: Attention) {
        self.attention = attention;
    }

    /// Reaps dead children, and returns whether no living ones are left.
    pub fn is_childless(&mut self) -> bool {
        let deaths = self.reap(running_time::now());
        if deaths.any {
            self.mountpoints.suspect(running_time::now());
        }
        !deaths.has_children
    }

    /// Sends a message to the emperor, if there is one. A full or closed link is no failure, because the
    /// emperor sees the end of this process anyway.
    pub fn send(&self, message: &FromVassal) {
        if let Some(link) = self.link() {
            let _ = protocol::send(link, &message.encode(), None);
        }
    }

    /// Tells the emperor how many instances there are to be, unless that is and was the usual.
    pub fn tell_replication(&self, old: Replication, new: Replication) {
        if [old, new] != [Replication::default(); 2] {
            self.send(&FromVassal::Replication(new));
        }
    }

    /// Notes that the app was started; with a job, it is a command. `helpers` are the processes that existed
    /// before.
    pub fn app_started(&mut self, app: RunningApp, job: Option<Job>, helpers: Vec<Pid>) {
        let is_again = self.job.is_some();
        (self.app, self.job, self.helper_pids) = (Some(app), job, helpers);
        for number in std::mem::take(&mut self.put_back.signals) {
            if is_again {
                // The signal was meant for the command before this one, which may have had a handler. The new
                // command has none yet.
                self.say_not_handed_on(number);
            } else {
                self.hand_on(number);
            }
        }
    }

    /// Notes that the app has executed its program. From now on it is listened to, and checked.
    pub fn app_runs(&mut self, plan: &ReadinessPlan) {
        self.check.begin(plan, self.link().is_some(), running_time::now());
        if let Some(app) = &mut self.app {
            app.set_started(self.check.decides());
        }
    }

    /// Notes that the app was asked to stop in order to be started anew, or for good.
    pub fn app_leaves(&mut self) {
        self.check.stop();
        if let Some(app) = &mut self.app {
            app.set_leaving();
        }
    }

    /// Notes that the app was told to read its own configuration again: it has to show anew that it is ready.
    pub fn app_begins_anew(&mut self) {
        self.check.begin_anew(running_time::now());
        if let Some(app) = &mut self.app {
            app.forget_announced();
        }
    }

    /// Ends the ready checks: what they would come to does not matter any more.
    pub fn stop_checks(&mut self) {
        self.check.stop();
    }

    /// When a ready check is to be started, for [`Self::check_started`].
    pub fn check_due(&self) -> Option<Instant> {
        self.check.due()
    }

    /// Notes that a ready check was started, or could not be.
    pub fn check_started(&mut self, check: Result<Check>) {
        self.check.started(check, running_time::now());
    }

    /// Why the app counts as broken by its ready checks, if it does.
    pub fn given_up(&self) -> Option<String> {
        self.check.given_up()
    }

    /// Tells the starter once that the command runs, if the starter asked for that. When a command is started
    /// again, the number may be that of another descriptor of this process.
    pub fn tell_ready(&mut self) {
        if let Some(number) = self.ready_fd.take() {
            notices::tell_ready(number);
        }
    }

    /// Logs what a start or an end waits for, and tells the emperor until [`Self::waits_no_more`].
    pub fn tell_wait(&self, what: String) {
        crate::log!("{what}");
        self.announce_wait(what);
    }

    /// It goes on.
    pub fn waits_no_more(&self) {
        self.announce_wait(String::new());
    }

    fn announce_wait(&self, what: String) {
        // An app that runs says itself what it does.
        if !self.living_app().is_some_and(RunningApp::is_started) {
            self.send(&FromVassal::Announced(Announcement::Status(what)));
        }
    }

    /// Forgets an app that has ended, before the next one is started.
    pub fn forget_app(&mut self) {
        self.app = None;
    }

    /// Watches these counters from now on.
    pub fn watch_cgroups(&mut self, cgroups: CgroupEvents) {
        self.cgroups = cgroups;
    }

    /// How many processes the kernel has killed since the last call because memory ran out.
    pub fn take_oom_kills(&mut self) -> u64 {
        self.cgroups.oom.take()
    }

    /// Checks these mountpoints from now on, and no longer the earlier ones.
    pub fn check_mountpoints(&mut self, mountpoints: Mountpoints) {
        self.mountpoints = mountpoints;
    }

    /// The app, while it is alive.
    pub fn living_app(&self) -> Option<&RunningApp> {
        self.app.as_ref().filter(|app| app.status.is_none())
    }

    /// Sends the app a request, if the app speaks uWSGI's protocol. Returns whether it was sent.
    pub fn ask_app(&self, request: Request) -> bool {
        self.living_app().is_some_and(|app| app.listener.ask(request))
    }

    /// Signals the app, if it is alive.
    pub fn signal_app(&self, number: i32) {
        if let Some(app) = self.living_app() {
            // The app is not reaped yet, so its pid is still its own.
            let _ = signal::kill(app.launched.pid.as_raw_pid(), number);
        }
    }

    /// Waits, and updates the facts: dead children, mounts, messages of the app.
    fn collect(&mut self, other: Option<BorrowedFd<'_>>, deadline: Option<Instant>) -> Wakeup {
        let now = running_time::now();
        let deadlines = [
            deadline,
            self.app.as_ref().and_then(RunningApp::due),
            self.mountpoints.deadline(now),
            self.check.deadline(),
            self.report_asked.map(|asked| asked + REPORT_TIME),
            self.cgroups.deadline(now),
            crate::log::deadline(now),
        ];
        let mut others = Vec::new();
        self.mountpoints.add_descriptors(&mut others);
        others.extend(other);
        if let Some(app) = &self.app {
            app.add_descriptors(&mut others);
        }
        let until = running_time::earliest(&deadlines);
        let heard = self.sources.wait(&others, self.cgroups.descriptors(), until);
        let Heard { stop, gracefully, reload, signals, child_changed, mounts_changed, .. } = heard;
        crate::log::flush();
        let now = running_time::now();
        let kills = heard.kills;
        let stop = stop.map(|who| StopRequest { gracefully, kills, ..StopRequest::now(who) });
        let mut wakeup = Wakeup { stop, reload, ..Wakeup::default() };
        let deaths = if child_changed { self.reap(now) } else { Deaths::default() };
        self.check.look(now);
        if heard.gives_up {
            self.check.give_up();
        }
        self.cgroups.look(self.living_app().is_some(), now);
        if mounts_changed || deaths.any {
            self.mountpoints.suspect(now);
        }
        if let Err(error) = self.mountpoints.judge(&mut wakeup.lost, now) {
            // The mounts may be all right. They are asked again at the next interval.
            crate::log!("mountpoint-check: {error}");
        }
        self.report_mountpoints(heard.asks_for_report, now);
        if let Some(job) = self.job.as_ref().filter(|_| child_changed) {
            job.look_for_stop();
        }
        for signal in signals {
            self.hear_signal(signal, &mut wakeup);
        }
        self.hear_app(&mut wakeup);
        wakeup
    }

    /// Reaps the children that have ended.
    fn reap(&mut self, now: Instant) -> Deaths {
        let (reaped, has_children) = reaper::drain();
        let mut any = false;
        for child in reaped {
            if self.mountpoints.prober_died(child.pid, now) || self.check.has_died(child, now) {
                continue;
            }
            any = true;
            // Before there is an app, every process was left behind by a hook.
            let is_helper = self.app.is_none() || self.helper_pids.contains(&child.pid);
            self.helper_pids.retain(|&pid| pid != child.pid);
            match (&mut self.app, &mut self.awaited) {
                (Some(app), _) if app.launched.pid == child.pid => {
                    app.status = Some(child.status);
                    if let Some(entry) = &self.entry {
                        notices::say_end(entry, &child);
                    }
                }
                (_, Some(awaited)) if awaited.pid == child.pid => awaited.status = Some(child.status),
                _ => {
                    self.mountpoints.child_died(child, is_helper, now);
                    if let Some(entry) = &self.entry {
                        notices::say_reaped(entry, &child);
                    }
                }
            }
        }
        Deaths { any, has_children }
    }

    /// Decides what to do about a signal. A running command gets every signal. For a vassal, some signals are
    /// requests.
    fn hear_signal(&mut self, signal: Signal, wakeup: &mut Wakeup) {
        let number = signal.number;
        // A SIGCHLD of the kernel has been dealt with. A SIGCHLD that a process has sent is for the command.
        let is_seen_to = number == libc::SIGCHLD && !(signal.is_sent && self.entry.is_some());
        if is_seen_to || signal.is_of_own_write() {
            return;
        }
        if self.entry.is_some() {
            // Ctrl-C comes from the kernel, and the command may take it without ending.
            if signal.is_sent && signal::asks_to_stop(number) {
                self.stop_asked.get_or_insert_with(running_time::now);
            }
            // While the app is being restarted, a request to stop concerns the vassal, and not the old app.
            match self.living_app() {
                Some(app) if !(app.is_leaving() && signal::asks_to_stop(number)) => self.hand_on(number),
                _ => wakeup.signals.push(number),
            }
            return;
        }
        match number {
            libc::SIGHUP => wakeup.reload = Some(NewFile::Same),
            number if signal::asks_to_stop(number) => {
                let name = signal_names::name(number);
                let who =
                    if signal.sender == 0 { name } else { format!("{name} from pid {}", signal.sender) };
                wakeup.stop.get_or_insert(StopRequest::now(who));
            }
            number => self.signal_app(number),
        }
    }

    /// Hands a signal on to the command.
    fn hand_on(&mut self, number: i32) {
        let (Some(entry), Some(job)) = (&self.entry, &mut self.job) else { return };
        let name = || signal_names::name(number);
        match job.forward(number) {
            Ok(0) => self.say_not_handed_on(number),
            Ok(rewritten) => {
                let event = if rewritten == number { Event::HandedOn } else { Event::Rewritten };
                let own = format_args!("{}: {rewritten} to the command", name());
                let facts = Facts { signal: number, sent: rewritten, ..Facts::default() };
                notices::tell(entry, EVERYTHING, event, facts, own);
            }
            Err(Errno::SRCH) => {
                notices::say(entry, EVERYTHING, format_args!("{}: the command has just ended", name()));
            }
            Err(errno) => notices::warn_of::<()>(entry, Err(errno).context("hand on", name())),
        }
    }

    fn say_not_handed_on(&self, number: i32) {
        if let Some(entry) = &self.entry {
            let name = signal_names::name(number);
            let event = if entry.rewritten(number) == 0 { Event::Ignored } else { Event::Dropped };
            let own = format_args!("{name}: not handed on");
            notices::tell(entry, EVERYTHING, event, Facts { signal: number, ..Facts::default() }, own);
        }
    }

    /// Passes on the messages of the app, and what its ready check says in its place.
    fn hear_app(&mut self, wakeup: &mut Wakeup) {
        let Some(app) = &mut self.app else { return };
        let news = app.hear();
        if news.contains(&Announcement::Leave) && self.link().is_none() {
            // Without an emperor nobody decides about the request, and uWSGI waits for the decision.
            wakeup.stop.get_or_insert(StopRequest::now("the app itself".to_owned()));
        }
        if news.contains(&Announcement::Reloading) {
            self.check.begin_anew(running_time::now());
        }
        if let Some(why) = self.check.take_reason() {
            self.send(&FromVassal::NotReady(why));
        }
        if let Some(verdict) = self.check.take_news()
            && let Some(app) = self.app.as_mut().filter(|app| app.status.is_none())
        {
            if verdict == Verdict::Ready {
                app.become_ready();
            }
            self.send(&match verdict {
                Verdict::GivenUp(_) => FromVassal::Unready,
                _ => FromVassal::Announced(Announcement::Ready),
            });
        }
        for announcement in news {
            self.send(&FromVassal::Announced(announcement));
        }
    }

    /// Reports the mountpoints to the emperor: changes at once; and all, when the emperor asks, as soon as
    /// they have answered or `REPORT_TIME` is over.
    fn report_mountpoints(&mut self, is_asked: bool, now: Instant) {
        if self.link().is_none() {
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
}
