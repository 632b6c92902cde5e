//! An instance that something in the kernel holds on to: the emperor frees it, at nobody else's cost.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::faulty::{self, CHECK_TIMEOUT, CHECKED};
use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Sandbox, sandboxed, slowness, unmount, until};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

/// Reads the file again and again, so that it is nearly always in the filesystem. It never asks for the
/// file's status, as cat would: such a question, held, is taken for the probe's.
const READER: &str = "command = sh -c 'while :; do read line </app/file; done'";

/// More than it takes until an instance is freed. Half a second of it is the time that the kernel gets first;
/// the next thing that the emperor tries comes after ten.
const FREED: Duration = Duration::from_secs(9);

/// The daemon, as a process of the sandbox that was started in the mount namespace of the instance but is
/// none of its processes.
fn enter_and_mount(init: i32, mount: &str) {
    let init = init.to_string();
    let mut words = vec!["--target", &init, "--mount"];
    words.extend(mount.split(' '));
    crate::common::run("nsenter", &words);
}

#[test]
fn a_daemon_outside_that_hangs_does_not_keep_the_instance() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        let faulty = sandbox.faulty();
        sandbox.vassal("a", &format!("uid = user001\n{CHECKED}\n{READER}"));
        let emperor = sandbox.emperor(&[]);
        let init = emperor.pid_of_started("a");
        enter_and_mount(init, &faulty.command("/app", "direct"));
        emperor.wait_running(1, "a");
        let instance = Handle::of(init);
        let daemon = process::only("faulty-fuse").pid;
        faulty.behave("hold");
        until("the app hangs", || faulty.holds_the_app());
        // On a busy machine the hanging app may have been noticed first, here and below.
        process::signal_if_there(daemon, Signal::STOP);
        emperor.wait_for_time("a]: mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
        let lost = Instant::now();
        instance.wait();
        let took = lost.elapsed();
        emperor.wait_for("emperor: a: aborted its own FUSE connections: ");
        emperor.wait_for_time("emperor: a: mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
        assert!(took < FREED, "took {took:?}");
        process::signal_if_there(daemon, Signal::CONT);
        until("the daemon ends with its connection", || process::named("faulty-fuse").is_empty());
        emperor.stop();
    });
}

/// For what hangs in the end, and until then answers late on a slow machine, as much goes on beside it.
fn checked_slowly() -> String {
    format!("{CHECKED}\nmountpoint-check-timeout = {}s", CHECK_TIMEOUT.as_secs() * u64::from(slowness()))
}

#[test]
fn mount_tables_that_a_tenant_makes_long_are_not_read_by_the_emperor_itself() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        let faulty = sandbox.faulty();
        sandbox.vassal("a", &format!("uid = user001\n{}\n{READER}", checked_slowly()));
        let trace = sandbox.path("trace");
        let strace = ["strace", "-D", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=?open,openat"];
        fs::create_dir_all(VASSALS).unwrap();
        fs::write("/etc/uwsgi/emperor.ini", crate::common::tutorial::EMPEROR_INI).unwrap();
        let mut command = sandbox.wrapped(&strace, "emperor");
        command.arg("/etc/uwsgi/emperor.ini");
        let emperor = sandbox.start("emperor", command);
        let init = emperor.pid_of_started("a");
        enter_and_mount(init, &faulty.command("/app", "direct"));
        emperor.wait_running(1, "a");
        // Any user can make thousands of mounts, in namespaces of the user's own.
        let many = "mount -t tmpfs t /mnt; for n in 0 1 2 3 4 5 6 7 8 9 10 11; do mkdir /mnt/$n; \
                    mount --rbind /mnt /mnt/$n; done; echo ready; exec sleep 1000";
        let mut crowd: Vec<_> = (0..4)
            .map(|_| {
                let mut unshare = Command::new("unshare");
                unshare.args(["-Urm", "--propagation", "private", "sh", "-c", many]).stdout(Stdio::piped());
                let mut child = unshare.spawn().unwrap();
                let mut ready = [0; 5];
                child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
                child
            })
            .collect();
        let instance = Handle::of(init);
        let daemon = process::only("faulty-fuse").pid;
        faulty.behave("hold");
        until("the app hangs", || faulty.holds_the_app());
        process::signal_if_there(daemon, Signal::STOP);
        instance.wait();
        emperor.wait_for("emperor: a: aborted its own FUSE connections: ");
        let opened = fs::read_to_string(&trace).unwrap();
        assert!(opened.contains(&format!("/proc/{init}/ns/pid")), "{opened}");
        for child in &crowd {
            assert!(!opened.contains(&format!("/proc/{}/mountinfo", child.id())), "{opened}");
        }
        process::signal_if_there(daemon, Signal::CONT);
        until("the daemon ends with its connection", || process::named("faulty-fuse").is_empty());
        for child in &mut crowd {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        emperor.stop();
    });
}

