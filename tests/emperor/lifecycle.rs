//! The emperor and its directory: what starts, restarts, stops, and what is left alone.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::{EMPEROR_INI, MOUNTED};
use crate::common::{Daemon, cow, eventually, run, sandboxed, unmount, until, until_passed};
use rustix::process::Signal;

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// A vassal that fails at each start. An app that exits may take longer than the second after which it is
/// started again at once.
pub const BROKEN: &str = "exec-asap = false\ncommand = sleep 1000";

/// How often a vassal was started.
fn starts(emperor: &Daemon, name: &str) -> usize {
    emperor.lines(&format!("emperor: {name}: started (pid ")).len()
}

/// What the emperor's own file says for every vassal: in its PID 1 first of all, and beside it.
#[test]
fn hooks_of_the_emperor_run_at_each_start_of_a_vassal() {
    sandboxed(|sandbox| {
        sandbox.vassal(
            "app",
            "exec-asap = echo second\nhook-as-vassal = exec:echo not this\ncommand = sleep 1000",
        );
        let emperor = sandbox.emperor(&[
            "--hook-as-vassal",
            "exec:echo first",
            "--mount-as-vassal",
            "tmpfs vassals /mnt",
            "--exec-as-emperor",
            "echo beside $UWSGI_VASSAL_NAME $UWSGI_VASSAL_PID",
            "--hook-as-emperor",
            "exec:exit 3",
        ]);
        let pid = emperor.wait_running(1, "app");
        let beside = emperor.wait_for("beside ");
        assert_eq!(beside, format!("beside app {pid}"));
        emperor.wait_for("exited with status 3");
        let log = emperor.log();
        assert!(log.find("first\n").unwrap() < log.find("second\n").unwrap(), "{log}");
        assert!(!log.lines().any(|line| line == "not this"), "{log}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        assert!(mounts.contains(" /mnt ") && !cow::mounts().contains(" - tmpfs vassals "), "{mounts}");
        // As often as it starts.
        process::signal(pid, Signal::KILL);
        emperor.wait_running(2, "app");
        emperor.wait_for_nth(2, "beside ");
        emperor.stop();
    });
}

#[test]
fn a_new_file_starts_a_touched_one_reloads_and_a_removed_one_stops() {
    sandboxed(|sandbox| {
        sandbox.vassal("early", STEADY);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for(&format!("emperor: version {}", env!("CARGO_PKG_VERSION")));
        emperor.wait_for(&format!(": watching {VASSALS}"));
        let early = emperor.wait_running(1, "early");
        let late = sandbox.vassal("late", STEADY);
        let first = emperor.wait_running(1, "late");
        assert_ne!(first, early);

        run("touch", &[late.to_str().unwrap()]);
        emperor.wait_for("vassal-init[late]: reloading: the app is restarted in the same jail");
        emperor.wait_for("emperor: late: reloaded after ");
        assert!(process::read(first).is_some(), "PID 1 stays");

        let gone = Handle::of(first);
        fs::remove_file(late).unwrap();
        gone.wait();
        emperor.wait_for("late: stopped; ");
        assert_eq!(process::named("sleep").len(), 1);

        sandbox.vassal("late", STEADY);
        emperor.wait_running(2, "late");
        assert_eq!(starts(&emperor, "early"), 1, "the other one was disturbed");
        assert!(process::read(early).is_some());
        emperor.stop();
    });
}

/// One SIGCHLD stands for all children that end before the emperor runs again.
#[test]
fn vassals_that_die_at_the_same_moment_all_come_back() {
    sandboxed(|sandbox| {
        let names = ["a", "b", "c", "d"];
        names.iter().for_each(|name| drop(sandbox.vassal(name, STEADY)));
        let emperor = sandbox.emperor(&[]);
        let inits = names.map(|name| emperor.wait_running(1, name));
        emperor.signal(Signal::STOP);
        for init in inits {
            let gone = Handle::of(init);
            process::signal(init, Signal::KILL);
            gone.wait();
        }
        emperor.signal(Signal::CONT);
        names.iter().for_each(|name| _ = emperor.wait_running(2, name));
        emperor.stop();
    });
}

#[test]
fn each_vassal_has_a_pid_1_of_its_own() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", STEADY);
        sandbox.vassal("b", STEADY);
        let emperor = sandbox.emperor(&[]);
        let inits = [emperor.wait_running(1, "a"), emperor.wait_running(1, "b")];
        let namespace = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        for kind in ["pid", "mnt"] {
            let own = namespace(inits[0], kind);
            assert_ne!(own, namespace(inits[1], kind));
            assert_ne!(own, fs::read_link(format!("/proc/self/ns/{kind}")).unwrap());
        }
        // What was not asked for is shared.
        assert_eq!(namespace(inits[0], "net"), fs::read_link("/proc/self/ns/net").unwrap());
        let status = fs::read_to_string(format!("/proc/{}/status", inits[0])).unwrap();
        let pids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
        assert!(pids.ends_with("\t1"), "{pids}");
        let line = fs::read(format!("/proc/{}/cmdline", inits[0])).unwrap();
        assert_eq!(line, b"vassal-init\0a\0");
        emperor.stop();
    });
}

