//! Splitting and replacing in byte strings, as `str` has it.

use std::str::FromStr;

/// The parts before and after the first `separator`.
pub(super) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    around(text, text.iter().position(|&byte| byte == separator)?)
}

/// The parts before and after the last `separator`.
pub(super) fn rsplit_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    around(text, text.iter().rposition(|&byte| byte == separator)?)
}

/// Whether `text` names something by a scheme, as `http://host`.
pub(super) fn has_scheme(text: &[u8]) -> bool {
    text.windows(3).any(|three| three == b"://")
}

/// `text` with every `what` replaced by `with`.
pub(super) fn substitute(text: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(what) {
            Some(after) => {
                result.extend(with);
                rest = after;
            }
            None => {
                result.push(first);
                rest = tail;
            }
        }
    }
    result
}

/// The number written in decimal digits.
pub(super) fn integer<T: FromStr>(text: &[u8]) -> Option<T> {
    let is_plain = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

/// The number at the beginning of a text, as strtoll(3) reads it (blanks, a sign, digits), and the text after
/// it. Without a digit: `None`, and the whole text.
pub(super) fn leading_integer(text: &[u8]) -> (Option<i64>, &[u8]) {
    let start = text.trim_ascii_start();
    let (sign, digits) = match start {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, start),
    };
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if digits.is_empty() {
        return (None, text);
    }
    let add = |sum: i64, digit: &u8| sum.saturating_mul(10).saturating_add(sign * i64::from(digit - b'0'));
    (Some(digits.iter().fold(0, add)), rest)
}

fn around(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_and_substitutes() {
        assert_eq!(split_once(b"a=b=c", b'='), Some((&b"a"[..], &b"b=c"[..])));
        assert_eq!(rsplit_once(b"a=b=", b'='), Some((&b"a=b"[..], &b""[..])));
        assert_eq!(split_once(b"abc", b'='), None);
        assert_eq!(substitute(b"%(_)a%(_)%(_", b"%(_)", b"x"), b"xax%(_");
    }

    #[test]
    fn reads_numbers() {
        assert_eq!((integer(b"007"), integer::<u8>(b"256"), integer::<u8>(b"")), (Some(7), None, None));
        assert_eq!((integer::<i32>(b"-1"), integer::<i32>(b"+1"), integer::<i32>(b" 1")), (None, None, None));
        for (text, number, rest) in [
            (&b" \t-12x"[..], Some(-12), &b"x"[..]),
            (b"+3", Some(3), b""),
            (b"99999999999999999999", Some(i64::MAX), b""),
            (b"-99999999999999999999", Some(i64::MIN), b""),
            (b" -", None, b" -"),
            (b"", None, b""),
        ] {
            assert_eq!(leading_integer(text), (number, rest));
        }
    }
}
