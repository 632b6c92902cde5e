//! `ready-check`: what tells that an app is ready, and what follows when it no longer is.

use std::any::Any;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vassal::protocol::{Announcement, ExitReason, FromVassal, ToVassal};

use crate::common::link::Link;
use crate::common::{Sandbox, process, sandboxed, until, until_passed};

/// Succeeds as long as there is this file, and says what is wrong otherwise.
const CHECK: &str = "ready-check = exec:cat /run/scratch/good";

/// An app, and checks in quick succession.
const APP: &str = "uid = user001\ncommand = sleep 1000\nready-check-interval = 20ms";

const READY: FromVassal = FromVassal::Announced(Announcement::Ready);

/// The next message that says how the app is.
fn news(message: FromVassal) -> Option<FromVassal> {
    use FromVassal::{Announced, Exiting, Reloaded, Unready};
    let is_news = matches!(message, Announced(_) | Unready | Reloaded | Exiting(_));
    is_news.then_some(message)
}

/// Why the instance ends.
fn reason(link: &Link) -> String {
    link.next(|message| match message {
        FromVassal::Exiting(ExitReason::NotReady(why)) => Some(why),
        FromVassal::Exiting(other) => panic!("{other:?}"),
        _ => None,
    })
}

fn good(sandbox: &Sandbox) {
    sandbox.file("good", "");
}

fn bad(sandbox: &Sandbox) {
    fs::remove_file(sandbox.path("good")).unwrap();
}

/// How many lines a file of the scratch directory has.
fn lines_of(sandbox: &Sandbox, name: &str) -> usize {
    fs::read_to_string(sandbox.path(name)).unwrap_or_default().lines().count()
}

#[test]
fn an_app_is_ready_when_its_check_succeeds_and_not_when_it_says_so() {
    sandboxed(|sandbox| {
        // It says that it is ready, and then that it is loyal.
        let app = "command = bash -c 'printf \"\\005\\021\" >&$UWSGI_EMPEROR_FD; exec sleep 1000'";
        let (link, vassal) =
            Link::start(sandbox, &format!("{APP}\n{app}\n{CHECK}\nexec-accepting = echo hook"));
        assert_eq!(link.next(news), FromVassal::Announced(Announcement::Loyal));
        assert_eq!(vassal.lines("hook"), [""; 0]);
        good(sandbox);
        assert_eq!(link.next(news), READY);
        vassal.wait_for("the app is ready, ");
        vassal.wait_for("echo hook: done");
        assert_eq!(vassal.lines("the app is ready, ").len(), 1);
    });
}

#[test]
fn an_app_that_was_ready_is_replaced_after_failures_in_a_row() {
    sandboxed(|sandbox| {
        good(sandbox);
        let count =
            "cat /run/scratch/good || { echo no >> /run/scratch/failures; echo it is bad >&2; exit 7; }";
        let lines = format!(
            "{APP}\nready-check = exec:{count}\nready-check-failures = 4\n\
             command = sh -c 'trap \"echo asked; exit 0\" TERM; echo listens; \
             while :; do sleep 0.05; done'\nexec-as-user-atexit = echo at the exit"
        );
        let (link, mut vassal) = Link::start(sandbox, &lines);
        assert_eq!(link.next(news), READY);
        vassal.wait_for("listens");
        assert_eq!(lines_of(sandbox, "failures"), 0);
        bad(sandbox);
        let why = reason(&link);
        let expected = "ready-check: cat /run/scratch/good || { echo no >> /run/scratch/failures;: \
                        exited with status 7: it is bad, 4 failures in a row (/a.ini:6:15)";
        assert_eq!(why, expected);
        assert_eq!(vassal.wait(), 69);
        assert_eq!(lines_of(sandbox, "failures"), 4);
        // The app has its time to stop, and daemons theirs to write.
        for line in ["asked", "echo at the exit: done", &why] {
            vassal.wait_for(line);
        }
    });
}

#[test]
fn one_of_several_asks_before_it_is_replaced_and_is_ready_again_if_its_check_is() {
    sandboxed(|sandbox| {
        good(sandbox);
        let lines = format!("{APP}\n{CHECK}\nreplicas = 2\nexec-accepting = echo hook");
        let (link, mut vassal) = Link::start(sandbox, &lines);
        assert_eq!(link.next(news), READY);
        for _ in 0..2 {
            bad(sandbox);
            assert_eq!(link.next(news), FromVassal::Unready);
            good(sandbox);
            assert_eq!(link.next(news), READY);
        }
        bad(sandbox);
        assert_eq!(link.next(news), FromVassal::Unready);
        link.send(&ToVassal::GiveUp);
        assert!(reason(&link).contains(", 3 failures in a row (/a.ini:"));
        assert_eq!(vassal.wait(), 69);
        assert_eq!(vassal.lines("waits for its turn to be replaced").len(), 3);
        assert_eq!(vassal.lines("echo hook: done").len(), 1);
    });
}

