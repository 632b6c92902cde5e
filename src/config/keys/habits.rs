//! What other formats have and values here do not: quotes around a value, a comment behind it, and what only
//! a shell understands. Nothing of it is a mistake by itself, so it is told of with a warning, or with the
//! mistake that it leads to.

use crate::config::bytes::split_once;
use crate::names;

/// The keys whose value is split into words, and executed without a shell.
const COMMANDS: &str = "command privileged-binary-patch-arg unprivileged-binary-patch-arg";

/// The keys whose value a shell reads, or that have a value of another key in theirs.
const OTHERS: &str = "\
    emperor-on-demand-exec exec-as-emperor hook-as-emperor mountpoint-lost ready-check vassal-set \
    vassals-set";

const QUOTES: &str = "the quotes are part of the value";
const UNQUOTED: &str = "write it without the quotes";
const COMMENT: &str = "a comment is a line of its own";
const SHELL: &str = "write: sh -c '...'; a comment is a line of its own";

/// A habit in a value: what comes of it, and what to write.
pub(crate) struct Habit(pub String, pub &'static str);

/// The first habit in the value of a key, if that is no command.
pub(crate) fn find(key: &[u8], text: &[u8]) -> Option<Habit> {
    // U+2018, an opening quote; U+201C to U+201E; and the blank of web pages, U+00A0.
    let is_typographic =
        |part: &[u8]| matches!(part, [0xe2, 0x80, 0x98 | 0x9c..=0x9e] | [0xc2, 0xa0, _] | [_, 0xc2, 0xa0]);
    if names::contains(OTHERS, key) {
        None
    } else if text.windows(3).any(is_typographic) {
        Some(Habit("the typographic quotes or blanks are part of the value".to_owned(), "write plain ones"))
    } else if names::contains(COMMANDS, key) {
        None
    } else if is_quoted(text) {
        Some(Habit(QUOTES.to_owned(), UNQUOTED))
    } else {
        let behind = text.windows(2).find(|two| matches!(two, [b' ' | b'\t', b';' | b'#']));
        let behind = behind.or(text.ends_with(b";").then_some(text))?;
        let sign = char::from(behind.last().copied().unwrap_or_default());
        Some(Habit(format!("'{sign}' and what follows it are part of the value"), COMMENT))
    }
}

fn is_quoted(text: &[u8]) -> bool {
    matches!(text, [b'"', .., b'"'] | [b'\'', .., b'\''])
}

/// The first habit in the value of a vassal's key that [`find`] does not look for: what a shell, a unit of
/// systemd or a JSON file would take otherwise.
pub(crate) fn of_vassals(key: &[u8], text: &[u8]) -> Option<Habit> {
    if names::contains(COMMANDS, key) {
        in_command(text)
    } else if key == b"env" {
        in_variable(text).map(habit)
    } else {
        in_path(key, text)
    }
}

/// A habit in a value that is no command and no variable: most are paths.
pub(crate) fn in_path(key: &[u8], text: &[u8]) -> Option<Habit> {
    /// The keys with one path.
    const PATHS: &str = "\
        chdir chroot control emperor emperor-pidfile listen log-dir logto mount-check mountpoint-check";
    let has = |is_meant: fn(&[u8]) -> bool| text.windows(2).any(is_meant);
    Some(habit(if names::contains(OTHERS, key) {
        return None;
    } else if has(|two| matches!(two, [b'%' | b'$', b'('])) {
        ("what is in parentheses has no value", "set it in a line above, or in the environment")
    } else if has(|two| matches!(two, [b'$', b'{' | b'A'..=b'Z' | b'a'..=b'z'])) {
        VARIABLE
    } else if text.starts_with(b"~") {
        ("'~' is no home here", "write the whole path")
    } else if text.ends_with(b"\\") {
        ("a value is one line", "write all of it in this one")
    } else if names::contains(PATHS, key) && has(|two| two == b" /") {
        ("it is one path", "write a line for each")
    } else {
        return None;
    }))
}

fn habit((message, hint): (&str, &'static str)) -> Habit {
    Habit(message.to_owned(), hint)
}

const VARIABLE: (&str, &str) = ("the value of a variable is $(NAME)", "write it so");

/// A habit in `NAME=VALUE`.
fn in_variable(text: &[u8]) -> Option<(&'static str, &'static str)> {
    let (name, value) = split_once(text, b'=')?;
    let mut references = value.split(|byte| *byte == b'$').skip(1);
    if name.contains(&b' ') {
        Some(("a blank is part of the name", "write NAME=VALUE"))
    } else if is_quoted(value) {
        Some((QUOTES, UNQUOTED))
    } else if references.any(|rest| rest.strip_prefix(b"{").unwrap_or(rest).starts_with(name)) {
        Some(VARIABLE)
    } else {
        None
    }
}

/// The first word of a command that means something to a shell only, or that only another format has.
fn in_command(text: &[u8]) -> Option<Habit> {
    /// Commands that are no programs.
    const BUILT_IN: &str = ". cd exec export set source ulimit";
    const PROGRAM: &str = "is taken for the program";
    let mut words = words(text);
    let first = words.next()?;
    let name = first.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let is_of_shell = |word: &&[u8]| match word {
        [b'~', b'/', ..]
        | [b'>' | b'<' | b'|' | b'&' | b';' | b'$' | b'`' | b'#', ..]
        | [b'1' | b'2', b'>', ..] => true,
        [.., b'\\', b';'] => false,
        word => word.ends_with(b";"),
    };
    let (word, what, hint) = if name > 0 && first.get(name) == Some(&b'=') {
        (first, PROGRAM, "write 'env = NAME=VALUE' in a line of its own")
    } else if matches!(first, [b'[', _, ..]) {
        // As JSON has it; '[' alone is a program.
        (first, PROGRAM, "write the words without brackets and commas")
    } else if is_one_word(first, text) {
        (first, PROGRAM, UNQUOTED)
    } else if let Some(word) = [first].into_iter().chain(words).find(is_of_shell) {
        (word, "is an argument, as there is no shell", if word.starts_with(b"#") { COMMENT } else { SHELL })
    } else if names::contains(BUILT_IN, first) {
        (first, PROGRAM, "write: sh -c '...'")
    } else {
        return None;
    };
    Some(Habit(format!("'{}' {what}", String::from_utf8_lossy(word)), hint))
}

/// Whether quotes make one word of a program and its arguments. A path may have blanks, too:
/// `"/opt/my app/run"`.
fn is_one_word(first: &[u8], text: &[u8]) -> bool {
    let has_path = |text: &[u8]| text.contains(&b'/');
    is_quoted(first)
        && first.len() == text.len()
        && split_once(text, b' ').is_some_and(|(program, rest)| {
            matches!(rest, [b'/' | b'-', ..]) || !has_path(rest) || !has_path(program)
        })
}

/// The words of a command, as they are written.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quote, mut is_escaped) = (None, false);
    let words = text.split(move |&byte| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            _ if was_escaped => {}
            b'\\' if quote != Some(b'\'') => is_escaped = true,
            b'\'' | b'"' if quote.is_none() => quote = Some(byte),
            _ if quote == Some(byte) => quote = None,
            _ => return quote.is_none() && byte.is_ascii_whitespace(),
        }
        false
    });
    words.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str, text: &str) -> Option<String> {
        let (key, text) = (key.as_bytes(), text.as_bytes());
        find(key, text).or_else(|| of_vassals(key, text)).map(|Habit(message, _)| message)
    }

    #[test]
    fn quotes_and_comments_of_other_formats() {
        for text in ["\u{201c}nobody\u{201d}", "\u{2018}a\u{2019}", "\u{201e}a", "a\u{a0}"] {
            let told = "the typographic quotes or blanks are part of the value";
            assert_eq!(found("uid", text).as_deref(), Some(told));
            assert!(found("command", text).is_some());
        }
        assert!(found("chdir", "\"/tmp\"").is_some() && found("chdir", "'/tmp'").is_some());
        assert_eq!(found("uid", "a # x").as_deref(), Some("'#' and what follows it are part of the value"));
        assert!(found("uid", "a\t; x").is_some() && found("chdir", "/a;").is_some());
        for text in ["/a#b", "it\u{2019}s", "A=\"x\" y", "\"", "a;b", ""] {
            assert_eq!(found("env", text), None, "{text}");
        }
        assert_eq!(found("env", "A='x'").as_deref(), Some("the quotes are part of the value"));
        assert_eq!(found("vassal-set", "command=sh -c 'a ; b'"), None);
        assert_eq!(found("ready-check", "exec:a ; b"), None);
    }

    #[test]
    fn what_a_shell_would_do() {
        let word =
            |text: &str| found("command", text).map(|message| message.split('\'').nth(1).unwrap().to_owned());
        for (text, expected) in [
            ("cd /srv && ./run > log", "&&"),
            ("a >log", ">log"),
            ("a 2>&1", "2>&1"),
            ("a | b", "|"),
            ("a; b", "a;"),
            ("a ; b", ";"),
            ("a # b", "#"),
            ("a $HOME/b", "$HOME/b"),
            ("A=b c", "A=b"),
            ("a 'b' &", "&"),
        ] {
            assert_eq!(word(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "a 'b && c' \"d ; e\" \\; f\\ > g#h x=y --a=b a&b 1 2",
            "find . -exec rm {} \\;",
            "sh -c 'echo $A > b'",
            "./a=b c",
            "\"/opt/my app/run\"",
            "\"/opt/my app/run\" 'x y'",
            "",
        ] {
            assert_eq!(found("command", text), None, "{text}");
        }
        for text in [
            "\"sleep 100\"",
            "'/bin/cat /etc/passwd'",
            "\"/bin/a -c /x/y\"",
            "\"node app/x.js\"",
            "'/bin/a b'",
        ] {
            let told = format!("'{text}' is taken for the program");
            assert_eq!(found("command", text), Some(told), "{text}");
        }
    }
}
