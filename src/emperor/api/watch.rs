//! `status --watch`: an answer that is asked for and drawn again each second.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::termios::tcgetwinsize;

use super::render::INDENT;
use crate::error::Error;
use crate::running_time;
use crate::sys::fd::write_all;
use crate::sys::signal::{self, SignalFd};

/// The time between two answers.
const INTERVAL: Duration = Duration::from_secs(1);

/// To a screen of its own without a cursor, and back (xterm's control sequences).
const BEGIN: &[u8] = b"\x1b[?1049h\x1b[?25l";
const END: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Draws what `ask` returns until a signal such as that of Ctrl-C comes. Returns the exit status.
///
/// # Errors
/// Standard output is no terminal, or has hung up; signalfd(2).
pub fn watch(ask: &mut dyn FnMut() -> String) -> Result<i32, Error> {
    let out = rustix::stdio::stdout();
    let failed = |errno| Error::os("write to", "standard output", errno);
    let no_terminal = |_| Error::new("draw on", "standard output", "it is not a terminal");
    let usual = size(out).map_err(no_terminal)?;
    // From here on every signal waits until the terminal is as it was.
    signal::block_all();
    let signals = SignalFd::new().map_err(failed)?;
    write_all(out, BEGIN).map_err(failed)?;
    let result = draw(out, usual, &signals, ask);
    write_all(out, END).and(result).map_err(failed)
}

/// How many rows and columns a terminal has.
///
/// # Errors
/// ENOTTY if it is not one.
pub fn size(terminal: impl AsFd) -> rustix::io::Result<(usize, usize)> {
    let size = tcgetwinsize(terminal)?;
    // A terminal that does not know its size says 0.
    let known = |count: u16, usual| if count == 0 { usual } else { usize::from(count) };
    Ok((known(size.ws_row, 24), known(size.ws_col, 80)))
}

fn draw(
    out: BorrowedFd<'_>,
    usual: (usize, usize),
    signals: &SignalFd,
    ask: &mut dyn FnMut() -> String,
) -> rustix::io::Result<i32> {
    loop {
        write_all(out, screen(&ask(), size(out).unwrap_or(usual)).as_bytes())?;
        let until = running_time::now() + INTERVAL;
        let _ = running_time::poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(until));
        while let Some(signal) = signals.next() {
            match signal.number {
                libc::SIGINT => return Ok(0),
                libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => return Ok(128 + signal.number),
                libc::SIGTSTP => {
                    write_all(out, END)?;
                    signal::let_through(libc::SIGTSTP);
                    write_all(out, BEGIN)?;
                }
                _ => {}
            }
        }
    }
}

/// The text for a screen with so many rows and columns. What is behind an empty line is shown in any case,
/// and how many vassals there was no room for.
fn screen(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines: Vec<_> = text.lines().collect();
    let footer = lines.len() - lines.iter().rposition(|line| line.is_empty()).unwrap_or(lines.len());
    // The terminal wraps what is too long behind the table, which is cut off.
    let behind = lines.iter().rev().take(footer);
    let wrapped: usize = behind.map(|line| line.len().saturating_sub(1) / columns.max(1)).sum();
    let rows = rows.saturating_sub(wrapped);
    let head = rows.saturating_sub(footer).min(lines.len() - footer);
    let (table, behind) = lines.split_at_checked(lines.len() - footer).unwrap_or_default();
    let is_cut = head > 0 && head < table.len();
    let drawn = if is_cut { head - 1 } else { head };
    let left_out = table.iter().skip(drawn.max(1)).filter(|line| !line.starts_with(INDENT));
    let note = format!("… {} more", left_out.count());
    let mut screen = "\x1b[H".to_owned();
    let note = is_cut.then_some(&*note);
    let shown = table.iter().take(drawn).copied().chain(note).chain(behind.iter().copied()).take(rows);
    for (index, line) in shown.enumerate() {
        // The last line has no line break, which would scroll.
        screen = screen + if index > 0 { "\r\n" } else { "" } + line + "\x1b[K";
    }
    screen + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_above_the_summary() {
        let whole = "\x1b[HNAME\x1b[K\r\na\x1b[K\r\n    why\x1b[K\r\nb\x1b[K\r\n\x1b[K\r\nsum\x1b[K\x1b[J";
        let table = "NAME\na\n    why\nb\n\nsum\n";
        assert_eq!(screen(table, (6, 80)), whole);
        assert_eq!(
            screen(table, (5, 80)),
            "\x1b[HNAME\x1b[K\r\na\x1b[K\r\n… 1 more\x1b[K\r\n\x1b[K\r\nsum\x1b[K\x1b[J"
        );
        assert_eq!(screen(table, (3, 80)), "\x1b[H… 2 more\x1b[K\r\n\x1b[K\r\nsum\x1b[K\x1b[J");
        assert_eq!(screen("a\nb\n", (1, 80)), "\x1b[H… 1 more\x1b[K\x1b[J");
        // A line that the terminal wraps takes two rows.
        assert_eq!(
            screen("long…\nb\n\nlonger\n", (4, 5)),
            "\x1b[H… 1 more\x1b[K\r\n\x1b[K\r\nlonger\x1b[K\x1b[J"
        );
        assert_eq!(screen("long…\n\nb\n", (3, 5)), "\x1b[Hlong…\x1b[K\r\n\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(screen("", (3, 80)), "\x1b[H\x1b[J");
        assert_eq!(screen("a\n\nb\n", (1, 80)), "\x1b[H\x1b[K\x1b[J");
    }
}
