//! A table of rows that holds no pointers.
//!
//! The kernel loads a program at another address each time, so the start of a program writes every pointer in
//! a constant, and each process then has its own copy of the pages with those pointers. [`table!`] therefore
//! keeps the texts of all rows in one text, of which a row has only lengths, and keeps the functions of the
//! rows in code.

use super::row::{Differs, Group, JailPart, Read, Reload, Row, Takes};

/// The rows of a table, made by [`table!`].
#[derive(Debug)]
pub(super) struct Table {
    /// The rows.
    pub rows: &'static [Packed],
    /// The texts of all rows, in their order.
    pub text: &'static str,
    /// How the value of the row with this index is read.
    pub read: fn(usize) -> Read,
    /// Whether the part of the jail that the row with this index shapes differs.
    pub differs: fn(usize) -> Option<Differs>,
}

/// A row: how long each of its texts is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    /// Where its texts begin.
    start: u16,
    name: u8,
    /// What it takes; 0 for a flag.
    takes: u8,
    text: u16,
    what: u8,
    which: u8,
    group: Group,
    /// `Some(true)` for a change that counts at once.
    is_live: Option<bool>,
}

impl Table {
    /// Appends all rows.
    pub fn push_rows(&'static self, rows: &mut Vec<Row>) {
        for index in 0..self.rows.len() {
            rows.extend(self.row(index));
        }
    }

    /// The names of all rows.
    pub fn names(&'static self) -> impl Iterator<Item = &'static str> {
        self.rows.iter().map(|row| self.name(row))
    }

    /// The row of this name.
    pub fn find(&'static self, name: &[u8]) -> Option<Row> {
        let is_it = |row: &Packed| usize::from(row.name) == name.len() && self.name(row).as_bytes() == name;
        self.row(self.rows.iter().position(is_it)?)
    }

    fn name(&'static self, row: &Packed) -> &'static str {
        let start = usize::from(row.start);
        self.text.get(start..start + usize::from(row.name)).unwrap_or_default()
    }

    fn row(&'static self, index: usize) -> Option<Row> {
        let row = self.rows.get(index)?;
        let mut rest = self.text.get(row.start.into()..)?;
        let mut next = |length: u16| {
            let (text, behind) = rest.split_at_checked(length.into()).unwrap_or_default();
            rest = behind;
            text
        };
        let (name, takes, text) = (next(row.name.into()), next(row.takes.into()), next(row.text));
        let (what, which) = (next(row.what.into()), next(row.which.into()));
        Some(Row {
            name,
            takes: if takes.is_empty() { Takes::Flag } else { Takes::Value(takes) },
            group: row.group,
            text,
            reload: match ((self.differs)(index), row.is_live) {
                (Some(differs), _) => Some(Reload::FreshJail(JailPart { what, which, differs })),
                (None, Some(true)) => Some(Reload::Live),
                (None, Some(false)) => Some(Reload::NextApp),
                (None, None) => None,
            },
            read: (self.read)(index),
        })
    }
}

/// The texts of a row, in the order of the lengths in [`Packed`].
const fn texts(row: &Row) -> [&str; 5] {
    let takes = match row.takes {
        Takes::Flag => "",
        Takes::Value(name) => name,
    };
    let (what, which) = match row.reload {
        Some(Reload::FreshJail(part)) => (part.what, part.which),
        _ => ("", ""),
    };
    [row.name, takes, row.text, what, which]
}

/// How long the texts of all rows are.
pub(super) const fn length(mut rows: &[Row]) -> usize {
    let mut length = 0;
    while let [row, rest @ ..] = rows {
        let [name, takes, text, what, which] = texts(row);
        length += name.len() + takes.len() + text.len() + what.len() + which.len();
        rows = rest;
    }
    length
}

/// The texts of all rows.
pub(super) const fn joined<const LENGTH: usize>(mut rows: &[Row]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let mut left: &mut [u8] = &mut bytes;
    while let [row, rest @ ..] = rows {
        let texts = texts(row);
        let mut texts: &[&str] = &texts;
        while let [text, others @ ..] = texts {
            let (place, behind) = left.split_at_mut(text.len());
            place.copy_from_slice(text.as_bytes());
            (left, texts) = (behind, others);
        }
        rows = rest;
    }
    bytes
}

/// The lengths of the texts of all rows.
pub(super) const fn packed<const COUNT: usize>(mut rows: &[Row]) -> [Packed; COUNT] {
    let none = Packed {
        start: 0,
        name: 0,
        takes: 0,
        text: 0,
        what: 0,
        which: 0,
        group: Group::Command,
        is_live: None,
    };
    let mut table = [none; COUNT];
    let mut left: &mut [Packed] = &mut table;
    let mut start = 0;
    while let ([row, rest @ ..], [place, behind @ ..]) = (rows, left) {
        let [name, takes, text, what, which] = texts(row);
        *place = Packed {
            start: short(start),
            name: byte(name),
            takes: byte(takes),
            text: short(text.len()),
            what: byte(what),
            which: byte(which),
            group: row.group,
            is_live: match row.reload {
                Some(Reload::Live) => Some(true),
                Some(Reload::NextApp | Reload::FreshJail(_)) => Some(false),
                None => None,
            },
        };
        start += name.len() + takes.len() + text.len() + what.len() + which.len();
        (rows, left) = (rest, behind);
    }
    table
}

const fn short(number: usize) -> u16 {
    assert!(number <= u16::MAX as usize, "the texts of a table are too long");
    number as u16
}

const fn byte(text: &str) -> u8 {
    assert!(text.len() <= u8::MAX as usize, "a name in a table is too long");
    text.len() as u8
}

/// A table of rows, each of which is a call of a `const fn` that returns a [`Row`].
macro_rules! table {
    ($($kind:ident($($part:expr),+ $(,)?)),+ $(,)?) => {{
        const ROWS: &[Row] = &[$($kind($($part),+)),+];
        static BYTES: [u8; table::length(ROWS)] = table::joined(ROWS);
        static PACKED: [table::Packed; ROWS.len()] = table::packed(ROWS);
        Table {
            rows: &PACKED,
            text: match std::str::from_utf8(&BYTES) {
                Ok(text) => text,
                Err(_) => "",
            },
            // The compiler makes a search of this.
            read: |index| {
                let mut left = index;
                $(
                    if left == 0 {
                        return const { $kind($($part),+).read };
                    }
                    left = left.wrapping_sub(1);
                )+
                let _ = left;
                Read::Language
            },
            differs: |index| {
                let mut left = index;
                $(
                    if left == 0 {
                        return const { $kind($($part),+).differs() };
                    }
                    left = left.wrapping_sub(1);
                )+
                let _ = left;
                None
            },
        }
    }};
}
pub(super) use table;
