//! Documents that are followed to the letter: what a reader types is run, the files that are shown are
//! written, and what a reader is said to see must be seen.
//!
//! In a document that is followed, a block of code says by its language what it is:
//!
//! - `sh`: commands, run by bash in order. Those that only ask (`curl`, `emperor status`) are asked again
//!   until they succeed and show what the next `text` block says, as a reader would do. A block that is one
//!   line `emperor /FILE` or `emperor --OPTION` is the terminal of an emperor; the one before is stopped.
//! - `text`: what one sees. Each line is in the output of the commands before it or in what the emperor's
//!   terminal has got since; pids and times may differ.
//! - without a language: a picture.
//! - any other: a file, whose path is the comment in its first line.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::common::cow::COPY;
use crate::common::{Daemon, ENDED, Sandbox, UP, eventually, run, until, until_passed};

/// A fenced block of code.
pub struct Block {
    /// The line of the document that it begins at.
    pub line: usize,
    /// What it is: the word behind the fence.
    pub kind: String,
    pub text: String,
}

/// A document of the repository.
pub fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced blocks of a document.
pub fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(kind), None) => {
                open = Some(Block { line: number + 1, kind: kind.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is left open");
    blocks
}

/// Commands that change nothing, and may be given again.
const ASKING: &[&str] = &["curl ", "emperor status", "ls ", "cat ", "stat ", "nsenter "];

/// What stands in for programs that need a network: `apt` must only ask for what is there, and `debootstrap`
/// makes a tree of the machine's own programs. `rmdir` must only find an empty directory, as something is
/// mounted there.
const STAND_INS: &[(&str, &str)] = &[
    (
        "apt",
        r#"
        [ "$1" = install ]
        shift
        dpkg-query -W -f '${db:Status-Status}\n' "$@" >/run/apt
        ! grep -vx installed /run/apt
        "#,
    ),
    (
        "debootstrap",
        r#"
        for tree; do :; done
        [ "$tree" = /ns/precise ]
        mkdir "$tree"
        cd "$tree"
        mkdir -p dev proc etc usr/{bin,sbin,lib,lib64} run var
        mkdir -m 1777 tmp
        for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$directory"; done
        "#,
    ),
    ("rmdir", r#"[ -d "$1" ] && [ -z "$(ls -A "$1")" ]"#),
];

/// Follows all blocks of a document.
pub fn follow(sandbox: &Sandbox, name: &str) {
    furnish(sandbox);
    let blocks = blocks(&document(name));
    assert!(blocks.len() > 3, "{name} has no blocks to follow");
    let mut reader =
        Reader { sandbox, emperor: None, log_seen: 0, shown: String::new(), done: Instant::now() };
    let mut rest = blocks.iter().peekable();
    while let Some(block) = rest.next() {
        let place = format!("{name}:{}", block.line);
        match block.kind.as_str() {
            "sh" => {
                let expected = rest.next_if(|next| next.kind == "text").map_or("", |next| &next.text);
                reader.type_in(&place, &block.text, expected);
            }
            "" => {}
            "text" => reader.sees(&place, &block.text),
            _ => {
                reader.looks_from_here();
                reader.has_seen(&write_file(&place, &block.text));
            }
        }
    }
    if let Some(emperor) = reader.emperor {
        emperor.stop();
    }
}

/// A machine on which nothing was prepared: without the tutorial's user, and with a `/tmp` of its own.
fn furnish(sandbox: &Sandbox) {
    run("cp", &["-a", "/etc", "/run/etc"]);
    for file in ["passwd", "group", "shadow", "gshadow"] {
        let path = format!("/run/etc/{file}");
        let text = fs::read_to_string(&path).unwrap();
        let others = text.lines().filter(|line| !line.starts_with("user0"));
        fs::write(&path, others.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    sandbox.mount(&["--bind", "/run/etc"], "/etc");
    sandbox.mount(&["-t", "tmpfs", "-o", "mode=1777", "reader"], "/tmp");
    // Among them what belongs to the tutorial's user on the stage, which all sandboxes share.
    for place in ["/app", "/var/log", "/srv", "/ns", "/ufs"] {
        sandbox.mount(&["-t", "tmpfs", "-o", "mode=755", "reader"], place);
    }
    let programs = Path::new("/run/programs");
    fs::create_dir_all(programs).unwrap();
    // A part of a checkout.
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"), "/tmp/docs").unwrap();
    for (name, script) in STAND_INS {
        let copy = if *name == "debootstrap" { COPY } else { "" };
        fs::write(programs.join(name), format!("#!/bin/bash\nset -e\n{script}{copy}")).unwrap();
        run("chmod", &["755", programs.join(name).to_str().unwrap()]);
    }
    for name in ["emperor", "vassal-init"] {
        let program = sandbox.program(name);
        std::os::unix::fs::symlink(program.get_program(), programs.join(name)).unwrap();
    }
}

/// Writes the file that a block shows, and returns its path.
fn write_file(place: &str, text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let path = first.rsplit_once(' ').map_or("", |(_, path)| path);
    assert!(path.starts_with('/'), "{place}: the first line is no comment with a path: {first}");
    let above = Path::new(path).parent().unwrap();
    assert!(above.is_dir(), "{place}: nothing has made the directory {}", above.display());
    fs::write(path, text).unwrap();
    path.to_owned()
}

/// Whoever follows the document.
struct Reader<'a> {
    sandbox: &'a Sandbox,
    emperor: Option<Daemon>,
    /// How much of the emperor's terminal was seen.
    log_seen: usize,
    /// What the last commands have shown.
    shown: String,
    /// When they were done.
    done: Instant,
}

impl Reader<'_> {
    /// Runs a block of commands, which show this.
    fn type_in(&mut self, place: &str, commands: &str, expected: &str) {
        if is_of_emperor(commands) {
            self.start_emperor(commands.trim());
            return self.sees(place, expected);
        }
        if ["emperor ", "kill"].iter().any(|word| commands.contains(word)) {
            // No reader is faster, and an app that ends sooner has failed.
            until_passed(self.done, UP);
            if self.bash("emperor status").0 {
                let is_starting = || self.bash("emperor status --json").1.contains("\"state\":\"starting\"");
                until("none is starting", || !is_starting());
                self.sandbox.until_up(&[]);
            }
        }
        self.looks_from_here();
        let lines = || commands.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        if lines().all(|line| ASKING.iter().any(|ask| line.starts_with(ask))) {
            self.ask(place, commands, expected);
        } else {
            let (is_done, shown) = self.bash(commands);
            assert!(is_done, "{place}: {shown}");
            self.shown = shown;
            self.sees(place, expected);
        }
        self.done = Instant::now();
    }

    /// What the emperor's terminal shows so far was seen.
    fn looks_from_here(&mut self) {
        self.log_seen = self.emperor.as_ref().map_or(0, |emperor| emperor.log().len());
    }

    /// Waits until an emperor that runs knows the vassal of a new file, as it does before a reader goes on.
    fn has_seen(&self, path: &str) {
        let name = path.strip_prefix("/etc/uwsgi/vassals/").and_then(|name| name.strip_suffix(".ini"));
        if let (Some(name), Some(_)) = (name, &self.emperor) {
            eventually(path, || self.bash(&format!("emperor status {name} --json")).0.then_some(()));
        }
    }

    fn start_emperor(&mut self, line: &str) {
        if let Some(emperor) = self.emperor.take() {
            emperor.stop();
        }
        let mut command = self.command();
        command.args(["-c", &format!("exec {line}")]);
        self.emperor = Some(self.sandbox.start("emperor", command));
        (self.log_seen, self.shown, self.done) = (0, String::new(), Instant::now());
    }

    /// Asks again until it succeeds, and shows what it should.
    fn ask(&mut self, place: &str, commands: &str, expected: &str) {
        let mut last = String::new();
        let has_come = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(place, || {
                let (is_done, shown) = self.bash(commands);
                last.clone_from(&shown);
                self.shown = shown;
                (is_done && self.missing(expected).is_empty()).then_some(())
            });
        }));
        assert!(
            has_come.is_ok(),
            "{place}: {:?} is not in what was last shown:\n{last}",
            self.missing(expected)
        );
    }

    /// Waits until the terminals show these lines.
    fn sees(&mut self, place: &str, expected: &str) {
        let has_come = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(place, || self.missing(expected).is_empty().then_some(()));
        }));
        assert!(
            has_come.is_ok(),
            "{place}: {:?} is not in what is shown:\n{}",
            self.missing(expected),
            self.all()
        );
        self.done = Instant::now();
    }

    fn all(&self) -> String {
        let log = self.emperor.as_ref().map_or_else(String::new, |emperor| emperor.log());
        format!("{}\n{}", self.shown, log.get(self.log_seen..).unwrap_or_default())
    }

    /// The lines that are not to be seen yet.
    fn missing(&self, expected: &str) -> Vec<String> {
        let [usual, other] = ENDED;
        let shown: Vec<_> = self.all().replace(other, usual).lines().map(without_numbers).collect();
        let is_shown = |line: &str| shown.contains(&without_numbers(line));
        let is_missing = |line: &&str| {
            let is_there = is_shown(line) || without_death(line).is_some_and(|line| is_shown(&line));
            !line.trim().is_empty() && !is_there
        };
        expected.lines().filter(is_missing).map(str::to_owned).collect()
    }

    fn command(&self) -> Command {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        command.current_dir("/tmp").env("PATH", format!("/run/programs:{path}")).env("HOME", "/root");
        command
    }

    /// Whether the commands have all succeeded, and what they showed.
    fn bash(&self, commands: &str) -> (bool, String) {
        let output = self.command().args(["-euo", "pipefail", "-c", commands]).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.success(), text)
    }
}

