//! The configuration dialect against its oracle: the installed uWSGI must read the same files alike.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use vassal::config::diagnostic::Diagnostic;
use vassal::config::keys::emperor::EMPEROR;
use vassal::config::keys::vassal::VASSAL_INIT;
use vassal::config::plan::{App, EnvChange};
use vassal::config::{Input, load_emperor, load_vassal};
use vassal::world::Machine;

/// Files that both programs must expand to the same options. `DIR` stands for a scratch directory.
const SAME: &[(&str, &str)] = &[
    (
        "lexing",
        "[uwsgi]\r\na = b \r\n\tc\t=\td \r\n[foo]x\nz=1\n[uwsgi]  \nx = a\\\n=novalue\n; no\n# no\nlast = 1",
    ),
    ("bytes", "[uwsgi]\nk\u{ff} = v\u{fe}\nkey with space = v ; w # x\nq = \"a b\"\n  eq = a=b=c\n"),
    ("empty values", "[uwsgi]\nbare\nempty =\nx = %(empty)|%(bare)|\n"),
    ("no bracket", "[uwsgi\na = 1\n[uwsgi]\nb = 2\n"),
    ("percent at the end", "[uwsgi]\na = 1\nb = 2%"),
    ("percent", "[uwsgi]\na = 100%% %%n\nb = 1%\nc = 2\nd = %z|%w|%=|\n"),
    (
        "magic of a file",
        "[uwsgi]\na = %n|%s|%p|%d|%e|%c|%o|%x|%v|%h|%k|%i|%j|%[x\nb = %N|%S|%P|%D|%E|%C|%O|%X|%I|%J\n\
         c = %0|%1|%2|%9\n",
    ),
    ("magic of another section", "[uwsgi]\nini = :other\n[other]\na = %o|%s|%p|%x|%O|%X\n"),
    ("magic of a user", "[uwsgi]\na = %u %U %g %G\n"),
    (
        "placeholders",
        "[uwsgi]\na = %(b)%(b)-%(b\nb = 7\nc = %(nope) %() x\nd = %%(b)\ne = %(a%(b))\nf = %(g)\ng = %(b)\n\
         h = x%(g)\n",
    ),
    ("first wins", "[uwsgi]\na = 1\na = 2\nb = %(a)\n"),
    (
        "arithmetic",
        "[uwsgi]\nfoo = 7\nbar = 3\na = %(foo + 1) %(foo bar) %(foo bar + 2 * 2) %(foo ++) %(foo -- --)\n\
         b = %(foo - bar) %(foo / bar) %(nope + 1) %(foo + nope) %( foo ) %(1 + 2) %(foo+1) %(foo +1) %(foo \
         * -3) %(- 3)\nneg = -5\nc = %(neg * neg) %(neg / 2) %(neg + 3)\n",
    ),
    (
        "environment",
        "[uwsgi]\na = $(ORACLE) x$(ORACLE)y$(ORACLE) $(NOPE) $() $ORACLE\nb = $(a$(ORACLE))\n\
         c = x$(ORACLE_REF)\nORACLEX = found\n",
    ),
    ("files", "[uwsgi]\nfoo = 9\na = @(DIR/one.txt)|x\nb = $(ORACLE)@(DIR/one.txt)\n"),
    (
        "conditions",
        "[uwsgi]\nif-not-reload =\n a = 1\nendif =\nif-reload\n b = 1\nendif\n\
         if-env = ORACLE\n c = %(_)%(_)\nend-if\nif-env = ORACLE=no\n d = 1\nendif\n\
         if-not-env = NOPE\n e = %(_)\nendif\nif-exists = /etc/passwd\n f = %(_)\nendif\n\
         if-not-exists = /etc/passwd\n g = 1\nend\nif-file = /etc\n h = 1\nendif\nif-dir = /etc\n i = %(_)\n\
         endif\nif-opt = a=1\n j = %(_)\nendif\nif-not-opt = a=2\n k = %(_)\nendif\nif-opt = nope\n l = 1\n\
         endif\n",
    ),
    (
        "conditions see raw text",
        "[uwsgi]\npw = passwd\nif-exists = /etc/%(pw)\n a = 1\nendif\nif-not-hostname = $(NOPE)\n b = %(_)\n\
         endif\n",
    ),
    (
        "loops",
        "[uwsgi]\nfor = a b  c\n x%(_) = %(_)-%(_)\n y = 1\nendfor\nfor-times = 3\n z = n%(_)\nend-for\n\
         for =\n no = 1\nendfor\nfor-times = x\n no = 1\nendfor\nfor-readline = DIR/lines.txt\n r = %(_)\n\
         endfor\nfor = $(ORACLE) %(y)\n s = %(_)\nendfor\n",
    ),
    (
        "set",
        "[uwsgi]\nset = a=%(b)\nset-placeholder = b=1\nset-ph = c=%(b)\nd = %(a) %(b) %(c) %(x.y)\n\
         set-ph = x.y=2\nset = e=1=2\n",
    ),
    (
        "include",
        "[uwsgi]\nx = %n\ninclude = DIR/inc.ini\ny = %n\nini = DIR/inc.ini:foo\nfrom-inc = 1\n\
         z = %(in-inc)\n",
    ),
    (
        "own lines count",
        "[uwsgi]\nif-not-opt = b\n b = 1\n c = 2\nendif\nif-opt = b=1\n b = %(_)\n d = 3\nendif\n\
         if-opt = e\n e = 1\n f = 1\nendif\n",
    ),
    ("same file", "[uwsgi]\na = 1\nini = :other\nb = %(o)\n[other]\no = %x\n"),
    ("inherit", "[uwsgi]\ninherit = DIR/inc.ini\na = %(in-inc)\n"),
    ("include in a loop", "[uwsgi]\nfor = a b\n include = DIR/inc.ini\nendfor\n"),
    (
        "tutorial",
        "[uwsgi]\nuid = user001\nif-not-reload =\n  exec-as-user = fuse-zip -r /var/www/app001.zip /app\n\
         endif =\nmountpoint-check = /app\nhook-pre-jail = exec:unionfs-fuse /cow/%(uid)=RW /ufs\n",
    ),
];

