//! The commands for a running emperor: `emperor status`, `reload`, `stop`, `start`, `upgrade`.
//!
//! A question is the words of the command, separated by NUL bytes, which no name of a file contains; it ends
//! with the client's side of the connection. The answer begins with `0` or `1`, whether it went well or not;
//! a text follows.
//!
//! An order is answered at once. With `--wait` the client asks on, with `outcome` ahead of the same words,
//! until the answer does not begin with `2` any more. The order has taken effect by then, so that an earlier
//! state of the vassal is not mistaken for its outcome.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::emperor::core::order::{Order, Outcome};

/// Where the socket is unless `control` says otherwise.
pub const DEFAULT: &str = "/run/emperor.sock";

/// An upgrade waits for commands of as-emperor, which may take a minute, and then for the new program.
pub const PATIENCE_WITH_UPGRADES: Duration = Duration::from_secs(90);

/// Stands ahead of the words of an order in a question for its outcome.
pub(super) const OUTCOME: &[u8] = b"outcome\0";

/// How an answer begins: it went well.
pub const DONE: u8 = b'0';
/// It did not go well.
pub const FAILED: u8 = b'1';
/// It is not known yet.
pub const PENDING: u8 = b'2';

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Status,
    Upgrade,
    /// One vassal is to do something.
    Order(Order),
}

pub(super) const COMMANDS: [(&str, Kind); 5] = [
    ("status", Kind::Status),
    ("reload", Kind::Order(Order::Reload)),
    ("stop", Kind::Order(Order::Stop)),
    ("start", Kind::Order(Order::Start)),
    ("upgrade", Kind::Upgrade),
];

/// A command, as it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// How the vassals are, as a table or as JSON.
    Status {
        /// Whether as JSON.
        json: bool,
        /// Which one; all if it is empty.
        of: &'a OsStr,
    },
    /// A vassal is to do something.
    Order(Order, &'a OsStr),
    /// A question for the outcome of such an order.
    Outcome(Order, &'a OsStr),
    /// The emperor is to become its new program.
    Upgrade,
}

impl<'a> Command<'a> {
    /// Reads a question; `None` if that is no command of these.
    pub fn read(question: &'a [u8]) -> Option<Self> {
        let outcome = question.strip_prefix(OUTCOME);
        let mut words = outcome.unwrap_or(question).split(|&byte| byte == 0);
        let command = words.next()?;
        let argument = words.next().unwrap_or_default();
        let (_, kind) = COMMANDS.iter().find(|(name, _)| name.as_bytes() == command)?;
        Some(match kind {
            Kind::Order(order) if outcome.is_some() => Self::Outcome(*order, OsStr::from_bytes(argument)),
            Kind::Status => {
                let of = OsStr::from_bytes(words.next().unwrap_or_default());
                Self::Status { json: argument == b"json", of }
            }
            Kind::Upgrade => Self::Upgrade,
            Kind::Order(order) => Self::Order(*order, OsStr::from_bytes(argument)),
        })
    }
}

/// An answer: a text, and whether it went well.
pub fn answer(told: Result<String, String>) -> Vec<u8> {
    match told {
        Ok(text) => reply(DONE, text),
        Err(text) => reply(FAILED, text),
    }
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

/// An answer by how it begins.
fn reply(status: u8, mut text: String) -> Vec<u8> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    [&[status], text.as_bytes()].concat()
}