#[test]
fn names_that_are_no_vassals_are_ignored() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        let names = [
            ".hidden.ini",
            "a.ini.swp",
            ".a.ini.swp",
            "a.ini~",
            "#a.ini#",
            "a.txt",
            "a.ini.bak",
            "ini",
            ".ini",
            "4913",
        ];
        let write =
            |name: &str| fs::write(format!("{VASSALS}/{name}"), format!("[uwsgi]\n{STEADY}\n")).unwrap();
        names[..5].iter().for_each(|name| write(name));
        let emperor = sandbox.emperor(&[]);
        names[5..].iter().for_each(|name| write(name));
        // By the time this one runs, the others have been seen.
        sandbox.vassal("real", STEADY);
        emperor.wait_running(1, "real");
        assert_eq!(emperor.lines(": started (pid ").len(), 1);
        // uWSGI's emperor runs hidden files.
        let ignored = emperor.lines("ignored");
        assert!(ignored.iter().all(|line| line.contains("hidden files are not read")), "{ignored:?}");
        let hidden = ignored.iter().filter(|line| line.contains("/.hidden.ini ")).count();
        assert_eq!((ignored.len(), hidden), (1, 1), "the others are not worth a line: {ignored:?}");
        emperor.stop();
    });
}

#[test]
fn a_half_written_file_is_started_once_when_it_is_complete() {
    sandboxed(|sandbox| {
        let emperor = sandbox.emperor(&[]);
        // It can tell only of what is written under its eyes.
        sandbox.vassal("early", STEADY);
        emperor.wait_running(1, "early");
        let mut tries = 0;
        // Who has not written for a second is not waited for, nor who has written for ten: then once more.
        let slow = eventually("a file that is written without a pause", || {
            tries += 1;
            let slow = format!("slow{tries}");
            let mut file = File::create(vassal_path(&slow)).unwrap();
            file.write_all(b"[uwsgi]\n#").unwrap();
            let begun = Instant::now();
            let (mut written, mut pause) = (begun, Duration::ZERO);
            for index in 0..4 {
                // While it is being written, the emperor looks several times: for each of these.
                let name = format!("other{tries}-{index}");
                sandbox.vassal(&name, STEADY);
                let runs = format!("emperor: {name}: running after ");
                until(&runs, || {
                    file.write_all(b"#").unwrap();
                    pause = pause.max(written.elapsed());
                    written = Instant::now();
                    !emperor.lines(&runs).is_empty()
                });
            }
            let early = starts(&emperor, &slow);
            file.write_all(b"\ncommand = sleep 1000\n").unwrap();
            drop(file);
            let is_steady = pause.max(written.elapsed()) < Duration::from_secs(1);
            (is_steady && begun.elapsed() < Duration::from_secs(10)).then(|| {
                assert_eq!(early, 0, "started half-written");
                slow
            })
        });
        emperor.wait_running(1, &slow);
        sandbox.vassal("last", STEADY);
        emperor.wait_running(1, "last");
        assert_eq!(starts(&emperor, &slow), 1);
        assert_eq!(emperor.lines(&format!("{slow}: file changed")), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn a_broken_vassal_backs_off_and_disturbs_nobody() {
    sandboxed(|sandbox| {
        sandbox.vassal("broken", BROKEN);
        sandbox.vassal("steady", STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "20", "--emperor-max-throttle", "100"]);
        let steady = emperor.wait_running(1, "steady");
        for (index, delay) in ["20 ms", "40 ms", "80 ms", "100 ms", "100 ms"].iter().enumerate() {
            let line = emperor.wait_for_nth(index + 1, "emperor: broken: setup failed in asap ");
            assert!(line.ends_with(&format!("next try in {delay}")), "try #{}: {line}", index + 1);
        }
        assert_eq!(starts(&emperor, "steady"), 1);
        assert_eq!(emperor.pid_of("steady"), steady);
        assert!(process::read(steady).is_some());
        emperor.stop();
    });
}

#[test]
fn editing_the_file_clears_the_backoff() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", BROKEN);
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "36000000"]);
        emperor.wait_for("next try in 3600.0 s");
        sandbox.vassal("app", BROKEN);
        // Not only at once, but the next delay is the first one again.
        emperor.wait_for_nth(2, "next try in 3600.0 s");
        sandbox.vassal("app", STEADY);
        emperor.wait_running(1, "app");
        emperor.stop();
    });
}

