//! What a loss is put down to: the death of the daemon, if it was that, and never the death of another
//! process.

use std::fs;

use crate::common::tutorial::MOUNTED;
use crate::common::{Daemon, Sandbox, process, sandboxed};
use rustix::process::Signal;

/// A vassal over a zip whose app is a script; it goes on when it finds the file `go`. No question is due for
/// an hour.
fn over_zip(sandbox: &Sandbox, options: &str, app: &str) -> Daemon {
    sandbox.zip();
    let script = format!("{app}; exec sleep 1000");
    let app = sandbox.file("app.sh", &script);
    let mounted = MOUNTED.replace("mountpoint-check-interval = 50ms", "mountpoint-check-interval = 1h");
    let mounted = if options.contains("uid = ") { mounted.replace("uid = user001", "") } else { mounted };
    let lines = format!("{mounted}\n{options}\ncommand = sh {}", app.display());
    let vassal = sandbox.vassal_init("vassal", &lines);
    vassal.wait_for("app started");
    vassal
}

/// Waits for the file `go`, as a shell has it.
const GO: &str = "while ! [ -s /run/scratch/go ]; do sleep 0.01; done";

/// The pid of the daemon as the jail numbers it.
fn daemon() -> String {
    process::number_inside(process::only("fuse-zip").pid).to_string()
}

/// The one line that tells of the loss, once the vassal has ended.
fn loss(sandbox: &Sandbox, vassal: &mut Daemon) -> String {
    assert_eq!(vassal.wait(), 75, "{}", vassal.log());
    let lines = vassal.lines(" lost: ");
    assert_eq!(lines.len(), 1, "{lines:?}");
    let _ = fs::remove_file(sandbox.path("go"));
    fs::remove_file(sandbox.path("vassal.log")).unwrap();
    lines[0].clone()
}

#[test]
fn an_orphan_that_kills_the_daemon_is_not_taken_for_it() {
    sandboxed(|sandbox| {
        for _ in 0..5 {
            // It ends right after the daemon, and is reaped after it.
            let app = format!("(({GO}; kill -KILL $(cat /run/scratch/go)) &)");
            let mut vassal = over_zip(sandbox, "", &app);
            let pid = daemon();
            sandbox.file("go", &pid);
            let line = loss(sandbox, &mut vassal);
            assert!(
                line.contains(&format!(" after the daemon died (pid {pid}, killed by SIGKILL)")),
                "{line}"
            );
        }
    });
}

#[test]
fn an_orphan_that_unmounts_is_not_taken_for_the_daemon() {
    sandboxed(|sandbox| {
        for _ in 0..5 {
            // As root, who may unmount it.
            let app = format!("(({GO}; umount -l /app) &)");
            let mut vassal = over_zip(sandbox, "uid = root", &app);
            sandbox.file("go", "now");
            let line = loss(sandbox, &mut vassal);
            assert!(line.contains(" lost: no longer mounted; "), "{line}");
        }
    });
}

#[test]
fn an_app_with_many_orphans_does_not_hide_what_happened() {
    sandboxed(|sandbox| {
        let app = "(while :; do (: &); done) & :";
        let mut vassal = over_zip(sandbox, "", app);
        let pid = daemon();
        process::signal(process::only("fuse-zip").pid, Signal::SEGV);
        let line = loss(sandbox, &mut vassal);
        assert!(line.contains(&format!(" after the daemon died (pid {pid}, killed by SIGSEGV")), "{line}");

        let mut vassal = over_zip(sandbox, "", app);
        let init = process::only("vassal-probe").parent;
        process::enter(init, &["umount", "-l", "/app"]);
        let line = loss(sandbox, &mut vassal);
        assert!(line.contains(" lost: no longer mounted; "), "{line}");
    });
}

#[test]
fn where_the_daemon_is_not_known_a_death_is_not_called_its() {
    sandboxed(|sandbox| {
        // Nothing tells the prober which process has the connection open.
        let hidden = "exec-as-root = mount -t tmpfs none /proc";
        let mut vassal = over_zip(sandbox, hidden, ":");
        let pid = daemon();
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        let line = loss(sandbox, &mut vassal);
        assert!(
            line.contains(&format!(
                " after a process that a hook had left behind died (pid {pid}, killed by SIGKILL)"
            )),
            "{line}"
        );
        assert!(!line.contains("daemon died"), "{line}");
    });
}

#[test]
fn a_daemon_of_root_is_known_although_its_prober_may_not_look_at_it() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = "exec-as-root = fuse-zip -r -o allow_other /var/www/app001.zip /app\nuid = user001\n\
                     mountpoint-check = /app\ncommand = sleep 1000";
        let mut vassal = sandbox.vassal_init("vassal", lines);
        vassal.wait_for("app started");
        let pid = daemon();
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        let line = loss(sandbox, &mut vassal);
        assert!(line.contains(&format!(" after the daemon died (pid {pid}, killed by SIGKILL)")), "{line}");
    });
}
