//! The ready check: the child that runs it, and what its ends come to.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use rustix::process::Pid;

use crate::config::plan::{Located, Location, ReadinessPlan, ReadyCheck};
use crate::error::Error;
use crate::init::child::launch::{Launched, Progress};
use crate::init::child::reaper::Reaped;
use crate::init::watch::readiness::{Readiness, Verdict};
use crate::log::Elapsed;
use crate::protocol::{Received, WaitStatus, receive};
use crate::running_time;
use crate::sys::signal;

/// An app that is not ready after this time is told of in the log, with the reason.
const SLOW: Duration = Duration::from_secs(5);

/// The ready check of the app.
#[derive(Default)]
pub struct Checking {
    /// The check of the app that runs; `None` where there is nothing to check.
    of_app: Option<OfApp>,
    /// The child that runs a check. One that was killed stays here until it has ended.
    child: Option<Check>,
}

/// A child that runs a check.
pub struct Check {
    /// Its process, which leads a process group.
    pub launched: Launched,
    /// The link to who [encloses](crate::init::child::enclosed) a command.
    pub link: Option<OwnedFd>,
}

/// What is known about the app that runs.
struct OfApp {
    readiness: Readiness,
    /// The time that a check has.
    timeout: Duration,
    /// The key and the beginning of the command behind it, for messages.
    what: String,
    /// Where the key is.
    at: Location,
    since: Instant,
    /// Whether it was told that the app is slow.
    is_told: bool,
    /// Whether the app has become ready, is ready again, or is no longer, since the last call of `take_news`.
    news: Option<Verdict>,
    /// Whether the emperor decides when the app is given up.
    takes_turns: bool,
    /// Why it is not ready, or is given up, or will be.
    why: String,
    /// Whether that is another reason than the emperor knows.
    is_new: bool,
    is_given_up: bool,
}

impl Checking {
    /// The app runs now: it is checked as the plan says.
    pub fn begin(&mut self, plan: &ReadinessPlan, has_emperor: bool, now: Instant) {
        self.of_app = None;
        let Some(Located { value, key, at }) = &plan.check else { return };
        let (command, gap) = match value {
            ReadyCheck::Exec(command) => (command.to_str().unwrap_or("?"), ": "),
            // What fails names the address.
            ReadyCheck::Connect(_) => ("", ""),
            ReadyCheck::Notify => return,
        };
        self.of_app = Some(OfApp {
            readiness: Readiness::new(plan, self.child.is_some(), now),
            timeout: plan.timeout,
            what: format!("{key}: {command:.60}{gap}"),
            at: at.clone(),
            since: now,
            is_told: false,
            news: None,
            takes_turns: plan.takes_turns && has_emperor,
            why: String::new(),
            is_new: false,
            is_given_up: false,
        });
    }

    /// Whether checks decide if the app is ready.
    pub fn decides(&self) -> bool {
        self.of_app.is_some()
    }

    /// No check is run any more. One that runs is killed.
    pub fn stop(&mut self) {
        self.of_app = None;
        self.kill();
    }

    /// The app is to show anew that it is ready.
    pub fn begin_anew(&mut self, now: Instant) {
        if let Some(app) = &mut self.of_app {
            (app.since, app.is_told, app.news) = (now, false, None);
            app.why.clear();
            app.readiness.begin_anew(now);
            self.kill();
        }
    }

    /// When the next check is to be started.
    pub fn due(&self) -> Option<Instant> {
        self.of_app.as_ref().and_then(|app| app.readiness.due())
    }

    /// A check was started, or could not be.
    pub fn started(&mut self, check: Result<Check, Error>, now: Instant) {
        let Some(app) = &mut self.of_app else { return };
        app.readiness.started(now);
        match check {
            Ok(check) => self.child = Some(check),
            Err(error) => app.ended(Err(error.to_string()), now),
        }
    }

