//! Orphans come to `vassal-init`, however many, and none stays a zombie.

use crate::common::{Sandbox, process, sandboxed, until};

const ORPHANS: usize = 2000;

/// An app that leaves 2,000 orphans, all waiting for the same end of file; it comes when the file `go` is there.
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
