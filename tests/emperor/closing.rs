//! Descriptors that are closed for days: whoever hands one to the emperor or to a PID 1 holds neither.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::common::sandbox::vassal_path;
use crate::common::{Daemon, Sandbox, run, sandboxed, until};

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// Has a TCP socket hold data that the peer does not read: its close waits for eleven days.
const FILL: &str = r#"
import re, socket, struct, sys, time

def fill(s):
    s.setblocking(False)
    try:
        while True:
            s.send(bytes(1 << 16))
    except BlockingIOError:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10**6))
"#;

/// Hands a TCP socket with unsent data to a unix socket, and keeps no copy: who closes it waits for the peer,
/// who never reads, for eleven days. Tries again while the other side closes the connection first.
const ATTACK: &str = r#"
kind, name = sys.argv[1:]
peer = socket.create_server(("127.0.0.1", 0))

def hand_over(s, address):
    while True:
        with socket.socket(socket.AF_UNIX, getattr(socket, kind)) as c:
            c.connect(address)
            try:
                socket.send_fds(c, [b"x"], [s.fileno()])
                s.close()
                return "sent"
            except PermissionError:
                return "refused"
            except BrokenPipeError:
                pass

s = socket.create_connection(peer.getsockname())
fill(s)
if name.startswith("@"):
    name = "\0" + re.search(f"@({name[1:]})$", open("/proc/net/unix").read(), re.M)[1]
print(hand_over(s, name), flush=True)
time.sleep(1000)
"#;

/// Makes its listening socket such a connection, to the port of its argument.
const APP: &str = r#"
s = socket.socket(fileno=3)
s.shutdown(socket.SHUT_RDWR)
s.connect(("127.0.0.1", int(sys.argv[1])))
fill(s)
print("connected", flush=True)
time.sleep(1000)
"#;

/// A local user hands a descriptor to the unix socket of this kind with this name, a pattern where it begins
/// with `@`. Returns the user's program, and whether the kernel has let it do so.
fn attack(sandbox: &Sandbox, kind: &str, name: &str) -> (Daemon, bool) {
    let script = sandbox.file("attack.py", &[FILL, ATTACK].concat());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "user001", "--clear-groups", "python3"]).arg(script).args([kind, name]);
    let attacker = sandbox.start("attacker", command);
    let sent = attacker.wait_for("e").starts_with("sent");
    (attacker, sent)
}

/// Whether this kernel lets a unix socket refuse descriptors.
fn can_refuse() -> bool {
    let refuse = "import socket; socket.socket(socket.AF_UNIX).setsockopt(socket.SOL_SOCKET, 83, 0)";
    Command::new("python3").args(["-c", refuse]).status().unwrap().success()
}

/// The emperor answers.
fn status(sandbox: &Sandbox) -> String {
    let status = sandbox.wrapped(&["timeout", "9"], "emperor").arg("status").output().unwrap();
    assert!(status.status.success(), "the emperor does not answer: {}", status.status);
    String::from_utf8(status.stdout).unwrap()
}

#[test]
fn who_comes_for_a_lock_cannot_hold_the_emperor() {
    sandboxed(|sandbox| {
        // PID 1 would set options, too, for apps that tell that they are up.
        sandbox.vassal("app", &format!("unenv = NOTIFY_SOCKET\n{STEADY}"));
        let options = ["--emperor", "/etc/uwsgi/vassals", "--emperor-use-clone", "fs,pid"];
        for is_old in [false, true] {
            // Before Linux 6.16 there is no such option.
            let calls: &[i64] = if is_old { &[libc::SYS_setsockopt] } else { &[libc::SYS_uname] };
            let mut command = sandbox.filtered(calls, libc::ENOPROTOOPT, "emperor");
            command.args(options);
            let emperor = sandbox.start("emperor", command);
            emperor.wait_running(1, "app");
            let (attacker, sent) = attack(sandbox, "SOCK_STREAM", "@emperor of .*");
            assert_eq!(sent, is_old || !can_refuse());
            assert!(status(sandbox).contains("running"));
            drop(attacker);
            emperor.stop();
        }
    });
}

#[test]
fn who_sends_to_an_apps_notify_socket_cannot_hold_pid_1() {
    sandboxed(|sandbox| {
        if !can_refuse() {
            return;
        }
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        let (attacker, sent) = attack(sandbox, "SOCK_DGRAM", "@[0-9a-f]{5}");
        assert!(!sent);
        run("touch", &[vassal_path("app").to_str().unwrap()]);
        emperor.wait_for("emperor: app: reloaded after ");
        drop(attacker);
        emperor.stop();
    });
}

#[test]
fn no_socket_of_a_vassal_holds_the_emperor_that_closes_it() {
    sandboxed(|sandbox| {
        // Who is never read from.
        let peer = TcpListener::bind("127.0.0.1:7000").unwrap();
        let script = sandbox.file("app.py", &[FILL, APP].concat()).display().to_string();
        let names = ["removed", "left"];
        for (name, port) in names.iter().zip(7001..) {
            let lines = format!("uid = user001\nlisten = 127.0.0.1:{port}\ncommand = python3 {script} 7000");
            sandbox.vassal(name, &lines);
        }
        // Of the clients of these nobody is ever accepted.
        let sockets = ["/run/scratch/listens.sock", "/run/scratch/waits.sock"];
        let lines = format!("uid = user001\n{STEADY}");
        sandbox.vassal("listens", &format!("{lines}\nlisten = {}\nchmod-socket = 666", sockets[0]));
        fs::write(vassal_path("waits").with_extension("ini.sock"), sockets[1]).unwrap();
        sandbox.vassal("waits", &lines);
        let emperor = sandbox.emperor(&["--emperor-on-demand-extension", ".sock"]);
        for name in names {
            emperor.wait_for(&format!("vassal-init[{name}]: app started"));
        }
        emperor.wait_for_nth(2, "connected");
        emperor.wait_for("emperor: waits: waiting for ");
        emperor.wait_running(1, "listens");
        run("chmod", &["666", sockets[1]]);
        let attackers = sockets.map(|socket| attack(sandbox, "SOCK_STREAM", socket).0);
        emperor.wait_running(1, "waits");

        for name in ["removed", "listens", "waits"] {
            fs::remove_file(vassal_path(name)).unwrap();
            emperor.wait_for(&format!("emperor: {name}: stopped"));
            assert!(!status(sandbox).contains(name));
        }
        // A process of its own removes them, which nobody waits for.
        until("their files are removed", || sockets.iter().all(|socket| !fs::exists(socket).unwrap()));
        let attackers = (attackers, peer);
        emperor.signal(rustix::process::Signal::TERM);
        emperor.wait_for("emperor: all vassals stopped");
        drop(attackers);
    });
}
