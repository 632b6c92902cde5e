//! What children inherit: from a shell exactly the signal mask and the dispositions that it had, under an
//! emperor the defaults.

use std::fs;

use rustix::process::Signal;

use crate::common::command::Running;
use crate::common::process;
use crate::common::sandbox::VASSALS;
use crate::common::{Sandbox, eventually, run, sandboxed, until};

/// A starter: `env` with what it is to block and to ignore, and the bits that shows as (n-1 for signal n).
type Starter = (&'static [&'static str], u64, u64);

const STARTERS: [Starter; 5] = [
    (&["env"], 0, 0),
    (&["env", "--ignore-signal=PIPE"], 0, 1 << 12),
    (&["env", "--block-signal=INT"], 1 << 1, 0),
    (&["env", "--ignore-signal=CHLD"], 0, 1 << 16),
    (
        &["env", "--ignore-signal=PIPE,HUP,ILL", "--block-signal=INT,TERM,CHLD"],
        0x1_4002,
        1 << 12 | 1 << 3 | 1,
    ),
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
fn what_the_emperors_starter_ignored_or_blocked_is_not_ignored_by_apps_and_hooks() {
    sandboxed(|sandbox| {
        let mut lines = String::from("command = sleep 1000\nstop-signal = QUIT\n");
        lines += "exec-pre-app = exec cat /proc/self/status";
        sandbox.vassal("app", &lines);
        for (index, starter) in STARTERS.into_iter().enumerate() {
            let mut program = sandbox.wrapped(starter.0, "emperor");
            program.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
            program.args(["--exec-as-emperor", "exec cat /proc/self/status"]);
            let emperor = sandbox.start(&format!("emperor-{index}"), program);
            let app = process::only("sleep").pid;
            let status = fs::read_to_string(format!("/proc/{app}/status")).unwrap();
            until("the hooks have shown theirs", || emperor.lines("SigCgt:").len() == 2);
            let log = emperor.log();
            let (first, second) = (log.find("SigBlk:").unwrap(), log.rfind("SigBlk:").unwrap());
            for status in [&status, &log[first..], &log[second..]] {
                assert_eq!(masks(status), [0; 3], "{starter:?}");
            }
            emperor.stop();
        }
    });
}

/// A command on a mount that a hook makes, and makes again when it is lost: then the hook waits for the file
/// `go`.
fn on_a_mount(sandbox: &Sandbox) -> (Running, i32) {
    let place = sandbox.path("mount");
    fs::create_dir(&place).unwrap();
    let (place, dir) = (place.display(), sandbox.path(""));
    let dir = dir.display();
    let hook = format!(
        "mount -t tmpfs none {place}; if [ -e {dir}/first ]; then touch {dir}/again; \
         until [ -e {dir}/go ]; do sleep 0.01; done; fi; touch {dir}/first"
    );
    let script = format!(
        "trap 'echo WINCH >>{dir}/got' WINCH; trap 'exit 9' TERM; echo up >>{dir}/got; while :; do sleep \
         0.05; done"
    );
    let mut command = sandbox.wrapped(&["unshare", "--mount"], "vassal-init");
    let check = format!("{place}");
    command.args(["--exec-as-user", &hook, "--mountpoint-check", &check, "--mountpoint-lost", "remount"]);
    let running = Running::start(command.args(["--", "sh", "-c", &script]));
    let got = sandbox.path("got");
    until("the command runs", || fs::read_to_string(&got).is_ok_and(|text| text == "up\n"));
    let app = eventually("the command", || {
        process::named("sh").into_iter().find(|process| process.parent == running.pid())
    });
    process::enter(app.pid, &["umount", &check]);
    until("the hook runs again", || sandbox.path("again").exists());
    (running, app.pid)
}

#[test]
fn a_signal_while_a_lost_mount_is_made_anew_does_not_end_the_command() {
    sandboxed(|sandbox| {
        let (mut running, _) = on_a_mount(sandbox);
        // Some of them end a process that has no handler for them.
        for signal in [Signal::WINCH, Signal::CONT, Signal::URG, Signal::HUP, Signal::USR1, Signal::ALARM] {
            process::signal(running.pid(), signal);
        }
        sandbox.file("go", "");
        let got = sandbox.path("got");
        until("it runs again", || fs::read_to_string(&got).is_ok_and(|text| text == "up\nup\n"));
        process::signal(running.pid(), Signal::WINCH);
        until("it has its signals", || fs::read_to_string(&got).is_ok_and(|text| text.ends_with("WINCH\n")));
        process::signal(running.pid(), Signal::TERM);
        assert_eq!(running.wait(), 9);
    });
}

#[test]
fn a_request_to_stop_while_a_lost_mount_is_made_anew_is_one() {
    sandboxed(|sandbox| {
        for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
            let (mut running, _) = on_a_mount(sandbox);
            process::signal(running.pid(), signal);
            assert_eq!(running.wait(), 143, "{signal:?}");
            assert_eq!(fs::read_to_string(sandbox.path("got")).unwrap(), "up\n");
            for file in ["first", "again", "got"] {
                fs::remove_file(sandbox.path(file)).unwrap();
            }
            fs::remove_dir(sandbox.path("mount")).unwrap();
        }
    });
}

/// An init such as systemd is PID 1, as the inner PID 1 is in its own namespace.
#[test]
fn the_pid_1_outside_is_not_taken_for_the_one_inside() {
    sandboxed(|sandbox| {
        let program = sandbox.program("vassal-init");
        let script = sandbox.file(
            "init",
            &format!(
                "env --default-signal=INT,QUIT {} --unshare fs,pid -- \
                 sh -c 'echo up; exec sleep 1000' >$1 &\n\
                 until grep -q up $1; do sleep 0.01; done\n\
                 kill -$2 $!; wait $!; exit $?\n",
                program.get_program().display()
            ),
        );
        for (number, status) in [("TERM", 143), ("INT", 130), ("QUIT", 131), ("HUP", 129)] {
            let mut init = std::process::Command::new("unshare");
            init.args(["--pid", "--fork", "--mount-proc", "sh"]).arg(&script);
            init.arg(sandbox.path(number)).arg(number);
            let mut init = sandbox.start(&format!("init-{number}"), init);
            assert_eq!(init.wait(), status, "after SIG{number}");
        }
    });
}
