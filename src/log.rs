//! The only place that writes log lines: one event, one line, one `write(2)` to standard error.
//!
//! A log line must never block its writer. PID 1 shares standard error with its starter, so the descriptor
//! cannot be made non-blocking. Instead a line is written only if there is room for it. Apps write to the
//! same pipe or terminal without limit, so a line that finds it full is kept, and written with others when
//! there is room. Lines that had to be dropped are counted, and the next line that fits tells how many.

use std::fmt::{self, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

use crate::json::Json;
use crate::sys::fd::write_all;
use crate::sys::{environment, memory, signal, trap};

mod output;

pub use output::keep_terminal;

/// The environment variable that makes both programs log JSON, if its value is `json`.
pub const VARIABLE: &str = "VASSAL_LOG";

/// A pipe that polls as writable takes this much in one piece without blocking (PIPE_BUF, pipe(7)).
const LINE_MAX: usize = 4096;
/// How much [`copy_from`] copies at a time: as much as a pipe holds.
const COPIED_MAX: usize = 64 << 10;
/// How many bytes of lines are kept while there is no room.
const WAITING_MAX: usize = 32 << 10;
/// The time between two tries to write kept lines.
const RETRY: Duration = Duration::from_millis(500);
/// How long the last lines of a process wait for room.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// How long [`finish`] waits at a time, where poll(2) does not say that there is room.
const PAUSE: Duration = Duration::from_millis(10);

static SPEAKER: OnceLock<Speaker> = OnceLock::new();
/// Lines that could not be written yet.
static WAITING: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static DROPPED: AtomicU32 = AtomicU32::new(0);
/// Whether the end of the last line could not be written.
static TORN: AtomicBool = AtomicBool::new(false);
static JSON: AtomicBool = AtomicBool::new(false);

/// The program that writes.
struct Speaker {
    program: &'static str,
    /// The vassal that all lines are about; empty in the emperor.
    vassal: String,
}

/// Sets the prefix of every line, `emperor` or `vassal-init[app001]`. Only the first call counts. The
/// environment decides whether lines are JSON.
pub fn init(program: &'static str, vassal: &str) {
    let _ = SPEAKER.set(Speaker { program, vassal: vassal.to_owned() });
    if environment::variable(VARIABLE).is_some_and(|format| format == "json") {
        as_json();
    }
}

/// The vassal that all lines are about, as [`init`] was told.
pub fn vassal() -> &'static str {
    SPEAKER.get().map_or("", |speaker| &speaker.vassal)
}

