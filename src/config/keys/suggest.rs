//! "Did you mean …?": the known name that a misspelt one is closest to.

/// Which of these a word probably means: the only one that begins so, or the closest.
pub(crate) fn probable<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let mut begin = names.iter().filter(|name| word.len() > 2 && name.starts_with(word));
    match (begin.next(), begin.next()) {
        (Some(only), None) => Some(only),
        _ => closest(word.as_bytes(), names),
    }
}

/// The candidate that was probably meant by `name`, if one is close enough.
///
/// The rule is conservative: one slip (a letter added, left out or changed, or two neighbours swapped) in
/// names of three letters or more, two in names of ten or more.
pub(crate) fn closest<'a>(name: &[u8], candidates: &[&'a str]) -> Option<&'a str> {
    let allowed = match name.len() {
        0..3 => return None,
        3..10 => 1,
        10..64 => 2,
        _ => return None,
    };
    let mut best = None;
    let ours = letters(name);
    for candidate in candidates {
        // Names that differ more in length or letters cannot be close enough. This rules out most candidates.
        if candidate.len().abs_diff(name.len()) > allowed
            || (ours ^ letters(candidate.as_bytes())).count_ones() as usize > 2 * allowed
        {
            continue;
        }
        if let Some(distance @ 1..) = distance(name, candidate.as_bytes(), allowed)
            && best.is_none_or(|best| (distance, *candidate) < best)
        {
            best = Some((distance, *candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// A bit for each letter that is in a name. A slip changes two of them at most.
fn letters(name: &[u8]) -> u32 {
    name.iter().fold(0, |letters, byte| letters | 1 << (byte & 31))
}

/// The number of slips between two names (optimal string alignment); `None` for more than `allowed`, which
/// most pairs of names exceed after a few letters.
fn distance(a: &[u8], b: &[u8], allowed: usize) -> Option<usize> {
    // The names are short, and so are the rows: longer ones would be mapped and unmapped each time.
    let mut before: Vec<u8> = Vec::new();
    let mut above: Vec<u8> = vec![0];
    for (_, i) in b.iter().zip(1..) {
        above.push(i);
    }
    let at = |row: &[u8], column: usize| row.get(column).copied().unwrap_or(u8::MAX / 2);
    let mut previous = None;
    for (&x, i) in a.iter().zip(1..) {
        let mut row = vec![i];
        for (j, &y) in b.iter().enumerate() {
            let changed = at(&above, j) + u8::from(x != y);
            let mut best = changed.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            let left = j.checked_sub(1);
            if let Some(left) = left
                && previous == Some(y)
                && b.get(left) == Some(&x)
            {
                best = best.min(at(&before, left) + 1);
            }
            row.push(best);
        }
        // A later row is computed from these two and cannot be below both.
        if row.iter().chain(&above).all(|&slips| usize::from(slips) > allowed) {
            return None;
        }
        previous = Some(x);
        before = std::mem::replace(&mut above, row);
    }
    Some(usize::from(at(&above, b.len()))).filter(|&slips| slips <= allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abcd", "acbx", 2),
            ("umask", "umaks", 1),
            ("ca", "abc", 3),
        ] {
            for allowed in 0..=3 {
                let found = distance(a.as_bytes(), b.as_bytes(), allowed);
                assert_eq!(found, Some(expected).filter(|&slips| slips <= allowed), "{a} {b} {allowed}");
            }
        }
    }

    #[test]
    fn only_close_names_are_suggested() {
        let known = ["uid", "umask", "mountpoint-check", "mountpoint-timeout"];
        let suggest = |name: &str| closest(name.as_bytes(), &known);
        assert_eq!(suggest("mountpoint-chek"), Some("mountpoint-check"));
        assert_eq!(suggest("mointpoint-timeuot"), Some("mountpoint-timeout"));
        assert_eq!(suggest("umaks"), Some("umask"));
        assert_eq!((suggest("uidd"), suggest("udi")), (Some("uid"), Some("uid")));
        assert_eq!((suggest("ud"), suggest("mount"), suggest("umask")), (None, None, None));
    }
}
