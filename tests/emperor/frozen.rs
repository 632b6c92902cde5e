//! Time in which nothing ran: a frozen container or a paused machine costs no app its life when it goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cgroups::{self, OutermostCgroup};
use crate::common::command::init;
use crate::common::{Sandbox, process, sandboxed, until, until_passed};
use rustix::process::{Pid, Signal, kill_process};

/// Stops every process of the sandbox, and lets them go on after that time. Some may end meanwhile.
fn freeze(time: Duration) {
    let began = Instant::now();
    let all: Vec<_> = process::all().into_iter().filter(|process| !process.is_of_sandbox()).collect();
    let signal = |signal| {
        for process in &all {
            let _ = kill_process(Pid::from_raw(process.pid).unwrap(), signal);
        }
    };
    signal(Signal::STOP);
    until_passed(began, time);
    // The supervisors go on first, which is worse for the others.
    signal(Signal::CONT);
}

#[test]
fn an_app_that_gives_heartbeats_outlives_a_freeze() {
    sandboxed(|sandbox| {
        let app = "perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
            pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); for (1..1000) { \
            send $s, \"WATCHDOG=1\\nSTATUS=turn $_\", 0, $to; select undef, undef, undef, 0.2 }'";
        sandbox.vassal("app", &format!("command = {app}"));
        let emperor =
            sandbox.emperor(&["--emperor-required-heartbeat", "3", "--control", "/run/scratch/control"]);
        emperor.wait_running(1, "app");
        let turn = || {
            let mut status = sandbox.program("emperor");
            status.args(["status", "app", "--control", "/run/scratch/control"]);
            let output = String::from_utf8(status.output().unwrap().stdout).unwrap();
            output.split("turn ").nth(1).map_or(0, |rest| {
                rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse::<u32>().unwrap()
            })
        };
        until("its heart beats", || turn() > 2);
        for _ in 0..2 {
            freeze(Duration::from_secs(9));
            let before = turn();
            until("its heart beats on", || turn() > before + 15);
        }
        assert_eq!(emperor.lines("heartbeat"), [""; 0]);
        assert_eq!(emperor.lines("emperor: app: started (pid ").len(), 1);
        // And it is still watched.
        process::signal(process::only("perl").pid, Signal::STOP);
        emperor.wait_for("emperor: app: killed: the app has given no heartbeat for 3.0 s; up ");
        emperor.stop();
    });
}

/// A vassal whose own cgroup is frozen, by writing this to that file of it, and runs on with that.
fn outlives_the_freezer(sandbox: &Sandbox, group: &Path, options: &[&str], more: &str, write: [&str; 3]) {
    sandbox.vassal("app", &format!("{BEAT}\n{more}"));
    let emperor = sandbox.emperor(&[&["--emperor-required-heartbeat", "2"], options].concat());
    emperor.wait_running(1, "app");
    let beats = || fs::metadata("/run/scratch/beats").map_or(0, |beats| beats.len());
    until("its heart beats", || beats() > 2);
    let [file, freeze, thaw] = write;
    let began = Instant::now();
    fs::write(group.join(file), freeze).unwrap();
    until_passed(began, Duration::from_secs(6));
    assert_eq!(emperor.lines("heartbeat"), [""; 0]);
    fs::write(group.join(file), thaw).unwrap();
    let before = beats();
    until("its heart beats on", || beats() > before + 15);
    assert_eq!(emperor.lines("heartbeat"), [""; 0]);
    assert_eq!(emperor.lines("emperor: app: started (pid ").len(), 1);
    // And it is still watched.
    process::signal(process::only("perl").pid, Signal::STOP);
    emperor.wait_for("emperor: app: killed: the app has given no heartbeat for 2.0 s; up ");
    emperor.stop();
    fs::remove_file("/run/scratch/beats").unwrap();
}

/// An app that gives heartbeats, and notes each.
const BEAT: &str = "command = perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
    pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); for (1..1000) { \
    send $s, \"WATCHDOG=1\", 0, $to; open my $f, \">>\", \"/run/scratch/beats\"; print $f 1; close $f; \
    select undef, undef, undef, 0.2 }'";

#[test]
fn an_app_that_is_frozen_by_its_own_cgroup_outlives_that() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "frozen");
        let options = ["--emperor-cgroup", group.to_str().unwrap()];
        outlives_the_freezer(sandbox, &group.join("v-app"), &options, "", ["cgroup.freeze", "1", "0"]);
        cgroups::remove(&group);
        let freezer = Path::new("/sys/fs/cgroup/freezer");
        if freezer.join("cgroup.procs").exists() {
            let group = cgroups::of_test(freezer, "frozen");
            let more = format!("cgroup = {}", group.display());
            outlives_the_freezer(sandbox, &group, &[], &more, ["freezer.state", "FROZEN", "THAWED"]);
            cgroups::remove(&group);
        }
    });
}

/// Otherwise it would hold what it was given until somebody thaws it, and could not even be killed.
#[test]
fn nothing_is_started_in_a_cgroup_that_is_frozen() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "freezer");
        sandbox.vassal("app", "command = sleep 1000");
        let emperor = sandbox.emperor(&["--emperor-cgroup", group.to_str().unwrap()]);
        let init = emperor.wait_running(1, "app");
        fs::write(group.join("cgroup.freeze"), "1").unwrap();
        process::signal(init, Signal::KILL);
        emperor.wait_for("emperor: app: waits: its cgroup is frozen");
        sandbox.vassal("new", "command = sleep 1000");
        emperor.wait_for("emperor: new: waits: its cgroup is frozen");
        let status = sandbox.program("emperor").args(["status", "--json"]).output().unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        assert_eq!(status.matches("waits: its cgroup is frozen").count(), 2, "{status}");
        assert!(process::named("vassal-init").is_empty());
        fs::write(group.join("cgroup.freeze"), "0").unwrap();
        emperor.wait_running(2, "app");
        emperor.wait_running(1, "new");
        emperor.stop();
        cgroups::remove(&group);
    });
}

