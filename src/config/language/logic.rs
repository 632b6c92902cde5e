//! `if-*` and `for*`: what a block does to each line inside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::glob;
use super::index::Settings;
use super::placeholder::Budget;
use crate::config::bytes::leading_integer;
use crate::config::plan::Location;
use crate::config::setting::Setting;
use crate::config::world::World;
use crate::error::Cause;
use crate::names;
use crate::names::Names;

/// More repetitions would exceed the limit on options.
const REPETITIONS_MAX: usize = 10_000;
/// One more than the limit, which is refused.
const ENOUGH: usize = REPETITIONS_MAX + 1;

/// The condition of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Holds or not; the flag is the result that is expected.
    If(Test, bool),
    For,
    ForTimes,
    ForReadline,
    ForGlob,
    /// Only uWSGI can decide it: which plugins are loaded, and whether its regular expressions match.
    ForUwsgi,
}

/// What an `if-*` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Directory,
    Environment,
    Exists,
    File,
    Hostname,
    Option,
    Reload,
}

/// Every key that opens a block.
static CONDITIONS: Names<Condition> = names![
    ("for", Condition::For),
    ("for-glob", Condition::ForGlob),
    ("for-readline", Condition::ForReadline),
    ("for-times", Condition::ForTimes),
    ("if-dir", Condition::If(Test::Directory, true)),
    ("if-directory", Condition::If(Test::Directory, true)),
    ("if-env", Condition::If(Test::Environment, true)),
    ("if-exists", Condition::If(Test::Exists, true)),
    ("if-file", Condition::If(Test::File, true)),
    ("if-hostname", Condition::If(Test::Hostname, true)),
    ("if-hostname-match", Condition::ForUwsgi),
    ("if-not-dir", Condition::If(Test::Directory, false)),
    ("if-not-env", Condition::If(Test::Environment, false)),
    ("if-not-exists", Condition::If(Test::Exists, false)),
    ("if-not-file", Condition::If(Test::File, false)),
    ("if-not-hostname", Condition::If(Test::Hostname, false)),
    ("if-not-hostname-match", Condition::ForUwsgi),
    ("if-not-opt", Condition::If(Test::Option, false)),
    ("if-not-plugin", Condition::ForUwsgi),
    ("if-not-reload", Condition::If(Test::Reload, false)),
    ("if-opt", Condition::If(Test::Option, true)),
    ("if-plugin", Condition::ForUwsgi),
    ("if-reload", Condition::If(Test::Reload, true)),
    ("ifdir", Condition::If(Test::Directory, true)),
    ("ifenv", Condition::If(Test::Environment, true)),
    ("ifexists", Condition::If(Test::Exists, true)),
    ("ifplugin", Condition::ForUwsgi),
];

/// The keys that open a block.
pub(super) fn names() -> Vec<&'static str> {
    CONDITIONS.names()
}

impl Condition {
    /// The condition that a key opens a block with.
    pub fn of(key: &[u8]) -> Option<Self> {
        // The others are not compared with all names.
        if matches!(key, [b'i', b'f', ..] | [b'f', b'o', ..]) { CONDITIONS.find(key) } else { None }
    }
}

/// An open block.
pub(super) struct Block {
    /// Its key.
    pub key: Vec<u8>,
    /// Where it was opened.
    pub at: Location,
    lines: Lines,
    /// The question of `if-opt` and `if-not-opt`. It is asked again before each line, because lines of the
    /// block count as options too.
    asks_again: Option<(Vec<u8>, bool)>,
    /// The length of the option's name in the question.
    name: usize,
    /// The number of settings when the question was last asked.
    seen: usize,
}

/// What a block may ask.
pub(super) struct Around<'a> {
    /// All settings so far.
    pub settings: &'a Settings,
    /// The answer for `if-reload`.
    pub reload: bool,
    pub world: &'a dyn World,
    /// The rest of the work that may be done.
    pub budget: &'a Budget,
    /// Reads a file.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>, Cause>,
}

/// What becomes of each line inside a block.
enum Lines {
    /// It is added once per item; `Some` replaces `%(_)`.
    Repeated(Vec<Option<Vec<u8>>>),
    /// uWSGI decides whether it counts.
    ForUwsgi,
}

