//! One setting: key, value, place, and what remains to be done with it.

use std::cell::Cell;

use super::plan::{Located, Location};

/// How many bytes all files together may have, and all values together.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// One setting.
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
    /// What remains to be done with it.
    pub(super) state: State,
    /// Whether the value was asked for by name, as a placeholder or by `if-opt`.
    pub(super) used: Cell<bool>,
    /// Its value in another instance of the vassal, where `%(replica)` is another number. `None` if that is
    /// not known, as where there is one instance only.
    pub(super) in_sibling: Option<Vec<u8>>,
}

/// What remains to be done with a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is to be expanded and read.
    Open,
    /// It is to be read as it is: a setting from the emperor, which has expanded it. A second expansion would
    /// let a vassal's file define a placeholder that was left in a command that root runs.
    Verbatim,
    /// It took effect while it was read (`include`, `if-*`, `set`, …), and is only shown.
    Done,
    /// It is a placeholder: not an option, and never expanded.
    Placeholder,
    /// Its value is the output of a command, and this is a check, which runs no command.
    LeftOpen,
    /// It is inside a block that only uWSGI can decide (`if-plugin`), and is passed on as it is.
    ForUwsgi,
}

/// A setting as one program passes it to another.
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
    /// The setting as it is passed on; `None` if nothing remains to be done with it.
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

    /// A setting that was passed on: it is read, and not expanded again.
    pub(super) fn of_plain(plain: &PlainSetting) -> Self {
        let PlainSetting { key, value, file, line, column } = plain.clone();
        let at = Location { file: file.into(), line, column };
        let (value_at, used) = (at.clone(), Cell::new(false));
        Self { key, value, at, value_at, state: State::Open, used, in_sibling: None }
    }

    /// The key as text, to compare it with the names of keys; empty if it is not UTF-8, as all names are.
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

    /// Whether another instance has the same value.
    pub(super) fn is_shared(&self) -> bool {
        self.in_sibling.as_deref() == Some(self.text())
    }

    /// The value; empty without one.
    pub fn text(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }
}
