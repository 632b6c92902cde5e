//! Every block of code of a document is run by something: those with a fence by `walk`, the others by what a
//! table here names.

use std::fs;
use std::path::Path;

use super::walk::{blocks, document};
use super::walked::WALKED;

/// Documents whose blocks have no fence, beside those that are followed.
const OTHERS: &[&str] = &[
    "deploy/kubernetes/README.md",
    "docs/behaviour.md",
    "docs/containers.md",
    "docs/operating.md",
    "docs/recipes.md",
    "docs/reference.md",
    "docs/rootless.md",
    "docs/security.md",
];

/// What runs a block without a fence: the document, a part of the block, a file of the repository, and a part
/// of that. Samples of what is shown are in files that compare it.
const RUN: &[(&str, &str, &str, &str)] = &[
    ("README.md", "scripts/demo ", "scripts/demo", "on_stage_zip"),
    ("README.md", "install dist/emperor", "scripts/vm-guide.py", "\"To begin with\""),
    ("README.md", "ENTRYPOINT [", "scripts/engine_images.py", "block(\"README.md\", lines)"),
    ("deploy/kubernetes/README.md", "kubectl apply -k", "scripts/cluster_recipes.py", "def both_shapes"),
    (
        "deploy/kubernetes/README.md",
        "configMapGenerator:",
        "scripts/cluster_recipes.py",
        "def own_kustomization",
    ),
    (
        "deploy/kubernetes/README.md",
        "FROM debian:12-slim",
        "scripts/play.py",
        "block(README, \"FROM debian:12-slim",
    ),
    ("deploy/kubernetes/README.md", "helm install", "scripts/cluster_recipes.py", "def chart"),
    ("deploy/kubernetes/README.md", "scripts/manifest", "scripts/cluster_recipes.py", "def pods_of_files"),
    ("docs/apps.md", "fuse-zip -r /var/www/shop.zip", "tests/docs/walked.rs", "docs/tutorial.md"),
    ("docs/containers.md", "vassal-init [FLAGS]", "src/config/keys/vassal.rs", "vassal-init [FLAGS]"),
    ("docs/containers.md", "ENTRYPOINT [", "scripts/engine_images.py", "block(CONTAINERS, lines)"),
    (
        "docs/containers.md",
        "\"init-path\":",
        "scripts/engine_drivers.py",
        "block(CONTAINERS, '{ \"init\": true, ')",
    ),
    ("docs/containers.md", "[containers]", "scripts/engine_drivers.py", "block(CONTAINERS, \"[containers]"),
    ("docs/containers.md", "shareProcessNamespace", "scripts/engines.py", "def pod_of_documents"),
    ("docs/containers.md", "KillMode=mixed", "scripts/vm-recipes.py", "def service"),
    ("docs/containers.md", "make test", "scripts/vm-recipes.py", "def command"),
    // No device plugin was run: it is held to the schemas.
    ("docs/containers.md", "squat.ai/fuse", "scripts/kubernetes.py", "def check_part_of_pod"),
    ("docs/guide.md", "emperor-cgroup = ", "scripts/vm-guide.py", "memory-max"),
    ("docs/guide.md", "jq -c", "tests/docs/night.rs", "docs/guide.md"),
    ("docs/monitoring/README.md", "curl -s 'http", "tests/docs/monitoring.rs", "/api/v1/query"),
    ("docs/operating.md", "install dist/emperor", "scripts/vm-guide.py", "\"To begin with\""),
    ("docs/operating.md", "emperor upgrade --roll", "scripts/vm-guide.py", "\"From day to day\""),
    ("docs/operating.md", "emperor-use-clone = fs,pid,ipc", "tests/docs/night.rs", "fs,pid,ipc"),
    ("docs/operating.md", "cp docs/completions/emperor.bash", "tests/docs/night.rs", "cp docs/completions"),
    ("docs/operating.md", "vassals/*.ini", "tests/docs/night.rs", "vassals/*.ini"),
    ("docs/operating.md", "its last line: ", "tests/docs/logs.rs", "its last line"),
    ("docs/operating.md", "/var/log/emperor.log {", "tests/docs/logs.rs", "copytruncate"),
    ("docs/operating.md", "/var/log/vassals/*.log {", "tests/docs/logs.rs", "rotate 14"),
    ("docs/operating.md", "Type=notify-reload", "scripts/vm-guide.py", "block(OPERATING, NOTIFY_RELOAD)"),
    ("docs/operating.md", "emperor status --problems", "tests/docs/night.rs", "docs/operating.md"),
    ("docs/recipes.md", "hook-as-root = create:/dev/%(_)", "tests/docs/recipes.rs", "JAIL"),
    ("docs/recipes.md", "mount-pre-jail = overlay", "tests/docs/recipes.rs", "OVERLAY"),
    ("docs/recipes.md", "exec-asap = squashfuse", "tests/docs/recipes.rs", "OVER_IMAGE"),
    ("docs/recipes.md", "exec-as-user = bindfs", "tests/docs/recipes.rs", "BINDFS"),
    ("docs/recipes.md", "hook-as-user = fuse:/app squashfuse", "tests/docs/recipes.rs", "SQUASHFS"),
    ("docs/recipes.md", "chroot = /ns/precise", "tests/docs/recipes.rs", "CHROOT"),
    ("docs/recipes.md", "scripts/make-rootfs --user", "scripts/demo", "make_tutorial_tree user001 user002"),
    ("docs/reference.md", "setpriv --reuid emperor", "scripts/vm-recipes.py", "def some_capabilities"),
    ("docs/reference.md", "\"included_from\"", "tests/config/limits.rs", "\"included_from\""),
    ("docs/reference.md", "fuse-overlayfs", "tests/fuse/handed_over.rs", "fuse-overlayfs -o lowerdir="),
    ("docs/reference.md", "mounted again and running", "tests/fuse/errors.rs", "mounted again and running"),
    ("docs/reference.md", "after the daemon died (pid 4, killed", "tests/docs/walked.rs", "README.md"),
    ("docs/reference.md", "needs a fresh jail", "tests/emperor/reload.rs", "needs a fresh jail"),
    ("docs/rootless.md", "uid = root", "scripts/vm-recipes.py", "def rootless()"),
    ("docs/rootless.md", "emperor --emperor ~/vassals", "scripts/vm-recipes.py", "def rootless()"),
    ("docs/rootless.md", "joe:100000:65536", "tests/emperor/rootless.rs", "GRANTED: &str"),
    ("docs/rootless.md", "loginctl enable-linger", "scripts/vm-recipes.py", "def rootless_unit"),
    ("docs/rootless.md", "map-users = auto", "scripts/vm-recipes.py", "def own_ids"),
    ("docs/rootless.md", "map-tree = /ns", "scripts/vm-recipes.py", "def own_ids"),
    ("docs/rootless.md", "bind,nosuid", "scripts/vm-recipes.py", "def own_ids"),
    ("docs/security.md", "emperor-tyrant-max", "scripts/vm-recipes.py", "def strangers"),
    ("docs/security.md", "confine-hooks", "scripts/vm-recipes.py", "def strangers"),
    ("docs/reference.md", "{\"time\":", "tests/emperor/seeing.rs", "\"program\":\"emperor\""),
];

