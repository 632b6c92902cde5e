//! The names of uWSGI's own options, as a set of hashes: the text would be four times as long.
//!
//! `scripts/uwsgi-options` makes the text from the real program.

use std::cell::OnceCell;

const NAMES: &str = include_str!("uwsgi_options.txt");
static HASHES: [u32; count()] = hashes();

/// What a name can have in it.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_.";

/// Whether uWSGI has an option of that name.
pub(crate) fn has(name: &[u8]) -> bool {
    has_hash(name.iter().fold(0, |hash, byte| add(hash, *byte)))
}

fn has_hash(hash: u32) -> bool {
    HASHES.binary_search(&hash).is_ok()
}

/// Finds the option that a misspelt name is one slip away from.
///
/// A slip can be made in some hundred ways, so a file of unknown keys asks for many hashes. A hash whose
/// upper half no option has is no option's.
#[derive(Default)]
pub(crate) struct Slips {
    /// A bit for each upper half of a hash, set where an option has it.
    upper_halves: OnceCell<Vec<u64>>,
}

impl Slips {
    /// The option that was probably meant: a letter was added, left out or changed, or two neighbours were
    /// swapped. A name of a few letters is one slip away from too much.
    pub fn option(&self, name: &[u8]) -> Option<String> {
        if !(5..=40).contains(&name.len()) {
            return None;
        }
        // Hashes of the beginnings, and the factors by which what follows them moves them.
        let (mut starts, mut factors) = (vec![0], vec![1_u32]);
        for byte in name {
            starts.push(add(starts.last().copied().unwrap_or_default(), *byte));
            factors.push(factors.last().copied().unwrap_or_default().wrapping_mul(FACTOR));
        }
        let whole = starts.last().copied().unwrap_or_default();
        for (from, &start) in starts.iter().enumerate() {
            // The name with `middle` in the place of `taken` letters.
            let with = |taken: usize, middle: &[u8]| {
                let to = from + taken;
                let (end, factor) = (starts.get(to)?, factors.get(name.len().checked_sub(to)?)?);
                let tail = whole.wrapping_sub(end.wrapping_mul(*factor));
                let hash = middle.iter().fold(start, |hash, byte| add(hash, *byte));
                let is_option = self.has_hash(hash.wrapping_mul(*factor).wrapping_add(tail));
                let parts = || Some([name.get(..from)?, middle, name.get(to..)?].concat());
                String::from_utf8(is_option.then(parts)??).ok()
            };
            let swapped = match name.get(from..) {
                Some([one, other, ..]) => with(2, &[*other, *one]),
                _ => None,
            };
            let changed =
                || LETTERS.iter().find_map(|&letter| with(1, &[letter]).or_else(|| with(0, &[letter])));
            let meant = swapped.or_else(|| with(1, b"")).or_else(changed);
            if meant.is_some() {
                return meant;
            }
        }
        None
    }

    fn has_hash(&self, hash: u32) -> bool {
        let place = |hash: u32| ((hash >> 22) as usize, 1_u64 << (hash >> 16 & 63));
        let halves = self.upper_halves.get_or_init(|| {
            let mut halves = vec![0; 1 << 10];
            for (word, bit) in HASHES.iter().map(|hash| place(*hash)) {
                if let Some(word) = halves.get_mut(word) {
                    *word |= bit;
                }
            }
            halves
        });
        let (word, bit) = place(hash);
        halves.get(word).is_some_and(|word| word & bit != 0) && has_hash(hash)
    }
}

const FACTOR: u32 = 0x9e37_79b1;

const fn add(hash: u32, byte: u8) -> u32 {
    hash.wrapping_mul(FACTOR).wrapping_add(byte as u32)
}

const fn count() -> usize {
    let (mut bytes, mut count) = (NAMES.as_bytes(), 0);
    while let [byte, rest @ ..] = bytes {
        count += (*byte == b'\n') as usize;
        bytes = rest;
    }
    count
}

/// The hashes, in order.
#[allow(clippy::indexing_slicing)] // done by the compiler
const fn hashes<const COUNT: usize>() -> [u32; COUNT] {
    let mut hashes = [0; COUNT];
    let (mut bytes, mut number) = (NAMES.as_bytes(), 0);
    while let [byte, rest @ ..] = bytes {
        match *byte {
            b'\n' => number += 1,
            byte => hashes[number] = add(hashes[number], byte),
        }
        bytes = rest;
    }
    // Comb sort: neighbours at a distance that shrinks, until nothing changes at distance 1.
    let (mut gap, mut is_sorted) = (COUNT, false);
    while gap > 1 || !is_sorted {
        gap = if gap > 1 { gap * 3 / 4 } else { 1 };
        is_sorted = true;
        let mut at = 0;
        while at + gap < COUNT {
            if hashes[at] > hashes[at + gap] {
                (hashes[at], hashes[at + gap]) = (hashes[at + gap], hashes[at]);
                is_sorted = false;
            }
            at += 1;
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_no_two_have_one_hash() {
        assert!(HASHES.is_sorted_by(|a, b| a < b));
        assert!(NAMES.lines().is_sorted());
        for name in NAMES.lines() {
            assert!(name.bytes().all(|byte| LETTERS.contains(&byte)), "{name}");
            assert!(has(name.as_bytes()), "{name}");
        }
        for name in ["", "s", "proceses", "http-time", "command", "mountpoint-lost"] {
            assert!(!has(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_slip_of_each_kind_is_found_in_each_place() {
        let slips = Slips::default();
        let meant = |name: &str| slips.option(name.as_bytes());
        for name in ["proceses", "processees", "prcoesses", "pracesses", "rocesses", "processesx"] {
            assert_eq!(meant(name).as_deref(), Some("processes"), "{name}");
        }
        for name in ["mastre", "harakirri", "touch-relaod", "xhttp-socket"] {
            assert!(meant(name).is_some_and(|meant| NAMES.lines().any(|name| name == meant)), "{name}");
        }
        for name in ["mast", "my-own-placeholder", "project", "domain", "base_dir", &"a".repeat(41)] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
