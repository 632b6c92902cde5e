//! Files and options → the flat list of settings, in uWSGI's order.
//!
//! Options are added one by one as they are read. Logic (`if-*`, `for*`) applies to each line as it is added,
//! and the immediate options (`include`, `ini`, `set`, …) act at once, on text that no placeholder pass has
//! seen yet. Then come the passes of [`placeholder`], and last the files of `inherit`, which uWSGI adds
//! without passes.
//!
//! The settings that an emperor puts after its vassals' files are its policy, and have the last word: files
//! that a vassal inherits are put in front of the policy, and where the policy uses a placeholder that it
//! defines itself, its own definition counts.

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::index::Settings;
use super::ini;
use super::logic::{Around, Block, Condition};
use super::magic::{self, FileMagic, Substituted};
use super::placeholder::{self, Budget};
use crate::config::bytes::{has_scheme, rsplit_once, split_once, substitute};
use crate::config::diagnostic::Diagnostics;
use crate::config::input::{Input, placed};
use crate::config::plan::Location;
use crate::config::setting::{BYTES_MAX, Setting, State};
use crate::config::world::World;
use crate::error::Cause;

/// How deep files may include each other.
const DEPTH_MAX: usize = 16;
/// How many options a configuration may have once everything is expanded.
const OPTIONS_MAX: usize = 10_000;
/// How many files may be read for one configuration.
const FILES_MAX: usize = 1000;
/// How many commands may be run, and descriptors read, for one configuration. Each may take seconds, and
/// delays a start.
const RESOURCES_MAX: usize = 20;
/// The placeholder of [`Input::Replica`].
const REPLICA: &[u8] = b"replica";
/// The message about a file all whose options are in another section, or in none.
pub(crate) const NOT_IN: &str = "there is no option in";
/// What to do with a file of another supervisor's.
const BY_IMPORT: &str = "'scripts/import' makes a vassal's file of it";

