//! Vassals on demand: the emperor listens, the first connection starts the app, and one that leaves is waited
//! for again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::common::process::wait_for_turns;
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Sandbox, nobody_listens, process, run, sandboxed, until};
use crate::lifecycle::BROKEN;
use rustix::process::Signal;

/// Answers each connection on its first socket with its pid, and leaves when there was none for the given
/// time, or where that is 0 when the file `leave` is there: by its exit, or by asking for it.
const SERVER: &str = r#"
import os, select, socket, sys, time
s = socket.socket(fileno=3)
print("serving", os.environ["LISTEN_FDNAMES"], s.getsockname(), flush=True)
idle, how = float(sys.argv[1]), sys.argv[2]
while True:
    if not select.select([s], [], [], idle or 0.02)[0]:
        if idle or os.path.exists("/run/scratch/leave"):
            break
        continue
    c = s.accept()[0]
    c.send(b"%d\n" % os.getpid())
    c.close()
if how == "ask":
    os.write(int(os.environ["UWSGI_EMPEROR_FD"]), b"\x16\x16")
    time.sleep(1000)
"#;

fn server(sandbox: &Sandbox, arguments: &str) -> String {
    let path = sandbox.file("server.py", SERVER);
    format!("uid = user001\ncommand = python3 {} {arguments}", path.display())
}

/// The file that says where the vassal `app` is waited for.
fn address_file() -> PathBuf {
    vassal_path("app").with_extension("ini.sock")
}

/// The vassal's state, as the table shows it.
fn state(sandbox: &Sandbox, name: &str) -> String {
    let output =
        sandbox.program("emperor").args(["status", "--control", "/run/scratch/control"]).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
}

const CONTROL: [&str; 2] = ["--control", "/run/scratch/control"];

fn answer(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.trim().to_owned()
}

#[test]
fn the_first_connection_starts_the_app_and_one_that_has_left_is_waited_for_again() {
    sandboxed(|sandbox| {
        for (how, lines) in [("exit", ""), ("ask", ""), ("exit", "\nlisten = 127.0.0.1:8081")] {
            sandbox.vassal("app", &(server(sandbox, &format!("0 {how}")) + lines));
            fs::write(address_file(), "127.0.0.1:8081\n").unwrap();
            let emperor =
                sandbox.emperor(&[&CONTROL[..], &["--emperor-on-demand-extension", ".sock"]].concat());
            emperor.wait_for("emperor: app: waiting for a connection to 127.0.0.1:8081");
            assert_eq!(state(sandbox, "app"), "waiting");
            for round in 1..=2 {
                assert_eq!(emperor.lines("emperor: app: started (pid").len(), round - 1);
                let first = answer(TcpStream::connect("127.0.0.1:8081").unwrap());
                assert_eq!(first, answer(TcpStream::connect("127.0.0.1:8081").unwrap()), "the same app");
                // It answers before the emperor hears of it.
                emperor.wait_for_nth(round, "emperor: app: running after");
                assert_eq!(state(sandbox, "app"), "running");
                let leave = sandbox.file("leave", "");
                emperor.wait_for_nth(round + 1, "emperor: app: waiting for a connection");
                assert_eq!(state(sandbox, "app"), "waiting");
                fs::remove_file(leave).unwrap();
            }
            assert_eq!(emperor.lines("serving on-demand ('127.0.0.1', 8081)").len(), 2);
            assert_eq!(emperor.lines("wants to be stopped").len(), if how == "ask" { 2 } else { 0 });
            emperor.stop();
            assert!(TcpStream::connect("127.0.0.1:8081").is_err());
        }
    });
}

