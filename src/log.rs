//! The only place that writes log lines: one event, one line, one `write(2)` to standard error.
//!
//! A log line must never stop its writer. PID 1 shares standard error with whoever started it, so the descriptor
//! cannot be made non-blocking; instead a line is written only while the reader has room for it, and what had
//! to be dropped is counted and said with the next line that fits.

use std::fmt::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;

/// A pipe that polls as writable takes this much in one piece without blocking (PIPE_BUF, pipe(7)).
const LINE_MAX: usize = 4096;

static PREFIX: OnceLock<String> = OnceLock::new();
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Sets what every line starts with, `emperor` or `vassal-init[app001]`. Only the first call counts.
pub fn init(prefix: &str) {
    let _ = PREFIX.set(prefix.to_owned());
}

/// Writes one line; use it through [`crate::log!`].
pub fn line(message: fmt::Arguments<'_>) {
    let prefix = PREFIX.get().map_or("vassal", String::as_str);
    let mut text = String::with_capacity(160);
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        let _ = writeln!(text, "{prefix}: {dropped} log lines lost: they could not be written");
    }
    let start = text.len();
    let _ = write!(text, "{prefix}: {message}");
    let body: String = text.drain(start..).collect();
    push_printable(&mut text, &body);
    if text.len() >= LINE_MAX {
        let mut end = LINE_MAX - 8;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text.push('\n');
    let stderr = rustix::stdio::stderr();
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let writable = poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0);
    if !writable || rustix::io::write(stderr, text.as_bytes()).is_err() {
        DROPPED.fetch_add(dropped.saturating_add(1), Ordering::Relaxed);
    }
}

/// Writes a text of several lines as it is, for whoever sits at the terminal. Whether it arrives is not our business:
/// `eprint!` would abort us where standard error is full or closed.
pub fn print_error(text: &str) {
    let _ = write_all(rustix::stdio::stderr(), text.as_bytes());
}

/// Writes all of it.
///
/// # Errors
/// As write(2).
pub fn write_all(fd: BorrowedFd<'_>, text: &[u8]) -> rustix::io::Result<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let written = retry_on_intr(|| rustix::io::write(fd, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Appends `text` with control characters made visible, so that no name or value can forge a line.
pub fn push_printable(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// Logs one line, formatted like [`format!`].
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log::line(format_args!($($arg)*)) };
}

/// A time as people read it in a log line: `0.04 ms`, `3.5 ms`, `35 ms`, `12.3 s`.
pub struct Elapsed(pub Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        match micros {
            0..1_000 => write!(f, "0.{:02} ms", micros / 10),
            1_000..10_000 => write!(f, "{}.{} ms", micros / 1000, micros % 1000 / 100),
            10_000..1_000_000 => write!(f, "{} ms", micros / 1000),
            _ => write!(f, "{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_two_figures_or_more() {
        for (micros, text) in [(49, "0.04 ms"), (9_999, "9.9 ms"), (35_700, "35 ms"), (12_345_678, "12.3 s")]
        {
            assert_eq!(Elapsed(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let mut out = String::new();
        push_printable(&mut out, "a\nemperor: b\x1b[0m — ü");
        assert_eq!(out, "a\\nemperor: b\\u{1b}[0m — ü");
    }
}
