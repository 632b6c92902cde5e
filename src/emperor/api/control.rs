//! The commands for a running emperor: `emperor status`, `reload`, `stop`, `start`, `upgrade`, `roll`.
//!
//! A question is the words of the command, separated by NUL bytes, which no file name contains. It ends when
//! the client shuts down its side of the connection. The answer is `0` for success or `1` for failure, then a
//! text.
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

/// The first byte of an answer: success.
pub const DONE: u8 = b'0';
/// The first byte of an answer: failure.
pub const FAILED: u8 = b'1';
/// The first byte of an answer: the outcome is not known yet.
pub const PENDING: u8 = b'2';

/// The kinds of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Status,
    Upgrade,
    Roll,
    /// An order to one vassal.
    Order(Order),
}

pub(super) const COMMANDS: [(&str, Kind); 6] = [
    ("status", Kind::Status),
    ("reload", Kind::Order(Order::Reload)),
    ("stop", Kind::Order(Order::Stop)),
    ("start", Kind::Order(Order::Start)),
    ("upgrade", Kind::Upgrade),
    ("roll", Kind::Roll),
];

/// A command as the client has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// The status of the vassals, as a table or as JSON.
    Status {
        /// Whether as JSON.
        json: bool,
        /// The name of a vassal; all vassals if it is empty.
        of: &'a OsStr,
    },
    /// An order to this vassal.
    Order(Order, &'a OsStr),
    /// The question for the outcome of such an order.
    Outcome(Order, &'a OsStr),
    /// Replace the emperor by its new program.
    Upgrade,
    /// Replace the instances of all vassals.
    Roll,
}

impl<'a> Command<'a> {
    /// Reads a question; `None` if it is not one of these commands.
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
            Kind::Roll => Self::Roll,
            Kind::Order(order) => Self::Order(*order, OsStr::from_bytes(argument)),
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
