//! Time in which nothing ran: a frozen container or a paused machine costs no app its life when it goes on.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::command::init;
use crate::common::{process, sandboxed, until, until_passed};
use rustix::process::{Pid, Signal, kill_process};

/// Stops every process of the sandbox, and lets them go on after three times the deadline of a test. Some may
/// end meanwhile.
fn freeze(deadline: Duration) {
    let began = Instant::now();
    let all: Vec<_> = process::all().into_iter().filter(|process| !process.is_of_sandbox()).collect();
    let signal = |signal| {
        for process in &all {
            let _ = kill_process(Pid::from_raw(process.pid).unwrap(), signal);
        }
    };
    signal(Signal::STOP);
    until_passed(began, deadline * 3);
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
            freeze(Duration::from_secs(3));
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

#[test]
fn an_app_that_is_stopped_has_its_whole_time_beside_a_freeze() {
    sandboxed(|sandbox| {
        let app = "command = sh -c 'trap \"touch /run/scratch/asked; sleep 0.5; echo left; exit 3\" TERM; \
                   touch /run/scratch/ready; while :; do sleep 0.01; done'\nstop-timeout = 3";
        sandbox.vassal("app", app);
        let emperor = sandbox.emperor(&[]);
        until("the app is ready", || Path::new("/run/scratch/ready").exists());
        emperor.signal(Signal::TERM);
        until("it is asked", || Path::new("/run/scratch/asked").exists());
        freeze(Duration::from_secs(3));
        emperor.wait_for("emperor: all vassals stopped in ");
        assert_eq!(emperor.lines("SIGKILL"), [""; 0]);
        assert_eq!(emperor.lines("left").len(), 1);
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
        freeze(Duration::from_secs(2));
        assert_eq!(command.wait(), 0, "{}", command.log());
        assert!(Path::new("/run/scratch/left").exists(), "{}", command.log());
    });
}

#[test]
fn a_hook_has_its_whole_time_beside_a_freeze() {
    sandboxed(|sandbox| {
        // A time in which it has to run, not one that passes by itself.
        let hook = "touch /run/scratch/begun; perl -e 'select undef, undef, undef, 0.02 for 1..20'";
        let lines = format!("hook-timeout = 2s\nexec-as-root = {hook}\ncommand = sleep 1000");
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        until("the hook has begun", || Path::new("/run/scratch/begun").exists());
        freeze(Duration::from_secs(2));
        emperor.wait_running(1, "app");
        emperor.stop();
    });
}
