//! Configurations made up by a generator, expanded by the installed uWSGI and by us: both must come to the
//! same.
//!
//! A run covers a fixed range of seeds. `VASSAL_SEEDS=1000..5000` covers others; a failure names its seed.

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::random::Random;
use vassal::config::{Input, expanded, show_config};
use vassal::world::Machine;

/// What we refuse and uWSGI does not; docs/reference.md ("Where it differs from uWSGI") has the reason for
/// each.
const STRICTER: &[&str] = &[
    "blocks cannot be nested",
    "division by zero",
    "overflow",
    "refers to itself",
    "cannot read",
    "cannot be set",
];

/// A directory with the files that generated configurations refer to; gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = tempfile::tempdir().unwrap().keep();
        fs::create_dir_all(path.join("g/d")).unwrap();
        fs::create_dir(path.join("d.d")).unwrap();
        std::os::unix::fs::symlink("../linked.ini", path.join("d.d/link.x.ini")).unwrap();
        let files: [(&str, &[u8]); 8] = [
            ("one.txt", b"file %(a) $(ORACLE)\n"),
            ("lines.txt", b"first  \r\nsecond line\n\n%(a)\tx\nlast"),
            ("inc.ini", b"[uwsgi]\nb = %n %N %c %(c) %%\n[other]\nc = %n %x %X\n"),
            ("logic.ini", b"[uwsgi]\nif-opt = a\n d = %(_)\nendif\nfor = 1 2\n e = %(_)%(a)\nendfor\n"),
            ("g/a", b""),
            ("g/b.c", b""),
            ("g/.h", b""),
            ("g/x y", b""),
        ];
        for (name, content) in files {
            fs::write(path.join(name), content).unwrap();
        }
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const KEYS: &[&str] = &["a", "b", "c", "d", "e", "foo", "x y", "_"];

/// What the configuration is called: with and without a suffix, hidden, and as a link to another name.
const NAMES: &[&str] =
    &["case.ini", "case.ini", "./case.ini", "noext", "d.d/noext", "d.d/.h.ini", ".h", "d.d/link.x.ini"];

/// The options around it: what an emperor tells all its vassals.
const TEMPLATES: &[[&[&str]; 2]] = &[
    [&[], &[]],
    [&[], &[]],
    [&["set=a=%(b)"], &["include=inc.ini"]],
    [&["inherit=inc.ini"], &["set-ph=c=1"]],
];

/// Pieces that values are made of; `KEY` and `NUMBER` are replaced.
const PIECES: &[&str] = &[
    "text",
    " ",
    "  ",
    "\t",
    "=",
    ";",
    "#",
    "\"",
    "'",
    "[",
    "]",
    "(",
    ")",
    "%(",
    "$(",
    "@(",
    "%",
    "%%",
    "$",
    "@",
    "\\",
    "%(KEY)",
    "%(KEY)",
    "%(KEY)",
    "%(KEY",
    "%(KEY + NUMBER)",
    "%(KEY - KEY)",
    "%(NUMBER * KEY + NUMBER)",
    "%(KEY KEY)",
    "%(KEY ++)",
    "%(KEY -- KEY)",
    "%(KEY / NUMBER)",
    "%( KEY )",
    "%(KEY(KEY))",
    "%(KEY%(KEY))",
    "%(_)",
    "%(_)%(_)",
    "$(ORACLE)",
    "$(ORACLE_REF)",
    "$(NOPE)",
    "$(x$(ORACLE))",
    "@(one.txt)",
    "@(exec://echo 1 KEY)",
    "%n",
    "%N",
    "%s",
    "%p",
    "%d",
    "%e",
    "%c",
    "%o",
    "%x",
    "%X",
    "%0",
    "%1",
    "%9",
    "%h",
    "%v",
    "%k",
    "%i",
    "%j",
    "%z",
    "%u",
    "%G",
    "%U",
    "%g",
    "%[",
    "%2",
    "%E",
    "%C",
    "%O",
    "%S",
    "%P",
    "%D",
    "%I",
    "%J",
    "NUMBER",
    "KEY",
    "-NUMBER",
    "\u{fc}",
    "\r",
    "a,b",
    "true",
];