#[test]
fn failures_that_are_not_in_a_row_or_before_the_app_is_ready_cost_nothing() {
    sandboxed(|sandbox| {
        // Every third check succeeds.
        let check = "echo >> /run/scratch/checks; test $(( $(wc -l < /run/scratch/checks) % 3 )) = 0";
        let lines =
            format!("{APP}\nready-check = exec:{}\nready-check-failures = 3", check.replace('%', "%%"));
        let (link, mut vassal) = Link::start(sandbox, &lines);
        assert_eq!(link.next(news), READY);
        until("many checks have run", || lines_of(sandbox, "checks") > 30);
        assert!(vassal.is_running());
        vassal.wait_for(": good again, after 2 in a row failed");
        link.send(&ToVassal::Stop);
        assert_eq!(link.next(news), FromVassal::Exiting(ExitReason::Stopped), "it is ready only once");
    });
}

#[test]
fn a_check_that_hangs_is_killed_with_what_it_has_started_and_only_one_runs_at_a_time() {
    sandboxed(|sandbox| {
        // The shell itself holds the lock, and nothing that it starts.
        let check = "exec 9> /run/scratch/lock; flock -n 9 || echo >> /run/scratch/two; \
                     echo >> /run/scratch/checks; sleep 1000 9>&- & sleep 1000 9>&-";
        let lines = format!(
            "{APP}\ncommand = tail -f /dev/null\nready-check = exec:{check}\nready-check-timeout = 100ms\n\
             ready-check-failures = 1"
        );
        let (_link, vassal) = Link::start(sandbox, &lines);
        until("some checks were killed", || lines_of(sandbox, "checks") > 8);
        until("what they had started is gone", || process::named("sleep").len() <= 2);
        assert_eq!(lines_of(sandbox, "two"), 0);
        assert_eq!(vassal.lines("the app is ready, "), [""; 0]);
    });
}

#[test]
fn a_check_that_begins_to_hang_is_a_failure() {
    sandboxed(|sandbox| {
        good(sandbox);
        let check = "test -e /run/scratch/good || sleep 1000";
        let lines = format!("{APP}\nready-check = exec:{check}\nready-check-timeout = 100ms");
        let (link, _vassal) = Link::start(sandbox, &lines);
        assert_eq!(link.next(news), READY);
        bad(sandbox);
        let expected =
            format!("ready-check: {check}: not done after 100 ms, 3 failures in a row (/a.ini:6:15)");
        assert_eq!(reason(&link), expected);
    });
}

#[test]
fn a_check_delays_no_stop_and_none_runs_while_the_app_stops() {
    sandboxed(|sandbox| {
        // Without namespaces, where nobody else would end it.
        sandbox.file("stops.sh", "trap 'sleep 0.4; exit 3' TERM; while :; do sleep 0.05; done");
        for (check, app) in [
            ("sleep 1234 & sleep 1234", "sleep 1000"),
            ("echo >> /run/scratch/checks", "sh /run/scratch/stops.sh"),
        ] {
            let lines =
                format!("{APP}\ncommand = {app}\nready-check = exec:{check}\nready-check-timeout = 1h");
            let mut command = sandbox.program("vassal-init");
            command.arg(sandbox.ini("vassal", &lines));
            let mut vassal = sandbox.start("vassal", command);
            until("a check runs", || match check.starts_with("echo") {
                true => lines_of(sandbox, "checks") > 0,
                false => process::named("sleep").len() == 3,
            });
            vassal.signal(Signal::TERM);
            vassal.wait_for("stopping for SIGTERM");
            // One that is being killed may write its line yet.
            let is_check = |process: &process::Process| {
                process.parent == vassal.pid() && ["vassal-init", "ready-check"].contains(&&*process.comm)
            };
            until("the last check has ended", || !process::all().iter().any(is_check));
            let checks = lines_of(sandbox, "checks");
            // Nobody waits so long for it as the check takes.
            vassal.wait();
            assert_eq!(lines_of(sandbox, "checks"), checks);
            assert_eq!(vassal.lines("processes are left"), [""; 0]);
        }
    });
}