/// Writes each line as a JSON object from now on.
pub fn as_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// Writes one line about a vassal, or about none (empty name). Called by [`crate::log!`] and
/// [`crate::log_of!`].
pub fn line(vassal: &str, message: fmt::Arguments<'_>) {
    // There is one thread, so the lock is free unless a panic interrupted its holder.
    let Ok(mut waiting) = WAITING.try_lock() else { return };
    let (text, lines) = compose(vassal, message);
    if waiting.len() < WAITING_MAX {
        waiting.extend_from_slice(text.as_bytes());
    } else {
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
    flush_to(rustix::stdio::stderr(), &mut waiting, lines);
}

/// Writes a text of several lines as it is. What finds no room is kept, however much it is: this is for the
/// mistakes in the configuration, which are told once, at the start.
pub fn text(text: &str) {
    let Ok(mut waiting) = WAITING.try_lock() else { return };
    waiting.extend_from_slice(text.as_bytes());
    flush_to(rustix::stdio::stderr(), &mut waiting, 1);
}

/// Copies what comes through a pipe to standard error, which may block here, until nobody has the other end.
/// What cannot be written is lost, and told of.
pub fn copy_from(pipe: &OwnedFd) {
    let mut buffer = vec![0; COPIED_MAX];
    while let Ok(count @ 1..) = read(pipe, &mut buffer) {
        copy(buffer.get(..count).unwrap_or_default());
    }
}

/// Writes what others have written, as it is, to standard error. What there is no room for is lost, and told
/// of.
pub fn copy(text: &[u8]) {
    let (to, dropped) = (rustix::stdio::stderr(), DROPPED.swap(0, Ordering::Relaxed));
    let mut before = new_line().to_owned();
    if dropped > 0 {
        push_line(&mut before, "", &lost(dropped));
    }
    let lines = text.iter().filter(|&&byte| byte == b'\n').count() as u32;
    if before.is_empty() || put_or_drop(to, before.as_bytes(), dropped) {
        put_or_drop(to, text, lines);
    } else {
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
}

/// Writes a report. Each of its lines becomes a line of the log.
pub fn lines(report: &impl fmt::Display) {
    for line in report.to_string().lines() {
        crate::log!("{line}");
    }
}

/// Writes one line to another descriptor. Without room the line is lost.
pub fn line_to(fd: BorrowedFd<'_>, vassal: &str, message: fmt::Arguments<'_>) {
    let (text, lines) = compose(vassal, message);
    put_or_drop(fd, text.as_bytes(), lines);
}

/// Writes lines as they are, without a prefix. Without room they are lost.
pub fn text_to(fd: BorrowedFd<'_>, text: &str) {
    put_or_drop(fd, text.as_bytes(), 1);
}

/// The text of a line, after a line about lost lines if there were any; and how many lines that makes.
fn compose(vassal: &str, message: fmt::Arguments<'_>) -> (String, u32) {
    let mut text = String::with_capacity(160);
    text.push_str(new_line());
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        push_line(&mut text, "", &lost(dropped));
    }
    push_line(&mut text, vassal, &message.to_string());
    (text, dropped.saturating_add(1))
}

/// Writes one line without allocating. The vassal's name is left out if it would need escaping.
fn line_without_memory(message: &str) {
    let (program, known) = SPEAKER.get().map_or(("vassal", ""), |speaker| (speaker.program, &speaker.vassal));
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let [open, known, close] = match known.as_bytes().iter().all(is_plain) && known.len() < 100 {
        true if !known.is_empty() => ["[", known, "]"],
        _ => [""; 3],
    };
    let (start, time) = (new_line(), Date::now());
    let mut text = Fixed { bytes: [0; 384], length: 0 };
    let _ = if JSON.load(Ordering::Relaxed) {
        let [open, close] = if known.is_empty() { [""; 2] } else { [r#""vassal":""#, r#"","#] };
        writeln!(
            text,
            r#"{start}{{"time":"{time}","program":"{program}",{open}{known}{close}"message":"{message}"}}"#
        )
    } else {
        writeln!(text, "{start}{program}{open}{known}{close}: {message}")
    };
    put_or_drop(rustix::stdio::stderr(), text.bytes.get(..text.length).unwrap_or_default(), 1);
}

/// A text of fixed size, on the stack. An overlong text is cut off.
struct Fixed {
    bytes: [u8; 384],
    length: usize,
}

impl fmt::Write for Fixed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// From now on a wait for memory is logged, and a panic is logged and then ends this process by SIGABRT. In a
/// build by scripts/build a panic is a trap, whose line has the address in the program file. In other builds
/// the line has the panic's message.
pub fn report_failures() {
    memory::report_with(line_without_memory);
    trap::catch(|address| {
        last_line(format_args!("panic at {address:#x}: {MISTAKE}"));
        signal::abort()
    });
    if cfg!(panic = "immediate-abort") {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let place = panic.location().map_or(String::new(), ToString::to_string);
        last_line(format_args!("panic at {place}: {MISTAKE}: {text}"));
        signal::abort()
    }));
}

const MISTAKE: &str = "this is a mistake in the program, which aborts";

/// Writes one line after those that are kept. It waits a short time for room, because no line comes later.
fn last_line(message: fmt::Arguments<'_>) {
    let fd = rustix::stdio::stderr();
    wait_for_room(fd, LAST_WAIT);
    flush();
    let (text, lines) = compose("", message);
    put(fd, text.as_bytes(), lines);
}

fn wait_for_room(fd: BorrowedFd<'_>, time: Duration) {
    let limit = Timespec { tv_sec: 0, tv_nsec: time.as_nanos() as _ };
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&limit));
}

/// Gives the lines that are kept a short time to find room, because this program ends.
pub fn finish() {
    let began = Instant::now();
    while deadline(began).is_some()
        && let Some(left) = LAST_WAIT.checked_sub(began.elapsed())
    {
        wait_for_room(rustix::stdio::stderr(), left.min(PAUSE));
        flush();
    }
}

/// Writes the lines that are kept, if there is room now.
pub fn flush() {
    if let Ok(mut waiting) = WAITING.try_lock() {
        flush_to(rustix::stdio::stderr(), &mut waiting, 1);
    }
}

/// When to call [`flush`], if lines are kept.
pub fn deadline(now: Instant) -> Option<Instant> {
    WAITING.try_lock().is_ok_and(|waiting| !waiting.is_empty()).then(|| now + RETRY)
}

