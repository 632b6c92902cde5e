//! A writer of JSON, which places commas and escapes texts.

use std::fmt::Write as _;
use std::time::Duration;

/// A JSON text while it is written. Keys are constants that need no escaping. An element of an array has an
/// empty key.
#[derive(Debug, Default)]
pub struct Json(pub String);

impl Json {
    /// Begins an object (`{`) or an array (`[`).
    pub fn open(&mut self, key: &str, bracket: char) {
        self.key(key);
        self.0.push(bracket);
    }

    /// Ends an object or an array with its closing bracket.
    pub fn close(&mut self, bracket: char) {
        self.0.push(bracket);
    }

    /// A whole number; `null` for none.
    pub fn number(&mut self, key: &str, value: Option<impl Into<u64>>) {
        self.key(key);
        match value {
            Some(value) => _ = write!(self.0, "{}", value.into()),
            None => self.null(),
        }
    }

    /// A time in seconds, to the millisecond; `null` for none.
    pub fn seconds(&mut self, key: &str, value: Option<Duration>) {
        self.key(key);
        match value {
            Some(value) => _ = write!(self.0, "{}.{:03}", value.as_secs(), value.subsec_millis()),
            None => self.null(),
        }
    }

    /// A text; `null` for none.
    pub fn text(&mut self, key: &str, value: Option<&str>) {
        self.key(key);
        match value {
            Some(value) => self.quote(value),
            None => self.null(),
        }
    }

    /// A value that is JSON already.
    pub fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
    }

    fn null(&mut self) {
        self.0.push_str("null");
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() && !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
        if !key.is_empty() {
            self.0.push('"');
            self.0.push_str(key);
            self.0.push_str("\":");
        }
    }

    /// A text as a JSON string.
    fn quote(&mut self, text: &str) {
        let out = &mut self.0;
        out.push('"');
        let mut rest = text;
        // More than JSON requires: DEL and the C1 control characters also have effects on a terminal.
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| matches!(c, '"' | '\\') || c.is_control())
        {
            let (plain, special) = rest.split_at(at);
            out.push_str(plain);
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                '\n' => out.push_str("\\n"),
                _ => _ = write!(out, "\\u{:04x}", u32::from(c)),
            }
            rest = special.get(c.len_utf8()..).unwrap_or_default();
        }
        out.push_str(rest);
        out.push('"');
    }
}

/// The keys of a JSON text, for tests that look them up in the documents.
#[cfg(test)]
pub fn keys(json: &str) -> Vec<&str> {
    json.match_indices("\":").filter_map(|(end, _)| json.get(..end)?.rsplit('"').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_are_separated_and_texts_escaped() {
        let mut json = Json::default();
        json.open("", '{');
        json.number("a", Some(u64::MAX));
        json.open("list", '[');
        json.text("", Some("q\"\\\n\u{1}\u{7f} ü\u{fffd}"));
        json.text("", None);
        json.open("", '{');
        json.close('}');
        json.close(']');
        json.seconds("t", Some(Duration::from_millis(12_034)));
        json.close('}');
        assert_eq!(
            json.0,
            "{\"a\":18446744073709551615,\
             \"list\":[\"q\\\"\\\\\\n\\u0001\\u007f ü\u{fffd}\",null,{}],\"t\":12.034}"
        );
    }
}
