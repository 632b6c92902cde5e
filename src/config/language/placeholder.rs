//! The passes over finished options: `$(ENV)`, then `@(file)`, then `%(name)` with uWSGI's arithmetic.
//!
//! The passes do exactly what `uwsgi_apply_config_pass` of uWSGI does, oddities included. A pass goes over
//! the options in order, so a placeholder sees earlier options expanded and later ones as written. After each
//! replacement the scan starts again at the second byte of the value. A placeholder without a value stays as
//! it is.

use std::cell::Cell;

use crate::config::bytes::leading_integer;

/// How many bytes may be looked at for one configuration. This stops values that refer to themselves, and
/// patterns that match half of the machine.
const WORK_MAX: usize = 64 << 20;

/// The largest value.
const VALUE_MAX: usize = 1 << 20;

/// The rest of [`WORK_MAX`].
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub fn new() -> Self {
        Self(Cell::new(WORK_MAX))
    }

    /// Whether the budget is spent.
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Subtracts `amount`; `false` if less than that was left.
    pub fn spend(&self, amount: usize) -> bool {
        let left = self.0.get().checked_sub(amount);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// Replaces every `symbol(name)` in `value` by the result of `lookup`, which is called with the name and the
/// value as far as it is expanded. Returns `Ok(None)` if there was nothing to replace.
///
/// # Errors
/// The value becomes too long or expands without end, or a lookup fails.
pub(super) fn expand(
    value: &[u8],
    symbol: u8,
    budget: &Budget,
    mut lookup: impl FnMut(&[u8], &[u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Option<Vec<u8>>, String> {
    if !value.windows(2).any(|pair| pair == [symbol, b'(']) {
        return Ok(None);
    }
    let mut current = value.to_vec();
    let mut changed = false;
    let mut from = 0;
    loop {
        if !budget.spend(current.len()) || current.len() > VALUE_MAX {
            return Err("the value expands without end: it refers to itself".to_owned());
        }
        match replace_one(&current, symbol, from, &mut lookup)? {
            Some(next) => current = next,
            None => return Ok(changed.then_some(current)),
        }
        (changed, from) = (true, 1);
    }
}

/// Replaces the first reference that has a value.
fn replace_one(
    value: &[u8],
    symbol: u8,
    from: usize,
    lookup: &mut impl FnMut(&[u8], &[u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Option<Vec<u8>>, String> {
    /// How far the scan has come in a reference.
    enum Scan {
        Text,
        Symbol,
        Name { start: usize, depth: usize },
    }
    let mut state = Scan::Text;
    for (at, &byte) in value.iter().enumerate().skip(from) {
        state = match (state, byte) {
            (_, byte) if byte == symbol => Scan::Symbol,
            (Scan::Symbol, b'(') => Scan::Name { start: at + 1, depth: 0 },
            (Scan::Name { start, depth }, b'(') => Scan::Name { start, depth: depth + 1 },
            (Scan::Name { start, depth: 0 }, b')') => {
                let name = value.get(start..at).unwrap_or_default();
                let found = if name.is_empty() { None } else { lookup(name, value)? };
                if let Some(found) = found {
                    let (before, after) = (value.get(..start - 2), value.get(at + 1..));
                    return Ok(Some(
                        [before.unwrap_or_default(), &found, after.unwrap_or_default()].concat(),
                    ));
                }
                Scan::Text
            }
            (Scan::Name { start, depth }, b')') => Scan::Name { start, depth: depth - 1 },
            (Scan::Name { start, depth }, _) => Scan::Name { start, depth },
            (Scan::Text | Scan::Symbol, _) => Scan::Text,
        };
    }
    Ok(None)
}

/// The value of the text between `%(` and `)`: a name, or words that are evaluated from left to right.
///
/// Words are joined as text; `+`, `-`, `*` and `/` calculate with the word after them; `++` and `--` add and
/// subtract one. In such an expression a name without a value is an empty word.
///
/// # Errors
/// The result of a calculation overflows, or a number is divided by zero. (uWSGI goes on in both cases.)
pub(super) fn evaluate<'a>(
    expression: &[u8],
    budget: &Budget,
    value_of: impl Fn(&[u8]) -> Option<&'a [u8]>,
) -> Result<Option<Vec<u8>>, String> {
    if !expression.contains(&b' ') {
        return Ok(value_of(expression).map(<[u8]>::to_vec));
    }
    let failed = |what: &str| {
        // Messages show only the beginning of the expression.
        let expression = String::from_utf8_lossy(expression.get(..80).unwrap_or(expression));
        format!("'%({expression})': {what}")
    };
    let mut result: Option<Vec<u8>> = None;
    let mut operator = None;
    for word in expression.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
        match word {
            b"+" | b"-" | b"*" | b"/" => operator = word.first(),
            b"++" | b"--" => {
                if let Some(text) = &result {
                    let step = if word == b"++" { 1 } else { -1 };
                    let number = number(text).checked_add(step).ok_or_else(|| failed("overflow"))?;
                    result = Some(number.to_string().into());
                }
                operator = None;
            }
            _ => {
                let is_number = word.iter().all(u8::is_ascii_digit);
                let word = if is_number { word } else { value_of(word).unwrap_or_default() };
                let text = result.get_or_insert_default();
                if !budget.spend(word.len()) || text.len() > VALUE_MAX {
                    return Err(failed("too long"));
                }
                let Some(operator) = operator.take() else {
                    text.extend(word);
                    continue;
                };
                let (left, right) = (number(text), number(word));
                let calculated = match operator {
                    b'+' => left.checked_add(right),
                    b'-' => left.checked_sub(right),
                    b'*' => left.checked_mul(right),
                    _ if right == 0 => return Err(failed("division by zero")),
                    _ => left.checked_div(right),
                };
                result = Some(calculated.ok_or_else(|| failed("overflow"))?.to_string().into());
            }
        }
    }
    Ok(result)
}

/// The number that a text starts with; 0 without one.
fn number(text: &[u8]) -> i64 {
    leading_integer(text).0.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(name: &[u8]) -> Option<&'static [u8]> {
        match name {
            b"foo" => Some(b"7"),
            b"bar" => Some(b"3"),
            b"raw" => Some(b"%(foo)"),
            b"loop" => Some(b"x%(loop)"),
            b"minus" => Some(b"-5"),
            b"hex" => Some(b"0x10"),
            _ => None,
        }
    }

    fn references(text: &str) -> Result<String, String> {
        let expanded = expand(text.as_bytes(), b'%', &Budget::new(), |name, _| {
            evaluate(name, &Budget::new(), value_of)
        })?;
        Ok(String::from_utf8(expanded.unwrap_or(text.into())).unwrap())
    }

    /// Right: the result of uWSGI 2.0.21 for the left.
    #[test]
    fn expands_as_uwsgi_does() {
        let cases = [
            ("%(foo)%(bar)-%(foo", "73-%(foo"),
            ("%(nope) %() x", "%(nope) %() x"),
            ("%%(foo)", "%7"),
            ("% (foo) %x(foo)", "% (foo) %x(foo)"),
            ("%(a%(foo))", "%(a7)"),
            ("%(raw)", "%(foo)"),
            ("a%(raw)", "a7"),
            ("%(foo + (1))", "7"),
            ("%(foo + 1)", "8"),
            ("%(foo  +  1)", "8"),
            ("%(foo bar)", "73"),
            ("%(foo bar + 2 * 2)", "150"),
            ("%(foo bar nope foo)", "737"),
            ("%(foo ++)", "8"),
            ("%(foo -- --)", "5"),
            ("%(foo - bar)", "4"),
            ("%(foo / bar)", "2"),
            ("%(5 / -2)", "%(5 / -2)!division by zero"),
            ("%(nope + 1)", "1"),
            ("%(foo + nope)", "7"),
            ("%( foo )", "7"),
            ("%(1 + 2)", "3"),
            ("%(foo+1)", "%(foo+1)"),
            ("%(foo +1)", "7"),
            ("%(foo * -3)", "0"),
            ("%(foo + - 1)", "6"),
            ("%(- 3)", "-3"),
            ("%(minus * minus)", "25"),
            ("%(minus / 2)", "-2"),
            ("%(hex + 1)", "1"),
        ];
        for (text, expected) in cases {
            let found = references(text);
            match expected.split_once('!') {
                None => assert_eq!(found.as_deref(), Ok(expected), "{text}"),
                Some((_, error)) => assert!(found.is_err_and(|message| message.ends_with(error)), "{text}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_calculated_is_an_error() {
        let overflow = |text: &str| references(text).is_err_and(|message| message.contains("overflow"));
        assert!(overflow("%(9223372036854775807 + 1)"));
        assert!(overflow("%(9223372036854775807 ++)"));
        assert!(overflow("%(9223372036854775807 * 3)"));
        assert!(overflow("%(foo + 99999999999999999999)"));
        assert_eq!(references("%(foo / 0)"), Err("'%(foo / 0)': division by zero".into()));
    }

    #[test]
    fn a_value_that_refers_to_itself_ends_in_an_error() {
        assert!(references("a%(loop)").is_err());
    }
}