/// Writes as much of `waiting` as there is room for. `lines` count as lost if the first piece fails. A later
/// piece can only fail because the reader is gone, and does not count.
fn flush_to(fd: BorrowedFd<'_>, waiting: &mut Vec<u8>, lines: u32) {
    while !waiting.is_empty() {
        // As many whole lines as fit into one write; or a part of a line that is longer.
        let piece = waiting.get(..LINE_MAX).unwrap_or(waiting);
        let whole = piece.iter().rposition(|&byte| byte == b'\n');
        let piece = whole.and_then(|end| piece.get(..=end)).unwrap_or(piece);
        let (all, done) = (piece.len(), put(fd, piece, lines));
        waiting.drain(..done);
        if done < all {
            return;
        }
    }
    // Frees the memory, which may be much, and every vassal has a PID 1.
    *waiting = Vec::new();
    tell_lost(fd, DROPPED.swap(0, Ordering::Relaxed), waiting);
}

/// Writes how many lines were lost, if any: the next log line may be far away. Without room that waits.
fn tell_lost(fd: BorrowedFd<'_>, dropped: u32, waiting: &mut Vec<u8>) {
    if dropped == 0 {
        return;
    }
    let mut text = new_line().to_owned();
    push_line(&mut text, "", &lost(dropped));
    let done = put(fd, text.as_bytes(), dropped);
    waiting.extend_from_slice(text.as_bytes().get(done..).unwrap_or_default());
}

fn lost(lines: u32) -> String {
    format!("{lines} log lines lost: they could not be written")
}

/// The beginning of a line: a line break if the end of the previous line is missing.
fn new_line() -> &'static str {
    if TORN.load(Ordering::Relaxed) { "\n" } else { "" }
}

/// Writes so many lines, or counts them as lost. Returns how much of the text is done with, which is less
/// than all if there was no room. On a full disk a part of the text may be written; the next line then begins
/// with a line break.
fn put(fd: BorrowedFd<'_>, text: &[u8], lines: u32) -> usize {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut ready = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    if !poll(&mut ready, Some(&now)).is_ok_and(|count| count > 0) {
        return 0;
    }
    let written = match output::write_now(fd, text) {
        // Another process has filled the pipe since the poll.
        Err(Errno::AGAIN) => return 0,
        Ok((written @ 1.., true)) => {
            TORN.store(false, Ordering::Relaxed);
            return written;
        }
        result => result.map_or(0, |(written, _)| written),
    };
    if written < text.len() {
        DROPPED.fetch_add(lines, Ordering::Relaxed);
    }
    if written > 0 {
        TORN.store(written < text.len(), Ordering::Relaxed);
    }
    text.len()
}

/// Writes lines that are not kept: without room for all of them they are lost. Returns whether there was.
fn put_or_drop(fd: BorrowedFd<'_>, text: &[u8], lines: u32) -> bool {
    let done = put(fd, text, lines);
    if done < text.len() {
        DROPPED.fetch_add(lines, Ordering::Relaxed);
        TORN.fetch_or(done > 0, Ordering::Relaxed);
    }
    done == text.len()
}

/// Appends a line that is shorter than [`LINE_MAX`]. A longer message is cut off.
fn push_line(out: &mut String, vassal: &str, message: &str) {
    let (start, mut message) = (out.len(), message);
    let mut cut = "";
    loop {
        let body = format!("{message}{cut}");
        if JSON.load(Ordering::Relaxed) {
            push_json(out, vassal, &body);
        } else {
            push_text(out, vassal, &body);
        }
        if out.len() < LINE_MAX || message.is_empty() {
            return;
        }
        // The message is cut by the excess, and by more in the next turn: escaping makes a text up to six
        // times as long.
        let keep = message.len().saturating_sub((out.len() - LINE_MAX) / 6 + 8);
        let end = (0..=keep).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
        message = message.get(..end).unwrap_or_default();
        out.truncate(start);
        cut = "…";
    }
}

fn push_text(out: &mut String, vassal: &str, message: &str) {
    let mut line = String::new();
    match SPEAKER.get() {
        Some(Speaker { program, vassal: known }) if !known.is_empty() => {
            let _ = write!(line, "{program}[{known}]: ");
        }
        speaker => {
            let _ = write!(line, "{}: ", speaker.map_or("vassal", |speaker| speaker.program));
        }
    }
    if !vassal.is_empty() {
        let _ = write!(line, "{vassal}: ");
    }
    line.push_str(message);
    push_printable(out, &line);
    out.push('\n');
}

