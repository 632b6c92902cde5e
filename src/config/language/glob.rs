//! Names that match a pattern, as the shell matches them (glob(7)): `*`, `?`, `[a-z]`, `[!a-z]`, and `\`
//! before a character that stands for itself.
//!
//! A wildcard matches no `/`, and no `.` at the beginning of a name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::placeholder::Budget;
use crate::config::world::World;

/// The most paths that are returned. More would exceed the limit on options anyway.
const PATHS_MAX: usize = 10_001;
/// What a system call costs, and each byte of a path in it, in bytes of the budget.
const COST: usize = 32;

/// The paths that match, in order, directories with a slash at the end; the pattern itself if none matches.
/// As glob(3) with GLOB_MARK and GLOB_NOCHECK.
///
/// Each name and path that is looked at is charged to the budget; returns `None` when the budget is spent.
pub(super) fn paths(pattern: &[u8], world: &dyn World, budget: &Budget) -> Option<Vec<Vec<u8>>> {
    let spend = |length: usize| budget.spend(COST * (COST + length)).then_some(());
    let mut found = vec![Vec::new()];
    let status = |path: &[u8]| world.status(Path::new(OsStr::from_bytes(path)));
    let mut parts = pattern.split_inclusive(|&byte| byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let (name, slash) = part.strip_suffix(b"/").map_or((part, &b""[..]), |name| (name, b"/"));
        let is_last = parts.peek().is_none() && slash.is_empty();
        let mut next = Vec::new();
        for before in found {
            let add = |name: &[u8]| [&before, name, slash].concat();
            spend(before.len() + name.len())?;
            if !has_wildcard(name) {
                next.push(add(name));
                continue;
            }
            let directory: &[u8] = if before.is_empty() { b"." } else { &before };
            for one in world.names(Path::new(OsStr::from_bytes(directory))) {
                spend(name.len() + one.len())?;
                if matches(name, one.as_bytes()) {
                    next.push(add(one.as_bytes()));
                }
            }
            next.truncate(PATHS_MAX);
        }
        // A name that was read from a directory exists, even if it is a dangling link.
        if !is_last || !has_wildcard(name) {
            next.retain(|path| status(path).is_some());
        }
        found = next;
    }
    if found.is_empty() || pattern.is_empty() {
        return Some(vec![pattern.to_vec()]);
    }
    for path in &mut found {
        if !path.ends_with(b"/") && status(path).is_some_and(|status| status.is_directory) {
            path.push(b'/');
        }
    }
    found.sort_unstable();
    Some(found)
}

/// Whether a pattern can match anything but itself.
pub(crate) fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Whether a name without slashes matches.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let hidden = name.first() == Some(&b'.') && pattern.first() != Some(&b'.');
    !hidden && rest_matches(pattern, name)
}

/// Takes at most the product of both lengths in time, because only the last star is tried again.
fn rest_matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    // The pattern after the last star, and the part of the name that the star has not matched yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let Some((b'*', rest)) = pattern.split_first() {
            star = Some((rest, name));
            pattern = rest;
            continue;
        }
        let step = match name.split_first() {
            None if pattern.is_empty() => return true,
            None => None,
            Some((&byte, left)) => one(pattern, byte).map(|rest| (rest, left)),
        };
        if let Some((rest, left)) = step {
            (pattern, name) = (rest, left);
        } else if let Some((rest, [_, left @ ..])) = star {
            star = Some((rest, left));
            (pattern, name) = (rest, left);
        } else {
            return false;
        }
    }
}

/// The pattern after its first part, if that part matches the byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'\\', literal, rest @ ..] => (*literal == byte).then_some(rest),
        [b'[', rest @ ..] => match set(rest, byte) {
            Some((found, rest)) => found.then_some(rest),
            // A `[` without a `]` matches itself.
            None => (byte == b'[').then_some(rest),
        },
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

/// Whether a byte is in the set that begins here, and the pattern after the set; `None` if the set is not
/// closed.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, mut rest) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (mut found, mut first) = (false, true);
    loop {
        rest = match rest {
            [b']', rest @ ..] if !first => return Some((found != negated, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [one, rest @ ..] => {
                found |= *one == byte;
                rest
            }
            [] => return None,
        };
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_shell_does() {
        for (pattern, yes, no) in [
            (
                "*.ini",
                &["a.ini", "a b.ini", "ü.ini", "a.b.ini"][..],
                &["a.ini~", ".a.ini", "ini", "a.in"][..],
            ),
            ("a?.ini", &["ab.ini", "a*.ini"], &["a.ini", "abc.ini"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]),
            ("[!a-c]x", &["dx", "!x"], &["ax", "x"]),
            ("[]-]x", &["]x", "-x"], &["ax"]),
            ("[a", &["[a"], &["a"]),
            (r"\*x", &["*x"], &["ax", r"\*x"]),
            (".*", &[".a", "."], &["a"]),
            ("a*b*c", &["abc", "axbxbc"], &["ab", "abcd"]),
            ("", &[""], &["a"]),
        ] {
            for name in yes {
                assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn many_stars_take_no_longer() {
        let pattern = b"*a".repeat(2000);
        assert!(!matches(&pattern, &[&b"a".repeat(1000)[..], b"b"].concat()));
    }
}
