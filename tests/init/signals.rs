//! What children inherit: exactly the signal mask and the dispositions that their starter had.

use std::fs;

use crate::common::process;
use crate::common::sandbox::VASSALS;
use crate::common::{Sandbox, run, sandboxed};

/// A starter: `env` with what it is to block and to ignore, and the bits that shows as (n-1 for signal n).
type Starter = (&'static [&'static str], u64, u64);

const STARTERS: [Starter; 5] = [
    (&["env"], 0, 0),
    (&["env", "--ignore-signal=PIPE"], 0, 1 << 12),
    (&["env", "--block-signal=INT"], 1 << 1, 0),
    (&["env", "--ignore-signal=CHLD"], 0, 1 << 16),
    (&["env", "--ignore-signal=PIPE,HUP", "--block-signal=INT,TERM,CHLD"], 0x1_4002, 1 << 12 | 1),
];

/// Of a log that holds /proc/PID/status: blocked, ignored and caught signals.
fn masks(log: &str) -> [u64; 3] {
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|name| {
        let line = log.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        u64::from_str_radix(line.trim(), 16).unwrap()
    })
}

const SHOW: &[&str] = &["cat", "/proc/self/status"];

/// What a starter hands on to a command: its own bits, and whatever the tests themselves were started with.
fn expected((wrapper, blocked, ignored): Starter, command: &[&str]) -> [u64; 3] {
    let handed_on = |command| masks(&run(wrapper[0], &[&wrapper[1..], command].concat()));
    let plain = handed_on(SHOW);
    assert_eq!((plain[0], plain[1] & 0x7fff_ffff), (blocked, ignored), "{wrapper:?} is no good starter");
    handed_on(command)
}

/// A vassal under each starter; its app, or a hook, is this command.
fn assert_handed_on(sandbox: &Sandbox, options: &[&str], lines: &str, command: &[&str]) {
    for (index, starter) in STARTERS.into_iter().enumerate() {
        let mut program = sandbox.wrapped(starter.0, "vassal-init");
        program.args(options).arg(sandbox.ini("vassal", lines));
        let mut vassal = sandbox.start(&format!("vassal-{index}"), program);
        assert_eq!(vassal.wait(), 0);
        assert_eq!(masks(&vassal.log()), expected(starter, command), "{starter:?}");
    }
}

#[test]
fn the_app_has_those_of_the_shell() {
    sandboxed(|sandbox| {
        assert_handed_on(sandbox, &["--unshare", "fs,pid"], "command = cat /proc/self/status", SHOW);
    });
}

#[test]
fn the_app_has_those_of_the_shell_without_namespaces() {
    sandboxed(|sandbox| assert_handed_on(sandbox, &[], "command = cat /proc/self/status", SHOW));
}

#[test]
fn a_hook_has_those_of_the_shell() {
    sandboxed(|sandbox| {
        // A hook's own shell may change some, as Debian's does with SIGCHLD.
        let lines = "exec-pre-app = exec cat /proc/self/status\ncommand = true";
        let command = ["/bin/sh", "-c", "exec cat /proc/self/status"];
        assert_handed_on(sandbox, &["--unshare", "fs,pid"], lines, &command);
    });
}

#[test]
fn the_app_has_those_of_the_emperors_starter() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sleep 1000\nstop-signal = QUIT");
        for (index, starter) in STARTERS.into_iter().enumerate() {
            let mut program = sandbox.wrapped(starter.0, "emperor");
            program.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
            let emperor = sandbox.start(&format!("emperor-{index}"), program);
            let app = process::only("sleep").pid;
            let status = fs::read_to_string(format!("/proc/{app}/status")).unwrap();
            assert_eq!(masks(&status), expected(starter, SHOW), "{starter:?}");
            emperor.stop();
        }
    });
}
