//! The command lines of both programs.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::tutorial::{EMPEROR_INI, VASSAL_INI};
use crate::common::{Sandbox, run, sandboxed};

const BAD: &str = "\
[uwsgi]
command = sleep 1
exec-as-usr = true
  umask = 99
mountpoint-chek = /app
";

/// What all of [`BAD`] is told, in one pass.
const FINDINGS: &str = "\
FILE:3:1: unknown phase 'as-usr' in 'exec-as-usr'
    exec-as-usr = true
    ^
  hint: did you mean 'exec-as-user'?
FILE:4:11: 'umask': '99' is not an octal mode: write 022
      umask = 99
              ^
FILE:5:1: warning: unknown option 'mountpoint-chek'
    mountpoint-chek = /app
    ^
  hint: did you mean 'mountpoint-check'?
";

#[test]
fn an_app_that_is_root_by_oversight_is_told_of() {
    sandboxed(|sandbox| {
        let told = "FILE:1:1: warning: the app runs as root, as there is no 'uid'";
        for (lines, is_told) in [
            ("command = true", true),
            ("UID = nobody\ncommand = true", true),
            ("; 50%\nuid = nobody\ncommand = true", true),
            ("cap-drop = all\ncommand = true", true),
            ("command = true\nuid = root", false),
            ("command = true\nuid = 0", false),
            ("command = true\nuid = user001", false),
        ] {
            let file = sandbox.ini("app", &format!("[uwsgi]\n{lines}\n"));
            let told = told.replace("FILE", file.to_str().unwrap());
            for words in [&["--check"][..], &[]] {
                let (status, _, err) =
                    call(sandbox, "vassal-init", &[words, &[file.to_str().unwrap()]].concat());
                assert_eq!((status, err.matches(&told).count()), (0, usize::from(is_told)), "{lines}: {err}");
            }
        }
        // A command, as in a container, is who its starter is.
        for options in [&[][..], &["--umask", "022"], &["--env", "A=b"]] {
            let (status, _, err) = call(sandbox, "vassal-init", &[options, &["--", "true"]].concat());
            assert_eq!((status, &*err), (0, ""), "{options:?}");
        }
    });
}

#[test]
fn a_map_with_somebody_of_this_machine_is_told_of() {
    sandboxed(|sandbox| {
        sandbox.grant_ids("root:1000:200\n");
        let user = "1001 outside is 'user001', a user of this machine, which a vassal can be";
        for (maps, expected) in [
            (
                "map-users = 0:0:1",
                &["0 outside is 'root', a user of this machine", "0 outside is 'root', a group of"][..],
            ),
            ("map-users = 0:500000:1000\nmap-users = 1000:1001:1\nmap-groups = 0:500000:1", &[user]),
            (
                "map-users = 0:500000:9\nmap-groups = 0:1001:1",
                &["'map-groups': 1001 outside is 'user001', a group"],
            ),
            (
                "map-users = auto",
                &["'map-users': 1001 outside is 'user001', a user", "is 'user001', a group"],
            ),
            ("map-users = 0:500000:65536", &[]),
        ] {
            let emperor = format!("[uwsgi]\nemperor = /run\nemperor-use-clone = user,fs\n{maps}\n");
            let vassal = format!("[uwsgi]\nuid = root\ncommand = true\nunshare = user,fs\n{maps}\n");
            for (program, lines) in [("emperor", emperor), ("vassal-init", vassal)] {
                let file = sandbox.ini("maps", &lines);
                let (status, _, err) = call(sandbox, program, &["--check", file.to_str().unwrap()]);
                assert_eq!((status, err.matches("warning: ").count()), (0, expected.len()), "{maps}: {err}");
                for expected in expected {
                    assert!(err.contains(expected), "{maps}: {err}");
                }
            }
        }
    });
}

/// Exit status, standard output and standard error.
fn call(sandbox: &Sandbox, program: &str, arguments: &[&str]) -> (i32, String, String) {
    call_in(Path::new("/"), sandbox.program(program).args(arguments))
}

