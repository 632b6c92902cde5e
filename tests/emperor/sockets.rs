//! The app's listening sockets: who binds them, who gets them, and that nobody who connects is turned away.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::common::process;
use crate::common::sandbox::vassal_path;
use crate::common::tutorial::{get, wait_for_page};
use crate::common::{Daemon, Sandbox, nobody_listens, run, sandboxed, until, until_passed};
use crate::upgrade::{installed, start, wrap};
use rustix::process::Signal;
use vassal::emperor::discovery::holds::RETURN;

/// Says what it was given, and answers each connection on all its sockets with its pid and its user.
const SERVER: &str = r#"
import os, select, socket, sys
n = int(os.environ["LISTEN_FDS"])
assert os.environ["LISTEN_PID"] == str(os.getpid())
socks = [socket.socket(fileno=3 + i) for i in range(n)]
assert all(os.get_blocking(s.fileno()) for s in socks), "an app that just accepts would get EAGAIN"
print("serving", os.environ["LISTEN_FDNAMES"], [str(s.getsockname()) for s in socks], flush=True)
while True:
    for s in select.select(socks, [], [])[0]:
        c = s.accept()[0]
        c.send(b"%d %d\n" % (os.getpid(), os.getuid()))
        c.close()
"#;

fn server(sandbox: &Sandbox, lines: &str) -> String {
    let path = sandbox.file("server.py", SERVER);
    format!("uid = user001\ncommand = python3 {}\n{lines}", path.display())
}

/// What the server says to who connects: its pid and its uid.
fn answer(mut stream: impl Read) -> (u32, u32) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (pid, uid) = text.trim().split_once(' ').unwrap_or_else(|| panic!("answer '{text}'"));
    (pid.parse().unwrap(), uid.parse().unwrap())
}

#[test]
fn the_app_gets_what_its_file_asks_for() {
    sandboxed(|sandbox| {
        let lines = "listen = 127.0.0.1:80\nlisten = [::1]:8080\nlisten = @name\nlisten = \
            /run/scratch/app.sock\n\
                     chmod-socket = 606\nlisten = 7";
        let mut vassal = sandbox.vassal_init("vassal", &server(sandbox, lines));
        let said = vassal.wait_for("serving ");
        assert_eq!(
            said,
            "serving listen:listen:listen:listen [\"('127.0.0.1', 80)\", \"('::1', 8080, 0, \
             0)\", \"b'\\\\x00name'\", \
             '/run/scratch/app.sock']"
        );
        let user: u32 = run("id", &["-u", "user001"]).trim().parse().unwrap();
        let file = fs::metadata("/run/scratch/app.sock").unwrap();
        assert_eq!((file.mode() & 0o777, file.uid()), (0o606, user));
        for (_, uid) in [
            answer(TcpStream::connect("127.0.0.1:80").unwrap()),
            answer(TcpStream::connect("[::1]:8080").unwrap()),
            answer(UnixStream::connect("/run/scratch/app.sock").unwrap()),
        ] {
            assert_eq!(uid, user);
        }
        // The length of the queue is what ss(8) shows for a listening socket.
        assert!(run("ss", &["-Hltn", "sport", "=", ":80"]).split_whitespace().nth(2) == Some("7"));
        // A reload keeps them.
        vassal.signal(Signal::HUP);
        vassal.wait_for_nth(2, "serving ");
        assert_eq!(answer(TcpStream::connect("127.0.0.1:80").unwrap()).1, user);
        vassal.signal(Signal::TERM);
        vassal.wait();
        assert!(TcpStream::connect("127.0.0.1:80").is_err());
    });
}

#[test]
fn whatever_the_last_app_has_made_of_a_socket_it_blocks() {
    sandboxed(|sandbox| {
        let app = "import os, time; was = os.get_blocking(3); os.set_blocking(3, False); print('blocking:', \
            was, flush=True); time.sleep(1000)";
        let lines = format!("command = python3 -c \"{app}\"\nlisten = 127.0.0.1:80");
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        assert_eq!(emperor.wait_for("blocking: "), "blocking: True");
        let init = emperor.wait_running(1, "app");
        // In the same jail, and in the next instance.
        sandbox.vassal("app", &(lines + "\n"));
        assert_eq!(emperor.wait_for_nth(2, "blocking: "), "blocking: True");
        process::signal(init, Signal::KILL);
        assert_eq!(emperor.wait_for_nth(3, "blocking: "), "blocking: True");
        emperor.stop();
    });
}

#[test]
fn a_socket_that_the_last_app_has_shut_down_serves_the_next_one() {
    sandboxed(|sandbox| {
        let app = "import select, socket, sys; s = [socket.socket(fileno=n) for n in (3, 4)]; \
            print('serving', flush=True); \
                   c = select.select(s, [], [])[0][0].accept()[0]; c.send(b'1 1'); c.close(); \
                       [x.shutdown(2) for x in s]";
        let lines =
            format!("command = python3 -c \"{app}\"\nlisten = /run/scratch/app.sock\nlisten = 127.0.0.1:80");
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_for_nth(1, "serving");
        answer(UnixStream::connect("/run/scratch/app.sock").unwrap());
        emperor.wait_for_nth(2, "serving");
        answer(TcpStream::connect("127.0.0.1:80").unwrap());
        emperor.wait_for_nth(3, "serving");
        answer(UnixStream::connect("/run/scratch/app.sock").unwrap());
        emperor.wait_for_nth(4, "serving");
        emperor.stop();
    });
}

