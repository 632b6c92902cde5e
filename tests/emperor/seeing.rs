//! What tools see of a running emperor: uWSGI's JSON, and metrics.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

use crate::common::cgroups::{self, OutermostCgroup};
use crate::common::sandbox::VASSALS;
use crate::common::{Sandbox, eventually, process, run, sandboxed, unmount, until};
use rustix::process::Signal;

/// Everything a server writes until it hangs up; `None` while nobody listens.
fn read_all<S: Read + Write>(socket: std::io::Result<S>, request: &[u8]) -> Option<String> {
    let mut socket = socket.ok()?;
    socket.write_all(request).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    Some(answer)
}

fn from_tcp(address: &str, request: &[u8]) -> String {
    eventually(address, || read_all(TcpStream::connect(address), request))
}

/// An expression of Python on a JSON text, `it`.
fn python(sandbox: &Sandbox, json: &str, expression: &str) -> String {
    let file = sandbox.file("text.json", json);
    let program =
        format!("import json; it = json.load(open({:?})); print({expression})", file.display().to_string());
    run("python3", &["-c", &program]).trim().to_owned()
}

/// What a vassal is, in the stats.
const VASSAL: &str = "next(v for v in it['vassals'] if v['id'] == 'app.ini')";

#[test]
fn the_stats_have_every_key_that_uwsgi_has() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "http-socket = :9090\nmaster = true");
        sandbox.vassal("broken", "socket = /nonexistent/socket\ncommand = false");
        let keys = format!(
            "[sorted(o) for o in [it, {VASSAL}, next(b for b in it['blacklist'] if b['id'] == 'broken.ini')]]"
        );
        let both = |address: &str| {
            eventually(address, || {
                let stats = read_all(TcpStream::connect(address), b"")?;
                let all = "any(v['id'] == 'app.ini' and v['accepting'] for v in it['vassals']) \
                           and any(b['id'] == 'broken.ini' for b in it['blacklist'])";
                (python(sandbox, &stats, all) == "True").then_some(stats)
            })
        };
        let mut peer = Command::new("uwsgi");
        peer.args(["--emperor", VASSALS, "--emperor-stats", "127.0.0.1:9191"]);
        let mut peer = sandbox.start("peer", peer);
        let theirs = both("127.0.0.1:9191");
        // In order it would take three seconds.
        peer.signal(Signal::KILL);
        peer.wait();
        until("its vassals end with it", || process::named("uwsgi").is_empty());

        let emperor = sandbox.emperor(&["--emperor-stats", "127.0.0.1:9192"]);
        let ours = both("127.0.0.1:9192");
        let missing =
            format!("[sorted(set(t) - set(o)) for t, o in zip({}, {keys})]", python(sandbox, &theirs, &keys));
        assert_eq!(python(sandbox, &ours, &missing), "[[], [], []]");
        for (ours_is, what) in [
            (emperor.pid_of("app").to_string(), "pid"),
            ("0".to_owned(), "respawns"),
            (VASSALS.to_owned(), "monitor"),
            ("running".to_owned(), "state"),
            ("0".to_owned(), "uid"),
        ] {
            assert_eq!(python(sandbox, &ours, &format!("{VASSAL}['{what}']")), ours_is, "{what}");
        }
        let dates = ["born", "last_mod", "last_ready", "last_accepting", "first_run", "last_run"];
        let recent = dates
            .map(|date| format!("0 <= __import__('time').time() - {VASSAL}['{date}'] < 3600"))
            .join(" and ");
        assert_eq!(python(sandbox, &ours, &recent), "True", "{ours}");
        assert_eq!(
            python(sandbox, &ours, "it['emperor'] + [it['pid']]"),
            format!("['{VASSALS}', {}]", emperor.pid())
        );
        // A reload is one of uWSGI's respawns, and none of our restarts.
        run("touch", &[&format!("{VASSALS}/app.ini")]);
        emperor.wait_for("emperor: app: reloaded after ");
        let ours = both("127.0.0.1:9192");
        let more = format!("{VASSAL}['respawns'], {VASSAL}['born'] <= {VASSAL}['last_run']");
        assert_eq!(python(sandbox, &ours, &more), "1 True", "{ours}");
        let output = sandbox.program("emperor").args(["status", "--json"]).output().unwrap();
        let restarts = "next(v for v in it['vassals'] if v['name'] == 'app')['restarts']";
        assert_eq!(python(sandbox, &String::from_utf8(output.stdout).unwrap(), restarts), "0");
        // One that does not want to go.
        let stays = "trap : TERM; echo stays; while :; do sleep 1; done";
        sandbox.vassal("stuck", &format!("stop-timeout = 5s\ncommand = sh -c '{stays}'"));
        emperor.wait_running(1, "stuck");
        emperor.wait_for("stays");
        run("rm", &[&format!("{VASSALS}/stuck.ini")]);
        let cursed = eventually("it is being stopped", || {
            let stats = read_all(TcpStream::connect("127.0.0.1:9192"), b"")?;
            let dates = "[v['cursed'] for v in it['vassals'] if v['state'] == 'stopping']";
            Some(python(sandbox, &stats, dates)).filter(|dates| dates != "[]")
        });
        let cursed: u64 = cursed.trim_matches(['[', ']']).parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now - cursed < 60, "{cursed}");
        let waiting = "[it['blacklist'][0][k] for k in ('id', 'throttle_level', 'attempt', 'state')]";
        let waiting = python(sandbox, &ours, waiting);
        assert!(waiting.starts_with("['broken.ini', ") && waiting.ends_with("'backoff']"), "{waiting}");
        emperor.stop();
    });
}

