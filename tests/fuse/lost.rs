//! `mountpoint-lost`: what follows a loss but the end; and what the emperor can ask about the mountpoints.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cow::attempt;
use crate::common::faulty::{CHECKED, PATIENT};
use crate::common::link::Link;
use crate::common::process::{self, Handle};
use crate::common::tutorial::MOUNTED;
use crate::common::{Daemon, Sandbox, eventually, run, sandboxed, slowness, unmount, until, until_passed};
use crate::faults::cpu_time;
use rustix::process::Signal;
use vassal::protocol::{FromVassal, MountReport, MountState};

/// Says which pid it has, then reads the page whenever it can.
const APP: &str = "command = sh -c 'while :; do cat /app/page.html; sleep 0.1; done'";

fn remounting(sandbox: &Sandbox, more: &str) -> (Daemon, Handle) {
    sandbox.zip();
    let vassal = sandbox.vassal_init(
        "vassal",
        &format!(
            "if-not-reload =\n{MOUNTED}\nendif =\nuid = user001\nmountpoint-lost = remount\n{more}\n{APP}"
        ),
    );
    vassal.wait_for("app started");
    let init = Handle::of(process::only("vassal-probe").parent);
    (vassal, init)
}

fn served(vassal: &Daemon) -> usize {
    vassal.lines("Hello from inside").len()
}

#[test]
fn a_killed_daemon_is_replaced_and_the_app_restarted_in_the_same_instance() {
    sandboxed(|sandbox| {
        let (vassal, init) = remounting(sandbox, "");
        let (daemon, app) = (process::only("fuse-zip").pid, process::only("sh").pid);
        process::signal(daemon, Signal::KILL);
        vassal.wait_for("; running as-user again and restarting the app");
        vassal.wait_for("mounted again and running, ");
        assert!(process::only("fuse-zip").pid != daemon && process::only("sh").pid != app);
        let before = served(&vassal);
        until("the page again", || served(&vassal) > before);
        assert!(!init.is_gone());
        // The dead mount is gone, and not only covered.
        let init = process::only("vassal-probe").parent;
        let table = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        assert_eq!(table.matches(" /app ").count(), 1, "{table}");
        stop(vassal);
    });
}

fn stop(mut vassal: Daemon) {
    vassal.signal(Signal::TERM);
    assert_eq!(vassal.wait(), 143, "{}", vassal.log());
}

#[test]
fn a_stopped_daemon_is_replaced_too_and_not_left_behind() {
    sandboxed(|sandbox| {
        let (vassal, init) = remounting(sandbox, "mountpoint-check-timeout = 2s");
        process::signal(process::only("fuse-zip").pid, Signal::STOP);
        vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(2));
        vassal.wait_for("mounted again and running, ");
        until("the stopped one is gone", || process::named("fuse-zip").len() == 1);
        until("the prober that hung is gone", || process::named("vassal-probe").len() == 1);
        assert!(!init.is_gone());
        stop(vassal);
    });
}

/// A daemon hangs that is in a pid namespace of its own, where it has the number of a process of root's: it
/// is killed, and root's is not. `namespaces` are the vassal's; `lines` start the other process, if it is one
/// of the vassal's, and leave its number in a file.
fn has_only_itself_killed(sandbox: &Sandbox, namespaces: &str, lines: &str) {
    let faulty = sandbox.faulty();
    let daemon = faulty.command("/app", "pid=`cat /run/scratch/victim`");
    let lines = format!(
        "{lines}\nuid = user001\nexec-as-user = {daemon}\n{CHECKED}\n\
         mountpoint-lost = remount\nunmount-timeout = 1\ncommand = sleep 1000"
    );
    let mut command = sandbox.program("vassal-init");
    command.args(["--unshare", namespaces]).arg(sandbox.ini("vassal", &lines));
    let vassal = sandbox.start("vassal", command);
    vassal.wait_for("app started");
    let is_victim = |process: &process::Process| process.uid == 0;
    let victim = eventually("the victim", || process::named("sleep").into_iter().find(is_victim));
    let liar = process::only("faulty-fuse");
    let number = fs::read_to_string("/run/scratch/victim").unwrap();
    assert_eq!(process::number_inside(liar.pid).to_string(), number.trim(), "it tells no lie");
    let (victim, liar) = (Handle::of(victim.pid), Handle::of(liar.pid));
    faulty.behave("hold");
    vassal.wait_for("mountpoint /app lost: no answer for ");
    liar.wait();
    faulty.behave("");
    vassal.wait_for("mounted again and running, ");
    assert!(!victim.is_gone(), "a process of root was killed for a user");
    stop(vassal);
}