#[test]
fn a_connection_that_somebody_outside_holds_open_does_not_keep_the_instance() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        sandbox.vassal("a", &format!("uid = user001\nexec-as-user = {mount}\n{CHECKED}\n{READER}"));
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "a");
        let instance = Handle::of(init);
        let daemon = process::only("faulty-fuse").pid;
        let _connection = connection_of(daemon);
        faulty.behave("hold");
        until("the app hangs", || faulty.holds_the_app());
        process::kill_if_there(daemon);
        emperor.wait_for_time("a]: mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
        let lost = Instant::now();
        instance.wait();
        let took = lost.elapsed();
        assert!(took < FREED, "took {took:?}");
        emperor.wait_for("emperor: a: aborted its own FUSE connections: ");
        faulty.behave("");
        emperor.wait_running(2, "a");
        emperor.stop();
    });
}

#[test]
fn instances_that_hang_at_the_same_time_are_all_freed() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        let faulty = sandbox.faulty();
        let names = ["a", "b", "c"];
        let modes = names.map(|name| sandbox.file(&format!("mode-{name}"), ""));
        for name in names {
            sandbox.vassal(name, &format!("uid = user001\n{}\n{READER}", checked_slowly()));
        }
        let emperor = sandbox.emperor(&[]);
        let instances: Vec<_> = std::iter::zip(names, &modes)
            .map(|(name, mode)| {
                let init = emperor.pid_of_started(name);
                enter_and_mount(init, &faulty.command_with("/app", "direct", mode));
                emperor.wait_running(1, name);
                Handle::of(init)
            })
            .collect();
        for mode in &modes {
            fs::write(mode, "hold").unwrap();
        }
        until("all apps hang", || modes.iter().all(|mode| faulty::holds_an_app(mode)));
        let daemons = process::named("faulty-fuse");
        for daemon in &daemons {
            process::signal_if_there(daemon.pid, Signal::STOP);
        }
        instances.iter().for_each(Handle::wait);
        for name in names {
            emperor.wait_for(&format!("emperor: {name}: aborted its own FUSE connections: "));
        }
        for daemon in &daemons {
            process::signal_if_there(daemon.pid, Signal::CONT);
        }
        until("the daemons end with their connections", || process::named("faulty-fuse").is_empty());
        emperor.stop();
    });
}

/// The daemon's end of its connection, for us too.
fn connection_of(daemon: i32) -> OwnedFd {
    let handle = pidfd_open(Pid::from_raw(daemon).unwrap(), PidfdFlags::empty()).unwrap();
    // It is its standard input.
    pidfd_getfd(&handle, std::io::stdin().as_raw_fd(), PidfdGetfdFlags::empty()).unwrap()
}

#[test]
fn a_sibling_of_the_daemon_in_the_namespace_goes_with_it() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "held");
        sandbox.vassal("a", &format!("uid = user001\nexec-as-user = {mount}\n{CHECKED}\n{READER}"));
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "a");
        let (instance, daemon) = (Handle::of(init), process::only("faulty-fuse").pid);
        faulty.behave("hold");
        until("the app hangs", || faulty.holds_the_app());
        process::kill_if_there(daemon);
        emperor.wait_for_time("a]: mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
        faulty.behave("");
        instance.wait();
        emperor.wait_running(2, "a");
        assert_eq!(emperor.lines("aborted"), [""; 0]);
        emperor.stop();
    });
}

