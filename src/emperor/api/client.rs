//! The client's side of the commands for a running emperor.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lexopt::Arg;
use rustix::fd::AsFd;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, shutdown, socket_with,
};

use super::control::{
    COMMANDS, DONE, FAILED, ILL, Kind, NOW, OUTCOME, PATIENCE_WITH_UPGRADES, PENDING, Query, usual_path,
};
use super::logs::Logs;
use super::watch::{size, watch};
use super::{enter, processes};
use crate::cli;
use crate::config;
use crate::config::cmdline::args::{Mistake, note_place, unknown_option};
use crate::config::diagnostic::{Misuse, misuse};
use crate::config::language::glob;
use crate::emperor::core::order::Order;
use crate::emperor::core::status::STATES;
use crate::emperor::core::text::later;
use crate::error::{Context, Error, Result};
use crate::log;
use crate::sys::fd::write_all;

/// The options of all commands.
const OPTIONS: &[&str] = &[
    "control", "json", "is-up", "watch", "problems", "state", "user", "roll", "wait", "now", "follow",
    "lines", "help",
];

/// An emperor that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long `--wait` waits without a time of its own.
const WAIT: Duration = Duration::from_secs(60);
/// The pause between two questions of `--wait`.
const PAUSE: Duration = Duration::from_millis(50);

/// The exit status if something is wrong with a vassal, as `systemctl status` has it for one that is not up.
const PROBLEM: i32 = 3;

/// The request of a command line.
struct Request {
    /// Where the emperor's socket is.
    path: PathBuf,
    /// The words of the command, as the emperor takes them.
    question: Vec<u8>,
    /// How long the emperor may take to answer.
    patience: Duration,
    /// How long to wait for what becomes of an order.
    wait: Option<Duration>,
    /// Whether to ask again and again.
    watch: bool,
    /// What to run in the vassal; empty for a shell.
    command: Vec<OsString>,
    /// Whether to run it as the app's user.
    as_user: bool,
    /// The question that follows if the first one is answered well.
    next: Option<&'static [u8]>,
    /// How to show the places that the answer names.
    logs: Logs,
    /// The question for the places where the one vassal writes whose status is asked for; else empty.
    places: Vec<u8>,
}

/// The answer of the emperor.
struct Answer {
    /// [`DONE`], [`FAILED`] or [`PENDING`].
    status: u8,
    text: Vec<u8>,
}

/// Runs a command line with a command for a running emperor, to the exit status; `None` if it has none. In
/// front of it only its own options may stand.
pub fn command(words: &[OsString]) -> Option<i32> {
    let mut rest = words.iter();
    let first = loop {
        match rest.next()?.as_bytes() {
            b"--control" => drop(rest.next()),
            b"--json" => {}
            word if word.starts_with(b"--control=") => {}
            word => break word,
        }
    };
    if first == b"reopen-logs" {
        let message = "there is no log to reopen".to_owned();
        let hint = "a log that is renamed is made anew; have 'logto' truncated (logrotate's copytruncate)";
        return Some(cli::invalid(&misuse(
            "emperor",
            words,
            Misuse { word: 0, message, hint: Some(hint.into()) },
        )));
    }
    let (_, kind) = COMMANDS.iter().find(|(name, _)| name.as_bytes() == first)?;
    let mut own = words.iter().take_while(|word| *word != "--");
    if own.any(|word| word == "--help" || word == "-h") {
        return None;
    }
    let mut at = 0;
    let request = match parse(words, *kind, &mut at) {
        Ok(request) => request,
        Err(Mistake(message, hint)) => {
            let report = misuse("emperor", words, Misuse { word: at, message, hint });
            return Some(cli::invalid(&report));
        }
    };
    if request.watch {
        // Each time anew, as the terminal may have another width.
        let mut ask = || match parse(words, *kind, &mut 0) {
            Ok(request) => String::from_utf8_lossy(&ask(&request, &request.question).text).into_owned(),
            Err(Mistake(message, _)) => message,
        };
        return Some(watch(&mut ask).unwrap_or_else(|error| {
            log::print_error(&format!("emperor: {error}\n"));
            1
        }));
    }
    let mut answer = ask(&request, &request.question);
    match kind {
        Kind::Ps if answer.status == DONE => {
            let shows_down = request.question != b"ps\0";
            let text = processes::table(&String::from_utf8_lossy(&answer.text), shows_down);
            return Some(cli::print("emperor", text.as_bytes()));
        }
        Kind::Enter if answer.status == DONE => return Some(enter_it(&request, &answer)),
        _ => {}
    }
    if let (Some(wait), DONE) = (request.wait, answer.status) {
        answer = wait_for_outcome(&request, wait);
    }
    if let (Some(next), DONE) = (request.next, answer.status) {
        show(answer);
        answer = ask(&request, next);
    }
    if (*kind, answer.status) == (Kind::Logs, DONE) {
        answer = Answer { status: FAILED, text: request.logs.show(&answer.text) };
    }
    let status = show(answer);
    if !request.places.is_empty()
        && let Answer { status: DONE, text } = ask(&request, &request.places)
    {
        cli::print("emperor", request.logs.text(&text).as_bytes());
    }
    Some(status)
}