#[test]
fn a_daemon_that_calls_itself_by_the_number_of_a_process_of_root_has_only_itself_killed() {
    sandboxed(|sandbox| {
        let victim = "exec-as-root = sleep 1000 & echo $! > /run/scratch/victim";
        has_only_itself_killed(sandbox, "fs,pid", victim);
    });
}

#[test]
fn a_daemon_that_calls_itself_by_the_number_of_a_process_of_the_hosts_has_only_itself_killed() {
    sandboxed(|sandbox| {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let victim = sandbox.start("victim", command);
        sandbox.file("victim", &victim.pid().to_string());
        has_only_itself_killed(sandbox, "fs", "");
    });
}

#[test]
fn a_clean_unmount_is_undone_with_all_that_its_phase_had_mounted() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let second = sandbox.file("second", "");
        let lines = format!(
            "exec-asap = mkdir -p /run/b && chown user001 /run/b\nuid = user001\nif-not-reload =\n\
             exec-as-user = {}\n\
             exec-as-user = {}\nendif =\n{CHECKED}\n{PATIENT}\nmountpoint-check = /run/b\n\
             mountpoint-lost = remount\ncommand = sleep 1000",
            faulty.command("/app", ""),
            faulty.command_with("/run/b", "", &second)
        );
        let vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        process::enter(process::only("sleep").parent, &["umount", "/run/b"]);
        vassal.wait_for("mountpoint /run/b lost: no longer mounted");
        vassal.wait_for("mounted again and running, ");
        until("two daemons", || process::named("faulty-fuse").len() == 2);
        assert_eq!(vassal.lines(" lost: ").len(), 1, "the other mount counted as lost");
        stop(vassal);
    });
}

#[test]
fn what_root_had_mounted_is_mounted_by_root_again() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let lines = format!(
            "exec-as-root = {}\nuid = user001\n{CHECKED}\n{PATIENT}\nmountpoint-lost = remount\n\
             command = sleep 1000",
            faulty.command("/app", "direct")
        );
        let vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        vassal.wait_for("; running as-root again and restarting the app");
        vassal.wait_for("mounted again and running, ");
        stop(vassal);
    });
}

/// As where yama lets only its parents trace a process, and so only them have copies of its descriptors.
#[test]
fn a_stopped_daemon_is_not_left_behind_where_processes_may_not_be_traced() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let lines = format!(
            "exec-asap = mkdir -p /run/b && chown user001 /run/b\nuid = user001\nexec-as-user = {}\n\
             exec-as-user = {}\n{CHECKED}\nmountpoint-check = /run/b\nmountpoint-check-timeout = 2s\n\
             mountpoint-lost = remount\ncommand = sleep 1000",
            faulty.command("/app", ""),
            faulty.command("/run/b", "")
        );
        let inject = "inject=pidfd_getfd:error=EPERM";
        let strace = ["strace", "-fDqq", "-o", "/dev/null", "-e", "trace=pidfd_getfd", "-e", inject];
        let mut command = sandbox.wrapped(&strace, "vassal-init");
        command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &lines));
        let vassal = sandbox.start("vassal", command);
        vassal.wait_for("app started");
        is_not_left_behind(&vassal, "as-user");
        stop(vassal);
    });
}

/// One of two daemons is stopped: it is killed, the other ends by itself, and there are two new ones.
fn is_not_left_behind(vassal: &Daemon, phase: &str) {
    let daemons = process::named("faulty-fuse");
    assert_eq!(daemons.len(), 2);
    let handles: Vec<_> = daemons.iter().map(|daemon| Handle::of(daemon.pid)).collect();
    process::signal(daemons[0].pid, Signal::STOP);
    vassal.wait_for(&format!("; running {phase} again and restarting the app"));
    vassal.wait_for("mounted again and running, ");
    handles.iter().for_each(Handle::wait);
    assert_eq!(process::named("faulty-fuse").len(), 2);
}

