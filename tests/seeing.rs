//! What tools see of a running emperor: uWSGI's JSON, and metrics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // failing is a test's job

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use common::sandbox::VASSALS;
use common::{Sandbox, eventually, run, sandboxed};

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
                let all =
                    format!("[len(it['vassals']), len(it['blacklist'])] == [1, 1] and {VASSAL}['ready']");
                (python(sandbox, &stats, &all) == "1" || python(sandbox, &stats, &all) == "True")
                    .then_some(stats)
            })
        };
        let mut peer = Command::new("uwsgi");
        peer.args(["--emperor", VASSALS, "--emperor-stats", "127.0.0.1:9191"]);
        let mut peer = sandbox.start("peer", peer);
        let theirs = both("127.0.0.1:9191");
        peer.signal(rustix::process::Signal::INT);
        peer.wait();

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
        let names: [&[u8]; 3] = [b"q\"\\ \n x.ini", b"\xff\xfe.ini", b"\x1b[2J.ini"];
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
            (python(sandbox, &stats, &format!("len({all})")) == "3").then(|| python(sandbox, &stats, all))
        });
        assert_eq!(stats, r#"['\x1b[2J.ini', 'q"\\ \n x.ini', '��.ini']"#);

        let answer = from_tcp("[::1]:9193", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
        for line in [
            "# TYPE vassal_restarts_total counter\n",
            "vassal_up{vassal=\"q\\\"\\\\ \\n x\"} 1\n",
            "vassal_up{vassal=\"\u{fffd}\u{fffd}\"} 1\n",
            "vassal_state{vassal=\"q\\\"\\\\ \\n x\",state=\"running\"} 1\n",
            "vassal_restarts_total{vassal=\"\u{1b}[2J\"} 0\n",
        ] {
            assert!(body.contains(line), "{line:?} is not in {body}");
        }
        assert!(!body.contains("vassal_next_try_seconds{"), "{body}");
        let answer = from_tcp("[::1]:9193", b"POST /metrics HTTP/1.1\n\n");
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        emperor.stop();
        assert!(!socket.exists(), "the socket is left");
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
