//! What docs/faq.md quotes is what the programs say.

use std::fs;
use std::path::Path;

use super::walk::document;

/// A part of a message that the page has, and of the source that says it.
const MESSAGES: &[(&str, &str)] = &[
    ("does it go into the background?", "does it go into the background?"),
    ("did you mean 'command'?", "did you mean '"),
    ("app exited with status 1", "exited with status "),
    ("killed by SIGKILL", "killed by "),
    ("is in no database, so it has no primary group: 'gid' is missing", "so it has no primary group"),
    (" may not search ", " may not search "),
    (") listens there", ") listens there"),
    ("a process of user ", "a process of user "),
    (", the mode of ", ", the mode of "),
    ("nothing is mounted there", "nothing is mounted there"),
    ("reload refused", "reload refused"),
    ("`backoff`", "\"backoff\""),
];

/// The source of both programs.
fn source(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.is_dir() {
        true => source(&path),
        false => fs::read_to_string(path).unwrap(),
    };
    entries.map(text).collect()
}

#[test]
fn the_questions_quote_what_the_programs_say() {
    let source = source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let page = document("docs/faq.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for (quoted, said) in MESSAGES {
        assert!(page.contains(quoted), "docs/faq.md does not quote '{quoted}'");
        assert!(source.contains(said), "no program says '{said}'");
    }
}
