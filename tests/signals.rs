//! What children inherit: exactly the signal mask and the dispositions that their starter had.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // failing is a test's job

mod common;

use common::{Sandbox, run, sandboxed};

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

/// What a starter hands on: its own bits, and whatever the tests themselves were started with.
fn expected((wrapper, blocked, ignored): Starter) -> [u64; 3] {
    let masks = masks(&run(wrapper[0], &[&wrapper[1..], &["cat", "/proc/self/status"]].concat()));
    assert_eq!((masks[0], masks[1] & 0x7fff_ffff), (blocked, ignored), "{wrapper:?} is no good starter");
    masks
}

/// A vassal under each starter; its app, or a hook, prints /proc/self/status.
fn assert_inherited_from_all(sandbox: &Sandbox, options: &[&str], lines: &str) {
    for (index, starter) in STARTERS.into_iter().enumerate() {
        let mut command = sandbox.wrapped(starter.0, "vassal-init");
        command.args(options).arg(sandbox.ini("vassal", lines));
        let mut vassal = sandbox.start(&format!("vassal-{index}"), command);
        assert_eq!(vassal.wait(), 0);
        assert_eq!(masks(&vassal.log()), expected(starter), "{starter:?}");
    }
}

#[test]
fn the_app_has_those_of_the_shell() {
    sandboxed(|sandbox| {
        assert_inherited_from_all(sandbox, &["--unshare", "fs,pid"], "command = cat /proc/self/status");
    });
}

#[test]
fn the_app_has_those_of_the_shell_without_namespaces() {
    sandboxed(|sandbox| assert_inherited_from_all(sandbox, &[], "command = cat /proc/self/status"));
}

#[test]
fn a_hook_has_those_of_the_shell() {
    sandboxed(|sandbox| {
        // The shell that runs the hook becomes cat, and an interactive one alone would change signals.
        let lines = "exec-pre-app = exec cat /proc/self/status\ncommand = true";
        assert_inherited_from_all(sandbox, &["--unshare", "fs,pid"], lines);
    });
}

#[test]
fn the_app_has_those_of_the_emperors_starter() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sh -c 'cat /proc/self/status; exec sleep 1000'");
        for (index, starter) in STARTERS.into_iter().enumerate() {
            let mut command = sandbox.wrapped(starter.0, "emperor");
            command.args(["--emperor", common::sandbox::VASSALS, "--emperor-use-clone", "fs,pid"]);
            let emperor = sandbox.start(&format!("emperor-{index}"), command);
            emperor.wait_for("nonvoluntary_ctxt_switches");
            assert_eq!(masks(&emperor.log()), expected(starter), "{starter:?}");
            emperor.stop();
        }
    });
}
