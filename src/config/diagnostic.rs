//! Mistakes and warnings: collected in one pass, each shown with its line, a caret and a hint.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use super::bytes::{integer, rsplit_once};
use super::plan::Location;
use crate::json::Json;
use crate::log::push_printable;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but probably does not do what was meant.
    Warning,
}

/// How many findings are kept. After that many, only the last one is kept in addition.
const FINDINGS_MAX: usize = 100;

/// The weight of a warning that cannot be why an app fails.
const HARMLESS: u8 = 2;

/// One finding, with everything that is needed to show it.
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
    /// What is told of alone: the least. Mistakes come before warnings.
    weight: u8,
    /// The offending line as it was written, empty where the source has no lines.
    line: Vec<u8>,
    /// Where the file was included, innermost first.
    included_at: Vec<Location>,
}

impl Diagnostic {
    /// Adds how to put it right.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Is told of after others: it cannot be why an app fails.
    pub fn harmless(&mut self) -> &mut Self {
        self.weight = HARMLESS;
        self
    }

    /// Leaves the line itself out of the output.
    pub fn hide(&mut self) -> &mut Self {
        self.line.clear();
        self
    }

    /// Whether it is at this place of this source.
    fn is_at(&self, at: &Location) -> bool {
        Rc::ptr_eq(&self.at.file, &at.file) && (self.at.line, self.at.column) == (at.line, at.column)
    }

    /// The finding on one line, without the text around it.
    pub fn summary(&self) -> String {
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        let mut text = String::new();
        push_printable(&mut text, &format!("{}: {severity}{}", self.at, self.message));
        text
    }

