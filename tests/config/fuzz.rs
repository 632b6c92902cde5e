//! Everything that is read from outside, fed with what nobody would write: no panic, bounded time, and what
//! it says is so.
//!
//! Inputs are those of tests/corpus and mutations of them, from seeds: a run is the same every time, in
//! seconds. `VASSAL_FUZZ=600 cargo test --release --test config fuzz::` goes on for 600 seconds with seeds of
//! its own. What fails is written to tests/corpus/TARGET/found-SEED; left there it is run every time from
//! then on.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::common::random::Random;
use vassal::config::plan::Location;
use vassal::config::{
    Host, Input, Status, ToCheck, World, check_vassal, expanded, load_emperor, load_vassal, show_config,
};
use vassal::error::Cause;
use vassal::mount::mountinfo;
use vassal::protocol::{Announcement, ExitReason, FromVassal, Hello, SetupFailure, ToVassal, WaitStatus};

/// Mutations of each corpus file in an ordinary run.
const ROUNDS: u64 = 25;
/// How many inputs are tried at the same time.
const THREADS: usize = 4;
/// No input, however hostile, may take more time of the processor. What is allowed is many times what it
/// takes, as this is no optimized build.
const TIME_MAX: Duration = Duration::from_secs(20);

/// A machine that has what is asked for most, and on which nothing happens.
struct Toy {
    text: Vec<u8>,
}

impl Host for Toy {
    fn hostname(&self) -> OsString {
        "host".into()
    }
    fn cpus(&self) -> usize {
        2
    }
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn uid(&self) -> u32 {
        0
    }
    fn gid(&self) -> u32 {
        0
    }
}

impl World for Toy {
    fn read(&self, path: &Path) -> Result<Vec<u8>, Cause> {
        match path.to_str() {
            Some("self.ini") => Ok(self.text.clone()),
            Some("b.ini") => Ok(b"[uwsgi]\nb = %n\n[other]\nc = 1\n".to_vec()),
            Some("lines.txt") => Ok(b"one\ntwo\n".to_vec()),
            _ => Err(rustix::io::Errno::NOENT.into()),
        }
    }
    fn resource(&self, command: &OsStr) -> Result<Option<Vec<u8>>, Cause> {
        Ok((command.len() & 1 == 0).then(|| b"printed\n".to_vec()))
    }
    fn names(&self, _: &Path) -> Vec<OsString> {
        vec![".".into(), "..".into(), "b.ini".into(), "lines.txt".into()]
    }
    fn status(&self, path: &Path) -> Option<Status> {
        self.read(path).is_ok().then_some(Status {
            is_file: true,
            is_directory: false,
            symlink: false,
            inode: 7,
            uid: 0,
            mode: 0o644,
        })
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Some(Path::new("/real").join(path))
    }
    fn cwd(&self) -> PathBuf {
        "/cwd".into()
    }
    fn env(&self, name: &OsStr) -> Option<OsString> {
        (name == "HOME").then(|| "/root".into())
    }
    fn host(&self) -> &dyn Host {
        self
    }
    fn user_name(&self) -> OsString {
        "root".into()
    }
    fn group_name(&self) -> OsString {
        "root".into()
    }
}

fn text(bytes: &[u8]) -> [Input; 1] {
    [Input::Text { path: "self.ini".into(), section: None, text: bytes.to_vec() }]
}

/// Lexer, expander and both plans.
fn config(bytes: &[u8]) {
    let world = Toy { text: bytes.to_vec() };
    let inputs = text(bytes);
    for reload in [false, true] {
        let report = match load_vassal(&inputs, reload, &world) {
            Ok(loaded) => loaded.warnings,
            Err(report) => {
                assert!(report.errors() > 0, "refused without an error");
                report
            }
        };
        // To show it must work, too.
        assert_eq!(report.to_string().is_empty(), report.diagnostics().is_empty());
        for found in report.diagnostics() {
            assert_inside(&found.at, &world);
        }
    }
    // As an emperor has it checked, with an option from its own file.
    let value = bytes.split(|&byte| byte == b'\n').next().map(OsStr::from_bytes).map(OsString::from);
    let option = Input::Option { key: "set@/emperor.ini:2:7".into(), value };
    let of = ToCheck { before: vec![option], file: Some("self.ini".into()), behind: Vec::new() };
    assert!(!check_vassal(&of, &world).to_string().contains("command line"));
    let _ = load_emperor(&inputs, &world);
    let Ok(settings) = expanded(&inputs, false, &world) else { return };
    for setting in &settings {
        assert_inside(&setting.at, &world);
        assert_inside(&setting.value_at, &world);
    }
    let shown = show_config(&settings);
    if is_plain(&shown) {
        let again = expanded(&text(&shown), false, &world).unwrap_or_else(|report| panic!("{report}"));
        assert!(show_config(&again) == shown, "shown again it is another");
    }
}

