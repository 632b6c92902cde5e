//! The orderly stop: the app first, then its hooks, then everything that is left, and not a moment longer.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::{Daemon, Sandbox, process, sandboxed, until};
use rustix::process::Signal;

/// A shell that waits in small steps, so that a trap runs soon.
const WAIT: &str = "echo ready; while :; do sleep 0.01; done";

/// Starts a vassal, in a pid namespace or as a subreaper, and waits until its app says `ready`.
fn ready(sandbox: &Sandbox, options: &[&str], lines: &str) -> Daemon {
    let mut command = sandbox.program("vassal-init");
    command.args(options).arg(sandbox.ini("vassal", lines));
    let vassal = sandbox.start("vassal", command);
    until("the app is ready", || vassal.log().lines().any(|line| line == "ready"));
    vassal
}

const NAMESPACES: &[&str] = &["--unshare", "fs,pid"];

#[test]
fn term_becomes_the_stop_signal_and_the_app_leaves_with_its_own_status() {
    sandboxed(|sandbox| {
        for (configured, sent, status) in [
            ("", "TERM", 3),
            ("stop-signal = USR1", "USR1", 4),
            ("stop-signal = SIGQUIT", "QUIT", 5),
            ("stop-signal = 2", "INT", 6),
        ] {
            let app = format!("command = sh -c 'trap \"echo got {sent}; exit {status}\" {sent}; {WAIT}'");
            let mut vassal = ready(sandbox, NAMESPACES, &format!("{configured}\n{app}"));
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), status, "{configured}");
            assert_eq!(vassal.lines(&format!("got {sent}")).len(), 1);
        }
    });
}

#[test]
fn uwsgi_is_asked_by_its_protocol_or_with_int_and_ends() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let asked = [("said", "uWSGI's message 0"), ("unsaid", "SIGINT"), ("chosen", "SIGQUIT")];
        for (name, how) in asked {
            let mut command = sandbox.program("vassal-init");
            command.args(NAMESPACES).arg(crate::common::sandbox::vassal_path("app001"));
            match name {
                "unsaid" => drop(command.args(["--unenv", "UWSGI_EMPEROR_FD"])),
                "chosen" => drop(command.args(["--stop-signal", "QUIT"])),
                _ => {}
            }
            let mut vassal = sandbox.start(name, command);
            crate::common::tutorial::wait_for_page();
            vassal.signal(Signal::TERM);
            vassal.wait();
            vassal.wait_for(&format!("{how} to the app"));
            assert_eq!(vassal.lines("SIGKILL"), [""; 0], "uWSGI did not end by itself");
        }
    });
}

#[test]
fn uwsgi_hears_of_a_stop_while_it_is_loading() {
    sandboxed(|sandbox| {
        let psgi = sandbox.file("app.psgi", "print STDERR \"loading\\n\"; sleep 1 while 1; sub { }");
        let lines = format!("stop-timeout = 15s\nplugin = psgi\nsocket = @app\npsgi = {}", psgi.display());
        // As whatever a shell has started in the background.
        let ignoring = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh"];
        let mut command = sandbox.wrapped(&ignoring, "vassal-init");
        command.args(NAMESPACES).arg(sandbox.ini("vassal", &lines));
        let mut vassal = sandbox.start("vassal", command);
        vassal.wait_for("loading");
        vassal.signal(Signal::TERM);
        vassal.wait_for("SIGINT to the app");
        vassal.wait();
        assert_eq!(vassal.lines("SIGKILL"), [""; 0], "uWSGI did not end by itself");
    });
}

#[test]
fn an_app_that_ignores_the_stop_is_killed_when_its_time_is_up() {
    sandboxed(|sandbox| {
        let lines = format!("stop-timeout = 300ms\ncommand = sh -c 'trap \"\" TERM; {WAIT}'");
        let mut vassal = ready(sandbox, NAMESPACES, &lines);
        let start = Instant::now();
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 137);
        assert!(start.elapsed() >= Duration::from_millis(300), "killed before its time");
        vassal.wait_for("the app has not ended after 300 ms: SIGKILL");
    });
}

#[test]
fn a_later_second_request_kills_the_app_at_once() {
    sandboxed(|sandbox| {
        let lines = format!("stop-timeout = 1h\ncommand = sh -c 'trap \"\" TERM; {WAIT}'");
        let mut vassal = ready(sandbox, NAMESPACES, &lines.replace("1h", "60m"));
        vassal.signal(Signal::TERM);
        vassal.wait_for("SIGTERM to the app");
        until("it is killed", || {
            vassal.signal(Signal::TERM);
            !vassal.lines("again: SIGKILL to the app").is_empty()
        });
        assert_eq!(vassal.wait(), 137);
    });
}