fn push_json(out: &mut String, vassal: &str, message: &str) {
    let (program, known) = SPEAKER.get().map_or(("vassal", ""), |speaker| (speaker.program, &speaker.vassal));
    let vassal = if vassal.is_empty() { known } else { vassal };
    let mut json = Json::default();
    json.open("", '{');
    json.text("time", Some(&Date::now().to_string()));
    json.text("program", Some(program));
    if !vassal.is_empty() {
        json.text("vassal", Some(vassal));
    }
    json.text("message", Some(message));
    json.close('}');
    out.push_str(&json.0);
    out.push('\n');
}

/// A time since 1970 in the form of RFC 3339, UTC.
pub struct Date(pub Duration);

impl Date {
    /// The date of now.
    pub fn now() -> Self {
        Self::ago(Duration::ZERO)
    }

    /// The date of this time since 1970.
    pub fn of(time: Duration) -> Self {
        Self(time)
    }

    /// The date of an event so long ago.
    pub fn ago(time: Duration) -> Self {
        let then = SystemTime::now().checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
        Self(then.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        // Counted in years that begin in March, so that the leap day comes last.
        let days = seconds / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let march = (5 * day + 2) / 153;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let (year, day) = (era * 400 + year + u64::from(month <= 2), day - (153 * march + 2) / 5 + 1);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = self.0.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Writes a text of several lines as it is, for a user at a terminal. Errors are ignored; `eprint!` would
/// panic if standard error is full or closed.
pub fn print_error(text: &str) {
    let _ = write_all(rustix::stdio::stderr(), text.as_bytes());
}

/// The text in a form that is safe for a terminal: see [`push_printable`].
pub fn printable(text: impl AsRef<str>) -> String {
    let mut printable = String::new();
    push_printable(&mut printable, text.as_ref());
    printable
}

/// Appends `text`. Characters that could forge a line, or change the direction of a terminal's text, are made
/// visible.
pub fn push_printable(out: &mut String, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c.is_control() || turns_direction(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
}

/// Whether a character changes the direction of the text after it (Unicode's explicit directional
/// formatting).
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Logs one line, formatted like [`format!`].
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => { $crate::log::line("", format_args!($($arg)*)) };
}

/// Logs one line about the vassal of a [file](crate::emperor::core::vassal_file::VassalFile): its name, then
/// the message as with [`log!`](crate::log!).
#[macro_export]
macro_rules! log_of {
    ($vassal:expr, $($arg:tt)*) => { $crate::log::line(&$vassal.shown(), format_args!($($arg)*)) };
}

/// A duration in the form of log lines: `0.04 ms`, `3.5 ms`, `35 ms`, `12.3 s`.
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
    use std::os::fd::AsFd;

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
        push_printable(&mut out, "a\nemperor: b\x1b[0m — ü\u{202e}x\u{2066}");
        assert_eq!(out, "a\\nemperor: b\\u{1b}[0m — ü\\u{202e}x\\u{2066}");
    }

    #[test]
    fn what_waits_goes_out_in_whole_lines_where_they_fit() {
        let (from, to) = rustix::pipe::pipe().unwrap();
        let long = "x".repeat(LINE_MAX + 1000);
        let mut waiting = format!("a\nb\n{long}\nc\n").into_bytes();
        let all = waiting.clone();
        flush_to(to.as_fd(), &mut waiting, 1);
        assert!(waiting.is_empty());
        let mut read = vec![0; 2 * all.len()];
        let length = rustix::io::read(&from, &mut read).unwrap();
        assert_eq!(read[..length], all);
        // How many are lost waits, too, if the last line has taken the last room.
        let size = rustix::pipe::fcntl_setpipe_size(&to, LINE_MAX).unwrap();
        rustix::io::write(&to, &vec![b'\n'; size]).unwrap();
        tell_lost(to.as_fd(), 3, &mut waiting);
        assert!(String::from_utf8_lossy(&waiting).contains("3 log lines lost: they could not be written"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_795_399_205, "2026-11-23T02:00:05.007Z"),
            (4_102_444_799, "2099-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(Date(Duration::new(seconds, 7_999_999)).to_string(), text);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_stays_whole() {
        for message in ["x".repeat(10_000), "\u{1}".repeat(5_000), "ü\n".repeat(4_000)] {
            for json in [false, true] {
                let mut line = String::new();
                JSON.store(json, Ordering::Relaxed);
                push_line(&mut line, "app", &message);
                JSON.store(false, Ordering::Relaxed);
                let end = if json { "…\"}\n" } else { "…\n" };
                assert!(
                    line.len() < LINE_MAX && line.len() > LINE_MAX / 2 && line.ends_with(end),
                    "{}",
                    line.len()
                );
            }
        }
        let mut line = String::new();
        push_line(&mut line, "app", "text");
        assert_eq!(line, "vassal: app: text\n");
    }
}