#[test]
fn real_uwsgi_is_started_on_demand_and_leaves_when_it_is_idle() {
    sandboxed(|sandbox| {
        let file = sandbox.file("app.psgi", "sub { [200, [], ['a page']] }");
        let lines = format!(
            "http-socket = 127.0.0.1:8082\nmaster = true\nidle = 2\ndie-on-idle = true\nuid = user001\n\
             plugin = psgi\npsgi = {}\n",
            file.display()
        );
        sandbox.vassal("app", &lines);
        fs::write(address_file(), "127.0.0.1:8082").unwrap();
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock"]);
        emperor.wait_for("emperor: app: waiting for a connection");
        for round in 1..=2 {
            let mut stream = TcpStream::connect("127.0.0.1:8082").unwrap();
            stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
            let page = answer(stream);
            assert!(page.ends_with("a page"), "{page}");
            emperor.wait_for_nth(
                round,
                "emperor: app: the app wants to be stopped: stopping until somebody connects",
            );
            emperor.wait_for_nth(round + 1, "emperor: app: waiting for a connection");
        }
        // The same where it binds a socket of its own besides.
        let other = sandbox.path("socket");
        fs::write(address_file(), other.to_str().unwrap()).unwrap();
        sandbox.vassal("app", &lines.replace("127.0.0.1:8082", "localhost:8082"));
        emperor.wait_for(&format!("waiting for a connection to {}", other.display()));
        let mut stream = UnixStream::connect(&other).unwrap();
        stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
        let page = answer(stream);
        assert!(page.ends_with("a page"), "{page}");
        emperor.stop();
    });
}

#[test]
fn a_directory_of_sockets_that_everybody_may_connect_to() {
    sandboxed(|sandbox| {
        let sockets = sandbox.path("sockets");
        fs::create_dir(&sockets).unwrap();
        sandbox.vassal("app", &server(sandbox, "1000 exit"));
        let emperor = sandbox.emperor(&["--emperor-on-demand-directory", sockets.to_str().unwrap()]);
        emperor.wait_for("emperor: app: waiting for a connection to");
        let socket = sockets.join("app.socket");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
        let pid = answer(UnixStream::connect(&socket).unwrap());
        assert_eq!(pid, answer(UnixStream::connect(&socket).unwrap()));
        emperor.stop();
    });
}

#[test]
fn root_gives_a_file_its_mode_without_looking_for_it_by_its_path() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sleep 1000");
        // Whose directory it is may have put a link to another file there by then.
        let (trace, socket) = (sandbox.path("trace"), sandbox.path("app.socket"));
        let wrapper =
            ["strace", "-Df", "-qq", "-o", trace.to_str().unwrap(), "-e", "trace=bind,chmod,fchmodat"];
        let mut command = sandbox.wrapped(&wrapper, "emperor");
        command.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-on-demand-directory", "/run/scratch"]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_for("emperor: app: waiting for a connection to");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
        emperor.stop();
        let traced = || fs::read_to_string(&trace).unwrap();
        until("the trace", || traced().contains("app.socket"));
        assert!(!traced().contains("chmod"), "{}", traced());
    });
}

#[test]
fn a_socket_that_the_app_has_shut_down_is_bound_anew() {
    sandboxed(|sandbox| {
        let app = "import socket, time; s = socket.socket(fileno=3); c = s.accept()[0]; c.send(b'served'); \
            c.close(); \
                   time.sleep(1.1); s.shutdown(2)";
        for (name, address) in [("app", "/run/scratch/socket"), ("tcp", "127.0.0.1:7000")] {
            let path = sandbox.vassal(name, &format!("command = python3 -c \"{app}\""));
            fs::write(path.with_extension("ini.sock"), address).unwrap();
        }
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock"]);
        for turn in 1..=2 {
            for name in ["app", "tcp"] {
                emperor.wait_for_nth(turn, &format!("emperor: {name}: waiting for a connection to"));
            }
            assert_eq!(answer(UnixStream::connect("/run/scratch/socket").unwrap()), "served");
            assert_eq!(answer(TcpStream::connect("127.0.0.1:7000").unwrap()), "served");
        }
        for name in ["app", "tcp"] {
            emperor.wait_for_nth(3, &format!("emperor: {name}: waiting for a connection to"));
            // Nothing that only looked like a connection.
            assert_eq!(emperor.lines(&format!("emperor: {name}: somebody connects")).len(), 2);
        }
        emperor.stop();
    });
}