#[test]
fn after_a_reload_the_app_shows_anew_that_it_is_ready() {
    sandboxed(|sandbox| {
        good(sandbox);
        let (link, vassal) = Link::start(sandbox, &format!("{APP}\n{CHECK}"));
        assert_eq!(link.next(news), READY);
        for _ in 0..2 {
            link.reload(&format!("{APP}\n{CHECK}"));
            assert_eq!((link.next(news), link.next(news)), (FromVassal::Reloaded, READY));
        }
        assert_eq!(vassal.lines("the app is ready, ").len(), 3);
        // One that reads its own configuration again need not be stopped for that.
        let own = format!(
            "{APP}\n{CHECK}\nreload-signal = HUP\n\
             command = sh -c 'trap \"echo read again\" HUP; echo listens; while :; do sleep 0.05; done'"
        );
        link.reload(&own);
        assert_eq!((link.next(news), link.next(news)), (FromVassal::Reloaded, READY));
        vassal.wait_for("listens");
        link.reload(&own);
        assert_eq!((link.next(news), link.next(news)), (FromVassal::Reloaded, READY));
        vassal.wait_for("read again");
    });
}

#[test]
fn a_reload_takes_on_how_the_app_is_checked() {
    sandboxed(|sandbox| {
        good(sandbox);
        let patient = "ready-check-interval = 1h\nready-check-timeout = 1h\nready-check-failures = 0";
        let hangs = "ready-check = exec:echo > /run/scratch/asked; sleep 1000";
        let (link, _vassal) = Link::start(sandbox, &format!("{APP}\n{hangs}\n{patient}"));
        until("a check hangs", || sandbox.path("asked").exists());
        // The one that hangs is in nobody's way.
        link.reload(&format!("{APP}\n{CHECK}\n{patient}"));
        assert_eq!((link.next(news), link.next(news)), (FromVassal::Reloaded, READY));
        let quick = "ready-check-timeout = 100ms\nready-check-failures = 2";
        let check = "test -e /run/scratch/good || sleep 1000";
        link.reload(&format!("{APP}\nready-check = exec:{check}\n{quick}"));
        assert_eq!((link.next(news), link.next(news)), (FromVassal::Reloaded, READY));
        bad(sandbox);
        let expected =
            format!("ready-check: {check}: not done after 100 ms, 2 failures in a row (/a.ini:6:15)");
        assert_eq!(reason(&link), expected);
    });
}

#[test]
fn a_connection_tells_that_an_app_is_ready() {
    sandboxed(|sandbox| {
        fn kept<T: 'static>(socket: std::io::Result<T>) -> Box<dyn Any> {
            Box::new(socket.unwrap())
        }
        let listen = |address: &str| match address.strip_prefix('@') {
            Some(name) => kept(UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap())),
            None if address.starts_with('/') => kept(UnixListener::bind(address)),
            None => kept(TcpListener::bind(address)),
        };
        for (address, at) in [
            ("127.0.0.1:7001", "127.0.0.1:7001"),
            ("[::1]:7002", "[::1]:7002"),
            // As an app's own address is written.
            ("0.0.0.0:7003", "127.0.0.1:7003"),
            ("[::]:7004", "[::1]:7004"),
            ("/run/scratch/socket", "/run/scratch/socket"),
            ("@ours", "@ours"),
        ] {
            let lines = format!("{APP}\nready-check = tcp://{address}\nready-check-failures = 1");
            let (link, mut vassal) = Link::start(sandbox, &lines);
            link.wait_for(&FromVassal::Running);
            let listener = listen(at);
            if address.starts_with('/') {
                // Anybody may connect, as to a socket of the app's own.
                rustix::fs::chmod(address, rustix::fs::Mode::from_raw_mode(0o777)).unwrap();
            }
            assert_eq!(link.next(news), READY);
            drop(listener);
            let refused = format!("connect to {address}: Connection refused (ECONNREFUSED)");
            assert_eq!(reason(&link), format!("ready-check: {refused} (/a.ini:6:15)"));
            assert_eq!(vassal.wait(), 69);
        }
    });
}

#[test]
fn a_check_is_as_a_hook_of_the_user() {
    sandboxed(|sandbox| {
        let check = "{ id -un; pwd; echo $A; grep NoNewPrivs /proc/self/status; } > /run/scratch/who";
        for (more, privileges) in [("", 0), ("confine-hooks = true", 1)] {
            // Another one would write the file anew.
            let once = "ready-check-interval = 1h";
            let lines = format!("{APP}\nchdir = /var\nenv = A=b\nready-check = exec:{check}\n{once}\n{more}");
            let (link, _vassal) = Link::start(sandbox, &lines);
            assert_eq!(link.next(news), READY);
            let who = fs::read_to_string(sandbox.path("who")).unwrap();
            assert_eq!(who, format!("user001\n/var\nb\nNoNewPrivs:\t{privileges}\n"));
            fs::remove_file(sandbox.path("who")).unwrap();
        }
    });
}