const CONDITIONS: &[&str] = &[
    "if-env = ORACLE",
    "if-env = ORACLE=env-value",
    "if-env = NOPE",
    "if-not-env = NOPE",
    "if-not-env = ORACLE=x",
    "ifenv = ORACLE",
    "if-exists = one.txt",
    "if-exists = none.txt",
    "ifexists = g",
    "if-not-exists = g",
    "if-file = one.txt",
    "if-file = g",
    "if-not-file = g",
    "if-dir = g",
    "if-directory = one.txt",
    "ifdir = g",
    "if-not-dir = g",
    "if-opt = KEY",
    "if-opt = KEY=NUMBER",
    "if-not-opt = KEY",
    "if-not-opt = KEY=text",
    "if-reload =",
    "if-not-reload =",
    "if-hostname = nowhere",
    "if-not-hostname = nowhere",
    "if-exists = %(a)",
    "if-exists =",
    "if-env =",
    "if-opt =",
    "if-not-opt =",
];

const LOOPS: &[&str] = &[
    "for = NUMBER KEY",
    "for =  KEY  KEY ",
    "for =",
    "for = %(a) $(ORACLE)",
    "for-times = 3",
    "for-times = -1",
    "for-times = 2x",
    "for-times =",
    "for-readline = lines.txt",
    "for-glob = g/*",
    "for-glob = g/?",
    "for-glob = g/[ab]*",
    "for-glob = none*",
    "for-glob = */*",
    "for-glob = g/.*",
    "for-glob = one.txt",
    "for-glob = g/[!a]",
    "for-glob = g/\\*",
    "for-glob = ./g//*",
    "for-glob = g/*/",
    "for-glob = [",
    "for-glob =",
];

const ENDS: &[&str] = &["endif", "endif =", "endfor", "endfor =", "end", "end-if", "end-for"];

const AT_ONCE: &[&str] = &[
    "include = inc.ini",
    "ini = inc.ini",
    "ini = inc.ini:other",
    "ini = :other",
    "include = logic.ini",
    "inherit = inc.ini",
    "set = KEY=VALUE",
    "set = KEY=",
    "set-placeholder = KEY=VALUE",
    "set-ph = KEY=NUMBER",
    "set = =VALUE",
    "ini = exec://printf '[uwsgi]\\nc = NUMBER'",
];

/// Lines of hooks. They run when all is shown, so what follows an action that does nothing may be anything.
const HOOKS: &[&str] = &[
    "hook-asap = print:VALUE",
    "hook-asap = print:%n %x VALUE",
    "hook-pre-jail = print:%(KEY) VALUE",
    "hook-post-jail = print:VALUE%(hook-asap)",
    "hook-in-jail = exec:true VALUE",
    "hook-as-root = exec:true %(KEY + NUMBER) VALUE",
    "hook-as-root = print:@(one.txt)VALUE",
    "hook-as-user = putenv:ORACLE_HOOK=VALUE",
    "hook-pre-app = print:%(_) VALUE",
    "hook-post-app = print:VALUE",
    "hook-accepting = print:VALUE",
    "hook-as-user-atexit = print:$(ORACLE) VALUE",
    "hook-touch = none print:VALUE",
    "hook-as-KEY = print:VALUE",
    "exec-as-root = true VALUE",
    "exec-as-user = true %c VALUE",
    "exec-pre-app = true %(exec-as-root) VALUE",
    "exec-in-jail = true $(NOPE) VALUE",
    "exec-post-app = true VALUE",
    "KEY = %(hook-as-root) %(exec-as-root)",
    "set = hook-as-root=print:VALUE",
    "set-ph = my-hook=VALUE",
    "hook-as-root = print:%(my-hook)",
];