#[test]
fn urg_clears_the_backoff() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", BROKEN);
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "36000000"]);
        for round in 1..=3 {
            emperor.wait_for_nth(round, "next try in 3600.0 s");
            emperor.signal(Signal::URG);
        }
        emperor.wait_for_nth(4, "next try in 3600.0 s");
        emperor.stop();
    });
}

#[test]
fn a_crash_after_more_than_a_second_is_respawned_at_once() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        let first = emperor.wait_running(1, "app");
        sandbox.until_up(&[]);
        process::signal(process::only("sleep").pid, Signal::SEGV);
        let line = emperor.wait_for("emperor: app: app killed by SIGSEGV");
        assert!(line.ends_with("; respawning now"), "{line}");
        assert_ne!(emperor.wait_running(2, "app"), first);
        emperor.stop();
    });
}

#[test]
fn a_loss_is_taken_up_at_once_and_not_for_ever_if_it_follows_each_start() {
    sandboxed(|sandbox| {
        sandbox.zip();
        sandbox.vassal("app", &format!("{MOUNTED}\ncommand = sleep 1000"));
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "36000000"]);
        for round in 1..=5 {
            let next = if round < 5 { "; respawning now" } else { "; next try in 7200.0 s" };
            emperor.wait_running(round, "app");
            sandbox.until_up(&[]);
            process::signal(process::only("fuse-zip").pid, Signal::KILL);
            let line = emperor.wait_for_nth(round, "emperor: app: mountpoint /app lost: ");
            assert!(line.ends_with(next), "{line}");
        }
        emperor.stop();
    });
}

#[test]
fn a_killed_pid_1_is_replaced() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        let first = emperor.wait_running(1, "app");
        let app = Handle::of(process::only("sleep").pid);
        process::signal(first, Signal::KILL);
        app.wait();
        emperor.wait_for("emperor: app: vassal-init killed by SIGKILL without a reason; ");
        assert_ne!(emperor.wait_running(2, "app"), first);
        emperor.stop();
    });
}

#[test]
fn no_vassal_survives_a_killed_emperor() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        sandbox.vassal("steady", STEADY);
        // One that has signals to stop it ignored, and would take its time.
        sandbox.vassal(
            "stubborn",
            "stop-timeout = 100ms\ncommand = sh -c 'trap \"\" TERM INT HUP; while :; do sleep 0.01; done'",
        );
        let mut emperor = sandbox.emperor(&[]);
        for name in ["app001", "steady", "stubborn"] {
            emperor.wait_running(1, name);
        }
        emperor.signal(Signal::KILL);
        assert_eq!(emperor.wait(), 137);
        until("every process is gone", || process::all().iter().all(process::Process::is_of_sandbox));
    });
}

#[test]
fn no_vassal_survives_a_killed_emperor_by_being_stopped() {
    sandboxed(|sandbox| {
        for options in [
            &[][..],
            &["--emperor-use-clone", "fs"],
            &["--emperor-tyrant"],
            &["--emperor-tyrant", "--emperor-use-clone", "fs"],
        ] {
            let file = sandbox.vassal("app", STEADY);
            std::os::unix::fs::chown(&file, Some(4242), Some(4242)).unwrap();
            let mut emperor = sandbox.emperor(options);
            let init = emperor.wait_running(1, "app");
            process::signal(init, Signal::STOP);
            until("it is stopped", || process::read(init).is_some_and(|process| process.state == 'T'));
            emperor.signal(Signal::KILL);
            assert_eq!(emperor.wait(), 137);
            until(format_args!("every process is gone: {options:?}"), || {
                process::all().iter().all(process::Process::is_of_sandbox)
            });
        }
    });
}

