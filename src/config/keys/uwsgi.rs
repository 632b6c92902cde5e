//! The names of uWSGI's own options, as a set of hashes, each by its distance from the one before: the text
//! would be five times as long.
//!
//! `scripts/uwsgi-options` makes the text from the real program.

use std::cell::Cell;

const NAMES: &str = include_str!("uwsgi_options.txt");
const HASHES: [u32; count()] = hashes();
/// What leads from one hash to the next, in one or more steps.
static STEPS: [[u8; 3]; steps::<0>().0] = steps().1;
/// Where each block of steps begins.
static BLOCKS: [u32; STEPS.len().div_ceil(BLOCK)] = blocks();
/// The number of steps in a block.
const BLOCK: usize = 64;
/// The longest step.
const STEP_MAX: u32 = (1 << 24) - 1;

/// What a name can have in it.
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789-_.";

/// Whether uWSGI has an option of that name.
pub(crate) fn has(name: &[u8]) -> bool {
    is_one(hash(name))
}

/// Whether an option has that hash.
fn is_one(wanted: u32) -> bool {
    let block = BLOCKS.partition_point(|begin| *begin < wanted).saturating_sub(1);
    let begin = BLOCKS.get(block).copied().unwrap_or_default();
    from(begin, block * BLOCK).find(|hash| *hash >= wanted) == Some(wanted)
}

/// The hashes, in order, and the ends of steps between them: those behind so many steps, which lead to
/// `begin`.
fn from(begin: u32, steps: usize) -> impl Iterator<Item = u32> {
    STEPS.iter().skip(steps).scan(begin, |at: &mut u32, step| {
        *at += length(step);
        Some(*at)
    })
}

const fn length([low, middle, high]: &[u8; 3]) -> u32 {
    u32::from_le_bytes([*low, *middle, *high, 0])
}

fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0, |hash, byte| add(hash, *byte))
}

/// Finds the option that a misspelt name is one slip away from.
///
/// A slip can be made in some hundred ways, so only so many names are looked at: a file with more of them has
/// other troubles.
pub(crate) struct Slips(Cell<u8>);

impl Default for Slips {
    fn default() -> Self {
        Self(Cell::new(25))
    }
}

impl Slips {
    /// The option that was probably meant: a letter was added, left out or changed, or two neighbours were
    /// swapped. A name of a few letters is one slip away from too much.
    pub fn option(&self, name: &[u8]) -> Option<String> {
        let left = self.0.get().checked_sub(1)?;
        if !(5..=40).contains(&name.len()) {
            return None;
        }
        self.0.set(left);
        // The beginnings of all hashes: most slips lead to none.
        let mut known = [false; 1 << 14];
        from(0, 0)
            .for_each(|hash| known.get_mut(hash as usize >> 18).into_iter().for_each(|known| *known = true));
        // The hash of each beginning. That of an end is what the beginning leaves of the whole.
        let (mut whole, mut hashes) = (0, vec![0]);
        for byte in name {
            whole = add(whole, *byte);
            hashes.push(whole);
        }
        let with = |from: usize, taken: usize, middle: &[u8]| {
            let rest = name.get(from + taken..)?;
            let start = middle.iter().fold(*hashes.get(from)?, |hash, byte| add(hash, *byte));
            let change = start.wrapping_sub(*hashes.get(from + taken)?);
            let hash = whole.wrapping_add(change.wrapping_mul(FACTOR.wrapping_pow(rest.len() as u32)));
            if !*known.get(hash as usize >> 18)? || !is_one(hash) {
                return None;
            }
            String::from_utf8([name.get(..from)?, middle, rest].concat()).ok()
        };
        (0..=name.len()).find_map(|from| {
            let swapped = match name.get(from..) {
                Some([one, other, ..]) => with(from, 2, &[*other, *one]),
                _ => None,
            };
            swapped.or_else(|| with(from, 1, b"")).or_else(|| {
                LETTERS
                    .iter()
                    .find_map(|&letter| with(from, 1, &[letter]).or_else(|| with(from, 0, &[letter])))
            })
        })
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

/// The number of steps, and the steps.
#[allow(clippy::indexing_slicing)] // done by the compiler
const fn steps<const COUNT: usize>() -> (usize, [[u8; 3]; COUNT]) {
    let (mut steps, mut count) = ([[0; 3]; COUNT], 0);
    let (mut at, mut number) = (0, 0);
    while number < HASHES.len() {
        let left = HASHES[number] - at;
        let step = if left < STEP_MAX { left } else { STEP_MAX };
        if count < COUNT {
            let [low, middle, high, _] = step.to_le_bytes();
            steps[count] = [low, middle, high];
        }
        at += step;
        number += (step == left) as usize;
        count += 1;
    }
    (count, steps)
}

#[allow(clippy::indexing_slicing)] // done by the compiler
const fn blocks<const COUNT: usize>() -> [u32; COUNT] {
    let (mut blocks, mut at, mut number) = ([0; COUNT], 0, 0);
    while number < STEPS.len() {
        if number % BLOCK == 0 {
            blocks[number / BLOCK] = at;
        }
        at += length(&STEPS[number]);
        number += 1;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_no_two_have_one_hash() {
        assert!(HASHES.is_sorted_by(|a, b| a < b));
        assert!(STEPS.len() < HASHES.len() + 30, "{}", STEPS.len());
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
