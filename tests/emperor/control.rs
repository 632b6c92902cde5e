//! Commands for a running emperor: its control socket, and what comes over it.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::common::command::ended;
use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, Sandbox, run, sandboxed, until};
use rustix::process::Signal;

const SOCKET: &str = "/run/emperor.sock";

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// What a command came to: exit status, standard output, standard error.
pub fn command(sandbox: &Sandbox, words: &[&str]) -> (i32, String, String) {
    ended(sandbox.program("emperor").args(words))
}

/// A command that goes well: what it printed.
fn told(sandbox: &Sandbox, words: &[&str]) -> String {
    let (status, output, error) = command(sandbox, words);
    assert_eq!((status, error.as_str()), (0, ""), "{words:?}: {output}");
    output
}

/// The cells of a vassal's line in the table; none if its file was not found yet.
fn cells(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let table = told(sandbox, &["status"]);
    let line = table.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

/// Waits until a vassal's table line has this state.
fn is(sandbox: &Sandbox, name: &str, state: &str) {
    let has_state = || cells(sandbox, name).get(1).is_some_and(|cell| cell == state);
    until(format_args!("{name} is {state}"), has_state);
}

/// Waits until an emperor takes commands. The file of its socket is there before it listens.
fn takes_commands(emperor: &Daemon) {
    emperor.wait_for("emperor: version ");
}

#[test]
fn root_outside_the_emperors_pid_namespace_can_command_it() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("processes of the machine") {
            return;
        }
        sandbox.vassal("app", STEADY);
        fs::write("/etc/uwsgi/emperor.ini", crate::common::tutorial::EMPEROR_INI).unwrap();
        let mut emperor = sandbox.wrapped(&["unshare", "--pid", "--fork", "--kill-child"], "emperor");
        emperor.arg("/etc/uwsgi/emperor.ini");
        let mut emperor = sandbox.start("emperor", emperor);
        emperor.wait_for("app started");
        assert!(told(sandbox, &["status"]).contains("app"));
        told(sandbox, &["stop", "app"]);
        is(sandbox, "app", "stopped");
        process::signal(process::only("emperor").pid, Signal::TERM);
        assert_eq!(emperor.wait(), 0);
    });
}

