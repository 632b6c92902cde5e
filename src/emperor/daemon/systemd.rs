//! What systemd wants to hear (sd_notify(3)): that we are ready, how it goes, and that we are alive.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

use crate::emperor::core::text::later;
use crate::sys::clock;

/// The status is sent no more often than this.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Whoever has asked for a reload is not kept waiting for longer, whatever becomes of the vassals.
const RELOADING: Duration = Duration::from_secs(60);

/// Who is to be told, if anybody, and what is due.
#[derive(Default)]
pub struct Notifier {
    socket: Option<(OwnedFd, SocketAddrUnix)>,
    /// How often to say that we are alive, and when next.
    watchdog: Option<(Duration, Instant)>,
    /// What was said last, and when.
    status: Option<(String, Instant)>,
    /// Whether there may be another status since, which could not be sent yet.
    status_waits: bool,
    ready: bool,
    /// By when a reload counts as done.
    reloaded_by: Option<Instant>,
}

impl Notifier {
    /// Whom the environment names. Nobody is no mistake, and neither is somebody who cannot be told.
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
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval = number("WATCHDOG_USEC").filter(|&usec| usec > 0 && for_us);
        // At twice the rate that is asked for, as sd_watchdog_enabled(3) recommends.
        let watchdog = interval.map(|usec| (Duration::from_micros(usec / 2), now));
        Self { socket: socket.ok().zip(address.ok()), watchdog, ..Self::default() }
    }

    /// When [`Notifier::time`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let status = self.status_due().filter(|_| self.status_waits);
        self.watchdog.map(|(_, next)| next).into_iter().chain(self.reloaded_by).chain(status).min()
    }

    /// When the next status may be sent.
    fn status_due(&self) -> Option<Instant> {
        self.status.as_ref().map(|(_, sent)| *sent + STATUS_EVERY)
    }

    /// Says that we are alive when it is time.
    pub fn time(&mut self, now: Instant) {
        if let Some((interval, next)) = self.watchdog
            && next <= now
        {
            self.watchdog = Some((interval, later(now, interval)));
            self.say("WATCHDOG=1");
        }
    }

    /// Everything there was to start has been started, and what was to reload has, unless it `is_reloading`.
    /// Only the first time is news.
    pub fn ready(&mut self, now: Instant, is_reloading: impl FnOnce() -> bool) {
        let waits = self.reloaded_by.is_some_and(|until| now < until);
        if !(self.ready || waits && is_reloading()) {
            self.ready = true;
            self.reloaded_by = None;
            self.say("READY=1");
        }
    }

    /// All vassals are told to reload.
    pub fn reloading(&mut self, now: Instant) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_micros()));
        self.ready = false;
        self.reloaded_by = Some(now + RELOADING);
    }

    /// We are on our way out, and will not be ready any more.
    pub fn stopping(&mut self) {
        self.ready = true;
        self.reloaded_by = None;
        self.say("STOPPING=1");
    }

    /// Whether the present status is to be sent. Where it is too early for that, [`Notifier::deadline`] tells
    /// when it is not any more.
    pub fn wants_status(&mut self, now: Instant) -> bool {
        let is_due = self.status_due().is_none_or(|due| due <= now);
        self.status_waits = self.socket.is_some() && !is_due;
        self.socket.is_some() && is_due
    }

    /// How it goes, in one line. The same as before is no news.
    pub fn status(&mut self, status: String, now: Instant) {
        if self.status.as_ref().is_none_or(|(before, _)| *before != status) {
            self.say(&format!("STATUS={status}"));
        }
        self.status = Some((status, now));
    }

    /// Never waits: whoever does not read misses it.
    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = sendto(socket, text.as_bytes(), SendFlags::NOSIGNAL, address);
        }
    }
}
