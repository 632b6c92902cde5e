//! Documents that can be followed to the letter.

use super::walk;
use crate::common::sandboxed;

/// Those that are: a test for each is below.
pub const WALKED: &[&str] = &[
    "README.md",
    "docs/apps.md",
    "docs/concepts.md",
    "docs/guide.md",
    "docs/monitoring/README.md",
    "docs/oneshots.md",
    "docs/tutorial.md",
];

#[test]
fn every_document_that_is_followed_has_a_test() {
    let tests = include_str!("walked.rs");
    let is_missing = |name: &&&str| !tests.contains(&format!("walk::follow(sandbox, \"{name}\")"));
    assert_eq!(WALKED.iter().filter(is_missing).collect::<Vec<_>>(), [&""; 0]);
}

#[test]
fn the_readme_leads_from_nothing_to_a_vassal_that_gets_its_filesystem_back() {
    sandboxed(|sandbox| walk::follow(sandbox, "README.md"));
}

#[test]
fn the_tutorial_can_be_followed() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/tutorial.md"));
}

#[test]
fn the_tutorial_in_chinese_has_the_same_blocks() {
    let texts = ["docs/tutorial.md", "docs/tutorial.zh.md"].map(|name| {
        let blocks = walk::blocks(&walk::document(name));
        blocks.into_iter().map(|block| (block.kind, block.text)).collect::<Vec<_>>()
    });
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn the_page_of_real_apps_can_be_followed() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/apps.md"));
}

#[test]
fn the_page_of_one_shots_can_be_followed() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/oneshots.md"));
}

#[test]
fn the_page_of_concepts_tells_what_a_vassal_sees() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/concepts.md"));
}

#[test]
fn the_page_about_monitoring_can_be_followed() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/monitoring/README.md"));
}

#[test]
fn the_guide_can_be_followed() {
    sandboxed(|sandbox| walk::follow(sandbox, "docs/guide.md"));
}
