//! Help texts, made from the table of options.

use crate::config::keys::options::Program;
use crate::config::keys::row::{Group, Row, Takes};
use crate::config::keys::{actions, uwsgi};
use crate::config::language;
use crate::names;

/// The column where descriptions start.
const COLUMN: usize = 34;
/// The width of lines.
const WIDTH: usize = 80;

/// The overview: how to call the program, and a line for each option.
pub fn overview(program: &Program) -> String {
    let mut text = program.usage.to_owned();
    for group in Group::ALL {
        // Printed before the first option of the group.
        let mut heading = format!("\n{}:\n", group.title());
        // Other names of a key are listed by '--help NAME' and in the manual only.
        let listed = |row: &Row| row.group == group && !row.doc().starts_with("the same as ");
        for row in program.options().into_iter().filter(listed) {
            text += &std::mem::take(&mut heading);
            match row.doc().strip_suffix("; may be repeated") {
                Some(doc) => push_entry(&mut text, &(synopsis(&row) + "..."), doc),
                None => push_entry(&mut text, &synopsis(&row), row.doc()),
            }
        }
    }
    text += "\nOptions with '...' may be repeated. Each is also a key of configuration files:\n\
             'KEY = VALUE' under [uwsgi]. '--help OPTION' says more.\n";
    text
}

/// The whole help of one option.
fn entry(row: &Row) -> String {
    let mut text = format!("{}\n", synopsis(row));
    push_wrapped(&mut text, row.doc(), 4);
    push_wrapped(&mut text, &row.more(), 4);
    text
}

/// What there is to say about a name: that of an option, a command, a word of the language, an action, or an
/// option of uWSGI's.
pub fn about(program: &Program, name: &str) -> Option<String> {
    if let Some(row) = program.find_option(name) {
        return Some(entry(&row));
    }
    let calls = calls(program, name);
    if !calls.is_empty() {
        return Some(calls);
    }
    let (form, text) = if names::contains(&language::words().join(" "), name.as_bytes()) {
        (name.to_owned(), if name.contains("for") { LOOPS } else { CONDITIONS })
    } else if let Some(form) = actions::form(name) {
        (form, "An action, as in 'hook-as-root = ACTION:ARGUMENTS': see '--help hook-PHASE'.")
    } else if uwsgi::has(name.as_bytes()) {
        (name.to_owned(), "See the --help of emperor and of vassal-init, and 'uwsgi --help' for its apps.")
    } else {
        return None;
    };
    let mut about = format!("{form}\n");
    push_wrapped(&mut about, text, 4);
    Some(about)
}

const CONDITIONS: &str = "The lines between 'if-... = ARGUMENT' and 'endif =' count if that holds, and with \
     'else =' between them the other ones if it does not. if-env NAME[=VALUE], if-opt KEY[=VALUE], \
     if-exists PATH, if-file PATH, if-dir PATH, if-hostname NAME, if-reload; and all of them with not-, as \
     in if-not-env. %(_) is what was found. if-plugin and if-hostname-match are for uWSGI.";
const LOOPS: &str = "The lines between 'for... = ARGUMENT' and 'endfor =' count once for each %(_). for \
     WORDS, for-times COUNT, for-glob PATTERN, for-readline FILE.";

/// The lines of the usage about a command or a mode.
fn calls(program: &Program, name: &str) -> String {
    let mut text = String::new();
    let mut is_about = false;
    for line in program.usage.lines() {
        let call = line.trim_start().strip_prefix(program.name).filter(|call| call.starts_with(' '));
        if let Some(call) = call {
            let mut words = call.split([' ', '[', ']', '|']);
            is_about = words.any(|word| word == name || word.strip_prefix("--") == Some(name));
        }
        // It stands below the last of the orders, and goes with all of them.
        let is_option = line.contains(" --wait") && matches!(name, "reload" | "stop" | "start");
        if line.starts_with(' ') && (is_about || is_option) {
            text += line;
            text.push('\n');
        }
    }
    text
}

fn synopsis(row: &Row) -> String {
    match row.takes {
        Takes::Flag => format!("--{}", row.name),
        Takes::Value(value) => format!("--{} {value}", row.name),
    }
}

fn push_entry(text: &mut String, synopsis: &str, doc: &str) {
    let indented = format!("  {synopsis}");
    if indented.len() + 2 > COLUMN {
        text.push_str(&indented);
        text.push('\n');
        push_wrapped(text, doc, COLUMN);
    } else {
        let mut wrapped = String::new();
        push_wrapped(&mut wrapped, doc, COLUMN);
        text.push_str(&indented);
        text.push_str(wrapped.get(indented.len()..).unwrap_or_default());
    }
}

/// Appends a paragraph, broken into lines that start at column `indent`.
fn push_wrapped(text: &mut String, paragraph: &str, indent: usize) {
    let width = WIDTH.max(indent + 46) - indent;
    let mut line = 0;
    for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
        let length = word.len();
        if line > 0 && line + 1 + length > width {
            text.push('\n');
            line = 0;
        }
        if line == 0 {
            text.extend(std::iter::repeat_n(' ', indent));
        } else {
            text.push(' ');
        }
        line += usize::from(line > 0) + length;
        text.push_str(word);
    }
    if line > 0 {
        text.push('\n');
    }
}
