//! Checked mountpoints: every way to be lost, none to be mistaken for lost, and the gate before the app.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::process::{self, Handle};
use crate::common::tutorial::MOUNTED;
use crate::common::{Daemon, ENDED, Sandbox, run, sandboxed, unmount, until, until_passed};
use rustix::process::Signal;

/// A vassal with the zip mounted, running; and the pid of its PID 1.
fn mounted(sandbox: &Sandbox, more: &str) -> (Daemon, i32) {
    sandbox.zip();
    let vassal = sandbox.vassal_init("vassal", &format!("{MOUNTED}\n{more}\ncommand = sleep 1000"));
    vassal.wait_for("app started");
    let init = process::only("sleep").parent;
    (vassal, init)
}

/// Runs a command in the vassal's mount and pid namespaces.
fn inside(init: i32, options: &[&str], command: &[&str]) {
    process::enter(init, &[options, command].concat());
}

#[test]
fn a_daemon_that_hangs_is_lost_when_its_time_is_up() {
    sandboxed(|sandbox| {
        let (mut vassal, init) = mounted(sandbox, "mountpoint-check-timeout = 1s");
        let instance = Handle::of(init);
        process::signal(process::only("fuse-zip").pid, Signal::STOP);
        instance.wait();
        assert_eq!(vassal.wait(), 75);
        let told = vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(1));
        assert!(told.contains("; the daemon is pid ") && told.contains(" (fuse-zip, T (stopped))"), "{told}");
    });
}

#[test]
fn a_daemon_that_pauses_for_less_is_forgiven() {
    sandboxed(|sandbox| {
        let (mut vassal, _) = mounted(sandbox, "mountpoint-check-timeout = 16s");
        let (daemon, prober) = (process::only("fuse-zip").pid, process::only("vassal-probe").pid);
        // Twice: together they are longer than the timeout.
        for _ in 0..2 {
            process::signal(daemon, Signal::STOP);
            let stopped = Instant::now();
            until("the prober waits for an answer", || process::waits_for_fuse(prober));
            // Longer than the prober is patient before it raises the alarm, which is three quarters of the
            // timeout. It asks every 50 ms.
            until_passed(stopped, Duration::from_millis(12250));
            process::signal(daemon, Signal::CONT);
            process::wait_for_turns(prober, 3);
            assert!(vassal.is_running() && vassal.lines("lost").is_empty(), "{}", vassal.log());
        }
        process::signal(daemon, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
        assert_eq!(vassal.lines(" lost: ").len(), 1);
    });
}

#[test]
fn a_clean_unmount_is_a_loss() {
    sandboxed(|sandbox| {
        let (mut vassal, init) = mounted(sandbox, "");
        let user = run("id", &["-u", "user001"]);
        let identity = ["--setuid", user.trim(), "--setgid", user.trim()];
        inside(init, &identity, &["fusermount3", "-u", "/app"]);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for("mountpoint /app lost: no longer mounted");
    });
}

#[test]
fn a_mount_over_it_is_a_loss() {
    sandboxed(|sandbox| {
        let (mut vassal, init) = mounted(sandbox, "");
        inside(init, &[], &["mount", "-t", "tmpfs", "over", "/app"]);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for("mountpoint /app lost: replaced by another mount");
    });
}

#[test]
fn a_healthy_private_mount_is_left_alone() {
    sandboxed(|sandbox| {
        // Another mount comes and goes meanwhile, and a child of PID 1 dies: reasons to look, no reasons to
        // act.
        let (mut vassal, init) = mounted(sandbox, "");
        inside(init, &[], &["mount", "-t", "tmpfs", "other", "/mnt"]);
        inside(init, &[], &["umount", "/mnt"]);
        let prober = process::only("vassal-probe").pid;
        process::signal(prober, Signal::KILL);
        let is_another = |found: &process::Process| found.pid != prober;
        until("another prober", || process::named("vassal-probe").iter().any(is_another));
        process::wait_for_turns(process::only("vassal-probe").pid, 20);
        assert!(vassal.is_running());
        assert_eq!(vassal.lines("lost"), [""; 0]);
        // And then it is still watched, by another prober.
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        assert_eq!(vassal.wait(), 75);
    });
}

#[test]
fn the_app_does_not_start_before_its_mount_is_there() {
    sandboxed(|sandbox| {
        // The mount comes late, and not from a hook that is waited for.
        sandbox.zip();
        let go = sandbox.path("go");
        let hook = format!(
            "(until [ -e {} ]; do sleep 0.01; done; exec fuse-zip -r /var/www/app001.zip /app) &",
            go.display()
        );
        let ini = format!(
            "uid = user001\nexec-as-user = {hook}\nmountpoint-check = /app\ncommand = cat /app/page.html"
        );
        let mut vassal = sandbox.vassal_init("vassal", &ini);
        vassal.wait_for("as-user #1");
        // It has looked several times.
        process::wait_for_turns(process::only("sh").parent, 5);
        assert_eq!(vassal.lines("app started"), [""; 0]);
        sandbox.file("go", "");
        assert_eq!(vassal.wait(), 0);
        vassal.wait_for(crate::common::tutorial::PAGE.trim());
    });
}

#[test]
fn a_path_that_is_never_mounted_fails_the_start() {
    sandboxed(|sandbox| {
        let ini = "uid = user001\nmountpoint-check = /app\nmountpoint-timeout = 300ms\ncommand = echo never";
        let mut vassal = sandbox.vassal_init("vassal", ini);
        assert_eq!(vassal.wait(), 71);
        let told = "mountpoint-check: mountpoint /app: nothing is mounted there, after ";
        vassal.wait_for_time(told, Duration::from_millis(300));
        assert_eq!(vassal.lines("never"), [""; 0]);
    });
}

#[test]
fn a_start_that_waits_for_a_mountpoint_says_so_in_time() {
    sandboxed(|sandbox| {
        let mut vassal = sandbox.vassal_init("vassal", "mountpoint-check = /app\ncommand = echo never");
        let line = vassal.wait_for("mountpoint /app: nothing is mounted there, after ");
        assert!(line.ends_with("; it is given 30.0 s"), "{line}");
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 143);
    });
}

