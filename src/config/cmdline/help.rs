//! Help texts, made from the table of options.

use crate::config::keys::options::Program;
use crate::config::keys::row::{Group, Row, Takes};

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
pub fn entry(row: &Row) -> String {
    let mut text = format!("{}\n", synopsis(row));
    push_wrapped(&mut text, row.doc(), 4);
    push_wrapped(&mut text, &row.more(), 4);
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
