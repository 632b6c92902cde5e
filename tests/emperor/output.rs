//! Where the vassals of an emperor write to: one file for each, whoever wrote the vassal's file, and over
//! reloads, respawns and upgrades.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::sandbox::vassal_path;
use crate::common::{Sandbox, eventually, process, run, sandboxed, until};
use crate::upgrade::{installed, replace, start};
use rustix::process::Signal;

const LOGS: &str = "/run/scratch/logs";

/// The options of an emperor with a directory for logs, which is made.
fn with_logs() -> [&'static str; 2] {
    run("mkdir", &["-p", LOGS]);
    ["--log-dir", LOGS]
}

/// The file of a vassal.
fn log_of(name: &str) -> PathBuf {
    Path::new(LOGS).join(format!("{name}.log"))
}

/// What is in a file; nothing if there is none.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The answer to `emperor status NAME --json`.
fn status(sandbox: &Sandbox, name: &str) -> String {
    let output = sandbox.program("emperor").args(["status", "--json", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// An app that says what it is given, and goes on.
fn says(what: &str) -> String {
    format!("command = sh -c 'echo {what}; exec sleep 1000'")
}

#[test]
fn each_vassal_has_a_file_unless_it_says_otherwise() {
    sandboxed(|sandbox| {
        sandbox.vassal("one", &says("of one"));
        sandbox
            .vassal("two", &format!("standard-error = null\nexec-as-root = echo hook\n{}", says("of two")));
        sandbox.vassal("own", &format!("standard-output = file:/run/scratch/%n.txt\n{}", says("of own")));
        sandbox.vassal("stream", &format!("standard-output = inherit\n{}", says("of stream")));
        sandbox.vassal("bad", "command = sh -c 'echo cause >&2; exit 3'");
        let emperor = sandbox.emperor(&with_logs());
        for name in ["one", "two", "own", "stream"] {
            emperor.wait_running(1, name);
        }
        for (path, said) in [
            (log_of("one"), "of one\n"),
            (log_of("two"), "hook\nof two\n"),
            (sandbox.path("own.txt"), "of own\n"),
        ] {
            until(path.display(), || text(&path) == said);
        }
        emperor.wait_for("of stream");
        assert!(!log_of("own").exists() && !log_of("stream").exists());
        // Who asks why is told, also by the emperor.
        emperor.wait_for("emperor: bad: app exited with status 3, its last line: cause; up ");
        for (name, output) in [
            ("one", r#""file:/run/scratch/logs/one.log""#),
            ("two", r#""file:/run/scratch/logs/two.log\nnull""#),
            ("own", r#""file:/run/scratch/own.txt""#),
            ("stream", "null"),
            ("bad", r#""file:/run/scratch/logs/bad.log""#),
        ] {
            // An instance that is started again has told nothing at first.
            let told = format!(r#""output":{output},"#);
            until(&told, || status(sandbox, name).contains(&told));
        }
        // Where it is not known in time, the next end has it.
        let told = "app exited with status 3, its last line: cause";
        until(told, || status(sandbox, "bad").contains(told));
        emperor.stop();
    });
}

#[test]
fn a_file_goes_on_over_reloads_respawns_and_an_upgrade() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("app", &says("one"));
        let emperor = start(sandbox, &program, &with_logs());
        emperor.wait_running(1, "app");
        let log = log_of("app");
        until("the first line", || text(&log) == "one\n");
        let relay = process::only("vassal-log").pid;
        sandbox.vassal("app", &says("two"));
        until("the line after a reload", || text(&log) == "one\ntwo\n");
        assert_eq!(process::only("vassal-log").pid, relay);
        replace(&program, &fs::read(&program).unwrap());
        run(sandbox.program("emperor").get_program().to_str().unwrap(), &["upgrade"]);
        assert!(status(sandbox, "app").contains(r#""output":"file:/run/scratch/logs/app.log","#));
        // The app writes to the same place as before.
        sandbox.vassal("app", &says("three"));
        until("the line after the upgrade", || text(&log) == "one\ntwo\nthree\n");
        assert_eq!(process::only("vassal-log").pid, relay);
        process::signal(process::only("sleep").pid, Signal::KILL);
        until("the line of the next instance", || text(&log) == "one\ntwo\nthree\nthree\n");
        // Before that, a change is no reload.
        emperor.wait_running(2, "app");
        // Another place takes a fresh jail.
        sandbox.vassal("app", &format!("standard-output = file:/run/scratch/own.txt\n{}", says("four")));
        emperor.wait_for("standard-output changed, which needs a fresh jail");
        until("the line in the other file", || text(&sandbox.path("own.txt")) == "four\n");
        emperor.stop();
        until("no relay is left", || process::named("vassal-log").is_empty());
    });
}

#[test]
fn root_writes_for_a_tenant_in_log_dir_and_nowhere_else() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("tenants") {
            return;
        }
        let secret = sandbox.file("secret", "root's\n");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        run("install", &["-d", "-o", "4242", "-g", "4242", "/run/scratch/home"]);
        let tenants =
            |name: &str, lines: &str| chown(sandbox.vassal(name, lines), Some(4242), Some(4242)).unwrap();
        let logs = with_logs();
        tenants("plain", &says("of plain"));
        tenants("own", &format!("standard-output = file:/run/scratch/home/own.txt\n{}", says("of own")));
        tenants("thief", &format!("standard-output = file:/run/scratch/secret\n{}", says("of thief")));
        tenants("maker", &format!("standard-output = file:/run/scratch/logs/x.log\n{}", says("of maker")));
        let emperor = sandbox.emperor(&[&["--emperor-tyrant"][..], &logs].concat());
        for name in ["plain", "own", "thief", "maker"] {
            emperor.wait_running(1, name);
        }
        let owned = [(log_of("plain"), 0, "of plain\n"), (sandbox.path("home/own.txt"), 4242, "of own\n")];
        for (path, owner, said) in owned {
            until(path.display(), || text(&path) == said);
            let there = fs::metadata(&path).unwrap();
            assert_eq!((there.uid(), there.mode() & 0o777), (owner, 0o640), "{}", path.display());
        }
        for (name, path) in [("thief", "/run/scratch/secret"), ("maker", "/run/scratch/logs/x.log")] {
            let told = emperor.wait_for(&format!("open {path}: Permission denied (EACCES)"));
            assert!(told.starts_with(&format!("vassal-init[{name}]: ")), "{told}");
        }
        assert_eq!(text(&secret), "root's\n");
        assert!(!log_of("x").exists());
        // The process of root's is out of the tenant's reach, and has no rights that it does not need.
        let relays = process::named("vassal-log");
        let roots: Vec<_> = relays.iter().filter(|relay| relay.uid == 0).collect();
        assert_eq!(roots.len(), 1, "{relays:?}");
        let enter = format!("cat /proc/{pid}/environ || kill -9 {pid}", pid = roots[0].pid);
        let outcome = Command::new("setpriv")
            .args(["--reuid=4242", "--regid=4242", "--clear-groups", "sh", "-c", &enter])
            .output()
            .unwrap();
        assert!(!outcome.status.success(), "{outcome:?}");
        emperor.stop();
    });
}

#[test]
fn a_directory_that_is_not_there_keeps_no_vassal_from_running_and_is_told_of() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &says("of app"));
        sandbox.vassal("own", &format!("standard-output = file:/run/scratch/no/own.txt\n{}", says("of own")));
        let emperor = sandbox.emperor(&["--log-dir", "/run/scratch/none"]);
        emperor.wait_running(1, "app");
        emperor
            .wait_for("open /run/scratch/none/app.log: No such file or directory (ENOENT): the output goes");
        emperor.wait_for("of app");
        emperor.wait_running(1, "own");
        for (name, key, file) in [
            ("app", "command line: standard-output", "/run/scratch/none/app.log"),
            ("own", "/etc/uwsgi/vassals/own.ini:2:19: standard-output", "/run/scratch/no/own.txt"),
        ] {
            let why = format!("{key}: open {file}: No such file or directory (ENOENT)");
            let told = status(sandbox, name);
            assert!(told.contains(&format!(r#""output":"inherit: {why}","#)), "{told}");
            let (_, told) = sandbox.control(&["status", name]);
            assert!(told.contains(&format!("\n         Output: inherit: {why}\n")), "{told}");
            assert!(told.contains("\n        Problem: no log\n"), "{told}");
            let (status, told) = sandbox.control(&["logs", name]);
            let there = "see the emperor's: /run/scratch/emperor.log";
            let said = format!("emperor: it has no log of its own (inherit: {why}); {there}\n");
            assert_eq!((status, told), (1, said));
            let (status, told) = sandbox.control(&["status", "--problems", name]);
            assert_eq!((status, told.contains(&format!("  inherit: {why}\n"))), (3, true), "{told}");
        }
        emperor.stop();
    });
}

#[test]
fn who_has_no_log_is_in_the_journal_where_the_emperor_is_or_in_its_file() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &says("of app"));
        let is_said = |place: &str| {
            let told = format!("emperor: it has no log of its own (inherit); see the emperor's: {place}\n");
            until(place, || sandbox.control(&["logs", "app"]).1.starts_with(&told));
        };
        // As systemd starts a unit.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut unit = sandbox.program("emperor");
        unit.args(["--emperor", "/etc/uwsgi/vassals"]).stderr(OwnedFd::from(theirs));
        let mut unit = unit.spawn().unwrap();
        is_said("journalctl -u emperor");
        process::signal(unit.id() as i32, Signal::TERM);
        unit.wait().unwrap();
        drop(ours);
        let emperor = sandbox.emperor(&["--logto", "/run/scratch/its.log"]);
        is_said("/run/scratch/its.log");
        emperor.stop();
    });
}

