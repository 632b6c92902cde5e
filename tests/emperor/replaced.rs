//! Rolling reloads in trouble: files of other owners, apps that hang, and whatever comes while instances are
//! replaced.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::replicas::{
    Over, answers, answers_of, get_at, is_below, server, wait_for, while_connecting, while_losing,
};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::{self, MOUNTED};
use crate::common::{Daemon, Sandbox, eventually, process, run, sandboxed, until};
use rustix::process::Signal;

/// Writes a vassal's file of this owner in one step.
fn owned(sandbox: &Sandbox, (uid, gid): (u32, u32), lines: &str) {
    let draft = sandbox.file("draft", &format!("[uwsgi]\n{lines}\n"));
    chown(&draft, Some(uid), Some(gid)).unwrap();
    fs::create_dir_all(VASSALS).unwrap();
    let path = vassal_path("app");
    run("sh", &["-c", &format!("cp -p {} {1}.new; mv {1}.new {1}", draft.display(), path.display())]);
}

/// An emperor of tyrants, whose users may listen at each port.
fn tyrant(sandbox: &Sandbox, options: &[&str]) -> Daemon {
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
    sandbox.emperor(&[&["--emperor-tyrant", "--emperor-throttle", "1"], options].concat())
}

/// Waits until the instances with these numbers answer with the word, and no other instance is left.
fn only(replicas: &[u16], word: &str) {
    wait_for(replicas, word);
    until("the others are gone", || process::named("python3").len() == replicas.len());
}

/// Waits until so many instances answer, all with the word, and no other instance is left. Returns their
/// users.
fn any(count: usize, word: &str) -> Vec<u32> {
    until(format_args!("{count} with {word}"), || {
        let all = answers();
        all.len() == count && all.iter().all(|answer| answer.ends_with(&format!(" {word}")))
    });
    eventually("the others are gone", || {
        let all = process::named("python3");
        (all.len() == count).then(|| all.into_iter().map(|process| process.uid).collect())
    })
}

#[test]
fn the_replicas_of_a_user_are_replaced_without_a_lost_connection() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of other users") {
            return;
        }
        let lines = |word: &str| server(sandbox, word, "replicas = 2\nready-after = 50ms");
        let known = run("id", &["-u", "user001"]).trim().parse().unwrap();
        // Also of one who is not in the group of the file, as in a directory that gives its own to all files.
        for uid in [4242, known] {
            owned(sandbox, (uid, 4343), &lines("zero"));
            let emperor = tyrant(sandbox, &[]);
            only(&[1, 2], "zero");
            let count = while_connecting(|| {
                for word in ["one", "two", "three", "four"] {
                    owned(sandbox, (uid, 4343), &lines(word));
                    assert_eq!(any(2, word), [uid; 2]);
                }
            });
            // A new one beside each old one.
            assert!(count > 0 && emperor.lines(": takes over ").len() == 8, "{}", emperor.log());
            emperor.stop();
        }
    });
}

#[test]
fn the_lost_replica_of_a_user_comes_back_with_the_file_of_before() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of other users") {
            return;
        }
        let include = sandbox.file("more.inc", "[uwsgi]\nset-placeholder = word=one\n");
        let lines = format!("include = {}\nreplicas = 2\nready-after = 50ms", include.display());
        owned(sandbox, (4242, 4343), &server(sandbox, "%(word)", &lines));
        let emperor = tyrant(sandbox, &[]);
        only(&[1, 2], "one");
        sandbox.file("more.inc", "[uwsgi]\nset-placeholder = word=two\n");
        owned(sandbox, (4242, 4343), &server(sandbox, "%(word)", &format!("{lines}\nstop-signal = no")));
        emperor.wait_for("reload refused: ");
        for round in 1..=2 {
            process::signal(process::named("python3")[0].pid, Signal::KILL);
            emperor.wait_for_nth(round, "it was started with the file of before");
            assert_eq!(any(2, "one"), [4242; 2]);
        }
        // As another user's it is another file.
        owned(sandbox, (4244, 4343), &server(sandbox, "%(word)", &lines));
        assert_eq!(any(2, "two"), [4244; 2]);
        emperor.stop();
    });
}