/// A line about a loss without the death of the daemon: the prober may have its answer before the daemon is
/// dead as a whole.
fn without_death(line: &str) -> Option<String> {
    let (before, rest) = line.split_once(" after the daemon died (")?;
    let ((what, _time), (_death, rest)) = (before.rsplit_once(", ")?, rest.split_once(')')?);
    Some(format!("{what}{rest}"))
}

/// Whether a block is the terminal of an emperor.
fn is_of_emperor(commands: &str) -> bool {
    let words = commands.trim().strip_prefix("emperor ").unwrap_or_default();
    (words.starts_with('/') || words.starts_with("--emperor ")) && !words.contains('\n')
}

/// Whether the numbers in a line are of the moment: pids and times, in the log, in a row of `emperor status`
/// or of ps(1).
fn is_of_moment(line: &str) -> bool {
    let mut words = line.split_whitespace();
    ["emperor: ", "vassal-init[", "vassal-init: "].iter().any(|program| line.starts_with(program))
        || line.contains("  running  ")
        || (words.next().is_some_and(|word| word.parse::<u32>().is_ok()) && words.next().is_some())
}

/// A line with each row of blanks as one and, where they are of the moment, each number as `N` and each time
/// as `T`.
fn without_numbers(line: &str) -> String {
    if !is_of_moment(line) {
        return line.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    let words = line.split_whitespace().map(|word| {
        let mut plain = String::new();
        let mut is_number = false;
        for letter in word.chars() {
            let goes_on = letter.is_ascii_digit() || (is_number && letter == '.');
            if goes_on && !is_number {
                plain.push('N');
            } else if !goes_on {
                plain.push(letter);
            }
            is_number = goes_on;
        }
        plain
    });
    let text = words.collect::<Vec<_>>().join(" ");
    ["N ms", "N s", "N µs", "N min"].iter().fold(text, |text, time| text.replace(time, "T"))
}
