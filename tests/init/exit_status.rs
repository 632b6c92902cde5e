//! The exit status of `vassal-init`: the app's own, or what kept it from having one.

use crate::common::{Sandbox, process, sandboxed, until};
use rustix::process::Signal;

/// Lines below `[uwsgi]`, the exit status, and what must be in the log.
const CASES: &[(&str, i32, &str)] = &[
    ("command = true", 0, "app exited with status 0"),
    ("command = sh -c 'exit 42'", 42, "app exited with status 42"),
    ("command = sh -c 'exit 255'", 255, "app exited with status 255"),
    // 75 and 71 of the app's own are just that.
    ("command = sh -c 'exit 75'", 75, "app exited with status 75"),
    ("command = sh -c 'kill -KILL $$'", 137, "app killed by SIGKILL"),
    ("command = sh -c 'kill -SEGV $$'", 139, "app killed by SIGSEGV"),
    ("command = sh -c 'kill -TERM $$'", 143, "app killed by SIGTERM"),
    ("command = /etc/passwd", 126, "/etc/passwd: Permission denied (EACCES)"),
    ("command = /etc", 126, "/etc: Permission denied (EACCES)"),
    ("command = /nonexistent/app", 127, "/nonexistent/app: No such file or directory (ENOENT)"),
    ("command = no-such-program", 127, "no-such-program: No such file or directory (ENOENT)"),
    ("command = true\nmountpoint-check = app", 78, "vassal.ini:3:20: "),
    ("command = true\nexec-as-root = exit 3", 71, "as-root #1: run exit 3: exited with status 3"),
    (
        "command = true\nexec-pre-app = no-such-program",
        71,
        "pre-app #1: run no-such-program: exited with status 127",
    ),
    (
        "command = true\nhook-post-jail = chdir:/nonexistent",
        71,
        "post-jail #1: chdir /nonexistent: No such file",
    ),
    (
        "command = sleep 1000\nexec-post-app = kill -KILL $$",
        71,
        "post-app #1: run kill -KILL $$: killed by SIGKILL",
    ),
    (
        "command = sh -c 'exit 5'\nexec-as-user-atexit = exit 3",
        5,
        "as-user-atexit #1: run exit 3: exited with status 3",
    ),
];

#[test]
fn each_end_has_its_status() {
    sandboxed(|sandbox| assert_ends(sandbox, &["--unshare", "fs,pid"]));
}

#[test]
fn each_end_has_its_status_without_namespaces() {
    sandboxed(|sandbox| assert_ends(sandbox, &[]));
}

fn assert_ends(sandbox: &Sandbox, options: &[&str]) {
    for (index, (lines, status, line)) in CASES.iter().enumerate() {
        let mut command = sandbox.program("vassal-init");
        command.args(options).arg(sandbox.ini("vassal", lines));
        let mut vassal = sandbox.start(&format!("vassal-{index}"), command);
        assert_eq!(vassal.wait(), *status, "{lines}");
        assert_eq!(vassal.lines(line).len(), 1, "{lines}: not one line with '{line}'");
        let never_ran = [126, 127].contains(status);
        assert!(!never_ran || vassal.lines(" to the app").is_empty(), "{lines}: there is no app to signal");
    }
}

#[test]
fn a_vassal_that_is_killed_takes_everything_along() {
    sandboxed(|sandbox| {
        let lines = "exec-as-user = setsid sleep 1001 &\ncommand = sh -c 'setsid sleep 1000 & wait'";
        let mut vassal = sandbox.vassal_init("vassal", lines);
        until("both run", || process::named("sleep").len() == 2);
        vassal.signal(Signal::KILL);
        assert_eq!(vassal.wait(), 137);
        until("nobody is left", || process::named("sleep").is_empty());
    });
}
