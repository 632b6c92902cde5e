//! What other formats have and values here do not: quotes around a value, a comment behind it, and what only
//! a shell understands. Nothing of it is a mistake by itself, so it is told of with a warning, or with the
//! mistake that it leads to.

use crate::names;

/// The keys whose value is split into words, and executed without a shell.
const COMMANDS: &str = "command privileged-binary-patch-arg unprivileged-binary-patch-arg";

/// The keys whose value a shell reads, or that have a value of another key in theirs.
const OTHERS: &str =
    "emperor-on-demand-exec exec-as-emperor hook-as-emperor ready-check vassal-set vassals-set";

/// A habit in a value: what comes of it, and what to write.
pub(crate) struct Habit(pub String, pub &'static str);

/// The first habit in the value of a key.
pub(crate) fn find(key: &[u8], text: &[u8]) -> Option<Habit> {
    /// For U+2018, an opening quote; U+201C to U+201E.
    const TYPOGRAPHIC: [&str; 4] = ["\u{2018}", "\u{201c}", "\u{201d}", "\u{201e}"];
    const COMMENT: &str = "a comment is a line of its own";
    let has = |quote: &str| text.windows(quote.len()).any(|part| part == quote.as_bytes());
    if names::contains(OTHERS, key) {
        None
    } else if TYPOGRAPHIC.iter().any(|quote| has(quote)) {
        Some(Habit(
            "the typographic quotes are part of the value".to_owned(),
            "write it without them, or with \"",
        ))
    } else if names::contains(COMMANDS, key) {
        of_shell(text)
    } else if matches!(text, [b'"', .., b'"'] | [b'\'', .., b'\'']) {
        Some(Habit("the quotes are part of the value".to_owned(), "write it without them"))
    } else {
        let behind = text.windows(2).find(|two| matches!(two, [b' ' | b'\t', b';' | b'#']))?;
        let sign = char::from(behind.last().copied().unwrap_or_default());
        Some(Habit(format!("'{sign}' and what follows it are part of the value"), COMMENT))
    }
}

/// The first word of a command that means something to a shell only.
fn of_shell(text: &[u8]) -> Option<Habit> {
    let mut words = words(text);
    let first = words.next()?;
    let name = first.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    if name > 0 && first.get(name) == Some(&b'=') {
        let message = format!("'{}' is taken for the program", String::from_utf8_lossy(first));
        return Some(Habit(message, "write 'env = NAME=VALUE' in a line of its own"));
    }
    let is_of_shell = |word: &&[u8]| match word {
        [b'~', b'/', ..]
        | [b'>' | b'<' | b'|' | b'&' | b';' | b'$' | b'`' | b'#', ..]
        | [b'1' | b'2', b'>', ..] => true,
        [.., b'\\', b';'] => false,
        word => word.ends_with(b";"),
    };
    let word = [first].into_iter().chain(words).find(is_of_shell)?;
    let message = format!("'{}' is an argument, as there is no shell", String::from_utf8_lossy(word));
    Some(Habit(
        message,
        match word {
            [b'#', ..] => "a comment is a line of its own",
            _ => "write: sh -c '...'; a comment is a line of its own",
        },
    ))
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
        find(key.as_bytes(), text.as_bytes()).map(|Habit(message, _)| message)
    }

    #[test]
    fn quotes_and_comments_of_other_formats() {
        for text in ["\u{201c}nobody\u{201d}", "\u{2018}a\u{2019}", "\u{201e}a"] {
            assert_eq!(found("uid", text).as_deref(), Some("the typographic quotes are part of the value"));
            assert!(found("command", text).is_some());
        }
        assert!(found("chdir", "\"/tmp\"").is_some() && found("chdir", "'/tmp'").is_some());
        assert_eq!(found("uid", "a # x").as_deref(), Some("'#' and what follows it are part of the value"));
        assert!(found("uid", "a\t; x").is_some());
        for text in ["/a#b", "it\u{2019}s", "A=\"x\"", "\"", "a;b", ""] {
            assert_eq!(found("env", text), None, "{text}");
        }
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
            "",
        ] {
            assert_eq!(word(text), None, "{text}");
        }
    }
}