#[test]
fn no_starting_vassal_survives_a_killed_emperor() {
    sandboxed(|sandbox| {
        sandbox.vassal("starting", "exec-as-root = sleep 1000\ncommand = true");
        let mut emperor = sandbox.emperor(&[]);
        process::only("sleep");
        emperor.signal(Signal::KILL);
        assert_eq!(emperor.wait(), 137);
        until("every process is gone", || process::all().iter().all(process::Process::is_of_sandbox));
    });
}

#[test]
fn term_int_and_quit_stop_all_in_parallel() {
    sandboxed(|sandbox| {
        for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            let app = "trap \"sleep 2; exit 0\" TERM; echo ready; while :; do sleep 0.01; done";
            sandbox.vassal(name, &format!("command = sh -c '{app}'"));
        }
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            let mut emperor = sandbox.emperor(&[]);
            until("all are ready", || emperor.log().lines().filter(|line| *line == "ready").count() == 10);
            let start = Instant::now();
            emperor.signal(signal);
            assert_eq!(emperor.wait(), 0);
            // Two seconds each; one after the other it would be twenty.
            let took = start.elapsed();
            assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(19), "{took:?}");
            assert!(process::named("vassal-init").is_empty(), "outlived the emperor's own end");
            until("no process is left", || process::all().iter().all(process::Process::is_of_sandbox));
        }
    });
}

#[test]
fn a_second_int_after_more_than_a_second_kills_at_once() {
    sandboxed(|sandbox| {
        let app = "trap \"\" TERM; echo ready; while :; do sleep 0.01; done";
        sandbox.vassal("app", &format!("stop-timeout = 60m\ncommand = sh -c '{app}'"));
        let mut emperor = sandbox.emperor(&[]);
        until("the app is ready", || emperor.log().lines().any(|line| line == "ready"));
        emperor.signal(Signal::INT);
        emperor.wait_for("SIGTERM to the app");
        // The second within which it would be the same request, by a clock that may stand still meanwhile.
        until("it is asked again", || {
            until_passed(Instant::now(), Duration::from_secs(1));
            emperor.signal(Signal::INT);
            !emperor.lines(": asked again, killing 1 vassal").is_empty()
        });
        assert_eq!(emperor.wait(), 0);
        emperor.wait_for_time("emperor: app: killed: not gone ", Duration::from_secs(1));
        assert!(process::named("vassal-init").is_empty());
        until("no process is left", || process::all().iter().all(process::Process::is_of_sandbox));
    });
}

#[test]
fn two_signals_at_once_are_one_request() {
    sandboxed(|sandbox| {
        let app = "trap \"sleep 0.3; echo in order; exit 0\" TERM; echo ready; while :; do sleep 0.01; done";
        sandbox.vassal("app", &format!("command = sh -c '{app}'"));
        // What comes a second later is another request: then once more.
        let emperor = eventually("three signals within a second", || {
            let mut emperor = sandbox.emperor(&[]);
            until("the app is ready", || emperor.log().lines().any(|line| line == "ready"));
            emperor.wait_running(1, "app");
            let asked = Instant::now();
            emperor.signal(Signal::TERM);
            emperor.signal(Signal::INT);
            emperor.wait_for("SIGTERM to the app");
            emperor.signal(Signal::TERM);
            let is_one = asked.elapsed() < Duration::from_secs(1);
            assert_eq!(emperor.wait(), 0);
            is_one.then_some(emperor)
        });
        assert_eq!(emperor.lines("in order").len(), 1, "the app was killed");
        assert_eq!(emperor.lines("killing"), [""; 0]);
        let log = emperor.log();
        let told: Vec<_> = log.lines().filter(|line| line.starts_with("emperor: SIG")).collect();
        assert!(matches!(&*told, [line] if line.ends_with(": stopping 1 vassal")), "{told:?}");
    });
}

#[test]
fn a_vassal_that_cannot_be_killed_does_not_keep_the_emperor() {
    sandboxed(|sandbox| {
        sandbox.vassal("stuck", STEADY);
        sandbox.vassal("good", STEADY);
        let mut emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "stuck");
        emperor.wait_running(1, "good");
        // A process in the vassal's pid namespace with a parent outside that does not reap it: the
        // namespace's PID 1 waits for it in the kernel, whatever signal it gets (pid_namespaces(7)).
        let mut command = Command::new("nsenter");
        command.args(["--target", &init.to_string(), "--pid", "sleep", "1001"]);
        let mut outsider = sandbox.start("outsider", command);
        until("the process in the namespace", || process::named("sleep").len() == 3);
        outsider.signal(Signal::STOP);
        let is_stopped = || process::read(outsider.pid()).is_some_and(|process| process.state == 'T');
        until("it is stopped", is_stopped);
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 1);
        let told = format!("emperor: stuck: pid {init} is stuck in the kernel: not gone ");
        emperor.wait_for_time(&told, Duration::from_secs(10));
        emperor.wait_for("emperor: good: stopped; ");
        let log = emperor.log();
        assert_eq!(log.lines().last(), Some("emperor: stop 1 vassal: killed, but stuck in the kernel"));
        assert!(process::read(init).is_some(), "it was not stuck at all");
        outsider.signal(Signal::CONT);
        outsider.wait();
    });
}