/// Of two, so that not even a kernel that tells nothing of daemons lets one guess which it is.
#[test]
fn a_stopped_daemon_of_roots_is_not_left_behind_either() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let lines = format!(
            "exec-asap = mkdir -p /run/b\nexec-as-root = {}\nexec-as-root = {}\nuid = user001\n{CHECKED}\n\
             mountpoint-check = /run/b\nmountpoint-check-timeout = 2s\nmountpoint-lost = remount\n\
             command = sleep 1000",
            faulty.command("/app", ""),
            faulty.command("/run/b", "")
        );
        let vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        is_not_left_behind(&vassal, "as-root");
        stop(vassal);
    });
}

#[test]
fn a_filesystem_from_outside_is_not_unmounted_by_force() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        run("mkdir", &["/run/shared"]);
        run("sh", &["-c", &faulty.command("/run/shared", "direct")]);
        let lines = format!(
            "mount-as-root = none /run/shared /app bind\nuid = user001\n{CHECKED}\nmountpoint-lost = \
             remount\n\
             command = sleep 1000"
        );
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        faulty.behave("hold");
        vassal.wait_for(
            "/app: not mounted again: its filesystem is older than the first phase or the change of root",
        );
        faulty.behave("");
        assert_eq!(vassal.wait(), 75);
        assert_eq!(fs::read_to_string("/run/shared/file").unwrap(), "content\n");
        unmount("/run/shared");
    });
}

#[test]
fn a_mount_that_cannot_be_made_again_is_the_end() {
    sandboxed(|sandbox| {
        let (mut vassal, _) = remounting(sandbox, "");
        fs::remove_file("/var/www/app001.zip").unwrap();
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for(
            "; mounting again failed in as-user #1: run fuse-zip -r /var/www/app001.zip /app: \
            exited with status",
        );
    });
}

#[test]
fn a_mount_that_does_not_last_is_the_end() {
    sandboxed(|sandbox| {
        let (mut vassal, _) = remounting(sandbox, "");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        vassal.wait_for("mounted again and running, ");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for("/app: not mounted again: that was done less than 10.0 s ago");
    });
}

#[test]
fn what_nobody_here_has_mounted_is_not_mounted_again() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        run("sh", &["-c", &faulty.command("/app", "direct")]);
        let checked = format!("{CHECKED}\n{PATIENT}");
        let lines = format!("uid = user001\n{checked}\nmountpoint-lost = remount\ncommand = sleep 1000");
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for(
            "/app: not mounted again: its filesystem is older than the first phase or the change of root",
        );
        unmount("/app");
    });
}

#[test]
fn a_hook_runs_once_for_each_loss_and_the_app_goes_on() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let again = "fusermount3 -u -z /app; echo hook; fuse-zip -r /var/www/app001.zip /app";
        let vassal =
            sandbox.vassal_init("vassal", &format!("{MOUNTED}\nmountpoint-lost = hook:exec:{again}\n{APP}"));
        vassal.wait_for("app started");
        let app = process::only("sh").pid;
        for round in 1..=2 {
            process::signal(process::only("fuse-zip").pid, Signal::KILL);
            vassal.wait_for_nth(round, "the app goes on");
            vassal.wait_for_nth(round, "mountpoint /app is there, and answers");
            let before = served(&vassal);
            until("the page again", || served(&vassal) > before);
        }
        assert_eq!(vassal.lines("mountpoint /app lost: ").len(), 2);
        assert_eq!(vassal.log().lines().filter(|line| *line == "hook").count(), 2);
        assert_eq!(process::only("sh").pid, app);
        stop(vassal);
    });
}

#[test]
fn a_lost_mountpoint_that_stays_empty_costs_nothing() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = format!("{MOUNTED}\nmountpoint-lost = hook:log:seen\ncommand = sleep 1000");
        let vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        let init = process::only("sleep").parent;
        process::enter(init, &["umount", "/app"]);
        vassal.wait_for("log:seen: done");
        let (start, before) = (Instant::now(), cpu_time(init));
        until_passed(start, Duration::from_secs(1));
        let (time, took) = (start.elapsed(), cpu_time(init) - before);
        assert!(took < time * slowness() / 50, "{took:?} of {time:?}");
        stop(vassal);
    });
}

#[test]
fn a_hook_may_ask_for_the_end() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = format!("{MOUNTED}\nmountpoint-lost = hook:exit:9\ncommand = sleep 1000");
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 9);
    });
}