#[test]
fn no_tenant_shuts_the_journal_of_the_unit_for_the_others() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("tenants") {
            return;
        }
        let tenants = |name: &str, owner: u32, lines: &str| {
            // Of nobody's but the tenant's from the first.
            run("install", &["-d", "/etc/uwsgi/vassals"]);
            let draft = format!("/etc/uwsgi/{name}");
            fs::write(&draft, format!("[uwsgi]\n{lines}\n")).unwrap();
            chown(&draft, Some(owner), Some(owner)).unwrap();
            fs::rename(draft, vassal_path(name)).unwrap();
        };
        run("install", &["-d", "-o", "4242", "/run/scratch/home"]);
        let shut = "import os, socket, sys\n\
                    for number in 0, 1, 2:\n  try: socket.socket(fileno=os.dup(number)).shutdown(2)\n  \
                    except OSError: pass\nopen('/run/scratch/home/' + sys.argv[1], 'w')\n";
        sandbox.file("shut.py", shut);
        tenants("alice", 4243, "command = sh -c 'while :; do echo of alice; sleep 0.1; done'");
        // As systemd starts a unit.
        let (ours, theirs) = UnixStream::pair().unwrap();
        let journal = sandbox.path("journal");
        let mut reader = Command::new("cat");
        reader.stdin(OwnedFd::from(ours)).stdout(fs::File::create(&journal).unwrap());
        let mut reading = reader.spawn().unwrap();
        drop(reader);
        let mut unit = sandbox.program("emperor");
        unit.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-tyrant"]);
        unit.stdout(OwnedFd::from(theirs.try_clone().unwrap())).stderr(OwnedFd::from(theirs));
        let mut emperor = unit.spawn().unwrap();
        drop(unit);
        let lines = || text(&journal).matches("of alice\n").count();
        until("the app's lines", || lines() > 0);
        let shut = "/usr/bin/python3 /run/scratch/shut.py";
        let inherit = "standard-output = inherit\nstandard-error = inherit";
        tenants("eve", 4242, &format!("{inherit}\nexec-as-user = {shut} hook\ncommand = {shut} app"));
        for who in ["hook", "app"] {
            until(who, || sandbox.path("home").join(who).exists());
        }
        let before = lines();
        until("lines after that", || lines() > before + 2);
        assert!(status(sandbox, "alice").contains(r#""restarts":0,"#), "{}", status(sandbox, "alice"));
        process::signal(emperor.id() as i32, Signal::TERM);
        emperor.wait().unwrap();
        reading.wait().unwrap();
        assert!(text(&journal).contains("emperor: alice: stopped"), "{}", text(&journal));
    });
}

