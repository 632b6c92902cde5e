//! The client's side of the commands for a running emperor.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lexopt::Arg;
use rustix::fd::AsFd;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
};

use super::control::{COMMANDS, DEFAULT, DONE, FAILED, Kind, OUTCOME, PATIENCE_WITH_UPGRADES, PENDING};
use crate::cli;
use crate::config;
use crate::config::cmdline::args::{Mistake, note_place};
use crate::config::diagnostic::{Misuse, misuse};
use crate::emperor::core::text::later;
use crate::error::{Context, Error, Result};
use crate::sys::fd::write_all;

/// An emperor that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long `--wait` waits if nobody says otherwise, and how long from one question to the next.
const WAIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a command line that begins with a command for a running emperor, to the exit status; `None` if it does not.
pub fn command(words: &[OsString]) -> Option<i32> {
    let (_, kind) = COMMANDS.iter().find(|(name, _)| words.first().is_some_and(|word| word == name))?;
    let patience = if *kind == Kind::Upgrade { PATIENCE_WITH_UPGRADES } else { PATIENCE };
    let mut at = 0;
    let (path, question, wait) = match parse(words, *kind, &mut at) {
        Ok(parsed) => parsed,
        Err(Mistake(message, hint)) => {
            let report = misuse("emperor", words, Misuse { word: at, message, hint });
            return Some(cli::invalid(&report));
        }
    };
    let (mut status, mut text) = ask(&path, &question, patience);
    if let (Some(wait), DONE) = (wait, status) {
        let until = later(Instant::now(), wait);
        let question = [OUTCOME, &question].concat();
        loop {
            (status, text) = ask(&path, &question, patience);
            if status != PENDING || Instant::now() >= until {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        if status == PENDING {
            text = [b"not done in time: ", &text[..]].concat();
        }
    }
    let is_done = status == DONE;
    let written = if is_done {
        write_all(rustix::stdio::stdout(), &text)
    } else {
        write_all(rustix::stdio::stderr(), &[b"emperor: ", &text[..]].concat())
    };
    // A reader that went away is no failure.
    Some(if is_done && matches!(written, Ok(()) | Err(rustix::io::Errno::PIPE)) { 0 } else { 1 })
}

/// The socket's path, the question, and how long to wait for what becomes of it.
fn parse(
    words: &[OsString],
    kind: Kind,
    at: &mut usize,
) -> Result<(PathBuf, Vec<u8>, Option<Duration>), Mistake> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut path = PathBuf::from(DEFAULT);
    let mut question: Vec<Vec<u8>> = Vec::new();
    let mut json = false;
    let mut wait = None;
    loop {
        note_place(&mut parser, words.len(), at);
        let Some(word) = parser.next()? else { break };
        match word {
            Arg::Long("control") => path = parser.value()?.into(),
            Arg::Long("json") => json = true,
            Arg::Long("wait") if matches!(kind, Kind::Order(_)) => {
                let time = parser.optional_value();
                wait = Some(time.map_or(Ok(WAIT), |time| config::duration(time.as_bytes()))?);
            }
            Arg::Value(word) => question.push(word.into_vec()),
            Arg::Short(_) | Arg::Long(_) => return Err(word.unexpected().into()),
        }
    }
    match (kind, question.len()) {
        (Kind::Status, 1 | 2) => question.insert(1, if json { b"json".to_vec() } else { Vec::new() }),
        (Kind::Upgrade, 1) | (Kind::Order(_), 2) if !json => {}
        (Kind::Order(_), 1) => return Err("the name of a vassal is missing".into()),
        _ => return Err("that is too much for this command".into()),
    }
    Ok((path, question.join(&0), wait))
}

/// The answer: how it begins, and what it says.
fn ask(path: &Path, question: &[u8], patience: Duration) -> (u8, Vec<u8>) {
    match try_to_ask(path, question, patience) {
        Ok(mut answer) if !answer.is_empty() => (answer.remove(0), answer),
        Ok(_) => (FAILED, b"the emperor has hung up without an answer\n".to_vec()),
        Err(error) => (FAILED, format!("{error}\n").into_bytes()),
    }
}

fn try_to_ask(path: &Path, question: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let failed = || path.display();
    let address = SocketAddrUnix::new(path).context("no emperor answers at", failed())?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("create", "socket")?;
    for side in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, side, Some(patience)).context("set up", "socket")?;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let asked = retry_on_intr(|| connect(&socket, &address))
        .and_then(|()| write_all(socket.as_fd(), question))
        .and_then(|()| shutdown(&socket, Shutdown::Write));
    let heard = match asked {
        // Who is refused is told so before he has asked.
        Err(rustix::io::Errno::PIPE) => Ok(()),
        asked => asked,
    };
    let heard = heard.and_then(|()| {
        loop {
            match retry_on_intr(|| rustix::io::read(&socket, &mut buffer)) {
                Ok(0) => return Ok(()),
                Ok(count) => answer.extend(buffer.iter().take(count)),
                // It has hung up on what we asked, with an answer.
                Err(rustix::io::Errno::CONNRESET) if !answer.is_empty() => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    });
    match heard {
        Err(rustix::io::Errno::AGAIN) => Err(Error::new(
            "no emperor answers at",
            failed(),
            format_args!("no answer within {} s", patience.as_secs()),
        )),
        heard => heard.map(|()| answer).context("no emperor answers at", failed()),
    }
}