#[test]
fn a_vassal_that_takes_long_to_set_up_is_told_of_and_left_alone() {
    sandboxed(|sandbox| {
        sandbox.vassal(
            "slow",
            "exec-as-root = sh -c 'while ! [ -e /run/go ]; do sleep 0.1; done'\ncommand = sleep 1000",
        );
        let go = std::path::Path::new("/run/go");
        let _ = fs::remove_file(go);
        let emperor = sandbox.emperor(&[]);
        let line = emperor.wait_for("vassal-init[slow]: as-root: sh -c ");
        assert!(line.ends_with(": still running after 5.0 s; it is given 60.0 s"), "{line}");
        emperor.wait_for_time("emperor: slow: still setting up after ", Duration::from_secs(10));
        fs::write(go, "").unwrap();
        emperor.wait_running(1, "slow");
        fs::remove_file(go).unwrap();
        assert_eq!(emperor.lines("still setting up").len(), 1);
        emperor.stop();
    });
}

#[test]
fn vassals_do_not_read_the_standard_input_of_the_emperor() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sh -c 'cat; echo end of input; exec sleep 1000'");
        let input = sandbox.file("input", "not for vassals\n");
        let shell = format!("exec \"$@\" < {}", input.display());
        let mut command = sandbox.wrapped(&["sh", "-c", &shell, "sh"], "emperor");
        command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_for("end of input");
        assert_eq!(emperor.lines("not for vassals"), [""; 0]);
        emperor.stop();
    });
}

/// Forks twice into a session of its own, and has that daemon, and a child of it, accept on the socket too.
const DAEMON: &str = r#"
import os, signal, socket, sys, time
s = socket.socket(fileno=3)
def serve(who):
    while True:
        c = s.accept()[0]
        c.send(who.encode())
        c.close()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() > 0:
        os._exit(0)
    open("/proc/self/comm", "w").write("left")
    os.fork()
    serve("old")
os.wait()
print("left behind", flush=True)
os.execvp("sleep", ["sleep", "1000"])
"#;

#[test]
fn of_hundreds_of_processes_that_a_killed_pid_1_leaves_none_stays() {
    sandboxed(|sandbox| {
        // More than are looked at in one turn.
        sandbox.vassal("app", "command = sh -c 'for i in $(seq 400); do sleep 1000 & done; wait'");
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs"]);
        until("all are there", || process::named("sleep").len() == 400);
        let old: Vec<_> = process::named("sleep").iter().map(|process| Handle::of(process.pid)).collect();
        let init = emperor.wait_running(1, "app");
        process::signal(init, Signal::KILL);
        emperor.wait_for(&format!("emperor: app: killed what pid {init} has left"));
        assert!(old.iter().all(Handle::is_gone));
        emperor.stop();
    });
}

#[test]
fn what_a_killed_pid_1_leaves_ends_also_if_the_emperors_session_began_outside_its_pid_namespace() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sh -c 'setsid sleep 1001 & sleep 1002 & exec sleep 1000'");
        let mut emperor =
            sandbox.wrapped(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], "emperor");
        emperor.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-use-clone", "fs"]);
        let mut emperor = sandbox.start("emperor", emperor);
        emperor.wait_for("emperor: app: running after ");
        until("all are there", || process::named("sleep").len() == 3);
        let old: Vec<_> = process::named("sleep").iter().map(|process| Handle::of(process.pid)).collect();
        process::signal(process::only("vassal-init").pid, Signal::KILL);
        emperor.wait_for("emperor: app: killed what pid ");
        assert!(old.iter().all(Handle::is_gone));
        emperor.wait_for_nth(2, "emperor: app: running after ");
        process::signal(process::only("emperor").pid, Signal::TERM);
        assert_eq!(emperor.wait(), 0);
    });
}

