//! The emperor's main loop: waits for a signal, a change, a vassal's word or the nearest deadline.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::backoff::Backoff;
use super::commands::Commands;
use super::directories::Directories;
use super::roster::Roster;
use super::scan::{Change, vassal_name};
use super::spawn::{Origin, Spawner};
use super::vassal::Event;
use crate::config::plan::EmperorPlan;
use crate::error::{Context, Error, Result};
use crate::log;
use crate::log::Elapsed;
use crate::sys::signal::{self, Inherited, Signal, SignalFd};

/// So many changed files are acted on before signals and vassals get their turn again.
const CHANGES_PER_TURN: usize = 32;

/// Runs an emperor until a signal ends it; `inherited` is what [`signal::block_all`] returned.
///
/// # Errors
/// When it cannot begin (vassal-init missing, no descriptors), or cannot wait any more. Its vassals see the end of their
/// links and end too.
pub fn run(plan: &EmperorPlan, inherited: Inherited) -> Result<()> {
    // Whatever our starter left open is no business of the vassals.
    crate::sys::fd::cloexec_from(3).context("mark as close-on-exec", "inherited descriptors")?;
    let signals = SignalFd::new().context("create", "signalfd")?;
    let origin = Rc::new(Origin::new(inherited)?);
    let spawner = Spawner::new(plan, Rc::clone(&origin))?;
    let commands = Commands::new(plan.as_emperor.clone(), origin);
    let roster = Roster::new(spawner, commands, Backoff::new(plan.throttle, plan.max_throttle))?;
    let directories = Directories::new(&plan.directories, plan.scan_interval)?;
    let mut emperor = Emperor { signals, directories, roster, changes: VecDeque::new(), stopping: None };
    while emperor.goes_on() {
        emperor.turn()?;
    }
    Ok(())
}

struct Emperor {
    signals: SignalFd,
    directories: Directories,
    roster: Roster,
    /// Found by a scan and not acted on yet.
    changes: VecDeque<(Rc<Path>, Change)>,
    /// Since when everything is being stopped.
    stopping: Option<Instant>,
}

impl Emperor {
    fn goes_on(&self) -> bool {
        match self.stopping {
            Some(since) if self.roster.is_empty() => {
                log!("all vassals stopped in {}", Elapsed(since.elapsed()));
                false
            }
            _ => true,
        }
    }

    /// Waits once, and does everything that can be done without waiting.
    fn turn(&mut self) -> Result<()> {
        let mut ready = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.directories.watch, PollFlags::IN),
            PollFd::new(&self.roster, PollFlags::IN),
        ];
        match poll(&mut ready, self.timeout(Instant::now()).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("wait for", "events", errno)),
        }
        let [signals, changes, links] = ready.map(|fd| !fd.revents().is_empty());
        let now = Instant::now();
        if signals {
            self.take_signals(now);
        }
        if links {
            self.roster.listen(now);
        }
        self.roster.time(now);
        if changes && let Err(error) = self.directories.watch.read(now) {
            log!("{error}");
        }
        if self.scan_at(now).is_some_and(|due| due <= now) {
            self.changes.extend(self.directories.scan(now));
        }
        for _ in 0..CHANGES_PER_TURN {
            let Some((path, change)) = self.changes.pop_front() else { break };
            self.act_on(&path, change, now);
        }
        Ok(())
    }

    /// When to scan; never while stopping, and not before what the last scan found is done.
    fn scan_at(&self, now: Instant) -> Option<Instant> {
        (self.stopping.is_none() && self.changes.is_empty()).then(|| self.directories.due(now))
    }

    fn timeout(&self, now: Instant) -> Option<Timespec> {
        let nearest = match self.changes.is_empty() {
            true => self.scan_at(now).into_iter().chain(self.roster.deadline()).min()?,
            false => now,
        };
        Timespec::try_from(nearest.saturating_duration_since(now)).ok()
    }

    fn act_on(&mut self, path: &Rc<Path>, change: Change, now: Instant) {
        match change {
            Change::Appeared => self.roster.start(path, "file is back", now),
            Change::Changed => self.roster.start(path, "file changed", now),
            Change::Removed => self.roster.stop(path, "file removed", now),
            Change::Refused(why) => {
                let name = vassal_name(path.file_name().unwrap_or_default());
                log!("{}: {} ignored: {why}", name.display(), path.display());
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        while let Some(signal) = self.signals.next() {
            match signal.number {
                libc::SIGCHLD => self.roster.reap(now),
                libc::SIGINT | libc::SIGTERM | libc::SIGQUIT => self.stop(signal, now),
                libc::SIGUSR1 => self.roster.status(now),
                libc::SIGHUP if self.stopping.is_none() => {
                    log!("{}: reloading {} vassals", sent(signal), self.roster.len());
                    self.roster.reload_all(now);
                }
                libc::SIGURG => {
                    log!("{}: clearing all backoffs", sent(signal));
                    self.roster.apply_to_all(Event::ClearBackoff, now);
                }
                _ => {}
            }
        }
    }

    /// Stops everything at the same time; asked again, it kills.
    fn stop(&mut self, signal: Signal, now: Instant) {
        let (event, how) = match self.stopping {
            None => (Event::Stop, "stopping"),
            Some(_) => (Event::Kill, "asked again, killing"),
        };
        log!("{}: {how} {} vassals", sent(signal), self.roster.len());
        self.stopping.get_or_insert(now);
        self.roster.stop_commands();
        self.changes.clear();
        self.roster.apply_to_all(event, now);
    }
}

/// `SIGTERM from pid 42`.
fn sent(signal: Signal) -> String {
    let name = signal::name(signal.number);
    if signal.sender == 0 { name } else { format!("{name} from pid {}", signal.sender) }
}
