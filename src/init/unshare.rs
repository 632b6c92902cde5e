//! `--unshare` from a shell: a child lives the vassal's life in new namespaces. The process that was started
//! waits outside, hands signals on and ends with the child's status.
//!
//! A child is needed because a pid namespace takes effect for children only (unshare(2), pid_namespaces(7)).

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open};

use crate::config::plan::MapsPlan;
use crate::error::{Context, Error, Result};
use crate::init::child::foreground::Terminal;
use crate::log;
use crate::outside;
use crate::protocol::{EXIT_SETUP, WaitStatus};
use crate::sys::clone::{self, Side, clone3};
use crate::sys::signal::{self, SignalFd};
use crate::sys::{fd, terminal};
use crate::user_namespace::{Gate, Maps, explain};

/// Runs `life` with `given` in new namespaces (`CLONE_NEW*` bits), and returns its exit status. A user
/// namespace among them gets the IDs of `maps`.
///
/// # Errors
/// The namespaces cannot be made (EPERM without CAP_SYS_ADMIN), or the IDs cannot be given: then `given` is
/// returned as well. Or the child cannot be waited for.
pub fn run_in<T>(
    namespaces: u64,
    maps: &MapsPlan,
    given: T,
    life: impl FnOnce(T) -> i32,
) -> Result<i32, (Error, Option<T>)> {
    let parent = rustix::process::getpid();
    let is_foreground = Terminal::open().has_in_foreground(terminal::own_group());
    let outer = pidfd_open(parent, PidfdFlags::empty()).ok();
    let maps = (namespaces & libc::CLONE_NEWUSER as u64 != 0).then(|| Maps::of(maps)).transpose();
    let made = maps.and_then(|maps| {
        let gate = maps.is_some().then(Gate::new).transpose()?;
        let side = clone3(namespaces).map_err(|errno| {
            Error::os("create", "the namespaces", errno).with_clue(explain(errno, namespaces))
        })?;
        if let (Side::Parent(child), Some(maps)) = (&side, maps) {
            let given = maps.give(child.pid);
            if given.is_err() {
                // The caller says why. The child would say it once more.
                let _ = signal::kill(child.pid.as_raw_pid(), libc::SIGKILL);
            }
            given.map(|()| (side, gate))
        } else {
            Ok((side, gate))
        }
    });
    let (side, gate) = match made {
        Ok(made) => made,
        Err(error) => return Err((error, Some(given))),
    };
    match side {
        Side::Parent(child) => {
            // This closes the outer process's copy of the emperor's link. The emperor must see the end of the
            // vassal, not of this process.
            drop((given, outer));
            let pid = child.pid;
            drop(child);
            // The command has its own copies of the descriptors that the starter opened. A directory that
            // stayed open here would keep its filesystem from being unmounted.
            let outside = match gate.map(Gate::outside) {
                Some(outside) => {
                    Gate::open(&outside, &Ok(()));
                    fd::keep_only(outside).ok()
                }
                None => {
                    fd::close_inherited();
                    None
                }
            };
            let _ = rustix::process::chdir(c"/");
            wait(pid, is_foreground, outside).map_err(|error| (error, None))
        }
        Side::Child => {
            // The vassal is killed when this process ends. It never changes its own identity, which would
            // clear the signal.
            match gate.map(Gate::wait).transpose() {
                Ok(outside) => outside::ask_over(outside),
                Err(error) => {
                    log!("{error}");
                    clone::exit(EXIT_SETUP);
                }
            }
            let may_live = clone::die_with(parent).is_ok() && lives(outer);
            clone::exit(if may_live { life(given) } else { EXIT_SETUP })
        }
    }
}

/// Whether a process has not ended. In a pid namespace of its own, a child cannot ask for its parent.
fn lives(process: Option<OwnedFd>) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    process.is_none_or(|handle| poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&at_once)) == Ok(0))
}

/// Waits for the end of the child, and hands every signal on to it; meanwhile answers what is asked over
/// `outside`. The child is in another pid namespace, and so cannot take the terminal back that its command
/// had.
fn wait(child: Pid, is_foreground: bool, mut outside: Option<OwnedFd>) -> Result<i32> {
    let signals = SignalFd::new().context("create", "the signal descriptor")?;
    let inner = child.as_raw_pid();
    let mut interrupt = None;
    loop {
        while let Some(signal) = signals.next() {
            // The kernel may tell the sender's pid as in the sender's namespace: 1. The PID 1 of this
            // namespace, such as systemd, is 1 as well.
            let may_be_from_inside = [1, inner as u32].contains(&signal.sender);
            if may_be_from_inside && signal::INTERRUPTS.contains(&signal.number) {
                // The terminal may have ended the job, and with it the inner PID 1, which cannot end by a
                // signal. Its status tells. If it is not ending, it has not heard of the signal.
                interrupt = Some(signal.number);
            }
            if may_be_from_inside && signal::STOPS.contains(&signal.number) {
                // The inner PID 1 cannot be stopped with its job. The shell waits for this process, which
                // stops instead.
                let _ = signal::kill(rustix::process::getpid().as_raw_pid(), signal.number);
                signal::let_through(signal.number);
            } else if signal.number != libc::SIGCHLD || signal.is_sent {
                // A SIGCHLD of the kernel is for this process. A SIGCHLD that a process has sent is for the
                // command. ESRCH: the child has just ended, as is noticed below.
                let _ = signal::kill(inner, signal.number);
            }
        }
        let ended = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
        if let Some((_, status)) = ended.context("wait for", child)? {
            let status = WaitStatus::of(status).map(WaitStatus::code);
            if is_foreground {
                Terminal::open().take_from_the_dead();
            }
            if let Some(number) = interrupt.filter(|number| status == Some(128 + number)) {
                signal::end_by(number);
            }
            return status.ok_or_else(|| Error::new("wait for", child, "it ended in an unknown way"));
        }
        // SIGCHLD tells of the child's end. ENOMEM is a wake-up without news.
        let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
        fds.extend(outside.as_ref().map(|outside| PollFd::new(outside, PollFlags::IN)));
        let _ = poll(&mut fds, None);
        outside.take_if(|outside| !outside::answer(outside, &mut None));
    }
}