#[test]
fn any_name_gives_valid_json_and_metrics() {
    sandboxed(|sandbox| {
        use std::os::unix::ffi::OsStrExt;
        fs::create_dir_all(VASSALS).unwrap();
        let names: [&[u8]; 4] = [b"q\"\\ \n x.ini", b"\xff\xfe.ini", b"\xff\xfd.ini", b"\x1b[2J.ini"];
        for name in names {
            let path = std::path::Path::new(VASSALS).join(std::ffi::OsStr::from_bytes(name));
            fs::write(path, "[uwsgi]\ncommand = sleep 1000\n").unwrap();
        }
        let socket = sandbox.path("stats.sock");
        let stats = socket.to_str().unwrap();
        let options = ["--emperor-stats-server", stats, "--metrics", "[::1]:9193"];
        let emperor = sandbox.emperor(&options);
        let stats = eventually("all run", || {
            let stats = read_all(UnixStream::connect(&socket), b"")?;
            let all = "sorted(v['id'] for v in it['vassals'] if v['ready'])";
            (python(sandbox, &stats, &format!("len({all})")) == "4").then(|| python(sandbox, &stats, all))
        });
        assert_eq!(stats, r#"['\x1b[2J.ini', '\\xff\\xfd.ini', '\\xff\\xfe.ini', 'q"\\ \n x.ini']"#);

        let answer = from_tcp("[::1]:9193", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        for line in [
            "# TYPE vassal_restarts_total counter\n",
            "vassal_up{vassal=\"q\\\"\\\\ \\n x\"} 1\n",
            "vassal_up{vassal=\"\\\\xff\\\\xfe\"} 1\n",
            "vassal_up{vassal=\"\\\\xff\\\\xfd\"} 1\n",
            "vassal_state{vassal=\"q\\\"\\\\ \\n x\",state=\"running\"} 1\n",
            "vassal_restarts_total{vassal=\"\u{1b}[2J\"} 0\n",
        ] {
            assert!(body.contains(line), "{line:?} is not in {body}");
        }
        assert!(!body.contains("vassal_next_try_seconds{"), "{body}");
        let answer = from_tcp("[::1]:9193", b"POST /metrics HTTP/1.1\n\n");
        assert!(
            answer.starts_with("HTTP/1.0 405 ") && answer.contains("\r\nAllow: GET, HEAD\r\n"),
            "{answer}"
        );
        let nonsense = from_tcp("[::1]:9193", b"metrics\n\n");
        assert!(nonsense.starts_with("HTTP/1.0 400 "), "{nonsense}");
        let only_head = from_tcp("[::1]:9193", b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(only_head.starts_with("HTTP/1.0 200 ") && only_head.ends_with("\r\n\r\n"), "{only_head}");
        emperor.stop();
        assert!(!socket.exists(), "the socket is left");
    });
}

/// The value of a sample, by its line up to the blank.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn the_metrics_tell_losses_and_recoveries_and_no_stop_by_command_is_one() {
    sandboxed(|sandbox| {
        let mount = sandbox.faulty().command("/app", "");
        sandbox.vassal(
            "app",
            &format!("exec-as-root = {mount}\nmountpoint-check = /app\ncommand = sleep 1000\n"),
        );
        let emperor = sandbox.emperor(&["--metrics", "127.0.0.1:9196"]);
        let page = || from_tcp("127.0.0.1:9196", b"GET / HTTP/1.0\r\n\r\n");
        let of_mount = |metric: &str| format!(r#"vassal_mount_{metric}{{vassal="app",mountpoint="/app"}}"#);
        emperor.wait_running(1, "app");
        // The answer to one question comes with the next page.
        until("the mount is up", || {
            let page = page();
            value(&page, &of_mount("up")) == Some(1.0)
                && value(&page, &of_mount("round_trip_seconds")).is_some_and(|time| time < 1.0)
        });
        assert_eq!(value(&page(), "emperor_recovery_seconds_count"), Some(0.0));
        process::signal(process::only("faulty-fuse").pid, Signal::KILL);
        emperor.wait_running(2, "app");
        eventually("the loss", || {
            let page = page();
            let count = |sample: &str| value(&page, sample).unwrap();
            let is_counted = count(&of_mount("losses_total")) == 1.0
                && count(r#"emperor_mount_losses_total{reason="error"}"#) == 1.0
                && count(r#"emperor_ends_total{reason="mount-lost"}"#) == 1.0
                && count(r#"emperor_recovery_seconds_bucket{le="+Inf"}"#) == 1.0;
            is_counted.then(|| assert!(count("emperor_recovery_seconds_sum") > 0.0, "{page}"))
        });
        for order in ["stop", "start"] {
            let (status, text) = sandbox.control(&[order, "--wait", "app"]);
            assert_eq!(status, 0, "{text}");
        }
        until("the stop", || value(&page(), r#"emperor_ends_total{reason="stopped"}"#) == Some(1.0));
        assert_eq!(value(&page(), "emperor_recovery_seconds_count"), Some(1.0));
        assert_eq!(value(&page(), "emperor_instances"), Some(1.0));
        // No cgroup, no figures of one.
        assert!(!page().contains("vassal_memory_bytes{"));
        emperor.stop();
    });
}

#[test]
fn the_metrics_have_what_the_cgroup_of_a_vassal_says() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "usage");
        // A fifth of a second of a processor, 32 MB, and a child.
        let app = "my $x = \"x\" x 32_000_000; 1 while times < 0.2; fork; sleep 1000";
        sandbox.vassal("app", &format!("uid = nobody\ncommand = perl -e '{app}'"));
        sandbox.vassal("idle", "uid = nobody\ncommand = sleep 1000");
        let group_option = group.to_str().unwrap();
        let emperor = sandbox.emperor(&["--emperor-cgroup", group_option, "--metrics", "127.0.0.1:9197"]);
        let page = || from_tcp("127.0.0.1:9197", b"GET / HTTP/1.0\r\n\r\n");
        let of = |page: &str, metric: &str, name: &str| {
            value(page, &format!(r#"vassal_{metric}{{vassal="{name}"}}"#))
        };
        // PID 1 is one of them.
        until("all processes", || {
            let page = page();
            ["app", "idle"].map(|name| of(&page, "processes", name)) == [Some(3.0), Some(2.0)]
        });
        let read = |name: &str, file: &str| fs::read_to_string(group.join(format!("v-{name}")).join(file));
        let used = |name: &str| {
            let text = read(name, "cpu.stat").unwrap();
            text.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e6
        };
        for (name, least) in [("app", 0.2), ("idle", 0.0)] {
            let before = used(name);
            // A page is kept for as long as it took to make, ten times.
            let page = eventually("a later page", || {
                let page = page();
                (of(&page, "cpu_seconds_total", name)? >= before).then_some(page)
            });
            let told = of(&page, "cpu_seconds_total", name).unwrap();
            assert!(least <= told && told <= used(name), "{name}: {told}, {before} to {}", used(name));
            let memory = of(&page, "memory_bytes", name);
            match read(name, "memory.current") {
                Ok(_) if name == "app" => assert!(memory.unwrap() > 32e6, "{page}"),
                Ok(_) => assert!(memory.unwrap() < 32e6, "{page}"),
                Err(_) => assert_eq!(memory, None, "{page}"),
            }
        }
        emperor.stop();
        cgroups::remove(&group);
    });
}

#[test]
fn an_address_that_cannot_be_had_ends_the_start() {
    sandboxed(|sandbox| {
        let _taken = std::net::TcpListener::bind("127.0.0.1:9194").unwrap();
        let mut emperor = sandbox.emperor(&["--metrics", "127.0.0.1:9194"]);
        assert_eq!(emperor.wait(), 1);
        emperor.wait_for("emperor: listen on 127.0.0.1:9194: Address already in use (EADDRINUSE)");
        let mut emperor = sandbox.emperor(&["--emperor-stats", "somewhere:1"]);
        assert_eq!(emperor.wait(), 78);
        emperor.wait_for("'somewhere:1' is not an address");
    });
}

#[test]
fn systemd_hears_that_the_emperor_is_ready_alive_reloading_and_stopping() {
    sandboxed(|sandbox| {
        // Nothing is lost while something else is waited for. It is a setting of the network namespace.
        fs::write("/proc/sys/net/unix/max_dgram_qlen", "250").unwrap();
        for kind in ["/run/notify", "@notify"] {
            let socket = match kind.strip_prefix('@') {
                Some(name) => {
                    use std::os::linux::net::SocketAddrExt;
                    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
                    UnixDatagram::bind_addr(&address).unwrap()
                }
                None => UnixDatagram::bind(kind).unwrap(),
            };
            socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
            let hear = |wanted: &str| {
                let mut buffer = [0; 4096];
                loop {
                    let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
                    let text = std::str::from_utf8(&buffer[..count]).unwrap();
                    if text.starts_with(wanted) {
                        return text.to_owned();
                    }
                    assert!(text != "READY=1" || wanted == "STOPPING=1", "{text} while waiting for {wanted}");
                }
            };
            sandbox.vassal(
                "app",
                "command = sh -c 'echo \"the app has $NOTIFY_SOCKET$WATCHDOG_USEC.\"; exec sleep 1000'",
            );
            let mut command = sandbox.program("emperor");
            command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid", "--emperor-freq", "1"]);
            let hold = sandbox.path("hold");
            let asked = format!("while [ -e {} ]; do sleep 0.02; done; :", hold.display());
            command.args(["--emperor-on-demand-exec", &asked]);
            command.env("NOTIFY_SOCKET", kind).env("WATCHDOG_USEC", "200000");
            let mut emperor = sandbox.start("emperor", command);
            hear("WATCHDOG=1");
            hear("READY=1");
            // The vassal's own: a name of five digits, and no watchdog.
            let has = emperor.wait_for("the app has ");
            assert!(has.starts_with("the app has @") && has.len() == "the app has @12345.".len(), "{has}");
            hear("STATUS=1 vassal: 1 running, 0 waiting to be tried again");
            for _ in 0..5 {
                hear("WATCHDOG=1");
            }
            let init = emperor.pid_of("app");
            process::signal(init, Signal::STOP);
            fs::write(&hold, "").unwrap();
            emperor.signal(Signal::HUP);
            assert!(hear("RELOADING=1").contains("\nMONOTONIC_USEC="));
            // Not ready before it is known whether it is on demand, nor before it has reloaded.
            for _ in 0..5 {
                hear("WATCHDOG=1");
            }
            fs::remove_file(&hold).unwrap();
            emperor.wait_for("emperor: app: reload: reloading");
            for _ in 0..5 {
                hear("WATCHDOG=1");
            }
            process::signal(init, Signal::CONT);
            hear("READY=1");
            emperor.wait_for("emperor: app: reloaded after ");
            emperor.signal(Signal::TERM);
            hear("STOPPING=1");
            assert_eq!(emperor.wait(), 0);
        }
    });
}

#[test]
fn the_log_and_the_pid_are_in_their_files() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", "command = sh -c 'echo out; echo err >&2; exec sleep 1000'");
        let (log, pid) = (sandbox.path("all.txt"), sandbox.path("pid"));
        let arguments = ["--logto", log.to_str().unwrap(), "--emperor-pidfile", pid.to_str().unwrap()];
        let emperor = sandbox.emperor(&arguments);
        let has = |text: &str| {
            fs::read_to_string(&log).is_ok_and(|log| log.lines().any(|line| line.contains(text)))
        };
        for text in ["emperor: app: running after ", "vassal-init[app]: app started", "out", "err"] {
            until(text, || has(text));
        }
        assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{}\n", emperor.pid()));
        assert_eq!(emperor.log(), "");
        // As logrotate does it with copytruncate.
        fs::write(&log, "").unwrap();
        emperor.signal(Signal::USR1);
        until("the log goes on", || has("emperor: app: running, up "));
        assert!(fs::read(&log).unwrap().starts_with(b"emperor: "), "no hole at the beginning");
        emperor.stop();
        assert!(!pid.exists(), "the pid file is left");
        // Nobody reads it: to wait for that would be to wait for ever.
        run("mkfifo", &[pid.to_str().unwrap()]);
        let mut emperor = sandbox.emperor(&["--emperor-pidfile", pid.to_str().unwrap()]);
        assert_eq!(emperor.wait(), 1);
        emperor.wait_for("emperor: open /run/scratch/pid: ");
        let _reader = rustix::fs::open(&pid, rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).unwrap();
        let mut emperor = sandbox.emperor(&["--emperor-pidfile", pid.to_str().unwrap()]);
        assert_eq!(emperor.wait(), 1);
        emperor.wait_for("emperor: write a pid to /run/scratch/pid: it is not a regular file");
    });
}

#[test]
fn a_pid_file_that_finds_no_room_is_not_left_empty_and_one_that_has_room_is_written_over() {
    sandboxed(|sandbox| {
        fs::create_dir("/run/full").unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=8k", "none", "/run/full"]);
        fs::write("/run/full/old", "1234567890\n").unwrap();
        fs::write("/run/full/all", [0; 4096]).unwrap();
        let mut emperor = sandbox.emperor(&["--emperor-pidfile", "/run/full/pid"]);
        assert_eq!(emperor.wait(), 1);
        let full = "emperor: write /run/full/pid: No space left on device (ENOSPC): make room there, or ";
        emperor.wait_for(full);
        assert!(!fs::exists("/run/full/pid").unwrap());
        let emperor = sandbox.emperor(&["--emperor-pidfile", "/run/full/old"]);
        until("it is written", || {
            fs::read_to_string("/run/full/old").is_ok_and(|text| text == format!("{}\n", emperor.pid()))
        });
        emperor.stop();
        unmount("/run/full");
    });
}

#[test]
fn no_file_or_socket_of_the_emperors_is_led_to_a_file_of_somebody_elses() {
    sandboxed(|sandbox| {
        fs::write("/run/hosts", "as it was").unwrap();
        fs::create_dir("/run/host").unwrap();
        run("install", &["-d", "-o", "user001", "/run/u"]);
        fs::hard_link("/run/hosts", "/run/u/hard").unwrap();
        symlink("/run/hosts", "/run/u/link").unwrap();
        symlink("/run/host", "/run/u/to").unwrap();
        for (option, path, says) in [
            ("--logto", "/run/u/link", "/run/u/link is a symbolic link of user 0, where user "),
            ("--logto", "/run/u/hard", "it has 2 names, in a directory that user "),
            ("--emperor-pidfile", "/run/u/link", "/run/u/link is a symbolic link of user 0, where user "),
            ("--emperor-pidfile", "/run/u/hard", "it has 2 names, in a directory that user "),
            ("--metrics", "/run/u/to/s", "/run/u/to is a symbolic link of user 0, where user "),
            ("--emperor-stats", "/run/u/to/s", "/run/u/to is a symbolic link of user 0, where user "),
        ] {
            let mut emperor = sandbox.emperor(&[option, path]);
            assert_eq!(emperor.wait(), 1, "{option} {path}");
            let line = emperor.wait_for(says);
            assert!(line.contains(path), "{line}");
            assert_eq!(fs::read_to_string("/run/hosts").unwrap(), "as it was");
            assert_eq!(fs::read_dir("/run/host").unwrap().count(), 0);
        }
        // In a plain directory of a user's there is nothing to be led by.
        let emperor = sandbox.emperor(&["--metrics", "/run/u/s", "--emperor-pidfile", "/run/u/pid"]);
        until("its socket", || fs::exists("/run/u/s").unwrap());
        emperor.stop();
        assert_eq!(["s", "pid"].map(|name| fs::exists(format!("/run/u/{name}")).unwrap()), [false; 2]);
    });
}

#[test]
fn a_full_disk_stops_nothing_and_is_told_of_later() {
    sandboxed(|sandbox| {
        let place = sandbox.path("disk");
        fs::create_dir(&place).unwrap();
        sandbox.mount(&["-t", "tmpfs", "-o", "size=4k", "small"], place.to_str().unwrap());
        fs::write(place.join("log"), "x".repeat(4096)).unwrap();
        let log = place.join("log");
        let emperor = sandbox.emperor(&["--logto", log.to_str().unwrap()]);
        sandbox.vassal("app", "command = sleep 1000");
        until("the emperor knows that the app runs", || {
            let output = sandbox.program("emperor").arg("status").output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains("  running  ")
        });
        fs::write(&log, "").unwrap();
        emperor.signal(Signal::USR1);
        let text = eventually("the loss is told, and all that comes with it", || {
            let text = fs::read_to_string(&log).ok()?;
            (text.contains(" log lines lost: ") && text.contains("emperor: app: ")).then_some(text)
        });
        assert!(text.starts_with("emperor: "), "{text}");
        emperor.stop();
    });
}

#[test]
fn a_line_that_a_full_disk_has_torn_spoils_no_other() {
    sandboxed(|sandbox| {
        let place = sandbox.path("disk");
        fs::create_dir(&place).unwrap();
        sandbox.mount(&["-t", "tmpfs", "-o", "size=4k", "small"], place.to_str().unwrap());
        let log = place.join("log");
        fs::write(&log, format!("{}\n", "x".repeat(4050))).unwrap();
        let emperor = sandbox.emperor(&["--logto", log.to_str().unwrap(), "--log-format", "json"]);
        sandbox.vassal("app", "command = sleep 1000");
        until("the disk is full", || fs::metadata(&log).unwrap().len() == 4096);
        run("mount", &["-o", "remount,size=64k", place.to_str().unwrap()]);
        emperor.signal(Signal::USR1);
        let text = eventually("the loss is told", || {
            fs::read_to_string(&log)
                .ok()
                .filter(|log| log.contains(" log lines lost: ") && log.ends_with('\n'))
        });
        // A line of vassal-init may have ended the torn one before the emperor does.
        let lines: Vec<_> = text.lines().skip(2).filter(|line| !line.is_empty()).collect();
        python(sandbox, &format!("[{}]", lines.join(",\n")), "[line['message'] for line in it]");
        emperor.stop();
    });
}

#[test]
fn lines_wait_for_room_that_others_have_taken() {
    sandboxed(|sandbox| {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        // As an app does that writes without end, and its reader is slow.
        let size = fcntl_getpipe_size(&writer).unwrap();
        assert_eq!(rustix::io::write(&writer, &vec![b'\n'; size]), Ok(size));
        sandbox.vassal("app", "command = sleep 1000");
        let mut emperor = sandbox.program("emperor");
        emperor.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        let mut emperor = emperor.stderr(writer).spawn().unwrap();
        until("the app runs", || {
            let output = sandbox.program("emperor").arg("status").output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains("  running  ")
        });
        // And now there is room, without anything new to tell.
        let mut log = Vec::new();
        let mut has = |text: &str| {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&reader, &mut buffer) {
                log.extend_from_slice(&buffer[..count]);
            }
            let log = String::from_utf8_lossy(&log);
            assert!(!log.contains(" log lines lost"), "{log}");
            log.contains(text)
        };
        for text in ["emperor: version ", "emperor: app: running after ", "vassal-init[app]: app started: "] {
            until(text, || has(text));
        }
        emperor.kill().unwrap();
        emperor.wait().unwrap();
    });
}

#[test]
fn lost_lines_are_told_when_there_is_room_though_nothing_else_happens() {
    sandboxed(|sandbox| {
        use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let size = fcntl_getpipe_size(&writer).unwrap();
        assert_eq!(rustix::io::write(&writer, &vec![b'\n'; size]), Ok(size));
        for number in 0..60 {
            sandbox.vassal(&format!("{number}"), "exec-as-usr = none");
        }
        let mut emperor = sandbox.program("emperor");
        emperor.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        emperor.args(["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        let mut emperor = emperor.stderr(writer).spawn().unwrap();
        let status = || {
            let output = sandbox.program("emperor").arg("status").output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        until("all are found invalid", || status().matches("  invalid  ").count() == 60);
        // Far more than waits for room.
        for _ in 0..20 {
            run("kill", &["-USR1", &emperor.id().to_string()]);
            status();
        }
        let mut log = Vec::new();
        until("the loss is told", || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&reader, &mut buffer) {
                log.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&log).contains(" log lines lost: they could not be written\n")
        });
        emperor.kill().unwrap();
        emperor.wait().unwrap();
    });
}

#[test]
fn a_terminal_that_nobody_reads_keeps_neither_program_from_its_work() {
    sandboxed(|sandbox| {
        let (terminal, output) = terminal();
        sandbox.vassal("app", "command = sleep 1000");
        for number in 0..20 {
            sandbox.vassal(&format!("{number}"), "exec-as-usr = none");
        }
        let mut emperor = sandbox.program("emperor");
        emperor.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        emperor.args(["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        let mut emperor = emperor.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        let status = || {
            let output = sandbox.program("emperor").arg("status").output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let mut log = Vec::new();
        let mut told = || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = rustix::io::read(&terminal, &mut buffer) {
                log.extend_from_slice(&buffer[..count]);
            }
            String::from_utf8_lossy(&log).into_owned()
        };
        // It is read while all write: in a full one only who writes alone keeps lines whole.
        until("the app runs", || told().contains("vassal-init[app]: app started: "));
        until("so the status says", || !told().is_empty() && status().contains("  running  "));
        until("all others are found invalid", || {
            !told().is_empty() && status().matches("  invalid  ").count() == 20
        });
        // A terminal holds 64 KiB at most, and this is far more; each answer shows that the signal was taken.
        for _ in 0..60 {
            run("kill", &["-USR1", &emperor.id().to_string()]);
            assert!(status().contains("  running  "));
        }
        // PID 1 hears it, and so does the emperor; and no other one comes, who would write, too.
        assert!(sandbox.program("emperor").args(["stop", "--wait", "app"]).status().unwrap().success());
        assert_eq!(process::named("vassal-init"), []);
        until("what was lost is told as soon as somebody reads", || {
            told().contains(" log lines lost: they could not be written\r\n")
        });
        let log = told();
        let (before, _) = log.split_once(" log lines lost").unwrap();
        let is_whole = |line: &str| line.starts_with("emperor: ") || line.starts_with("vassal-init[");
        assert!(before.lines().all(is_whole), "{log}");
        emperor.kill().unwrap();
        emperor.wait().unwrap();
    });
}

/// A terminal of which nothing is read: its other side, which does not block, and itself.
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let output = open(&*name, flags, Mode::empty()).unwrap();
    rustix::io::ioctl_fionbio(&terminal, true).unwrap();
    (terminal, output)
}

#[test]
fn systemd_is_told_the_newest_status_though_nothing_else_happens() {
    sandboxed(|sandbox| {
        let socket = UnixDatagram::bind("/run/notify").unwrap();
        socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        // Fails after the status of its start was sent, and before the next one may be.
        sandbox.vassal("app", "command = sh -c 'sleep 0.3; exit 1'");
        let mut command = sandbox.program("emperor");
        command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid", "--emperor-freq", "3600"]);
        command.args(["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        command.env("NOTIFY_SOCKET", "/run/notify");
        let emperor = sandbox.start("emperor", command);
        let mut buffer = [0; 4096];
        let mut hear = || {
            let count = socket.recv(&mut buffer).expect("the status of the failure");
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        while hear() != "STATUS=1 vassal: 0 running, 1 waiting to be tried again" {}
        emperor.stop();
    });
}

#[test]
fn the_example_is_valid_and_runs() {
    sandboxed(|sandbox| {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/example");
        run("cp", &["-r", &format!("{example}/vassals"), &format!("{example}/emperor.ini"), "/etc/uwsgi/"]);
        let mut command = sandbox.program("emperor");
        command.arg("/etc/uwsgi/emperor.ini");
        let emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "hello");
        assert!(
            from_tcp("127.0.0.1:9191", b"GET / HTTP/1.0\r\n\r\n").contains("vassal_up{vassal=\"hello\"} 1")
        );
        emperor.stop();
    });
}

#[test]
fn the_lines_of_both_programs_can_be_json() {
    sandboxed(|sandbox| {
        sandbox.vassal("q\"uote", "command = sh -c 'echo \"as it is $VASSAL_LOG\"; exec sleep 1000'");
        sandbox.vassal("bad", "command = true\nexec-as-usr = true");
        let emperor = sandbox.emperor(&["--log-format", "json"]);
        emperor.wait_for(r#""program":"emperor","vassal":"q\"uote","message":"running after "#);
        emperor.wait_for(r#""program":"vassal-init","vassal":"q\"uote","message":"app started: sh (pid "#);
        emperor.wait_for(r#""program":"emperor","vassal":"bad","message":"invalid configuration: "#);
        emperor.wait_for("as it is ");
        emperor.signal(Signal::USR1);
        emperor.wait_for(r#""program":"emperor","message":"2 vassals"}"#);
        emperor.signal(Signal::TERM);
        let last = emperor.wait_for("all vassals stopped in ");
        assert!(last.starts_with(r#"{"time":"20"#) && last.contains(r#"Z","program":"#), "{last}");
        let log = emperor.log();
        let (ours, others): (Vec<_>, Vec<_>) = log.lines().partition(|line| line.starts_with('{'));
        assert_eq!(others, ["as it is "]);
        python(sandbox, &format!("[{}]", ours.join(",\n")), "[line['message'] for line in it]");
    });
}
