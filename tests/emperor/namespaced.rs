//! What apps in user namespaces say and may do.

use std::fs;
use std::os::unix::fs::chown;

use crate::common::{Daemon, Sandbox, sandboxed, until};
use crate::rootless::{AS_USER, CLONE, emperor, user};

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
        sandbox.grant_ids("user001:300000:65536\nroot:1000000:655360\n");
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
        sandbox.grant_ids("user001:300000:65536\nroot:1000000:655360\n");
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

#[test]
fn an_id_that_is_not_there_is_told_with_those_that_are() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        let says = |maps: &[&str], lines: &str, says: &str| {
            let ini = sandbox.ini("vassal", &format!("{lines}\ncommand = true"));
            // As from a login, which has groups.
            let mut starter = AS_USER.to_vec();
            starter.pop();
            starter.push("--groups=27,1001");
            let mut command = sandbox.wrapped(&starter, "vassal-init");
            let output = command.arg("--unshare=user,fs,pid").args(maps).arg(ini).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(71) && text.contains(says), "{lines}: {text}");
        };
        let file = sandbox.file("file", "");
        chown(&file, Some(1001), Some(1001)).unwrap();
        let file = file.display();
        let (none, all) =
            ("this user namespace has no 33, only 0: see map-users", "only 0, 1 to 65536: see map-users");
        let chown = |ids: &str| format!("uid = root\nhook-as-root = chown:{file} {ids}");
        says(&[], "uid = 33\ngid = 33", &format!("privilege drop: setgroups: {none}"));
        says(&[], "uid = root\nadd-gid = 33", &format!("privilege drop: setgroups: {none}"));
        says(&[], &chown("33"), &format!("chown {file}: {none}"));
        says(&[], &chown("0 33"), &format!("chown {file}: {none}"));
        let listen = "uid = root\nlisten = /run/scratch/socket\nchown-socket = 33";
        says(&[], listen, &format!("chown /run/scratch/socket: {none}"));
        let auto = ["--map-users=auto"];
        says(&auto, "uid = 33\ngid = 70000", &format!("setgroups: this user namespace has no 70000, {all}"));
        says(&auto, &chown("5 70000"), &format!("chown {file}: this user namespace has no 70000, {all}"));
        // Within the number of ranges that the kernel takes, and longer than it takes.
        for count in [300, 400] {
            let line = |number: u32| format!("user001:{}:10\n", 300_000 + number * 20);
            let lines: String = (0..count).map(line).collect();
            sandbox.grant_ids(&lines);
            let ranges =
                format!("map {} ranges of IDs: the kernel takes 340 at most, in less than 4096", count + 1);
            says(&auto, "uid = root", &ranges);
        }
    });
}

#[test]
fn what_root_is_granted_is_neither_root_nor_somebody_elses() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        sandbox.vassal("one", "uid = root\ncommand = sleep 1001");
        sandbox.grant_ids("root:0:655360\n");
        let mut emperor = sandbox.emperor(&[CLONE, "--map-users=auto"]);
        let line = emperor.wait_for("map-users auto: /etc/subuid grants root 0");
        assert!(
            emperor.wait() == 1 && line.ends_with(", which is root of the machine: take it out"),
            "{line}"
        );
        sandbox.grant_ids("user001:300000:65536\nroot:200000:655360\n");
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto"]);
        emperor.wait_for("emperor: /etc/subuid grants 300000 to root and to 'user001': ");
        emperor.wait_running(1, "one");
        emperor.stop();
        sandbox.grant_ids("user001:300000:65536\nroot:365536:655360\n0:200000:100000\n");
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto"]);
        emperor.wait_running(1, "one");
        assert_eq!(emperor.lines("/etc/subuid"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn the_switch_of_a_distribution_that_forbids_it_is_named() {
    sandboxed(|sandbox| {
        user(sandbox);
        // Whoever has another root directory gets EPERM, too, and the switches are files.
        fs::create_dir("/run/root").unwrap();
        sandbox.mount(&["--rbind", "/"], "/run/root");
        sandbox.mount(&["-t", "tmpfs", "sandbox"], "/run/root/proc");
        fs::create_dir_all("/run/root/proc/sys/kernel").unwrap();
        let says = |expected: &str| {
            let wrapper = ["chroot", "--userspec=user001:user001", "/run/root"];
            let mut command = sandbox.wrapped(&wrapper, "vassal-init");
            let output = command.args(["--unshare=user,fs,pid", "--", "true"]).output().unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(71) && text.contains(expected), "{text}");
        };
        says("create the namespaces: Operation not permitted (EPERM)\n");
        for (switch, value, means) in [
            ("unprivileged_userns_clone", "0", "lets only root make them; root can change it"),
            (
                "apparmor_restrict_unprivileged_userns",
                "1",
                "lets only programs with a profile use them; root can change it",
            ),
        ] {
            let file = format!("/run/root/proc/sys/kernel/{switch}");
            fs::write(&file, format!("{}\n", 1 - value.parse::<i32>().unwrap())).unwrap();
            says("create the namespaces: Operation not permitted (EPERM)\n");
            fs::write(&file, format!("{value}\n")).unwrap();
            says(&format!("Operation not permitted (EPERM): the sysctl kernel.{switch} = {value} {means}"));
            fs::remove_file(&file).unwrap();
        }
    });
}