#[test]
fn nobody_is_refused_while_the_filesystem_dies_and_comes_back() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        wait_for_page();
        let (over, answered, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let clients = || {
                while !over.load(Ordering::Relaxed) {
                    let request = TcpStream::connect("127.0.0.1:9090").map(|mut stream| {
                        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                        // One that was accepted by the instance that died is reset: that is no refusal.
                        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
                        let _ = stream.read_to_end(&mut Vec::new());
                    });
                    let counter = if request.is_ok() { &answered } else { &refused };
                    counter.fetch_add(1, Ordering::Relaxed);
                    // Leaves the CPUs to those who are to serve.
                    std::thread::sleep(Duration::from_millis(2));
                }
            };
            for _ in 0..4 {
                scope.spawn(clients);
            }
            for round in 1..=5 {
                process::signal(process::only("fuse-zip").pid, Signal::KILL);
                emperor.wait_running(round + 1, "app001");
                wait_for_page();
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(answered.load(Ordering::Relaxed) > 20);
        assert_eq!(refused.load(Ordering::Relaxed), 0);
        emperor.stop();
        assert!(get().is_none());
    });
}

#[test]
fn sockets_with_a_file_outlive_the_instance_too() {
    sandboxed(|sandbox| {
        let lines = "listen = /run/scratch/app.sock\nlisten = 127.0.0.1:7000";
        sandbox.vassal("app", &server(sandbox, lines));
        let emperor = sandbox.emperor(&["--emperor-throttle", "3000"]);
        let init = emperor.wait_running(1, "app");
        emperor.wait_for("serving ");
        let inode = fs::metadata("/run/scratch/app.sock").unwrap().ino();
        sandbox.until_up(&[]);
        process::signal(init, Signal::KILL);
        // Until its processes are gone too they would still answer, or die over it.
        emperor.wait_for("killed by SIGKILL");
        // While there is no instance, or the next one: nobody is refused.
        let waiting = [0; 5].map(|_| UnixStream::connect("/run/scratch/app.sock").unwrap());
        let also = TcpStream::connect("127.0.0.1:7000").unwrap();
        emperor.wait_running(2, "app");
        for stream in waiting {
            answer(stream);
        }
        answer(also);
        assert_eq!(fs::metadata("/run/scratch/app.sock").unwrap().ino(), inode);

        // Another address: the old one is closed, the other one kept.
        sandbox.vassal("app", &server(sandbox, "listen = 127.0.0.1:7001\nlisten = /run/scratch/app.sock"));
        emperor.wait_for("needs a fresh jail: a socket changed: restarting");
        emperor.wait_for_nth(3, "serving ");
        // The app serves before the emperor has closed its copy.
        nobody_listens(7000);
        answer(TcpStream::connect("127.0.0.1:7001").unwrap());
        assert_eq!(fs::metadata("/run/scratch/app.sock").unwrap().ino(), inode);
        // Somebody has removed the file: there is a new one.
        fs::remove_file("/run/scratch/app.sock").unwrap();
        process::signal(emperor.wait_running(3, "app"), Signal::KILL);
        emperor.wait_for_nth(4, "serving ");
        answer(UnixStream::connect("/run/scratch/app.sock").unwrap());
        // Also by a reload that would keep the jail, and else does.
        emperor.wait_running(4, "app");
        let again = server(sandbox, "listen = 127.0.0.1:7001\nlisten = /run/scratch/app.sock\n");
        sandbox.vassal("app", &again);
        emperor.wait_for_nth(5, "serving ");
        emperor.wait_for("emperor: app: reloaded after");
        fs::remove_file("/run/scratch/app.sock").unwrap();
        sandbox.vassal("app", &again);
        emperor.wait_for("needs a fresh jail: the file of a socket is gone: restarting");
        emperor.wait_for_nth(6, "serving ");
        answer(UnixStream::connect("/run/scratch/app.sock").unwrap());

        fs::remove_file(vassal_path("app")).unwrap();
        emperor.wait_for("file removed: stopping");
        nobody_listens(7001);
        emperor.stop();
    });
}

/// Makes a directory in which every user can listen.
fn open_to_all(directory: &str) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
}