/// A directory that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = tempfile::Builder::new().prefix(test).tempdir().unwrap().keep();
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("one.txt", "file %(foo) $(ORACLE)\n");
        write("lines.txt", "first\nsecond line\n\nlast");
        write("inc.ini", "[uwsgi]\nin-inc = %n %N %c %(from-inc)\n[foo]\nin-foo = %n %x %X\n");
        Self(path)
    }

    fn file(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The options that a program shows for a file, without those of its own command line.
fn shown(program: &Path, file: &Path, directory: &Path) -> Vec<u8> {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env("ORACLE", "env-value")
        .env("ORACLE_REF", "$(ORACLE)")
        // An option ahead of all others, in both.
        .env("UWSGI_FROM_a_VARIABLE", "%n $(ORACLE)")
        .env_remove("NOPE");
    command.arg("--show-config");
    if program.ends_with("uwsgi") {
        command.arg("--no-server");
    }
    let output = command.arg("--ini").arg(file).output().expect("uwsgi must be installed");
    let text = [output.stdout, output.stderr].concat();
    let lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    let start = lines.iter().position(|line| *line == b"[uwsgi]");
    let end = lines.iter().position(|line| *line == b";end of configuration");
    let (Some(start), Some(end)) = (start, end) else {
        panic!("{}: no configuration in:\n{}", program.display(), String::from_utf8_lossy(&text))
    };
    let own = |line: &&[u8]| *line != b"show-config = true" && *line != b"no-server = true";
    lines[start + 1..end].iter().copied().filter(own).collect::<Vec<_>>().join(&b'\n')
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vassal-init"))
}

#[test]
fn options_are_expanded_as_uwsgi_expands_them() {
    let scratch = Scratch::new("same");
    let mut differences = String::new();
    for (name, text) in SAME {
        let directory = scratch.0.to_str().unwrap();
        // Latin-1: every char one byte, so that a case can hold bytes that are not UTF-8.
        let text: Vec<u8> =
            text.replace("DIR", directory).chars().map(|c| u8::try_from(c).unwrap()).collect();
        let file = scratch.file("case.ini", &text);
        let (expected, found) =
            (shown(Path::new("uwsgi"), &file, &scratch.0), shown(ours(), &file, &scratch.0));
        if expected != found {
            let (expected, found) = (String::from_utf8_lossy(&expected), String::from_utf8_lossy(&found));
            differences += &format!("{name}\n--- uwsgi\n{expected}\n--- vassal-init\n{found}\n\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn what_uwsgi_gets_is_what_we_expanded() {
    let scratch = Scratch::new("handed-on");
    let text = b"[uwsgi]\nuid = user001\nfoo = 7\na = 100%% %%n %%(foo)\nb = x$(NOPE) @[x] %(nope)\n\
                 c = $(NOPE)\n\
        d = %(nope)\ne = %(ref)\nref = %(foo)\nhttp-socket = :%(foo)\nset-ph = p=1\nf = %(p) (x)\nif-reload\n\
        g = 1\n\
        endif\nhook-post-fork = print:%(foo)\nh = \xff\nif-plugin = nope\ni = 50%% %(_)\nendif\nend = here\n";
    let text = String::from_utf8_lossy(text).replace("end = here\n", "");
    let file = scratch.file("app.ini", text.as_bytes());
    let loaded =
        load_vassal(&[Input::File(file.into())], false, &Machine).map_err(|report| report.to_string());
    let App::Uwsgi { ini, .. } = loaded.unwrap().plan.app else { panic!("not uwsgi") };
    let file = scratch.file("handed.ini", &ini);
    let found = String::from_utf8_lossy(&shown(Path::new("uwsgi"), &file, &scratch.0)).into_owned();
    let found: Vec<_> = found
        .lines()
        .skip(1)
        .filter(|line| {
            !["vassal-parenthesis", "from-a-variable", "ini = "].iter().any(|other| line.contains(other))
        })
        .collect();
    let expected = [
        "foo = 7",
        "a = 100% %n 7",
        "b = x$(NOPE) @[x] %(nope)",
        "c = $(NOPE)",
        "d = %(nope)",
        "e = %(foo)",
        "ref = 7",
        "http-socket = :7",
        "f = 1 (x)",
        "hook-post-fork = print:7",
        "h = \u{fffd}",
        "if-plugin = nope",
        "endif = ",
    ];
    assert_eq!(found, expected);
}

#[test]
fn magic_variables_about_uwsgi_are_left_to_it() {
    let scratch = Scratch::new("of-uwsgi");
    let own = "a = %V\nb = x%by\nc = %%V %%b\nd = %(a) %(b)\n";
    let file = scratch.file("app.ini", format!("[uwsgi]\nuid = 1\n{own}").as_bytes());
    let loaded = load_vassal(&[Input::File(file.clone().into())], false, &Machine).unwrap();
    assert_eq!(loaded.warnings.diagnostics(), []);
    let App::Uwsgi { ini, .. } = loaded.plan.app else { panic!("not uwsgi") };
    let lines = |file: &Path| -> Vec<String> {
        let shown = String::from_utf8(shown(Path::new("uwsgi"), file, &scratch.0)).unwrap();
        let is_own = |line: &&str| line.starts_with(['a', 'b', 'c', 'd']);
        shown.lines().filter(is_own).map(str::to_owned).collect()
    };
    let expected = lines(&file);
    assert!(expected.len() == 4 && expected[2] == "c = %V %b", "{expected:?}");
    assert_eq!(lines(&scratch.file("handed.ini", &ini)), expected);
    // What is ours cannot have them.
    let file =
        scratch.file("ours.ini", b"[uwsgi]\nuid = 1\nenv = A=%V.\nhook-asap = print:%b\ncommand = x\n");
    let loaded = load_vassal(&[Input::File(file.into())], false, &Machine).unwrap();
    let said = loaded.warnings.to_string();
    assert!(
        said.contains(":3:7: warning: 'A=%V.': %V and %b are for uWSGI only: they are left out"),
        "{said}"
    );
    assert!(loaded.plan.environment == [EnvChange::Set("A".into(), ".".into())], "{said}");
}

#[test]
fn no_option_of_uwsgi_is_taken_for_a_slip() {
    let output = Command::new("uwsgi").arg("--help").output().expect("uwsgi must be installed");
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<_> = include_str!("../../src/config/keys/uwsgi_options.txt").lines().collect();
    // As `    -s|--socket   bind to ...`.
    let listed = help.lines().filter_map(|line| line.split_whitespace().next()?.rsplit_once("--"));
    let listed: Vec<_> = listed.map(|(_, name)| name).collect();
    assert!(listed.len() > 700, "only {} options in uwsgi --help", listed.len());
    for name in listed {
        assert!(names.contains(&name), "{name}: run scripts/uwsgi-options");
    }
    names.retain(|name| VASSAL_INIT.find(name.as_bytes()).is_none());
    let mut said = String::new();
    for name in names.into_iter().filter(|name| {
        *name != "emperor" && !["for", "if", "end"].iter().any(|logic| name.starts_with(logic))
    }) {
        let text = format!("[uwsgi]\n{name} = x\nuid = root\n").into_bytes();
        let input = [Input::Text { path: "x.ini".into(), section: None, text }];
        let vassal =
            load_vassal(&input, false, &Machine).map_or_else(|report| report, |loaded| loaded.warnings);
        // These are no slips.
        let is_right = |found: &Diagnostic| {
            ["uWSGI binds it itself", "in the emperor's file", "ends uWSGI here"]
                .iter()
                .any(|right| found.message.contains(right))
        };
        let slips = vassal.diagnostics().iter().filter(|found| !is_right(found));
        said.extend(slips.map(|found| found.to_string()));
        if EMPEROR.find(name.as_bytes()).is_none() {
            let directory = Input::Option { key: "emperor".into(), value: Some("/x".into()) };
            let input = [&[directory], &input[..]].concat();
            let emperor =
                load_emperor(&input, &Machine).map_or_else(|report| report, |loaded| loaded.warnings);
            let slips =
                emperor.diagnostics().iter().filter(|found| found.message.starts_with("unknown option"));
            said.extend(slips.map(|found| found.to_string()));
        }
    }
    assert!(said.is_empty(), "{said}");
}

#[test]
fn a_tutorial_file_gives_its_plan() {
    let scratch = Scratch::new("plan");
    let text = "[uwsgi]\nuid = user001\nif-not-reload =\nexec-as-user = fuse-zip /app\nendif =\n\
                http-socket = :9090\n\
        psgi = /app/myapp.pl\nmountpoint-check = /app\n";
    let file: OsString = scratch.file("app001.ini", text.as_bytes()).into();
    for (reload, hooks) in [(false, 1), (true, 0)] {
        let plan = load_vassal(&[Input::File(file.clone())], reload, &Machine).map(|loaded| loaded.plan);
        let plan = plan.map_err(|report| report.to_string()).unwrap();
        assert_eq!(
            (plan.hooks.len(), plan.mountpoints.checks.len(), plan.signal_to_stop()),
            (hooks, 1, libc::SIGINT)
        );
        let ini = b"[uwsgi]\npsgi = /app/myapp.pl\nprotocol = http\n".to_vec();
        assert_eq!(plan.app, App::Uwsgi { binary: "uwsgi".into(), ini });
    }
}
