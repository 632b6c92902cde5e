//! The emperor's main loop: waits for a signal, a change, a message of a vassal or the nearest deadline.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::emperor::Emperor;
use super::log_file;
use super::own_names;
use super::requests;
use super::upgrade_flow;
use crate::emperor::core::text::Count;
use crate::emperor::discovery::directories::FileChange;
use crate::emperor::discovery::queue::Found;
use crate::emperor::discovery::scan::Change;
use crate::emperor::discovery::scout::Finding;
use crate::error::{Error, Result};
use crate::log;
use crate::log::{Date, Elapsed};
use crate::log_of;
use crate::running_time;
use crate::signal_names;
use crate::sys::signal::{self, SAME_REQUEST, Signal};

/// How many changed files are handled before signals and vassals get their turn again.
const CHANGES_PER_TURN: usize = 32;

/// The pause between two turns if poll(2) fails. Each turn then looks at everything.
const BLIND_REST: Duration = Duration::from_millis(100);

/// The message about an emperor that could not use its new configuration.
const OLD_CONFIGURATION: &str = "the configuration is that of before the upgrade";

/// What has become ready while the loop waited.
struct Ready {
    signals: bool,
    changes: bool,
    links: bool,
    clients: bool,
}

/// Runs until a signal ends it; returns the exit status.
///
/// # Errors
/// A vassal could not even be killed.
pub fn run(mut emperor: Emperor) -> Result<i32> {
    while goes_on(&emperor) {
        turn(&mut emperor);
    }
    emperor.supervisor.finish();
    own_names::remove(&mut emperor);
    emperor.discovery.finish();
    std::mem::forget((emperor.server, emperor.pid_file));
    match emperor.supervisor.registry().given_up() {
        0 => {
            log_file::finish(emperor.log_relay);
            Ok(0)
        }
        stuck => Err(Error::new("stop", Count(stuck, "vassal"), "killed, but stuck in the kernel")),
    }
}

fn goes_on(emperor: &Emperor) -> bool {
    match emperor.stopping {
        Some(since) if emperor.supervisor.registry().is_empty() => {
            if emperor.supervisor.registry().given_up() == 0 {
                log!("all vassals stopped in {}", Elapsed(running_time::since(since)));
            }
            false
        }
        _ => true,
    }
}

/// Waits once, and then does everything that can be done without waiting.
fn turn(emperor: &mut Emperor) {
    let ready = wait(emperor);
    let now = running_time::now();
    emperor.supervisor.note_date(Date::now().0);
    if ready.signals {
        take_signals(emperor, now);
    }
    if ready.links {
        emperor.supervisor.listen_to_vassals(now);
    }
    emperor.supervisor.time(now);
    if ready.clients {
        requests::answer(emperor, now);
    }
    emperor.server.time(now);
    renew(emperor, now);
    emperor.notifier.time(running_time::was_late(), now);
    log::flush();
    if ready.changes {
        emperor.discovery.read_events(now);
    }
    discover(emperor, now);
    emperor.supervisor.free_killed(now);
    emperor.supervisor.remove_files();
    emperor.limits.warn(&emperor.supervisor);
    if emperor.discovery.is_idle() {
        emperor.notifier.ready(now, || emperor.supervisor.registry().is_reloading());
    }
    upgrade_flow::go_on(emperor, now);
    if emperor.notifier.wants_status(now) {
        let summary = emperor.supervisor.registry().summary();
        let status = match emperor.upgrades.refused() {
            Some(why) => format!("{summary}; {OLD_CONFIGURATION}: {why}"),
            None => summary,
        };
        emperor.notifier.status(status, now);
    }
}