/// Whether nothing in it is left to be done: then to read it changes nothing.
fn is_plain(shown: &[u8]) -> bool {
    const LANGUAGE: &[&[u8]] = &[
        b"include",
        b"inherit",
        b"ini",
        b"set",
        b"set-ph",
        b"set-placeholder",
        b"else",
        b"end",
        b"endif",
        b"end-if",
        b"endfor",
        b"end-for",
    ];
    let mut lines = shown.split(|&byte| byte == b'\n');
    // Blanks, and a value with a line break, are read otherwise than they are shown.
    let plain_line = |line: &[u8]| {
        let key = line.split(|&byte| byte == b'=').next().unwrap().trim_ascii();
        !line.contains(&b'%')
            && !line.windows(2).any(|two| two == b"$(" || two == b"@(")
            && !LANGUAGE.contains(&key)
            && !key.starts_with(b"if")
            && !key.starts_with(b"for")
    };
    lines.all(plain_line)
}

/// A place that is told must exist: line and column count from 1, and one column behind the end is where
/// something is missing.
fn assert_inside(at: &Location, world: &Toy) {
    let file = match &*at.file {
        "self.ini" => world.text.clone(),
        name => world.read(Path::new(name)).unwrap_or_default(),
    };
    let line = file.split(|&byte| byte == b'\n').nth(at.line.saturating_sub(1) as usize);
    let line = line.unwrap_or_else(|| panic!("{at}: there is no such line"));
    assert!(
        at.line == 0 || (at.column >= 1 && at.column as usize <= line.len() + 1),
        "{at}: {} bytes",
        line.len()
    );
}

fn mountinfo(bytes: &[u8]) {
    let mounts = mountinfo::parse(bytes);
    let lines = bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
    assert!(mounts.len() <= lines);
    for mount in &mounts {
        let _ = (mount.owner(), mount.is_fuse());
        assert!(
            mountinfo::topmost(&mounts, &mount.mount_point).is_some(),
            "a mount is not found by its path"
        );
        assert!(mountinfo::below(&mounts, &mount.mount_point).len() < mounts.len());
        assert_eq!(
            mountinfo::normalize(&mountinfo::normalize(&mount.mount_point)),
            mountinfo::normalize(&mount.mount_point)
        );
    }
}

/// Both directions of the link between emperor and vassal-init: what is understood is understood alike when
/// it is sent on.
fn packets(bytes: &[u8]) {
    if let Some(message) = ToVassal::decode(bytes) {
        assert_eq!(ToVassal::decode(&message.encode()), Some(message));
    }
    if let Some(message) = FromVassal::decode(bytes) {
        assert_eq!(FromVassal::decode(&message.encode()), Some(message));
    }
    // What apps say: uWSGI's bytes, and the lines of sd_notify.
    for &byte in bytes {
        assert_eq!(Announcement::of_byte(byte).is_some(), matches!(byte, 5 | 17 | 22 | 26), "{byte}");
    }
    let known: [&[u8]; 5] = [b"READY=1", b"WATCHDOG=", b"RELOADING=1", b"STOPPING=1", b"STATUS="];
    for line in bytes.split(|&byte| byte == b'\n') {
        let is_known = known.iter().any(|known| line.starts_with(known));
        assert!(is_known || Announcement::of_line(line).is_none(), "{}", line.escape_ascii());
    }
}

/// What a mutation may put in.
const WORDS: &[&str] = &[
    "[uwsgi]\n",
    "[other]\n",
    "\n",
    "\r\n",
    "=",
    " = ",
    "%",
    "%%",
    "%(",
    ")",
    "%(a)",
    "%(a + 9223372036854775807)",
    "%(a ++)",
    "%(a / 0)",
    "$(",
    "$(HOME)",
    "@(",
    "@(b.ini)",
    "@(exec://x)",
    "@(exec://xy)",
    "%n",
    "%(_)",
    "if-env = HOME\n",
    "if-opt = a\n",
    "else\n",
    "endif\n",
    "for = a b c\n",
    "for-times = 2000000000\n",
    "for-times = 99\n",
    "for-glob = *\n",
    "for-readline = lines.txt\n",
    "endfor\n",
    "include = b.ini\n",
    "include = self.ini\n",
    "ini = :other\n",
    "inherit = b.ini\n",
    "set = a=%(a)%(a)\n",
    "set-ph = b=1\n",
    "a = %(a)%(a)\n",
    "a = x%(a)%(b)\n",
    "b = x%(a)%(a)\n",
    "uid = ",
    "hook-as-user = ",
    "mount:",
    "exec:",
    "mount:none /a /b bind,ro",
    "umount:/ rec",
    "exec-as-root = ",
    "cap = ",
    "pivot_root = /a /a/b",
    "command = ",
    "\"",
    "'",
    "\\",
    "emperor = /v\n",
    "strict\n",
    "\0",
    "\u{fffd}",
    " - ",
    " / ",
    "\\040",
    "fuse.",
    "user_id=",
    ",",
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "stop-timeout = 1.5h",
    "unshare = fs,",
    "if-plugin = x\n",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>], text: &mut Vec<u8>) {
    for _ in 0..1 + random.below(6) {
        let at = random.below(text.len() + 1);
        let end = at + random.below(text.len() - at + 1).min(random.below(64));
        match random.below(7) {
            0 => drop(text.splice(at..end, [])),
            1 => text.insert(at, random.below(256) as u8),
            2 => {
                let piece = text[at..end].repeat(1 + random.below(9));
                text.splice(at..at, piece);
            }
            3 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                text.splice(at..end, other[from..].iter().copied());
            }
            4 if at < text.len() => text[at] ^= 1 << random.below(8),
            _ => drop(text.splice(at..at, random.pick(WORDS).bytes())),
        }
    }
    text.truncate(64 << 10);
}