/// As with `unshare -Ur`, bwrap and rootless containers with one user: setgroups(2) is denied there.
#[test]
fn the_root_of_a_user_namespace_watches_what_it_has_mounted() {
    sandboxed(|sandbox| {
        let program = sandbox.path("vassal-init");
        fs::copy(sandbox.program("vassal-init").get_program(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let lines = "exec-as-root = bindfs --no-allow-other /usr /app\nmountpoint-check = /app\n\
                     command = sleep 1000";
        let mut command = Command::new("setpriv");
        command.args(["--reuid=user001", "--regid=user001", "--init-groups"]);
        command.args(["unshare", "-Urmpf", "--mount-proc"]).arg(program).arg(sandbox.ini("vassal", lines));
        let mut vassal = sandbox.start("vassal", command);
        vassal.wait_for("app started");
        process::signal(process::only("bindfs").pid, Signal::KILL);
        let line = vassal.wait_for("mountpoint /app lost: ");
        assert!(ENDED.iter().any(|why| line.contains(why)), "{line}");
        assert_eq!(vassal.wait(), 75);
    });
}

/// What an overlay lies over is not told by the text of its options.
#[test]
fn an_overlay_that_hides_what_it_is_over_does_not_start_either() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("an overlay over FUSE") {
            return;
        }
        let faulty = sandbox.faulty().command("/run/scratch/low", "direct");
        let prepare = "mkdir -p /run/scratch/low /run/scratch/mid /mnt";
        let overlay = |on: &str, lower: &str| format!("mount -t overlay overlay -o lowerdir={lower} {on}");
        let (plain, shown) =
            (overlay("/app", "/run/scratch/low:/mnt"), ", /run/scratch/low: check that, too");
        let in_turns = |commands: &[&str]| {
            let lines = commands.iter().map(|command| format!("exec-pre-jail = {command}\n"));
            lines.collect::<String>()
        };
        for (hooks, what) in [
            (
                in_turns(&[prepare, &faulty, &format!("cd /run/scratch && {}", overlay("/app", "low:/mnt"))]),
                shown,
            ),
            (
                in_turns(&[
                    prepare,
                    &faulty,
                    "ln -s low /run/scratch/link",
                    &overlay("/app", "/run/scratch/link:/mnt"),
                ]),
                shown,
            ),
            (
                in_turns(&[
                    prepare,
                    &faulty,
                    &overlay("/run/scratch/mid", "/run/scratch/low:/mnt"),
                    &overlay("/app", "/run/scratch/mid:/mnt"),
                ]),
                shown,
            ),
            (in_turns(&[prepare, &faulty, &plain, "umount -l /run/scratch/low"]), shown),
            (
                in_turns(&[&format!("{prepare} && {faulty} && {plain} && umount -l /run/scratch/low")]),
                ", what pid ",
            ),
        ] {
            let lines = format!("{hooks}uid = user001\nmountpoint-check = /app\ncommand = sleep 1000");
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            assert_eq!(vassal.wait(), 71, "{hooks}");
            vassal.wait_for("it does not show the end of a FUSE filesystem that may be under it, ");
            vassal.wait_for(what);
            until("its daemon has ended", || process::named("faulty-fuse").is_empty());
            let _ = fs::remove_file("/run/scratch/link");
        }
        // A FUSE filesystem that came later cannot be under it.
        let hooks = in_turns(&[prepare, &overlay("/app", "/run/scratch/mid:/mnt"), &faulty]);
        let lines = format!("{hooks}uid = user001\nmountpoint-check = /app\ncommand = sleep 1000");
        let vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
    });
}