#[test]
fn one_request_that_arrives_twice_is_one() {
    sandboxed(|sandbox| {
        let lines = format!("command = sh -c 'trap \"sleep 0.3; exit 4\" INT TERM; {WAIT}'");
        // What comes a second later is another one: then once more.
        until("two signals within a second", || {
            let mut vassal = ready(sandbox, NAMESPACES, &lines);
            let asked = Instant::now();
            vassal.signal(Signal::TERM);
            vassal.wait_for("SIGTERM to the app");
            vassal.signal(Signal::INT);
            let is_one = asked.elapsed() < Duration::from_secs(1);
            let status = vassal.wait();
            assert!(status == 4 || !is_one, "{status}");
            is_one
        });
    });
}

#[test]
fn a_stop_during_a_post_app_hook_is_orderly_too() {
    sandboxed(|sandbox| {
        let lines = format!(
            "exec-post-app = sleep 1000\ncommand = sh -c 'trap \"echo app ends; exit 4\" TERM; {WAIT}'"
        );
        let mut vassal = ready(sandbox, NAMESPACES, &lines);
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 4);
        assert_eq!(vassal.lines("app ends").len(), 1);
    });
}

#[test]
fn the_exit_hooks_run_after_the_app_in_order() {
    sandboxed(|sandbox| {
        let lines = format!(
            "uid = user001\nexec-as-user-atexit = echo first hook\nexec-as-user-atexit = false\n\
             exec-as-user-atexit = echo last hook\n\
             command = sh -c 'trap \"sleep 0.2; echo app ends; exit 9\" TERM; {WAIT}'"
        );
        let mut vassal = ready(sandbox, NAMESPACES, &lines);
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 9);
        let log = vassal.log();
        let said: Vec<_> = log.lines().filter(|line| !line.starts_with("vassal-init")).collect();
        assert_eq!(said, ["ready", "app ends", "first hook", "last hook"]);
    });
}

#[test]
fn exit_hooks_also_run_when_the_app_ends_by_itself() {
    sandboxed(|sandbox| {
        let mut vassal =
            sandbox.vassal_init("vassal", "exec-as-user-atexit = echo the hook\ncommand = sh -c 'exit 9'");
        assert_eq!(vassal.wait(), 9);
        assert!(vassal.log().lines().any(|line| line == "the hook"));
    });
}

fn leftovers_get_term_then_kill(sandbox: &Sandbox, options: &[&str]) {
    // Each says so once its trap is set; the app waits for that.
    let polite = sandbox
        .file("polite", "trap 'echo polite got TERM; exit' TERM; : >$1; while :; do sleep 0.01; done\n");
    let stubborn =
        sandbox.file("stubborn", "trap 'echo stubborn got TERM' TERM; : >$1; while :; do sleep 0.01; done\n");
    let dir = sandbox.path("").display().to_string();
    let app = format!(
        "setsid sh {} {dir}/p & setsid sh {} {dir}/s & until [ -e {dir}/p -a -e {dir}/s ]; do sleep 0.01; \
         done; echo ready; \
         exec sleep 1000",
        polite.display(),
        stubborn.display()
    );
    let app = sandbox.file("app", &app);
    let mut vassal = ready(sandbox, options, &format!("command = sh {}", app.display()));
    vassal.signal(Signal::TERM);
    assert_eq!(vassal.wait(), 143);
    assert_eq!(vassal.lines("polite got TERM").len(), 1);
    assert_eq!(vassal.lines("stubborn got TERM").len(), 1);
    vassal.wait_for("processes are left 2.0 s after SIGTERM: SIGKILL");
    until("nothing is left", || process::named("sh").is_empty());
}

/// The kernel lists a child with the thread that has created it.
fn a_child_of_another_thread_gets_term(sandbox: &Sandbox, options: &[&str]) {
    let script = "import signal, subprocess, threading\n\
                  signal.signal(signal.SIGTERM, lambda *_: None)\n\
                  child = 'trap \"echo polite got TERM; exit\" TERM; echo ready; \
                  while :; do sleep 0.01; done'\n\
                  threading.Thread(target=lambda: subprocess.run(['sh', '-c', child])).start()\n";
    let script = sandbox.file("left.py", script);
    let app = sandbox.file("app", &format!("setsid python3 {} & exec sleep 1000", script.display()));
    let mut vassal = ready(sandbox, options, &format!("command = sh {}", app.display()));
    vassal.signal(Signal::TERM);
    assert_eq!(vassal.wait(), 143);
    assert_eq!(vassal.lines("polite got TERM").len(), 1);
}

#[test]
fn a_child_of_another_thread_gets_term_in_a_pid_namespace() {
    sandboxed(|sandbox| a_child_of_another_thread_gets_term(sandbox, NAMESPACES));
}

