//! Everything that can go wrong with a FUSE filesystem, each fault with a real one.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::faulty::{CHECK_TIMEOUT, CHECKED, Faulty, PATIENT};
use crate::common::process::{self, Handle};
use crate::common::tutorial::MOUNTED;
use crate::common::{Daemon, Sandbox, run, sandboxed, until};
use rustix::process::Signal;

/// A vassal over the misbehaving filesystem, running; and the pid of its PID 1.
fn over_faulty(sandbox: &Sandbox, options: &str, more: &str) -> (Faulty, Daemon, i32) {
    let faulty = sandbox.faulty();
    let mount = faulty.command("/app", options);
    let lines = format!("uid = user001\nexec-as-user = {mount}\n{CHECKED}\n{more}\ncommand = sleep 1000");
    let vassal = sandbox.vassal_init("vassal", &lines);
    vassal.wait_for("app started");
    let init = process::only("vassal-probe").parent;
    (faulty, vassal, init)
}

/// Runs a command in the vassal's mount and pid namespaces as its user.
fn as_user(init: i32, command: &[&str]) -> std::process::Output {
    let user = run("id", &["-u", "user001"]);
    let target = init.to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &target, "--mount", "--pid", "--setuid", user.trim(), "--setgid", user.trim()]);
    nsenter.args(command).output().unwrap()
}

/// Waits for the end by a lost mountpoint; there is exactly one line that says so, and it has these words.
fn is_destroyed(vassal: &mut Daemon, words: &str) {
    assert_eq!(vassal.wait(), 75);
    let lost = vassal.lines(" lost: ");
    assert!(lost.len() == 1 && lost[0].contains(words), "'{words}' is not in {lost:?}");
}

#[test]
fn a_killed_daemon_is_found_by_its_death() {
    sandboxed(|sandbox| {
        for (signal, how) in
            [(Signal::KILL, "SIGKILL"), (Signal::SEGV, "SIGSEGV"), (Signal::ABORT, "SIGABRT")]
        {
            // No question is due for an hour.
            let (mut vassal, _) = over_zip(sandbox, "mountpoint-check-interval = 1h");
            process::signal(process::only("fuse-zip").pid, signal);
            is_destroyed(&mut vassal, &format!(", killed by {how})"));
            vassal.wait_for("mountpoint /app lost: ");
        }
    });
}

#[test]
fn a_dead_daemon_is_found_behind_the_attribute_cache() {
    sandboxed(|sandbox| {
        // The instance survives its loss here, so that the cache can be seen at work.
        let policy = format!("{PATIENT}\nmountpoint-lost = hook:log:noticed");
        let (_, vassal, init) = over_faulty(sandbox, "cache", &policy);
        assert!(as_user(init, &["stat", "/app"]).status.success());
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        vassal.wait_for("mountpoint /app lost: ");
        vassal.wait_for("noticed");
        assert!(as_user(init, &["stat", "/app"]).status.success(), "nothing was cached");
        vassal.signal(Signal::TERM);
        vassal.wait_for("stopped, ");
    });
}

#[test]
fn a_daemon_that_ends_by_itself_is_a_loss() {
    sandboxed(|sandbox| {
        let (faulty, mut vassal, _) = over_faulty(sandbox, "", PATIENT);
        faulty.behave("exit");
        is_destroyed(&mut vassal, "after the daemon died");
    });
}

#[test]
fn every_unmount_is_a_loss() {
    sandboxed(|sandbox| {
        for how in ["fusermount3 -u /app", "fusermount3 -u -z /app", "by the daemon"] {
            // Nothing asks by itself: the mount table gives it away.
            let (mut vassal, init) = over_zip(sandbox, "mountpoint-check-interval = 1h");
            match how {
                // fuse-zip unmounts before it ends.
                "by the daemon" => process::signal(process::only("fuse-zip").pid, Signal::TERM),
                // It may be killed with the instance, before it ends.
                command => drop(as_user(init, &command.split(' ').collect::<Vec<_>>())),
            }
            is_destroyed(&mut vassal, "mountpoint /app lost: no longer mounted");
        }
    });
}

/// A vassal over a zip.
fn over_zip(sandbox: &Sandbox, more: &str) -> (Daemon, i32) {
    sandbox.zip();
    let vassal = sandbox.vassal_init("vassal", &format!("{MOUNTED}\n{more}\ncommand = sleep 1000"));
    vassal.wait_for("app started");
    (vassal, process::only("vassal-probe").parent)
}