/// An overlay answers for its root by itself, whatever lies under it.
#[test]
fn an_overlay_over_a_filesystem_that_can_die_does_not_start_unless_that_is_checked_too() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("an overlay over FUSE") {
            return;
        }
        let faulty = sandbox.faulty();
        let lines = format!(
            "exec-pre-jail = mkdir -p /run/scratch/low /run/scratch/rw/up /run/scratch/rw/work && {}\n\
             mount-as-root = overlay overlay /app defaults \
             lowerdir=/mnt:/run/scratch/low,upperdir=/run/scratch/rw/up,workdir=/run/scratch/rw/work\n\
             uid = user001\nmountpoint-check = /app\ncommand = sleep 1000",
            faulty.command("/run/scratch/low", "direct")
        );
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        assert_eq!(vassal.wait(), 71);
        let refused =
            "setup failed in mountpoint-check: mountpoint /app: it does not show the end of a FUSE ";
        vassal.wait_for(&format!(
            "{refused}filesystem that may be under it, /run/scratch/low: check that, too"
        ));
        // From somewhere else, and hidden at its own place.
        let checked = "mount-as-root = none /run/scratch/low /mnt bind,ro\n\
                       umount-as-root = /run/scratch/low detach";
        for more in [checked, ""] {
            let path = if more.is_empty() { "/run/scratch/low" } else { "/mnt" };
            let lines = format!("{lines}\n{more}\nmountpoint-check = {path}");
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            vassal.wait_for("app started");
            process::signal(process::only("faulty-fuse").pid, Signal::KILL);
            assert_eq!(vassal.wait(), 75);
            vassal.wait_for(&format!("mountpoint {path} lost: "));
        }
        // One of the host's, which is nobody's here.
        run("sh", &["-c", &faulty.command("/run/scratch/low", "direct")]);
        let (_, rest) = lines.split_once(" && ").unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        let vassal = sandbox.vassal_init("vassal", rest);
        vassal.wait_for("app started");
        drop(vassal);
        until("it has ended", || process::named("sleep").is_empty());
        unmount("/run/scratch/low");
    });
}