    /// When [`Self::look`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.of_app.as_ref().and_then(|app| app.readiness.deadline())
    }

    /// Kills a check whose time is over.
    pub fn look(&mut self, now: Instant) {
        let Some(app) = &mut self.of_app else { return };
        if app.readiness.is_overdue(running_time::was_late(), now) {
            let verdict = app.readiness.killed(now);
            app.note(verdict, &format!("not done after {}", Elapsed(app.timeout)), now);
            self.kill();
        }
    }

    /// Takes in the end of a child; returns whether it was that of a check.
    pub fn has_died(&mut self, child: Reaped, now: Instant) -> bool {
        let Some(check) = self.child.take_if(|check| check.launched.pid == child.pid) else { return false };
        if let Some(app) = &mut self.of_app {
            app.ended(check.result(child.status), now);
        }
        true
    }

    /// What was found out since the last call that the emperor is to know.
    pub fn take_news(&mut self) -> Option<Verdict> {
        self.of_app.as_mut()?.news.take()
    }

    /// Why the app is not ready, if the emperor does not know that yet.
    pub fn take_reason(&mut self) -> Option<String> {
        let app = self.of_app.as_mut()?;
        std::mem::take(&mut app.is_new).then(|| app.why.clone())
    }

    /// The turn of the app has come, which fails its check.
    pub fn give_up(&mut self) {
        if let Some(app) = &mut self.of_app {
            app.is_given_up = true;
        }
    }

    /// Why the app is given up, if it is.
    pub fn given_up(&self) -> Option<String> {
        self.of_app.as_ref().filter(|app| app.is_given_up).map(|app| app.why.clone())
    }

    /// Kills the child, and everything that it has started.
    fn kill(&self) {
        if let Some(Check { link: Some(link), .. }) = &self.child {
            // A child that was created just now has a copy of this end.
            let _ = shutdown(link, Shutdown::Both);
        } else if let Some(check) = &self.child {
            // Not reaped yet, so both numbers are still its own. A child that was created just now may not
            // lead the group yet.
            let pid: Pid = check.launched.pid;
            let _ = signal::kill(pid.as_raw_pid(), libc::SIGKILL);
            let _ = signal::kill(-pid.as_raw_pid(), libc::SIGKILL);
        }
    }
}

impl OfApp {
    fn ended(&mut self, result: Result<(), String>, now: Instant) {
        if let Some(verdict) = self.readiness.ended(result.is_ok(), now) {
            self.note(verdict, result.err().as_deref().unwrap_or_default(), now);
        }
    }

    fn note(&mut self, verdict: Verdict, why: &str, now: Instant) {
        let what = &self.what;
        match verdict {
            Verdict::Ready => self.news = Some(verdict),
            Verdict::NotYet => {
                let waited = now.saturating_duration_since(self.since);
                if waited >= SLOW && !std::mem::replace(&mut self.is_told, true) {
                    crate::log!("{what}{why}; the app is not ready {} after its start", Elapsed(waited));
                }
                self.fails(why, "");
            }
            Verdict::Recovered(failures) => {
                crate::log!("{what}good again, after {failures} in a row failed");
                self.news = Some(verdict).filter(|_| self.takes_turns);
            }
            Verdict::Failing(1) => crate::log!("{what}{why}"),
            Verdict::GivenUp(failures) => {
                let in_a_row =
                    if failures > 1 { format!(", {failures} failures in a row") } else { String::new() };
                self.fails(why, &in_a_row);
                self.is_given_up = !self.takes_turns;
                if self.takes_turns {
                    crate::log!("{}: waits for its turn to be replaced", self.why);
                    self.news = Some(verdict);
                }
            }
            Verdict::StillReady | Verdict::Failing(_) => {}
        }
    }

    fn fails(&mut self, why: &str, in_a_row: &str) {
        let why = format!("{}{why}{in_a_row} ({})", self.what, self.at);
        self.is_new |= self.why != why;
        self.why = why;
    }
}

impl Check {
    /// What the check has come to.
    fn result(&self, status: WaitStatus) -> Result<(), String> {
        match (self.launched.progress(), status) {
            (Progress::Failed(failure), _) => Err(failure.error.to_string()),
            (_, WaitStatus::Exited(0)) => Ok(()),
            (_, status) => Err(match self.last_line() {
                Some(line) => format!("{status}: {line}"),
                None => status.to_string(),
            }),
        }
    }

    /// The last line that it has written, or the end of that.
    fn last_line(&self) -> Option<String> {
        let Ok(Received::Packet(text, _)) = receive(self.link.as_ref()?) else { return None };
        let line = text.trim_ascii().rsplit(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        Some(String::from_utf8_lossy(line).into_owned()).filter(|line| !line.is_empty())
    }
}