/// The pass over placeholders, which is the last one.
#[derive(Clone, Copy)]
pub(crate) struct LastPass(fn(&mut Expander<'_>));

impl LastPass {
    /// That and no more.
    pub const PLAIN: Self = Self(|expander| expander.pass(b'%'));
    /// It also notes what other instances have in the place of each value, if that is of interest.
    pub const WITH_SIBLINGS: Self = Self(|expander| expander.pass_with_siblings());
}

/// Expands the inputs, in order. `replica` is the number for `%(replica)` where the inputs have none; with
/// `None` that stays as it is.
pub(crate) fn expand(
    inputs: &[Input],
    reload: bool,
    replica: Option<u16>,
    last: LastPass,
    world: &dyn World,
    found: &mut Diagnostics,
) -> Vec<Setting> {
    // The vassal's own file comes first here, even if a template is read before it.
    let first = inputs.iter().find_map(|input| match input {
        Input::Text { path, section, .. } => Some(FileMagic::new(path, section.as_deref(), world)),
        _ => None,
    });
    let mut expander = Expander {
        world,
        reload,
        found,
        settings: Settings::default(),
        block: None,
        replica: replica.map(text_of),
        first,
        last_file: Vec::new(),
        files: 0,
        file_bytes: Cell::default(),
        bytes: 0,
        resources: Cell::default(),
        budget: Budget::new(),
        overflown: false,
    };
    // The range of the settings that come from the vassal's own file.
    let mut own = None;
    for input in inputs {
        match input {
            Input::Option { key, value } => expander.option(key, value.as_ref(), State::Open),
            Input::FromEmperor { key, value } => expander.option(key, Some(value), State::Verbatim),
            Input::Replica(number) => expander.replica = Some(text_of(*number)),
            Input::File(name) => {
                let at = Diagnostics::operand(name.as_bytes());
                expander.load(name.as_bytes(), &at);
            }
            Input::Text { path, section, text } => {
                let start = expander.settings.list().len();
                expander.found.begin_own();
                let section = section.as_deref();
                expander.read_text(path, section, FileMagic::new(path, section, world), text, None);
                expander.close_block();
                let policy = expander.settings.list().len();
                expander.settings.set_policy(Some(policy));
                own = Some((start, policy));
            }
        }
        expander.close_block();
    }
    expander.pass(b'$');
    expander.pass(b'@');
    last.0(&mut expander);
    expander.number_left_ones();
    expander.inherit(own);
    expander.settings.into_list()
}

/// The parts of `FILE:SECTION`; the section is empty in `FILE`. The colon of a scheme is not the one before a
/// section.
pub(crate) fn split_section(name: &[u8]) -> (Vec<u8>, &[u8]) {
    let (scheme, rest) = match has_scheme(name).then(|| rsplit_once(name, b'/')).flatten() {
        Some((scheme, rest)) => (name.get(..=scheme.len()).unwrap_or_default(), rest),
        None => (&b""[..], name),
    };
    let (file, section) = rsplit_once(rest, b':').unwrap_or((rest, b""));
    ([scheme, file].concat(), section)
}

fn text_of(number: u16) -> Vec<u8> {
    number.to_string().into_bytes()
}

struct Expander<'a> {
    world: &'a dyn World,
    reload: bool,
    found: &'a mut Diagnostics,
    settings: Settings,
    /// The open `if-*` or `for*`.
    block: Option<Block>,
    /// The value of `%(replica)` where no setting is called so.
    replica: Option<Vec<u8>>,
    /// The file that the upper-case magic variables describe: the vassal's own, or the one that was named
    /// first.
    first: Option<FileMagic>,
    /// The file that was read last, which `ini = :section` refers to.
    last_file: Vec<u8>,
    /// Files read for their options so far, and the bytes of all files.
    files: usize,
    file_bytes: Cell<usize>,
    /// Bytes of all values so far.
    bytes: usize,
    /// How many commands were run and descriptors read so far.
    resources: Cell<usize>,
    /// How much work is left.
    budget: Budget,
    /// Whether a limit was exceeded. It is reported once, and nothing more is read or added.
    overflown: bool,
}

impl Expander<'_> {
    /// An option that comes from no file.
    fn option(&mut self, key: &str, value: Option<&std::ffi::OsString>, state: State) {
        let value = value.map(|value| value.as_bytes());
        let (key, place) = placed(key);
        let (at, value_at) = self.found.add_option(place, key.as_bytes(), value);
        // As in `UWSGI_VASSAL_SOCKET=/run/%n.sock`, which uWSGI's manual has.
        let mut parts = value.unwrap_or_default().windows(3);
        if state == State::Open && parts.any(|part| matches!(part, b"/%n" | b"/%N")) {
            let hint = "in a file for 'vassals-include', %N is the vassal's name";
            self.found.warning(&value_at, "%n is a name in files only").hint(hint);
        }
        self.add(Setting {
            key: key.as_bytes().to_vec(),
            value: value.map(<[u8]>::to_vec),
            at,
            value_at,
            state,
            used: Cell::default(),
            in_sibling: None,
        });
    }

    /// Reads `FILE` or `FILE:section`, named at `at`.
    fn load(&mut self, name: &[u8], at: &Location) {
        let (file, section) = split_section(name);
        if self.overflown {
            return;
        }
        let is_named = !file.is_empty();
        let file = if is_named { file } else { self.last_file.clone() };
        let path = Path::new(OsStr::from_bytes(&file));
        let depth = self.found.depth(at) + 1;
        if depth > DEPTH_MAX {
            let message =
                format!("'{}': files include each other more than {DEPTH_MAX} deep", path.display());
            self.overflow(at, message, "look for a file that includes itself");
            return;
        }
        match self.read(path, self.settings.list().len()) {
            Ok(None) => self.not_run(at),
            Ok(Some(text)) => {
                self.files += 1;
                if self.files > FILES_MAX || self.file_bytes.get() > BYTES_MAX {
                    let message = format!("more than {FILES_MAX} files or {} MiB of them", BYTES_MAX >> 20);
                    return self.overflow(at, message, "look for a file that is included too often");
                }
                let section = (!section.is_empty()).then_some(section);
                let included_at = (at.line > 0).then(|| at.clone());
                let section = section.map(OsStr::from_bytes);
                let magic = FileMagic::new(path, section, self.world);
                let magic = if is_named { magic } else { magic.without_name() };
                self.read_text(path, section, magic, &text, included_at);
            }
            Err(error) => {
                self.found.error(at, format!("cannot read '{}': {}", path.display(), error));
            }
        }
    }

    /// Adds the options of one section of a text.
    fn read_text(
        &mut self,
        path: &Path,
        section: Option<&OsStr>,
        this: FileMagic,
        text: &[u8],
        included_at: Option<Location>,
    ) {
        let name = self.found.add_source(&path.to_string_lossy(), text, included_at);
        let place = |(line, column)| Location { file: Rc::clone(&name), line, column };
        if let Some(nul) = text.iter().position(|&byte| byte == 0) {
            let line = text.iter().take(nul).filter(|&&byte| byte == b'\n').count() as u32 + 1;
            let hint = "save the file as UTF-8";
            self.found.error(&place((line, 1)), "the line holds a NUL byte").hint(hint);
            return;
        }
        self.last_file = path.as_os_str().as_bytes().to_vec();
        let section = section.map(OsStr::as_bytes);
        let first = self.first.get_or_insert_with(|| this.clone()).clone();
        let text = Substituted::new(text, |name| magic::value(name, &this, &first, self.world));
        if text.bytes().len() > BYTES_MAX {
            let message = format!("more than {} MiB with its magic variables replaced", BYTES_MAX >> 20);
            return self.overflow(&place((1, 1)), message, "look for '%' and a letter, many times");
        }
        for (stray, joins) in text.stray_places() {
            let message = if joins {
                "a percent sign at the end of a line joins the next line to this one"
            } else {
                "a percent sign and the character behind it are dropped here"
            };
            self.found.warning(&place(stray), message).hint("write '%%' for a percent sign");
        }
        let is_named = section.is_some();
        let section = section.unwrap_or(b"uwsgi");
        let entries = ini::entries(&text, section);
        let found = ini::elsewhere(&text, entries.as_ref().map(|_| section));
        let Some(entries) = entries else {
            // A vassal's file may leave it all to a template of the emperor's.
            if found.is_none() && !is_named {
                return;
            }
            let (at, header) = found.unwrap_or(((1, 1), None));
            let section = String::from_utf8_lossy(section);
            let hint = match header.map(String::from_utf8_lossy) {
                _ if text.bytes().starts_with(b"\xef\xbb\xbf") => {
                    "the file begins with a byte order mark: save it without".to_owned()
                }
                // As in JSON, XML and YAML.
                None if !is_named && !text.bytes().contains(&b'=') => BY_IMPORT.to_owned(),
                Some(header) if !is_named && (header == "[Unit]" || header.starts_with("[program:")) => {
                    BY_IMPORT.to_owned()
                }
                Some(header) if !is_named => format!("write '[{section}]' in the place of '{header}'"),
                None if !is_named => format!("write a line '[{section}]' above this one"),
                _ => format!("options stand below a line '[{section}]'"),
            };
            let message = format!("{NOT_IN} a section [{section}]");
            self.found.warning(&place(at), message).hint(hint);
            return;
        };
        // uWSGI drops them without a word.
        if let Some((at, _)) = found {
            let section = String::from_utf8_lossy(section);
            let message = format!("it has no effect: options stand below a line '[{section}]'");
            self.found.warning(&place(at), message);
        }
        for entry in entries {
            self.add(Setting {
                key: entry.key.to_vec(),
                value: Some(entry.value.to_vec()),
                at: place(entry.key_at),
                value_at: place(entry.value_at),
                state: State::Open,
                used: Cell::default(),
                in_sibling: None,
            });
        }
        let open_here = self.block.as_ref().is_some_and(|block| Rc::ptr_eq(&block.at.file, &name));
        if open_here {
            self.close_block();
        }
    }

    /// Adds one line: under the open block if there is one, otherwise unconditionally.
    fn add(&mut self, setting: Setting) {
        let closes = matches!(setting.name(), "end" | "endif" | "end-if" | "endfor" | "end-for");
        let is_else = setting.key == b"else";
        if closes || is_else {
            let state = match (self.block.take(), is_else) {
                (Some(block), true) => {
                    let state = if block.for_uwsgi() { State::ForUwsgi } else { State::Done };
                    match block.otherwise() {
                        Some(block) => self.block = Some(block),
                        None => self.stray(&setting),
                    }
                    state
                }
                (Some(block), false) if block.for_uwsgi() => State::ForUwsgi,
                (Some(_), false) => State::Done,
                (None, true) => {
                    self.stray(&setting);
                    State::Done
                }
                // uWSGI ignores the line.
                (None, false) => {
                    let message =
                        format!("'{}' without a block that it could end", setting.key.escape_ascii());
                    self.found.warning(&setting.at, message);
                    State::Done
                }
            };
            return self.push(Setting { state, ..setting });
        }
        let Some(mut block) = self.block.take() else { return self.act(setting) };
        block.ask_again(&self.settings);
        // The block is set aside while its lines take effect, so that it does not apply again to a file that
        // they include.
        self.repeat(&block, setting);
        self.block = Some(block);
    }

    /// Adds a line inside a block, as often as the block says.
    fn repeat(&mut self, block: &Block, setting: Setting) {
        if Condition::of(&setting.key).is_some() {
            let (key, opened) = (setting.key.escape_ascii(), &block.at);
            let message = format!("'{key}' inside the block that was opened at {opened}");
            self.found.error(&setting.at, message).hint("blocks cannot be nested in uWSGI's dialect");
            return;
        }
        // It would go unnoticed in a block that does not count.
        if matches!(*setting.key, [b'e', b'l', b'i' | b's', ..]) {
            let message = format!("unknown option '{}'", setting.key.escape_ascii());
            self.found.warning(&setting.at, message).hint("did you mean 'else'?");
        }
        let Some(repetitions) = block.repetitions() else {
            return self.push(Setting { state: State::ForUwsgi, ..setting });
        };
        for item in repetitions {
            if self.overflown {
                return;
            }
            let value = setting.value.as_deref().map(|value| match item {
                Some(item) => substitute(value, b"%(_)", item),
                None => value.to_vec(),
            });
            self.act(Setting { value, ..setting.clone() });
        }
    }

    fn stray(&mut self, setting: &Setting) {
        self.found.error(&setting.at, "'else' without a block that it could turn around");
    }

    /// Closes a block that is still open at the end of its file. In uWSGI the block continues in the next
    /// file, so a file could disable the lines after its `include`, or those of the emperor.
    fn close_block(&mut self) {
        if let Some(block) = self.block.take() {
            if block.for_uwsgi() {
                let (key, state) = (b"endif".to_vec(), State::ForUwsgi);
                let (at, value_at, used) = (block.at.clone(), block.at.clone(), Cell::default());
                self.push(Setting {
                    key,
                    value: Some(Vec::new()),
                    at,
                    value_at,
                    state,
                    used,
                    in_sibling: None,
                });
            }
            let message = format!("'{}' is never closed: it ends with its file", block.key.escape_ascii());
            let closing = if block.key.starts_with(b"for") { "endfor" } else { "endif" };
            self.found.warning(&block.at, message).hint(format!("add '{closing} =' behind its last line"));
        }
    }

    /// Adds one option, and carries it out if it takes effect at once.
    fn act(&mut self, setting: Setting) {
        if let Some(condition) = Condition::of(&setting.key) {
            self.push(Setting { state: State::Done, ..setting.clone() });
            let around = Around {
                settings: &self.settings,
                reload: self.reload,
                world: self.world,
                budget: &self.budget,
                read: &|path| self.read_file(path),
            };
            let block = Block::open(&setting, condition, &around);
            let block = block.unwrap_or_else(|message| {
                self.found.error(&setting.value_at, message);
                Block::skipped(&setting)
            });
            if let (true, Some(opening)) = (block.for_uwsgi(), self.settings.list_mut().last_mut()) {
                opening.state = State::ForUwsgi;
            }
            self.block = Some(block);
            return;
        }
        match setting.name() {
            "ini" | "include" => {
                self.push(Setting { state: State::Done, ..setting.clone() });
                self.load(setting.text(), &setting.value_at);
            }
            "set" | "set-placeholder" | "set-ph" => {
                self.push(Setting { state: State::Done, ..setting.clone() });
                let text = setting.text();
                let Some((key, value)) = split_once(text, b'=') else {
                    let message = format!("'{}': there is no '='", setting.key.escape_ascii());
                    self.found.error(&setting.value_at, message).hint("write NAME=VALUE");
                    return;
                };
                let state = if setting.key == b"set" { State::Open } else { State::Placeholder };
                let (key, value) = (key.to_vec(), Some(value.to_vec()));
                if state == State::Open {
                    self.act_unless_logic(Setting { key, value, at: setting.value_at.clone(), ..setting });
                } else {
                    self.push(Setting { key, value, state, at: setting.value_at.clone(), ..setting });
                }
            }
            _ => self.push(setting),
        }
    }

    /// `set = KEY=VALUE` adds an option as a line `KEY = VALUE` would, but opens no block.
    fn act_unless_logic(&mut self, setting: Setting) {
        if Condition::of(&setting.key).is_some() || setting.key == b"set" {
            let message = format!("'{}' cannot be set", setting.key.escape_ascii());
            self.found.error(&setting.at, message);
        } else {
            self.act(setting);
        }
    }

    fn push(&mut self, setting: Setting) {
        self.bytes += setting.key.len() + setting.text().len();
        if self.settings.list().len() < OPTIONS_MAX && self.bytes <= BYTES_MAX {
            self.settings.push(setting);
        } else {
            let message = format!("more than {OPTIONS_MAX} options or {} MiB once expanded", BYTES_MAX >> 20);
            self.overflow(&setting.at, message, "look for a 'for' that repeats too often");
        }
    }

    fn not_run(&mut self, at: &Location) {
        self.found.warning(at, "not looked at: a check runs no command and reads no descriptor");
    }

    fn overflow(&mut self, at: &Location, message: String, hint: &str) {
        if !self.overflown {
            self.overflown = true;
            self.found.error(at, message).hint(hint);
        }
    }

    /// The last pass for one of several instances.
    fn pass_with_siblings(&mut self) {
        let before = self.has_siblings().then(|| self.settings.list().to_vec());
        self.pass(b'%');
        if let Some(before) = before.filter(|_| !self.found.failed()) {
            self.note_siblings(before);
        }
    }

    /// Whether it is of interest what other instances have in the place of these values. One instance finds
    /// that out, for all of them.
    fn has_siblings(&self) -> bool {
        self.replica.as_deref() == Some(b"1")
            && self.settings.list().iter().any(|one| matches!(one.name(), "replicas" | "reload-strategy"))
    }

    /// Does the last pass once more, as another instance does it: `before` are the settings before that pass.
    fn note_siblings(&mut self, before: Vec<Setting>) {
        let ours = self.replica.replace(text_of(2));
        let (bytes, budget) = (self.bytes, std::mem::replace(&mut self.budget, Budget::new()));
        // What goes wrong with that number is not ours to tell.
        let found = std::mem::take(self.found);
        let mut finished = Vec::new();
        for (setting, before) in self.settings.list_mut().iter_mut().zip(before) {
            finished.push(std::mem::replace(setting, before));
        }
        self.pass(b'%');
        for (setting, finished) in self.settings.list_mut().iter_mut().zip(finished) {
            let in_sibling = setting.value.take();
            *setting = Setting { in_sibling, ..finished };
        }
        (self.replica, self.bytes, self.budget, *self.found) = (ours, bytes, budget, found);
    }

    /// One pass, over all options in order.
    fn pass(&mut self, symbol: u8) {
        for index in 0..self.settings.list().len() {
            let setting = self.settings.list().get(index);
            let Some(setting) = setting.filter(|one| one.state == State::Open) else { continue };
            let mut left_open = false;
            let lookup = |name: &[u8], current: &[u8]| match symbol {
                b'$' => Ok(self.world.env(OsStr::from_bytes(name)).map(|value| value.as_bytes().to_vec())),
                b'@' => {
                    let value = self.file_value(name, index);
                    left_open |= matches!(value, Ok(None));
                    value
                }
                // A value that refers to itself gets its own text, as far as it is expanded.
                _ => {
                    placeholder::evaluate(name, &self.budget, |name| match self.settings.find(name, index) {
                        Some(place) if place == index => Some(current),
                        None if name == REPLICA => self.replica.as_deref(),
                        _ => self.settings.value_of(name, index),
                    })
                }
            };
            let expanded = placeholder::expand(setting.text(), symbol, &self.budget, lookup);
            if left_open {
                let at = setting.value_at.clone();
                if let Some(setting) = self.settings.list_mut().get_mut(index) {
                    setting.state = State::LeftOpen;
                }
                self.not_run(&at);
                continue;
            }
            match expanded {
                Ok(None) => {}
                Ok(Some(value)) => {
                    self.bytes = (self.bytes + value.len()).saturating_sub(setting.text().len());
                    if self.bytes > BYTES_MAX {
                        let at = setting.at.clone();
                        let message = format!("more than {} MiB of values once expanded", BYTES_MAX >> 20);
                        self.found.error(&at, message);
                        return;
                    }
                    if let Some(setting) = self.settings.list_mut().get_mut(index) {
                        setting.value = Some(value);
                    }
                }
                Err(message) => {
                    let at = setting.value_at.clone();
                    self.found.error(&at, format!("'{}': {message}", setting.key.escape_ascii()));
                    if self.budget.is_spent() {
                        return;
                    }
                }
            }
        }
    }

    /// Replaces `%(replica)` where only uWSGI decides whether a line counts, and does not know our number.
    fn number_left_ones(&mut self) {
        let is_free = self.settings.list().iter().all(|setting| setting.key != REPLICA);
        let Some(number) = self.replica.as_ref().filter(|_| is_free) else { return };
        for setting in self.settings.list_mut().iter_mut().filter(|one| one.state == State::ForUwsgi) {
            setting.value = setting.value.as_ref().map(|value| substitute(value, b"%(replica)", number));
        }
    }

    /// Reads the files of `inherit` after everything else; those that a vassal inherits go before the policy.
    fn inherit(&mut self, own: Option<(usize, usize)>) {
        let end = self.settings.list().len();
        let (start, policy) = own.unwrap_or((0, end));
        self.settings.set_policy(None);
        self.inherit_in(start, policy);
        let inherited = self.settings.list().len();
        self.settings.set_policy(Some(policy));
        self.inherit_in(0, start);
        self.inherit_in(policy, end);
        if let Some(behind) = self.settings.list_mut().get_mut(policy..inherited) {
            behind.rotate_left(end - policy);
        }
    }

    /// Reads the files that the settings from `index` to `end` inherit, and the files that those inherit.
    fn inherit_in(&mut self, mut index: usize, end: usize) {
        let added = self.settings.list().len();
        loop {
            if index == end {
                index = added;
            }
            let Some(setting) = self.settings.list().get(index) else { return };
            if setting.key == b"inherit" && setting.state == State::Open {
                let (name, at) = (setting.text().to_vec(), setting.value_at.clone());
                if let Some(setting) = self.settings.list_mut().get_mut(index) {
                    setting.state = State::Done;
                }
                self.load(&name, &at);
                self.close_block();
            }
            index += 1;
        }
    }

    /// The value of `@(name)`: the file without its last line break; `None` as for [`Self::read`].
    fn file_value(&self, name: &[u8], asker: usize) -> Result<Option<Vec<u8>>, String> {
        let path = Path::new(OsStr::from_bytes(name));
        let text =
            self.read(path, asker).map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
        let Some(mut text) = text else { return Ok(None) };
        if text.contains(&0) {
            return Err(format!("'{}' holds a NUL byte", path.display()));
        }
        text.pop_if(|last| matches!(last, b'\n' | b'\r'));
        Ok(Some(text))
    }

    /// The content of a file, or of a resource with a scheme, for the setting at the index `asker`; `None` as
    /// for [`World::resource`].
    fn read(&self, path: &Path, asker: usize) -> Result<Option<Vec<u8>>, Cause> {
        if !has_scheme(path.as_os_str().as_bytes()) {
            if path.is_relative() && self.settings.is_policy(asker) && !self.world.trusts_cwd() {
                let why = "in a policy it would be a file of the vassal's owner: write an absolute path";
                return Err(Cause::Because(why.into()));
            }
            return self.read_file(path).map(Some);
        }
        self.resources.set(self.resources.get() + 1);
        if self.resources.get() > RESOURCES_MAX {
            return Err(Cause::Because(format!("more than {RESOURCES_MAX} commands and descriptors").into()));
        }
        self.world.resource(path.as_os_str())
    }

    /// The content of a file. The size of all files together is limited.
    fn read_file(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        let before = self.file_bytes.get();
        if before > BYTES_MAX {
            return Err(Cause::Because(format!("more than {} MiB of files", BYTES_MAX >> 20).into()));
        }
        let text = self.world.read(path)?;
        self.file_bytes.set(before + text.len());
        Ok(text)
    }
}
