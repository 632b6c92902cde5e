//! The one place where PID 1 waits.
//!
//! Whatever it is waiting for (a hook, a mount, the app), it hears signals, dead children, the emperor and the mount
//! table meanwhile. Nothing here blocks on anything but `poll`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context, Result};
use crate::init::child::reaper::{self, Reaped};
use crate::init::watch::procfs::Procfs;
use crate::protocol::{self, Received, ToVassal};
use crate::signal_names;
use crate::sys::signal::SignalFd;

/// After a change of the mount table further changes are not looked at for this long: a storm of mounts elsewhere in the
/// namespace must not keep us busy.
const MOUNTS_QUIET: Duration = Duration::from_millis(20);

/// Where events come from.
#[derive(Debug)]
pub struct Sources {
    signals: SignalFd,
    /// Whether none means anything to us, apart from SIGCHLD.
    hands_on: bool,
    link: Option<OwnedFd>,
    mounts: Option<OwnedFd>,
    mounts_quiet_until: Option<Instant>,
}

/// All that was there to be known at one wake-up.
#[derive(Debug, Default)]
pub struct Wakeup {
    /// Children that have ended.
    pub reaped: Vec<Reaped>,
    /// Set when the last child is gone.
    pub childless: bool,
    /// Somebody wants us to stop; the text says who.
    pub stop: Option<String>,
    /// A new file, or a request to read the old one again.
    pub reload: Option<NewFile>,
    /// Signals that are none of our own business.
    pub signals: Vec<i32>,
    /// A child has ended, or was stopped.
    pub child_changed: bool,
    /// Something was mounted or unmounted in our mount namespace.
    pub mounts_changed: bool,
    /// The emperor asks how the checked mountpoints are.
    pub report: bool,
}

/// What a reload is made from.
#[derive(Debug)]
pub enum NewFile {
    /// What the emperor sent.
    Sent(OwnedFd),
    /// The file that was read before (SIGHUP).
    Same,
}

impl Sources {
    /// Starts listening; signals are blocked already. With `hands_on`, all of them are for the app.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new(link: Option<OwnedFd>, hands_on: bool) -> Result<Self> {
        let signals = SignalFd::new().context("create", "the signal descriptor")?;
        Ok(Self { signals, hands_on, link, mounts: None, mounts_quiet_until: None })
    }

    /// From now on reports changes of the mount table, as seen from the present root.
    ///
    /// # Errors
    /// Without procfs there is nothing to watch.
    pub fn watch_mounts(&mut self, procfs: &Procfs) -> Result<()> {
        self.mounts = Some(procfs.mountinfo()?);
        Ok(())
    }

    /// The link to the emperor, while there is one.
    pub fn link(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(AsFd::as_fd)
    }

    /// Waits until something happens, one of `others` becomes readable, one of `changing` has changed (`POLLPRI`), or the
    /// deadline has come.
    pub fn wait<'a>(
        &'a mut self,
        others: impl IntoIterator<Item = BorrowedFd<'a>>,
        changing: impl IntoIterator<Item = BorrowedFd<'a>>,
        deadline: Option<Instant>,
    ) -> Wakeup {
        let now = Instant::now();
        let quiet_until = self.mounts_quiet_until.filter(|&until| until > now);
        let mounts = self.mounts.as_ref().filter(|_| quiet_until.is_none());
        let until = [deadline, self.mounts.as_ref().and(quiet_until)].into_iter().flatten().min();

        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(self.link.iter().map(|link| PollFd::new(link, PollFlags::IN)));
        for fd in others {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for fd in changing {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::PRI));
        }
        // The mount table comes last, where it is found again below.
        fds.extend(mounts.map(|mounts| PollFd::new(mounts, PollFlags::PRI)));
        let timeout = until.and_then(|until| Timespec::try_from(until.saturating_duration_since(now)).ok());
        // A failure (ENOMEM) is a wake-up without news.
        let _ = poll(&mut fds, timeout.as_ref());
        let mounts_changed = mounts.is_some() && fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);

        let mut wakeup = Wakeup { mounts_changed, ..Wakeup::default() };
        if mounts_changed {
            self.mounts_quiet_until = Some(Instant::now() + MOUNTS_QUIET);
        }
        self.take_signals(&mut wakeup);
        self.take_messages(&mut wakeup);
        wakeup
    }

    fn take_signals(&self, wakeup: &mut Wakeup) {
        while let Some(signal) = self.signals.next() {
            match signal.number {
                _ if signal.is_own_pipe() => {}
                libc::SIGCHLD => wakeup.child_changed = true,
                number if self.hands_on => wakeup.signals.push(number),
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => {
                    wakeup.stop = Some(match signal.sender {
                        0 => signal_names::name(signal.number),
                        pid => format!("{} from pid {pid}", signal_names::name(signal.number)),
                    });
                }
                libc::SIGHUP => wakeup.reload = Some(NewFile::Same),
                number => wakeup.signals.push(number),
            }
        }
        if wakeup.child_changed {
            let (reaped, left) = reaper::drain();
            wakeup.reaped = reaped;
            wakeup.childless = !left;
        }
    }

    /// The end of the link is the end of the emperor, and no vassal survives it.
    fn take_messages(&mut self, wakeup: &mut Wakeup) {
        while let Some(link) = &self.link {
            match protocol::receive(link) {
                Ok(Received::Nothing) => return,
                Ok(Received::Packet(packet, file)) => match (ToVassal::decode(&packet), file) {
                    (Some(ToVassal::Stop), _) => wakeup.stop = Some("the emperor".into()),
                    (Some(ToVassal::Reload), Some(file)) => wakeup.reload = Some(NewFile::Sent(file)),
                    (Some(ToVassal::Mountpoints), _) => wakeup.report = true,
                    // A second greeting, or another version: the emperor is ours, but guessing helps nobody.
                    (Some(ToVassal::Hello(_) | ToVassal::Reload | ToVassal::Kept(_)) | None, _) => {
                        crate::log!("a message of the emperor made no sense");
                    }
                },
                Ok(Received::Closed) | Err(_) => {
                    self.link = None;
                    wakeup.stop = Some("the end of the emperor".into());
                }
            }
        }
    }
}
