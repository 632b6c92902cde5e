//! Mistakes in a vassal: each is one clear line with file, key and cause, and disturbs no other vassal.

use std::fs;
use std::net::TcpListener;

use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::VASSAL_INI;
use crate::common::{Sandbox, process, run, sandboxed};
use rustix::process::Signal;

/// Puts the mistake in place beside a good vassal, and checks what the emperor says of it: exactly one line
/// of the emperor's own that has all the parts, and a good vassal that goes on.
fn assert_one_line(sandbox: &Sandbox, make: impl FnOnce(), parts: &[&str]) {
    sandbox.vassal("good", "command = sleep 1000");
    // No second try, so that nothing is said twice.
    let emperor = sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
    let good = emperor.wait_running(1, "good");
    make();
    let line = emperor.wait_for(&format!("emperor: bad: {}", parts[0]));
    for part in parts {
        assert!(line.contains(part), "'{part}' is not in: {line}");
    }
    // The emperor has gone on since, and still starts others.
    sandbox.vassal("next", "command = sleep 1001");
    emperor.wait_running(1, "next");
    assert_eq!(emperor.lines(&format!("emperor: bad: {}", parts[0])).len(), 1);
    assert_eq!(emperor.wait_running(1, "good"), good);
    assert!(process::read(good).is_some_and(|process| process.state != 'Z'));
    emperor.stop();
}

/// A vassal with these lines; `place` is where the mistake is.
fn assert_mistake(
    lines: &'static str,
    place: &'static str,
    parts: &'static [&'static str],
) -> impl FnOnce(&Sandbox) {
    move |sandbox| {
        let place = format!("{}:{place}", vassal_path("bad").display());
        let parts: Vec<_> = parts.iter().copied().chain([&*place]).collect();
        assert_one_line(sandbox, || drop(sandbox.vassal("bad", lines)), &parts);
    }
}

/// The tutorial's vassal with one text replaced by another.
fn changed_tutorial(sandbox: &Sandbox, from: &str, to: &str) {
    sandbox.zip();
    assert!(VASSAL_INI.contains(from));
    let text = VASSAL_INI.replace(from, to);
    sandbox.vassal("bad", text.strip_prefix("[uwsgi]\n").unwrap());
}

#[test]
fn broken_syntax_is_shown_with_its_line() {
    let lines = "command = sh -c \"no end\nuid = user001";
    sandboxed(|sandbox| {
        assert_mistake(lines, "2:11: ", &["invalid configuration", "'command'", "a quote \" is not closed"])(
            sandbox,
        );
    });
}

#[test]
fn a_file_without_an_app_is_told() {
    sandboxed(|sandbox| {
        assert_mistake("", "1:1: ", &["invalid configuration", "there is no app: neither 'command'"])(
            sandbox,
        );
    });
}

#[test]
fn a_section_of_another_name_is_told_as_the_reason() {
    sandboxed(|sandbox| {
        let make = || {
            let draft = sandbox.file("draft", "[vassal]\ncommand = sleep 1000\n");
            run("mv", &[draft.to_str().unwrap(), &vassal_path("bad").display().to_string()]);
        };
        let hint = "(write '[uwsgi]' in the place of '[vassal]')";
        assert_one_line(
            sandbox,
            make,
            &["invalid configuration: ", "there is no option in a section [uwsgi]", hint],
        );
    });
}

#[test]
fn an_unknown_user_is_told_with_its_line() {
    let lines = "command = true\nuid = nobody-knows";
    sandboxed(|sandbox| {
        let parts = &[
            "setup failed in privilege drop",
            "bad.ini:3:7: uid: user 'nobody-knows': does not exist",
            "does not exist in /etc/passwd",
        ];
        assert_mistake(lines, "3:7: ", parts)(sandbox);
    });
}

#[test]
fn an_unknown_phase_is_told_with_its_line() {
    sandboxed(|sandbox| {
        let parts = &[
            "invalid configuration",
            "unknown phase 'as-usr' in 'exec-as-usr' (did you mean 'exec-as-user'?)",
        ];
        assert_mistake("command = true\nexec-as-usr = true", "3:1: ", parts)(sandbox);
    });
}

