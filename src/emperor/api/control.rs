//! The commands for a running emperor: `emperor status`, `logs`, `ps`, `enter`, `reload`, `stop`, `start`,
//! `upgrade` and `roll`.
//!
//! A question is the words of the command, separated by NUL bytes, which no file name contains. It ends when
//! the client shuts down its side of the connection. The answer is `0` for success, `3` if something is wrong
//! with what was asked for, or `1` for failure, then a text.
//!
//! `reload`, `stop` and `start` give an order to one vassal, which is answered at once. With `--wait` the
//! client then asks for the outcome, with `outcome` before the same words, until the answer no longer begins
//! with `2`. The order has taken effect by then, so the client does not mistake an earlier state of the
//! vassal for the outcome.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::emperor::core::order::{Order, Outcome};
use crate::sys::environment;

/// The path of the socket if `control` sets no other: in the user's own directory for such files, or in
/// `/run` for root and where there is no such directory.
pub fn usual_path() -> PathBuf {
    let of_user = match rustix::process::geteuid().is_root() {
        true => None,
        false => environment::variable("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty()),
    };
    Path::new(of_user.as_deref().unwrap_or(OsStr::new("/run"))).join("emperor.sock")
}

/// An upgrade waits for commands of as-emperor, which may take a minute, and then for the new program.
pub const PATIENCE_WITH_UPGRADES: Duration = Duration::from_secs(90);

/// Stands before the words of an order in a question for its outcome.
pub(super) const OUTCOME: &[u8] = b"outcome\0";

/// Stands behind the words of an order to stop at once.
pub(super) const NOW: &[u8] = b"now";

/// The first byte of an answer: success.
pub const DONE: u8 = b'0';
/// The first byte of an answer: failure.
pub const FAILED: u8 = b'1';
/// The first byte of an answer: the outcome is not known yet.
pub const PENDING: u8 = b'2';
/// The first byte of an answer: success, and something is wrong with what was asked for.
pub const ILL: u8 = b'3';

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Status,
    Logs,
    /// The processes of vassals, as a list.
    Ps,
    /// A command in a vassal.
    Enter,
    Upgrade,
    Roll,
    /// An order to one vassal.
    Order(Order),
}

pub(super) const COMMANDS: [(&str, Kind); 9] = [
    ("status", Kind::Status),
    ("logs", Kind::Logs),
    ("ps", Kind::Ps),
    ("enter", Kind::Enter),
    ("reload", Kind::Order(Order::Reload)),
    ("stop", Kind::Order(Order::Stop)),
    ("start", Kind::Order(Order::Start)),
    ("upgrade", Kind::Upgrade),
    ("roll", Kind::Roll),
];

/// A command as the client has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// The status of vassals.
    Status(Query<'a>),
    /// Where the instances of this vassal write to, one place in a line.
    Logs(&'a OsStr),
    /// The pids of vassals. The client does the rest.
    Processes(Query<'a>),
    /// An order to this vassal, and whether it is to stop at once.
    Order((Order, bool), &'a OsStr),
    /// The question for the outcome of such an order.
    Outcome(Order, &'a OsStr),
    /// Replace the emperor by its new program.
    Upgrade,
    /// Replace the instances of all vassals.
    Roll,
}

/// What a question for the status asks for: a word with options, separated by blanks, then names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    options: &'a [u8],
    /// The names or patterns, separated by NUL bytes; all vassals if it is empty.
    names: &'a [u8],
}

impl<'a> Query<'a> {
    /// An answer as JSON is asked for.
    pub const JSON: &'static str = "json";
    /// Only what is ill is asked for.
    pub const PROBLEMS: &'static str = "problems";
    /// Only those in some states are asked for, whose names follow, separated by commas.
    pub const STATES: &'static str = "state=";
    /// The width of the terminal follows.
    pub const WIDTH: &'static str = "width=";

    fn options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.options.split(|&byte| byte == b' ')
    }

    /// Whether there is such an option.
    pub fn has(&self, option: &str) -> bool {
        self.options().any(|known| known == option.as_bytes())
    }

    /// The value of an option.
    pub fn value(&self, option: &str) -> Option<&'a str> {
        let value = self.options().find_map(|known| known.strip_prefix(option.as_bytes()))?;
        std::str::from_utf8(value).ok()
    }

    /// The names and patterns.
    pub fn names(&self) -> Vec<&'a OsStr> {
        let names = self.names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        names.map(OsStr::from_bytes).collect()
    }
}

impl<'a> Command<'a> {
    /// Reads a question; `None` if it is not one of these commands.
    pub fn read(question: &'a [u8]) -> Option<Self> {
        let outcome = question.strip_prefix(OUTCOME);
        let mut words = outcome.unwrap_or(question).splitn(3, |&byte| byte == 0);
        let command = words.next()?;
        let argument = words.next().unwrap_or_default();
        let (_, kind) = COMMANDS.iter().find(|(name, _)| name.as_bytes() == command)?;
        Some(match kind {
            Kind::Order(order) if outcome.is_some() => Self::Outcome(*order, OsStr::from_bytes(argument)),
            Kind::Status | Kind::Ps | Kind::Enter => {
                let query = Query { options: argument, names: words.next().unwrap_or_default() };
                if *kind == Kind::Status { Self::Status(query) } else { Self::Processes(query) }
            }
            Kind::Logs => Self::Logs(OsStr::from_bytes(argument)),
            Kind::Upgrade => Self::Upgrade,
            Kind::Roll => Self::Roll,
            Kind::Order(order) => {
                let at_once = words.next() == Some(NOW);
                Self::Order((*order, at_once), OsStr::from_bytes(argument))
            }
        })
    }
}

/// An answer: a text, after the byte for success or failure.
pub fn answer(told: Result<String, String>) -> Vec<u8> {
    match told {
        Ok(text) => reply(DONE, text),
        Err(text) => reply(FAILED, text),
    }
}

/// An answer about vassals, and whether something is wrong with one.
pub fn health(is_ill: bool, text: String) -> Vec<u8> {
    reply(if is_ill { ILL } else { DONE }, text)
}

/// The answer to a question for the outcome of an order.
pub fn outcome(outcome: Outcome, text: String) -> Vec<u8> {
    let status = match outcome {
        Outcome::Done => DONE,
        Outcome::Failed => FAILED,
        Outcome::Pending => PENDING,
    };
    reply(status, text)
}

/// An answer with its first byte.
fn reply(status: u8, mut text: String) -> Vec<u8> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    [&[status], text.as_bytes()].concat()
}
