//! What `str` has and byte strings lack.

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
}