#[test]
fn an_unknown_action_is_told_with_its_line() {
    sandboxed(|sandbox| {
        let parts = &["invalid configuration", "'hook-as-user': unknown action 'mout'"];
        assert_mistake("command = true\nhook-as-user = mout:x", "3:16: ", parts)(sandbox);
    });
}

#[test]
fn what_is_no_file_is_ignored_with_one_line() {
    sandboxed(|sandbox| {
        let path = vassal_path("bad");
        let shown = path.display().to_string();
        assert_one_line(
            sandbox,
            || fs::create_dir(&path).unwrap(),
            &[&shown, "ignored: a directory, not a file"],
        );
        fs::remove_dir(&path).unwrap();
        let fifo = || drop(run("mkfifo", &[&shown]));
        assert_one_line(sandbox, fifo, &[&shown, "ignored: a fifo, not a file"]);
        fs::remove_file(&path).unwrap();
        let link = || std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
        assert_one_line(sandbox, link, &[&shown, "ignored: a symbolic link to nothing"]);
    });
}

#[test]
fn a_file_that_is_too_large_is_refused_with_one_line() {
    sandboxed(|sandbox| {
        // In one step: what is written bit by bit may be read, and refused, twice.
        let make = || {
            fs::write(sandbox.path("large"), vec![b'\n'; 2 << 20]).unwrap();
            run("mv", &[sandbox.path("large").to_str().unwrap(), &format!("{VASSALS}/draft")]);
            fs::rename(format!("{VASSALS}/draft"), vassal_path("bad")).unwrap();
        };
        let shown = vassal_path("bad").display().to_string();
        assert_one_line(sandbox, make, &["cannot start: ", &shown, "larger than 1 MiB"]);
    });
}

#[test]
fn a_missing_zip_is_told_with_the_hook_that_wanted_it() {
    sandboxed(|sandbox| {
        let make = || changed_tutorial(sandbox, "app001.zip", "missing.zip");
        let place = format!("{}:7:18: exec-as-user", vassal_path("bad").display());
        let command = "run fuse-zip -r /var/www/missing.zip /app: exited with status 1";
        assert_one_line(sandbox, make, &["setup failed in as-user #1: ", command, &place]);
    });
}

#[test]
fn without_dev_fuse_the_words_of_fuse_zip_get_through() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("device nodes") {
            return;
        }
        // A /dev with null and nothing else.
        let dev = sandbox.path("dev");
        fs::create_dir(&dev).unwrap();
        fs::write(dev.join("null"), "").unwrap();
        let dev = dev.to_str().unwrap();
        sandbox.mount(&["-t", "tmpfs", "dev"], dev);
        run("mknod", &["-m", "666", &format!("{dev}/null"), "c", "1", "3"]);
        sandbox.mount(&["--rbind", dev], "/dev");
        let make = || changed_tutorial(sandbox, "app001", "app001");
        let place = format!("{}:7:18: exec-as-user", vassal_path("bad").display());
        assert_one_line(sandbox, make, &["setup failed in as-user #1: ", "run fuse-zip ", &place]);
        let log = fs::read_to_string(sandbox.path("emperor.log")).unwrap();
        assert!(log.contains("fuse: device not found"), "fuse-zip's own words do not get through");
    });
}

#[test]
fn a_missing_uwsgi_is_told_by_its_path() {
    sandboxed(|sandbox| {
        let make = || changed_tutorial(sandbox, "plugin = psgi", "binary-path = /nonexistent/uwsgi");
        let cause = "execute /nonexistent/uwsgi: No such file or directory (ENOENT)";
        assert_one_line(sandbox, make, &["setup failed in app: ", cause]);
    });
}

