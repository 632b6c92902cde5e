//! Orphans come to `vassal-init`, however many, and none stays a zombie.

use crate::common::command::{LIVES, ended, init};
use crate::common::{Sandbox, process, run, sandboxed, unmount, until};

const ORPHANS: usize = 2000;

/// An app that leaves 2,000 orphans, all waiting for the same end of file; it comes when the file `go` is
/// there.
const APP: &str = r#"
use POSIX ();
my ($go) = @ARGV;
pipe(my $read, my $write);
if (!fork) {
    close $write;
    for (1 .. 2000) {
        if (!fork) { $0 = 'orphan'; sysread($read, my $byte, 1); POSIX::_exit(0) }
    }
    POSIX::_exit(0);
}
wait;
print STDERR "all are there\n";
select(undef, undef, undef, 0.01) until -e $go;
close $write;
sleep 1000;
"#;

fn reaps(sandbox: &Sandbox, options: &[&str]) {
    let app = sandbox.file("app.pl", APP);
    let go = sandbox.path("go");
    let mut command = sandbox.program("vassal-init");
    let lines = format!("command = perl {} {}", app.display(), go.display());
    command.args(options).arg(sandbox.ini("vassal", &lines));
    let mut vassal = sandbox.start("vassal", command);
    vassal.wait_for("all are there");
    until("all have their name", || process::named("orphan").len() == ORPHANS);
    let others = process::all().len() - ORPHANS;
    let parent = process::only("perl").parent;
    assert!(
        process::named("orphan").iter().all(|orphan| orphan.parent == parent),
        "not vassal-init's children"
    );
    sandbox.file("go", "");
    until("no orphan is left, dead or alive", || process::all().len() == others);
    assert!(vassal.is_running());
    vassal.signal(rustix::process::Signal::TERM);
    assert_eq!(vassal.wait(), 143);
}

#[test]
fn two_thousand_orphans_that_die_at_once_are_reaped() {
    sandboxed(|sandbox| reaps(sandbox, &["--unshare", "fs,pid"]));
}

#[test]
fn two_thousand_orphans_are_reaped_without_a_pid_namespace() {
    sandboxed(|sandbox| reaps(sandbox, &[]));
}

/// Processes that start another one and end, all the time, so that no list of them is ever complete. They
/// ignore SIGTERM, and end by themselves after a time that no test waits for.
const HOP: &str = r#"
use Time::HiRes 'time';
my $end = time + 100;
$SIG{TERM} = 'IGNORE';
for (1 .. 16) {
    next if fork;
    $0 = 'hop';
    while (time < $end) {
        exit if fork;
    }
    exit;
}
"#;

#[test]
fn processes_that_are_born_while_others_are_killed_do_not_outlive_their_command() {
    sandboxed(|sandbox| {
        let hop = sandbox.file("hop.pl", HOP).display().to_string();
        for options in LIVES {
            let arguments = [options, &["--grace", "300ms", "--", "perl", &hop]].concat();
            let (status, _, err) = ended(&mut init(sandbox, &arguments));
            assert_eq!(status, 0, "{options:?}: {err}");
            assert!(err.contains("processes are left 300 ms after SIGTERM: SIGKILL"), "{options:?}: {err}");
            // One that was killed may be in the kernel for longer than the init waits on a machine that is
            // busy, as it says then.
            until(format_args!("the end of all: {options:?}: {err}"), || process::named("hop").is_empty());
        }
    });
}

#[test]
fn processes_that_are_born_while_others_are_killed_do_not_outlive_their_vassal() {
    sandboxed(|sandbox| {
        let hop = sandbox.file("hop.pl", HOP).display().to_string();
        let mut vassal =
            sandbox.vassal_init("vassal", &format!("command = sh -c 'perl {hop}; exec sleep 1000'"));
        until("they hop", || !process::named("hop").is_empty());
        vassal.signal(rustix::process::Signal::TERM);
        assert_eq!(vassal.wait(), 143);
        assert!(process::named("hop").is_empty(), "{}", vassal.log());
    });
}

#[test]
fn processes_that_are_born_while_others_are_killed_do_not_outlive_a_lost_mountpoint() {
    sandboxed(|sandbox| {
        let hop = sandbox.file("hop.pl", HOP).display().to_string();
        let place = sandbox.path("mount").display().to_string();
        std::fs::create_dir(&place).unwrap();
        run("mount", &["-t", "tmpfs", "none", &place]);
        let script = format!("perl {hop}; exec sleep 1000");
        let arguments = ["--mountpoint-check", &place, "--", "sh", "-c", &script];
        let mut init = sandbox.start("init", init(sandbox, &arguments));
        until("they hop", || !process::named("hop").is_empty());
        unmount(&place);
        assert_eq!(init.wait(), 75);
        until("the end of all", || process::named("hop").is_empty());
        // Nothing is left to be taken away.
        assert!(init.lines("umount").is_empty(), "{}", init.log());
    });
}