#[test]
fn a_socket_that_cannot_be_watched_is_tried_again() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &server(sandbox, "1000 exit"));
        // Before: the lock on the directory, the socket for commands, who looks at the directory, and who
        // binds the socket.
        let inject = "inject=epoll_ctl:error=ENOSPC:when=5";
        let mut command =
            sandbox.wrapped(&["strace", "-D", "-qq", "-o", "/dev/null", "-e", inject], "emperor");
        command.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-on-demand-directory", "/run/scratch"]);
        let emperor = sandbox.start("emperor", command);
        let failed =
            "emperor: app: wait for a connection: No space left on device (ENOSPC); next try in 1.0 s";
        emperor.wait_for(failed);
        answer(UnixStream::connect(sandbox.path("app.socket")).unwrap());
        assert_eq!(emperor.lines("emperor: app: waiting for a connection to").len(), 2);
        emperor.stop();
    });
}

#[test]
fn a_command_says_where_and_nobody_waits_for_one_that_hangs() {
    sandboxed(|sandbox| {
        // Two files with an address in the first one's own text; one for which nothing is printed; one that
        // fails; one that hangs, and has left somebody behind with the pipe.
        let hanging = "slow.ini) sleep 1000 & sleep 1000;;";
        let asked = sandbox.path("asked");
        let script = format!(
            "echo \"$1\" >> {}; case $1 in none.ini) ;; bad.ini) echo 127.0.0.1:1; exit 3;; {hanging} *) \
             sleep 5 & sed -n 's/^# //p' \"$1\";; esac",
            asked.display()
        );
        let script = sandbox.file("where.sh", &format!("{script}\n"));
        let at = |port: u16| format!("{}\n# 127.0.0.1:{port}", server(sandbox, "1000 exit"));
        sandbox.vassal("app", &at(8089));
        sandbox.vassal("a $(echo x) \"b\" 'c'", &at(8090));
        for name in ["none", "bad", "slow"] {
            sandbox.vassal(name, "command = sleep 1000");
        }
        let command = format!("sh {} ", script.display());
        let emperor = sandbox.emperor(&[&CONTROL[..], &["--emperor-on-demand-exec", &command]].concat());
        for (name, port) in [("app", 8089), ("a $(echo x) \"b\" 'c'", 8090)] {
            emperor.wait_for(&format!("emperor: {name}: waiting for a connection to 127.0.0.1:{port}"));
            answer(TcpStream::connect(("127.0.0.1", port)).unwrap());
            // An app can answer before PID 1 has told that it runs.
            emperor.wait_running(1, name);
        }
        emperor.wait_running(1, "none");
        emperor.wait_running(1, "bad");
        emperor.wait_for("bad.ini: exited with status 3: not on demand");
        let is_asked = || emperor.lines("slow.ini: not done after 10 s").is_empty();
        until("its command is waited for", || state(sandbox, "slow") == "idle" || !is_asked());
        // A changed file is asked for anew, and gets another socket.
        sandbox.vassal("app", &at(8091));
        emperor.wait_for("emperor: app: needs a fresh jail: another on-demand address: restarting");
        emperor.wait_for("emperor: app: waiting for a connection to 127.0.0.1:8091");
        emperor.wait_for("slow.ini: not done after 10 s: killed: not on demand");
        emperor.wait_running(1, "slow");
        // A vassal that goes while its command runs is not started by the answer.
        sandbox.vassal("slow", "command = sleep 1000\n#");
        until("it is asked again", || fs::read_to_string(&asked).unwrap().matches("slow.ini").count() == 2);
        fs::remove_file(vassal_path("slow")).unwrap();
        emperor.wait_for("emperor: slow: file removed: stopping");
        emperor.stop();
    });
}

#[test]
fn a_crash_loop_with_a_connection_waiting_backs_off() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", BROKEN);
        fs::write(address_file(), "127.0.0.1:8083").unwrap();
        let options = ["--emperor-on-demand-ext", ".sock", "--emperor-throttle", "400"];
        let emperor = sandbox.emperor(&[&CONTROL[..], &options].concat());
        emperor.wait_for("emperor: app: waiting for a connection");
        let _client = TcpStream::connect("127.0.0.1:8083").unwrap();
        emperor.wait_for("next try in 400 ms");
        emperor.wait_for("next try in 800 ms");
        emperor.wait_for("next try in 1.6 s");
        // The socket is readable all the time, and yet it is not tried in between.
        let log = emperor.log();
        let (before, _) = log.split_once("next try in 1.6 s").unwrap();
        assert_eq!(before.matches("emperor: app: started (pid").count(), 3);
        until("it waits", || state(sandbox, "app") == "backoff");
        let _other = TcpStream::connect("127.0.0.1:8083").expect("it queues");
        emperor.wait_for("next try in 3.2 s");
        emperor.stop();
    });
}