#[test]
fn status_shows_every_vassal_as_a_table_and_as_json() {
    sandboxed(|sandbox| {
        sandbox.vassal("up", STEADY);
        // Before its app: that could be up for a second on a slow machine, and be respawned.
        sandbox.vassal("down", &format!("exec-asap = false\n{STEADY}"));
        sandbox.vassal("mistaken", "exec-as-usr = true");
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "36000000"]);
        let pid = emperor.wait_running(1, "up");
        is(sandbox, "down", "backoff");
        is(sandbox, "mistaken", "invalid");
        let table = told(sandbox, &["status"]);
        assert!(table.starts_with("NAME      STATE    PID"), "{table}");
        let up = cells(sandbox, "up");
        assert_eq!((up[1].as_str(), up[2].clone(), up[4].as_str()), ("running", pid.to_string(), "0"));
        let down = cells(sandbox, "down");
        assert_eq!(
            (&down[1..3], &down[4..6]),
            (["backoff", "-"].map(str::to_owned).as_slice(), ["0", "0"].map(str::to_owned).as_slice())
        );
        let last = "setup failed in asap #1: run false: exited with status 1 \
                    (/etc/uwsgi/vassals/down.ini:2:13: exec-asap)";
        assert!(down[6].starts_with("59m") && down[7..] == ["-", "-", last], "{down:?}");

        let json = told(sandbox, &["status", "--json"]);
        let parsed = sandbox.file("status.json", &json);
        run("python3", &["-m", "json.tool", parsed.to_str().unwrap()]);
        let up =
            format!(r#"{{"name":"up","file":"{VASSALS}/up.ini","replica":1,"state":"running","pid":{pid},"#);
        assert!(json.contains(&up), "{json}");
        assert!(json.contains(&format!(r#""pid":{},"uptime""#, emperor.pid())), "{json}");
        assert!(json.contains(r#""restarts":0,"restarts_hour":0,"next_try":35"#), "{json}");

        let (status, one, _) = command(sandbox, &["status", "down"]);
        assert_eq!((status, one.lines().nth(1).unwrap().contains("backoff")), (3, true), "{one}");
        assert!(one.contains(&format!("\ndown\n           File: {VASSALS}/down.ini\n")), "{one}");
        assert!(
            one.contains("\n        Problem: not up\n") && one.contains(&format!(" ago: {last}\n")),
            "{one}"
        );
        let one = told(sandbox, &["status", "up", "--json"]);
        assert!(one.contains(r#""name":"up""#) && !one.contains("down"), "{one}");
        let (status, _, error) = command(sandbox, &["status", "nobody"]);
        assert_eq!((status, error.as_str()), (1, "emperor: there is no vassal 'nobody'\n"));
        emperor.stop();
        assert!(!fs::exists(SOCKET).unwrap(), "the socket is left");
    });
}

#[test]
fn what_was_stopped_by_command_stays_stopped_until_started() {
    sandboxed(|sandbox| {
        let path = sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&[]);
        let init = Handle::of(emperor.wait_running(1, "app"));
        assert_eq!(told(sandbox, &["stop", "app"]), "app: stopping\n");
        let name = "\x1b[2J";
        sandbox.vassal(name, STEADY);
        emperor.wait_for("\\u{1b}[2J: running after ");
        assert_eq!(told(sandbox, &["stop", name]), "\\u{1b}[2J: stopping\n");
        init.wait();
        is(sandbox, "app", "stopped");
        assert_eq!(told(sandbox, &["stop", "app"]), "app: stopped already\n");
        run("touch", &[path.to_str().unwrap()]);
        emperor.wait_for("emperor: app: file changed: stays stopped, as commanded");
        emperor.signal(Signal::HUP);
        emperor.wait_for("emperor: app: reload: stays stopped, as commanded");
        emperor.signal(Signal::URG);
        emperor.wait_for("clearing all backoffs");
        let (status, _, error) = command(sandbox, &["reload", "app"]);
        assert_eq!(
            (status, error.as_str()),
            (1, "emperor: app was stopped by command: 'emperor start' starts it\n")
        );
        is(sandbox, "app", "stopped");
        assert_eq!(told(sandbox, &["start", "app"]), "app: starting\n");
        emperor.wait_running(2, "app");
        assert_eq!(told(sandbox, &["start", "app"]), "app: started already\n");

        // With its file, the order goes.
        told(sandbox, &["stop", "app"]);
        fs::remove_file(&path).unwrap();
        emperor.wait_for("emperor: app: file removed: ");
        until("the vassal is forgotten", || !told(sandbox, &["status"]).contains("app"));
        sandbox.vassal("app", STEADY);
        emperor.wait_running(3, "app");
        emperor.stop();
    });
}

#[test]
fn reload_and_start_are_told_by_name() {
    sandboxed(|sandbox| {
        sandbox.vassal("a b\u{fc}", STEADY);
        sandbox.vassal("down", "command = false");
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "36000000"]);
        let init = emperor.wait_running(1, "a bü");
        assert_eq!(told(sandbox, &["reload", "a bü"]), "a bü: told to reload\n");
        emperor.wait_for("emperor: a bü: reload by command: reloading");
        emperor.wait_for("emperor: a bü: reloaded after ");
        assert!(process::read(init).is_some(), "PID 1 stays");
        // On a slow machine it may be up for a second once, and is respawned.
        is(sandbox, "down", "backoff");
        let ends = "emperor: down: app exited with status 1; ";
        let before = emperor.lines(ends).len();
        assert_eq!(told(sandbox, &["start", "down"]), "down: starting\n");
        emperor.wait_for_nth(before + 1, ends);
        emperor.stop();
    });
}

/// Says that it is ready once the file `go` is there.
const SLOW: &str = r#"
import os, time
while not os.path.exists("/run/scratch/go"):
    time.sleep(0.02)
os.write(int(os.environ["UWSGI_EMPEROR_FD"]), b"\x05")
time.sleep(1000)
"#;

#[test]
fn who_waits_is_told_what_has_become_of_an_order() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        emperor.wait_running(1, "app");
        let said = told(sandbox, &["reload", "app", "--wait"]);
        assert!(said.starts_with("app: running, up ") && said.ends_with(", 0 restarts\n"), "{said}");
        assert_eq!(emperor.lines("emperor: app: reloaded after ").len(), 1);

        // What runs on is not what was asked for.
        sandbox.vassal("app", "exec-as-usr = true");
        let (status, _, error) = command(sandbox, &["reload", "--wait=30", "app"]);
        assert_eq!(status, 1, "{error}");
        assert!(error.starts_with("emperor: app: running, up "), "{error}");
        assert!(error.contains(&format!(", reload refused: {VASSALS}/app.ini:2:1: ")), "{error}");

        // Neither is an app that ran before, nor one that does not stay.
        // However long it takes to end.
        sandbox.vassal("app", "command = false\nready-after = 300s");
        let (status, _, error) = command(sandbox, &["reload", "app", "--wait"]);
        assert_eq!(status, 1, "{error}");
        assert!(error.starts_with("emperor: app: backoff, next try in "), "{error}");
        assert!(error.ends_with(", last: app exited with status 1\n"), "{error}");
        let (status, _, again) = command(sandbox, &["start", "app", "--wait"]);
        assert_eq!(status, 1, "{again}");
        assert!(again.starts_with("emperor: app: backoff, next try in "), "{again}");

        sandbox.vassal("app", STEADY);
        told(sandbox, &["reload", "app", "--wait"]);
        let init = emperor.pid_of("app");
        let said = told(sandbox, &["stop", "app", "--wait"]);
        assert!(said.starts_with("app: stopped, ") && process::read(init).is_none(), "{said}");
        let (status, _, error) = command(sandbox, &["reload", "app", "--wait"]);
        let held = "emperor: app was stopped by command: 'emperor start' starts it\n";
        assert_eq!((status, error.as_str()), (1, held));
        assert!(told(sandbox, &["start", "app", "--wait"]).starts_with("app: running, "));
        emperor.stop();
    });
}

