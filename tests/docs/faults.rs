//! The table of faults in docs/testing.md names tests that exist, and lines of the log that they wait for.

use std::fs;
use std::path::Path;

/// The text between the backquotes of a cell, where there is one.
fn quoted(cell: &str) -> Option<&str> {
    cell.trim().strip_prefix('`')?.strip_suffix('`')
}

/// The text of a test without the line breaks in its strings.
fn body(file: &str, name: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file))
        .unwrap_or_else(|error| panic!("tests/{file}: {error}"));
    let mark = format!("#[test]\nfn {name}()");
    let start = text.find(&mark).unwrap_or_else(|| panic!("tests/{file} has no test {name}"));
    let rest = &text[start..];
    let end = rest.find("\n}\n").unwrap_or(rest.len());
    let joined: Vec<_> = rest[..end].split("\\\n").map(str::trim_start).collect();
    joined.concat()
}

#[test]
fn every_fault_of_the_table_is_injected_by_a_test_that_waits_for_its_line() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/testing.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("Faults\n")).expect("## Faults");
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("::"))
        .map(|line| line.trim_matches('|').split('|').collect())
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let [fault, test, seen] = row[..] else { panic!("not three cells: {row:?}") };
        let (file, name) = quoted(test).and_then(|test| test.split_once("::")).unwrap_or_default();
        let body = body(file, name);
        if let Some(line) = quoted(seen) {
            assert!(body.contains(line), "{fault}: {file}::{name} does not wait for '{line}'");
        }
    }
}