/// A block device that is detached when this process has ended, whatever ends it.
fn block_device(sandbox: &Sandbox) -> (String, File) {
    let image = sandbox.file("image", "");
    File::options().write(true).open(&image).unwrap().set_len(8 << 20).unwrap();
    let device = crate::common::run("losetup", &["--find", "--show", image.to_str().unwrap()]);
    let device = device.trim().to_owned();
    let held = File::open(&device).expect("this test needs a loop device");
    crate::common::run("losetup", &["--detach", &device]);
    (device, held)
}

/// To unmount a filesystem on a block device the kernel asks its daemon for the last time, and the daemon
/// that is killed last would wait for itself.
#[test]
fn a_daemon_of_a_block_device_that_is_the_last_to_go_does_not_keep_the_instance() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a block device") {
            return;
        }
        let (device, _held) = block_device(sandbox);
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", &format!("last block={device}"));
        sandbox.vassal("a", &format!("exec-as-root = {mount}\n{CHECKED}\ncommand = sleep 1000"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-max-throttle", "1"]);
        let is_aborted = || !emperor.lines("a: aborted its own FUSE connections: ").is_empty();
        // The kernel decides whether the daemon is the last, so that one is killed until it was. On one
        // processor each process may end as a whole, in the order in which they were killed.
        let is_single = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
        let kills = if is_single { 1 } else { 30 };
        for round in 1.. {
            let init = emperor.wait_running(round, "a");
            let (instance, daemon) = (Handle::of(init), process::only("faulty-fuse").pid);
            until("what is known of the daemon", || {
                let status = sandbox.program("emperor").args(["status", "--json", "a"]).output().unwrap();
                let status = String::from_utf8(status.stdout).unwrap();
                status.contains("fuseblk") && !status.contains("daemon\":null")
            });
            let is_enough = round > 1 && (is_aborted() || is_single);
            match is_enough {
                // Not asked first, PID 1 cannot see to it that the daemon ends before.
                false => process::signal(init, Signal::KILL),
                true => process::signal(daemon, Signal::STOP),
            }
            instance.wait();
            if is_enough {
                emperor.wait_running(round + 1, "a");
                break;
            }
            assert!(round <= kills, "no daemon was the last");
        }
        emperor.stop();
    });
}

#[test]
fn a_connection_that_others_share_is_never_aborted() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("fusectl") {
            return;
        }
        // Mounted outside, before any vassal is there: all of them see it.
        let faulty = sandbox.faulty();
        crate::common::run("sh", &["-c", &faulty.command("/app", "direct")]);
        sandbox.vassal("a", &format!("uid = user001\n{CHECKED}\n{READER}"));
        let neighbour = "command = sh -c 'cat /app/file; sleep 1000'";
        sandbox.vassal("b", &format!("uid = user001\n{neighbour}"));
        // One whose connection is its own, to see when the emperor aborts.
        let lines = format!("uid = user001\n{CHECKED}\n{READER}").replace("/app", "/run/later");
        fs::create_dir("/run/later").unwrap();
        sandbox.vassal("later", &lines);
        let mode = sandbox.file("mode-later", "");
        let mut emperor = sandbox.emperor(&[]);
        enter_and_mount(emperor.pid_of_started("later"), &faulty.command_with("/run/later", "direct", &mode));
        emperor.wait_running(1, "later");
        let (init, other) = (emperor.wait_running(1, "a"), emperor.wait_running(1, "b"));
        let (instance, other) = (Handle::of(init), Handle::of(other));
        emperor.wait_for("content");
        faulty.behave("hold");
        until("the app hangs", || faulty.holds_the_app());
        emperor.wait_for_time("a]: mountpoint /app lost: no answer for ", CHECK_TIMEOUT);
        // It is looked at, found to be shared, and waited for.
        emperor.wait_for("emperor: a: its PID 1 does not exit");
        fs::write(&mode, "hold").unwrap();
        emperor.wait_for("emperor: later: aborted its own FUSE connections: ");
        assert!(!instance.is_gone(), "nothing held it");
        assert_eq!(emperor.lines("emperor: a: aborted"), [""; 0]);
        fs::remove_file(vassal_path("later")).unwrap();
        faulty.behave("");
        instance.wait();
        emperor.wait_running(2, "a");
        assert!(!other.is_gone());
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        unmount("/app");
    });
}