#[test]
fn an_app_that_says_that_it_is_ready_is_waited_for() {
    sandboxed(|sandbox| {
        let script = sandbox.file("slow.py", SLOW);
        let go = sandbox.file("go", "");
        sandbox.vassal("app", &format!("command = python3 {}", script.display()));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app: ready to accept requests after ");
        fs::remove_file(&go).unwrap();
        let (status, _, error) = command(sandbox, &["reload", "app", "--wait=200ms"]);
        assert!(status == 1 && error.starts_with("emperor: not done in time: app: "), "{error}");

        let mut waiting = sandbox.program("emperor");
        waiting.args(["reload", "app", "--wait"]);
        let mut waiting = sandbox.start("waiting", waiting);
        emperor.wait_for_nth(2, "emperor: app: reloaded after ");
        // Long enough for an app that says nothing.
        until("it is up for 2 s", || !["0s", "1s"].contains(&cells(sandbox, "app")[3].as_str()));
        assert!(waiting.is_running(), "{}", waiting.log());
        fs::write(&go, "").unwrap();
        assert_eq!(waiting.wait(), 0, "{}", waiting.log());
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests after ");
        // Also by the next instance.
        fs::remove_file(&go).unwrap();
        told(sandbox, &["stop", "app", "--wait"]);
        until("it runs, and that is not enough", || {
            let (status, _, error) = command(sandbox, &["start", "app", "--wait=1.5s"]);
            assert!(status == 1 && error.starts_with("emperor: not done in time: app: "), "{error}");
            error.contains(": app: running, ")
        });
        fs::write(&go, "").unwrap();
        told(sandbox, &["start", "app", "--wait"]);
        emperor.wait_for_nth(3, "emperor: app: ready to accept requests after ");
        emperor.stop();
    });
}

