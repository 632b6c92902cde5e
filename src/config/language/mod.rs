//! The language of the files: inputs → a flat list of expanded settings, in uWSGI's order.
//!
//! In: [`Input`](crate::config::input::Input)s, and a [`World`](crate::config::world::World) for what they
//! name. Out of `expand`: [`Setting`](crate::config::setting::Setting)s with the places they were written at,
//! and diagnostics.
//!
//! `magic` replaces `%n` and its kin in a text, `ini` takes the text apart into entries, `expand` adds them
//! one by one under `logic` (`if-*`, `for*`) and runs the passes of `placeholder`; `index` finds settings by
//! name, `glob` paths by pattern.
//!
//! May not be done here: to know a key of the programs. The meaning of a setting is for `keys` and `build`.

pub(super) mod expand;
pub(crate) mod glob;

mod index;
mod ini;
mod logic;
mod magic;
mod placeholder;

/// Whether the byte stands for the percent sign of a magic variable that is left to uWSGI.
pub(crate) fn is_for_uwsgi(byte: u8) -> bool {
    byte == magic::FOR_UWSGI
}

/// A text with its magic variables for uWSGI as they were written.
pub(crate) fn written(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if is_for_uwsgi(byte) { b'%' } else { byte }).collect()
}

/// A text without its magic variables for uWSGI; `None` if it has none.
pub(crate) fn without_uwsgis(text: &[u8]) -> Option<Vec<u8>> {
    let mut parts = text.split(|&byte| is_for_uwsgi(byte));
    let first = parts.next()?.to_vec();
    let rest: Vec<_> = parts.map(|part| part.get(1..).unwrap_or_default()).collect();
    (!rest.is_empty()).then(|| [first, rest.concat()].concat())
}

/// The keys that open, turn around and close blocks.
pub(crate) fn words() -> Vec<&'static str> {
    let mut words = logic::names();
    words.extend(["else", "end", "end-for", "end-if", "endfor", "endif"]);
    words
}