/// Waits for the next event or deadline.
fn wait(emperor: &mut Emperor) -> Ready {
    let now = running_time::now();
    let until = deadline(emperor, now);
    let mut ready = [
        PollFd::from_borrowed_fd(emperor.signals.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(emperor.discovery.descriptor(), PollFlags::IN),
        PollFd::new(&emperor.supervisor, PollFlags::IN),
        PollFd::new(&emperor.server, PollFlags::IN),
    ];
    let was_blind = emperor.is_blind;
    emperor.is_blind = match running_time::poll(&mut ready, until) {
        Ok(_) | Err(Errno::INTR) => false,
        // ENOMEM, or a limit of open files that was lowered. Nothing in a turn depends on an event.
        Err(errno) => {
            if !was_blind {
                let error = Error::os("wait for", "events", errno);
                log!("{error}: looking for them every {}", Elapsed(BLIND_REST));
            }
            std::thread::sleep(BLIND_REST);
            true
        }
    };
    let [signals, changes, links, clients] = ready.map(|fd| emperor.is_blind || !fd.revents().is_empty());
    Ready { signals, changes, links, clients }
}

fn deadline(emperor: &Emperor, now: Instant) -> Option<Instant> {
    running_time::earliest(&[
        emperor.discovery.deadline(now),
        emperor.supervisor.deadline(),
        emperor.server.deadline(),
        emperor.notifier.deadline(),
        emperor.upgrades.deadline(now),
        emperor.renewal.deadline(),
        log::deadline(now),
    ])
}

/// Makes names anew that others have removed.
fn renew(emperor: &mut Emperor, now: Instant) {
    own_names::renew(emperor, now);
    if emperor.renewal.is_due(now) {
        own_names::look(emperor, now);
        renew_locks(emperor);
        emperor.renewal.next = emperor.supervisor.renew_sockets(emperor.renewal.next, now);
    }
}

/// Takes the locks of new directories. Vassals that another emperor runs are not started here.
fn renew_locks(emperor: &mut Emperor) {
    emperor.locks.renew(&mut emperor.server);
    emperor.supervisor.leave_to_others(emperor.locks.of_others());
}

/// Handles changes in the directories, a part at a time.
fn discover(emperor: &mut Emperor, now: Instant) {
    emperor.discovery.time(now);
    for _ in 0..CHANGES_PER_TURN {
        match emperor.discovery.take(now) {
            Some(Found::Directory(directory, id)) => {
                emperor.locks.found(&directory, id);
                renew_locks(emperor);
            }
            Some(Found::Changed(finding)) => {
                if let Some(finding) = upgrade_flow::take_in(emperor, finding) {
                    act_on(emperor, finding, now);
                }
            }
            Some(Found::Complete { .. }) => {
                for finding in upgrade_flow::arrived(emperor, now) {
                    act_on(emperor, finding, now);
                }
                upgrade_flow::claim(emperor, now);
            }
            Some(Found::Forgotten(files)) => {
                emperor.supervisor.unclaim(&files);
                emperor.upgrades.unclaimed_since = Some(now);
            }
            None => return,
        }
    }
}

fn act_on(emperor: &mut Emperor, finding: Finding, now: Instant) {
    let Finding { change: FileChange { file: path, change }, version, owner, .. } = finding;
    let path = &path;
    match change {
        Change::Appeared => emperor.supervisor.found(path, version, owner, now),
        Change::Renamed { before } => emperor.supervisor.renamed(path, &before, version, owner, now),
        Change::Changed => emperor.supervisor.changed(path, version, now),
        Change::Removed => emperor.supervisor.removed(path, "file removed", now),
        Change::Refused(why) => {
            log_of!(path, "{} ignored: {why}", path.display());
        }
        Change::Gone => {}
    }
}

fn take_signals(emperor: &mut Emperor, now: Instant) {
    while let Some(signal) = emperor.signals.next() {
        match signal.number {
            // The request to stop may have come just before, in the same turn.
            libc::SIGCHLD => emperor.supervisor.child_ended(signal.sender, running_time::now()),
            libc::SIGINT | libc::SIGTERM | libc::SIGQUIT => stop(emperor, signal, now),
            libc::SIGABRT => abort(signal),
            libc::SIGUSR1 => {
                emperor.supervisor.log_statuses(now);
                if let Some(why) = emperor.upgrades.refused() {
                    log!("{OLD_CONFIGURATION}: {why}");
                }
            }
            libc::SIGUSR2 if emperor.stopping.is_none() => {
                emperor.renewal.hurry(now);
                if let Err(why) = upgrade_flow::begin(emperor, None, now) {
                    log!("{}: {why}", sent(signal));
                }
            }
            libc::SIGHUP if emperor.stopping.is_none() => {
                log!("{}: reloading {}", sent(signal), emperor.supervisor.registry().count());
                emperor.renewal.hurry(now);
                emperor.supervisor.reload_all(now);
                emperor.notifier.reloading(now);
            }
            libc::SIGURG => {
                log!("{}: clearing all backoffs", sent(signal));
                emperor.supervisor.clear_backoffs(now);
            }
            _ => {}
        }
    }
}

/// Ends at once. The watchdog of a service manager sends this signal if it takes the emperor for hung.
fn abort(signal: Signal) -> ! {
    log!("{}: ending at once", sent(signal));
    log::finish();
    signal::abort()
}

/// Stops all vassals at the same time. At a second request, kills them.
fn stop(emperor: &mut Emperor, signal: Signal, now: Instant) {
    let (kill, how) = match request(emperor.stopping, now) {
        Request::Stop => (false, "stopping"),
        Request::Same => return,
        Request::Kill => (true, "asked again, killing"),
    };
    log!("{}: {how} {}", sent(signal), emperor.supervisor.registry().count());
    emperor.stopping.get_or_insert(now);
    emperor.discovery.stop();
    emperor.renewal.stop();
    emperor.server.stopping();
    upgrade_flow::stop(emperor, now);
    emperor.notifier.stopping();
    emperor.supervisor.end(kill, now);
}

/// The meaning of a signal to stop.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Stop,
    /// A repetition of the one before.
    Same,
    Kill,
}

/// The meaning of a signal to stop; `first` is when the first one came.
fn request(first: Option<Instant>, now: Instant) -> Request {
    match first {
        None => Request::Stop,
        Some(first) if now.saturating_duration_since(first) < SAME_REQUEST => Request::Same,
        Some(_) => Request::Kill,
    }
}

/// The signal and its sender, such as `SIGTERM from pid 42`.
fn sent(signal: Signal) -> String {
    let name = signal_names::name(signal.number);
    if signal.sender == 0 { name } else { format!("{name} from pid {}", signal.sender) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_signal_kills_only_when_it_comes_later() {
        let now = Instant::now();
        assert_eq!(request(None, now), Request::Stop);
        assert_eq!(request(Some(now), now), Request::Same);
        assert_eq!(request(Some(now), now + Duration::from_millis(999)), Request::Same);
        assert_eq!(request(Some(now), now + SAME_REQUEST), Request::Kill);
    }
}