/// The blocks of a text that stand four blanks in, behind an empty line.
pub fn indented(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let (mut is_fenced, mut is_open, mut is_behind_empty) = (false, false, true);
    for line in text.lines() {
        is_fenced ^= line.starts_with("```");
        let is_code = !is_fenced && line.starts_with("    ") && (is_open || is_behind_empty);
        match (is_code, blocks.last_mut()) {
            (true, Some(block)) if is_open => *block += &format!("{line}\n"),
            (true, _) => blocks.push(format!("{line}\n")),
            (false, _) => {}
        }
        is_behind_empty = line.is_empty();
        is_open = is_code || (is_open && line.is_empty());
    }
    blocks
}

#[test]
fn every_block_of_code_is_run_by_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut used = vec![false; RUN.len()];
    let (mut left, mut count) = (Vec::new(), 0);
    for name in WALKED.iter().chain(OTHERS) {
        let text = document(name);
        assert!(WALKED.contains(name) || blocks(&text).is_empty(), "{name} has fences and is not followed");
        for block in indented(&text) {
            count += 1;
            match RUN.iter().position(|row| row.0 == *name && block.contains(row.1)) {
                Some(row) => used[row] = true,
                None => left.push(format!("{name}: {}", block.lines().next().unwrap_or_default().trim())),
            }
        }
    }
    assert!(count > 20, "only {count} blocks were found");
    assert!(left.is_empty(), "run by nothing that the table names: {left:#?}");
    for (row, used) in RUN.iter().zip(used) {
        let (name, part, file, text) = row;
        assert!(used, "{name} has no block with '{part}'");
        let found = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(found.contains(text), "{file} has no '{text}', which would run '{part}' of {name}");
    }
}

#[test]
fn the_scripts_in_the_documents_are_there_and_have_these_options() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for name in WALKED.iter().chain(OTHERS).chain(&["docs/testing.md", "CONTRIBUTING.md"]) {
        let blocks = indented(&document(name)).concat();
        for line in blocks.lines().filter(|line| line.trim_start().starts_with("scripts/")) {
            let line = line.split('#').next().unwrap_or_default();
            // Behind these, it is a command for the guest, or what another script takes.
            let own = [" emperor ", " --bench "]
                .iter()
                .fold(line, |own, end| own.split(end).next().unwrap_or_default());
            let mut words = own.split_whitespace().take_while(|word| *word != "&&");
            let script = words.next().unwrap_or_default();
            let text = fs::read_to_string(root.join(script)).unwrap_or_default();
            assert!(!text.is_empty(), "{name}: {line}: no such script");
            for option in words.filter(|word| word.starts_with("--")) {
                count += 1;
                // What is for cargo is in no script of ours.
                let is_cargos = script == "scripts/test" && option == "--test";
                assert!(is_cargos || text.contains(option), "{name}: {line}: {script} has no {option}");
            }
        }
    }
    assert!(count > 10, "only {count} options were found");
}