#[test]
fn a_port_in_use_is_told_with_the_line_that_asks_for_it() {
    sandboxed(|sandbox| {
        let _taken = TcpListener::bind("0.0.0.0:9090").unwrap();
        let make = || changed_tutorial(sandbox, "app001", "app001");
        let place = ".ini:10:15: http-socket: listen on :9090: Address already in use (EADDRINUSE)";
        // Its /proc shows no process of others, but the sockets of the network that it shares with them.
        let holder = "(EADDRINUSE): a process of user 0 listens there";
        assert_one_line(sandbox, make, &["setup failed in sockets: ", place, holder]);
    });
}

#[test]
fn a_mount_that_never_comes_is_told_when_its_time_is_up() {
    sandboxed(|sandbox| {
        let lines = "command = true\nmountpoint-check = /app\nmountpoint-timeout = 100ms";
        let parts =
            &["setup failed in mountpoint-check: ", "mountpoint /app: nothing is mounted there, after "];
        assert_mistake(lines, "3:20: mountpoint-check)", parts)(sandbox);
    });
}

#[test]
fn a_broken_vassal_can_be_put_right() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        fs::rename(vassal_path("app001"), format!("{VASSALS}/draft")).unwrap();
        sandbox.vassal("app001", "uid = nobody-knows");
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        emperor.wait_for("next try in 3600.0 s");
        fs::rename(format!("{VASSALS}/draft"), vassal_path("app001")).unwrap();
        crate::common::tutorial::wait_for_page();
        emperor.stop();
    });
}

#[test]
fn an_invalid_file_is_tried_again_when_it_changes_or_when_asked() {
    sandboxed(|sandbox| {
        sandbox.vassal("bad", "command = true\nexec-as-usr = true");
        // How often the throttle would have allowed for a try.
        sandbox.vassal("failing", "command = false");
        let failed = "emperor: failing: app exited with status 1; ";
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-max-throttle", "3600000"]);
        let said = "emperor: bad: invalid configuration: ";
        let line = emperor.wait_for(said);
        assert!(line.ends_with("; waiting for the file to change, next try in 3600.0 s"), "{line}");
        emperor.wait_for_nth(8, failed);
        assert_eq!(emperor.lines("emperor: bad: started (pid ").len(), 1);

        emperor.signal(Signal::USR1);
        let line = emperor.wait_for("emperor: bad: invalid, next try in 35");
        assert!(line.contains(", 0 restarts, last: ") && line.contains("unknown phase 'as-usr'"), "{line}");

        let before = emperor.lines(failed).len();
        emperor.signal(Signal::URG);
        emperor.wait_for_nth(2, said);
        emperor.wait_for_nth(before + 8, failed);
        assert_eq!(emperor.lines("emperor: bad: started (pid ").len(), 2, "more than the one try");

        sandbox.vassal("bad", "command = sleep 1000");
        emperor.wait_running(1, "bad");
        emperor.stop();
    });
}

#[test]
fn an_invalid_file_is_tried_again_at_the_longest_throttle() {
    sandboxed(|sandbox| {
        let part = sandbox.ini("part", "exec-as-usr = true");
        sandbox.vassal("bad", &format!("command = sleep 1000\nini = {}", part.display()));
        let emperor =
            sandbox.emperor(&["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        emperor.wait_for("waiting for the file to change, next try in 3600.0 s");
        emperor.stop();
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-max-throttle", "100"]);
        emperor.wait_for_nth(2, "waiting for the file to change, next try in 100 ms");
        sandbox.ini("part", "");
        emperor.wait_running(1, "bad");
        emperor.stop();
    });
}

#[test]
fn an_emperor_without_its_vassal_init_says_so() {
    sandboxed(|sandbox| {
        let mut emperor = sandbox.emperor(&["--vassal-init", "/nonexistent/vassal-init"]);
        assert_eq!(emperor.wait(), 1);
        let lines = emperor.lines("");
        assert_eq!(lines.len(), 1, "one line");
        assert!(
            lines[0].contains("/nonexistent/vassal-init: No such file or directory (ENOENT)"),
            "{}",
            lines[0]
        );
    });
}