/// What is created there does not even execute its program.
#[test]
fn a_cgroup_that_is_frozen_in_the_midst_of_a_start_stops_no_emperor() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "midst");
        let emperor = sandbox.emperor(&["--emperor-cgroup", group.to_str().unwrap()]);
        emperor.wait_for("watching ");
        sandbox.vassal("app", "command = sleep 1000");
        emperor.wait_running(1, "app");
        let pid = emperor.pid();
        let mut strace = Command::new("strace")
            .args(["-qq", "-o", sandbox.path("trace").to_str().unwrap(), "-e", "trace=clone3"])
            .args(["-e", "inject=clone3:delay_enter=10s", "-p", &pid.to_string()])
            .spawn()
            .unwrap();
        let traced = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        until("it is traced", || !traced().contains("\nTracerPid:\t0\n"));
        sandbox.vassal("new", "command = sleep 1000");
        // It is made when the cgroup above it was looked at.
        let new = group.join("v-new/cgroup.procs");
        until("it has a cgroup", || new.exists());
        fs::write(group.join("cgroup.freeze"), "1").unwrap();
        strace.kill().unwrap();
        strace.wait().unwrap();
        until("it is created", || fs::read_to_string(&new).is_ok_and(|all| !all.is_empty()));
        let mut status = sandbox.wrapped(&["timeout", "60"], "emperor");
        let status = String::from_utf8(status.arg("status").output().unwrap().stdout).unwrap();
        let thawed = fs::write(group.join("cgroup.freeze"), "0");
        assert!(status.contains("  starting  "), "{status}");
        thawed.unwrap();
        emperor.wait_running(1, "new");
        emperor.stop();
        cgroups::remove(&group);
    });
}

/// A second in which it has to run, not one that passes by itself.
const A_SECOND: &str = "perl -e \"select undef, undef, undef, 0.02 for 1..50\"";

/// Freezes beside a deadline of three seconds: some end before it, some after it, and some are repeated.
const FREEZES: [(u32, u64); 3] = [(1, 2000), (1, 3500), (12, 300)];

/// Freezes a number of times for so many milliseconds, with a tenth of a second between.
fn freezes((times, time): (u32, u64)) {
    for _ in 0..times {
        freeze(Duration::from_millis(time));
        until_passed(Instant::now(), Duration::from_millis(100));
    }
}

#[test]
fn an_app_that_is_stopped_has_its_whole_time_beside_a_freeze() {
    sandboxed(|sandbox| {
        for (index, freeze) in FREEZES.into_iter().enumerate() {
            let (ready, asked) = (format!("/run/scratch/ready{index}"), format!("/run/scratch/asked{index}"));
            let app = sandbox.file(
                &format!("app{index}"),
                &format!(
                    "trap 'touch {asked}; {A_SECOND}; echo left; exit 3' TERM\n\
                     touch {ready}; while :; do sleep 0.01; done"
                ),
            );
            sandbox.vassal("app", &format!("command = sh {}\nstop-timeout = 3", app.display()));
            let emperor = sandbox.emperor(&[]);
            until("the app is ready", || Path::new(&ready).exists());
            emperor.signal(Signal::TERM);
            until("it is asked", || Path::new(&asked).exists());
            freezes(freeze);
            emperor.wait_for("emperor: all vassals stopped in ");
            assert_eq!(emperor.lines("SIGKILL"), [""; 0], "{freeze:?}");
            assert_eq!(emperor.lines("left").len(), 1, "{freeze:?}");
        }
    });
}

#[test]
fn what_a_command_leaves_has_its_whole_grace_beside_a_freeze() {
    sandboxed(|sandbox| {
        let left = "trap \"touch /run/scratch/asked; sleep 0.5; touch /run/scratch/left; exit\" TERM; \
                    touch /run/scratch/ready; while :; do sleep 0.01; done";
        let script =
            format!("(setsid sh -c '{left}' &) ; until [ -e /run/scratch/ready ]; do sleep 0.01; done");
        let mut command = sandbox.start("init", init(sandbox, &["--grace", "2s", "--", "sh", "-c", &script]));
        until("it is asked", || Path::new("/run/scratch/asked").exists());
        freeze(Duration::from_secs(6));
        assert_eq!(command.wait(), 0, "{}", command.log());
        assert!(Path::new("/run/scratch/left").exists(), "{}", command.log());
    });
}

#[test]
fn a_hook_has_its_whole_time_beside_a_freeze() {
    sandboxed(|sandbox| {
        for (index, freeze) in FREEZES.into_iter().enumerate() {
            let begun = format!("/run/scratch/begun{index}");
            let hook = format!("touch {begun}; {A_SECOND}");
            let lines = format!("hook-timeout = 3s\nexec-as-root = {hook}\ncommand = sleep 1000");
            sandbox.vassal("app", &lines);
            let emperor = sandbox.emperor(&[]);
            until("the hook has begun", || Path::new(&begun).exists());
            freezes(freeze);
            emperor.wait_running(1, "app");
            assert_eq!(emperor.lines("emperor: app: started (pid ").len(), 1, "{freeze:?}");
            emperor.stop();
        }
    });
}