#[test]
fn a_socket_whose_file_was_removed_under_its_app_is_told_and_a_reload_binds_it_anew() {
    sandboxed(|sandbox| {
        let (directory, socket) = ("/run/scratch/own", "/run/scratch/own/app.sock");
        open_to_all(directory);
        sandbox.vassal("app", &server(sandbox, &format!("listen = {socket}\nlisten = 127.0.0.1:7000")));
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        emperor.wait_running(1, "app");
        let command = |words: &[&str]| {
            let output = sandbox.program("emperor").args(words).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let means = "was removed: who connects there does not reach it; a reload binds it anew";
        let known = format!("The file of {socket}, a socket of app, {means}");
        assert!(!command(&["status"]).contains(&known));
        assert!(command(&["status", "--json"]).contains(r#""cut_off":null"#));
        let pid = answer(TcpStream::connect("127.0.0.1:7000").unwrap()).1;
        // Nobody could bind it anew now.
        fs::remove_dir_all(directory).unwrap();
        let told = format!("emperor: app: the file of its socket {socket} {means}");
        emperor.wait_for(&told);
        assert!(command(&["status"]).contains(&known));
        assert!(command(&["status", "--json"]).contains(&format!(r#""cut_off":"{known}""#)));
        assert_eq!(answer(TcpStream::connect("127.0.0.1:7000").unwrap()).1, pid);
        assert_eq!(emperor.lines("reloading"), [""; 0]);
        open_to_all(directory);
        command(&["reload", "app"]);
        emperor.wait_running(2, "app");
        answer(UnixStream::connect(socket).unwrap());
        until("it is forgotten", || !command(&["status"]).contains(&known));
        assert_eq!(emperor.lines(&told).len(), 1);
        emperor.stop();
    });
}

#[test]
fn sockets_with_a_file_outlive_a_network_namespace_and_do_not_hold_it() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &server(sandbox, "listen = /run/scratch/app.sock\nlisten = 127.0.0.1:7000"));
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs,pid,net", "--emperor-throttle", "3000"]);
        let init = emperor.wait_running(1, "app");
        let app = answer(UnixStream::connect("/run/scratch/app.sock").unwrap());
        run("ip", &["link", "add", "outside", "type", "veth", "peer", "inside", "netns", &init.to_string()]);
        process::signal(init, Signal::KILL);
        emperor.wait_for("killed by SIGKILL");
        let waiting = UnixStream::connect("/run/scratch/app.sock").unwrap();
        // It goes with the namespace, so that the next instance can have one of that name.
        until("the interface is gone", || !fs::read_to_string("/proc/net/dev").unwrap().contains("outside"));
        emperor.wait_running(2, "app");
        assert_eq!(answer(waiting).1, app.1);
        let nets = [emperor.pid_of("app"), emperor.pid()]
            .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap());
        assert_ne!(nets[0], nets[1]);
        assert!(TcpStream::connect("127.0.0.1:7000").is_err());
        emperor.stop();
    });
}

#[test]
fn a_vassal_that_is_really_down_refuses() {
    sandboxed(|sandbox| {
        // It fails before it has run for a second: the wait is long.
        let hook = "exec-pre-app = until [ -e /run/scratch/go ]; do sleep 0.02; done";
        sandbox.vassal("app", &format!("listen = 127.0.0.1:7000\n{hook}\ncommand = sh -c 'exit 1'"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "60000"]);
        until("it listens", || TcpStream::connect("127.0.0.1:7000").is_ok());
        sandbox.file("go", "");
        emperor.wait_for("emperor: app: its sockets are closed until it runs again");
        nobody_listens(7000);
        emperor.stop();
    });
}

/// Whether a process has a socket that listens at this port.
fn holds(pid: i32, port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let at_port = |line: &&str| line.contains(&format!(":{port:04X} 00000000:0000 0A"));
    let sockets: Vec<_> = table
        .lines()
        .filter(at_port)
        .map(|line| format!("socket:[{}]", line.split_whitespace().nth(9).unwrap()))
        .collect();
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().any(|entry| {
        let open = entry.ok().and_then(|entry| fs::read_link(entry.path()).ok());
        open.is_some_and(|open| sockets.contains(&open.to_string_lossy().into_owned()))
    })
}

#[test]
fn what_is_not_to_be_kept_is_not() {
    sandboxed(|sandbox| {
        // Written once: an app may just be reading it.
        let program = server(sandbox, "");
        let server = |lines: &str| format!("{program}{lines}");
        sandbox.vassal("app", &server("listen = 127.0.0.1:7000\nkeep-sockets = false"));
        sandbox.vassal("kept", &server("listen = 127.0.0.1:7001"));
        let emperor = sandbox.emperor(&[]);
        for name in ["app", "kept"] {
            emperor.wait_running(1, name);
        }
        let holds = |port| holds(emperor.pid(), port);
        until("the emperor has its copy", || holds(7001));
        assert!(!holds(7000), "it holds a socket that it was not to keep");
        // It changes its mind.
        sandbox.vassal("kept", &server("listen = 127.0.0.1:7001\nkeep-sockets = false"));
        emperor.wait_for("needs a fresh jail: keep-sockets changed: restarting");
        emperor.wait_running(2, "kept");
        until("the emperor's copy is closed", || !holds(7001));
        answer(TcpStream::connect("127.0.0.1:7001").unwrap());
        // Others on the same port serve what would wait for this one.
        sandbox.vassal("kept", &server("listen = 127.0.0.1:7001\nlisten = 127.0.0.1:7002"));
        emperor.wait_running(3, "kept");
        until("the emperor has its copy", || holds(7001) && holds(7002));
        sandbox.vassal("kept", &server("listen = 127.0.0.1:7001\nreuse-port = true"));
        emperor.wait_running(4, "kept");
        sandbox.vassal("app", &server("listen = 127.0.0.1:7001\nreuse-port = true"));
        emperor.wait_running(2, "app");
        assert!(!holds(7001));
        emperor.stop();
    });
}

#[test]
fn an_address_that_is_not_asked_for_any_more_is_free_at_once() {
    sandboxed(|sandbox| {
        // Written once: an app may just be reading it.
        let program = server(sandbox, "");
        let server = |lines: &str| format!("{program}{lines}");
        let file = "listen = /run/scratch/kept.sock\nlisten = 127.0.0.1:";
        sandbox.vassal("a", &server(&format!("{file}7001")));
        sandbox.vassal("b", &server("listen = 127.0.0.1:7002"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "60000"]);
        emperor.wait_for_nth(2, "serving ");
        // They change their places.
        sandbox.vassal("a", &server(&format!("{file}7002")));
        sandbox.vassal("b", &server("listen = 127.0.0.1:7001"));
        emperor.wait_for_nth(4, "serving ");
        for address in ["127.0.0.1:7001", "127.0.0.1:7002"] {
            answer(TcpStream::connect(address).unwrap());
        }
        // One has another file, whose vassal comes before the old one is gone.
        let inits = emperor.lines("emperor: c: started").len();
        fs::rename(vassal_path("b"), vassal_path("c")).unwrap();
        emperor.wait_for_nth(5, "serving ");
        emperor.wait_running(1, "c");
        assert_eq!((inits, emperor.lines("emperor: c: started").len()), (0, 1), "it waited for the address");
        answer(TcpStream::connect("127.0.0.1:7001").unwrap());
        // The new address is none of this machine's: nobody is to wait at the old one.
        sandbox.vassal("a", &server("listen = 192.0.2.1:7002"));
        emperor.wait_for("Cannot assign requested address");
        nobody_listens(7002);
        until("the other one, too", || UnixStream::connect("/run/scratch/kept.sock").is_err());
        emperor.stop();
    });
}

/// An app that takes a while to stop, and has a port of its own: beside it, the next one could not start.
fn slow_to_leave(sandbox: &Sandbox) -> String {
    let app = "import signal, socket, sys, time; kept = socket.socket(fileno=3); \
         own = socket.create_server(('127.0.0.1', 7100)); \
         leave = lambda *_: (print('leaving', flush=True), time.sleep(0.7), own.close(), sys.exit()); \
         signal.signal(signal.SIGTERM, leave); \
         print('serving', flush=True); \n\
         while True: c = kept.accept()[0]; c.send(b'1 1'); c.close()";
    fs::write(sandbox.path("app.py"), app.replace("; \n", "\n")).unwrap();
    format!("command = python3 {}\nlisten = 127.0.0.1:7001", sandbox.path("app.py").display())
}

/// The vassal `old` was renamed, `from` what `to` says: it goes on as `new`.
fn goes_on(emperor: &Daemon, old: &str, new: &str, from: &str, to: &str) {
    emperor.wait_for(&format!("emperor: {old}: file renamed to {to}: stopping"));
    // From now on it accepts nobody.
    emperor.wait_for("leaving");
    // This one waits for the new instance.
    answer(TcpStream::connect("127.0.0.1:7001").unwrap());
    emperor.wait_for_nth(2, "serving");
    // The app may serve before the emperor has told of its PID 1.
    emperor.wait_running(1, new);
    let log = emperor.log();
    let at = |line: &str| log.find(line).unwrap_or_else(|| panic!("{line} is not in {log}"));
    let before = format!("emperor: {new}: its file was {from} before");
    assert!(at(&format!("emperor: {old}: stopped; ")) < at(&before));
    assert!(at(&before) < at(&format!("emperor: {new}: started (pid ")));
    assert_eq!(emperor.lines(&format!("emperor: {new}: started (pid ")).len(), 1);
    assert!(!log.contains("Address already in use") && !log.contains("sockets are closed"), "{log}");
}

/// The new name is found before the old one is given up.
#[test]
fn a_vassal_that_gets_another_name_takes_its_sockets_along_and_never_runs_twice() {
    sandboxed(|sandbox| {
        sandbox.vassal("old", &slow_to_leave(sandbox));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("serving");
        fs::rename(vassal_path("old"), vassal_path("new")).unwrap();
        goes_on(&emperor, "old", "new", "old.ini", "new.ini");
        emperor.stop();
    });
}

/// The vassal is renamed, and upgraded while it takes so many seconds to stop.
fn renamed_before_an_upgrade(sandbox: &Sandbox, takes: &str) {
    sandbox.vassal("old", &slow_to_leave(sandbox));
    let app = sandbox.path("app.py");
    fs::write(&app, fs::read_to_string(&app).unwrap().replace("0.7", takes)).unwrap();
    let emperor = sandbox.emperor(&[]);
    emperor.wait_for("serving");
    fs::rename(vassal_path("old"), vassal_path("new")).unwrap();
    emperor.wait_for("leaving");
    assert_eq!(sandbox.control(&["upgrade"]).0, 0);
    goes_on(&emperor, "old", "new", "old.ini", "new.ini");
    emperor.stop();
}

#[test]
fn a_vassal_that_is_renamed_before_an_upgrade_takes_its_sockets_along() {
    sandboxed(|sandbox| renamed_before_an_upgrade(sandbox, "0.7"));
}

#[test]
fn a_vassal_that_is_renamed_and_stops_for_longer_than_an_upgrade_waits_does_so_too() {
    sandboxed(|sandbox| renamed_before_an_upgrade(sandbox, "4.0"));
}

#[test]
fn a_vassal_that_is_renamed_during_an_upgrade_takes_its_sockets_along() {
    sandboxed(|sandbox| {
        let program = installed(sandbox);
        sandbox.vassal("old", &slow_to_leave(sandbox));
        sandbox.vassal("beside", "command = sleep 1000");
        let emperor = start(sandbox, &program, &[]);
        emperor.wait_for("serving");
        emperor.wait_running(1, "beside");
        // Another name of a file that is there is a vassal of its own.
        let [old, new, beside, other] =
            ["old", "new", "beside", "other"].map(|name| vassal_path(name).display().to_string());
        let script = format!("mv {old} {new}; ln {beside} {other}");
        wrap(&program, &format!("[ -z \"$EMPEROR_STATE\" ] || {{ {script}; }}\nexec REAL \"$@\""));
        assert_eq!(sandbox.control(&["upgrade"]).0, 0);
        goes_on(&emperor, "old", "new", "old.ini", "new.ini");
        emperor.wait_running(1, "other");
        assert_eq!(emperor.lines("emperor: beside: ").len(), 2, "only that it was started, and runs");
        emperor.stop();
    });
}

/// However files get other names, clients that have connected before are served by whoever has the file.
#[test]
fn vassals_whose_files_change_places_keep_the_clients_of_their_sockets() {
    sandboxed(|sandbox| {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        // It accepts nobody before it is told to, and says under which name it runs.
        let app = sandbox.file(
            "app.py",
            "import os, socket, sys, time\n\
             kept = socket.socket(fileno=3)\n\
             print('up', sys.argv[1], flush=True)\n\
             while not os.path.exists('/run/scratch/go'): time.sleep(0.01)\n\
             while True: c = kept.accept()[0]; c.send(sys.argv[1].encode()); c.close()\n",
        );
        let text =
            |socket: &str| format!("command = python3 {} %n\nlisten = /run/scratch/{socket}", app.display());
        let path = vassal_path;
        let exchange = || renameat_with(CWD, path("a"), CWD, path("b"), RenameFlags::EXCHANGE).unwrap();
        let edit = || {
            fs::rename(path("a"), path("c")).unwrap();
            sandbox.vassal("c", &(text("1") + "\nenv = A=B"));
        };
        let over = || fs::rename(path("a"), path("b")).unwrap();
        let thrice = || {
            for (from, to) in [("a", "c"), ("c", "d"), ("d", "e")] {
                fs::rename(path(from), path(to)).unwrap();
                // The first name counts as gone by then.
                until_passed(Instant::now(), RETURN + Duration::from_millis(20));
            }
        };
        // What is done, and then each socket with the name of whom it is, and which start of that it is.
        type Served<'a> = (&'a dyn Fn(), &'a [(&'a str, &'a str, usize)]);
        let all: [Served<'_>; 4] = [
            (&exchange, &[("1", "b", 2), ("2", "a", 2)]),
            (&edit, &[("1", "c", 1), ("2", "b", 1)]),
            (&over, &[("1", "b", 2)]),
            (&thrice, &[("1", "e", 1), ("2", "b", 1)]),
        ];
        for (rename, serve) in all {
            sandbox.vassal("a", &text("1"));
            sandbox.vassal("b", &text("2"));
            let emperor = sandbox.emperor(&[]);
            for name in ["a", "b"] {
                emperor.wait_for(&format!("up {name}"));
            }
            let connect = |socket| UnixStream::connect(format!("/run/scratch/{socket}")).unwrap();
            let clients: Vec<_> = serve.iter().map(|(socket, ..)| connect(socket)).collect();
            rename();
            for (_, name, start) in serve {
                emperor.wait_for_nth(*start, &format!("up {name}"));
            }
            fs::write("/run/scratch/go", "").unwrap();
            for (mut client, (socket, name, _)) in clients.into_iter().zip(serve) {
                let mut answer = String::new();
                let read = client.read_to_string(&mut answer);
                assert_eq!(
                    (read.map_err(|error| error.to_string()), &*answer),
                    (Ok(1), *name),
                    "socket {socket}: {}",
                    emperor.log()
                );
            }
            let log = emperor.log();
            assert!(!log.contains("Address already in use"), "{log}");
            emperor.stop();
            fs::remove_file("/run/scratch/go").unwrap();
            ["a", "b", "c", "e"].into_iter().for_each(|name| drop(fs::remove_file(path(name))));
        }
    });
}

/// The home directory of a user is renamed; a file, or a link to one, is moved to a directory that another
/// process looks at.
#[test]
fn a_vassal_that_moves_to_another_directory_does_so_too() {
    sandboxed(|sandbox| {
        let text = format!("[uwsgi]\n{}\n", slow_to_leave(sandbox));
        let make = |directory: &str| {
            fs::create_dir_all(directory).unwrap();
            fs::write(format!("{directory}/x.ini"), &text).unwrap();
        };
        let start = |sources: &[&str]| {
            let mut command = sandbox.program("emperor");
            command.args(sources.iter().flat_map(|source| ["--emperor", source]));
            command.args(["--emperor-use-clone", "fs,pid"]);
            sandbox.start("emperor", command)
        };
        let below = |path: &str| format!("/run/scratch/{path}");

        make(&below("home/bo/v"));
        let emperor = start(&["glob:///run/scratch/home/*/v/*.ini"]);
        emperor.wait_for("serving");
        fs::rename(below("home/bo"), below("home/bob")).unwrap();
        let (from, to) = (below("home/bo/v/x.ini"), below("home/bob/v/x.ini"));
        goes_on(&emperor, "bo/v/x", "bob/v/x", &from, &to);
        emperor.stop();

        for is_link in [false, true] {
            let (from, to) = (below("one/x.ini"), below("two/z.ini"));
            make(&below("one"));
            if is_link {
                fs::rename(&from, below("file")).unwrap();
                std::os::unix::fs::symlink(below("file"), &from).unwrap();
            }
            let beside = below("two/beside.ini");
            fs::create_dir_all(below("two")).unwrap();
            fs::write(&beside, "[uwsgi]\ncommand = sleep 1000\n").unwrap();
            let emperor = start(&[&below("one"), &below("two")]);
            emperor.wait_for("serving");
            // What the first look at the other directory finds was not moved there.
            emperor.wait_running(1, "beside");
            run("touch", &[&beside]);
            emperor.wait_for("emperor: beside: reloaded after ");
            fs::rename(&from, &to).unwrap();
            goes_on(&emperor, "x", "z", &from, &to);
            emperor.stop();
            fs::remove_file(&to).unwrap();
        }
    });
}

#[test]
fn a_socket_that_was_kept_is_what_the_file_says_now() {
    sandboxed(|sandbox| {
        let socket = "/run/scratch/sockets/app.sock";
        fs::create_dir("/run/scratch/sockets").unwrap();
        run("chmod", &["777", "/run/scratch/sockets"]);
        let app = server(sandbox, &format!("listen = {socket}\n"));
        let other_user = app.replace("user001", "nobody");
        let id = |what: &str, user: &str| -> u32 { run("id", &[what, user]).trim().parse().unwrap() };
        let (user, group, nobody) = (id("-u", "user001"), id("-g", "user001"), id("-u", "nobody"));
        sandbox.vassal("app", &format!("{app}chmod-socket = 600\nlisten = 50"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "100"]);
        emperor.wait_for_nth(1, "serving ");
        let inode = || fs::metadata(socket).unwrap().ino();
        let mut before = inode();
        // Whether it can go on as the same socket, its mode, user and group, and the length of its queue.
        let steps = [
            (format!("{app}chmod-socket = 666\nlisten = 200"), true, (0o666, user, group), 200),
            (format!("{app}umask = 027"), true, (0o750, user, group), 1024),
            (format!("{app}umask = 027\nchown-socket = nobody:4711"), true, (0o750, nobody, 4711), 1024),
            (format!("{app}chown-socket = nobody\nchmod-socket = 604"), true, (0o604, nobody, 0), 1024),
            (format!("{app}chown-socket = :4711\nchmod-socket = 604"), true, (0o604, 0, 4711), 1024),
            (format!("{app}chown-socket = nobody:\nchmod-socket = 604"), true, (0o604, nobody, 0), 1024),
            (format!("{app}chmod-socket = 660"), false, (0o660, user, group), 1024),
            (format!("{other_user}chmod-socket = 660"), false, (0o660, nobody, id("-g", "nobody")), 1024),
        ];
        for (round, (lines, goes_on, wanted, queue)) in (2..).zip(steps) {
            sandbox.vassal("app", &lines);
            emperor.wait_for_nth(round, "serving ");
            let file = fs::metadata(socket).unwrap();
            assert_eq!((file.mode() & 0o777, file.uid(), file.gid()), wanted, "{lines}");
            let queues = || -> Vec<_> {
                let listening = run("ss", &["-Hlx", "src", socket]);
                let queue = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
                listening.lines().filter_map(queue).collect()
            };
            // The app serves before the emperor has closed what is not the same socket.
            until("only one listens", || queues().len() == 1);
            assert_eq!(queues(), [queue.to_string()], "{lines}");
            assert_eq!(inode() == before, goes_on, "{lines}");
            answer(UnixStream::connect(socket).unwrap());
            before = inode();
        }
        emperor.stop();
    });
}

#[test]
fn an_address_that_is_taken_is_one_clear_line() {
    sandboxed(|sandbox| {
        let _taken = std::net::TcpListener::bind("127.0.0.1:7000").unwrap();
        let _file = std::os::unix::net::UnixListener::bind("/run/scratch/taken.sock").unwrap();
        fs::write("/run/scratch/file", "").unwrap();
        let taken = "Address already in use (EADDRINUSE)";
        let of_root = format!("{taken}: a process of user 0 listens there");
        let own = sandbox.path("vassal.ini").display().to_string();
        for (lines, says) in [
            ("listen = 127.0.0.1:7000", &*format!(":2:10: listen: listen on 127.0.0.1:7000: {of_root}")),
            (
                "http-socket = 127.0.0.1:7000\nplugin = psgi",
                &format!(":2:15: http-socket: listen on 127.0.0.1:7000: {of_root}"),
            ),
            ("listen = /run/scratch/taken.sock", &format!("listen on /run/scratch/taken.sock: {taken}")),
            (
                "listen = /run/scratch/file",
                "listen on /run/scratch/file: something that is no socket is there",
            ),
            (
                "listen = /run/none/on/x",
                "listen on /run/none/on/x: No such file or directory (ENOENT): there is no /run/none",
            ),
            (
                "uid = user001\nlisten = /etc/x",
                "listen on /etc/x: Permission denied (EACCES): for user 1001, the mode of /etc is 755",
            ),
            (
                "listen = 127.0.0.1:7001\nlisten = :7001",
                &format!(":3:10: listen: listen on :7001: {taken}: {own}:2:10 listens there already"),
            ),
            (
                "listen = /run/scratch/a.sock\nlisten = /run/scratch/a.sock",
                &format!("listen on /run/scratch/a.sock: {taken}: {own}:2:10 listens there already"),
            ),
            (
                "listen = 192.0.2.1:80",
                "listen on 192.0.2.1:80: Cannot assign requested address (EADDRNOTAVAIL)",
            ),
        ] {
            let app = if lines.contains("plugin") { "" } else { "\ncommand = true" };
            let (status, log) = sandbox.outcome(&format!("{lines}{app}"));
            assert_eq!(status, 71, "{log}");
            let told: Vec<_> =
                log.lines().filter(|line| line.contains("setup failed in sockets: ")).collect();
            assert!(told.len() == 1 && told[0].contains(says), "'{says}' is not in: {log}");
        }
        assert!(UnixStream::connect("/run/scratch/taken.sock").is_ok());
        // With a /proc that shows who it is.
        for address in ["127.0.0.1:7000", "/run/scratch/taken.sock"] {
            let ini = sandbox.ini("bare", &format!("listen = {address}\ncommand = true"));
            let mut command = sandbox.program("vassal-init");
            command.arg(ini);
            let mut vassal = sandbox.start("bare", command);
            assert_eq!(vassal.wait(), 71);
            vassal.wait_for(&format!("listen on {address}: {taken}: pid {} (", std::process::id()));
        }
    });
}

#[test]
fn an_address_that_another_vassal_has_is_told_with_its_name() {
    sandboxed(|sandbox| {
        let listen = |address: &str| format!("listen = {address}\ncommand = sleep 1000");
        let app = |name: &str, address: &str| drop(sandbox.vassal(name, &listen(address)));
        app("holder", "127.0.0.1:7000\nlisten = /run/scratch/held.sock\nlisten = :7001");
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        emperor.wait_running(1, "holder");
        let _taken = std::net::TcpListener::bind("127.0.0.2:7002").unwrap();
        for (name, address, holder) in [
            ("port", ":7000", ": vassal holder"),
            ("host", "127.0.0.3:7001", ": vassal holder"),
            ("file", "/run/scratch/held.sock", ": vassal holder"),
            ("other", "127.0.0.2:7002", ""),
            ("twice", "127.0.0.3:7003\nlisten = :7003", ""),
        ] {
            app(name, address);
            let line = emperor.wait_for(&format!("emperor: {name}: setup failed in sockets: "));
            let (why, _) = line.split_once(&format!("{holder}; ")).unwrap_or_else(|| panic!("{line}"));
            assert!(why.contains("Address already in use (EADDRINUSE)"), "{line}");
            assert_eq!(line.contains(": vassal "), !holder.is_empty(), "{line}");
        }
        emperor.stop();
    });
}

#[test]
fn a_stop_while_an_address_is_waited_for_is_no_failure() {
    sandboxed(|sandbox| {
        let _taken = std::net::TcpListener::bind("127.0.0.1:7000").unwrap();
        sandbox.vassal("app", "command = sleep 1000\nlisten = 127.0.0.1:7000");
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("(EADDRINUSE): tried again for ");
        // It is tried for two seconds, of which those do not count in which it cannot run.
        let init = emperor.pid_of_started("app");
        process::signal(init, Signal::STOP);
        fs::remove_file(vassal_path("app")).unwrap();
        emperor.wait_for("emperor: app: file removed: stopping");
        process::signal(init, Signal::CONT);
        emperor.wait_for("emperor: app: stopped; ");
        assert_eq!(emperor.lines("setup failed"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn what_uwsgi_cannot_take_over_it_binds_itself() {
    sandboxed(|sandbox| {
        sandbox.zip();
        sandbox.vassal(
            "app",
            "uid = user001\nplugin = psgi\nexec-as-user = fuse-zip -r /var/www/app001.zip /app\npsgi = \
             /app/myapp.pl\n\
             http-socket = :9090\nsocket = 127.0.0.1:9091\nmountpoint-check = /app",
        );
        let emperor = sandbox.emperor(&[]);
        wait_for_page();
        emperor.wait_for(
            "'http-socket' and 'socket' speak different protocols, so uWSGI binds its sockets itself",
        );
        emperor.wait_for("uwsgi socket 0 bound to TCP address :9090");
        emperor.stop();
    });
}

#[test]
fn more_sockets_than_can_be_kept_are_named_once() {
    sandboxed(|sandbox| {
        let lines: String = (7000..7034).map(|port| format!("listen = 127.0.0.1:{port}\n")).collect();
        sandbox.vassal("app", &server(sandbox, &lines));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("serving ");
        assert_eq!(
            emperor.lines(" sockets are kept, and not: "),
            ["vassal-init[app]: of one vassal no more than 32 sockets are kept, and not: 127.0.0.1:7032, \
                 127.0.0.1:7033"]
        );
        assert!(!emperor.log().contains("not kept"));
        until("the emperor has its copies", || holds(emperor.pid(), 7031));
        assert!(!holds(emperor.pid(), 7032));
        emperor.stop();
    });
}

#[test]
fn as_many_other_sockets_are_kept_while_an_instance_is_replaced() {
    sandboxed(|sandbox| {
        let vassal = |first: u16| {
            let listen: String =
                (0..20).map(|number| format!("listen = 127.0.0.1:{}\n", first + number)).collect();
            let rolls = "reload-strategy = rolling\nready-after = 100ms";
            sandbox.vassal("app", &format!("{listen}{rolls}\ncommand = sleep 1000"));
        };
        let emperor = sandbox.emperor(&[]);
        let mut before = None;
        for first in [7000, 7100] {
            vassal(first);
            until("the emperor has its copies", || holds(emperor.pid(), first + 19));
            if let Some(before) = before.replace(first) {
                until("the old ones are closed", || !holds(emperor.pid(), before));
            }
            assert!((first..first + 20).all(|port| holds(emperor.pid(), port)));
        }
        emperor.stop();
    });
}

#[test]
fn an_abstract_name_is_the_same_as_uwsgis() {
    sandboxed(|sandbox| {
        sandbox.vassal("ours", "uid = user001\nplugin = psgi\nsocket = @ours");
        let mut command = std::process::Command::new("uwsgi");
        command.args(["--socket", "@its"]);
        let mut uwsgi = sandbox.start("uwsgi", command);
        let emperor = sandbox.emperor(&[]);
        for name in ["@its@", "@ours@"] {
            let is_there = |table: String| table.lines().any(|line| line.ends_with(&format!(" {name}")));
            until(format!("{name} listens"), || is_there(fs::read_to_string("/proc/net/unix").unwrap()));
        }
        uwsgi.signal(Signal::KILL);
        uwsgi.wait();
        // Before, it may not hear that it is to stop.
        emperor.wait_for("spawned uWSGI worker 1");
        emperor.stop();
    });
}

#[test]
fn an_address_that_begins_like_another_keeps_its_own_socket() {
    sandboxed(|sandbox| {
        let sockets = ["/run/scratch/a b", "/run/scratch/a"];
        let app = |order: [usize; 2]| {
            let [first, second] = order.map(|index| sockets[index]);
            let lines = format!("listen = {first}\nlisten = {second}\nchmod-socket = 666");
            sandbox.vassal("app", &server(sandbox, &lines));
        };
        app([0, 1]);
        let emperor = sandbox.emperor(&[]);
        let served = |n: usize| {
            emperor.wait_for_nth(n, "serving ");
            sockets.map(|path| answer(UnixStream::connect(path).unwrap()).0)
        };
        served(1);
        let files = || sockets.map(|path| fs::metadata(path).unwrap().ino());
        let before = files();
        // A change of the lines' order, a crash, and a change back.
        app([1, 0]);
        served(2);
        process::signal(emperor.wait_running(2, "app"), Signal::KILL);
        served(3);
        app([0, 1]);
        served(4);
        assert_eq!(files(), before, "a socket was bound anew");
        assert!(emperor.lines("Address already in use").is_empty(), "{}", emperor.log());
        emperor.stop();
    });
}

#[test]
fn the_file_of_a_socket_is_removed_when_nobody_keeps_it_any_more() {
    sandboxed(|sandbox| {
        let path = |name: &str| sandbox.path(&format!("{name}.sock"));
        let lines = |name: &str| server(sandbox, &format!("listen = {}", path(name).display()));
        let names = ["gone", "moved", "stopped", "crashing", "taken", "last"];
        for name in names {
            sandbox.vassal(name, &lines(name));
        }
        let emperor = sandbox.emperor(&["--emperor-throttle", "60000"]);
        for name in names {
            emperor.wait_running(1, name);
            answer(UnixStream::connect(path(name)).unwrap());
        }
        let gone = |name: &str| until(format_args!("{name} is gone"), || !path(name).exists());
        fs::remove_file(vassal_path("gone")).unwrap();
        gone("gone");
        sandbox.vassal("moved", &server(sandbox, "listen = /run/scratch/elsewhere.sock"));
        gone("moved");
        let stop = sandbox.program("emperor").args(["stop", "stopped"]).status().unwrap();
        assert!(stop.success());
        gone("stopped");
        // It ends before it is up for a second: the wait is long.
        sandbox.vassal("crashing", &format!("command = false\nlisten = {}", path("crashing").display()));
        emperor.wait_for("emperor: crashing: its sockets are closed until it runs again");
        gone("crashing");
        // What somebody else has put there stays.
        fs::remove_file(path("taken")).unwrap();
        let _somebody = std::os::unix::net::UnixListener::bind(path("taken")).unwrap();
        fs::remove_file(vassal_path("taken")).unwrap();
        emperor.wait_for("emperor: taken: stopped");
        emperor.stop();
        let left = names.map(|name| path(name).exists());
        assert_eq!(left, [false, false, false, false, true, false]);
    });
}

#[test]
fn another_user_can_have_the_address_in_a_directory_with_the_sticky_bit() {
    sandboxed(|sandbox| {
        let socket = sandbox.path("app.sock");
        let lines = server(sandbox, "listen = /run/scratch/app.sock");
        let others = lines.replace("user001", "nobody");
        let owner = || fs::metadata(&socket).map(|file| file.uid()).unwrap_or_default();
        let uid = |name: &str| -> u32 {
            let output = std::process::Command::new("id").args(["-u", name]).output().unwrap().stdout;
            String::from_utf8(output).unwrap().trim().parse().unwrap()
        };
        let users = [uid("user001"), uid("nobody")];
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&["--emperor-throttle", "60000"]);
        emperor.wait_running(1, "app");
        assert_eq!(answer(UnixStream::connect(&socket).unwrap()).1, users[0]);
        assert_eq!(owner(), users[0]);
        // Another user in the file.
        sandbox.vassal("app", &others);
        emperor.wait_for_nth(2, "serving ");
        assert_eq!(answer(UnixStream::connect(&socket).unwrap()).1, users[1]);
        assert_eq!(owner(), users[1]);
        // Another vassal, of another user, in the place of one that was removed.
        fs::remove_file(vassal_path("app")).unwrap();
        emperor.wait_for("emperor: app: file removed");
        sandbox.vassal("next", &lines);
        emperor.wait_for_nth(3, "serving ");
        assert_eq!(answer(UnixStream::connect(&socket).unwrap()).1, users[0]);
        assert_eq!(emperor.lines("setup failed"), [""; 0]);
        emperor.stop();
        assert!(!socket.exists());

        // A file that nobody keeps: whose it is, is told.
        let left =
            "import os, socket; os.umask(0o22); socket.socket(socket.AF_UNIX).bind('/run/scratch/app.sock')";
        run("setpriv", &["--reuid", "user001", "--clear-groups", "python3", "-c", left]);
        let (status, log) = sandbox.outcome(&others);
        assert_eq!(status, 71, "{log}");
        let says = format!(
            "listen on /run/scratch/app.sock (of user {}): Address already in use (EADDRINUSE)",
            users[0]
        );
        assert!(log.contains(&says), "{log}");
        fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        let (status, log) = sandbox.outcome(&others);
        assert_eq!(status, 71, "{log}");
        let says = format!(
            "listen on /run/scratch/app.sock (of user {}), left over, and not ours to remove: Address",
            users[0]
        );
        assert!(log.contains(&says), "{log}");
    });
}

#[test]
fn no_link_of_a_users_has_the_emperor_remove_a_file_elsewhere() {
    sandboxed(|sandbox| {
        let [own, elsewhere] = ["own", "elsewhere"].map(|name| sandbox.path(name));
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(fs::metadata("/app").unwrap().uid()), None).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        sandbox.vassal("app", &server(sandbox, "listen = /run/scratch/own/app.sock"));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        // The same file, where only root could have removed it.
        fs::hard_link(own.join("app.sock"), elsewhere.join("app.sock")).unwrap();
        fs::remove_dir_all(&own).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &own).unwrap();
        std::os::unix::fs::lchown(&own, Some(fs::metadata("/app").unwrap().uid()), None).unwrap();
        fs::remove_file(vassal_path("app")).unwrap();
        emperor.wait_for("emperor: remove /run/scratch/own/app.sock: ");
        assert!(elsewhere.join("app.sock").exists());
        emperor.stop();
        assert!(elsewhere.join("app.sock").exists());
    });
}
