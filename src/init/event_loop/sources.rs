//! The one place where PID 1 waits.
//!
//! Whatever PID 1 waits for (a hook, a mount, the app), it meanwhile hears signals, dead children, the
//! emperor and changes of the mount table. Nothing else here blocks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::error::{Context, Result};
use crate::init::watch::procfs::Procfs;
use crate::protocol::{self, Received, ToVassal};
use crate::running_time;
use crate::sys::signal::{self, Signal, SignalFd};

/// How long PID 1 ignores further changes of the mount table after one change, so that a storm of mounts
/// elsewhere in the namespace does not keep it busy.
const MOUNTS_QUIET: Duration = Duration::from_millis(20);

/// The longest wait if no system call can wait for signals.
const BLIND: Duration = Duration::from_millis(50);

/// The sources of events.
#[derive(Debug)]
pub struct Sources {
    /// Opened when PID 1 has to wait for something besides signals. The init of a command that needs no
    /// preparation opens no descriptor.
    signals: Option<SignalFd>,
    /// Whether it was logged that no system call can wait for signals.
    is_deaf: bool,
    link: Option<OwnedFd>,
    /// Readable from [`ToVassal::TakesOver`] on (eventfd(2)), for children that wait for it.
    taken_over: Option<OwnedFd>,
    mounts: Option<OwnedFd>,
    mounts_quiet_until: Option<Instant>,
}

/// Everything that was found at one wake-up.
#[derive(Debug, Default)]
pub struct Heard {
    /// Who asked the vassal to stop.
    pub stop: Option<String>,
    /// Whether the app is to answer first what it has accepted.
    pub gracefully: bool,
    /// Whether it is to be killed at once.
    pub kills: bool,
    /// A new file from the emperor.
    pub reload: Option<NewFile>,
    /// Signals, in the order in which they were taken from the queue.
    pub signals: Vec<Signal>,
    /// Whether a child may have ended, or was stopped.
    pub child_changed: bool,
    /// Whether something was mounted or unmounted in our mount namespace.
    pub mounts_changed: bool,
    /// Whether the emperor asks how the checked mountpoints are.
    pub asks_for_report: bool,
    /// Whether the app is to be given up now.
    pub gives_up: bool,
}

/// The file that a reload reads.
#[derive(Debug)]
pub enum NewFile {
    /// The file that the emperor sent.
    Sent(OwnedFd),
    /// The same file as before (SIGHUP).
    Same,
}

impl Sources {
    /// Needs all signals blocked; `link` leads to the emperor.
    pub fn new(link: Option<OwnedFd>) -> Self {
        let (signals, taken_over, mounts) = (None, None, None);
        Self { signals, is_deaf: false, link, taken_over, mounts, mounts_quiet_until: None }
    }

    /// A descriptor that is readable once the instance has taken over.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM (eventfd(2)).
    pub fn taken_over(&mut self) -> Result<&OwnedFd> {
        let fd = match self.taken_over.take() {
            Some(fd) => fd,
            None => eventfd(0, EventfdFlags::CLOEXEC).context("create", "a descriptor for events")?,
        };
        Ok(self.taken_over.insert(fd))
    }

    /// Also waits for changes of the mount table from now on, as seen from the present root.
    ///
    /// # Errors
    /// There is no procfs to watch.
    pub fn watch_mounts(&mut self, procfs: &Procfs) -> Result<()> {
        self.mounts = Some(procfs.mountinfo()?);
        Ok(())
    }