/// docs/recipes.md says so: the kernel takes apart what is unmounted together, and the daemon has the empty
/// directory in its place.
#[test]
fn a_tree_that_is_a_mount_below_the_daemons_root_is_gone_with_the_old_root() {
    sandboxed(|sandbox| {
        sandbox.copied_tree();
        fs::create_dir("/ns/ext").unwrap();
        run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", "/ns/ext"]);
        run("sh", &["-c", "cp -a /ns/precise/. /ns/ext"]);
        let lines = |tree: &str| {
            format!(
                "hook-pre-jail = callret:chdir /\n\
                 hook-pre-jail = exec:unionfs-fuse -ocow,chroot=/ns,default_permissions,allow_other \
                 /cow/user001=RW:/{tree}=RO /ufs\n\
                 pivot_root = /ufs /ufs/.old_root\n\
                 hook-as-root = mount:proc none /proc\n\
                 hook-as-root = umount:/.old_root rec,detach\n\
                 mountpoint-check = /"
            )
        };
        let (status, log) = sandbox.outcome(&(lines("ext") + "\ncommand = /bin/sh -c 'echo served'"));
        assert_ne!(status, 0);
        assert!(log.contains("mountpoint / answers after "), "{log}");
        assert!(
            log.contains("setup failed in app: execute /bin/sh: No such file or directory (ENOENT)"),
            "{log}"
        );
        assert_eq!(sandbox.said(&(lines("precise") + "\ncommand = /bin/sh -c 'echo served'")), ["served"]);
        unmount("/ns/ext");
    });
}

/// A vassal with this mount, which a reload leaves alone, started with some keys and reloaded with others.
fn reloaded(sandbox: &Sandbox, mount: &str, first: &str, then: &str) -> Daemon {
    let lines = |more: &str| {
        format!(
            "uid = user001\nif-not-reload =\nexec-as-user = {mount}\nendif =\n{more}\ncommand = sleep 1000"
        )
    };
    let vassal = sandbox.vassal_init("vassal", &lines(first));
    vassal.wait_for("app started");
    let init = process::only("sleep").parent;
    sandbox.ini("vassal", &lines(then));
    process::signal(init, Signal::HUP);
    vassal.wait_for("reloading: the app is restarted");
    vassal.wait_for_nth(2, "app started");
    vassal
}

/// Keys for checks with these times.
fn checked(interval: &str, timeout: &str) -> String {
    format!(
        "mountpoint-check = /app\nmountpoint-check-interval = {interval}\n\
         mountpoint-check-timeout = {timeout}"
    )
}

#[test]
fn a_longer_timeout_counts_from_a_reload_on() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let mut vassal = reloaded(sandbox, &mount, &checked("50ms", "1s"), &checked("50ms", "7s"));
        faulty.behave("hold");
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(7));
    });
}

#[test]
fn a_shorter_timeout_counts_from_a_reload_on() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let mut vassal = reloaded(sandbox, &mount, &checked("50ms", "1h"), &checked("50ms", "1s"));
        faulty.behave("hold");
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(1));
    });
}

/// The whole block of a mount may be behind `if-not-reload`: the check and its times stay as they are.
#[test]
fn checks_that_only_a_fresh_start_reads_stay_as_they_are() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let guarded = format!("if-not-reload =\n{}\nendif =", checked("50ms", "1s"));
        let mut vassal = reloaded(sandbox, &mount, &guarded, &format!("; changed\n{guarded}"));
        faulty.behave("hold");
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(1));
    });
}

/// A daemon that only stops to answer wakes nobody: the prober has to ask.
#[test]
fn a_shorter_interval_counts_from_a_reload_on() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let mount = faulty.command("/app", "");
        let mut vassal = reloaded(sandbox, &mount, &checked("1h", "1s"), &checked("50ms", "1s"));
        faulty.behave("hold");
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for_time("mountpoint /app lost: no answer for ", Duration::from_secs(1));
    });
}

#[test]
fn after_a_reload_a_path_that_is_missing_is_told_with_the_line_it_has_in_the_new_file() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = |checks: &str, timeout: &str| {
            format!(
                "uid = user001\nmountpoint-lost = hook:print:gone\nmountpoint-timeout = {timeout}\n\
                 if-not-reload =\n\
                 exec-as-user = fuse-zip -r /var/www/app001.zip /app\nendif =\n\
                 {checks}\ncommand = sleep 1000"
            )
        };
        let mut vassal = sandbox.vassal_init("vassal", &lines("mountpoint-check = /app", "30s"));
        vassal.wait_for("app started");
        let init = process::only("sleep").parent;
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        vassal.wait_for("gone");
        sandbox.ini("vassal", &lines("; moved\nmount-check = /app", "300ms"));
        process::signal(init, Signal::HUP);
        vassal.wait();
        vassal.wait_for("(/run/scratch/vassal.ini:9:15: mount-check)");
    });
}