#[test]
fn nobody_waits_for_the_end_of_a_trial_that_is_over() {
    sandboxed(|sandbox| {
        let lines = |word: &str, more: &str| {
            let rolls = "replicas = 2\nready-after = 50ms\nchmod-socket = 666";
            let lines = server(sandbox, word, &format!("{rolls}\n{more}"));
            lines.replacen("127.0.0.1:80", "/run/scratch/app.sock", 1)
        };
        sandbox.vassal("app", &lines("one", ""));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        // Each has its PID 1, and no process that waits.
        let are = |count: usize| process::named("vassal-init").len() == count;
        until("two replicas", || get_at("/run/scratch/app.sock").is_ok() && are(2));
        sandbox.vassal("app", &lines("bad", "ready-check = exec:false\nready-timeout = 1s"));
        emperor.wait_for("emperor: app/3: reload refused: ");
        until("it is gone", || are(2));
        sandbox.vassal("app", &lines("two", ""));
        emperor.wait_for_nth(2, "takes over");
        until("the new ones are left", || are(2));
        assert_eq!(emperor.lines("processes are left"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn a_file_of_another_owner_takes_all_replicas_along() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of other users") {
            return;
        }
        let path = "/run/scratch/open/app.sock";
        fs::create_dir("/run/scratch/open").unwrap();
        run("chmod", &["1777", "/run/scratch/open"]);
        let lines = |word: &str| {
            let also = format!("replicas = 2\nready-after = 50ms\nlisten = {path}\nchmod-socket = 666");
            server(sandbox, word, &also)
        };
        owned(sandbox, (4242, 4343), &lines("zero"));
        let emperor = tyrant(sandbox, &[]);
        only(&[1, 2], "zero");
        // Also where only the group is another one, and again the one of before.
        for (round, owner) in [(4242, 4444), (4243, 4343), (4242, 4343)].into_iter().enumerate() {
            let word = format!("round{round}");
            owned(sandbox, owner, &lines(&word));
            assert_eq!(any(2, &word), [owner.0; 2]);
            let there = fs::symlink_metadata(path).unwrap();
            assert_eq!((there.uid(), there.gid()), owner);
        }
        // While the emperor removes the file of the other owner's socket, the address may be taken.
        for wrong in ["takes over", "next try"] {
            assert_eq!(emperor.lines(wrong), [""; 0]);
        }
        emperor.stop();
    });
}

#[test]
fn an_owner_who_is_not_noticed_before_the_trial_costs_the_others_no_socket() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of other users") {
            return;
        }
        // Nobody watches the place that the link leads to.
        let file = |word: &str| {
            let lines = server(sandbox, word, "replicas = 2\nready-after = 50ms");
            sandbox.file("linked.ini", &format!("[uwsgi]\n{lines}\n"))
        };
        let target = file("one");
        chown(&target, Some(4242), Some(4343)).unwrap();
        fs::create_dir_all(VASSALS).unwrap();
        symlink(&target, vassal_path("app")).unwrap();
        let emperor = tyrant(sandbox, &["--emperor-freq", "1000"]);
        only(&[1, 2], "one");
        for (round, owner) in [(4242, 4444), (4243, 4444)].into_iter().enumerate() {
            chown(&target, Some(owner.0), Some(owner.1)).unwrap();
            let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
            assert_eq!(status, 0, "{text}");
            emperor.wait_for_nth(round + 1, "its file belongs to another owner now");
            assert_eq!(any(2, "one"), [owner.0; 2]);
        }
        emperor.stop();
    });
}