#[test]
fn a_daemon_that_keeps_its_answers_is_lost_and_pid_1_goes_on_meanwhile() {
    sandboxed(|sandbox| {
        for mode in ["hold", "hold-status"] {
            let app =
                "command = sh -c 'trap \"echo got USR1\" USR1; echo ready; while :; do sleep 0.05; done'";
            let faulty = sandbox.faulty();
            let lines = format!(
                "uid = user001\nexec-as-user = {}\n{CHECKED}\nmountpoint-check-timeout = 8s\n{app}",
                faulty.command("/app", "")
            );
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            vassal.wait_for("ready");
            let start = Instant::now();
            faulty.behave(mode);
            until("a probe that hangs", || process::waits_for_fuse(process::only("vassal-probe").pid));
            // Signals are passed on, and the app's children, which are orphans by then, do not stay zombies.
            let shell = process::named("sh")[0].clone();
            process::signal(shell.parent, Signal::USR1);
            vassal.wait_for("got USR1");
            assert_eq!(process::named("vassal-probe").len(), 1, "a second probe behind a hung one");
            assert!(start.elapsed() < Duration::from_secs(8), "too late to tell");
            is_destroyed(&mut vassal, "mountpoint /app lost: no answer for ");
            vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(8));
            // That nothing is left, in state D or else, is what every sandbox checks.
            until("no process is left", || process::named("faulty-fuse").is_empty());
        }
    });
}

#[test]
fn a_slow_daemon_is_not_destroyed() {
    sandboxed(|sandbox| {
        // More than the prober is patient for, which is three quarters of the timeout.
        let times = "mountpoint-check-timeout = 8s\nmountpoint-check-interval = 1s";
        let (faulty, mut vassal, _) = over_faulty(sandbox, "", times);
        faulty.behave("slow 6200");
        until("two questions are answered late", || faulty.answered_late() >= 2);
        assert!(vassal.is_running() && vassal.lines("lost").is_empty(), "{}", vassal.log());
        // And it is still watched.
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        is_destroyed(&mut vassal, "mountpoint /app lost: ");
    });
}

#[test]
fn a_machine_at_its_limit_destroys_nothing() {
    sandboxed(|sandbox| {
        let (mut vassal, _) = over_zip(sandbox, "mountpoint-check-interval = 1ms");
        let busy = ["4", "sh", "-c", "while :; do :; done"];
        let mut load: Vec<_> = (0..4).map(|_| Command::new("timeout").args(busy).spawn().unwrap()).collect();
        load.iter_mut().for_each(|load| assert_eq!(load.wait().unwrap().code(), Some(124)));
        assert!(vassal.is_running() && vassal.lines("lost").is_empty(), "{}", vassal.log());
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        is_destroyed(&mut vassal, "after the daemon died");
    });
}

#[test]
fn of_several_paths_the_reason_names_the_lost_one() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let second = sandbox.file("second", "");
        let lines = format!(
            "exec-as-root = mkdir -p /run/b && chown user001 /run/b\nuid = user001\n\
             exec-as-user = {}\nexec-as-user = {}\n{CHECKED}\n{PATIENT}\nmountpoint-check = /run/b\n\
             mountpoint-check = /\ncommand = sleep 1000",
            faulty.command("/app", ""),
            faulty.command_with("/run/b", "", &second)
        );
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        fs::write(&second, "exit").unwrap();
        is_destroyed(&mut vassal, "mountpoint /run/b lost: ");
    });
}

#[test]
fn filesystems_of_the_kernel_are_checked_by_identity() {
    sandboxed(|sandbox| {
        for dir in ["lower", "upper", "work", "place"] {
            fs::create_dir(sandbox.path(dir)).unwrap();
        }
        let overlay = "overlay overlay /run/scratch/place defaults \
                       lowerdir=/run/scratch/lower,upperdir=/run/scratch/upper,workdir=/run/scratch/work";
        // All three twice: unmounted, and covered.
        for mount in ["tmpfs tmpfs /run/scratch/place", overlay, "none /var/www /run/scratch/place bind"] {
            for (action, reason) in [
                ("umount /run/scratch/place", "no longer mounted"),
                ("mount -t tmpfs other /run/scratch/place", "replaced by another mount"),
            ] {
                let lines = format!(
                    "mount-as-root = {mount}\nuid = user001\nmountpoint-check = /run/scratch/place\n\
                     mountpoint-check-interval = 1h\ncommand = sleep 1000"
                );
                let mut vassal = sandbox.vassal_init("vassal", &lines);
                vassal.wait_for("app started");
                let init = process::only("vassal-probe").parent;
                process::enter(init, &action.split(' ').collect::<Vec<_>>());
                is_destroyed(&mut vassal, &format!("mountpoint /run/scratch/place lost: {reason}"));
            }
        }
    });
}

#[test]
fn a_filesystem_that_is_everybodys_and_hangs_is_lost_too() {
    sandboxed(|sandbox| {
        // As NFS would: mounted by root for all, with a server that is silent.
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "direct");
        let lines = format!("exec-as-root = {mount}\nuid = user001\n{CHECKED}\ncommand = sleep 1000");
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        faulty.behave("hold");
        is_destroyed(&mut vassal, "mountpoint /app lost: no answer for ");
        vassal.wait_for_time("mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
    });
}

