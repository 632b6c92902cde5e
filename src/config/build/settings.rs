//! Questions about all settings together, for both programs; and unknown keys.

use std::borrow::Cow;

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::options::Program;
use crate::config::keys::uwsgi::{self, Slips};
use crate::config::keys::{suggest, values};
use crate::config::language;
use crate::config::setting::{Setting, State};
use crate::names;

/// A setting that we read. `%V` and `%b`, which only uWSGI knows, are left out of its value, with a warning.
pub(crate) fn of_ours<'a>(setting: &'a Setting, found: &mut Diagnostics) -> Cow<'a, Setting> {
    match language::without_uwsgis(setting.text()) {
        None => Cow::Borrowed(setting),
        Some(value) => {
            let text = language::written(setting.text());
            let message =
                format!("'{}': %V and %b are for uWSGI only: they are left out", text.escape_ascii());
            found.warning(&setting.value_at, message);
            Cow::Owned(Setting { value: Some(value), ..setting.clone() })
        }
    }
}

/// The settings that are still to be read.
pub(super) fn open(settings: &[Setting]) -> impl Iterator<Item = &Setting> {
    settings.iter().filter(|setting| setting.state == State::Open)
}

/// The line that makes a file an emperor's.
pub(super) fn emperor_key(settings: &[Setting]) -> Option<&Setting> {
    open(settings).find(|setting| setting.key == b"emperor")
}

/// Whether `strict` is on: the last one counts.
pub(super) fn strict(settings: &[Setting]) -> bool {
    let last = open(settings).filter(|setting| setting.key == b"strict").last();
    last.is_some_and(|setting| values::boolean(setting.text()) != Ok(false))
}

/// What is known of the keys that a program does not read.
pub(super) struct Unknown<'a> {
    /// The program.
    pub program: &'a Program,
    /// Whether a key that nobody knows is a mistake.
    pub strict: bool,
    /// The words of the language.
    words: Vec<&'static str>,
    /// What a misspelt key may have been meant to be.
    names: Vec<&'static str>,
    slips: Slips,
}

impl<'a> Unknown<'a> {
    /// For a program and its settings.
    pub fn new(program: &'a Program, settings: &[Setting]) -> Self {
        let words = language::words();
        let mut names = program.names();
        names.retain(|name| !name.ends_with("PHASE"));
        // The short ones are close to too much.
        names.extend(words.iter().filter(|word| word.len() > 3));
        Self { program, strict: strict(settings), words, names, slips: Slips::default() }
    }

    /// Warns of a key that the program does not read, unless it is a placeholder that is used. With
    /// `refused`, no other program reads the key either. Otherwise uWSGI reads it if it knows it, so only a
    /// key that looks misspelt is warned of.
    pub fn tell(&self, setting: &Setting, refused: bool, found: &mut Diagnostics) {
        let key = setting.key.escape_ascii();
        let is_uwsgis = uwsgi::has(&setting.key);
        // A report that is full shows no more warnings, and to look for what was meant takes long.
        if (setting.used.get() || found.is_full()) && (is_uwsgis || !self.strict) {
            return;
        }
        let close = self.lookalike(&setting.key);
        let is_left = !is_uwsgis && !refused;
        let close = close.or_else(|| is_left.then(|| self.slips.option(&setting.key))?);
        let is_block =
            !is_uwsgis && ["if-", "for-"].iter().any(|word| setting.key.starts_with(word.as_bytes()));
        let is_slip =
            close.is_some() || is_block || setting.key.len() > 1 && setting.key.iter().any(is_in_no_name);
        if !is_slip && !refused {
            return;
        }
        let is_unknown = is_slip || !is_uwsgis;
        let message = if is_unknown {
            format!("unknown option '{key}'")
        } else {
            format!("'{key}' has no effect: the app is another program than uWSGI")
        };
        let found = match self.strict && is_unknown {
            true => found.error(&setting.at, message),
            false => found.warning(&setting.at, message),
        };
        if close.is_none() && matches!(*setting.key, [b'/', b'/' | b'*', ..]) {
            found.hint("a comment begins with ';' or '#'");
        } else if let Some(close) = close {
            // As in `uid nobody`.
            let has_value = setting.text().is_empty() && setting.key.iter().any(is_in_no_name);
            found.hint(if has_value && setting.key.starts_with(close.as_bytes()) {
                format!("write '{close} = ...'")
            } else {
                format!("did you mean '{close}'?")
            });
        }
    }

    /// The option of the program, or the word of the language, that a key was probably meant to be.
    pub fn lookalike(&self, key: &[u8]) -> Option<String> {
        if uwsgi::has(key) {
            return None;
        }
        // Leave out what a name cannot contain, so that `UID`, `u id` and `--uid` are recognised.
        let lower = key.iter().map(u8::to_ascii_lowercase);
        let whole: Vec<_> = lower.filter(|byte| !is_in_no_name(byte)).collect();
        let (whole, word) = (trimmed(&whole), first_word(key));
        let is_known = |name: &[u8]| {
            self.program.find(name).is_some()
                || self.words.iter().any(|word| word.as_bytes() == name)
                || uwsgi::has(name)
        };
        let dashes = whole.replace('_', "-");
        if let Some(name) = [whole, &word, &dashes]
            .into_iter()
            .find(|name| name.as_bytes() != key && is_known(name.as_bytes()))
        {
            return Some(name.to_owned());
        }
        let foreign = |name: &str| names::text(FOREIGN, name.as_bytes());
        foreign(whole)
            .or_else(|| foreign(Some(&*word).filter(|word| *word != whole)?))
            .or_else(|| suggest::closest(word.as_bytes(), &self.names))
            .map(str::to_owned)
    }
}

/// The word that a key begins with, as in `uid nobody`, `"uid": "nobody"` and `uid: nobody`, in lower case.
pub(super) fn first_word(key: &[u8]) -> String {
    let key = key.iter().map(u8::to_ascii_lowercase);
    let word: Vec<_> = key.skip_while(is_in_no_name).take_while(|byte| !is_in_no_name(byte)).collect();
    trimmed(&word).to_owned()
}

/// Without dashes around it, as in `--uid`.
fn trimmed(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default().trim_matches('-')
}

/// Whether no option, of these programs or of uWSGI, has this byte in its name.
fn is_in_no_name(byte: &u8) -> bool {
    !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') && !language::is_for_uwsgi(*byte)
}

/// Words of other programs and languages, with the key here that means the same.
const FOREIGN: &str = "\
    cmd command\ndirectory chdir\nelif else\nelseif else\nentrypoint command\n\
    environment env\nexecstart command\nexport env\nfor-each for\nforeach for\n\
    group gid\nuser uid\nworking_dir chdir\n\
    workingdirectory chdir\n";