#[test]
fn replicas_that_share_a_failing_check_are_never_all_away() {
    sandboxed(|sandbox| {
        let good = sandbox.file("good", "");
        let check = "ready-check = exec:test -e /run/scratch/good\nready-check-interval = 20ms\n\
                     ready-check-failures = 2\nready-timeout = 500ms\nreplicas = 3";
        sandbox.vassal("app", &server(sandbox, "x", check));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_for_nth(3, "ready to accept requests");
        let inits = ["app/1", "app/2", "app/3"].map(|name| sandbox.pid_in_status(name));
        let count = while_connecting(|| {
            // What all of them need is away for long.
            fs::remove_file(&good).unwrap();
            emperor.wait_for_nth(3, "waits for its turn to be replaced");
            until("status tells", || {
                sandbox.control(&["status", "--json", "app"]).1.contains("\"not ready\"")
            });
            emperor.wait_for_nth(6, "running after");
            fs::write(&good, "").unwrap();
            emperor.wait_for_nth(6, "ready to accept requests");
        });
        assert!(count > 0);
        wait_for(&[1, 2, 3], "x");
        // One after the other.
        let log = emperor.log();
        let events = log.lines().filter_map(|line| match line {
            _ if line.contains("SIGTERM to the app") => Some("ends"),
            _ if line.contains("running after") => Some("runs"),
            _ => None,
        });
        assert_eq!(events.skip(3).collect::<Vec<_>>(), ["ends", "runs"].repeat(3));
        for (name, before) in ["app/1", "app/2", "app/3"].iter().zip(inits) {
            assert_ne!(sandbox.pid_in_status(name), before);
        }
        emperor.stop();
    });
}

#[test]
fn a_kept_socket_has_the_owner_and_mode_that_a_new_one_would_have() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users and groups") {
            return;
        }
        for (place, mode) in [("plain", "0777"), ("setgid", "2777")] {
            run(
                "sh",
                &["-c", &format!("cd /run/scratch; mkdir {place}; chgrp 4545 {place}; chmod {mode} {place}")],
            );
        }
        let file = |path: &str| {
            let there = fs::symlink_metadata(path).ok()?;
            Some((there.mode() & 0o7777, there.uid(), there.gid()))
        };
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        let mut round = 0;
        for place in ["plain", "setgid"] {
            for strategy in ["rolling", "recreate"] {
                let kept = format!("/run/scratch/{place}/{strategy}.sock");
                for lines in [
                    "uid = 4747\ngid = 4747",
                    "uid = 4747\ngid = 4848\nchmod-socket = 600",
                    "uid = 4848\ngid = 4848\nchmod-socket = 666",
                    "uid = 4848\ngid = 4848\nchown-socket = 4747:4949\nchmod-socket = 640",
                    "uid = 4848\ngid = 4848\nchown-socket = root\nchmod-socket = 640",
                    "uid = 4747\ngid = 4747\numask = 077",
                    "uid = root\ngid = 4848\numask = 027",
                ] {
                    round += 1;
                    let how = format!("{lines}\nreload-strategy = {strategy}\nready-after = 10ms");
                    let serves = |socket: &str| {
                        let word = format!("round{round}");
                        let lines = server(sandbox, &word, &how).replacen("127.0.0.1:80", socket, 1);
                        sandbox.vassal(if socket == kept { "kept" } else { "fresh" }, &lines);
                        until(format_args!("{socket} {round}"), || {
                            get_at(socket).is_ok_and(|answer| answer.ends_with(&word))
                        });
                    };
                    let fresh = format!("/run/scratch/{place}/fresh{round}.sock");
                    serves(&fresh);
                    serves(&kept);
                    let wanted = file(&fresh);
                    eventually(format_args!("{kept}: {wanted:?} by {lines}, not {:?}", file(&kept)), || {
                        (file(&kept) == wanted).then_some(())
                    });
                }
                fs::remove_file(vassal_path("kept")).unwrap();
            }
        }
        emperor.stop();
    });
}