/// Each process starts another one all the time, and ends; each of every other one has a session of its own.
const HOPPERS: &str = r#"
import os, time
for i in range(16):
    if os.fork() == 0:
        if i % 2:
            os.setsid()
        open("/proc/self/comm", "w").write("hopper")
        while os.fork() == 0:
            time.sleep(0.0005)
        os._exit(0)
print("all hop", flush=True)
time.sleep(1000)
"#;

#[test]
fn what_starts_others_faster_than_it_is_found_does_not_outlive_a_killed_pid_1() {
    sandboxed(|sandbox| {
        let program = sandbox.file("hoppers.py", HOPPERS);
        sandbox.vassal("app", &format!("command = python3 {}", program.display()));
        let mut emperor = sandbox.emperor(&["--emperor-use-clone", "fs"]);
        emperor.wait_for("all hop");
        let init = emperor.wait_running(1, "app");
        let file = vassal_path("app");
        fs::rename(&file, file.with_extension("off")).unwrap();
        process::signal(init, Signal::KILL);
        until("none is left", || process::named("hopper").is_empty());
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        assert_eq!(process::named("hopper").len(), 0);
    });
}

/// Not even SIGKILL ends who waits for an answer of a FUSE daemon that has read the question.
#[test]
fn what_is_below_a_process_that_cannot_be_killed_is_ended_and_that_is_said_and_ended_later() {
    sandboxed(|sandbox| {
        let (faulty, place) = (sandbox.faulty(), sandbox.path("mount").display().to_string());
        run("mkdir", &["-p", &place]);
        run("sh", &["-c", &faulty.command(&place, "direct")]);
        // Before the first answer nothing would be asked.
        fs::metadata(format!("{place}/file")).unwrap();
        let program = "import os, sys\nos.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '4444')\n\
            open('/proc/self/comm', 'w').write('stuck')\nwhile True:\n    open(sys.argv[1]).read()\n";
        let stuck = format!("python3 {} {place}/file", sandbox.file("stuck.py", program).display());
        let first = sandbox.path("first");
        fs::write(&first, "").unwrap();
        let script = format!("if rm {}; then {stuck} & wait; fi; exec sleep 1000", first.display());
        let script = sandbox.file("app.sh", &script);
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs"]);
        faulty.behave("hold");
        sandbox.vassal("app", &format!("command = sh {}", script.display()));
        until("it is stuck", || faulty.holds_the_app());
        until("it has a child", || running("4444") == 1);
        // The app may have come that far before the emperor hears that it runs.
        let init = emperor.wait_running(1, "app");
        process::signal(init, Signal::KILL);
        until("the child is ended", || running("4444") == 0);
        let left =
            format!("emperor: app: pid {init} has left processes that are not gone 2.0 s after SIGKILL:");
        emperor.wait_for(&left);
        emperor.wait_running(2, "app");
        faulty.behave("");
        emperor.wait_for(&format!("emperor: app: killed what pid {init} has left"));
        until("it is gone", || process::named("stuck").is_empty());
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        emperor.stop();
        unmount(&place);
    });
}

#[test]
fn without_a_pid_namespace_the_emperor_ends_what_a_killed_pid_1_has_left() {
    sandboxed(|sandbox| {
        let daemon = sandbox.file("daemon.py", DAEMON);
        let command = format!("command = python3 {}\nlisten = ", daemon.display());
        sandbox.vassal("app", &format!("uid = user001\n{command}/run/scratch/sock"));
        sandbox.vassal("other", &format!("{command}@other"));
        fs::write("/etc/uwsgi/emperor.ini", EMPEROR_INI).unwrap();
        // Of the same parent are what was there before, and what a command of as-emperor leaves.
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1111 & exec \"$@\"", "sh"]);
        command.arg(sandbox.program("emperor").get_program()).arg("/etc/uwsgi/emperor.ini");
        command.args(["--emperor-use-clone", "fs", "--exec-as-emperor", "setsid sleep 2222 & exit"]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "app");
        emperor.wait_for_nth(2, "left behind");
        until("both have daemons", || process::named("left").len() == 4);
        until("commands have left theirs", || process::named("sleep").len() == 5);

        // No server of the killed one may be beside the next one, at the same socket.
        let of_user = process::named("left").into_iter().filter(|process| process.uid != 0);
        let old: Vec<_> = of_user.map(|process| Handle::of(process.pid)).collect();
        assert_eq!(old.len(), 2);
        let init = emperor.pid_of("app");
        process::signal(init, Signal::KILL);
        emperor.wait_for_nth(2, "emperor: app: started (pid ");
        assert!(old.iter().all(Handle::is_gone));
        let killed = format!("emperor: app: killed what pid {init} has left");
        let log = emperor.log();
        assert!(log.find(&killed).unwrap() < log.rfind("emperor: app: started (pid ").unwrap(), "{log}");
        emperor.wait_for_nth(3, "left behind");
        until("both have daemons again", || process::named("left").len() == 4);
        for (argument, count) in [("1111", 1), ("2222", 3)] {
            until(format_args!("sleep {argument}"), || running(argument) == count);
        }

        // The same after an upgrade.
        emperor.signal(Signal::USR2);
        emperor.wait_for("has taken over 2 vassals");
        let init = emperor.pid_of("other");
        process::signal(init, Signal::KILL);
        emperor.wait_for(&format!("emperor: other: killed what pid {init} has left"));
        emperor.wait_for_nth(4, "left behind");
        until("both have daemons once more", || process::named("left").len() == 4);
        assert_eq!(emperor.lines("can outlive it"), [""; 0]);
        until("all commands have left theirs", || running("2222") == 4);
        for seconds in ["1111", "2222"] {
            process::with_argument("sleep", seconds).iter().for_each(|it| process::kill_if_there(it.pid));
        }
        emperor.stop();
    });
}