/// Asks on what has become of an order until that is known, or the time is over.
fn wait_for_outcome(request: &Request, wait: Duration) -> Answer {
    let until = later(Instant::now(), wait);
    let question = [OUTCOME, &request.question].concat();
    loop {
        let answer = ask(request, &question);
        if answer.status != PENDING {
            return answer;
        }
        if Instant::now() >= until {
            return Answer { text: [b"not done in time: ", &answer.text[..]].concat(), ..answer };
        }
        std::thread::sleep(PAUSE);
    }
}

/// Runs a command in the vassal of an answer, to its exit status.
fn enter_it(request: &Request, answer: &Answer) -> i32 {
    let text = String::from_utf8_lossy(&answer.text);
    // The pids could be those of other processes by the time that they are used, but not if they are the same
    // after that.
    let is_still = || ask(request, &request.question).text == answer.text;
    let task = enter::Task { command: &request.command, as_user: request.as_user };
    enter::enter(&text, &task, &is_still).unwrap_or_else(|error| {
        log::print_error(&format!("emperor: {error}\n"));
        1
    })
}

/// Prints an answer; returns the exit status.
fn show(Answer { status, text }: Answer) -> i32 {
    if status == ILL {
        return match cli::print("emperor", &text) {
            0 => PROBLEM,
            failed => failed,
        };
    }
    if status != DONE {
        log::print_error(&format!("emperor: {}", String::from_utf8_lossy(&text)));
        return 1;
    }
    cli::print("emperor", &text)
}

/// What a command line says besides the request.
#[derive(Default)]
struct Line {
    /// The command, and the names behind it.
    words: Vec<OsString>,
    /// The options of status, each with a blank behind it.
    options: String,
    json: bool,
    is_up: bool,
    at_once: bool,
}

/// Reads a command line; `at` becomes the number of the word that is wrong.
fn parse(words: &[OsString], kind: Kind, at: &mut usize) -> std::result::Result<Request, Mistake> {
    let mut request = Request {
        path: usual_path(),
        question: Vec::new(),
        patience: if kind == Kind::Upgrade { PATIENCE_WITH_UPGRADES } else { PATIENCE },
        wait: None,
        watch: false,
        command: Vec::new(),
        as_user: false,
        next: None,
        logs: Logs::default(),
        places: Vec::new(),
    };
    let mut line = Line::default();
    read(words, kind, at, &mut request, &mut line)?;
    complete(kind, &mut line, &mut request)?;
    Ok(request)
}

fn read(
    words: &[OsString],
    kind: Kind,
    at: &mut usize,
    request: &mut Request,
    line: &mut Line,
) -> std::result::Result<(), Mistake> {
    let mut parser = lexopt::Parser::from_args(words);
    loop {
        note_place(&mut parser, words.len(), at);
        let Some(word) = parser.next()? else { return Ok(()) };
        match word {
            Arg::Long("control") => request.path = parser.value()?.into(),
            Arg::Long("json") if kind == Kind::Status => line.json = true,
            Arg::Long("is-up") if kind == Kind::Status => line.is_up = true,
            Arg::Long("watch") if kind == Kind::Status => request.watch = true,
            Arg::Long("problems") if kind == Kind::Status => line.push_option(Query::PROBLEMS, ""),
            Arg::Long("state") if kind == Kind::Status => {
                let states = parser.value()?.into_string().map_err(|_| "states are words".to_owned())?;
                if let Some(unknown) = states.split(',').find(|state| !STATES.contains(state)) {
                    let hint = "the states are ".to_owned() + &STATES.join(", ");
                    return Err(Mistake(format!("'{unknown}' is not a state"), Some(hint)));
                }
                line.push_option(Query::STATES, &states);
            }
            Arg::Long("user") if kind == Kind::Enter => request.as_user = true,
            // The new program has another vassal-init.
            Arg::Long("roll") if kind == Kind::Upgrade => request.next = Some(&b"roll"[..]),
            Arg::Long("wait") if matches!(kind, Kind::Order(_)) => {
                let time = parser.optional_value();
                request.wait = Some(time.map_or(Ok(WAIT), |time| config::duration(time.as_bytes()))?);
            }
            Arg::Long("now") if kind == Kind::Order(Order::Stop) => line.at_once = true,
            Arg::Short('f') | Arg::Long("follow") if kind == Kind::Logs => request.logs.follows = true,
            Arg::Short('n') | Arg::Long("lines") if kind == Kind::Logs => {
                request.logs.lines = number_of_lines(parser.value()?)?;
            }
            // As of tail.
            Arg::Short(digit @ '0'..='9') if kind == Kind::Logs => {
                let mut number = OsString::from(digit.to_string());
                number.extend(parser.optional_value());
                request.logs.lines = number_of_lines(number)?;
            }
            Arg::Value(word) => line.words.push(word),
            // One that another command has is no slip.
            Arg::Long(name) if !OPTIONS.contains(&name) => return Err(unknown_option(name, OPTIONS)),
            Arg::Short(_) | Arg::Long(_) => return Err(word.unexpected().into()),
        }
    }
}

