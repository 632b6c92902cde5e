//! Rules for all rows of both programs.

use super::emperor::EMPEROR;
use super::row::{Group, Row, Takes};
use super::vassal::VASSAL_INIT;

#[test]
fn the_table_is_in_order() {
    let place = |row: &Row| (Group::ALL.iter().position(|group| *group == row.group), row.name);
    for program in [&EMPEROR, &VASSAL_INIT] {
        for pair in program.options().windows(2) {
            assert!(place(&pair[0]) < place(&pair[1]), "{} before {}", pair[0].name, pair[1].name);
        }
    }
}

#[test]
fn every_row_is_fit_for_help() {
    for row in EMPEROR.options().into_iter().chain(VASSAL_INIT.options()) {
        let (doc, more) = (row.doc(), row.more());
        assert!(!doc.is_empty() && !doc.ends_with('.'), "{}: {doc}", row.name);
        assert!(doc.len() <= 80, "{}: {} is too long", row.name, doc.len());
        assert!(more.is_empty() || more.ends_with('.'), "{}: {more}", row.name);
        let name = row.name.trim_end_matches("PHASE");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b"-_".contains(&b)), "{name}");
        if let Takes::Value(placeholder) = row.takes {
            assert!(placeholder.bytes().any(|b| b.is_ascii_uppercase()), "{}", row.name);
        }
    }
}

#[test]
fn names_are_unique() {
    for program in [&EMPEROR, &VASSAL_INIT] {
        let mut names: Vec<_> = program.options().iter().map(|row| row.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}

#[test]
fn rows_are_found_by_key_and_program() {
    assert_eq!(VASSAL_INIT.find(b"exec-as-user").map(|row| row.name), Some("exec-PHASE"));
    assert!(VASSAL_INIT.find(b"exec-as-usr").is_none() && EMPEROR.find(b"exec-as-user").is_none());
    assert!(EMPEROR.find(b"umask").is_none() && EMPEROR.find(b"strict").is_some());
}
