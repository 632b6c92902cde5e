//! A shutdown that loses nothing: the app first, then the unmount, then the daemon's own time to write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::common::{Daemon, Sandbox, process, sandboxed, until};
use rustix::process::Signal;

/// Stands in for a daemon that commits on unmount: a real FUSE mount, whose companion sees it go, takes two
/// seconds, and then writes what it held. It has left its hook's process group, as daemons do.
const COMPANION: &str = r#"#!/bin/sh
while grep -q ' /app ' /proc/self/mountinfo; do sleep 0.05; done
echo "gone, app: $(cat /run/scratch/app)" >>/run/scratch/order
sleep 2
echo flushed >>/run/scratch/flushed
"#;

/// Ignores everything that can be ignored, the unmount first.
const STUBBORN: &str = "#!/bin/sh\ntrap 'echo got TERM >>/run/scratch/order' TERM INT HUP\n\
                        echo it is there\nwhile :; do sleep 0.05; done\n";

/// A vassal with the zip mounted by its user and a companion beside, its app started.
fn mounted(sandbox: &Sandbox, companion: &str, more: &str) -> Daemon {
    sandbox.zip();
    let path = sandbox.file("companion", companion);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let vassal = sandbox.vassal_init(
        "vassal",
        &format!(
            "uid = user001\nexec-as-user = fuse-zip -r /var/www/app001.zip /app\n\
             exec-as-user = setsid {} </dev/null &\nmountpoint-check = /app\n\
             command = sh -c 'trap \"sleep 0.3; echo ended >/run/scratch/app; exit 0\" TERM; cd /app; echo \
             ready; while :; do sleep 0.01; done'\n{more}",
            path.display()
        ),
    );
    vassal.wait_for("ready");
    vassal
}

const UNMOUNT: &str = "exec-as-user-atexit = fusermount -u /app";

#[test]
fn a_daemon_that_takes_two_seconds_to_flush_loses_nothing() {
    sandboxed(|sandbox| {
        let mut vassal = mounted(sandbox, COMPANION, UNMOUNT);
        let start = Instant::now();
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 0);
        let took = start.elapsed();
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
        // The app was over before its filesystem was.
        assert_eq!(fs::read_to_string("/run/scratch/order").unwrap(), "gone, app: ended\n");
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(9), "took {took:?}");
        assert_eq!(vassal.lines("SIGKILL"), [""; 0]);
        assert_eq!(vassal.lines("lost"), [""; 0], "the unmount was taken for a loss");
    });
}

#[test]
fn under_the_emperor_a_slow_flush_loses_nothing_either() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let path = sandbox.file("companion", COMPANION);
        sandbox.vassal(
            "app",
            &format!(
                "uid = user001\nexec-as-user = fuse-zip -r /var/www/app001.zip /app\n\
                 exec-as-user = setsid sh {} </dev/null &\nmountpoint-check = /app\n{UNMOUNT}\n\
                 command = sleep 1000",
                path.display()
            ),
        );
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        until("the companion", || process::named("companion").len() + process::named("sh").len() > 0);
        emperor.stop();
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
    });
}

/// The hooks that have started the daemon are not in the plan of a reload.
#[test]
fn after_a_reload_a_daemon_has_its_time_to_flush_as_well() {
    const FLUSHES: &str = "#!/bin/sh\ntrap 'sleep 3; echo flushed >>/run/scratch/flushed; exit 0' TERM\n\
                           echo it is there\n\
                           while :; do sleep 0.05; done\n";
    sandboxed(|sandbox| {
        let path = sandbox.file("companion", FLUSHES);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let hook = format!("exec-as-user = setsid {} </dev/null &", path.display());
        let lines = format!("uid = user001\nif-not-reload =\n{hook}\nendif =\ncommand = tail -f /dev/null");
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        process::signal(process::only("tail").parent, Signal::HUP);
        vassal.wait_for_nth(2, "app started");
        vassal.wait_for("it is there");
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 143);
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n", "{}", vassal.log());
    });
}

#[test]
fn an_app_that_ends_by_itself_is_followed_by_the_same_end() {
    sandboxed(|sandbox| {
        let app = "command = perl -e 'chdir q(/app); $| = 1; print qq(ready\\n); sleep 1000'";
        let mut vassal = mounted(sandbox, COMPANION, &format!("{UNMOUNT}\n{app}"));
        process::signal(process::only("perl").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 137);
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
    });
}

#[test]
fn what_the_app_leaves_in_the_mount_goes_before_the_unmount() {
    sandboxed(|sandbox| {
        // One goes at SIGTERM, one does not; both have a session of their own.
        let stays = "\\$SIG{TERM} = sub {}; \\$| = 1; print qq(ready\\n); sleep 1 while 1";
        let app = format!("command = sh -c 'cd /app; setsid sleep 1000 & setsid perl -e \"{stays}\" & wait'");
        let mut vassal = mounted(sandbox, COMPANION, &format!("{UNMOUNT}\nstop-signal = KILL\n{app}"));
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 137);
        vassal.wait_for("the app has left processes behind (2): SIGTERM");
        vassal.wait_for(": SIGKILL");
        vassal.wait_for("as-user-atexit #1: fusermount -u /app: done");
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
        assert_eq!(vassal.lines("busy"), [""; 0]);
    });
}