/// Makes the question.
fn complete(kind: Kind, line: &mut Line, request: &mut Request) -> std::result::Result<(), &'static str> {
    let mut options = None;
    let mut names = line.words.len().saturating_sub(1);
    match (kind, names) {
        // The same question as whether a start has come to its end.
        (Kind::Status, 1) if line.is_up && !line.json && line.options.is_empty() && !request.watch => {
            request.question = [OUTCOME, b"start"].concat();
        }
        (Kind::Status, _) if !(line.is_up || line.json && request.watch) => {
            if let (1, Some(name)) = (names, line.words.get(1))
                && !(line.json || request.watch || glob::has_wildcard(name.as_bytes()))
                && line.options.is_empty()
            {
                request.places = [b"logs\0", name.as_bytes()].concat();
                request.logs.lines = "20".into();
            }
            if line.json {
                line.push_option(Query::JSON, "");
            } else if let Ok((_, columns)) = size(rustix::stdio::stdout()) {
                line.push_option(Query::WIDTH, &columns.to_string());
            }
            options = Some(line.options.as_str());
        }
        (Kind::Status, _) => return Err("--is-up goes with one NAME alone, and --watch not with --json"),
        (Kind::Ps, _) => options = Some(""),
        (Kind::Enter, 1..) => {
            options = Some("");
            names = 1;
            request.command = line.words.drain(2..).collect();
        }
        (Kind::Upgrade | Kind::Roll, 0) | (Kind::Order(_) | Kind::Logs, 1) => {}
        (Kind::Order(_) | Kind::Logs | Kind::Enter, 0) => return Err("the name of a vassal is missing"),
        (Kind::Order(_) | Kind::Logs, _) => return Err("it takes one NAME, and no pattern"),
        _ => return Err("it is for all vassals, and takes no NAME"),
    }
    let Line { words, at_once, .. } = line;
    let question = &mut request.question;
    if question.is_empty() {
        question.extend_from_slice(words.first().map_or(b"", |command| command.as_bytes()));
    }
    let mut add = |part: &[u8]| {
        question.push(0);
        question.extend_from_slice(part);
    };
    if let Some(options) = options {
        add(options.as_bytes());
    }
    for name in words.iter().skip(1).take(names) {
        add(name.as_bytes());
    }
    if *at_once {
        add(NOW);
    }
    Ok(())
}

/// LINES as `tail` takes it: `5`, `-5`, or from line 5 on `+5`.
fn number_of_lines(lines: OsString) -> std::result::Result<OsString, Mistake> {
    let text = lines.to_str().map(|lines| lines.strip_prefix('-').unwrap_or(lines)).unwrap_or_default();
    match text.strip_prefix('+').unwrap_or(text).parse::<u64>() {
        Ok(_) => Ok(text.into()),
        Err(_) => Err("LINES is a number".into()),
    }
}

impl Line {
    fn push_option(&mut self, option: &str, value: &str) {
        for part in [option, value, " "] {
            self.options.push_str(part);
        }
    }
}

/// Asks, and returns the answer; if none comes, the reason as a failure.
fn ask(request: &Request, question: &[u8]) -> Answer {
    match try_to_ask(request, question) {
        Ok(mut text) if !text.is_empty() => Answer { status: text.remove(0), text },
        Ok(_) => Answer { status: FAILED, text: b"the emperor has hung up without an answer\n".to_vec() },
        Err(error) => Answer { status: FAILED, text: format!("{error}\n").into_bytes() },
    }
}

fn try_to_ask(Request { path, patience, .. }: &Request, question: &[u8]) -> Result<Vec<u8>> {
    let failed = |errno| match errno {
        Errno::ACCESS => Error::new("ask the emperor at", path.display(), "only root, or its own user, may"),
        Errno::AGAIN => {
            let reason = format_args!("no answer within {} s", patience.as_secs());
            Error::new("no emperor answers at", path.display(), reason)
        }
        errno => Error::os("no emperor answers at", path.display(), errno),
    };
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("create", "socket")?;
    for side in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, side, Some(*patience)).context("set up", "socket")?;
    }
    retry_on_intr(|| connect(&socket, &address)).map_err(failed)?;
    let asked = write_all(socket.as_fd(), question).and_then(|()| shutdown(&socket, Shutdown::Write));
    match asked {
        // A client that may not ask is told so before it has asked.
        Ok(()) | Err(Errno::PIPE) => read_answer(&socket).map_err(failed),
        Err(errno) => Err(failed(errno)),
    }
}

/// All that the emperor sends before it hangs up.
fn read_answer(socket: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match retry_on_intr(|| rustix::io::read(socket, &mut buffer)) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            // The question was not read to its end, but answered.
            Err(Errno::CONNRESET) if !answer.is_empty() => return Ok(answer),
            Err(errno) => return Err(errno),
        }
    }
}