#[test]
fn pid_1_keeps_only_the_capabilities_that_the_policy_asks_for() {
    sandboxed(|sandbox| {
        sandbox.zip();
        for (policy, expected) in [
            ("destroy", "00000000000001e0"),
            ("hook:log:lost", "00000000000001e0"),
            // SYS_ADMIN and DAC_READ_SEARCH.
            ("remount", "00000000002001e4"),
        ] {
            let lines = format!("{MOUNTED}\nmountpoint-lost = {policy}\ncommand = sleep 1000");
            let vassal = sandbox.vassal_init("vassal", &lines);
            vassal.wait_for("app started");
            let init = process::only("vassal-probe").parent;
            let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
            let capabilities = status.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
            assert_eq!(capabilities, expected, "{policy}");
            stop(vassal);
        }
    });
}

#[test]
fn the_emperor_is_told_how_the_mountpoints_are() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let lines = format!(
            "uid = user001\nexec-as-user = {mount}\n{CHECKED}\n{PATIENT}\n\
             mountpoint-lost = hook:log:seen\ncommand = sleep 1000"
        );
        let (link, vassal) = Link::start(sandbox, &lines);
        link.wait_for(&FromVassal::Running);
        // In a pid namespace the first pid is PID 1's, and so on.
        let daemon = process::only("faulty-fuse");
        let inside = process::number_inside(daemon.pid);

        let has_all = |up: &MountReport| up.daemon == inside && up.round_trip.is_some();
        let up = eventually("a report with all in it", || Some(link.report()).filter(has_all));
        assert_eq!((up.path.as_path(), up.fs_type.as_str()), (Path::new("/app"), "fuse.faulty"));
        assert_eq!((up.state, up.lost), (MountState::Up, 0));
        assert!(up.round_trip.is_some_and(|took| !took.is_zero() && took.as_secs() < 10), "{up:?}");

        // One that is slow is waited for a little, and then told of as it was last.
        faulty.behave("slow 300");
        assert_eq!(link.report().state, MountState::Up);
        until("the slow answer", || link.report().round_trip.is_some_and(|took| took.as_millis() >= 300));

        faulty.behave("");
        process::signal(daemon.pid, Signal::KILL);
        vassal.wait_for("seen");
        // Its pid may be another's by now.
        let is_lost = |report: &MountReport| report.state == MountState::Lost && report.daemon == 0;
        let lost = eventually("the report of the loss", || Some(link.report()).filter(is_lost));
        assert_eq!(lost.lost, 1);
        assert!(!lost.last.is_empty(), "{lost:?}");
        drop(link);
        until("the vassal ends with its emperor", || process::named("vassal-init").is_empty());
    });
}

#[test]
fn a_frozen_instance_is_not_destroyed_when_it_goes_on() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let lines = format!(
            "uid = user001\nexec-as-user = {}\nmountpoint-check = /app\nmountpoint-check-interval = 1h\n\
             mountpoint-check-timeout = 12s\ncommand = sleep 1000",
            faulty.command("/app", "")
        );
        let (link, vassal) = Link::start(sandbox, &lines);
        link.wait_for(&FromVassal::Running);
        let init = process::only("vassal-probe").parent;
        faulty.behave("hold");
        link.report();
        until("the question is out", || faulty.holds_anything());
        process::signal(init, Signal::STOP);
        // All the time that a hung filesystem would have, and more than what comes on top of it.
        until_passed(Instant::now(), Duration::from_secs(16));
        process::signal(init, Signal::CONT);
        assert_eq!(link.report().state, MountState::Up, "{}", vassal.log());
        faulty.behave("");
        until("an answer", || link.report().state == MountState::Up && !faulty.holds_anything());
        assert_eq!(vassal.lines(" lost: "), [""; 0]);
        drop(link);
        until("the vassal ends with its emperor", || process::named("vassal-init").is_empty());
    });
}