/// Mounts and unmounts, for two seconds or more, and says how long.
const STORM: &str = "
import ctypes, time
libc = ctypes.CDLL(None)
start = time.monotonic()
count = 0
while time.monotonic() < start + 2 or count < 400:
    assert libc.mount(b'storm', b'/mnt', b'tmpfs', 0, None) == 0
    assert libc.umount2(b'/mnt', 0) == 0
    count += 2
    time.sleep(0.0005)
print(time.monotonic() - start)
";

/// The time that a process has spent on a CPU.
pub fn cpu_time(pid: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_storm_of_mounts_elsewhere_costs_next_to_nothing() {
    sandboxed(|sandbox| {
        let (mut vassal, init) = over_zip(sandbox, "");
        let probe = process::only("vassal-probe").pid;
        let before = [cpu_time(init), cpu_time(probe)];
        let target = init.to_string();
        let storm = run("nsenter", &["-t", &target, "-m", "/usr/bin/python3", "-c", STORM]);
        let storm = Duration::from_secs_f64(storm.trim().parse().unwrap());
        let [init_took, probe_took] = [cpu_time(init) - before[0], cpu_time(probe) - before[1]];
        // At most fifty looks a second. A tenth of a CPU would be ten times of what is measured.
        let took = init_took + probe_took;
        assert!(took < storm / 10, "{storm:?} cost {init_took:?} and {probe_took:?}");
        assert!(vassal.is_running() && vassal.lines("lost").is_empty());
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        is_destroyed(&mut vassal, "after the daemon died");
    });
}

#[test]
fn a_daemon_that_dies_during_the_start_is_a_loss() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let hook = "exec-pre-app = echo preparing; sleep 1000";
        let mut vassal = sandbox.vassal_init("vassal", &format!("{MOUNTED}\n{hook}\ncommand = echo never"));
        vassal.wait_for("preparing");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        is_destroyed(&mut vassal, "after the daemon died");
        assert_eq!(vassal.lines("app started"), [""; 0]);
    });
}

#[test]
fn a_daemon_that_dies_during_a_reload_is_a_loss() {
    sandboxed(|sandbox| {
        let app = "command = sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.01; done'";
        sandbox.zip();
        let ini =
            format!("if-not-reload =\n{MOUNTED}\nendif =\nuid = user001\n{app}\nmountpoint-check = /app");
        let mut vassal = sandbox.vassal_init("vassal", &ini.replacen("mountpoint-check = /app\n", "", 1));
        vassal.wait_for("ready");
        let init = process::only("vassal-probe").parent;
        process::signal(init, Signal::HUP);
        vassal.wait_for("reloading: ");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        is_destroyed(&mut vassal, "after the daemon died");
    });
}

#[test]
fn a_daemon_that_hangs_at_a_reload_gets_no_app() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let lines = format!(
            "uid = user001\nif-not-reload =\nexec-as-user = {mount}\nendif =\n{CHECKED}\n\
             mountpoint-check-timeout = 5s\ncommand = sleep 1000"
        );
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        let init = process::only("vassal-probe").parent;
        faulty.behave("hold-status");
        process::signal(init, Signal::HUP);
        is_destroyed(&mut vassal, "mountpoint /app lost: no answer for ");
        assert_eq!(vassal.lines("app started").len(), 1);
        assert_eq!(vassal.lines("mountpoint /app answers after ").len(), 1);
    });
}

#[test]
fn a_daemon_that_dies_or_hangs_during_the_stop_neither_wedges_it_nor_changes_the_reason() {
    sandboxed(|sandbox| {
        for signal in [Signal::KILL, Signal::STOP] {
            // The daemon is to die or to hang before the app is done with it.
            let app = "trap \"sleep 0.2; cat /app/page.html; exit 3\" TERM; echo ready; \
                       while :; do sleep 0.01; done";
            sandbox.zip();
            let lines = format!(
                "{MOUNTED}\nexec-as-user-atexit = fusermount3 -u -z /app\nstop-timeout = 500ms\n\
                 unmount-timeout = 500ms\ncommand = sh -c '{app}'"
            );
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            vassal.wait_for("ready");
            let instance = Handle::of(process::only("vassal-probe").parent);
            let daemon = process::only("fuse-zip").pid;
            let start = Instant::now();
            if signal == Signal::STOP {
                process::signal(daemon, signal);
            }
            vassal.signal(Signal::TERM);
            vassal.wait_for("stopping for ");
            if signal == Signal::KILL {
                // On a busy machine it may have ended with its mount.
                process::kill_if_there(daemon);
            }
            instance.wait();
            let status = vassal.wait();
            assert!(status == 3 || status == 137, "{signal:?}: {status}");
            assert_eq!(vassal.lines(" lost: "), [""; 0], "{signal:?}");
            assert!(start.elapsed() < Duration::from_secs(15), "{signal:?} took {:?}", start.elapsed());
        }
    });
}