#[test]
fn whatever_comes_while_instances_are_replaced_costs_no_connection() {
    sandboxed(|sandbox| {
        let lines = |word: &str| server(sandbox, word, "replicas = 2\nready-after = 50ms");
        sandbox.vassal("app", &lines("zero"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        only(&[1, 2], "zero");
        let count = while_connecting(|| {
            // The file changes faster than instances become ready.
            for n in 0..20 {
                sandbox.vassal("app", &lines(&format!("many{n}")));
                std::thread::sleep(Duration::from_millis(n * 5));
            }
            any(2, "many19");
            let begin = |n: usize, word: &str| {
                let started = emperor.lines(": started (pid").len();
                sandbox.vassal("app", &lines(word));
                emperor.wait_for_nth(started + n, ": started (pid");
            };
            for (n, word) in [(1, "hup-one"), (2, "hup-two")] {
                begin(n, word);
                emperor.signal(Signal::HUP);
                assert!(sandbox.status("app").contains("app/"));
                any(2, word);
            }
            for (n, word) in [(1, "upgrade-one"), (2, "upgrade-two")] {
                begin(n, word);
                assert_eq!(sandbox.control(&["upgrade", "--roll"]).0, 0);
                any(2, word);
            }
            for (n, word) in [(1, "roll-one"), (2, "roll-two")] {
                begin(n, word);
                assert_eq!(sandbox.control(&["roll"]).0, 0);
                any(2, word);
            }
        });
        assert!(count > 0);
        // A stop and a removal end all, also what is on trial.
        for word in ["stopped", "started"] {
            let started = emperor.lines(": started (pid").len();
            sandbox.vassal("app", &lines(word));
            emperor.wait_for_nth(started + 1, ": started (pid");
            assert_eq!(sandbox.control(&["stop", "--wait", "app"]).0, 0);
            until("all are gone", || process::named("vassal-init").is_empty());
            assert_eq!(sandbox.control(&["start", "--wait", "app"]).0, 0);
            any(2, word);
        }
        let started = emperor.lines(": started (pid").len();
        sandbox.vassal("app", &lines("removed"));
        emperor.wait_for_nth(started + 1, ": started (pid");
        fs::remove_file(vassal_path("app")).unwrap();
        until("all are gone", || process::named("vassal-init").is_empty());
        sandbox.vassal("app", &lines("back"));
        any(2, "back");
        emperor.stop();
    });
}

#[test]
fn new_instances_that_hang_fork_or_freeze_cost_no_connection() {
    sandboxed(|sandbox| {
        let rolls = "replicas = 2\nready-after = 50ms";
        sandbox.vassal("app", &server(sandbox, "good", rolls));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-stop-timeout", "3"]);
        only(&[1, 2], "good");
        // Else the first change would stop what does not run yet.
        emperor.wait_for_nth(2, "running after");
        let inits = ["app/1", "app/2"].map(|name| sandbox.pid_in_status(name));
        let fork = "sh -c 'trap \"\" TERM HUP INT; for i in 1 2 3 4 5; do setsid sleep 1000 & done; wait'";
        let never = "ready-check = exec:false";
        let count = while_connecting(|| {
            for (round, bad) in [
                format!("command = {fork}\n{never}\nstop-timeout = 500ms"),
                format!("exec-as-root = {fork}"),
                format!("command = sh -c 'kill -STOP $$'\n{never}"),
                // Its PID 1 stands still.
                format!("command = sleep 1000\n{never}\nenv = STANDS=still"),
            ]
            .iter()
            .enumerate()
            {
                // That one has to run, and to be stopped, before it is given up.
                let time = if bad.ends_with("still") { "5s" } else { "1s" };
                let lines = format!("{rolls}\nready-timeout = {time}\nlisten = 127.0.0.1:80\n{bad}");
                let lines =
                    if bad.contains("command") { lines } else { format!("{lines}\ncommand = sleep 1000") };
                let ran = emperor.lines("emperor: app/3: running").len();
                sandbox.vassal("app", &lines);
                if bad.ends_with("still") {
                    emperor.wait_for_nth(ran + 1, "emperor: app/3: running");
                    process::signal(emperor.pid_of("app/3"), Signal::STOP);
                }
                emperor.wait_for_nth(round + 1, "reload refused");
                until(format_args!("nothing is left of {bad}"), || process::named("sleep").is_empty());
                until("its PID 1 is gone", || process::named("vassal-init").len() == 2);
                assert_eq!(["app/1", "app/2"].map(|name| sandbox.pid_in_status(name)), inits);
            }
        });
        assert!(count > 0);
        // An old one that stands still does not keep the new ones from their place. It is killed with what is
        // in the hands of its app.
        let (answered, lost) = while_losing(|| {
            process::signal(inits[1], Signal::STOP);
            sandbox.vassal("app", &server(sandbox, "better", rolls));
            any(2, "better");
        });
        assert!(answered > 0 && lost <= 1, "{answered}, {lost}");
        emperor.stop();
    });
}

#[test]
fn the_number_of_replicas_changes_while_one_of_them_fails() {
    sandboxed(|sandbox| {
        // The second one fails at each start.
        let lines = |word: &str, replicas: &str| {
            let fails = "hook-as-root = exec:test %(replica) != 2";
            server(sandbox, word, &format!("replicas = {replicas}\nready-after = 50ms\n{fails}"))
        };
        sandbox.vassal("app", &lines("two", "2"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "60000", "--emperor-max-throttle", "60000"]);
        emperor.wait_for("emperor: app/2: setup failed in as-root");
        wait_for(&[1], "two");
        let count = while_connecting(|| {
            // What the emperor does not read as a number of replicas changes nothing.
            for (round, wrong) in ["0", "10000", "-1"].into_iter().enumerate() {
                sandbox.vassal("app", &lines("wrong", wrong));
                emperor.wait_for_nth(round + 1, "reload refused: ");
                let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
                assert!(status == 1 && text.contains("is not a number from 1 to 100"), "{text}");
                wait_for(&[1], "two");
            }
            // Up: those that work come, and the one that fails waits for its next try.
            let up = lines("four", "4").replace("hook-as-root", "hook-as-user");
            sandbox.vassal("app", &up.replace("!= 2", "!= 9"));
            assert_eq!(any(4, "four").len(), 4);
            // Down again, while one fails.
            sandbox.vassal("app", &lines("three", "3"));
            until("the new ones that work", || answers().iter().any(|answer| answer.ends_with(" three")));
            sandbox.vassal("app", &server(sandbox, "one", "replicas = 1\nready-after = 50ms"));
            assert_eq!(any(1, "one").len(), 1);
        });
        assert!(count > 0);
        // Its app is gone before the instance is.
        until("one is left", || sandbox.status("app").lines().count() == 2);
        emperor.stop();
    });
}

#[test]
fn a_new_instance_whose_mount_does_not_last_is_not_taken() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = |word: &str, more: &str| {
            let zip =
                "exec-as-user = fuse-zip -r /var/www/app001.zip /app\nuid = user001\nmountpoint-check = /app";
            let rolls = "reload-strategy = rolling\nready-after = 30s";
            server(sandbox, word, &format!("{zip}\n{rolls}\n{more}"))
        };
        sandbox.vassal("app", &lines("good", ""));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_running(1, "app");
        only(&[1], "good");
        let init = sandbox.pid_in_status("app/1");
        let (answered, lost) = while_losing(|| {
            sandbox.vassal(
                "app",
                &lines("bad", "exec-post-app = sh -c '(sleep 0.2; pkill fuse-zip) >/dev/null 2>&1 &'"),
            );
            emperor.wait_for("emperor: app/2: running");
            let refused = emperor.wait_for("emperor: app/2: reload refused: ");
            assert!(refused.contains("mountpoint /app lost"), "{refused}");
            assert_eq!(sandbox.pid_in_status("app/1"), init);
        });
        // The new one answers one at a time, and is killed.
        assert!(answered > 0 && lost <= 1, "{answered}, {lost}");
        assert_eq!(any(1, "good").len(), 1);
        emperor.stop();
    });
}

