//! Lists of names in one text, which holds no pointers.
//!
//! The kernel loads a program at another address each time, so the start of a program writes every pointer in
//! a constant, and each process then has its own copy of the pages with those pointers.

/// Names with their meanings, made by [`names!`](crate::names!).
#[derive(Debug)]
pub struct Names<T: 'static> {
    /// The names, each followed by a line break. After a name and a blank there may be a text about it.
    pub lines: &'static str,
    /// The meanings, in the same order.
    pub meanings: &'static [T],
}

/// A table of names: `names![("name", meaning), …]`.
#[macro_export]
macro_rules! names {
    ($(($name:literal, $meaning:expr)),+ $(,)?) => {
        $crate::names::Names { lines: concat!($($name, "\n"),+), meanings: &[$($meaning),+] }
    };
}

impl<T: Copy + PartialEq> Names<T> {
    /// The meaning of a name.
    pub fn find(&self, name: &[u8]) -> Option<T> {
        self.meanings.get(position(self.lines, name)?).copied()
    }

    /// The first name with this meaning, and the text about it.
    pub fn line(&self, meaning: T) -> Option<&'static str> {
        let at = self.meanings.iter().position(|known| *known == meaning)?;
        self.lines.lines().nth(at)
    }
}

impl<T> Names<T> {
    /// All names.
    pub fn names(&self) -> Vec<&'static str> {
        names_of(self.lines)
    }
}

/// Whether a list, separated by blanks, contains a name.
pub fn contains(list: &str, name: &[u8]) -> bool {
    list.as_bytes().split(|&byte| byte == b' ').any(|known| known == name)
}

/// Name and text of a line.
pub fn split(line: &str) -> (&str, &str) {
    line.split_once(' ').unwrap_or((line, ""))
}

/// The text about a name, in lines as of [`Names::lines`].
pub fn text(lines: &'static str, name: &[u8]) -> Option<&'static str> {
    lines.lines().nth(position(lines, name)?).map(|line| split(line).1)
}

fn position(lines: &str, name: &[u8]) -> Option<usize> {
    // A start looks up some hundred names, so this does not split lines or look at the texts.
    let is = |line: &[u8]| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| matches!(rest, [] | [b' ', ..])) && !name.contains(&b' ')
    };
    lines.as_bytes().split(|&byte| byte == b'\n').position(is)
}

fn names_of(lines: &'static str) -> Vec<&'static str> {
    lines.lines().map(|line| split(line).0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_and_without_a_text() {
        let table = names![("one the first", 1), ("two", 2), ("zwei", 2)];
        assert_eq!((table.find(b"one"), table.find(b"two"), table.find(b"the")), (Some(1), Some(2), None));
        assert_eq!((table.find(b""), table.find(b"one the first"), table.find(b"tw")), (None, None, None));
        assert_eq!((table.line(2), table.line(3)), (Some("two"), None));
        assert_eq!(table.names(), ["one", "two", "zwei"]);
        assert!(contains("a bc", b"bc") && !contains("a bc", b"b") && !contains("a bc", b""));
    }
}
