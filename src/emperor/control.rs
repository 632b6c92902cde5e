//! The commands for a running emperor: `emperor status`, `reload`, `stop`, `start`.
//!
//! A question is the command's words, separated by NUL bytes, which no file's name contains; it ends with the client's side
//! of the connection. The answer is `0` or `1`, whether it went well or not, and then what there is to say.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lexopt::Arg;
use rustix::fd::AsFd;
use rustix::io::retry_on_intr;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
};

use super::roster::{Order, Roster};
use super::status;
use crate::error::{Context, Error, Result};
use crate::log::{print_error, write_all};
use crate::protocol::EXIT_CONFIG;

/// Where the socket is if nobody says otherwise.
pub const DEFAULT: &str = "/run/emperor.sock";

/// An emperor that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

const COMMANDS: [(&str, Option<Order>); 4] = [
    ("status", None),
    ("reload", Some(Order::Reload)),
    ("stop", Some(Order::Stop)),
    ("start", Some(Order::Start)),
];

/// What the emperor answers. `stopping` is whether it is on its way out, `uptime` how long it has been there.
pub fn answer(
    question: &[u8],
    roster: &mut Roster,
    stopping: bool,
    uptime: Duration,
    now: Instant,
) -> Vec<u8> {
    let mut words = question.split(|&byte| byte == 0);
    let command = words.next().unwrap_or_default();
    let argument = words.next();
    let told = match COMMANDS.iter().find(|(name, _)| name.as_bytes() == command) {
        Some((_, None)) if argument == Some(b"json") => Ok(status::json(roster.statuses(now), uptime)),
        Some((_, None)) => Ok(status::table(roster.statuses(now))),
        Some((_, Some(_))) if stopping => Err("the emperor is stopping".to_owned()),
        Some((_, Some(order))) => roster.obey(*order, OsStr::from_bytes(argument.unwrap_or_default()), now),
        None => Err("this emperor does not know that command".to_owned()),
    };
    let (status, mut text) = match told {
        Ok(text) => (b'0', text),
        Err(text) => (b'1', text),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    [&[status], text.as_bytes()].concat()
}

/// Runs a command line that begins with a command for a running emperor; `None` if it does not.
pub fn command(words: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = words.into_iter().peekable();
    COMMANDS.iter().find(|(name, _)| words.peek().is_some_and(|word| word == name))?;
    let (path, question) = match parse(words) {
        Ok(parsed) => parsed,
        Err(message) => {
            print_error(&format!("emperor: {message}\nTry 'emperor --help'.\n"));
            return Some(ExitCode::from(EXIT_CONFIG as u8));
        }
    };
    let (status, text) = match ask(&path, &question) {
        Ok(answer) => match answer.split_first() {
            Some((b'0', text)) => (ExitCode::SUCCESS, text.to_vec()),
            Some((_, text)) => (ExitCode::FAILURE, text.to_vec()),
            None => (ExitCode::FAILURE, b"the emperor has hung up without an answer\n".to_vec()),
        },
        Err(error) => (ExitCode::FAILURE, format!("{error}\n").into_bytes()),
    };
    let written = if status == ExitCode::SUCCESS {
        write_all(rustix::stdio::stdout(), &text)
    } else {
        write_all(rustix::stdio::stderr(), &[b"emperor: ", &text[..]].concat())
    };
    // A reader that went away is no failure.
    Some(if written.is_ok() || written == Err(rustix::io::Errno::PIPE) { status } else { ExitCode::FAILURE })
}

/// The socket's path and the question.
fn parse(words: impl IntoIterator<Item = OsString>) -> std::result::Result<(PathBuf, Vec<u8>), String> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut path = PathBuf::from(DEFAULT);
    let mut question: Vec<Vec<u8>> = Vec::new();
    let mut json = false;
    while let Some(word) = parser.next().map_err(|error| error.to_string())? {
        match word {
            Arg::Long("control") => path = parser.value().map_err(|error| error.to_string())?.into(),
            Arg::Long("json") => json = true,
            Arg::Value(word) => question.push(word.into_vec()),
            Arg::Short(_) | Arg::Long(_) => return Err(word.unexpected().to_string()),
        }
    }
    let is_status = question.first().is_some_and(|command| command == b"status");
    match question.len() {
        1 if is_status => {}
        2 if !is_status && !json => {}
        1 => return Err("the name of a vassal is missing".to_owned()),
        _ => return Err("that is too much for this command".to_owned()),
    }
    if json {
        question.push(b"json".to_vec());
    }
    Ok((path, question.join(&0)))
}

fn ask(path: &Path, question: &[u8]) -> Result<Vec<u8>> {
    let failed = || path.display();
    let address = SocketAddrUnix::new(path).context("ask the emperor at", failed())?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("create", "socket")?;
    for side in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, side, Some(PATIENCE)).context("set up", "socket")?;
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let asked = retry_on_intr(|| connect(&socket, &address))
        .and_then(|()| write_all(socket.as_fd(), question))
        .and_then(|()| shutdown(&socket, Shutdown::Write));
    let heard = asked.and_then(|()| {
        loop {
            match retry_on_intr(|| rustix::io::read(&socket, &mut buffer))? {
                0 => return Ok(()),
                count => answer.extend(buffer.iter().take(count)),
            }
        }
    });
    match heard {
        Err(rustix::io::Errno::AGAIN) => Err(Error::new(
            "ask the emperor at",
            failed(),
            format_args!("no answer within {} s", PATIENCE.as_secs()),
        )),
        heard => heard.map(|()| answer).context("ask the emperor at", failed()),
    }
}