/// How many processes sleep for so long.
fn running(seconds: &str) -> usize {
    process::with_argument("sleep", seconds).len()
}

#[test]
fn hup_reloads_all_and_usr1_shows_all() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", STEADY);
        sandbox.vassal("b", BROKEN);
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        let a = emperor.wait_running(1, "a");
        emperor.wait_for("emperor: b: setup failed in asap ");
        emperor.signal(Signal::USR1);
        emperor.wait_for(&format!(", pid {a}, 0 restarts"));
        emperor.wait_for("emperor: b: backoff, next try in ");
        emperor.signal(Signal::HUP);
        emperor.wait_for("emperor: a: reloaded after ");
        assert!(process::read(a).is_some(), "PID 1 stays");
        emperor.wait_for_nth(2, "emperor: b: setup failed in asap ");
        emperor.stop();
    });
}

#[test]
fn a_directory_that_cannot_be_read_does_not_stop_its_vassals() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        let init = emperor.wait_running(1, "app");
        let away = format!("{VASSALS}.away");
        fs::rename(VASSALS, &away).unwrap();
        let line = emperor.wait_for("/etc/uwsgi/emperor.ini:2:11: emperor: ");
        assert!(line.contains("No such file or directory (ENOENT); keeping what runs"), "{line}");
        // Two more looks in vain make no more lines.
        process::wait_for_turns(emperor.pid(), 2);
        assert_eq!(emperor.lines("keeping what runs, next look in ").len(), 1);
        fs::rename(&away, VASSALS).unwrap();
        emperor.wait_for("/etc/uwsgi/vassals can be read again");
        sandbox.vassal("new", STEADY);
        emperor.wait_running(1, "new");
        assert_eq!(starts(&emperor, "app"), 1);
        assert!(process::read(init).is_some());
        emperor.stop();
    });
}

#[test]
fn who_writes_a_pattern_that_leads_to_directories_only_is_told_which_one_is_meant() {
    sandboxed(|sandbox| {
        for path in ["/run/t/eve", "/run/u/eve"] {
            fs::create_dir_all(path).unwrap();
            fs::write(format!("{path}/app.ini"), format!("[uwsgi]\n{STEADY}\n")).unwrap();
        }
        let emperor = sandbox.emperor(&["--emperor", "/run/t/*", "--emperor-freq", "1"]);
        let told = "/run/t/* leads to directories only: for the files in them write /run/t/*/*.ini";
        emperor.wait_for(told);
        process::wait_for_turns(emperor.pid(), 2);
        assert_eq!(emperor.lines(told).len(), 1);
        emperor.stop();
        let emperor = sandbox.emperor(&["--emperor", "/run/u/*/*.ini", "--emperor", "/run/u/eve/*"]);
        emperor.wait_running(1, "eve/app");
        assert!(emperor.lines("leads to directories only").is_empty());
        emperor.stop();
    });
}

