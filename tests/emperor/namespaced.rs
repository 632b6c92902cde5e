//! What apps in user namespaces say and may do.

use std::fs;

use crate::common::{Daemon, Sandbox, sandboxed, until};
use crate::rootless::{CLONE, emperor, user};

/// Gives heartbeats in uWSGI's way, or in systemd's, until it is told to stop that.
const BEATS: &str = r#"
use Socket;
socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
my $to = pack_sockaddr_un("\0" . substr $ENV{NOTIFY_SOCKET}, 1);
open my $fd, ">&=", $ENV{UWSGI_EMPEROR_FD} or die;
$| = 1;
for (my $beat = 1; !-e "/run/scratch/silence"; $beat++) {
    if ($ARGV[0] eq "byte") { syswrite $fd, "\x1a" } else { send $socket, "WATCHDOG=1", 0, $to }
    print "beats\n" if $beat == 40;
    select undef, undef, undef, 0.1;
}
sleep 1000;
"#;

/// Whoever else has a login can send to a socket without a file.
const FORGES: &str = r#"
use Socket;
socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
open my $unix, "<", "/proc/net/unix" or die;
for (<$unix>) { send $socket, "WATCHDOG=1\nSTATUS=forged", 0, pack_sockaddr_un("\0$1") if / \@(\S+)$/ }
"#;

/// Checks that apps in both ways are left alone as long as they give heartbeats, and restarted afterwards.
fn check_heartbeats(sandbox: &Sandbox, emperor: &Daemon, names: &[String]) {
    for name in names {
        emperor.wait_running(1, name);
    }
    // Twice as long as an app may be silent.
    emperor.wait_for_nth(names.len(), "beats");
    assert_eq!(emperor.lines("heartbeat"), [""; 0]);
    let forger = sandbox.file("forger.pl", FORGES);
    let forge = || {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=7000", "--regid=7000", "--clear-groups", "perl"]).arg(&forger);
        assert!(command.status().unwrap().success());
        emperor.lines(": killed: the app has given no heartbeat for 2.0 s; up ").len() == names.len()
    };
    sandbox.file("silence", "");
    until("all are restarted, whatever a stranger says", forge);
    for name in names {
        emperor.wait_running(2, name);
    }
    fs::remove_file(sandbox.path("silence")).unwrap();
}

#[test]
fn heartbeats_are_heard_from_user_namespaces() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users beside") {
            return;
        }
        user(sandbox);
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "user001:300000:65536\nroot:1000000:655360\n").unwrap();
        }
        let app = sandbox.file("beats.pl", BEATS);
        let mut names = Vec::new();
        for uid in ["root", "user001"] {
            for way in ["byte", "datagram"] {
                let name = format!("{way}-{uid}");
                sandbox.vassal(&name, &format!("uid = {uid}\ncommand = perl {} {way}", app.display()));
                names.push(name);
            }
        }
        let options = ["--map-users=auto", "--emperor-required-heartbeat=2"];
        for is_root in [false, true] {
            let emperor = match is_root {
                true => sandbox.emperor(&[&[CLONE], &options[..]].concat()),
                false => emperor(sandbox, &options),
            };
            check_heartbeats(sandbox, &emperor, &names);
            emperor.stop();
        }
    });
}

#[test]
fn root_of_a_vassal_cannot_take_its_filter_off() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "user001:300000:65536\nroot:1000000:655360\n").unwrap();
        }
        let look = "if true 3<>/proc/1/mem; then echo %n: open; else echo %n: shut; fi";
        let app = format!("command = sh -c '{look}; sleep 1001'");
        for (name, lines) in [("free", ""), ("bound", "seccomp = default\n")] {
            sandbox.vassal(name, &format!("uid = root\n{lines}{app}"));
        }
        for is_root in [false, true] {
            let emperor = match is_root {
                true => sandbox.emperor(&[CLONE, "--map-users=auto"]),
                false => emperor(sandbox, &[]),
            };
            // Where PID 1 is another user's program, as root's is to a share, nobody inside may look into it.
            emperor.wait_for(if is_root { "free: shut" } else { "free: open" });
            emperor.wait_for("bound: shut");
            emperor.stop();
        }
    });
}