#[test]
fn a_daemon_that_ignores_everything_is_killed_when_its_time_is_up() {
    sandboxed(|sandbox| {
        let mut vassal = mounted(sandbox, STUBBORN, &format!("unmount-timeout = 3s\n{UNMOUNT}"));
        vassal.wait_for("it is there");
        let start = Instant::now();
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 0);
        let took = start.elapsed();
        // Its time once to leave by itself, once more after SIGTERM.
        assert!(took >= Duration::from_secs(6) && took < Duration::from_secs(14), "took {took:?}");
        assert_eq!(fs::read_to_string("/run/scratch/order").unwrap(), "got TERM\n");
        vassal.wait_for("processes are left 3.0 s after SIGTERM: SIGKILL");
    });
}

#[test]
fn a_failed_unmount_is_logged_and_the_end_comes_anyway() {
    sandboxed(|sandbox| {
        // Still in use: by a process that nobody asks before the unmount.
        let busy = "#!/bin/sh\ncd /app && exec sleep 1000\n";
        let mut vassal = mounted(sandbox, busy, &format!("unmount-timeout = 500ms\n{UNMOUNT}"));
        // The app sleeps again and again, in the same directory.
        until("it is there", || !process::with_argument("sleep", "1000").is_empty());
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 0);
        let line = vassal.wait_for("as-user-atexit #1: run fusermount -u /app: exited with status 1");
        assert!(line.ends_with("ignored"), "{line}");
    });
}

/// Takes longer after SIGTERM than an emperor waits for one that says nothing.
const SLOW: &str = "#!/bin/sh\ntrap 'sleep 6; echo flushed >/run/scratch/flushed; exit' TERM\n\
                    echo >/run/scratch/up\n\
    while :; do sleep 0.05; done\n";

#[test]
fn a_stop_during_the_setup_leaves_daemons_their_time_too() {
    sandboxed(|sandbox| {
        let path = sandbox.file("slow", SLOW);
        let daemon = format!("exec-as-root = setsid sh {} </dev/null &", path.display());
        sandbox.vassal("app", &format!("{daemon}\nexec-as-root = sleep 1000\ncommand = sleep 1000"));
        let emperor = sandbox.emperor(&[]);
        until("the daemon is up", || fs::exists("/run/scratch/up").unwrap());
        emperor.stop();
        assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
    });
}

#[test]
fn daemons_that_hooks_start_beside_the_app_are_not_the_apps() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let path = sandbox.file("companion", COMPANION);
        let companion = format!("setsid sh {} </dev/null", path.display());
        // One that is there only once the app runs, by a hook after it, and one whose starter is gone by
        // then.
        let late = "until [ -e /run/scratch/up ]; do sleep 0.02; done";
        for hook in [
            format!("exec-post-app = {companion} & echo started"),
            format!("exec-as-user = setsid sh -c '{late}; {companion} & echo started' </dev/null &"),
        ] {
            let mut vassal = sandbox.vassal_init(
                "vassal",
                &format!(
                    "uid = user001\nexec-as-user = fuse-zip -r /var/www/app001.zip /app\n{hook}\n{UNMOUNT}\n\
                     command = sh -c 'setsid sleep 1000 & echo >/run/scratch/up; echo ended \
                     >/run/scratch/app; wait'"
                ),
            );
            vassal.wait_for("started");
            until("the companion", || !process::with_argument("sh", "/run/scratch/companion").is_empty());
            until("the app has all it leaves", || sandbox.path("app").exists());
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 128 + 15);
            vassal.wait_for("the app has left processes behind (1): SIGTERM");
            assert_eq!(fs::read_to_string("/run/scratch/flushed").unwrap(), "flushed\n");
            for file in ["flushed", "order", "app", "up"] {
                fs::remove_file(sandbox.path(file)).unwrap();
            }
        }
    });
}

#[test]
fn an_exit_at_the_exit_skips_no_hook() {
    sandboxed(|sandbox| {
        let hooks = "hook-as-user-atexit = exit:3\nexec-as-user-atexit = echo the last hook";
        let mut vassal = sandbox.vassal_init("vassal", &format!("{hooks}\ncommand = sh -c 'exit 5'"));
        assert_eq!(vassal.wait(), 5);
        vassal.wait_for("as-user-atexit #1: exit:3: this is the end already, ignored");
        assert!(vassal.log().lines().any(|line| line == "the last hook"), "{}", vassal.log());
    });
}