#[test]
fn the_command_of_a_container_is_checked_as_well() {
    sandboxed(|sandbox| {
        good(sandbox);
        let mut command = sandbox.program("vassal-init");
        command.args(["--ready-check-interval", "20ms", "--ready-check", "exec:test -e /run/scratch/good"]);
        command.args(["--exec-accepting", "echo accepting", "--", "sleep", "1000"]);
        let mut vassal = sandbox.start("command", command);
        vassal.wait_for("accepting");
        bad(sandbox);
        assert_eq!(vassal.wait(), 69);
        let check = "ready-check: test -e /run/scratch/good: exited with status 1, 3 failures";
        vassal.wait_for(&format!("{check} in a row (command line)"));
    });
}

#[test]
fn a_slow_app_is_told_of_once_with_the_reason() {
    sandboxed(|sandbox| {
        let (_link, vassal) = Link::start(sandbox, &format!("{APP}\n{CHECK}"));
        let line = vassal.wait_for("the app is not ready ");
        assert!(line.contains(": exited with status 1: cat: /run/scratch/good: No such file"), "{line}");
        assert_eq!(vassal.lines("cat: ").len(), 1, "{}", vassal.log());
    });
}

#[test]
fn a_frozen_instance_loses_no_time_of_its_check() {
    sandboxed(|sandbox| {
        good(sandbox);
        let check = "test -e /run/scratch/good || { echo > /run/scratch/asked; sleep 1.2; }";
        let lines =
            format!("{APP}\nready-check = exec:{check}\nready-check-timeout = 2s\nready-check-failures = 1");
        let (link, mut vassal) = Link::start(sandbox, &lines);
        assert_eq!(link.next(news), READY);
        bad(sandbox);
        until("a slow check runs", || sandbox.path("asked").exists());
        let all: Vec<_> = process::all()
            .into_iter()
            .filter(|it| ["vassal-init", "sleep", "sh"].contains(&&*it.comm))
            .collect();
        all.iter().for_each(|it| process::signal(it.pid, Signal::STOP));
        until_passed(Instant::now(), Duration::from_secs(4));
        fs::remove_file(sandbox.path("asked")).unwrap();
        // PID 1 is the last one, as the time counts for it from then on.
        all.iter().rev().for_each(|it| process::signal(it.pid, Signal::CONT));
        until("the next check runs", || sandbox.path("asked").exists());
        assert!(vassal.is_running());
    });
}

#[test]
fn nothing_that_a_check_has_started_outlives_it() {
    sandboxed(|sandbox| {
        // In the group of the check, in a session of their own, and orphans.
        let start = "sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); \
                     (setsid sh -c \"trap : TERM; sleep 1000 & sleep 1000\" &); echo >> /run/scratch/checks";
        for (end, timeout) in [("true", "1h"), ("sleep 1000", "500ms")] {
            let _ = fs::remove_file(sandbox.path("checks"));
            let lines = format!(
                "{APP}\ncommand = tail -f /dev/null\nready-check = exec:{start}; {end}\n\
                 ready-check-timeout = {timeout}\nready-check-interval = 1h"
            );
            let (link, vassal) = Link::start(sandbox, &lines);
            if end != "true" {
                until("checks were killed", || lines_of(sandbox, "checks") > 2);
                // One may run just now.
                until("what they had started is gone", || process::named("sleep").len() <= 6);
            } else {
                assert_eq!(link.next(news), READY);
                assert_eq!(lines_of(sandbox, "checks"), 1);
                until("what it had started is gone", || process::named("sleep").is_empty());
            }
            link.send(&ToVassal::Stop);
            assert_eq!(link.next(news), FromVassal::Exiting(ExitReason::Stopped));
            assert_eq!(vassal.lines("processes are left"), [""; 0]);
        }
    });
}

#[test]
fn a_check_may_say_as_much_as_it_likes_and_no_memory_is_used_for_it() {
    sandboxed(|sandbox| {
        let check = "yes | head -c 100M; stat -Lc %%s /proc/self/fd/2 >> /run/scratch/kept; \
                     echo the end >&2; test -e /run/scratch/good";
        let lines = format!("{APP}\nready-check = exec:{check}\nready-check-timeout = 1h");
        let (link, vassal) = Link::start(sandbox, &lines);
        vassal.wait_for(": exited with status 1: the end; the app is not ready ");
        let kept = fs::read_to_string(sandbox.path("kept")).unwrap();
        assert!(!kept.is_empty() && kept.lines().all(|size| size == "0"), "{kept}");
        good(sandbox);
        assert_eq!(link.next(news), READY);
    });
}
