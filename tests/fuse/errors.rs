//! A filesystem that answers with errors: what they mean, how long they may last, and whose they are.

use std::time::Duration;

use crate::common::faulty::{CHECKED, Faulty, PATIENT};
use crate::common::process;
use crate::common::{Daemon, Sandbox, run, sandboxed};
use rustix::process::Signal;

/// Each error, and how it is told.
const REFUSALS: [(i32, &str); 6] = [
    (libc::EPERM, "Operation not permitted (EPERM)"),
    (libc::ENOSYS, "Function not implemented (ENOSYS)"),
    (libc::EACCES, "Permission denied (EACCES)"),
    (libc::EAGAIN, "Resource temporarily unavailable (EAGAIN)"),
    (libc::EINTR, "Interrupted system call (EINTR)"),
    (libc::ENOMEM, "Cannot allocate memory (ENOMEM)"),
];

/// What a vassal over the misbehaving filesystem has in its file.
fn lines(faulty: &Faulty, more: &str) -> String {
    let mount = faulty.command("/app", "");
    format!("uid = user001\nexec-as-user = {mount}\n{CHECKED}\n{PATIENT}\n{more}\ncommand = sleep 1000")
}

fn running(sandbox: &Sandbox, more: &str) -> (Faulty, Daemon) {
    let faulty = sandbox.faulty();
    let vassal = sandbox.vassal_init("vassal", &lines(&faulty, more));
    vassal.wait_for("app started");
    (faulty, vassal)
}

/// Ends the daemon, which is noticed, and so was watched; there was no loss before that.
fn is_still_watched(mut vassal: Daemon) {
    assert_eq!(vassal.lines(" lost: "), [""; 0]);
    process::signal(process::only("faulty-fuse").pid, Signal::KILL);
    assert_eq!(vassal.wait(), 75);
    vassal.wait_for("mountpoint /app lost: ");
}

#[test]
fn a_server_that_refuses_for_a_while_ends_no_instance_neither_then_nor_when_it_is_well_again() {
    sandboxed(|sandbox| {
        let (faulty, vassal) = running(sandbox, "mountpoint-timeout = 1h");
        let prober = process::only("vassal-probe").pid;
        for (round, (number, told)) in (1..).zip(REFUSALS) {
            faulty.behave(&format!("errno {number}"));
            vassal.wait_for(&format!(
                "mountpoint /app: cannot judge it: {told}, which is a loss if it lasts 3"
            ));
            process::wait_for_turns(prober, 5);
            faulty.behave("");
            vassal.wait_for_nth(round, "mountpoint /app is there, and answers");
        }
        is_still_watched(vassal);
    });
}

#[test]
fn a_server_that_refuses_for_good_is_lost_with_its_error() {
    sandboxed(|sandbox| {
        for (number, told) in REFUSALS {
            let (faulty, mut vassal) = running(sandbox, "mountpoint-timeout = 4s");
            faulty.behave(&format!("errno {number}"));
            assert_eq!(vassal.wait(), 75);
            vassal.wait_for_time(&format!("mountpoint /app lost: {told} for "), Duration::from_secs(4));
            faulty.behave("");
        }
    });
}

#[test]
fn a_backend_that_is_gone_behind_a_living_daemon_is_not_called_unmounted() {
    sandboxed(|sandbox| {
        for (number, told) in [
            (libc::ENOENT, "No such file or directory (ENOENT)"),
            (libc::ENOTDIR, "Not a directory (ENOTDIR)"),
            (libc::EIO, "Input/output error (EIO)"),
            (libc::ESTALE, "Stale file handle (ESTALE)"),
        ] {
            let (faulty, mut vassal) = running(sandbox, "");
            faulty.behave(&format!("errno {number}"));
            assert_eq!(vassal.wait(), 75);
            vassal.wait_for(&format!("mountpoint /app lost: {told} for "));
            faulty.behave("");
        }
    });
}

#[test]
fn one_bad_answer_among_good_ones_ends_no_instance() {
    sandboxed(|sandbox| {
        let (faulty, vassal) = running(sandbox, "mountpoint-check-interval = 200ms");
        faulty.behave(&format!("once {}", libc::EIO));
        vassal.wait_for("mountpoint /app: cannot judge it: Input/output error (EIO), ");
        vassal.wait_for("mountpoint /app is there, and answers");
        is_still_watched(vassal);
    });
}

#[test]
fn a_policy_of_mounting_again_mounts_again_after_errors() {
    sandboxed(|sandbox| {
        // So long it is also waited for the new mount, which must not answer with errors any more by then.
        let policy = "mountpoint-lost = remount\nmountpoint-timeout = 5s";
        let (faulty, mut vassal) = running(sandbox, policy);
        faulty.behave(&format!("errno {}", libc::EPERM));
        vassal.wait_for("mountpoint /app lost: Operation not permitted (EPERM) for ");
        vassal.wait_for("; running as-user again and restarting the app");
        faulty.behave("");
        vassal.wait_for("mounted again and running, ");
        // One line for one event.
        assert_eq!(vassal.lines("mountpoint /app is there, and answers"), [""; 0]);
        assert_eq!(vassal.lines("mountpoint /app answers after ").len(), 2);
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 143);
    });
}

/// A kernel or a container's filter that refuses statx(2) is not mixed up with a filesystem that does.
#[test]
fn an_error_of_the_filesystem_is_not_taken_for_one_of_a_seccomp_filter_nor_the_other_way_round() {
    sandboxed(|sandbox| {
        for refused in [libc::EPERM, libc::ENOSYS] {
            let faulty = sandbox.faulty();
            let mut command = sandbox.filtered(&[libc::SYS_statx], refused, "vassal-init");
            // The filter lets no fusermount become root.
            let mount = faulty.command("/app", "direct");
            let lines = format!(
                "exec-as-root = {mount}\nuid = user001\n{CHECKED}\n{PATIENT}\n\
                 mountpoint-timeout = 1h\ncommand = sleep 1000"
            );
            command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &lines));
            let vassal = sandbox.start("vassal", command);
            vassal.wait_for("app started");
            for round in 1..=2 {
                faulty.behave(&format!("errno {}", libc::EPERM));
                vassal.wait_for_nth(
                    round,
                    "mountpoint /app: cannot judge it: Operation not permitted (EPERM), ",
                );
                faulty.behave("");
                vassal.wait_for_nth(round, "mountpoint /app is there, and answers");
            }
            is_still_watched(vassal);
        }
    });
}

#[test]
fn a_mount_over_a_directory_above_hides_the_filesystem_and_is_not_called_its_error() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        let lines = format!(
            "exec-as-root = mkdir -p /run/above/app && chown user001 /run/above/app\nuid = user001\n\
             exec-as-user = {}\nmountpoint-check = /run/above/app\ncommand = sleep 1000",
            faulty.command("/run/above/app", "")
        );
        let mut vassal = sandbox.vassal_init("vassal", &lines);
        vassal.wait_for("app started");
        let init = process::only("sleep").parent.to_string();
        run("nsenter", &["-t", &init, "-m", "mount", "-t", "tmpfs", "over", "/run/above"]);
        assert_eq!(vassal.wait(), 75);
        vassal.wait_for("mountpoint /run/above/app lost: no longer mounted");
    });
}
