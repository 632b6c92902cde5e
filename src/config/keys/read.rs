//! Reading one setting into its place in a plan: the value is parsed, and a mistake is noted with key and
//! place.

use std::ffi::OsString;

use super::habits::{self, Habit};
use super::values::Parsed;
use crate::config::diagnostic::Diagnostics;
use crate::config::plan::Located;
use crate::config::setting::Setting;

/// One setting that is being read.
pub(crate) struct Reader<'a> {
    /// The setting.
    pub setting: &'a Setting,
    /// Where mistakes go.
    pub found: &'a mut Diagnostics,
}

impl<'a> Reader<'a> {
    /// The value as it is written.
    pub fn text(&self) -> &'a [u8] {
        self.setting.text()
    }

    /// The parsed value; after a mistake, which is noted, `None`.
    pub fn checked<T>(&mut self, parsed: Parsed<T>) -> Option<T> {
        parsed.map_err(|message| self.refuse(message)).ok()
    }

    /// Parses the value; after a mistake, which is noted, returns `None`.
    pub fn value<T>(&mut self, parse: fn(&[u8]) -> Parsed<T>) -> Option<T> {
        self.checked(parse(self.text()))
    }

    /// Parses the value, and returns it with its key and place.
    pub fn located<T>(&mut self, parse: fn(&[u8]) -> Parsed<T>) -> Option<Located<T>> {
        self.value(parse).map(|value| self.setting.locate(value))
    }

    /// Puts a good value into `slot`: the last good one counts.
    pub fn set<T>(&mut self, slot: &mut T, parse: fn(&[u8]) -> Parsed<T>) {
        if let Some(value) = self.value(parse) {
            *slot = value;
        }
    }

    /// Puts a good value into `slot`, for a value that may be absent: the last good one counts.
    pub fn set_some<T>(&mut self, slot: &mut Option<T>, parse: fn(&[u8]) -> Parsed<T>) {
        if let Some(value) = self.value(parse) {
            *slot = Some(value);
        }
    }

    /// Puts a good value with its key and place into `slot`: the last good one counts.
    pub fn set_located<T>(&mut self, slot: &mut Option<Located<T>>, parse: fn(&[u8]) -> Parsed<T>) {
        if let Some(value) = self.located(parse) {
            *slot = Some(value);
        }
    }

    /// Adds a good value to a list.
    pub fn add<T>(&mut self, list: &mut Vec<T>, parse: fn(&[u8]) -> Parsed<T>) {
        if let Some(value) = self.value(parse) {
            list.push(value);
        }
    }

    /// Adds a good value with its key and place to a list.
    pub fn add_located<T>(&mut self, list: &mut Vec<Located<T>>, parse: fn(&[u8]) -> Parsed<T>) {
        if let Some(value) = self.located(parse) {
            list.push(value);
        }
    }

    /// Adds a good value to a list of options that are passed on as text, under the key that they have there,
    /// with its place ([`placed`](crate::config::input::placed)).
    pub fn option(
        &mut self,
        list: &mut Vec<(String, OsString)>,
        key: &str,
        parse: fn(&[u8]) -> Parsed<OsString>,
    ) {
        list.extend(self.value(parse).map(|value| (format!("{key}@{}", self.setting.value_at), value)));
    }

    /// Warns of a habit of other formats in the value, or of one that only this program looks for, unless the
    /// value was refused: then the hint has it.
    pub fn tell_of_habits(&mut self, own: fn(&[u8], &[u8]) -> Option<Habit>) {
        let (key, at) = (&self.setting.key, &self.setting.value_at);
        if let Some(Habit(message, hint)) = habits::find(key, self.text()).or_else(|| own(key, self.text()))
            && !self.found.has(at)
        {
            let message = format!("'{}': {message}", self.setting.key.escape_ascii());
            self.found.warning(at, message).hint(hint);
        }
    }

    fn refuse(&mut self, message: String) {
        let key = self.setting.key.escape_ascii();
        let found = self.found.error(&self.setting.value_at, format!("'{key}': {message}"));
        if let Some(Habit(habit, hint)) = habits::find(&self.setting.key, self.setting.text()) {
            found.hint(format!("{habit}: {hint}"));
        }
    }
}
