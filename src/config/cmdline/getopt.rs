//! getopt(3) as the C library of the other programs has it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::names::split;

/// The options of a program.
pub(super) struct Options {
    /// The letters. One that takes a value is followed by `:`.
    pub(super) short: &'static [u8],
    /// Lines of long names and the letters they stand for. A name may be abbreviated if the abbreviation is
    /// unambiguous.
    pub(super) long: &'static str,
    /// Whether options may follow the first operand.
    pub(super) permutes: bool,
}

/// A step through the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An option, with its value if it takes one.
    Option(u8, OsString),
    /// A mistake. It is the last step.
    Wrong(String),
}

/// The options in their order, then the operands.
pub(super) fn parse(options: &Options, words: &[OsString]) -> (Vec<Step>, Vec<OsString>) {
    let (mut steps, mut operands) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_bytes() {
            b"--" => break,
            [b'-', b'-', name @ ..] if !options.long.is_empty() => {
                steps.push(long(options, name, &mut words));
            }
            [b'-', letters @ ..] if !letters.is_empty() => short(options, letters, &mut words, &mut steps),
            _ => {
                operands.push(word.clone());
                if !options.permutes {
                    break;
                }
            }
        }
        if let Some(Step::Wrong(_)) = steps.last() {
            break;
        }
    }
    operands.extend(words.cloned());
    (steps, operands)
}

fn short<'a>(
    options: &Options,
    mut letters: &[u8],
    words: &mut impl Iterator<Item = &'a OsString>,
    steps: &mut Vec<Step>,
) {
    while let Some((&letter, rest)) = letters.split_first() {
        letters = rest;
        let step = match takes_value(options, letter) {
            None => Step::Wrong(format!("invalid option -- '{}'", letter.escape_ascii())),
            Some(false) => Step::Option(letter, OsString::new()),
            Some(true) => {
                let value = match std::mem::take(&mut letters) {
                    [] => words.next().cloned(),
                    rest => Some(OsStr::from_bytes(rest).to_owned()),
                };
                with_value(letter, value, || {
                    format!("option requires an argument -- '{}'", letter.escape_ascii())
                })
            }
        };
        let is_wrong = matches!(step, Step::Wrong(_));
        steps.push(step);
        if is_wrong {
            return;
        }
    }
}

fn long<'a>(options: &Options, text: &[u8], words: &mut impl Iterator<Item = &'a OsString>) -> Step {
    let end = text.iter().position(|&byte| byte == b'=').unwrap_or(text.len());
    let (name, value) = text.split_at(end);
    let long = options.long.lines().map(split);
    let mut fitting = long.filter(|(known, _)| known.as_bytes().starts_with(name));
    let shown = name.escape_ascii();
    let Some((known, letter)) = fitting.next() else {
        return Step::Wrong(format!("unrecognized option '--{shown}'"));
    };
    if known.len() != name.len() && fitting.next().is_some() {
        return Step::Wrong(format!("option '--{shown}' is ambiguous"));
    }
    let letter = letter.bytes().next().unwrap_or_default();
    let value = value.split_first().map(|(_, value)| OsString::from_vec(value.to_vec()));
    match (takes_value(options, letter), value) {
        (Some(true), value) => with_value(letter, value.or_else(|| words.next().cloned()), || {
            format!("option '--{known}' requires an argument")
        }),
        (_, None) => Step::Option(letter, OsString::new()),
        (_, Some(_)) => Step::Wrong(format!("option '--{known}' doesn't allow an argument")),
    }
}

fn takes_value(options: &Options, letter: u8) -> Option<bool> {
    let at = options.short.iter().position(|&known| known == letter && letter != b':')?;
    Some(options.short.get(at + 1) == Some(&b':'))
}

fn with_value(letter: u8, value: Option<OsString>, missing: impl FnOnce() -> String) -> Step {
    value.map_or_else(|| Step::Wrong(missing()), |value| Step::Option(letter, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options { short: b"ab:v", long: "verbose v\nversion V\nbee b", permutes: true };

    fn parsed(options: &Options, line: &str) -> (String, String) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let (steps, operands) = parse(options, &words);
        let show = |step: &Step| match step {
            Step::Option(letter, value) => format!("{}{}", char::from(*letter), value.display()),
            Step::Wrong(_) => "!".to_owned(),
        };
        let operands: Vec<_> = operands.iter().map(|word| word.display().to_string()).collect();
        (steps.iter().map(show).collect::<Vec<_>>().join(" "), operands.join(" "))
    }

    #[test]
    fn options_are_found_as_getopt_finds_them() {
        let cases = [
            ("-a -bx y", "a bx", "y"),
            ("-ab x y", "a bx", "y"),
            ("x -a y -- -a", "a", "x y -a"),
            ("- -a", "a", "-"),
            ("-b -- x", "b--", "x"),
            ("--bee=1 --be 2 --b= x", "b1 b2 b", "x"),
            ("--verb", "v", ""),
            ("--ver", "!", ""),
            ("-x y", "!", "y"),
            ("-a:", "a !", ""),
            ("-b", "!", ""),
            ("--verbose=1", "!", ""),
            ("", "", ""),
        ];
        for (line, steps, operands) in cases {
            assert_eq!(parsed(&OPTIONS, line), (steps.to_owned(), operands.to_owned()), "{line}");
        }
    }

    #[test]
    fn without_permutation_the_first_operand_ends_them() {
        let options = Options { permutes: false, long: "", ..OPTIONS };
        assert_eq!(parsed(&options, "-a x -a --"), ("a".into(), "x -a --".into()));
        assert_eq!(parsed(&options, "--version"), ("!".into(), String::new()));
    }
}