impl Block {
    /// Opens the block of `setting`. Its condition is decided now, on text that has not been expanded.
    ///
    /// # Errors
    /// A `for*` repeats its lines too often, its file cannot be read, or its pattern takes more work than is
    /// left.
    pub fn open(setting: &Setting, condition: Condition, around: &Around<'_>) -> Result<Self, String> {
        let argument = setting.text();
        let path = Path::new(OsStr::from_bytes(argument));
        let failed = |what: &str| Err(format!("'{}': {what}", setting.key.escape_ascii()));
        let mut items = Vec::new();
        let mut add = |item: &[u8]| items.push(Some(item.to_vec()));
        match condition {
            Condition::ForUwsgi => return Ok(Self::new(setting, Lines::ForUwsgi)),
            Condition::If(test, expected) => {
                let (holds, item) = test.look(argument, around);
                if holds == expected {
                    items.push(item);
                }
            }
            Condition::ForGlob => match glob::paths(argument, around.world, around.budget) {
                Some(paths) => paths.iter().for_each(|path| add(path)),
                None => return failed("too many names to look at"),
            },
            Condition::For => {
                let words = argument.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
                words.take(ENOUGH).for_each(add);
            }
            Condition::ForTimes => {
                let times = leading_integer(argument).0.unwrap_or(0);
                let times = usize::try_from(times).unwrap_or(0).min(ENOUGH);
                (1..=times).for_each(|number| add(number.to_string().as_bytes()));
            }
            Condition::ForReadline => {
                let text = match (around.read)(path) {
                    Ok(text) => text,
                    Err(error) => {
                        return failed(&format!("cannot read '{}': {}", path.display(), error));
                    }
                };
                let text = text.strip_suffix(b"\n").unwrap_or(&text);
                let lines = text.split(|&byte| byte == b'\n').take(ENOUGH).map(without_returns);
                if !text.is_empty() {
                    lines.for_each(add);
                }
            }
        }
        if items.len() > REPETITIONS_MAX {
            return failed("more repetitions than a configuration may have options");
        }
        let mut block = Self::new(setting, Lines::Repeated(items));
        if let Condition::If(Test::Option, expected) = condition {
            block.asks_again = Some((argument.to_vec(), expected));
            block.name = argument.iter().take_while(|&&byte| byte != b'=').count();
            block.seen = around.settings.list().len();
        }
        Ok(block)
    }

    /// Decides the condition again for the next line, if the block's own lines can change it.
    pub fn ask_again(&mut self, settings: &Settings) {
        let Some((argument, expected)) = &self.asks_again else { return };
        let name = argument.get(..self.name).unwrap_or_default();
        let new = settings.list().get(self.seen..).unwrap_or_default();
        self.seen = settings.list().len();
        // Only the first option of a name counts, and comparing a long value for each line would take long.
        if new.iter().any(|setting| setting.key == name) {
            let (holds, item) = option(argument, settings);
            self.lines = Lines::Repeated(if holds == *expected { vec![item] } else { Vec::new() });
        }
    }

    /// A block that skips all its lines.
    pub fn skipped(setting: &Setting) -> Self {
        Self::new(setting, Lines::Repeated(Vec::new()))
    }

    fn new(setting: &Setting, lines: Lines) -> Self {
        Self { key: setting.key.clone(), at: setting.at.clone(), lines, asks_again: None, name: 0, seen: 0 }
    }

    /// The block with the opposite condition, for `else`; `None` if it cannot have an `else`.
    pub fn otherwise(self) -> Option<Self> {
        if !self.key.starts_with(b"if") {
            return None;
        }
        let lines = match self.lines {
            Lines::Repeated(items) if items.is_empty() => Lines::Repeated(vec![None]),
            Lines::Repeated(_) => Lines::Repeated(Vec::new()),
            Lines::ForUwsgi => Lines::ForUwsgi,
        };
        Some(Self { lines, asks_again: None, ..self })
    }

    /// How often each line is added and what stands for `%(_)`; `None` where uWSGI decides.
    pub fn repetitions(&self) -> Option<&[Option<Vec<u8>>]> {
        match &self.lines {
            Lines::Repeated(items) => Some(items),
            Lines::ForUwsgi => None,
        }
    }

    /// Whether only uWSGI can decide it.
    pub fn for_uwsgi(&self) -> bool {
        matches!(self.lines, Lines::ForUwsgi)
    }
}

impl Test {
    /// Whether it holds, and what `%(_)` stands for.
    fn look(self, argument: &[u8], around: &Around<'_>) -> (bool, Option<Vec<u8>>) {
        let world = around.world;
        let status = || world.status(Path::new(OsStr::from_bytes(argument)));
        let itself = Some(argument.to_vec());
        match self {
            Self::Directory => (status().is_some_and(|status| status.is_directory), itself),
            Self::Exists => (status().is_some(), itself),
            Self::File => (status().is_some_and(|status| status.is_file), itself),
            Self::Hostname => (world.host().hostname().as_bytes() == argument, itself),
            Self::Reload => (around.reload, None),
            Self::Environment => compare(argument, |name| {
                world.env(OsStr::from_bytes(name)).map(|value| value.as_bytes().to_vec())
            }),
            Self::Option => option(argument, around.settings),
        }
    }
}

/// Without the carriage returns at its end. As in uWSGI, other blanks stay.
fn without_returns(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    line
}

/// Whether there is such an option so far. As in uWSGI, the line that asks counts as one.
fn option(argument: &[u8], settings: &Settings) -> (bool, Option<Vec<u8>>) {
    compare(argument, |name| settings.value_of(name, settings.list().len()).map(<[u8]>::to_vec))
}

/// Whether the variable `NAME` exists, or has the value in `NAME=VALUE`; and its value.
fn compare(argument: &[u8], value_of: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (bool, Option<Vec<u8>>) {
    let mut parts = argument.splitn(2, |&byte| byte == b'=');
    let value = value_of(parts.next().unwrap_or_default());
    let holds = match (&value, parts.next()) {
        (Some(value), Some(expected)) => value == expected,
        (value, _) => value.is_some(),
    };
    (holds, value)
}
