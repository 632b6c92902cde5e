//! The ini for uWSGI: the settings, written so that uWSGI's own expansion changes nothing.

use crate::config::diagnostic::Diagnostics;
use crate::config::language;
use crate::config::setting::{Setting, State};

/// A placeholder that stands for an opening parenthesis.
///
/// A `$(NAME)`, `@(FILE)` or `%(NAME)` that has no value here is left in the text, and uWSGI would look it up
/// again and might find a value. The last of uWSGI's passes puts the parenthesis back, after those for `$`
/// and `@`, at a place that it does not scan again.
const PARENTHESIS: &str = "vassal-parenthesis";

/// The ini's bytes. `protocol` is that of the sockets uWSGI takes over, if an option named it.
pub(super) fn uwsgi_ini(options: &[&Setting], protocol: Option<&str>, found: &mut Diagnostics) -> Vec<u8> {
    let mut ini = b"[uwsgi]\n".to_vec();
    if options.iter().any(|setting| setting.state == State::Open && has_reference(setting.text())) {
        ini.extend(format!("set-placeholder = {PARENTHESIS}=(\n").bytes());
    }
    for setting in options {
        let (key, value) = (&setting.key, setting.text());
        if key.is_empty() || matches!(key.first(), Some(b'[' | b';' | b'#')) || has_line_break(key) {
            let message = format!("'{}' cannot be the name of an option", key.escape_ascii());
            found.error(&setting.at, message);
        } else if has_line_break(value) {
            let message = format!("'{}': uWSGI cannot be given a line break", key.escape_ascii());
            found.error(&setting.value_at, message);
        } else {
            write(key, false, &mut ini);
            ini.extend(b" = ");
            write(value, setting.state == State::Open, &mut ini);
            ini.push(b'\n');
        }
    }
    if let Some(protocol) = protocol {
        ini.extend(format!("protocol = {protocol}\n").bytes());
    }
    ini
}

/// Appends `text`, guarding percent signs, and references if `guard_references`.
fn write(text: &[u8], guard_references: bool, ini: &mut Vec<u8>) {
    let mut before = 0;
    for &byte in text {
        match byte {
            b'%' => ini.extend(b"%%"),
            byte if language::is_for_uwsgi(byte) => ini.push(b'%'),
            b'(' if guard_references && is_symbol(before) => ini.extend(format!("%({PARENTHESIS})").bytes()),
            byte => ini.push(byte),
        }
        before = byte;
    }
}

fn has_reference(text: &[u8]) -> bool {
    text.windows(2).any(|pair| matches!(pair, [before, b'('] if is_symbol(*before)))
}

fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'$' | b'@' | b'%')
}

fn has_line_break(text: &[u8]) -> bool {
    text.contains(&b'\n')
}
