//! Text for log lines and answers (counts, file names), hashes, and times that cannot overflow.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// A number with its noun: `1 vassal`, `2 vassals`. The noun is given in the singular.
pub struct Count(pub u64, pub &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}

/// A hash of bytes (FNV-1a), the same in every run. Its upper half is of better quality.
pub fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A file name as text. Bytes that are not UTF-8 are written as `\xff`. In a name that contains such a text
/// already, backslashes are written as `\x5c`, so that two names never look the same.
pub fn readable(name: &OsStr) -> Cow<'_, str> {
    let is_marked = name.as_bytes().windows(3).any(|part| matches!(part, [b'\\', b'x', b'5' | b'8'..]));
    if let Some(text) = name.to_str().filter(|_| !is_marked) {
        return text.into();
    }
    let mut text = String::new();
    for chunk in name.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' {
                text.push_str("\\x5c");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.into()
}

/// The time after a delay that may come from a configuration. An absurd delay ends in a year instead of
/// overflowing.
pub fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::{Count, readable};
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn no_two_names_look_the_same() {
        let names: [(&[u8], &str); 6] = [
            ("dev\\x2dä".as_bytes(), "dev\\x2dä"),
            (b"a\xff", "a\\xff"),
            (b"a\xfe", "a\\xfe"),
            (b"a\\xff", "a\\x5cxff"),
            (b"a\\x5cxff", "a\\x5cx5cxff"),
            (b"a\\\xff", "a\\x5c\\xff"),
        ];
        for (name, text) in names {
            assert_eq!(readable(OsStr::from_bytes(name)), text);
        }
    }

    #[test]
    fn one_is_no_plural() {
        let shown = [0, 1, 2].map(|count| Count(count, "vassal").to_string());
        assert_eq!(shown, ["0 vassals", "1 vassal", "2 vassals"]);
    }
}