fn fill(random: &mut Random, pattern: &str) -> String {
    let mut text = pattern.to_owned();
    while let Some(at) = text.find("VALUE") {
        let value = value(random);
        text.replace_range(at..at + 5, &value);
    }
    while let Some(at) = text.find("NUMBER") {
        let number = random.below(20).to_string();
        text.replace_range(at..at + 6, &number);
    }
    while let Some(at) = text.find("KEY") {
        text.replace_range(at..at + 3, random.pick(KEYS));
    }
    text
}

fn value(random: &mut Random) -> String {
    (0..random.below(5)).map(|_| random.pick(PIECES)).collect()
}

fn setting(random: &mut Random) -> String {
    let blank = |random: &mut Random| -> &str { random.pick(&["", " ", "\t", "  ", " \r"]) };
    let (before, behind) = (blank(random), blank(random));
    let value = value(random);
    let line = match random.below(12) {
        0 => format!("{before}KEY{behind}"),
        1 => format!("{before}={behind}{value}"),
        _ => format!("{before}KEY{behind}={}{value}{}", blank(random), blank(random)),
    };
    fill(random, &line)
}

/// A configuration, Latin-1: every char one byte.
fn configuration(random: &mut Random) -> Vec<u8> {
    let mut text =
        String::from(random.pick(&["[uwsgi]\n", "[uwsgi]\r\n", "  [uwsgi] \n", "; c\n\n[uwsgi]\n"]));
    let mut is_left_open = false;
    for _ in 0..1 + random.below(8) {
        let lines = match random.below(14) {
            0..6 => vec![setting(random)],
            kind @ 6..9 => {
                let table = if kind == 8 { LOOPS } else { CONDITIONS };
                let pattern = random.pick(table);
                let mut lines = vec![fill(random, pattern)];
                lines.extend((0..random.below(4)).map(|_| setting(random)));
                if random.below(8) == 0 {
                    // Logic in a file that is included in a block is too much for uWSGI.
                    let pattern = random.pick(AT_ONCE);
                    lines.push(fill(
                        random,
                        if pattern.contains("logic") { "include = inc.ini" } else { pattern },
                    ));
                }
                // Sometimes left open, sometimes another one inside.
                if random.below(20) > 0 {
                    lines.push(random.pick(ENDS).to_owned());
                } else {
                    is_left_open = true;
                }
                lines
            }
            9 => {
                let pattern = random.pick(AT_ONCE);
                let is_too_much = is_left_open && pattern.contains("logic");
                vec![fill(random, if is_too_much { "include = inc.ini" } else { pattern })]
            }
            10 | 11 => {
                let pattern = random.pick(HOOKS);
                vec![fill(random, pattern)]
            }
            12 => vec![
                random
                    .pick(&["", "; comment", "  # comment %(a)", "\t", "%", "[uwsgi]", "[x", "endif"])
                    .to_string(),
            ],
            _ => vec!["[other]".to_owned(), setting(random), "[uwsgi]".to_owned()],
        };
        for line in lines {
            text += &line;
            text += random.pick(&["\n", "\n", "\n", "\r\n"]);
        }
    }
    // A block that is left open would go on in what is inherited.
    if text.contains("inherit") {
        text += "endif\n";
    }
    if random.below(6) == 0 {
        text.pop();
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// What uWSGI shows for a file, or `None` where it ends without showing anything.
fn theirs(scratch: &Path, options: &[(&str, &str)]) -> Option<Vec<u8>> {
    let log = scratch.join("log");
    let to = File::create(&log).unwrap();
    // Some values refer to themselves: uWSGI takes all memory over those, for ever.
    let mut command = Command::new("prlimit");
    command.args(["--as=400000000", "--cpu=2", "--core=0", "timeout", "--kill-after=1", "60", "uwsgi"]);
    command.args(["--show-config", "--no-server"]);
    command.args(options.iter().map(|(key, value)| format!("--{key}={value}")));
    environment(&mut command);
    let status = command
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(to.try_clone().unwrap())
        .stderr(to)
        .status()
        .expect("uwsgi must be installed");
    let text = fs::read(&log).unwrap();
    let start = find(&text, b"\n[uwsgi]\n");
    let end = find(&text, b"\n;end of configuration\n");
    match (start, end) {
        (Some(start), Some(end)) => Some(text[start + 1..end].to_vec()),
        _ => {
            assert!(!status.success(), "{}", String::from_utf8_lossy(&text));
            None
        }
    }
}

fn environment(command: &mut Command) {
    command.env("ORACLE", "env-value").env("ORACLE_REF", "$(ORACLE)").env_remove("NOPE");
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// What we show for it, or what we say is wrong.
fn ours(options: &[(&str, &str)], of_uwsgi: [&[u8]; 2]) -> Result<Vec<u8>, String> {
    let option =
        |key: &str, value: Option<&str>| Input::Option { key: key.to_owned(), value: value.map(Into::into) };
    let mut inputs = vec![option("show-config", None), option("no-server", None)];
    inputs.extend(options.iter().map(|(key, value)| option(key, Some(value))));
    let mut settings = expanded(&inputs, false, &Machine).map_err(|report| report.to_string())?;
    // What only uWSGI knows is left to it.
    for setting in &mut settings {
        for text in [Some(&mut setting.key), setting.value.as_mut()].into_iter().flatten() {
            while let Some(at) = text.iter().position(|&byte| byte == 0) {
                let is_version = text.get(at + 1) == Some(&b'V');
                let value = of_uwsgi[usize::from(!is_version)];
                text.splice(at..at + 2, value.iter().copied());
            }
        }
    }
    let text = show_config(&settings);
    let end = find(&text, b"\n;end of configuration\n").unwrap();
    Ok(text[find(&text, b"\n[uwsgi]\n").unwrap() + 1..end].to_vec())
}

/// `FROM..TO`.
fn seeds(range: &str) -> Range<u64> {
    let (from, to) = range.split_once("..").expect("seeds are FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}

/// How often the two are asked where they differ.
const TRIES: usize = 5;

/// The processes that compare, each its part of the seeds.
const PROCESSES: usize = 4;

/// Runs in processes of its own, since it changes directory and environment.
#[test]
fn generated_configurations_are_expanded_as_uwsgi_expands_them() {
    if let Ok(part) = std::env::var("VASSAL_DIFFERENTIAL") {
        return compare(seeds(&part));
    }
    let all = seeds(std::env::var("VASSAL_SEEDS").as_deref().unwrap_or("0..150"));
    let size = (all.end - all.start).div_ceil(PROCESSES as u64) as usize;
    let parts = all.clone().step_by(size).map(|from| from..all.end.min(from + size as u64));
    let children: Vec<_> = parts
        .map(|part| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let name = "differential::generated_configurations_are_expanded_as_uwsgi_expands_them";
            command.args(["--exact", name, "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::piped());
            environment(&mut command);
            command.env("VASSAL_DIFFERENTIAL", format!("{}..{}", part.start, part.end)).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}

/// Files as people write them, each behind a line `=== NAME`: all expanded alike. In a process of its own, as
/// above.
#[test]
fn files_of_real_shapes_are_expanded_as_uwsgi_expands_them() {
    if std::env::var_os("VASSAL_SHAPES").is_none() {
        let name = "differential::files_of_real_shapes_are_expanded_as_uwsgi_expands_them";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env("VASSAL_SHAPES", "1");
        environment(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let shapes = include_str!("../corpus/uwsgi/shapes.txt");
    let scratch = Scratch::new();
    std::env::set_current_dir(&scratch.0).unwrap();
    let [version, program] = of_uwsgi(&scratch.0);
    let mut differences = String::new();
    let mut count = 0;
    for shape in shapes.split("=== ").skip(1) {
        let (name, text) = shape.split_once('\n').unwrap();
        fs::write(name, text).unwrap();
        let options = [("ini", name)];
        let (theirs, ours) = (theirs(&scratch.0, &options), ours(&options, [&version, &program]));
        if theirs.is_none() || theirs != ours.clone().ok() {
            let theirs = theirs.map(|text| String::from_utf8_lossy(&text).into_owned());
            let ours = ours.map(|text| String::from_utf8_lossy(&text).into_owned());
            differences += &format!("{name}\n--- uwsgi\n{theirs:?}\n--- vassal\n{ours:?}\n\n");
        }
        count += 1;
    }
    assert!(differences.is_empty() && count >= 100, "{count}\n{differences}");
}

/// What uWSGI makes of `%V` and `%b`.
fn of_uwsgi(scratch: &Path) -> [Vec<u8>; 2] {
    fs::write("case.ini", "[uwsgi]\na = %V\nb = %b\n").unwrap();
    let shown = theirs(scratch, &[("ini", "case.ini")]).unwrap();
    ["\na = ", "\nb = "].map(|key| {
        let value = &shown[find(&shown, key.as_bytes()).unwrap() + key.len()..];
        value.split(|&byte| byte == b'\n').next().unwrap().to_vec()
    })
}

/// Compares the two, in the process's own directory.
fn compare(seeds: Range<u64>) {
    let scratch = Scratch::new();
    std::env::set_current_dir(&scratch.0).unwrap();
    let (mut same, mut refused, mut stricter) = (0, 0, 0);
    let mut differences = String::new();
    let count = seeds.end - seeds.start;
    let [version, program] = of_uwsgi(&scratch.0);
    for seed in seeds {
        let random = &mut Random::new(seed);
        let mut text = configuration(random);
        let name = random.pick(NAMES);
        let [before, behind] = TEMPLATES[random.below(TEMPLATES.len())];
        let template = |options: &[&'static str]| -> Vec<_> {
            options.iter().filter_map(|option| option.split_once('=')).collect()
        };
        let options = [template(before), vec![("ini", name)], template(behind)].concat();
        if !behind.is_empty() {
            // As for what is inherited.
            text.extend(b"\nendif\n");
        }
        fs::write(name, &text).unwrap();
        // Some values are the time in seconds, which may pass between the two programs.
        let both = || (theirs(&scratch.0, &options), ours(&options, [&version, &program]));
        let agree = |(theirs, ours): &(Option<Vec<u8>>, Result<Vec<u8>, String>)| {
            theirs.is_none() || ours.is_err() || theirs.as_ref() == ours.as_ref().ok()
        };
        let mut tries = std::iter::repeat_with(both).take(TRIES);
        let (theirs, ours) = tries.find(agree).unwrap_or_else(both);
        match (&theirs, &ours) {
            (Some(theirs), Ok(ours)) if theirs == ours => same += 1,
            (None, Err(_)) => refused += 1,
            (Some(_), Err(report)) if STRICTER.iter().any(|message| report.contains(message)) => {
                stricter += 1
            }
            _ => {
                let show = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\n", "\n");
                let theirs = theirs.as_deref().map_or("(nothing)".to_owned(), show);
                let ours = ours.as_deref().map_or_else(Clone::clone, show);
                differences += &format!(
                    "seed {seed} {options:?}\n{}\n--- uwsgi\n{theirs}\n--- vassal\n{ours}\n\n",
                    show(&text)
                );
            }
        }
    }
    println!("{same} the same, {refused} refused by both, {stricter} refused by us only");
    assert!(differences.is_empty(), "{differences}");
    // Otherwise the generator makes nothing worth comparing.
    assert!(same > count / 2, "only {same} of {count}");
}