#[test]
fn a_child_of_another_thread_gets_term_without_a_pid_namespace() {
    sandboxed(|sandbox| a_child_of_another_thread_gets_term(sandbox, &[]));
}

#[test]
fn what_is_left_gets_term_and_then_kill() {
    sandboxed(|sandbox| leftovers_get_term_then_kill(sandbox, NAMESPACES));
}

#[test]
fn what_is_left_gets_term_and_then_kill_without_a_pid_namespace() {
    sandboxed(|sandbox| leftovers_get_term_then_kill(sandbox, &[]));
}

#[test]
fn it_ends_at_once_when_nothing_is_left() {
    sandboxed(|sandbox| {
        for options in [NAMESPACES, &[]] {
            // That much is allowed for the app and, after a hook, for the rest; neither is needed.
            let app = "exec-asap = true\nstop-timeout = 20s\nunmount-timeout = 20s\n\
                       command = sh -c 'setsid sleep 1000 & echo ready; exec sleep 1000'";
            let mut vassal = ready(sandbox, options, app);
            until("both run", || process::named("sleep").len() == 2);
            let start = Instant::now();
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 143);
            assert!(start.elapsed() < Duration::from_secs(15), "took {:?}", start.elapsed());
        }
    });
}

#[test]
fn a_stop_during_a_hook_does_not_wait_for_it() {
    sandboxed(|sandbox| {
        let mut vassal = sandbox.vassal_init("vassal", "exec-as-root = sleep 1000\ncommand = echo never");
        process::only("sleep");
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 143);
        assert_eq!(vassal.lines("never"), [""; 0]);
    });
}

#[test]
fn other_signals_go_to_the_app() {
    sandboxed(|sandbox| {
        let lines = format!(
            "command = sh -c 'trap \"echo got USR1\" USR1; trap \"echo got USR2; exit 8\" USR2; {WAIT}'"
        );
        let mut vassal = ready(sandbox, NAMESPACES, &lines);
        vassal.signal(Signal::USR1);
        vassal.wait_for("got USR1");
        vassal.signal(Signal::USR2);
        assert_eq!(vassal.wait(), 8);
    });
}

#[test]
fn an_app_that_is_stopped_goes_on_to_hear_the_stop() {
    sandboxed(|sandbox| {
        for options in [NAMESPACES, &[]] {
            let handler = "$SIG{TERM} = sub { exit 3 }";
            let app = format!("command = perl -e '{handler}; $| = 1; print \"ready\\n\"; sleep 1 while 1'");
            let mut vassal = ready(sandbox, options, &format!("stop-timeout = 60s\n{app}"));
            let pid = process::only("perl").pid;
            process::signal(pid, Signal::STOP);
            until("it is stopped", || process::read(pid).is_some_and(|app| app.state == 'T'));
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 3, "{}", vassal.log());
        }
    });
}

#[test]
fn the_end_of_a_vassal_does_not_make_the_kernel_walk_all_processes_of_the_machine() {
    sandboxed(|sandbox| {
        let daemon = "trap 'echo told; exit' TERM; echo listens; while :; do sleep 0.05; done";
        let left = format!("exec-as-root = sh -c \"{daemon}\" &\ncommand = sleep 1000");
        // It is busy while the prober looks at it.
        let lost = "mount-as-root = tmpfs none /ufs\nmountpoint-check = /ufs\n\
                    exec-post-app = until umount /ufs; do sleep 0.01; done\ncommand = sleep 1000";
        let strace = ["strace", "-f", "-D", "-qq", "-e", "trace=kill"];
        for (name, lines, code, is_told) in [("left", &*left, 143, true), ("lost", lost, 75, false)] {
            let trace = sandbox.path(name);
            let wrapper = [&strace[..], &["-o", trace.to_str().unwrap()]].concat();
            let mut command = sandbox.wrapped(&wrapper, "vassal-init");
            command.args(["--unshare", "fs,pid"]).arg(sandbox.ini(name, lines));
            let mut vassal = sandbox.start(name, command);
            let count =
                |what: &str, vassal: &Daemon| vassal.log().lines().filter(|line| *line == what).count();
            if is_told {
                vassal.wait_for("app started: sleep");
                until("the daemon listens", || count("listens", &vassal) == 1);
                vassal.signal(Signal::TERM);
            }
            assert_eq!(vassal.wait(), code, "{}", vassal.log());
            assert_eq!(count("told", &vassal), usize::from(is_told), "{}", vassal.log());
            let calls = fs::read_to_string(trace).unwrap();
            assert!(!calls.contains("kill(-1,"), "{calls}");
        }
    });
}