#[test]
fn commands_changes_and_an_upgrade_of_one_that_waits() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &server(sandbox, "1000 exit"));
        let address = address_file();
        fs::write(&address, "127.0.0.1:8084").unwrap();
        let emperor = sandbox.emperor(&[&CONTROL[..], &["--emperor-on-demand-ext", ".sock"]].concat());
        emperor.wait_for("emperor: app: waiting for a connection");
        let command = |order: &str| {
            let output = sandbox.program("emperor").args([order, "app"]).args(CONTROL).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        // The new program waits in the place of the old one.
        let output = sandbox.program("emperor").arg("upgrade").args(CONTROL).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(state(sandbox, "app"), "waiting");
        answer(TcpStream::connect("127.0.0.1:8084").unwrap());
        emperor.wait_running(1, "app");
        assert_eq!(emperor.lines("file is back"), [""; 0], "it was there all the time");
        // Stopped by command nobody listens; started by command nobody has to connect.
        command("stop");
        until("it is stopped", || state(sandbox, "app") == "stopped");
        nobody_listens(8084);
        command("start");
        emperor.wait_running(2, "app");
        answer(TcpStream::connect("127.0.0.1:8084").unwrap());
        // Another address is another socket, and asks for another instance.
        fs::write(&address, "127.0.0.1:8085").unwrap();
        command("reload");
        emperor.wait_for("emperor: app: needs a fresh jail: another on-demand address: restarting");
        emperor.wait_for("emperor: app: waiting for a connection to 127.0.0.1:8085");
        nobody_listens(8084);
        answer(TcpStream::connect("127.0.0.1:8085").unwrap());
        // One that somebody else has is tried again.
        let _other = std::net::TcpListener::bind("127.0.0.1:8086").unwrap();
        fs::write(&address, "127.0.0.1:8086").unwrap();
        command("reload");
        emperor.wait_for("emperor: app: listen on 127.0.0.1:8086: ");
        drop(_other);
        emperor.wait_for("emperor: app: waiting for a connection to 127.0.0.1:8086");
        // Without the file it is a vassal like any other.
        fs::remove_file(&address).unwrap();
        command("reload");
        emperor.wait_for("Bad file descriptor");
        nobody_listens(8086);
        emperor.stop();
    });
}

#[test]
fn in_tyrant_mode_only_root_says_where_to_listen() {
    sandboxed(|sandbox| {
        let vassal = sandbox.vassal("app", "command = sleep 1000");
        let address = address_file();
        fs::write(&address, "127.0.0.1:8087").unwrap();
        run("chown", &["user001:user001", vassal.to_str().unwrap(), address.to_str().unwrap()]);
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock", "--emperor-tyrant"]);
        emperor.wait_for("with emperor-tyrant it must be root's, and no link: not on demand");
        emperor.wait_running(1, "app");
        assert!(TcpStream::connect("127.0.0.1:8087").is_err());
        emperor.stop();
    });
}