#[test]
fn a_probe_learns_from_the_exit_status_whether_a_vassal_is_up() {
    sandboxed(|sandbox| {
        let script = sandbox.file("slow.py", SLOW);
        sandbox.vassal("ready", &format!("command = python3 {}", script.display()));
        sandbox.vassal("steady", STEADY);
        sandbox.vassal("broken", "command = false");
        sandbox.vassal("mistaken", "exec-as-usr = true");
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        let probe = |name| command(sandbox, &["status", name, "--is-up"]);
        for (name, state) in [("ready", "running, "), ("steady", "running, ")] {
            until(format_args!("{name} is up"), || probe(name).0 == 0);
            let (_, said, error) = probe(name);
            assert!(said.starts_with(&format!("{name}: {state}")) && error.is_empty(), "{said}{error}");
        }
        for (name, state) in [("broken", "backoff, "), ("mistaken", "invalid")] {
            until(format_args!("{name} is down: {state}"), || {
                let (status, said, error) = probe(name);
                status == 1 && said.is_empty() && error.starts_with(&format!("emperor: {name}: {state}"))
            });
        }
        let (status, _, error) = probe("broke");
        assert_eq!((status, &*error), (1, "emperor: there is no vassal 'broke': did you mean 'broken'?\n"));
        told(sandbox, &["stop", "steady", "--wait"]);
        let (status, _, error) = probe("steady");
        assert!(status == 1 && error.starts_with("emperor: steady: stopped"), "{error}");
        // One that runs, and does not say that it is ready any more.
        let go = sandbox.file("go", "");
        emperor.wait_for("emperor: ready: ready to accept requests after ");
        fs::remove_file(go).unwrap();
        told(sandbox, &["reload", "ready"]);
        emperor.wait_for("emperor: ready: reloaded after ");
        assert_eq!(probe("ready").0, 1);
        let (status, _, error) = command(sandbox, &["status", "--is-up"]);
        assert!(status == 78 && error.contains("--is-up goes with one NAME alone"), "{status} {error}");
        emperor.stop();
    });
}

