//! What a document points to is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents: those at the top level, and below `docs` and `deploy`.
fn documents() -> Vec<PathBuf> {
    let mut all = Vec::new();
    let tops = ["docs", "deploy"].map(|top| root().join(top));
    let mut directories = tops.to_vec();
    let mut entries: Vec<_> = fs::read_dir(root()).unwrap().collect();
    while let Some(directory) = directories.pop() {
        entries.extend(fs::read_dir(directory).unwrap());
        for entry in std::mem::take(&mut entries) {
            let path = entry.unwrap().path();
            match path.extension() {
                Some(extension) if extension == "md" => all.push(path),
                _ if path.is_dir() && tops.iter().any(|top| path.starts_with(top)) => directories.push(path),
                _ => {}
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// A document without what stands in its blocks of code.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut is_code = false;
    let is_prose = |line: &&str| {
        is_code ^= line.trim_start().starts_with("```");
        !is_code && !line.starts_with("    ")
    };
    text.lines().filter(is_prose).map(|line| format!("{line}\n")).collect()
}

/// The targets of the links in a document: `[text](target)`.
fn links(path: &Path) -> Vec<String> {
    let text = prose(path);
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors of a document's headings, as web pages of repositories make them.
fn anchors(path: &Path) -> Vec<String> {
    let headings = prose(path);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_what_is_there() {
    let (mut missing, mut count) = (Vec::new(), 0);
    for document in documents() {
        for link in links(&document) {
            count += 1;
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.with_file_name(file),
            };
            let is_there =
                target.exists() && (anchor.is_empty() || anchors(&target).contains(&anchor.into()));
            if !is_there {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 30, "only {count} links were found");
}

#[test]
fn every_figure_is_shown_is_small_and_can_be_read_by_day_and_by_night() {
    let shown: Vec<_> = documents()
        .iter()
        .flat_map(|document| links(document).into_iter().map(|link| document.with_file_name(link)))
        .collect();
    let mut count = 0;
    for entry in fs::read_dir(root().join("docs/figures")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("<svg ") && text.contains("prefers-color-scheme: dark"),
            "{}",
            path.display()
        );
        assert!(text.len() < 40_000, "{}: {} bytes", path.display(), text.len());
        assert!(shown.contains(&path), "{}: no document shows it", path.display());
        count += 1;
    }
    assert!(count > 1);
}

#[test]
fn no_line_of_prose_is_too_long_to_be_read_in_a_terminal() {
    let mut long = Vec::new();
    // A line break is a blank when it is shown, and Chinese has none.
    let is_chinese = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(".zh.md"));
    for document in documents().into_iter().filter(|path| !is_chinese(path)) {
        let text = prose(&document);
        // The row of a table is one line.
        let lines = text.lines().filter(|line| !line.starts_with('|') && line.chars().count() > 120);
        long.extend(lines.map(|line| format!("{}: {line}", document.display())));
    }
    assert!(long.is_empty(), "{long:#?}");
}
