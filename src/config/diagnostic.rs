//! Mistakes and warnings: collected in one pass, each shown with its line, a caret and a hint.

use std::fmt;
use std::rc::Rc;

use super::plan::Location;
use crate::json::Json;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// More findings than this help nobody: of what comes later only the last one is kept.
const FINDINGS_MAX: usize = 100;

/// One finding, complete with what is needed to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Where it is.
    pub at: Location,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    pub hint: Option<String>,
    /// The offending line as it was written, empty where the source has no lines.
    line: String,
    /// Where the file was included, innermost first.
    included_at: Vec<Location>,
}

impl Diagnostic {
    /// Adds how to put it right.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Keeps the line itself out of sight.
    pub fn hide(&mut self) -> &mut Self {
        self.line.clear();
        self
    }

    /// The finding on one line, without the text around it.
    pub fn summary(&self) -> String {
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        format!("{}: {severity}{}", self.at, self.message)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        if !self.line.is_empty() {
            let (line, caret) = with_caret(&self.line, self.at.column);
            writeln!(f, "    {line}\n    {caret}^")?;
        }
        for at in &self.included_at {
            writeln!(f, "  included from {at}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The line fit for a terminal, and the blanks that put a caret under its `column`-th byte.
fn with_caret(line: &str, column: u32) -> (String, String) {
    /// Longer lines are cut: a caret is of no use in a wrapped one.
    const WIDTH: usize = 200;
    let mut shown = String::new();
    let mut caret = String::new();
    for (offset, c) in line.char_indices().take(WIDTH) {
        if offset + 1 < column as usize {
            caret.push(' ');
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    (shown, caret)
}

/// Everything that was found in one configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(Vec<Diagnostic>);

impl Report {
    /// The first error, or else the first warning, on one line: `file:line:column: message`.
    pub fn first(&self) -> String {
        let error = self.0.iter().find(|found| found.severity == Severity::Error);
        error.or(self.0.first()).map(Diagnostic::summary).unwrap_or_default()
    }

    /// Adds all findings to a JSON array, an object each, in the order of the text.
    pub fn write_json(&self, json: &mut Json) {
        for found in &self.0 {
            json.open("", '{');
            write_place(&found.at, json);
            let severity = if found.severity == Severity::Error { "error" } else { "warning" };
            json.text("severity", Some(severity));
            json.text("message", Some(&found.message));
            json.text("hint", found.hint.as_deref());
            json.open("included_from", '[');
            for at in &found.included_at {
                json.open("", '{');
                write_place(at, json);
                json.close('}');
            }
            json.close(']');
            json.close('}');
        }
    }

    /// The number of errors.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// All findings, in the order of the text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|found| found.fmt(f))
    }
}

/// Lines and columns count from 1, columns in bytes; on the command line there are no lines.
fn write_place(at: &Location, json: &mut Json) {
    json.text("file", Some(&at.file));
    json.number("line", Some(at.line));
    json.number("column", Some(at.column));
}

/// What options of the command line have for a file's name.
const COMMAND_LINE: &str = "command line";

/// Where what is named on the command line is said to be.
pub(super) fn command_line() -> Location {
    Location { file: COMMAND_LINE.into(), line: 0, column: 0 }
}

/// A text that locations point into.
struct Source {
    name: Rc<str>,
    text: Vec<u8>,
    included_at: Option<Location>,
}

/// Collects findings while a configuration is read.
#[derive(Default)]
pub(super) struct Diagnostics {
    sources: Vec<Source>,
    found: Vec<Diagnostic>,
    failed: bool,
}

impl Diagnostics {
    /// Keeps a text so that its lines can be shown. Locations in it must carry the returned name: one file
    /// included twice is two sources, told apart by the name's address.
    pub fn add_source(&mut self, name: &str, text: &[u8], included_at: Option<Location>) -> Rc<str> {
        let name: Rc<str> = name.into();
        self.sources.push(Source { name: Rc::clone(&name), text: text.to_vec(), included_at });
        name
    }

    /// Takes in an option of the command line, as it would be written there. Returns the places of key and value.
    pub fn add_option(&mut self, key: &[u8], value: Option<&[u8]>) -> (Location, Location) {
        let equals: &[u8] = if value.is_some() { b"=" } else { b"" };
        let text = [b"--", key, equals, value.unwrap_or_default()].concat();
        let file = self.add_source(COMMAND_LINE, &text, None);
        let column = u32::try_from(key.len()).map_or(0, |length| length.saturating_add(4));
        let column = if value.is_some() { column } else { 1 };
        (Location { file: Rc::clone(&file), line: 0, column: 1 }, Location { file, line: 0, column })
    }

    /// The place of what concerns the configuration as a whole.
    pub fn start(&self) -> Location {
        match self.sources.iter().find(|source| &*source.name != COMMAND_LINE) {
            Some(source) => Location { file: Rc::clone(&source.name), line: 1, column: 1 },
            None => command_line(),
        }
    }

    /// How many files deep a place is: 0 in what was named first.
    pub fn depth(&self, at: &Location) -> usize {
        self.chain(at).len()
    }

    /// Adds an error.
    pub fn error(&mut self, at: &Location, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, at, message.into())
    }

    /// Adds a warning.
    pub fn warning(&mut self, at: &Location, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, at, message.into())
    }

    /// Whether there is an error.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// What was found, in the order of the text.
    pub fn into_report(self) -> Report {
        Report(self.found)
    }

    fn add(&mut self, severity: Severity, at: &Location, message: String) -> &mut Diagnostic {
        self.failed |= severity == Severity::Error;
        let full = self.found.len() >= FINDINGS_MAX;
        let (line, included_at) = if full { Default::default() } else { (self.line(at), self.chain(at)) };
        if self.found.len() > FINDINGS_MAX {
            // An error must not give way to a warning: the report would say that nothing is wrong.
            let gives_way = self.found.iter().position(|other| other.severity == Severity::Warning);
            self.found.remove(gives_way.unwrap_or(FINDINGS_MAX));
        }
        // Kept in the order of the text, whatever order the checks run in.
        let index = self.found.partition_point(|other| self.order(&other.at) <= self.order(at));
        self.found
            .insert(index, Diagnostic { severity, at: at.clone(), message, hint: None, line, included_at });
        #[allow(clippy::indexing_slicing)] // the element was put there just above
        &mut self.found[index]
    }

    fn order(&self, at: &Location) -> (Option<usize>, u32, u32) {
        let file = self.sources.iter().position(|source| Rc::ptr_eq(&source.name, &at.file));
        (file, at.line, at.column)
    }

    fn source(&self, at: &Location) -> Option<&Source> {
        self.sources.iter().find(|source| Rc::ptr_eq(&source.name, &at.file))
    }

    fn line(&self, at: &Location) -> String {
        let text = self.source(at).map_or(&[][..], |source| &source.text);
        let line = text.split(|&b| b == b'\n').nth(at.line.saturating_sub(1) as usize);
        String::from_utf8_lossy(line.unwrap_or_default().trim_ascii_end()).into_owned()
    }

    fn chain(&self, at: &Location) -> Vec<Location> {
        let mut chain = Vec::new();
        let mut next = self.source(at).and_then(|source| source.included_at.as_ref());
        while let Some(at) = next {
            chain.push(at.clone());
            next = self.source(at).and_then(|source| source.included_at.as_ref());
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_line_caret_chain_and_hint() {
        let mut found = Diagnostics::default();
        let main = found.add_source("a.ini", b"[uwsgi]\ninclude = b.ini\n", None);
        let at = Location { file: main, line: 2, column: 1 };
        let inner = found.add_source("b.ini", b"[uwsgi]\r\n\tstop-timeout = x\r\n", Some(at));
        let at = Location { file: inner, line: 2, column: 17 };
        found.error(&at, "'stop-timeout': 'x' is not a duration").hint("write 5, 250ms, 5s or 2m");
        let report = found.into_report();
        assert_eq!(
            report.to_string(),
            "b.ini:2:17: 'stop-timeout': 'x' is not a duration\n     stop-timeout = x\n                    ^\n  \
             included from a.ini:2:1\n  hint: write 5, 250ms, 5s or 2m\n"
        );
        assert_eq!(report.first(), "b.ini:2:17: 'stop-timeout': 'x' is not a duration");
        assert_eq!(report.errors(), 1);
    }
}