    /// The same with the hint.
    fn with_hint(&self) -> String {
        let mut text = self.summary();
        if let Some(hint) = &self.hint {
            text.push_str(" (");
            push_printable(&mut text, hint);
            text.push(')');
        }
        text
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
fn with_caret(line: &[u8], column: u32) -> (String, String) {
    /// Longer lines are cut around the place, because a caret cannot point into a wrapped line. With the
    /// indent a line has 80 columns.
    const WIDTH: usize = 76;
    const CUT: &str = "...";
    let offset = (column as usize).saturating_sub(1);
    let before = line.get(..offset).unwrap_or(line);
    // A missing value belongs after a blank, and the blanks at the end of the line were trimmed.
    let mut caret = String::from_utf8_lossy(before).chars().count() + usize::from(offset > line.len());
    let line = String::from_utf8_lossy(line);
    let mut shown: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let length = shown.chars().count();
    if length > WIDTH {
        let width = WIDTH - 2 * CUT.len();
        let start = caret.saturating_sub(width / 2).min(length - width);
        let cut = |is_cut: bool| if is_cut { CUT } else { "" };
        let middle: String = shown.chars().skip(start).take(width).collect();
        shown = [cut(start > 0), &middle, cut(start + width < length)].concat();
        caret = caret - start + cut(start > 0).len();
    }
    (shown, " ".repeat(caret))
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

    /// The first mistake, or else the first warning, with its hint; empty without one. A warning that may be
    /// why an app fails comes before others.
    pub fn worst(&self) -> String {
        let worst = self.0.iter().min_by_key(|found| found.weight);
        worst.map(Diagnostic::with_hint).unwrap_or_default()
    }

    /// The same, and how many more findings there are.
    pub fn in_short(&self) -> String {
        match self.0.len() {
            0 | 1 => self.worst(),
            count => format!("{}; {} more", self.worst(), count - 1),
        }
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

    /// Gives findings in options their places in an emperor's file: [`placed`](super::input::placed).
    pub(super) fn place_options(&mut self) {
        for at in self.0.iter_mut().map(|found| &mut found.at).filter(|at| at.line == 0) {
            if let Some((rest, column)) = rsplit_once(at.file.as_bytes(), b':')
                && let Some((file, line)) = rsplit_once(rest, b':')
                && let (Some(line), Some(column)) = (integer(line), integer(column))
            {
                *at = Location { file: String::from_utf8_lossy(file).into(), line, column };
            }
        }
    }

    /// A warning about a file as a whole.
    pub fn about(file: &OsStr, message: String) -> Self {
        let mut found = Diagnostics::default();
        found.warning(&Diagnostics::operand(file.as_bytes()), message);
        found.into_report()
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

/// The file name in locations on the command line.
pub const COMMAND_LINE: &str = "command line";

/// The location of the command line as a whole.
pub(super) fn command_line() -> Location {
    Location { file: COMMAND_LINE.into(), line: 0, column: 0 }
}

/// A mistake in a word of a program's command line, or a word that is missing behind the last one.
pub struct Misuse {
    /// The index of the word; the number of words if one is missing.
    pub word: usize,
    /// What is wrong.
    pub message: String,
    /// How to put it right.
    pub hint: Option<String>,
}

/// Shows what is wrong with a command line, as it was typed.
pub fn misuse(program: &str, words: &[OsString], wrong: Misuse) -> Report {
    let mut found = Diagnostics::default();
    let mut text = program.as_bytes().to_vec();
    let mut column = 0;
    for (number, word) in words.iter().map(|word| shown(word)).chain([&b""[..]]).enumerate() {
        text.push(b' ');
        if number == wrong.word {
            column = u32::try_from(text.len() + 1).unwrap_or(0);
        }
        text.extend(word);
    }
    let file = found.add_source(COMMAND_LINE, &text, None);
    let hint = wrong.hint.unwrap_or_else(|| format!("try '{program} --help'"));
    found.error(&Location { file, line: 0, column }, wrong.message).hint(hint);
    found.into_report()
}

/// A word, without the arguments of a private hook.
fn shown(word: &OsStr) -> &[u8] {
    let word = word.as_bytes();
    let secret = word.windows(2).position(|pair| pair == b"=!").map(|at| at + 2);
    let secret = if word.starts_with(b"!") { Some(1) } else { secret };
    word.get(..secret.unwrap_or(word.len())).unwrap_or(word)
}

/// A text that locations point into.
struct Source {
    name: Rc<str>,
    text: Vec<u8>,
    included_at: Option<Location>,
}

/// Collects findings while a configuration is read.
#[derive(Default)]
pub(crate) struct Diagnostics {
    sources: Vec<Source>,
    /// How many sources there are before the vassal's own file.
    own: usize,
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

    /// The place of a file that is named on the command line.
    pub fn operand(name: &[u8]) -> Location {
        Location { file: String::from_utf8_lossy(name).into(), line: 0, column: 0 }
    }

    /// The next source is the vassal's own file, and what was added before are templates.
    pub fn begin_own(&mut self) {
        self.own = self.sources.len();
    }

    /// Adds an option that was written at `place`, as it would be written on the command line. Returns the
    /// places of key and value.
    pub fn add_option(&mut self, place: &str, key: &[u8], value: Option<&[u8]>) -> (Location, Location) {
        let equals: &[u8] = if value.is_some() { b"=" } else { b"" };
        // A letter and its value, as in `-e 3`, or a name.
        let (dashes, equals) = if key.len() == 1 { (&b"-"[..], &b" "[..]) } else { (&b"--"[..], equals) };
        let start = [dashes, key, equals].concat();
        let text = [&start, value.unwrap_or_default()].concat();
        let file = self.add_source(place, &text, None);
        let column = u32::try_from(start.len() + 1).unwrap_or(0);
        let column = if value.is_some() { column } else { 1 };
        (Location { file: Rc::clone(&file), line: 0, column: 1 }, Location { file, line: 0, column })
    }

    /// The place of what concerns the configuration as a whole.
    pub fn start(&self) -> Location {
        match self.sources.iter().skip(self.own).find(|source| &*source.name != COMMAND_LINE) {
            Some(source) => Location { file: Rc::clone(&source.name), line: 1, column: 1 },
            None => command_line(),
        }
    }

    /// How deep the file of a place was included: 0 for a file that was named first.
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

    /// Whether there is a finding at this place.
    pub fn has(&self, at: &Location) -> bool {
        self.found.iter().any(|found| found.is_at(at))
    }

    /// Makes a mistake of the first warning in such words. Returns whether there is one.
    pub fn aggravate(&mut self, words: &str) -> bool {
        let Some(found) = self.found.iter_mut().find(|found| found.message.starts_with(words)) else {
            return false;
        };
        (found.severity, found.weight, self.failed) = (Severity::Error, 0, true);
        true
    }

    /// Whether there are as many findings as are kept.
    pub fn is_full(&self) -> bool {
        self.found.len() > FINDINGS_MAX
    }

    /// Whether there is an error.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The findings, in the order of the text.
    pub fn into_report(self) -> Report {
        Report(self.found)
    }

    fn add(&mut self, severity: Severity, at: &Location, message: String) -> &mut Diagnostic {
        self.failed |= severity == Severity::Error;
        let full = self.found.len() >= FINDINGS_MAX;
        let (line, included_at) = if full { Default::default() } else { (self.line(at), self.chain(at)) };
        if self.is_full() {
            // A warning does not replace an error: the report would then say that nothing is wrong.
            let gives_way = self.found.iter().rposition(|other| other.severity == Severity::Warning);
            self.found.remove(gives_way.unwrap_or(FINDINGS_MAX));
        }
        // Kept in the order of the text, whatever order the checks run in.
        let mut index = self.found.partition_point(|other| self.order(&other.at) <= self.order(at));
        // A line in a `for` is read in each turn, with another value: its mistake is told of once.
        let about = |message: &str| match severity {
            Severity::Error => message.bytes().position(|byte| byte == b':').unwrap_or(message.len()),
            Severity::Warning => message.len(),
        };
        let is_again = |other: &Diagnostic| {
            let is_same = other.message.get(..about(&other.message)) == message.get(..about(&message));
            other.severity == severity && is_same && other.is_at(at)
        };
        let before = index.wrapping_sub(1);
        if self.found.get(before).is_some_and(is_again) {
            index = before;
        } else {
            let (at, hint, weight) = (at.clone(), None, u8::from(severity == Severity::Warning));
            self.found.insert(index, Diagnostic { severity, at, message, hint, weight, line, included_at });
        }
        #[allow(clippy::indexing_slicing)] // the element is there
        &mut self.found[index]
    }

    fn order(&self, at: &Location) -> (Option<usize>, u32, u32) {
        let file = self.sources.iter().position(|source| Rc::ptr_eq(&source.name, &at.file));
        (file, at.line, at.column)
    }

    fn source(&self, at: &Location) -> Option<&Source> {
        self.sources.iter().find(|source| Rc::ptr_eq(&source.name, &at.file))
    }

    fn line(&self, at: &Location) -> Vec<u8> {
        let text = self.source(at).map_or(&[][..], |source| &source.text);
        let line = match at.line.checked_sub(1) {
            Some(before) => text.split(|&byte| byte == b'\n').nth(before as usize),
            // A command line is one line, even if a word has a line break.
            None => Some(text),
        };
        line.unwrap_or_default().trim_ascii_end().to_vec()
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
            "b.ini:2:17: 'stop-timeout': 'x' is not a duration\n     stop-timeout = x\n\
             \x20                   ^\n  \
             included from a.ini:2:1\n  hint: write 5, 250ms, 5s or 2m\n"
        );
        let first = "b.ini:2:17: 'stop-timeout': 'x' is not a duration";
        assert_eq!(
            (&*report.first(), report.worst()),
            (first, format!("{first} (write 5, 250ms, 5s or 2m)"))
        );
        assert_eq!(report.errors(), 1);
    }

    #[test]
    fn what_may_be_why_an_app_fails_is_told_first() {
        let mut found = Diagnostics::default();
        let file = found.add_source("a.ini", b"a\nb\nc\n", None);
        let at = |line| Location { file: Rc::clone(&file), line, column: 1 };
        let in_short = |found: &Diagnostics| Report(found.found.clone()).in_short();
        found.warning(&at(1), "as root").harmless().hint("write 'uid'");
        assert_eq!(in_short(&found), "a.ini:1:1: warning: as root (write 'uid')");
        found.warning(&at(2), "unknown\n").hint("did you mean\r?");
        let unknown = "a.ini:2:1: warning: unknown\\n (did you mean\\r?)";
        assert_eq!(in_short(&found), format!("{unknown}; 1 more"));
        assert!(!found.failed() && !found.aggravate("unkown") && !found.failed());
        assert!(found.aggravate("unknown") && found.failed());
        assert_eq!(Report(found.found.clone()).worst(), unknown.replace("warning: ", ""));
        found.warning(&at(3), "no");
        assert_eq!(found.into_report().errors(), 1);
    }

    #[test]
    fn of_too_many_findings_the_first_ones_and_the_last_one_are_kept() {
        let mut found = Diagnostics::default();
        let file = found.add_source("a.ini", &b"x\n".repeat(300), None);
        let at = |line| Location { file: Rc::clone(&file), line, column: 1 };
        for line in 1..=300 {
            found.warning(&at(line), "no");
        }
        let lines: Vec<_> = found.found.iter().map(|found| (found.at.line, found.line.len())).collect();
        let first: Vec<_> = (1..=100).map(|line| (line, 1)).collect();
        assert_eq!((&lines[..100], &lines[100..]), (&first[..], &[(300, 0)][..]));
        // An error takes the place of a warning.
        found.error(&at(7), "no");
        assert_eq!(found.into_report().errors(), 1);
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let line: Vec<u8> = (b'a'..=b'z').cycle().take(300).collect();
        for (column, is_cut) in [(1, (false, true)), (150, (true, true)), (300, (true, false))] {
            let (shown, caret) = with_caret(&line, column);
            assert!(shown.len() <= 76, "{shown}");
            assert_eq!((shown.starts_with("..."), shown.ends_with("...")), is_cut, "{shown}");
            assert_eq!(shown.as_bytes().get(caret.len()), line.get(column as usize - 1), "{shown}");
        }
        let (shown, caret) = with_caret(b"\xff\xc3\xa4\x1b[mx", 7);
        assert_eq!((shown.chars().nth(caret.len()), shown.contains('\x1b')), (Some('x'), false), "{shown}");
    }

    #[test]
    fn a_command_line_is_shown_with_its_wrong_word() {
        let words =
            ["--command=a\nb", "--hook-asap", "!exec:secret", "--exec-asap=!secret"].map(OsString::from);
        let shown = |word| {
            misuse("prog", &words, Misuse { word, message: "no\x1b".to_owned(), hint: None }).to_string()
        };
        let expected = |caret: usize| {
            let caret = " ".repeat(caret);
            format!(
                "command line: no\\u{{1b}}\n    prog --command=a b --hook-asap ! --exec-asap=!\n\
                 \x20   {caret}^\n  hint: try 'prog --help'\n"
            )
        };
        for (word, caret) in [(0, 5), (1, 19), (2, 31), (3, 33), (4, 47)] {
            assert_eq!(shown(word), expected(caret), "{word}");
        }
    }
}
