//! The tutorial's first example on real parts: served, destroyed with its filesystem, and served again.

use crate::common::process::{self, Handle};
use crate::common::sandbox::vassal_path;
use crate::common::tutorial::{get, sees_app_mounted, wait_for_page};
use crate::common::{ENDED, Sandbox, run, sandboxed};
use crate::recipes::user001;
use rustix::process::Signal;

#[test]
fn the_page_is_served_from_a_mount_that_nobody_else_sees() {
    sandboxed(|sandbox| serves_unseen(sandbox, "--make-rprivate"));
}

#[test]
fn the_mount_stays_inside_even_where_the_root_is_shared() {
    sandboxed(|sandbox| serves_unseen(sandbox, "--make-rshared"));
}

fn serves_unseen(sandbox: &Sandbox, propagation: &str) {
    run("mount", &[propagation, "/"]);
    sandbox.tutorial();
    let emperor = sandbox.emperor(&[]);
    wait_for_page();
    let init = emperor.wait_running(1, "app001");
    assert!(sees_app_mounted(init));
    assert!(!sees_app_mounted(std::process::id() as i32), "the vassal's mount is seen outside");
    let uid = user001();
    assert_ne!(uid, 0);
    // Its master and its worker.
    assert_eq!(process::named("uwsgi").iter().map(|process| process.uid).collect::<Vec<_>>(), [uid, uid]);
    assert_eq!(process::only("fuse-zip").uid, uid);
    assert_eq!(process::read(init).unwrap().comm, "vassal-init");
    emperor.stop();
    assert_eq!(get(), None);
}

#[test]
fn a_killed_filesystem_takes_the_instance_along_and_a_new_one_serves() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        wait_for_page();
        let mut named = 0;
        for round in 1..=3 {
            let init = emperor.wait_running(round, "app001");
            let app = process::named("uwsgi").into_iter().map(|process| process.pid);
            let instance: Vec<_> = app.chain([init]).map(Handle::of).collect();
            process::signal(process::only("fuse-zip").pid, Signal::KILL);
            instance.iter().for_each(Handle::wait);
            let line = emperor.wait_for_nth(round, "vassal-init[app001]: mountpoint /app lost");
            named += u32::from(names_daemons_death(&line));
            emperor.wait_for_nth(round, "emperor: app001: mountpoint /app lost: ");
            assert_ne!(emperor.wait_running(round + 1, "app001"), init);
            wait_for_page();
        }
        // On one processor that may be so each time.
        let is_single = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        assert!(named > 0 || is_single, "no death of a daemon is told: {}", emperor.log());
        emperor.stop();
    });
}

/// Path, cause and time: `mountpoint /app lost: ... (ENOTCONN), 0.4 ms after the daemon died (pid 3, killed
/// by SIGKILL)`. The line has no death, and `false` is returned, if the prober had its answer before the
/// daemon was dead as a whole.
fn names_daemons_death(line: &str) -> bool {
    let (_, rest) = line.split_once("mountpoint /app lost: ").expect(line);
    let (_, rest) = ENDED.iter().find_map(|why| rest.split_once(why)).expect(line);
    if rest.starts_with("; ") {
        return false;
    }
    let rest = rest.strip_prefix(", ").expect(line);
    let (time, rest) = rest.split_once(" ms after the daemon died (pid ").expect(line);
    assert!(time.parse::<f64>().is_ok(), "{line}");
    assert!(rest.contains("killed by SIGKILL"), "{line}");
    true
}

#[test]
fn a_lost_mountpoint_is_exit_status_75_from_a_shell() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let mut command = sandbox.program("vassal-init");
        command.args(["--unshare", "fs,pid"]).arg(vassal_path("app001"));
        let mut vassal = sandbox.start("vassal", command);
        wait_for_page();
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
        names_daemons_death(&vassal.wait_for("mountpoint /app lost"));
    });
}

#[test]
fn a_changed_file_restarts_uwsgi_in_the_same_jail() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let emperor = sandbox.emperor(&[]);
        wait_for_page();
        let init = emperor.wait_running(1, "app001");
        let daemon = process::only("fuse-zip").pid;
        run("touch", &[vassal_path("app001").to_str().unwrap()]);
        emperor.wait_for("emperor: app001: reloaded after ");
        wait_for_page();
        assert!(process::read(init).is_some(), "PID 1 stays");
        assert_eq!(process::only("fuse-zip").pid, daemon, "the mount stays");
        emperor.stop();
    });
}
