//! Bytes → entries: uWSGI's line-based ini dialect (its `core/ini.c`), with the place of every key and value.
//!
//! Blanks (space, tab, carriage return) around sections, keys and values mean nothing; a comment is a whole
//! line; everything after the first `=` is the value, quotes and comment signs included.

use super::magic::Substituted;
use crate::config::bytes::split_once;

/// Line and column, both from 1.
type Place = (u32, u32);

/// One `key = value` line of the section that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The text before the first `=`.
    pub key: &'a [u8],
    /// The text behind the first `=`; empty for a bare key, as in uWSGI.
    pub value: &'a [u8],
    /// Where the key is.
    pub key_at: Place,
    /// Where the value is; the key's place where there is none.
    pub value_at: Place,
}

/// The entries of one section, in order; `None` where the section does not exist or is empty.
pub(super) fn entries<'a>(text: &'a Substituted, section: &[u8]) -> Option<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    // Lines before the first header belong to a section without a name.
    let mut inside = section.is_empty();
    let mut places = Places { text, line: 1, line_start: 0, counted: 0 };
    let mut start = 0;
    for line in text.bytes().split(|&byte| byte == b'\n') {
        let (line_start, stripped) = (start, strip(line));
        start += line.len() + 1;
        match stripped.first() {
            None | Some(b';' | b'#') => {}
            // As in uWSGI, the last byte counts as the bracket, whatever it is.
            Some(b'[') => {
                inside = stripped.get(1..).and_then(<[u8]>::split_last).is_some_and(|l| l.1 == section)
            }
            Some(_) if inside => {
                let (key, value) = split_once(stripped, b'=').unwrap_or((stripped, b""));
                let (key, value) = (strip(key), strip(value));
                let place = |part: &[u8]| line_start + offset_in(line, part);
                let key_at = places.of(if key.is_empty() { place(stripped) } else { place(key) });
                let value_at = if value.is_empty() { key_at } else { places.of(place(value)) };
                entries.push(Entry { key, value, key_at, value_at });
            }
            Some(_) => {}
        }
    }
    (!entries.is_empty()).then_some(entries)
}

/// Where the first options are that no section has, or that are in another section, with the line that begins
/// that section; `None` where the text has no options. With `meant`, only a section counts whose line was
/// probably meant to begin that one.
pub(super) fn elsewhere<'a>(
    text: &'a Substituted,
    meant: Option<&[u8]>,
) -> Option<(Place, Option<&'a [u8]>)> {
    let is_other = |header: &[u8]| meant.is_some_and(|section| !resembles(header, section));
    let (mut header, mut start) = (None, 0);
    for line in text.bytes().split(|&byte| byte == b'\n') {
        let stripped = strip(line);
        let place = start + offset_in(line, stripped);
        start += line.len() + 1;
        match stripped.first() {
            None | Some(b';' | b'#') => {}
            Some(b'[') => header = Some((place, stripped)),
            Some(_) if header.is_some_and(|(_, line)| is_other(line)) => {}
            Some(_) => {
                let mut places = Places { text, line: 1, line_start: 0, counted: 0 };
                let place = header.map_or(place, |(place, _)| place);
                return Some((places.of(place), header.map(|(_, line)| line)));
            }
        }
    }
    None
}

/// Whether a line begins no such section, but only by its blanks, brackets or capitals.
fn resembles(header: &[u8], section: &[u8]) -> bool {
    let mut name = header;
    while let [b'[' | b']' | b' ', rest @ ..] | [rest @ .., b'[' | b']' | b' '] = name {
        name = rest;
    }
    name.to_ascii_lowercase() == section
        && header.get(1..).and_then(<[u8]>::split_last).is_none_or(|l| l.1 != section)
}

/// Without the blanks at both ends.
fn strip(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = text {
        text = rest;
    }
    text
}

/// Where `part`, a piece of `whole`, starts in it.
fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// Turns offsets, asked for in rising order, into lines and columns of the text as it was written.
struct Places<'a> {
    text: &'a Substituted,
    line: u32,
    line_start: usize,
    counted: usize,
}