#[test]
fn a_missing_directory_is_one_line_until_it_appears() {
    sandboxed(|sandbox| {
        let mut emperor = sandbox.emperor_alone(&["--emperor-freq", "1"]);
        let line = emperor.wait_for("No such file or directory (ENOENT)");
        assert!(line.starts_with(
            "emperor: /etc/uwsgi/emperor.ini:2:11: emperor: open directory /etc/uwsgi/vassals: "
        ));
        process::wait_for_turns(emperor.pid(), 2);
        assert!(emperor.is_running());
        let said = "who watches what, how many there may be, and that it is not there: that is enough";
        assert_eq!(emperor.lines("").len(), 3, "{said}");
        sandbox.vassal("app", STEADY);
        emperor.wait_running(1, "app");
        emperor.stop();
    });
}

#[test]
fn of_many_slow_starters_a_few_set_up_at_a_time_and_who_has_run_before_comes_first() {
    sandboxed(|sandbox| {
        sandbox.vassal("old", STEADY);
        let control = sandbox.path("control");
        let options = ["--emperor-max-starts", "2", "--emperor-throttle", "1", "--control"];
        let emperor = sandbox.emperor(&[&options[..], &[control.to_str().unwrap()]].concat());
        let old = emperor.wait_running(1, "old");
        sandbox.until_up(&["--control", control.to_str().unwrap()]);
        let go = sandbox.path("go");
        // They take the processor, as far as nobody else needs it: who only waits keeps nobody waiting.
        let spins = format!("exec nice -n 19 sh -c 'while ! test -e {}; do :; done'", go.display());
        let setup = format!("exec-asap = {spins}\n{STEADY}");
        let start = Instant::now();
        for number in 0..12 {
            sandbox.vassal(&format!("slow{number}"), &setup);
        }
        let status = || {
            let mut command = sandbox.program("emperor");
            String::from_utf8(command.arg("status").arg("--control").arg(&control).output().unwrap().stdout)
        };
        until("the others wait", || status().unwrap().contains("waits for its turn (emperor-max-starts)"));
        process::signal(old, Signal::KILL);
        emperor.wait_running(2, "old");
        let before = emperor.log();
        let before = &before[..before.rfind("emperor: old: started (pid ").unwrap()];
        assert!(
            before.matches(": started (pid ").count() < 1 + 12,
            "it had to wait for all others:\n{before}"
        );
        // None of them lets the others wait for longer than a second, nor for less unless it waits itself, as
        // for its program from a disk.
        emperor.wait_for_nth(2 + 12, ": started (pid ");
        let took = start.elapsed();
        assert!(took >= Duration::from_secs(1), "{took:?}");
        assert_eq!(emperor.lines("emperor: slow0: running"), [""; 0]);
        fs::write(&go, "").unwrap();
        for number in 0..12 {
            emperor.wait_running(1, &format!("slow{number}"));
        }
        assert!(!status().unwrap().contains("waits for its turn"));
        emperor.stop();
    });
}

/// systemd's watchdog takes an emperor that gives no heartbeat for one that hangs, and sends SIGABRT.
#[test]
fn an_emperor_that_the_watchdog_aborts_ends_at_once_and_its_vassals_end_in_order() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let mut emperor = sandbox.emperor(&["--emperor-use-clone", "fs,pid"]);
        emperor.wait_running(1, "app");
        emperor.signal(Signal::ABORT);
        assert_eq!(emperor.wait(), 128 + 6);
        emperor.wait_for("emperor: SIGABRT from pid ");
        emperor.wait_for("vassal-init[app]: stopped, ");
    });
}

#[test]
fn pid_1_keeps_no_copy_of_what_its_file_includes() {
    sandboxed(|sandbox| {
        let large = format!("[uwsgi]\n{}", "# What only who reads the file needs.\n".repeat(25_000));
        let includes = (0..4).map(|number| sandbox.file(&format!("{number}.inc"), &large));
        let includes: String = includes.map(|path| format!("include = {}\n", path.display())).collect();
        sandbox.vassal("app", &format!("{includes}{STEADY}"));
        fs::write("/etc/uwsgi/emperor.ini", EMPEROR_INI).unwrap();
        let mut command = sandbox.program("emperor");
        // The C library of a debug build would keep what is freed, to use it again.
        command.arg("/etc/uwsgi/emperor.ini").env("MALLOC_MMAP_THRESHOLD_", "65536");
        let emperor = sandbox.start("emperor", command);
        let init = emperor.wait_running(1, "app");
        let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        let kilobytes: usize = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        assert!(kilobytes < large.len() / 1024, "{kilobytes} kB");
        emperor.stop();
    });
}