#[test]
fn logs_shows_what_a_vassal_has_written_and_goes_on_over_a_rename() {
    sandboxed(|sandbox| {
        sandbox.vassal("a b", "command = sh -c 'seq 200; echo err >&2; exec sleep 1000'");
        sandbox.vassal("two", &format!("standard-error = file:/run/scratch/two.err\n{}", says("of two")));
        sandbox.vassal("stream", &format!("standard-output = inherit\n{}", says("of stream")));
        sandbox.vassal("null", &format!("standard-output = null\n{}", says("of null")));
        sandbox.vassal("bad", "command = sh -c 'echo cause >&2; exit 3'");
        let emperor = sandbox.emperor(&with_logs());
        for name in ["a b", "two", "stream", "null"] {
            emperor.wait_running(1, name);
        }
        until("all is written", || text(&log_of("a b")).ends_with("200\nerr\n"));
        let all = sandbox.control(&["logs", "a b"]);
        assert!(all.0 == 0 && all.1.starts_with("102\n") && all.1.ends_with("200\nerr\n"), "{all:?}");
        assert_eq!(sandbox.control(&["logs", "-n", "2", "a b"]), (0, "200\nerr\n".to_owned()));
        let both = sandbox.control(&["logs", "two", "--lines=1"]);
        assert!(both.0 == 0 && both.1.contains("of two\n") && both.1.contains("two.err"), "{both:?}");
        // One that does not run has its lines, too.
        emperor.wait_for("emperor: bad: app exited");
        until("its lines", || sandbox.control(&["logs", "bad"]).1.contains("cause\n"));
        // All of one, with the last of it.
        let status = sandbox.control(&["status", "a b"]).1;
        assert!(
            status.contains("\n\n    182\n    183\n") && status.ends_with("\n    200\n    err\n"),
            "{status}"
        );
        for words in [&["status", "a*"][..], &["status", "a b", "two"], &["status", "a b", "--json"]] {
            assert!(!sandbox.control(words).1.contains("    200\n"), "{words:?}");
        }
        sandbox.vassal("red", "command = sh -c 'printf \"\\033[31mred\\n\"; exec sleep 1000'");
        emperor.wait_running(1, "red");
        let red = r"    \u{1b}[31mred";
        until(red, || sandbox.control(&["status", "red"]).1.ends_with(&format!("\n\n{red}\n")));
        // A tenant's may be anything by now, and one that says nothing keeps nobody.
        fs::remove_file(log_of("red")).unwrap();
        run("mkfifo", &[log_of("red").to_str().unwrap()]);
        let (status, told) = sandbox.control(&["status", "red"]);
        assert!(status == 0 && told.contains("/red.log\n") && !told.contains(red), "{told}");
        for (words, says) in [
            (
                &["logs", "stream"][..],
                "emperor: it has no log of its own (inherit); see the emperor's: /run/scratch/emperor.log\n",
            ),
            (&["logs", "null"], "emperor: it has no log of its own (null); see the emperor's: "),
            (&["logs", "none"], "emperor: there is no vassal 'none'"),
        ] {
            let (status, text) = sandbox.control(words);
            assert!(status == 1 && text.starts_with(says), "{words:?}: {text}");
        }
        for count in [&["-n", "1"][..], &["-n1"], &["-n", "-1"], &["-1"], &["--lines=1"]] {
            let last = sandbox.control(&[&["logs", "a b"], count].concat());
            assert_eq!(last, (0, "err\n".to_owned()), "{count:?}");
        }
        let many = sandbox.control(&["logs", "-150", "a b"]);
        assert!(many.0 == 0 && many.1.starts_with("52\n"), "{many:?}");
        for words in [&["logs"][..], &["logs", "a", "b"], &["logs", "--json", "a b"], &["status", "-f"]] {
            assert_eq!(sandbox.control(words).0, 78, "{words:?}");
        }

        sandbox.vassal("tick", "command = sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done'");
        emperor.wait_running(1, "tick");
        let mut follow = sandbox.program("emperor");
        follow.args(["logs", "-f", "-n", "1", "tick"]);
        let mut follow = sandbox.start("follow", follow);
        until("lines are shown", || follow.log().lines().count() > 5);
        fs::rename(log_of("tick"), sandbox.path("logs/old")).unwrap();
        let first =
            eventually("the file is made anew", || text(&log_of("tick")).lines().nth(5).map(str::to_owned));
        until("lines of the new file are shown", || follow.log().lines().any(|line| line == first));
        follow.signal(Signal::TERM);
        assert_eq!(follow.wait(), 143);
        emperor.stop();
    });
}