fn call_in(directory: &Path, command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.current_dir(directory).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Nothing or, from scripts/build in a clone, the commit: ` (0123456789ab)`, with a plus behind it where
/// files were changed since.
fn is_end_of_version(text: &str) -> bool {
    let Some(text) = text.strip_suffix('\n') else { return false };
    let commit = text.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    let Some(commit) = commit.map(|commit| commit.strip_suffix('+').unwrap_or(commit)) else {
        return text.is_empty();
    };
    commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn help_and_version_go_to_standard_output() {
    sandboxed(|sandbox| {
        for (program, key) in
            [("vassal-init", "--mountpoint-check PATH"), ("emperor", "--emperor-use-clone LIST")]
        {
            for option in ["--help", "-h"] {
                let (status, out, err) = call(sandbox, program, &[option]);
                assert_eq!((status, &*err), (0, ""));
                assert!(out.contains("Usage:") && out.contains(key), "{out}");
            }
            for option in ["--version", "-V"] {
                let (status, out, err) = call(sandbox, program, &[option]);
                assert_eq!((status, &*err), (0, ""));
                let rest = out.strip_prefix(&format!("{program} {}", env!("CARGO_PKG_VERSION"))).unwrap();
                assert!(is_end_of_version(rest), "{out}");
            }
        }
        let (status, out, _) = call(sandbox, "vassal-init", &["--help", "exec-as-user"]);
        assert_eq!(status, 0);
        assert!(out.starts_with("--exec-PHASE COMMAND\n") && out.contains("as-user-atexit"), "{out}");
        // An option of uWSGI's, and an action.
        let (status, out, _) = call(sandbox, "emperor", &["--help", "processes", "chdir"]);
        let both = "See the --help of emperor and of vassal-init, and 'uwsgi --help'";
        assert!(status == 0 && out.contains(both) && out.contains("\nchdir:DIR\n"), "{out}");
        for words in
            [&["help", "reload"][..], &["--help", "reload"], &["reload", "app", "--help"], &["reload", "-h"]]
        {
            let (status, out, _) = call(sandbox, "emperor", words);
            assert!(status == 0 && out.starts_with("  emperor reload NAME "), "{words:?}: {out}");
            assert!(out.contains("--wait[=TIME]") && out.lines().count() == 2, "{words:?}: {out}");
        }
        assert_eq!(call(sandbox, "emperor", &["help"]), call(sandbox, "emperor", &["--help"]));
    });
}

#[test]
fn options_of_a_command_may_stand_in_front_of_it() {
    sandboxed(|sandbox| {
        let none = "emperor: no emperor answers at /x: No such file or directory (ENOENT)\n";
        for words in [
            &["status", "--control", "/x"][..],
            &["--control", "/x", "status"],
            &["--control=/x", "--json", "status"],
            &["--control", "/x", "stop", "app"],
        ] {
            let (status, _, err) = call(sandbox, "emperor", words);
            assert_eq!((status, &*err), (1, none), "{words:?}");
        }
        // Here it is the option of an emperor that is to run.
        let (status, _, err) = call(sandbox, "emperor", &["--control", "status"]);
        assert!(status == 78 && err.contains("there is no 'emperor'"), "{err}");
    });
}

#[test]
fn check_passes_the_tutorials_files() {
    sandboxed(|sandbox| {
        let vassal = sandbox.file("app001.ini", VASSAL_INI);
        let emperor = sandbox.file("emperor.ini", EMPEROR_INI);
        let silent = (0, String::new(), String::new());
        for (program, file) in [("vassal-init", &vassal), ("emperor", &emperor)] {
            assert_eq!(call(sandbox, program, &["--check", file.to_str().unwrap()]), silent);
        }
        let (status, _, err) = call(sandbox, "emperor", &["--check", vassal.to_str().unwrap()]);
        assert_eq!(status, 78);
        assert!(err.contains(": there is no 'emperor'") && err.contains("'vassal-init --check'"), "{err}");
        for arguments in [&["--check", emperor.to_str().unwrap()][..], &[emperor.to_str().unwrap()]] {
            let (status, _, err) = call(sandbox, "vassal-init", arguments);
            assert_eq!(status, 78);
            assert!(err.contains(":2:1: this is an emperor's file: run 'emperor FILE'"), "{err}");
        }
    });
}

#[test]
fn check_shows_every_mistake_with_a_caret() {
    sandboxed(|sandbox| {
        let (good, bad) = (sandbox.file("good.ini", VASSAL_INI), sandbox.file("bad.ini", BAD));
        let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
        let findings = FINDINGS.replace("FILE", bad);
        let failed = (78, String::new(), findings.clone());
        assert_eq!(call(sandbox, "vassal-init", &["--check", bad]), failed);
        assert_eq!(call(sandbox, "vassal-init", &["--check", good, bad, good]), failed);
        assert_eq!(call(sandbox, "vassal-init", &["--check", bad, bad]).2, findings.repeat(2));
        // Running it says the same, and runs nothing.
        assert_eq!(call(sandbox, "vassal-init", &[bad]), failed);
        let (status, _, err) = call(sandbox, "vassal-init", &["--check", "/nonexistent.ini"]);
        assert_eq!(status, 78);
        let said = "/nonexistent.ini: cannot read '/nonexistent.ini': No such file or directory (ENOENT)\n";
        assert_eq!(err, said);
        let (status, out, _) = call(sandbox, "vassal-init", &["--check", "--json", "/nonexistent.ini"]);
        assert!(status == 78 && out.starts_with("[{\"file\":\"/nonexistent.ini\",\"line\":0,"), "{out}");
    });
}

#[test]
fn a_directory_is_checked_file_by_file() {
    sandboxed(|sandbox| {
        let directory = sandbox.path("vassals");
        fs::create_dir(&directory).unwrap();
        let path = directory.to_str().unwrap();
        let (status, _, err) = call(sandbox, "vassal-init", &["--check", path]);
        assert_eq!((status, &*err), (0, &*format!("{path}: warning: there is no file NAME.ini in it\n")));
        for name in ["b.ini", "a.ini", ".c.ini", "d.txt", ".ini", ".#a.ini", "e.xml", "f.yaml"] {
            fs::write(directory.join(name), BAD).unwrap();
        }
        fs::write(directory.join("good.ini"), VASSAL_INI).unwrap();
        let found = ["a", "b"].map(|name| FINDINGS.replace("FILE", &format!("{path}/{name}.ini"))).concat();
        let hidden = "hidden files are not read: name it without the dot";
        let foreign = "only ini files are read: write it as NAME.ini";
        let ignored = [(".c.ini", hidden), ("e.xml", foreign), ("f.yaml", foreign)];
        let ignored = ignored.map(|(name, why)| format!("{path}/{name}: warning: ignored: {why}\n"));
        let found = ignored.concat() + &found;
        for program in ["vassal-init", "emperor"] {
            assert_eq!(call(sandbox, program, &["--check", path]), (78, String::new(), found.clone()));
        }
    });
}

#[test]
fn vassals_are_checked_as_their_emperor_reads_them() {
    sandboxed(|sandbox| {
        let directory = sandbox.path("vassals");
        fs::create_dir(&directory).unwrap();
        let template = sandbox.ini("template", "uid = user001\ncommand = run %N");
        let (template, emperor) = (template.to_str().unwrap(), |more: &str| {
            let lines = format!("emperor = {}\nvassal-set = umask=022\n{more}", directory.display());
            sandbox.ini("emperor", &lines).to_str().unwrap().to_owned()
        });
        // All is in the template.
        for (name, text) in [("empty.ini", ""), ("bare.ini", "[uwsgi]\n; nothing\n")] {
            fs::write(directory.join(name), text).unwrap();
        }
        let silent = (0, String::new(), String::new());
        let with = emperor(&format!("vassals-include = {template}"));
        assert_eq!(call(sandbox, "emperor", &["--check", &with]), silent);
        assert_eq!(
            call(sandbox, "emperor", &["--check", "--json", &with]),
            (0, "[]\n".into(), String::new())
        );
        let bare = directory.join("bare.ini");
        let bare = bare.to_str().unwrap();
        for words in [["--include", template, "--check", bare], ["--check", bare, "--include", template]] {
            assert_eq!(call(sandbox, "vassal-init", &words), silent, "{words:?}");
        }
        let (status, _, err) = call(sandbox, "vassal-init", &["--check", bare]);
        assert!(status == 78 && err.starts_with(&format!("{bare}:1:1: there is no app")), "{err}");
        // Without it both lack an app, and a mistake in it is one in each file.
        let (status, _, err) = call(sandbox, "emperor", &["--check", &emperor("")]);
        assert!(status == 78 && err.matches(": there is no app").count() == 2, "{err}");
        let wrong = sandbox.ini("wrong", "uid = user001\ncommand = x\numask = 99");
        let wrong = emperor(&format!("vassals-include-before = {}", wrong.display()));
        fs::write(directory.join("other.xml"), "").unwrap();
        let (status, out, err) = call(sandbox, "emperor", &["--check", "--json", &wrong]);
        assert_eq!((status, &*err), (78, ""));
        let mistakes = out.matches("\"message\":\"'umask': '99' is not an octal mode").count();
        assert!(mistakes == 2 && out.contains("/vassals/other.xml\",\"line\":0"), "{out}");
        // What the emperor says for all has its place in the emperor's file.
        let late = emperor("vassals-include = /none\nvassal-set = stop-timeout=soon");
        let (status, _, err) = call(sandbox, "emperor", &["--check", &late]);
        let said = "'stop-timeout': 'soon' is not a duration: write 5, 1.5, 250ms, 5s or 2m\n    \
                    --set=stop-timeout=soon\n";
        assert!(status == 78 && err.matches(&format!("{late}:5:14: {said}")).count() == 2, "{err}");
        assert!(err.contains(&format!("{late}:4:19: cannot read '/none': No such file")), "{err}");
        let (_, out, _) = call(sandbox, "emperor", &["--check", "--json", &late]);
        let place = format!("{{\"file\":\"{late}\",\"line\":5,\"column\":14,");
        assert_eq!(out.matches(&place).count(), 2, "{out}");
        // In the emperor's own file nothing else is looked at.
        let (status, _, err) = call(sandbox, "emperor", &["--check", &emperor("emperor-freq = x")]);
        assert!(status == 78 && err.matches(": ").count() > 0 && !err.contains("no app"), "{err}");
        // Where the emperor will run there is such a directory.
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(call(sandbox, "emperor", &["--check", &emperor("")]), silent);
    });
}

#[test]
fn no_tenants_app_counts_as_roots() {
    sandboxed(|sandbox| {
        let directory = sandbox.path("vassals");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("a.ini"), "[uwsgi]\ncommand = true\n").unwrap();
        for (tyrant, is_told) in [("false", true), ("true", false)] {
            let lines = format!("emperor = {}\nemperor-tyrant = {tyrant}", directory.display());
            let emperor = sandbox.ini("emperor", &lines);
            let (status, _, err) = call(sandbox, "emperor", &["--check", emperor.to_str().unwrap()]);
            assert_eq!((status, err.contains("the app runs as root")), (0, is_told), "{err}");
            assert_eq!(err.is_empty(), !is_told, "{err}");
        }
    });
}

#[test]
fn more_vassals_are_checked_than_one_process_takes_paths_of() {
    sandboxed(|sandbox| {
        let directory = sandbox.path("vassals");
        fs::create_dir(&directory).unwrap();
        let good = "[uwsgi]\nuid = user001\ncommand = true\n";
        for number in 0..1100 {
            fs::write(directory.join(format!("{number:0240}.ini")), good).unwrap();
        }
        let check = |options: &str| {
            let emperor = sandbox.program("emperor");
            let emperor = emperor.get_program().to_str().unwrap();
            // A quarter of that is for arguments.
            let command = format!("ulimit -s 1024; {emperor} --check {options} {}", directory.display());
            call_in(&directory, Command::new("sh").args(["-c", &command]))
        };
        assert_eq!(check(""), (0, String::new(), String::new()));
        for name in ["0.ini", "9.ini"] {
            fs::write(directory.join(name), format!("{good}umask = 99\n")).unwrap();
        }
        let (status, _, err) = check("");
        assert!(status == 78 && err.matches("'99' is not an octal mode").count() == 2, "{err}");
        let (status, out, _) = check("--json");
        assert_eq!((status, out.matches("'99' is not an octal mode").count()), (78, 2), "{out}");
        assert!(out.starts_with("[{") && out.contains("},{") && out.ends_with("}]\n"), "{out}");
    });
}

#[test]
fn a_warning_alone_is_no_failure() {
    sandboxed(|sandbox| {
        let file = sandbox.ini("vassal", "command = true\nmountpoint-chek = /app");
        let (status, _, err) = call(sandbox, "vassal-init", &["--check", file.to_str().unwrap()]);
        assert_eq!(status, 0);
        assert!(err.contains("did you mean 'mountpoint-check'?"), "{err}");
    });
}

#[test]
fn show_config_is_what_uwsgi_shows() {
    sandboxed(|sandbox| {
        let directory = sandbox.path("");
        fs::write(directory.join("app001.ini"), VASSAL_INI).unwrap();
        let theirs = call_in(
            &directory,
            Command::new("uwsgi").args(["--show-config", "--no-server", "--ini", "app001.ini"]),
        );
        let ours = call_in(
            &directory,
            sandbox.program("vassal-init").args(["--show-config", "--ini", "app001.ini"]),
        );
        let settings = |text: &str| -> Vec<String> {
            let lines = text.lines().skip_while(|line| *line != "[uwsgi]");
            let lines = lines.take_while(|line| *line != ";end of configuration");
            // Theirs shows its own command line, too.
            let own = ["show-config = ", "no-server = ", "ini = app001.ini"];
            lines.filter(|line| !own.iter().any(|own| line.starts_with(own))).map(str::to_owned).collect()
        };
        let shown = settings(&ours.1);
        assert_eq!((ours.0, &*ours.2), (0, ""));
        assert_eq!(shown, settings(&format!("{}{}", theirs.1, theirs.2)));
        assert!(
            shown.contains(&"exec-as-user = fuse-zip -r /var/www/app001.zip /app".to_owned()),
            "{shown:?}"
        );
    });
}

#[test]
fn the_number_of_an_instance_is_1_where_there_is_no_emperor() {
    sandboxed(|sandbox| {
        let file = sandbox.ini("app001", "uid = 9\ncommand = x\nreplicas = 2\numask = %(replica)");
        let path = file.to_str().unwrap();
        let (status, shown, _) = call(sandbox, "vassal-init", &["--show-config", path]);
        assert!(status == 0 && shown.contains("umask = 1\n") && !shown.contains("replica = "), "{shown}");
        // A check does not know whether the file is an emperor's.
        assert_eq!(call(sandbox, "vassal-init", &["--check", path]), (0, "".into(), "".into()));
    });
}

#[test]
fn what_show_config_prints_is_a_configuration_again() {
    sandboxed(|sandbox| {
        let file = sandbox.file("app001.ini", VASSAL_INI);
        let (_, once, _) = call(sandbox, "vassal-init", &["--show-config", file.to_str().unwrap()]);
        let again = sandbox.file("again.ini", &once);
        let (status, twice, _) = call(sandbox, "vassal-init", &["--show-config", again.to_str().unwrap()]);
        assert_eq!((status, twice), (0, once));
    });
}

#[test]
fn a_misspelt_option_is_suggested() {
    sandboxed(|sandbox| {
        for (program, arguments, message, place, hint) in [
            (
                "vassal-init",
                &["--stop-tiemout", "3"][..],
                "unknown option '--stop-tiemout'",
                "--stop-tiemout 3\n                ^",
                "did you mean '--stop-timeout'?",
            ),
            (
                "vassal-init",
                &["--uid", "1", "--chekc", "x.ini"],
                "unknown option '--chekc'",
                "--uid 1 --chekc x.ini\n                        ^",
                "did you mean '--check'?",
            ),
            (
                "emperor",
                &["--emperor-thorttle=1"],
                "unknown option '--emperor-thorttle'",
                "--emperor-thorttle=1\n            ^",
                "did you mean '--emperor-throttle'?",
            ),
            (
                "emperor",
                &["--nothing-like-it"],
                "unknown option '--nothing-like-it'",
                "--nothing-like-it\n            ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["--emperor=x", "statsu"],
                "unknown command",
                "--emperor=x statsu\n                        ^",
                "did you mean 'status'?",
            ),
            ("emperor", &["stat"], "unknown command", "stat\n            ^", "did you mean 'status'?"),
            (
                "emperor",
                &["status", "--problem"],
                "unknown option '--problem'",
                "status --problem\n                   ^",
                "did you mean '--problems'?",
            ),
            (
                "emperor",
                &["status", "--jsn"],
                "unknown option '--jsn'",
                "status --jsn\n                   ^",
                "did you mean '--json'?",
            ),
            (
                "emperor",
                &["status", "--watch", "--json", "app"],
                "--is-up goes with one NAME alone, and --watch not with --json",
                "status --watch --json app\n                                      ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["logs", "app", "-n", "x"],
                "LINES is a number",
                "logs app -n x\n                     ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["start", "app", "--now"],
                "invalid option '--now'",
                "start app --now\n                      ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["reopen-logs"],
                "there is no log to reopen",
                "reopen-logs\n            ^",
                "a log that is renamed is made anew; have 'logto' truncated (logrotate's copytruncate)",
            ),
            (
                "emperor",
                &["stop", "a", "b"],
                "it takes one NAME, and no pattern",
                "stop a b\n                     ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["ps", "--json"],
                "invalid option '--json'",
                "ps --json\n               ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["roll", "app"],
                "it is for all vassals, and takes no NAME",
                "roll app\n                     ^",
                "try 'emperor --help'",
            ),
            (
                "emperor",
                &["status", "--watch", "--json"],
                "--is-up goes with one NAME alone, and --watch not with --json",
                "status --watch --json\n                                  ^",
                "try 'emperor --help'",
            ),
            ("emperor", &["top"], "unknown command", "top\n            ^", "did you mean 'ps'?"),
            (
                "emperor",
                &["restart", "app"],
                "unknown command",
                "restart app\n            ^",
                "did you mean 'reload'?",
            ),
            (
                "emperor",
                &["nothing"],
                "unknown command",
                "nothing\n            ^",
                "commands are status, logs, ps, enter, reload, stop, start, roll, upgrade, help; a file \
                 here is './FILE'",
            ),
            (
                "emperor",
                &["help", "statsu"],
                "unknown option '--statsu'",
                "help statsu\n                 ^",
                "did you mean '--status'?",
            ),
            ("emperor", &["-x"], "unknown option '-x'", "-x\n            ^", "try 'emperor --help'"),
            (
                "vassal-init",
                &["--check"],
                "'--check' needs a file",
                "--check\n                        ^",
                "try 'vassal-init --help'",
            ),
        ] {
            let expected = format!("command line: {message}\n    {program} {place}\n  hint: {hint}\n");
            assert_eq!(call(sandbox, program, arguments), (78, String::new(), expected));
        }
    });
}

#[test]
fn every_key_is_an_option_too() {
    sandboxed(|sandbox| {
        let (status, out, err) = call(sandbox, "vassal-init", &["--uid=user001", "--command", "id -un"]);
        assert_eq!((status, &*out), (0, "user001\n"), "{err}");
        // The later one has the last word.
        let file = sandbox.ini("vassal", "command = echo from the file");
        let file = file.to_str().unwrap();
        assert_eq!(call(sandbox, "vassal-init", &[file, "--command", "echo option"]).1, "option\n");
        assert_eq!(call(sandbox, "vassal-init", &["--command", "echo option", file]).1, "from the file\n");
    });
}

#[test]
fn the_programs_are_static() {
    sandboxed(|sandbox| {
        for program in ["vassal-init", "emperor"] {
            let path = sandbox.program(program).get_program().to_owned();
            // A static PIE has a dynamic section, for its own relocations, but asks for no loader and no
            // library.
            let headers = run("readelf", &["-ldW", path.to_str().unwrap()]);
            assert!(headers.contains("LOAD") && !headers.contains("INTERP"), "{headers}");
            assert!(!headers.contains("(NEEDED)"), "{headers}");
        }
    });
}

#[test]
fn help_fits_a_terminal() {
    sandboxed(|sandbox| {
        for program in ["vassal-init", "emperor"] {
            for line in call(sandbox, program, &["--help"]).1.lines() {
                assert!(line.chars().count() <= 80, "{program}: {line}");
            }
        }
    });
}

#[test]
fn a_standard_output_that_is_full_is_an_error() {
    sandboxed(|sandbox| {
        let good = sandbox.file("good.ini", VASSAL_INI);
        let good = good.to_str().unwrap();
        for arguments in [&["--check", "--json", good][..], &["--show-config", good], &["--help"], &["-V"]] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = sandbox.program("vassal-init").args(arguments).stdout(full).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let expected = "vassal-init: write to standard output: No space left on device (ENOSPC)\n";
            assert_eq!((output.status.code(), &*said), (Some(1), expected), "{arguments:?}");
        }
    });
}

#[test]
fn a_standard_error_that_is_full_changes_no_status() {
    sandboxed(|sandbox| {
        let bad = sandbox.file("bad.ini", BAD);
        for arguments in [&["--check", bad.to_str().unwrap()][..], &[bad.to_str().unwrap()], &["--nonsense"]]
        {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let status = sandbox.program("vassal-init").args(arguments).stderr(full).status().unwrap();
            assert_eq!(status.code(), Some(78), "{arguments:?}");
        }
    });
}