/// The messages of today: packets of a version that has passed would not be understood.
fn samples() -> Vec<Vec<u8>> {
    let hello = Hello {
        name: "app001".into(),
        path: "/etc/uwsgi/vassals/app001.ini".into(),
        namespaces: 0x2002_0000,
        is_program: false,
        is_transcript: false,
        replica: 1,
        is_one_of_several: false,
        is_check: false,
        kept: 2,
        as_vassal: vec![
            ("exec-as-vassal".into(), "true".into()),
            ("hook-as-vassal".into(), "print:x".into()),
        ],
        owner: None,
        cgroup: Default::default(),
        before: vec![("set".into(), "a=b".into())],
        behind: vec![("include".into(), "/x.ini".into())],
    };
    let failure =
        SetupFailure { phase: "as-user".into(), index: 2, what: "run x: exited".into(), errno: libc::ENOENT };
    vec![
        ToVassal::Hello(hello).encode(),
        ToVassal::Stop.encode(),
        FromVassal::Stopping(Duration::from_millis(1500)).encode(),
        FromVassal::Exiting(ExitReason::App(WaitStatus::Signaled(9))).encode(),
        FromVassal::Exiting(ExitReason::Setup(failure)).encode(),
        FromVassal::Exiting(ExitReason::MountLost("mountpoint /app lost".into())).encode(),
        FromVassal::Refused("why \u{fc}".into()).encode(),
    ]
}

/// The files of a corpus, in order; there may be none yet.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(directory(target)).into_iter().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

fn fuzz(target: &str, samples: Vec<Vec<u8>>, run: fn(&[u8])) {
    for (file, text) in corpus(target) {
        assert_holds(run, &text, || file.display().to_string());
    }
    let seeds: Vec<_> = corpus(target).into_iter().map(|(_, text)| text).chain(samples).collect();
    assert!(!seeds.is_empty());
    let longer =
        std::env::var("VASSAL_FUZZ").ok().map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = if longer.is_some() { now } else { 0 };
    let begin = Instant::now();
    let is_done =
        |number| longer.map_or(number >= ROUNDS * seeds.len() as u64, |longer| begin.elapsed() > longer);
    let one = |number| {
        let mut random = Random::new(number);
        let mut text = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &seeds, &mut text);
        assert_holds(run, &text, || {
            fs::create_dir_all(directory(target)).unwrap();
            let file = directory(target).join(format!("found-{number}"));
            fs::write(&file, &text).unwrap();
            file.display().to_string()
        });
    };
    let next = AtomicU64::new(first);
    let some = || {
        std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed))
            .take_while(|&number| !is_done(number))
            .for_each(one);
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(some))));
}

fn processor_time() -> Duration {
    rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).try_into().unwrap()
}

fn assert_holds(run: fn(&[u8]), bytes: &[u8], name: impl FnOnce() -> String) {
    let begin = processor_time();
    let result = catch_unwind(AssertUnwindSafe(|| run(bytes)));
    let taken = processor_time() - begin;
    if let Err(panic) = result {
        eprintln!("the input is in {}", name());
        std::panic::resume_unwind(panic);
    }
    assert!(taken < TIME_MAX, "{} took {taken:?}", name());
}

#[test]
fn no_configuration_panics_or_takes_long() {
    fuzz("config", Vec::new(), config);
}

#[test]
fn no_mount_table_panics_or_takes_long() {
    fuzz("mountinfo", Vec::new(), mountinfo);
}

#[test]
fn no_message_panics_and_each_survives_being_sent_on() {
    fuzz("packets", samples(), packets);
}

/// The corpus must reach what it is there for: otherwise mutations of it test nothing.
#[test]
fn the_corpus_is_understood() {
    let good = |bytes: &[u8]| {
        let world = Toy { text: bytes.to_vec() };
        load_vassal(&text(bytes), false, &world).is_ok()
    };
    assert!(corpus("config").iter().filter(|(_, text)| good(text)).count() >= 3);
    assert!(corpus("mountinfo").iter().filter(|(_, text)| mountinfo::parse(text).len() > 1).count() >= 3);
    for packet in samples() {
        assert!(ToVassal::decode(&packet).is_some() || FromVassal::decode(&packet).is_some(), "{packet:?}");
    }
}