    /// The link to the emperor, while there is one.
    pub fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// Waits until an event happens, one of `others` becomes readable, one of `changing` has changed
    /// (`POLLPRI`), or the deadline has come.
    pub fn wait<'a>(
        &mut self,
        others: &[BorrowedFd<'a>],
        changing: impl IntoIterator<Item = BorrowedFd<'a>>,
        deadline: Option<Instant>,
    ) -> Heard {
        let now = running_time::now();
        let quiet_until = self.mounts_quiet_until.filter(|&until| until > now);
        let mounts = self.mounts.as_ref().filter(|_| quiet_until.is_none());
        let until = running_time::earliest(&[deadline, self.mounts.as_ref().and(quiet_until)]);

        let mut more: Vec<_> = others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        more.extend(changing.into_iter().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)));
        let mut heard = Heard::default();
        if self.signals.is_none() {
            if more.is_empty() && self.link.is_none() && mounts.is_none() {
                // After an error (a filter refuses the call), poll waits instead.
                if let Ok(first) = running_time::signal(until) {
                    // The kernel delivers low numbers first, and these may come without end. So all pending
                    // signals are taken, up to a SIGCHLD.
                    let next = |last: &Signal| match last.number {
                        libc::SIGCHLD => None,
                        _ => signal::wait(Some(Duration::ZERO)).ok().flatten(),
                    };
                    heard.signals = std::iter::successors(first, next).collect();
                    heard.child_changed = heard.signals.iter().any(|signal| signal.number == libc::SIGCHLD);
                    return heard;
                }
            }
            match SignalFd::new().context("create", "the signal descriptor") {
                Ok(signals) => self.signals = Some(signals),
                Err(error) if !self.is_deaf => {
                    crate::log!("{error}: signals are not heard");
                    self.is_deaf = true;
                }
                Err(_) => {}
            }
        }
        // Without a way to wait for signals, the wait is short: PID 1 neither hangs nor spins, and looks for
        // dead children in between.
        let blind = self.signals.is_none().then_some(now + BLIND);
        let until = running_time::earliest(&[until, blind]);
        let mut fds: Vec<_> = self.signals.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        fds.extend(self.link.iter().map(|link| PollFd::new(link, PollFlags::IN)));
        fds.extend(more);
        // The mount table comes last, where the code below expects it.
        fds.extend(mounts.map(|mounts| PollFd::new(mounts, PollFlags::PRI)));
        // A failure (ENOMEM) is a wake-up without events.
        let _ = running_time::poll(&mut fds, until);
        heard.mounts_changed = mounts.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);

        if heard.mounts_changed {
            self.mounts_quiet_until = Some(running_time::now() + MOUNTS_QUIET);
        }
        match &self.signals {
            Some(signals) => heard.signals.extend(std::iter::from_fn(|| signals.next())),
            None => heard.child_changed = true,
        }
        heard.child_changed |= heard.signals.iter().any(|signal| signal.number == libc::SIGCHLD);
        self.take_messages(&mut heard);
        heard
    }

    /// Reads the messages of the emperor. When the link is closed, the emperor has ended, and the vassal must
    /// end as well.
    fn take_messages(&mut self, heard: &mut Heard) {
        while let Some(link) = &self.link {
            match protocol::receive(link) {
                Ok(Received::Nothing) => return,
                Ok(Received::Packet(packet, file)) => match (ToVassal::decode(&packet), file) {
                    (Some(message @ (ToVassal::Stop | ToVassal::StopGracefully | ToVassal::StopNow)), _) => {
                        heard.stop = Some("the emperor".into());
                        heard.gracefully = message == ToVassal::StopGracefully;
                        heard.kills |= message == ToVassal::StopNow;
                    }
                    (Some(ToVassal::Reload), Some(file)) => heard.reload = Some(NewFile::Sent(file)),
                    (Some(ToVassal::Mountpoints), _) => heard.asks_for_report = true,
                    (Some(ToVassal::GiveUp), _) => heard.gives_up = true,
                    // It may come before anybody waits for it.
                    (Some(ToVassal::TakesOver), _) => {
                        let fd = self.taken_over();
                        let _ = fd.map(|fd| rustix::io::write(fd, &1_u64.to_ne_bytes()));
                    }
                    // A second greeting, or another version of the protocol.
                    (
                        Some(
                            ToVassal::Hello(_)
                            | ToVassal::Reload
                            | ToVassal::Kept(_)
                            | ToVassal::Lent(_)
                            | ToVassal::Outside,
                        )
                        | None,
                        _,
                    ) => crate::log!("a message of the emperor made no sense"),
                },
                Ok(Received::Closed) | Err(_) => {
                    self.link = None;
                    (heard.stop, heard.gracefully) = (Some("the end of the emperor".into()), false);
                }
            }
        }
    }
}