impl Places<'_> {
    fn of(&mut self, offset: usize) -> Place {
        let offset = self.text.original_offset(offset);
        let skipped = self.text.original().get(self.counted..offset).unwrap_or_default();
        for (index, _) in skipped.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.line += 1;
            self.line_start = self.counted + index + 1;
        }
        self.counted = self.counted.max(offset);
        (self.line, u32::try_from(offset - self.line_start + 1).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (String, String, (u32, u32), (u32, u32));

    fn lex(text: &str, section: &str) -> Vec<Found> {
        let text = Substituted::new(text.as_bytes(), |_| None);
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let entries = entries(&text, section.as_bytes()).unwrap_or_default();
        entries.iter().map(|e| (show(e.key), show(e.value), e.key_at, e.value_at)).collect()
    }

    /// What `uwsgi --show-config` prints for these lines.
    #[test]
    fn lines_are_read_as_uwsgi_reads_them() {
        let cases = [
            ("a = b", "a", "b"),
            ("\ta\t=\td \r", "a", "d"),
            ("indented = x = y", "indented", "x = y"),
            ("key with space = v", "key with space", "v"),
            ("q = \"x ; y\" # z", "q", "\"x ; y\" # z"),
            ("bare", "bare", ""),
            ("empty =", "empty", ""),
            ("=novalue", "", "novalue"),
            ("x = a\\", "x", "a\\"),
        ];
        for (line, key, value) in cases {
            let found = lex(&format!("[uwsgi]\r\n{line}"), "uwsgi");
            let found: Vec<_> = found.iter().map(|(key, value, ..)| (key.as_str(), value.as_str())).collect();
            assert_eq!(found, [(key, value)], "{line}");
        }
        assert_eq!(lex("[uwsgi]\n; a = 1\n# b = 2\n\n  \n", "uwsgi"), []);
    }

    #[test]
    fn sections_are_matched_as_uwsgi_matches_them() {
        let text = "before = 1\n[uwsgi]\na = 1\n[foo]x\nb = 2\n [uwsgi] \nc = 3\n\
                    [ uwsgi ]\nd = 4\n[\ne = 5\n[uwsgi\nf = 6";
        let keys = |section| lex(text, section).into_iter().map(|found| found.0).collect::<Vec<_>>();
        assert_eq!(keys("uwsgi"), ["a", "c"]);
        assert_eq!(keys(" uwsgi "), ["d"]);
        assert_eq!(keys(""), ["before"]);
        assert_eq!(keys("uwsg"), ["f"]);
        assert_eq!(keys("nope"), [""; 0]);
    }

    #[test]
    fn a_share_of_the_processors_keeps_its_percent_sign() {
        let text =
            "[uwsgi]\ncpu-max = 50%\nset = cpu-max=20%\t\r\na = cpu-max %n%\nx = 9%\n = 1\ncpu-max = 7%";
        let found: Vec<_> = lex(text, "uwsgi").into_iter().map(|(key, value, ..)| (key, value)).collect();
        let expected = [
            ("cpu-max", "50%"),
            ("set", "cpu-max=20%"),
            ("a", "cpu-max %"),
            ("x", "9 = 1"),
            ("cpu-max", "7%"),
        ];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn places_point_into_the_text_as_written() {
        let text = Substituted::new(b"[uwsgi]\n a = %n/%n x\nb=%%\nc = 9%\n d = 1\n", |byte| match byte {
            b'n' => Some(b"long-name".to_vec()),
            b'%' => Some(b"%".to_vec()),
            _ => None,
        });
        let entries = entries(&text, b"uwsgi").unwrap();
        let places: Vec<_> = entries.iter().map(|entry| (entry.key, entry.key_at, entry.value_at)).collect();
        // The line break behind a lone percent sign goes with it, as in uWSGI.
        let expected: [(&[u8], _, _); 3] =
            [(b"a", (2, 2), (2, 6)), (b"b", (3, 1), (3, 3)), (b"c", (4, 1), (4, 5))];
        assert_eq!(places, expected);
        assert_eq!(entries[2].value, b"9 d = 1");
    }
}
