//! One expanded option: key, value, place, and what is left to do with it.

use std::cell::Cell;

use super::plan::{Located, Location};

/// The most bytes of all files together, and of all values together.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// One option, expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` only for an option of the command line that was given without one.
    pub value: Option<Vec<u8>>,
    /// Where the key is.
    pub at: Location,
    /// Where the value is.
    pub value_at: Location,
    /// What is left of it to do.
    pub(super) state: State,
    /// Whether its value was asked for by name, as placeholder or by `if-opt`.
    pub(super) used: Cell<bool>,
}

/// What is left to do with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// To be expanded and read.
    Open,
    /// To be read as it is: an option of the emperor, which has expanded it. A second expansion would let a
    /// vassal's file define a placeholder that was left in a command that root runs.
    Verbatim,
    /// It took effect while it was read (`include`, `if-*`, `set`, …), and is only shown.
    Done,
    /// A placeholder: never an option, never expanded.
    Placeholder,
    /// Its value is the output of a command, and a check runs none.
    LeftOpen,
    /// Inside a block that only uWSGI can decide (`if-plugin`): handed on as it is.
    ForUwsgi,
}

/// An expanded option as one program hands it to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlainSetting {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` if it was given without one.
    pub value: Option<Vec<u8>>,
    /// The file where the key is, as [`Location::file`].
    pub file: String,
    /// The line there.
    pub line: u32,
    /// The column there.
    pub column: u32,
}

impl Setting {
    /// The option as it is handed on; `None` if nothing is left of it to do.
    pub(super) fn plain(&self) -> Option<PlainSetting> {
        let Location { file, line, column } = &self.at;
        matches!(self.state, State::Open | State::Verbatim).then(|| PlainSetting {
            key: self.key.clone(),
            value: self.value.clone(),
            file: file.to_string(),
            line: *line,
            column: *column,
        })
    }

    /// An option that was handed on: it is read, and not expanded again.
    pub(super) fn of_plain(plain: &PlainSetting) -> Self {
        let PlainSetting { key, value, file, line, column } = plain.clone();
        let at = Location { file: file.into(), line, column };
        let (value_at, used) = (at.clone(), Cell::new(false));
        Self { key, value, at, value_at, state: State::Open, used }
    }

    /// The key as text, to compare it with the names of keys; empty if it is not UTF-8, since all names are.
    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.key).unwrap_or_default()
    }

    /// A value with the key and place of this setting.
    pub(super) fn locate<T>(&self, value: T) -> Located<T> {
        let Located { value: (), key, at } = self.place();
        Located { value, key, at }
    }

    fn place(&self) -> Located<()> {
        let key = String::from_utf8_lossy(&self.key).into();
        Located { value: (), key, at: self.value_at.clone() }
    }

    /// The value, empty where there is none.
    pub fn text(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }
}