#[test]
fn losses_are_counted_over_upgrades_of_the_emperor() {
    sandboxed(|sandbox| {
        sandbox.zip();
        sandbox.vassal("a", &format!("{MOUNTED}\n{APP}"));
        let emperor = sandbox.emperor(&[]);
        let instance = Handle::of(emperor.wait_running(1, "a"));
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        instance.wait();
        emperor.wait_running(2, "a");
        let run = |words: &[&str]| {
            let output = sandbox.program("emperor").args(words).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let is_told = || run(&["status"]).contains("; mountpoint /app lost 1 time\n");
        until("the loss", is_told);
        for round in 1..=2 {
            run(&["upgrade"]);
            emperor.wait_for_nth(round, "has taken over 1 vassal");
            assert!(is_told(), "{}", run(&["status"]));
            // A request that was under way is aborted, a later one finds nobody connected.
            let status = run(&["status", "--json"]);
            assert!(status.contains(r#""lost":1,"last":""#), "{status}");
        }
        emperor.stop();
    });
}

#[test]
fn emperor_status_shows_the_mountpoints_and_counts_losses_over_instances() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        sandbox.vassal("a", &format!("{MOUNTED}\n{APP}"));
        fs::remove_file("/etc/uwsgi/vassals/app001.ini").unwrap();
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "a");
        let status = |more: &[&str]| {
            let output = sandbox.program("emperor").arg("status").args(more).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let mountpoint = |text: &str| {
            let json = status(&["--json"]);
            json.split_once(r#""mountpoints":[{"#).is_some_and(|(_, mountpoint)| mountpoint.contains(text))
        };
        until("the mountpoint", || {
            mountpoint(r#""path":"/app","type":"fuse.fuse-zip","daemon":"#)
                && mountpoint(r#""state":"up","round_trip_us":"#)
                && mountpoint(r#""lost":0,"last":null"#)
        });
        until("one is up", || status(&[]).contains("  1 up  "));
        let instance = Handle::of(init);
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        instance.wait();
        emperor.wait_running(2, "a");
        until("the mountpoint of the second instance", || mountpoint(r#""state":"up","#));
        until("its losses", || mountpoint(r#""lost":1,"last":""#));
        until("its losses, in words", || status(&[]).contains("; mountpoint /app lost 1 time\n"));
        emperor.stop();
    });
}

/// A FUSE filesystem of the host's that is in use by everybody, and a user's directory whose name comes to
/// lead to it as soon as the user's own filesystem has stopped answering.
fn led_to_the_hosts(sandbox: &Sandbox, mut command: Command, lines: &str) {
    sandbox.zip();
    fs::create_dir_all("/run/host/app").unwrap();
    run("fuse-zip", &["-r", "-o", "allow_other", "/var/www/app001.zip", "/run/host/app"]);
    let hosts = process::only("fuse-zip").pid;
    run("install", &["-d", "-o", "user001", "/run/u", "/run/u/d", "/run/u/d/app"]);
    let lines = format!(
        "uid = user001\nexec-as-user = fuse-zip -r /var/www/app001.zip /run/u/d/app\n\
         mountpoint-check = /run/u/d/app\nmountpoint-check-interval = 50ms\n\
         mountpoint-check-timeout = 5s\n{lines}\ncommand = sleep 1000"
    );
    command.arg(sandbox.ini("vassal", &lines));
    let mut vassal = sandbox.start("vassal", command);
    vassal.wait_for("app started");
    let own = process::named("fuse-zip").into_iter().find(|daemon| daemon.pid != hosts).unwrap().pid;
    process::signal(own, Signal::STOP);
    // Else it would see the host's in time.
    until("the prober hangs", || process::waits_for_fuse(process::only("vassal-probe").pid));
    run("setpriv", &["--reuid=user001", "--clear-groups", "mv", "/run/u/d", "/run/u/d2"]);
    run("setpriv", &["--reuid=user001", "--clear-groups", "ln", "-s", "/run/host", "/run/u/d"]);
    vassal.wait_for("mountpoint /run/u/d/app lost: no answer for ");
    vassal.wait();
    assert!(fs::exists("/run/host/app/page.html").unwrap(), "the host's filesystem is gone");
    process::kill_if_there(own);
    let _ = attempt("umount", &["--lazy", "/run/u/d2/app"]);
    unmount("/run/host/app");
}

#[test]
fn a_loss_never_unmounts_what_a_users_directory_leads_to_by_then() {
    sandboxed(|sandbox| led_to_the_hosts(sandbox, sandbox.program("vassal-init"), ""));
}

#[test]
fn a_remount_never_aborts_the_connection_that_a_users_directory_leads_to_by_then() {
    sandboxed(|sandbox| {
        let mut command = sandbox.program("vassal-init");
        command.args(["--unshare", "fs,pid"]);
        led_to_the_hosts(sandbox, command, "mountpoint-lost = remount");
    });
}