#[test]
fn in_tyrant_mode_a_users_link_has_no_file_of_roots_quoted() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        let secrets = sandbox.path("secrets");
        fs::create_dir(&secrets).unwrap();
        for place in [VASSALS, secrets.to_str().unwrap()] {
            sandbox.mount(&["-t", "tmpfs", "none"], place);
        }
        let (secret, link) = (secrets.join("secret"), address_file());
        fs::write(&secret, "of root's").unwrap();
        symlink(&secret, &link).unwrap();
        // The first of each filesystem have the same number.
        assert_eq!(fs::metadata(&secret).unwrap().ino(), fs::symlink_metadata(&link).unwrap().ino());
        let vassal = sandbox.vassal("app", "command = sleep 1000");
        run("chown", &["-h", "user001:user001", vassal.to_str().unwrap(), link.to_str().unwrap()]);
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock", "--emperor-tyrant"]);
        emperor.wait_for("with emperor-tyrant it must be root's, and no link: not on demand");
        assert_eq!(emperor.lines("of root's"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn an_app_that_wants_to_be_stopped_stays_so_until_its_file_changes_or_a_command_starts_it() {
    sandboxed(|sandbox| {
        let text = "command = perl -e 'open my $fd, \">&=\", $ENV{UWSGI_EMPEROR_FD}; syswrite \
            $fd, \"\\x16\"; sleep 1000'";
        sandbox.vassal("app", text);
        let emperor = sandbox.emperor(&CONTROL);
        let said = "stopping until its file changes, or 'emperor start'";
        emperor.wait_for_nth(1, said);
        until("it rests", || state(sandbox, "app") == "idle");
        sandbox.vassal("app", &format!("{text}\n# changed"));
        emperor.wait_for("emperor: app: file changed: starting");
        emperor.wait_for_nth(2, said);
        until("it rests", || state(sandbox, "app") == "idle");
        let output = sandbox.program("emperor").args(["start", "app"]).args(CONTROL).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        emperor.wait_for_nth(3, said);
        until("it rests", || state(sandbox, "app") == "idle");
        assert_eq!(emperor.lines("emperor: app: started (pid").len(), 3);
        emperor.stop();
        // Without an emperor PID 1 takes it for a request to stop.
        let mut alone = sandbox.vassal_init("alone", text);
        assert_eq!(alone.wait(), 128 + 15);
        alone.wait_for("stopping for the app itself");
    });
}

#[test]
fn a_crash_that_comes_late_waits_again_and_the_socket_goes_with_its_vassal() {
    sandboxed(|sandbox| {
        let file = sandbox.vassal("app", "command = sleep 1000");
        fs::write(address_file(), "127.0.0.1:8088").unwrap();
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock"]);
        emperor.wait_for("emperor: app: waiting for a connection");
        let _client = TcpStream::connect("127.0.0.1:8088").unwrap();
        emperor.wait_running(1, "app");
        process::signal(process::only("sleep").pid, Signal::KILL);
        emperor.wait_for_nth(2, "emperor: app: started (pid");
        fs::remove_file(file).unwrap();
        nobody_listens(8088);
        emperor.stop();
    });
}

#[test]
fn the_file_of_a_socket_goes_when_nobody_listens_there_any_more() {
    sandboxed(|sandbox| {
        let lines = server(sandbox, "1000 exit");
        let vassal = sandbox.vassal("app", &lines);
        sandbox.vassal("other", &lines);
        let [first, second, others] = ["first", "second", "others"].map(|name| sandbox.path(name));
        fs::write(address_file(), first.to_str().unwrap()).unwrap();
        fs::write(vassal_path("other").with_extension("ini.sock"), others.to_str().unwrap()).unwrap();
        let emperor = sandbox.emperor(&[&CONTROL[..], &["--emperor-on-demand-ext", ".sock"]].concat());
        let waits = |n, place: &Path| {
            emperor.wait_for_nth(n, &format!("waiting for a connection to {}", place.display()));
        };
        let command = |words: &[&str]| {
            let output = sandbox.program("emperor").args(words).args(CONTROL).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        waits(1, &first);
        waits(1, &others);
        command(&["upgrade"]);
        answer(UnixStream::connect(&first).expect("an upgrade keeps it"));
        emperor.wait_running(1, "app");
        command(&["stop", "app"]);
        until("it is stopped", || state(sandbox, "app") == "stopped");
        until("its file goes when it is stopped by command", || !first.exists());
        command(&["start", "app"]);
        emperor.wait_running(2, "app");
        assert!(first.exists());
        fs::write(address_file(), second.to_str().unwrap()).unwrap();
        command(&["reload", "app"]);
        waits(1, &second);
        assert!(second.exists());
        until("the file of the old address goes", || !first.exists());
        fs::remove_file(vassal).unwrap();
        until("it is forgotten", || state(sandbox, "app").is_empty());
        until("its file goes with the vassal", || !second.exists());
        sandbox.vassal("app", &lines);
        waits(2, &second);
        // Somebody else has taken the name meanwhile. In one step: between two, the emperor might bind its
        // own anew.
        let draft = sandbox.path("draft");
        let _somebody = UnixListener::bind(&draft).unwrap();
        fs::rename(draft, &others).unwrap();
        emperor.stop();
        assert!(!second.exists(), "the emperor has ended");
        assert!(others.exists(), "it was not ours any more");
    });
}

#[test]
fn a_socket_whose_file_was_removed_is_bound_anew() {
    sandboxed(|sandbox| {
        let lines = server(sandbox, "1000 exit");
        sandbox.vassal("app", &lines);
        let socket = sandbox.path("socket");
        fs::write(address_file(), socket.to_str().unwrap()).unwrap();
        // No look of the emperor's comes first.
        let emperor = sandbox.emperor(&["--emperor-on-demand-ext", ".sock", "--emperor-freq", "3600"]);
        emperor.wait_for_nth(1, "emperor: app: waiting for a connection");
        fs::remove_file(&socket).unwrap();
        sandbox.vassal("app", &lines);
        emperor.wait_for_nth(2, "emperor: app: waiting for a connection");
        answer(UnixStream::connect(&socket).unwrap());
        // Before that, a change is no reload.
        emperor.wait_running(1, "app");
        fs::remove_file(&socket).unwrap();
        sandbox.vassal("app", &lines);
        emperor
            .wait_for("needs a fresh jail: nobody can connect to its on-demand socket any more: restarting");
        emperor.wait_for_nth(3, "emperor: app: waiting for a connection");
        answer(UnixStream::connect(&socket).unwrap());
        emperor.stop();
    });
}

#[test]
fn a_socket_whose_file_was_removed_is_bound_anew_without_being_asked() {
    sandboxed(|sandbox| {
        let lines = server(sandbox, "1000 exit");
        sandbox.vassal("app", &lines);
        sandbox.vassal("other", &lines);
        let [socket, others] = ["socket", "others"].map(|name| sandbox.path(name));
        fs::write(address_file(), socket.to_str().unwrap()).unwrap();
        fs::write(vassal_path("other").with_extension("ini.sock"), others.to_str().unwrap()).unwrap();
        let options = ["--emperor-on-demand-ext", ".sock", "--emperor-freq", "1"];
        let emperor = sandbox.emperor(&[&CONTROL[..], &options].concat());
        emperor.wait_for_nth(1, "emperor: other: waiting for a connection");
        emperor.wait_for_nth(1, "emperor: app: waiting for a connection");
        answer(UnixStream::connect(&others).unwrap());
        emperor.wait_running(1, "other");

        fs::remove_file(&socket).unwrap();
        emperor.wait_for("emperor: app: the file of its on-demand socket is gone: listening");
        emperor.wait_for_nth(2, "emperor: app: waiting for a connection");
        answer(UnixStream::connect(&socket).unwrap());
        emperor.wait_running(1, "app");
        fs::remove_file(&socket).unwrap();
        emperor.wait_for("emperor: app: the file of its on-demand socket is gone: reloading");
        emperor.wait_for_nth(3, "emperor: app: waiting for a connection");
        answer(UnixStream::connect(&socket).unwrap());

        // Another's socket that is alive stays, and so does the app. It comes in one step: between two, the
        // emperor might bind its own anew.
        let draft = sandbox.path("draft");
        let somebody = UnixListener::bind(&draft).unwrap();
        fs::rename(draft, &others).unwrap();
        let taken = "emperor: other: the file of its on-demand socket is somebody else's now";
        emperor.wait_for(taken);
        wait_for_turns(emperor.pid(), 3);
        assert!(UnixStream::connect(&others).is_ok());
        assert_eq!(emperor.lines(taken).len(), 1);
        assert_eq!(emperor.lines("emperor: other: started").len(), 1);
        drop(somebody);
        emperor.wait_for_nth(2, "emperor: other: waiting for a connection");
        answer(UnixStream::connect(&others).unwrap());
        emperor.stop();
        assert!(!socket.exists() && !others.exists());
    });
}