#[test]
fn real_uwsgi_that_loses_its_filesystem_has_nobody_refused() {
    sandboxed(|sandbox| {
        sandbox.zip();
        // Each answers at an address of its own, too, which is how it is known to be ready.
        let lines = "http-socket = 127.0.0.1:%(replica + 9100)\nhttp-socket = :9090\nplugin = psgi\n\
                     psgi = /app/myapp.pl\nreplicas = 2\n\
                     ready-check = exec:curl -fsS -o /dev/null http://127.0.0.1:%(replica + 9100)/";
        sandbox.vassal("app", &format!("{MOUNTED}\n{lines}"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_for_nth(2, "ready to accept requests");
        let (is_over, good, refused) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
        let rounds = 4;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        // An app answers with an error until the loss is noticed.
                        if tutorial::get().is_some_and(|page| page == tutorial::PAGE) {
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        if let Err(error) = TcpStream::connect(("127.0.0.1", 9090)) {
                            refused.lock().unwrap().push(error.to_string());
                        }
                    }
                });
            }
            let _over = Over(&is_over);
            for round in 0..rounds {
                let name = format!("app/{}", round % 2 + 1);
                let init = sandbox.pid_in_status(&name);
                let daemons = process::all().into_iter().filter(|process| process.comm == "fuse-zip");
                let daemon = daemons.map(|it| it.pid).find(|daemon| is_below(*daemon, init));
                process::signal(daemon.unwrap(), Signal::KILL);
                emperor.wait_for_nth(round + 1, "mountpoint /app lost");
                emperor.wait_for_nth(round + 3, "ready to accept requests");
            }
        });
        assert!(good.into_inner() > 0);
        assert_eq!(refused.into_inner().unwrap(), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn replicas_that_all_start_anew_find_their_other_sockets() {
    sandboxed(|sandbox| {
        let lines = |word: &str, port: u16| {
            let also = format!("replicas = 3\nreload-strategy = recreate\nlisten = 127.0.0.1:{port}");
            sandbox.vassal("app", &server(sandbox, word, &also));
        };
        lines("one", 8001);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        only(&[1, 2, 3], "one");
        for (word, port) in [("two", 8002), ("three", 8003)] {
            lines(word, port);
            assert_eq!(any(3, word).len(), 3);
        }
        for wrong in ["already in use", "next try"] {
            assert_eq!(emperor.lines(wrong), [""; 0]);
        }
        emperor.stop();
    });
}

#[test]
fn a_vassal_on_demand_is_replaced_and_renamed_without_a_lost_connection() {
    sandboxed(|sandbox| {
        let lines = |word: &str| {
            let lines = server(sandbox, word, "replicas = 2\nready-after = 50ms");
            lines.replacen("listen = 127.0.0.1:80\n", "", 1)
        };
        let on_demand = |name: &str| format!("{VASSALS}/{name}.ini.sock");
        sandbox.vassal("app", &lines("zero"));
        fs::write(on_demand("app"), "127.0.0.1:80\n").unwrap();
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-on-demand-extension", ".sock"]);
        emperor.wait_for("waiting for a connection");
        let count = while_connecting(|| {
            any(2, "zero");
            for word in ["one", "two", "three"] {
                sandbox.vassal("app", &lines(word));
                any(2, word);
            }
            // Under another name, while it is replaced.
            let started = emperor.lines(": started (pid").len();
            sandbox.vassal("app", &lines("four"));
            emperor.wait_for_nth(started + 1, ": started (pid");
            fs::rename(on_demand("app"), on_demand("other")).unwrap();
            fs::rename(vassal_path("app"), vassal_path("other")).unwrap();
            emperor.wait_for("its file was app");
            any(2, "four");
        });
        assert!(count > 0);
        emperor.stop();
    });
}

#[test]
fn of_many_that_change_at_once_some_at_a_time_are_replaced_first_come_first_served() {
    sandboxed(|sandbox| {
        let all = [("a", 2), ("b", 1), ("c", 1), ("d", 2), ("e", 1), ("f", 1)];
        let count: usize = all.iter().map(|(_, replicas)| replicas).sum();
        let write = |round: usize| {
            for (name, replicas) in all {
                let rolls = format!("reload-strategy = rolling\nready-after = 50ms\nreplicas = {replicas}");
                sandbox.vassal(name, &format!("command = sleep 1000\n{rolls}\nenv = ROUND={round}"));
            }
        };
        for limit in [1, 2] {
            write(0);
            let emperor = sandbox.emperor(&["--emperor-max-reloads", &limit.to_string()]);
            until("all run", || sandbox.control(&["status"]).1.matches(" running ").count() == count);
            let before = process::named("sleep");
            write(1);
            until("all are others", || {
                let now = process::named("sleep");
                let is_new = now.iter().all(|process| before.iter().all(|old| old.pid != process.pid));
                is_new && now.len() == count && emperor.lines("; not respawned").len() == count
            });
            let name =
                |line: &str| line.strip_prefix("emperor: ")?.split(['/', ':']).next().map(str::to_owned);
            let changed = emperor.lines(": file changed: starting with the new file beside the present one");
            let changed: Vec<_> = changed.iter().map(|line| name(line).unwrap()).collect();
            let log = emperor.log();
            let (_, log) = log.split_once(": file changed: ").unwrap();
            let (mut begun, mut under_way, mut most) = (Vec::new(), Vec::new(), 0);
            for line in log.lines() {
                let Some(name) = name(line) else { continue };
                if line.contains(": started (pid ") && !begun.contains(&name) {
                    let place = changed.iter().position(|other| *other == name).unwrap();
                    // Who reads the files of those whose turn it is may be done with the later one first.
                    assert!(place.abs_diff(begun.len()) < limit, "{begun:?}, {name}");
                    begun.push(name.clone());
                    let (_, replicas) = all.into_iter().find(|(other, _)| *other == name).unwrap();
                    under_way.push((name, replicas));
                    most = most.max(under_way.len());
                } else if line.contains("; not respawned") {
                    under_way.iter_mut().filter(|(other, _)| *other == name).for_each(|(_, left)| *left -= 1);
                    under_way.retain(|(_, left)| *left > 0);
                }
            }
            assert_eq!((begun.len(), under_way.len(), most), (all.len(), 0, limit));
            emperor.stop();
        }
    });
}

#[test]
fn an_instance_that_is_lost_after_a_refused_roll_and_an_upgrade_has_the_file_of_before() {
    sandboxed(|sandbox| {
        let include = sandbox.file("more.inc", "[uwsgi]\nset-placeholder = word=good\n");
        let allowed = sandbox.file("allowed", "");
        let lines = format!(
            "include = {}\nhook-as-root = exec:test -e {}\nreplicas = 2\nready-after = 50ms",
            include.display(),
            allowed.display()
        );
        sandbox.vassal("app", &server(sandbox, "%(word)", &lines));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        only(&[1, 2], "good");
        emperor.wait_for_nth(2, "running after");
        let count = while_connecting(|| {
            // The next program does not work, for whatever reason.
            fs::remove_file(&allowed).unwrap();
            assert_eq!(sandbox.control(&["roll"]).0, 0);
            let refused = emperor.wait_for(": roll refused: ");
            assert!(refused.contains("; still with the vassal-init of before: 2 instances"), "{refused}");
            only(&[1, 2], "good");
            sandbox.file("allowed", "");
            sandbox.file("more.inc", "[uwsgi]\nset-placeholder = word=bad\n");
            assert_eq!(sandbox.control(&["upgrade"]).0, 0);
            let detail = sandbox.control(&["status", "app"]).1;
            assert!(detail.contains("Roll refused: "), "{detail}");
            assert!(!detail.contains("Reload refused: ") && !detail.contains("Runs with: "), "{detail}");
        });
        assert!(count > 0);
        for round in 1..=2 {
            process::signal(process::named("python3")[0].pid, Signal::KILL);
            let why =
                "it was started with the file of before, as the roll was refused: setup failed in as-root";
            emperor.wait_for_nth(round, why);
            only(&[1, 2], "good");
        }
        assert_eq!(emperor.lines("as the reload was refused"), [""; 0]);
        // A roll that works takes all as it is.
        assert_eq!(sandbox.control(&["roll"]).0, 0);
        any(2, "bad");
        emperor.stop();
    });
}

#[test]
fn the_number_of_replicas_stays_what_it_was_while_a_reload_is_refused() {
    sandboxed(|sandbox| {
        let lines = |word: &str, replicas: u32, more: &str| {
            let rolls = format!("reload-strategy = rolling\nready-after = 50ms\nreplicas = {replicas}");
            server(sandbox, word, &format!("{rolls}\n{more}"))
        };
        sandbox.vassal("app", &lines("good", 2, ""));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        only(&[1, 2], "good");
        let (mut refused, mut lost, mut number) = (0, 0, 2);
        // A bad file that wants more, or fewer; an instance that is lost then; and another good file.
        for (bad, word, good) in [(4, "better", 3), (1, "best", 1), (3, "last", 2)] {
            // One that does not run yet would be stopped by the change.
            let is_running = || sandbox.status("app").matches(" running ").count() == number;
            until("all run", is_running);
            let before = answers_of(number);
            refused += 1;
            let count = while_connecting(|| {
                sandbox.vassal("app", &lines("bad", bad, "hook-as-root = exec:exit 3"));
                emperor.wait_for_nth(refused, ": reload refused: ");
                assert!(answers().is_subset(&before));
            });
            assert!(count > 0);
            lost += 1;
            process::signal(process::named("python3")[0].pid, Signal::KILL);
            emperor.wait_for_nth(lost, "it was started with the file of before");
            until("it is back", || answers() == before);
            assert_eq!(process::named("python3").len(), number);
            let count = while_connecting(|| {
                sandbox.vassal("app", &lines(word, good, ""));
                number = good as usize;
                any(number, word);
            });
            assert!(count > 0);
        }
        emperor.stop();
    });
}

#[test]
fn a_file_that_is_renamed_during_a_trial_starts_under_its_new_name_and_nobody_is_refused() {
    sandboxed(|sandbox| {
        let lines = |word: &str, more: &str| {
            server(sandbox, word, &format!("replicas = 2\nready-timeout = 60s\n{more}"))
        };
        sandbox.vassal("app", &lines("one", "ready-after = 50ms"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        only(&[1, 2], "one");
        emperor.wait_for_nth(2, "running after");
        let count = while_connecting(|| {
            sandbox.vassal("app", &lines("two", "ready-after = 50s"));
            emperor.wait_for("emperor: app/3: running after");
            fs::rename(vassal_path("app"), vassal_path("other")).unwrap();
            emperor.wait_for("emperor: other: its file was app.ini before");
            any(2, "two");
        });
        assert!(count > 0);
        assert!(sandbox.status("app").contains("there is no vassal"));
        assert_eq!(emperor.lines("reload refused"), [""; 0]);
        emperor.wait_for("emperor: other/2: running after");
        // What proved itself under the old name is not what the new one goes back to.
        sandbox.vassal("other", &lines("bad", "hook-as-root = exec:exit 3"));
        emperor.wait_for("emperor: other/3: reload refused: ");
        any(2, "two");
        emperor.stop();
    });
}

#[test]
fn one_whose_root_is_gone_comes_back_with_the_file_of_before_when_that_is_there() {
    sandboxed(|sandbox| {
        let root = "/run/scratch/root";
        fs::create_dir(root).unwrap();
        run("mount", &["--rbind", "/", root]);
        let unmount = || {
            let unmounts = || Command::new("umount").args(["-R", root]).status().unwrap().success();
            until("it is unmounted", unmounts);
        };
        let lines = "replicas = 2\nready-after = 50ms\nchroot = /run/scratch/root";
        sandbox.vassal("app", &format!("{lines}\ncommand = sleep 1000"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "100", "--emperor-max-throttle", "100"]);
        emperor.wait_for_nth(2, "running after");
        assert_eq!(sandbox.control(&["reload", "--wait", "app"]).0, 0);
        sandbox.vassal("app", &format!("{lines}\ncommand = sleep 2000\nhook-as-root = exec:exit 3"));
        emperor.wait_for(": reload refused: ");
        unmount();
        let kept = process::named("sleep");
        assert_eq!(kept.len(), 2);
        process::signal(kept[0].pid, Signal::KILL);
        emperor.wait_for("it was started with the file of before");
        let tries = "setup failed in";
        emperor.wait_for_nth(emperor.lines(tries).len() + 3, tries);
        let status = sandbox.status("app");
        assert!(status.contains("next start: with the file of before"), "{status}");
        // The other one goes on.
        assert!(process::named("sleep").iter().any(|process| process.pid == kept[1].pid));
        run("mount", &["--rbind", "/", root]);
        until("both run", || process::named("sleep").len() == 2);
        assert_eq!(emperor.lines("with the file whose reload was refused"), [""; 0]);
        emperor.stop();
        unmount();
    });
}