#[test]
fn a_command_that_cannot_be_done_says_why() {
    sandboxed(|sandbox| {
        let (status, _, error) = command(sandbox, &["status"]);
        let expected =
            "emperor: no emperor answers at /run/emperor.sock: No such file or directory (ENOENT)\n";
        assert_eq!((status, error.as_str()), (1, expected));
        for words in [
            &["stop"][..],
            &["stop", "a", "b"],
            &["reload", "--json", "a"],
            &["status", "-x"],
            &["status", "--wait"],
            &["stop", "app", "--wait=soon"],
        ] {
            let (status, _, error) = command(sandbox, words);
            assert!(
                status == 78 && error.ends_with("^\n  hint: try 'emperor --help'\n"),
                "{words:?}: {error}"
            );
        }
        let elsewhere = sandbox.path("control");
        let elsewhere = elsewhere.to_str().unwrap();
        let emperor = sandbox.emperor(&["--control", elsewhere]);
        takes_commands(&emperor);
        assert!(!fs::exists(SOCKET).unwrap());
        let (status, _, error) = command(sandbox, &["stop", "nobody", "--control", elsewhere]);
        assert_eq!((status, error.as_str()), (1, "emperor: there is no vassal 'nobody'\n"));
        emperor.stop();
    });
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_that_is_told() {
    sandboxed(|sandbox| {
        let emperor = sandbox.emperor(&[]);
        takes_commands(&emperor);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = sandbox.program("emperor").arg("status").stdout(full).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let why = "emperor: write to standard output: No space left on device (ENOSPC)\n";
        assert_eq!((output.status.code(), error.as_str()), (Some(1), why));
        emperor.stop();
    });
}

#[test]
fn no_client_keeps_the_emperor_from_its_work() {
    sandboxed(|sandbox| {
        // So many that their table fills the buffer of a socket.
        for number in 0..40 {
            let mistake = format!("exec-as-usr = {}", "x".repeat(4000));
            sandbox.vassal(&format!("v{number:02}"), &mistake);
        }
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: v39: invalid configuration: ");
        let connect = || UnixStream::connect(SOCKET).unwrap();
        let silent: Vec<_> = (0..100).map(|_| connect()).collect();
        let slow: Vec<_> = (0..20)
            .map(|_| {
                let mut client = connect();
                client.write_all(b"status\0json").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                client
            })
            .collect();
        // Nobody of them is waited for.
        assert!(told(sandbox, &["status"]).contains("v39"));
        for nonsense in [&b"stat"[..], b"", b"\0\0\0", &[0xff; 900], b"stop\0v00\0v01"] {
            let mut client = connect();
            client.write_all(nonsense).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert!(matches!(answer.first(), Some(b'0' | b'1')) && answer.ends_with(b"\n"), "{answer:?}");
        }
        let mut endless = connect();
        // More than a question can be: it is hung up on, which the writer may learn by an error or by the
        // end.
        while endless.write_all(&[b'x'; 4096]).is_ok() {}
        drop((silent, slow));
        sandbox.vassal("real", STEADY);
        emperor.wait_running(1, "real");
        assert!(told(sandbox, &["status"]).contains("real"));
        emperor.stop();
    });
}

#[test]
fn the_socket_is_for_root_and_the_emperors_own_user() {
    sandboxed(|sandbox| {
        let emperor = sandbox.emperor(&[]);
        takes_commands(&emperor);
        let file = fs::metadata(SOCKET).unwrap();
        assert_eq!((file.mode() & 0o7777, file.uid()), (0o600, 0));
        let as_user = || {
            let mut command =
                sandbox.wrapped(&["setpriv", "--reuid", "user001", "--clear-groups"], "emperor");
            let output = command.arg("status").output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let refused = "emperor: ask the emperor at /run/emperor.sock: only root, or its own user, may\n";
        assert_eq!(as_user(), (Some(1), refused.to_owned()));
        fs::set_permissions(SOCKET, fs::Permissions::from_mode(0o666)).unwrap();
        let (status, error) = as_user();
        let why = "emperor: only root and the emperor's own user may command it\n";
        assert_eq!((status, error.as_str()), (Some(1), why));
        let uid = run("id", &["-u", "user001"]);
        emperor.wait_for(&format!("control socket: uid {} may not command us: refused", uid.trim()));
        assert!(told(sandbox, &["status"]).starts_with("NAME"));
        emperor.stop();
    });
}

#[test]
fn a_dead_emperors_socket_is_replaced_and_a_living_ones_left_alone() {
    sandboxed(|sandbox| {
        let mut first = sandbox.emperor(&[]);
        takes_commands(&first);
        let start = |name: &str, options: &[&str]| -> Daemon {
            let mut command = sandbox.program("emperor");
            let vassals = sandbox.path(name);
            fs::create_dir(&vassals).unwrap();
            command.arg("--emperor").arg(vassals).args(options);
            sandbox.start(name, command)
        };
        let mut second = start("second", &[]);
        second.wait_for(
            "listen on /run/emperor.sock: another emperor is listening there: this emperor takes no commands",
        );
        second.signal(Signal::TERM);
        assert_eq!(second.wait(), 0);
        assert!(told(sandbox, &["status"]).starts_with("NAME"), "the first one's socket is gone");
        let mut third = start("third", &["--control", SOCKET]);
        assert_eq!(third.wait(), 1);
        third.wait_for("emperor: listen on /run/emperor.sock: another emperor is listening there");

        first.signal(Signal::KILL);
        first.wait();
        assert_eq!(command(sandbox, &["status"]).0, 1);
        let fourth = start("fourth", &["--control", SOCKET]);
        until("the socket is replaced", || command(sandbox, &["status"]).0 == 0);
        fourth.stop();

        let file = sandbox.file("file", "text");
        let mut fifth = start("fifth", &["--control", file.to_str().unwrap()]);
        assert_eq!(fifth.wait(), 1);
        fifth.wait_for("something that is no socket is there");
        assert_eq!(fs::read_to_string(file).unwrap(), "text");
    });
}

#[test]
fn of_two_vassals_of_one_name_the_second_waits_for_the_first() {
    sandboxed(|sandbox| {
        let first = sandbox.vassal("app", STEADY);
        fs::create_dir("/etc/uwsgi/more").unwrap();
        let second = "/etc/uwsgi/more/app.ini";
        fs::write(second, "[uwsgi]\ncommand = sleep 2000\n").unwrap();
        let emperor = sandbox.emperor(&["--emperor", "/etc/uwsgi/more"]);
        let init = emperor.wait_running(1, "app");
        emperor.wait_for(&format!(
            "emperor: app: {second} has to wait: {} has the same name",
            vassal_path("app").display()
        ));
        assert!(told(sandbox, &["status"]).contains("\n1 instance: 1 running, no problem\n"));
        run("touch", &[second]);
        let gone = Handle::of(init);
        // Both changes in one look.
        fs::remove_file(first).unwrap();
        gone.wait();
        emperor.wait_for(&format!("emperor: app: {second}: its turn has come"));
        emperor.wait_running(2, "app");
        assert_eq!(emperor.lines("has to wait").len(), 1);
        emperor.stop();
    });
}

#[test]
fn the_emperors_own_names_are_made_anew_when_others_have_removed_them() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let [stats, metrics, pid] = ["stats", "metrics", "pid"].map(|name| sandbox.path(name));
        let options = |freq| {
            let [stats, metrics, pid] = [&stats, &metrics, &pid].map(|path| path.to_str().unwrap());
            let options = ["--emperor-stats", stats, "--metrics", metrics, "--emperor-pidfile", pid];
            [&options[..], &["--emperor-freq", freq]].concat()
        };
        let names = [
            ("control socket", Path::new(SOCKET)),
            ("stats socket", &stats),
            ("metrics socket", &metrics),
            ("pid file", &pid),
        ];
        let was_missing = |(what, path): (&str, &Path)| {
            format!("emperor: the {what} {} was missing: made anew", path.display())
        };
        let emperor = sandbox.emperor(&options("1"));
        emperor.wait_running(1, "app");
        for round in 1..=2 {
            for (_, path) in names {
                fs::remove_file(path).unwrap();
            }
            for name in names {
                emperor.wait_for_nth(round, &was_missing(name));
            }
            assert!(told(sandbox, &["status"]).contains("app"));
            assert_eq!(fs::metadata(SOCKET).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{}\n", emperor.pid()));
            let mut text = String::new();
            UnixStream::connect(&stats).unwrap().read_to_string(&mut text).unwrap();
            assert!(text.contains("app.ini"), "{text}");
        }

        // What somebody else has put in their place stays while it is alive.
        // In one step: between two, the emperor might make its own anew.
        let [draft, other] = ["draft", "other"].map(|name| sandbox.path(name));
        fs::write(&draft, "1\n").unwrap();
        fs::rename(&draft, &pid).unwrap();
        let somebody = UnixListener::bind(&other).unwrap();
        fs::rename(&other, &stats).unwrap();
        let taken =
            "was missing, and cannot be made anew: listen on /run/scratch/stats: somebody is listening";
        emperor.wait_for(taken);
        process::wait_for_turns(emperor.pid(), 3);
        assert_eq!(emperor.lines(taken).len(), 1);
        assert!(UnixStream::connect(&stats).is_ok());
        assert_eq!(fs::read_to_string(&pid).unwrap(), "1\n");
        drop(somebody);
        emperor.wait_for_nth(3, &was_missing(names[1]));
        emperor.stop();
        assert!([Path::new(SOCKET), &stats, &metrics].iter().all(|path| !path.exists()));
        assert_eq!(fs::read_to_string(&pid).unwrap(), "1\n", "it was another one's");
        fs::remove_file(&pid).unwrap();

        // Signals do not wait for the next scan.
        let emperor = sandbox.emperor(&options("3600"));
        emperor.wait_running(1, "app");
        for (round, signal) in [(1, Signal::HUP), (2, Signal::USR2)] {
            fs::remove_file(SOCKET).unwrap();
            fs::remove_file(&pid).unwrap();
            emperor.signal(signal);
            for name in [names[0], names[3]] {
                emperor.wait_for_nth(round, &was_missing(name));
            }
            assert!(told(sandbox, &["status"]).contains("app"));
        }
        emperor.stop();
    });
}
