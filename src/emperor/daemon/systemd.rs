//! Messages to systemd (sd_notify(3)): that the emperor is ready, its status, and that it is alive.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

use crate::emperor::core::text::later;
use crate::running_time::earliest;
use crate::sys::clock;

/// The shortest time between two statuses.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// A reload counts as done after this time, whatever the vassals do.
const RELOADING: Duration = Duration::from_secs(60);

/// The socket of systemd, if there is one, and the times of the next messages.
#[derive(Default)]
pub struct Notifier {
    socket: Option<(OwnedFd, SocketAddrUnix)>,
    watchdog: Option<Watchdog>,
    /// The status that was last sent.
    status: Option<Told>,
    /// Whether the status may have changed since, when it was too early to send it.
    status_waits: bool,
    ready: bool,
    /// When a reload counts as done.
    reloaded_by: Option<Instant>,
}

/// When to say that the emperor is alive.
struct Watchdog {
    interval: Duration,
    next: Instant,
}

/// A status, and when it was sent.
struct Told {
    text: String,
    at: Instant,
}

impl Notifier {
    /// Reads the environment. A socket that is not named or cannot be reached is no mistake.
    pub fn new(environment: &[(OsString, OsString)], now: Instant) -> Self {
        let value = |wanted: &str| {
            let variable = environment.iter().find(|(name, _)| name == wanted);
            variable.map(|(_, value)| value.as_os_str())
        };
        let number = |name| value(name).and_then(OsStr::to_str).and_then(|text| text.parse::<u64>().ok());
        let Some(path) = value("NOTIFY_SOCKET").map(OsStr::as_bytes) else { return Self::default() };
        let address = match path {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name),
            path => SocketAddrUnix::new(path),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
        let is_for_emperor = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval = number("WATCHDOG_USEC").filter(|&usec| usec > 0 && is_for_emperor);
        // Twice in the given time, as sd_watchdog_enabled(3) recommends.
        let watchdog = interval.map(|usec| Watchdog { interval: Duration::from_micros(usec / 2), next: now });
        Self { socket: socket.ok().zip(address.ok()), watchdog, ..Self::default() }
    }

    /// When [`Notifier::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let status = self.status_due().filter(|_| self.status_waits);
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.next);
        earliest(&[watchdog, self.reloaded_by, status])
    }

    /// When the next status may be sent.
    fn status_due(&self) -> Option<Instant> {
        self.status.as_ref().map(|told| told.at + STATUS_EVERY)
    }

    /// Says that the emperor is alive, when that is due. systemd counts all time, also while the machine was
    /// frozen, so with `was_late` it is said at once.
    pub fn time(&mut self, was_late: bool, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| was_late || watchdog.next <= now) {
            watchdog.next = later(now, watchdog.interval);
            self.send("WATCHDOG=1");
        }
    }

    /// Says once that the emperor is ready: at the start, when everything that was there has been started;
    /// after a reload, when no vassal `is_reloading` any longer.
    pub fn ready(&mut self, now: Instant, is_reloading: impl FnOnce() -> bool) {
        let waits = self.reloaded_by.is_some_and(|until| now < until);
        if !(self.ready || waits && is_reloading()) {
            self.ready = true;
            self.reloaded_by = None;
            self.send("READY=1");
        }
    }

    /// Says that all vassals are being reloaded.
    pub fn reloading(&mut self, now: Instant) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
        self.ready = false;
        self.reloaded_by = Some(now + RELOADING);
    }

    /// Says that the emperor is stopping, after which it will not say that it is ready.
    pub fn stopping(&mut self) {
        self.ready = true;
        self.reloaded_by = None;
        self.send("STOPPING=1");
    }

    /// Whether the present status must be sent. If it is too early for that, [`Notifier::deadline`] tells
    /// when it can be.
    pub fn wants_status(&mut self, now: Instant) -> bool {
        let is_due = self.status_due().is_none_or(|due| due <= now);
        self.status_waits = self.socket.is_some() && !is_due;
        self.socket.is_some() && is_due
    }

    /// Sends the status, one line, unless it is the same as before.
    pub fn status(&mut self, status: String, now: Instant) {
        if self.status.as_ref().is_none_or(|told| told.text != status) {
            self.send(&format!("STATUS={status}"));
        }
        self.status = Some(Told { text: status, at: now });
    }

    /// Does not wait: a message that does not fit into the socket is lost.
    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = sendto(socket, text.as_bytes(), SendFlags::NOSIGNAL, address);
        }
    }
}
