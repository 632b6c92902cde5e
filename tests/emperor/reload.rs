//! A changed file: the app is restarted in the same jail, or kept, or everything is made anew; and each is
//! said.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::cow::PIVOTED;
use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::sees_app_mounted;
use crate::common::{Daemon, Sandbox, eventually, sandboxed, until};
use rustix::process::Signal;
use vassal::config::keys::row::Reload;
use vassal::config::keys::vassal::VASSAL_INIT;

/// A vassal with the zip mounted; each start of the app leaves a mark with its kind.
fn lines(app: &str) -> String {
    format!(
        "uid = user001\nif-not-reload =\n  exec-as-user = fuse-zip -r /var/www/app001.zip /app\n  \
         exec-as-user = echo first time\n\
         endif =\nif-reload =\n  exec-as-user = echo once more\nendif =\nmountpoint-check = /app\n\
             exec-as-root = echo as root\n\
         exec-pre-app = echo about to start\n{app}"
    )
}

const SLEEP: &str = "command = sleep 1000";

/// The said lines that hooks and apps have written, in order.
fn said(daemon: &Daemon) -> Vec<String> {
    daemon
        .log()
        .lines()
        .filter(|line| !line.starts_with("vassal-init") && !line.starts_with("emperor"))
        .map(str::to_owned)
        .collect()
}

fn emperor(sandbox: &Sandbox, first: &str) -> (Daemon, i32, i32) {
    sandbox.zip();
    sandbox.vassal("app", first);
    let emperor = sandbox.emperor(&[]);
    let init = emperor.wait_running(1, "app");
    let app = process::only("sleep").pid;
    (emperor, init, app)
}

/// Waits until the app is another process than `old`.
fn another(old: i32) -> i32 {
    eventually("another app", || match process::named("sleep").as_slice() {
        [app] if app.pid != old => Some(app.pid),
        _ => None,
    })
}

/// There it would be the tenant's, run as root.
#[test]
fn a_command_is_never_asked_for_what_it_prints_in_the_jail() {
    sandboxed(|sandbox| {
        let lines = "words = @(exec://echo 1000; echo \"command by $$\" >&2)\ncommand = sleep %(words)";
        sandbox.vassal("app", lines);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        sandbox.vassal("app", lines);
        emperor.wait_for("emperor: app: needs a fresh jail: what a command prints may have changed");
        assert_ne!(emperor.wait_running(2, "app"), init);
        // The second process of its namespace each time: of the two instances, and of a check between them.
        assert_eq!(emperor.lines("command by"), ["command by 2"; 3]);
        emperor.stop();
    });
}

/// A program in the place of a vassal's file.
fn program(script: &str) {
    let draft = Path::new(VASSALS).join("draft");
    fs::create_dir_all(VASSALS).unwrap();
    fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&draft, Permissions::from_mode(0o755)).unwrap();
    fs::rename(draft, vassal_path("program")).unwrap();
}

#[test]
fn a_check_that_takes_too_long_leaves_the_app_alone_and_counts_all_the_same() {
    sandboxed(|sandbox| {
        program("echo '[uwsgi]'; echo 'command = sleep 2000'");
        let emperor = sandbox.emperor(&["--emperor-magic-exec"]);
        let init = emperor.wait_running(1, "program");
        let go = sandbox.path("go");
        let slow = format!("touch /run/again; until [ -e {} ]; do sleep 0.02; done", go.display());
        program(&format!("{slow}; echo '[uwsgi]'; echo 'command = sleep 3000'"));
        until("it is checked", || fs::exists("/run/again").unwrap());
        let is_check = |process: &process::Process| process.parent == emperor.pid() && process.pid != init;
        let check = process::named("vassal-init").into_iter().find(is_check).unwrap();
        process::signal(check.pid, Signal::STOP);
        // What the program prints is there by the time that the check goes on.
        fs::write(go, "").unwrap();
        let why = "reading the new file takes too long: its file is a program; the app goes on as it was";
        emperor.wait_for(&format!("emperor: program: reload refused: {why}"));
        assert!(process::read(init).is_some());
        process::signal(check.pid, Signal::CONT);
        assert_ne!(emperor.wait_running(2, "program"), init);
        process::only("sleep");
        emperor.stop();
    });
}

/// Below another root no template can be read, and a program is not run there either.
#[test]
fn a_mistake_that_only_a_fresh_start_can_see_leaves_the_app_alone() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        let template = sandbox.file("template.ini", "[uwsgi]\nenv = A=1\n");
        let jailed = |more: &str| sandbox.vassal("jailed", &format!("chroot = /ns/precise\n{SLEEP}\n{more}"));
        jailed("");
        program("echo '[uwsgi]'; echo 'command = sleep 2000'");
        let include = template.to_str().unwrap();
        let emperor = sandbox.emperor(&["--emperor-magic-exec", "--vassals-include", include]);
        let (first, second) = (emperor.wait_running(1, "jailed"), emperor.wait_running(1, "program"));

        jailed("hook-as-user = mkdri:/x");
        let line = emperor.wait_for("emperor: jailed: reload refused: ");
        assert!(
            line.contains("jailed.ini:4:16: ") && line.ends_with("; the app goes on as it was"),
            "{line}"
        );
        fs::write(&template, "[uwsgi]\nhook-as-user = mkdri:/y\n").unwrap();
        jailed("");
        let line = emperor.wait_for_nth(2, "emperor: jailed: reload refused: ");
        assert!(line.contains("template.ini:2:16: "), "{line}");
        program("exit 3");
        let line = emperor.wait_for("emperor: program: reload refused: ");
        assert!(line.contains("exited with status 3; the app goes on as it was"), "{line}");
        assert_eq!((emperor.pid_of("jailed"), emperor.pid_of("program")), (first, second));

        fs::write(&template, "[uwsgi]\n").unwrap();
        jailed("");
        emperor
            .wait_for("emperor: jailed: needs a fresh jail: its templates are not in the jail: restarting");
        assert_ne!(emperor.wait_running(2, "jailed"), first);
        // What is being checked does not outlive the emperor, nor hold it up.
        program("exec sleep 3000");
        until("it is checked", || process::named("sleep").len() == 3);
        emperor.stop();
    });
}

#[test]
fn a_touched_file_restarts_the_app_in_the_same_jail() {
    sandboxed(|sandbox| {
        let (emperor, init, app) = emperor(sandbox, &lines(SLEEP));
        let daemon = process::only("fuse-zip").pid;
        assert_eq!(said(&emperor), ["as root", "first time", "about to start"]);
        let mut latest = app;
        for n in 1..=3 {
            sandbox.vassal("app", &lines(SLEEP));
            emperor.wait_for_nth(n, "reloading: the app is restarted in the same jail");
            latest = another(latest);
            emperor.wait_for_nth(n + 1, "app started");
        }
        let again = ["once more", "about to start"];
        assert_eq!(
            said(&emperor),
            [&["as root", "first time", "about to start"][..], &again, &again, &again].concat()
        );
        assert_eq!(emperor.pid_of("app"), init);
        assert_eq!(process::only("fuse-zip").pid, daemon);
        assert!(sees_app_mounted(init));
        // The mount is watched as before.
        let instance = Handle::of(init);
        process::signal(daemon, Signal::KILL);
        instance.wait();
        emperor.wait_for("mountpoint /app lost");
        emperor.wait_running(2, "app");
        assert_eq!(emperor.lines("emperor: app: started").len(), 2);
        emperor.stop();
    });
}

#[test]
fn the_new_file_counts_for_the_new_app() {
    sandboxed(|sandbox| {
        let (emperor, init, app) = emperor(sandbox, &lines(&format!("env = A=1\n{SLEEP}")));
        let new =
            "env = A=2\nchdir = /var\numask = 027\ncommand = sh -c 'echo $A; pwd; umask; exec sleep 1001'";
        sandbox.vassal("app", &lines(new));
        another(app);
        eventually("its words", || {
            said(&emperor).ends_with(&["2".into(), "/var".into(), "0027".into()]).then_some(())
        });
        assert_eq!(emperor.pid_of("app"), init);
        emperor.stop();
    });
}

#[test]
fn an_invalid_file_leaves_the_app_alone_and_is_shown() {
    sandboxed(|sandbox| {
        let (emperor, init, app) = emperor(sandbox, &lines(SLEEP));
        for (n, (wrong, says)) in (1..).zip([
            ("hook-as-user = mkdri:/x", "unknown action 'mkdri', did you mean 'mkdir'?"),
            ("uid =", "uid"),
            ("mountpoint-check = app", "app"),
            ("else =", "else"),
        ]) {
            sandbox.vassal("app", &lines(&format!("{SLEEP}\n{wrong}")));
            let line = emperor.wait_for_nth(n, "not reloaded, the app goes on as it was: ");
            assert!(line.contains(says), "'{says}' is not in: {line}");
            let place = format!("{}:", vassal_path("app").display());
            assert!(line.contains(&place), "{line}");
            emperor.wait_for_nth(n, "emperor: app: reload refused: ");
            // The status shows the mistake for as long as it is there.
            emperor.signal(Signal::USR1);
            emperor.wait_for_nth(n, "1 vassal");
            let status = eventually("its status", || {
                let log = emperor.log();
                let (_, after) = log.rsplit_once("1 vassal\n")?;
                after.lines().find(|line| line.starts_with("emperor: app: ")).map(str::to_owned)
            });
            assert!(status.contains(says), "'{says}' is not in: {status}");
            assert_eq!((emperor.pid_of("app"), process::only("sleep").pid), (init, app));
        }
        // Right again: taken on, and the status forgets.
        sandbox.vassal("app", &lines(SLEEP));
        another(app);
        emperor.wait_for_nth(2, "app started");
        let shown = emperor.lines("1 vassal").len();
        eventually("a status without it", || {
            emperor.signal(Signal::USR1);
            emperor.wait_for_nth(shown + 1, "1 vassal");
            let log = emperor.log();
            let (_, after) = log.rsplit_once("1 vassal\n")?;
            let line = after.lines().find(|line| line.starts_with("emperor: app: "))?;
            (!line.contains("endif")).then_some(())
        });
        assert_eq!(emperor.pid_of("app"), init);
        emperor.stop();
    });
}

#[test]
fn an_app_that_ends_before_its_reload_is_through_has_ended() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", SLEEP);
        let emperor = sandbox.emperor(&["--emperor-throttle", "3600000"]);
        emperor.wait_running(1, "app");
        // It ends during this hook.
        sandbox.vassal("app", "command = false\nexec-post-app = sleep 0.2");
        emperor.wait_for("emperor: app: reloaded after ");
        emperor.wait_for("emperor: app: app exited with status 1; ");
        emperor.stop();
    });
}

#[test]
fn what_shapes_the_jail_asks_for_a_fresh_one() {
    sandboxed(|sandbox| {
        let (emperor, mut init, _) = emperor(sandbox, &lines(SLEEP));
        let base = lines(SLEEP);
        for (n, (from, to, what)) in (1..).zip([
            ("uid = user001", "uid = user001\ngid = nogroup", "gid"),
            ("as root", "as somebody", "a hook up to as-root"),
            (SLEEP, "command = sleep 1000\ncap = kill", "cap"),
            ("mountpoint-check = /app\n", "", "mountpoint-check"),
            ("uid = user001", "uid = root", "uid"),
        ]) {
            // Each differs from the one before in its own change and the way back of the last: the first one
            // found counts.
            let instance = Handle::of(init);
            sandbox.vassal("app", &base.replace(from, to));
            instance.wait();
            let line = emperor.wait_for_nth(n, "which needs a fresh jail");
            if n == 1 {
                assert!(line.contains(&format!("not reloaded: {what} changed")), "{line}");
            }
            let next = emperor.wait_running(n + 1, "app");
            assert_ne!(next, init);
            init = next;
        }
        emperor.stop();
    });
}

#[test]
fn a_stop_during_a_reload_wins() {
    sandboxed(|sandbox| {
        // While the old app takes its time, and while the new one is prepared.
        for stubborn in [true, false] {
            let app = if stubborn {
                "stop-timeout = 60s\ncommand = sh -c 'trap \"until [ -e /run/scratch/go ]; do sleep 0.01; \
                 done; exit 0\" TERM; echo ready; while :; do sleep 0.01; done'"
            } else {
                "if-reload =\n  exec-as-user = sleep 999\nendif =\ncommand = sh -c 'echo ready; exec sleep \
                 1000'"
            };
            let mut vassal = sandbox
                .vassal_init("vassal", &format!("uid = user001\nexec-as-user-atexit = echo bye\n{app}"));
            vassal.wait_for("ready");
            vassal.wait_for("app started");
            vassal.signal(Signal::HUP);
            vassal.wait_for("reloading: the app is restarted");
            if !stubborn {
                until("the hook", || !process::with_argument("sleep", "999").is_empty());
            }
            vassal.signal(Signal::TERM);
            if stubborn {
                // Its starter passes the signal on, which takes a moment.
                vassal.wait_for("stopping for SIGTERM");
                sandbox.file("go", "");
            }
            vassal.wait();
            assert_eq!(vassal.lines("ready").len(), 1, "the app was started again");
            vassal.wait_for("stopped, ");
            if stubborn {
                vassal.wait_for("bye");
            }
        }
    });
}

#[test]
fn a_stop_that_comes_with_the_end_of_the_old_app_starts_no_other() {
    sandboxed(|sandbox| {
        let app = "perl -e '$| = 1; $SIG{TERM} = sub { print qq(asked\\n); \
                   select undef, undef, undef, 0.02 until -e q(/run/scratch/go); exit }; print qq(up\\n); \
                       sleep 1 while 1'";
        let mut vassal = sandbox.vassal_init("vassal", &format!("command = {app}"));
        vassal.wait_for("up");
        let old = process::only("perl");
        vassal.signal(Signal::HUP);
        vassal.wait_for("asked");
        process::signal(old.parent, Signal::STOP);
        sandbox.file("go", "");
        until("the app has ended", || process::read(old.pid).is_none_or(|old| old.state == 'Z'));
        process::signal(old.parent, Signal::TERM);
        process::signal(old.parent, Signal::CONT);
        vassal.wait();
        assert_eq!(vassal.lines(" to the app"), [""; 0], "there is none");
        vassal.wait_for("stopped, ");
    });
}

/// The environment of a process, which is empty at first when it has executed its program.
fn environment(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned()
}

#[test]
fn hup_reloads_a_vassal_of_no_emperor() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let vassal = sandbox
            .vassal_init("vassal", &lines("if-reload =\nenv = KIND=again\nendif =\ncommand = sleep 1000"));
        vassal.wait_for("app started");
        let app = process::only("sleep");
        // The same file.
        vassal.signal(Signal::HUP);
        let next = another(app.pid);
        assert_eq!(process::read(next).unwrap().parent, app.parent, "the same PID 1");
        until("its environment", || environment(next).contains("KIND=again"));
        vassal.wait_for_nth(2, "app started");
        // A wrong one.
        sandbox.ini("vassal", "command = 'sleep 1000");
        vassal.signal(Signal::HUP);
        let line = vassal.wait_for("not reloaded, the app goes on as it was: ");
        assert!(line.contains("vassal.ini:2:"), "{line}");
        // One for another jail: nobody is there to make one.
        sandbox.ini("vassal", "command = sleep 1000");
        vassal.signal(Signal::HUP);
        vassal.wait_for("which needs a fresh jail");
        // None.
        fs::remove_file(sandbox.path("vassal.ini")).unwrap();
        vassal.signal(Signal::HUP);
        let line = vassal.wait_for_nth(2, "not reloaded, the app goes on as it was: ");
        assert!(line.contains("No such file"), "{line}");
        assert_eq!(process::only("sleep").pid, next);
    });
}

#[test]
fn what_hooks_of_the_jail_have_set_lasts_through_a_reload() {
    sandboxed(|sandbox| {
        let lines = "uid = user001\nif-not-reload =\nhook-asap = putenv:A=kept\nendif =\nhook-as-root = \
            putenv:B=2\n\
                     hook-as-root = umask:027\nhook-as-root = chdir:/var\nhook-as-user = putenv:B=3\n\
                     exec-pre-app = echo `printenv A B; umask; pwd`\ncommand = sleep 1000";
        let vassal = sandbox.vassal_init("vassal", lines);
        vassal.wait_for("app started");
        vassal.signal(Signal::HUP);
        vassal.wait_for_nth(2, "app started");
        assert_eq!(said(&vassal), ["kept 3 0027 /var"; 2]);
    });
}

#[test]
fn a_reload_that_fails_is_followed_by_the_hooks_for_the_exit() {
    sandboxed(|sandbox| {
        let exit = "exec-as-user-atexit = echo exit hook";
        let mut vassal = sandbox.vassal_init("vassal", &format!("command = sleep 1000\n{exit}"));
        vassal.wait_for("app started");
        sandbox.ini("vassal", &format!("exec-as-user = false\ncommand = sleep 1000\n{exit}"));
        vassal.signal(Signal::HUP);
        assert_eq!(vassal.wait(), 71);
        vassal.wait_for("as-user #1: run false: exited with status 1");
        assert!(vassal.log().lines().any(|line| line == "exit hook"), "{}", vassal.log());
    });
}

#[test]
fn a_reload_reads_nothing_in_the_tenants_tree() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/run/outside").unwrap();
        fs::create_dir_all("/ns/precise/run/outside").unwrap();
        // The same name, and the tenant's own idea of it.
        fs::write("/run/outside/common.ini", "[uwsgi]\nexec-pre-app = echo by the operator\n").unwrap();
        fs::write(
            "/ns/precise/run/outside/common.ini",
            "[uwsgi]\nno-new-privs = false\nexec-pre-app = echo by the tenant\n",
        )
        .unwrap();
        fs::write("/run/outside/word", "word").unwrap();
        let lines = |more: &str| {
            format!("uid = user001\n{PIVOTED}\nunmount-timeout = 200ms\n{more}\ncommand = sleep 1000")
        };
        sandbox.vassal("app", &lines(""));
        let emperor = sandbox.emperor(&[]);
        let mut init = emperor.wait_running(1, "app");
        for (n, reads) in (1..).zip([
            "include = /run/outside/common.ini",
            "if-reload =\ninclude = /run/outside/common.ini\nendif =",
            "exec-pre-app = echo @(/run/outside/word)",
            "if-exists = /run/outside/common.ini\nexec-pre-app = echo found\nendif =",
            "env = USER=%U",
        ]) {
            let instance = Handle::of(init);
            sandbox.vassal("app", &lines(reads));
            instance.wait();
            emperor
                .wait_for_nth(n, "not reloaded: it reads files, which cannot be seen from inside the jail, ");
            init = emperor.wait_running(n + 1, "app");
        }
        assert_eq!(emperor.lines("by the tenant"), [""; 0]);
        assert_eq!(said(&emperor).first().unwrap(), "by the operator");
        // The file itself has a name, which is no look at it.
        sandbox.vassal("app", &lines("env = NAME=%n-%p"));
        emperor.wait_for("reloading: the app is restarted in the same jail");
        emperor.wait_for_nth(2 + 5, "app started");
        let (app, name) = (process::only("sleep").pid, format!("NAME=app-{}", vassal_path("app").display()));
        until("its environment", || environment(app).contains(&name));
        emperor.stop();
    });
}

#[test]
fn a_reload_does_not_wait_for_a_filesystem_that_hangs() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let place = VASSALS;
        symlink("/app", "/run/link").unwrap();
        // Over the file itself, as this vassal sees it, and where the app's data is.
        let lines = |more: &str| {
            format!(
                "exec-asap = fuse-zip -r -o nonempty /var/www/app001.zip {place}\nexec-asap = fuse-zip -r \
                 /var/www/app001.zip /app\n\
                 unmount-timeout = 200ms\nchdir = /\n{more}\ncommand = sleep 1000"
            )
        };
        sandbox.vassal("app", &lines(""));
        let emperor = sandbox.emperor(&[]);
        let stop = || {
            until("the daemons", || process::named("fuse-zip").len() == 2);
            process::named("fuse-zip").iter().for_each(|daemon| process::signal(daemon.pid, Signal::STOP));
        };
        let mut init = emperor.wait_running(1, "app");
        stop();
        sandbox.vassal("app", &lines("env = A=1"));
        emperor.wait_for("emperor: app: reloaded after ");
        assert_eq!(emperor.pid_of("app"), init);
        for (n, path) in (1..).zip(["/app/page.html", "/run/../app/page.html", "/run/link/page.html"]) {
            let instance = Handle::of(init);
            sandbox.vassal("app", &lines(&format!("if-exists = {path}\nendif =")));
            instance.wait();
            let line = emperor.wait_for_nth(n, "a filesystem that may hang, which needs a fresh jail");
            assert!(line.contains("not reloaded: it looks at /"), "{line}");
            init = emperor.wait_running(n + 1, "app");
            stop();
        }
        emperor.stop();
    });
}

#[test]
fn what_the_old_app_leaves_behind_does_not_outlive_a_reload() {
    sandboxed(|sandbox| {
        // Without a single hook, and where nothing marks the app's processes.
        for more in ["", "no-new-privs = false\n", "exec-as-user = true\n"] {
            let app = "command = sh -c 'setsid sleep 1000 & echo up; exec sleep 2000'";
            let mut vassal = sandbox.vassal_init("vassal", &format!("{more}{app}"));
            vassal.wait_for("up");
            until("both", || process::named("sleep").len() == 2);
            let old: Vec<_> = process::named("sleep").iter().map(|process| process.pid).collect();
            vassal.signal(Signal::HUP);
            vassal.wait_for("the app has left processes behind (1): SIGTERM");
            vassal.wait_for_nth(2, "app started");
            assert!(old.iter().all(|&pid| process::read(pid).is_none()), "it is still there");
            vassal.signal(Signal::TERM);
            vassal.wait();
        }
    });
}

/// A page that makes a file when it is asked for, and is done when another one is there.
const SLOW: &str = "sub { open my $asked, '>', '/run/scratch/asked'; select undef, undef, undef, 0.02 \
                    until -e '/run/scratch/go'; [200, [], ['done']] }";

fn request(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_reload_of_real_uwsgi_lets_it_answer_what_it_has_accepted() {
    sandboxed(|sandbox| {
        let psgi = sandbox.file("slow.psgi", SLOW);
        let lines = format!(
            "http-socket = 127.0.0.1:8101\nmaster = true\nplugin = psgi\nuid = user001\npsgi = {}\n",
            psgi.display()
        );
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app: ready to accept requests");
        let slow = request(8101);
        // A worker that is told to end between its accept and its read closes the connection.
        until("it is in the hands of the app", || sandbox.path("asked").exists());
        sandbox.vassal("app", &lines);
        emperor.wait_for("graceful shutdown triggered");
        let later = request(8101);
        sandbox.file("go", "");
        for stream in [slow, later] {
            let text = answer(stream);
            assert!(text.ends_with("done"), "{text}");
        }
        emperor.wait_for("emperor: app: reloaded after");
        emperor.stop();
    });
}

#[test]
fn an_app_that_speaks_uwsgis_protocol_is_asked_over_it() {
    sandboxed(|sandbox| {
        let psgi = sandbox.file("app.psgi", "sub { [200, [], [$$]] }");
        let own = format!(
            "http-socket = 127.0.0.1:8102\nmaster = true\nplugin = psgi\npsgi = {}\nprocname-master = the \
             master",
            psgi.display()
        );
        let lines = format!("uid = user001\ncommand = uwsgi --ini {}", sandbox.ini("own", &own).display());
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app: ready to accept requests");
        sandbox.vassal("app", &lines);
        emperor.wait_for("reloading: the file says what it said before; uWSGI's message 1 to the app");
        emperor.wait_for("emperor: app: reloaded after");
        emperor.wait_for("gracefully (RE)spawned uWSGI master process");
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests");
        assert!(answer(request(8102)).contains(" 200 "));
        // Anything else is for a restart.
        sandbox.vassal("app", &format!("{lines}\nenv = A=1"));
        emperor.wait_for("graceful shutdown triggered");
        emperor.wait_for_nth(3, "emperor: app: ready to accept requests");
        assert_eq!(emperor.lines("app started").len(), 2);
        fs::remove_file(vassal_path("app")).unwrap();
        emperor.wait_for("stopping for the emperor: uWSGI's message 0 to the app");
        emperor.stop();
    });
}

#[test]
fn reload_signal_is_for_a_file_that_says_what_it_said_before() {
    sandboxed(|sandbox| {
        let app =
            "perl -e '$| = 1; $SIG{HUP} = sub { print \"heard\\n\" }; print \"up\\n\"; sleep 1 while 1'";
        let lines = format!("command = {app}\nreload-signal = HUP\nif-reload =\nendif =");
        let mut vassal = sandbox.vassal_init("alone", &lines);
        vassal.wait_for("up");
        vassal.signal(Signal::HUP);
        vassal.wait_for("reloading: the file says what it said before; SIGHUP to the app");
        vassal.wait_for("heard");
        vassal.signal(Signal::TERM);
        vassal.wait();

        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        emperor.wait_for("up");
        for n in 1..=2 {
            sandbox.vassal("app", &lines);
            emperor.wait_for_nth(n, "heard");
            emperor.wait_for_nth(n, "emperor: app: reloaded after");
        }
        assert_eq!(emperor.lines("up").len(), 1);
        // Another environment, a hook that a reload runs, and what only a reload sees.
        for (n, more) in [(1, "env = A=1"), (2, "exec-pre-app = true"), (3, "exec-pre-app = true")] {
            sandbox.vassal("app", &format!("{lines}\n{more}"));
            emperor.wait_for_nth(n, "reloading: the app is restarted in the same jail");
            emperor.wait_for_nth(n + 1, "up");
        }
        let guarded = lines.replace("if-reload =", "if-reload =\nenv = RELOADED=1");
        for n in 4..=5 {
            sandbox.vassal("app", &guarded);
            emperor.wait_for_nth(n, "reloading: the app is restarted in the same jail");
            emperor.wait_for_nth(n + 1, "up");
        }
        assert_eq!(emperor.lines("heard").len(), 2);
        emperor.stop();
    });
}

#[test]
fn what_is_missing_is_said_before_the_old_app_is_stopped() {
    sandboxed(|sandbox| {
        let lines = format!("uid = user001\n{SLEEP}");
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        let path = vassal_path("app");
        let place = |line: u32| format!("{}:{line}:", path.display());
        for (n, (new, line, why)) in (1..).zip([
            ("uid = nosuch\ncommand = sleep 1000", 2, "user 'nosuch': does not exist"),
            ("uid = user001\nadd-gid = nosuch\ncommand = sleep 1000", 3, "group 'nosuch'"),
            ("uid = user001\ncommand = /no/such/program x", 3, "/no/such/program: No such file or directory"),
            (&format!("{lines}\nchdir = /no/such"), 4, "/no/such: No such file or directory"),
            // It would run there.
            (&format!("{lines}\nchdir = /no/such\nexec-pre-app = true"), 4, "/no/such: No such file"),
        ]) {
            sandbox.vassal("app", new);
            let said = emperor.wait_for_nth(n, "emperor: app: reload refused: ");
            assert!(said.contains(why) && said.contains(&place(line)), "{new}: {said}");
        }
        assert_eq!(emperor.lines("app started").len(), 1);
        // A hook may make it.
        sandbox.vassal(
            "app",
            &format!("{lines}\nchdir = /run/scratch/new\nexec-as-user = mkdir -p /run/scratch/new"),
        );
        emperor.wait_for("emperor: app: reloaded after");
        emperor.stop();
    });
}

/// What PID 1 has given up it cannot give an app, and what it has not it can: with and without `cap`, in both
/// directions.
#[test]
fn a_reload_gives_the_app_what_the_new_file_says_or_asks_for_a_fresh_jail() {
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const NET_RAW: u64 = 1 << 13;
    sandboxed(|sandbox| {
        let status = |pid: i32, name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let vassal = |more: &str| format!("uid = user001\n{more}\n{SLEEP}");
        let (emperor, init, app) = emperor(sandbox, &vassal(""));
        let (mut init, mut app, mut fresh) = (init, app, 0);
        let all = status(std::process::id() as i32, "CapBnd:");
        let bound = "cap = net_bind_service";
        let dropped = "cap = net_bind_service\ncap-drop = net_bind_service";
        let wide = "no-new-privs = false";
        // What the file says, whether that takes a fresh jail; then what the app keeps, and what it could
        // gain.
        for (lines, is_fresh, kept, bounding) in [
            (bound, true, NET_BIND_SERVICE, NET_BIND_SERVICE),
            (dropped, true, 0, 0),
            (bound, true, NET_BIND_SERVICE, NET_BIND_SERVICE),
            ("cap = net_bind_service\ncap-drop = net_raw", false, NET_BIND_SERVICE, NET_BIND_SERVICE),
            (dropped, true, 0, 0),
            ("cap-drop = all", false, 0, 0),
            ("", false, 0, 0),
            ("no-new-privs = false\ncap-drop = net_raw", false, 0, all & !NET_RAW),
            (wide, false, 0, all),
            ("limit-nofile = 100", false, 0, 0),
            ("limit-nofile = 300", false, 0, 0),
            ("if-reload =\ncap = net_raw\nendif =", true, 0, 0),
            ("if-reload =\nnice = -5\nendif =", true, 0, 0),
        ] {
            sandbox.vassal("app", &vassal(lines));
            let next = another(app);
            fresh += usize::from(is_fresh);
            // The app may run before the emperor has told of its PID 1.
            emperor.wait_for_nth(1 + fresh, "emperor: app: running after ");
            assert_eq!(emperor.lines("which needs a fresh jail").len(), fresh, "{lines}");
            assert_eq!(emperor.pid_of("app") == init, !is_fresh, "{lines}");
            (app, init) = (next, emperor.pid_of("app"));
            assert_eq!((status(app, "CapPrm:"), status(app, "CapBnd:")), (kept, bounding), "{lines}");
            assert_eq!(status(app, "NoNewPrivs:"), u64::from(!lines.contains("no-new-privs")), "{lines}");
        }
        assert_eq!(emperor.lines("setup failed"), [""; 0]);
        emperor.stop();
    });
}

/// Says what a process has by what keys say of it.
const LOOK: &str = r#"
name=$1
say() { echo "$name: $*"; }
trap 'say got TERM; exit' TERM
case $name in stop-timeout | daemon) trap '' TERM ;; esac
trap 'say got HUP' HUP
trap 'say got QUIT; exit' QUIT
say directory `pwd`
say mask `umask`
say variable ${A-none}
say no-new-privs `sed -n 's/^NoNewPrivs:\t//p' /proc/self/status`
say descriptors `ulimit -n`
say memory `ulimit -v`
say processes `ulimit -u`
say nice `nice`
[ "$2" != once ] || exit 0
while :; do sleep 0.05; done
"#;

/// Keys by what a reload shows of them: what a file says before it, and after it; and a line of the log that
/// is there only then. The app is LOOK, unless the file names another one.
const SHOWN: &[(&str, &str, &str, &str)] = &[
    (
        "binary-path",
        "processes = 1\nbinary-path = /run/scratch/old",
        "processes = 1\nbinary-path = /run/scratch/new",
        "new --ini fd://",
    ),
    ("chdir", "", "chdir = /var", "chdir: directory /var"),
    ("command", "command = sleep 1000", "command = bash /run/scratch/look command", "command: directory"),
    (
        "confine-hooks",
        "exec-as-user = bash /run/scratch/look confine-hooks once\ncommand = sleep 1000",
        "confine-hooks\nexec-as-user = bash /run/scratch/look confine-hooks once\ncommand = sleep 1000",
        "confine-hooks: no-new-privs 1",
    ),
    ("env", "", "env = A=2", "env: variable 2"),
    (
        "hook-timeout",
        "",
        "hook-timeout = 300ms\nexec-as-user = sleep 1000",
        "sleep 1000: still running after 300 ms, killed",
    ),
    ("limit-as", "", "limit-as = 3000", "memory 3072000"),
    ("limit-nofile", "", "limit-nofile = 77", "limit-nofile: descriptors 77"),
    ("limit-nproc", "", "limit-nproc = 2000", "processes 2000"),
    ("nice", "nice = 5", "nice = 7", "nice: nice 7"),
    ("no-new-privs", "", "no-new-privs = false", "no-new-privs: no-new-privs 0"),
    ("reload-signal", "", "reload-signal = HUP", "reload-signal: got HUP"),
    ("stop-signal", "", "stop-signal = QUIT", "stop-signal: got QUIT"),
    ("stop-timeout", "stop-timeout = 200ms", "stop-timeout = 400ms", "not ended after 400 ms: SIGKILL"),
    ("umask", "", "umask = 027", "umask: mask 0027"),
    ("unenv", "env = A=1", "env = A=1\nunenv = A", "unenv: variable none"),
    (
        "unmount-timeout",
        "if-not-reload =\nexec-as-user = bash /run/scratch/look daemon &\nendif =",
        "unmount-timeout = 300ms",
        "processes are left 300 ms after SIGTERM: SIGKILL",
    ),
    (
        "unprivileged-binary-patch",
        "unprivileged-binary-patch = /run/scratch/old",
        "unprivileged-binary-patch = /run/scratch/new",
        "new alone",
    ),
    (
        "unprivileged-binary-patch-arg",
        "unprivileged-binary-patch-arg = sleep 1000",
        "unprivileged-binary-patch-arg = bash /run/scratch/look arg",
        "arg: directory",
    ),
];

/// Keys that only the emperor asks for, for which there are such tests in content.rs.
const OF_CONTENT: [&str; 1] = ["reload-on"];

/// Keys for which there are such tests in tests/fuse/mountpoint.rs.
const OF_MOUNTPOINTS: [&str; 3] =
    ["mountpoint-check-interval", "mountpoint-check-timeout", "mountpoint-timeout"];

/// Keys of which the emperor is told at a reload, for which there is such a test in tests/init/replicas.rs.
const OF_EMPEROR: [&str; 4] = ["ready-after", "ready-timeout", "reload-strategy", "replicas"];

/// Keys for which there is such a test in tests/init/readiness.rs.
const OF_READINESS: [&str; 4] =
    ["ready-check", "ready-check-failures", "ready-check-interval", "ready-check-timeout"];

#[test]
fn every_key_that_a_reload_takes_on_is_shown_to_count() {
    for row in VASSAL_INIT.own_rows() {
        let is_taken_on = matches!(row.reload, Some(Reload::Live | Reload::NextApp));
        let is_shown = SHOWN.iter().any(|(key, ..)| *key == row.name)
            || OF_MOUNTPOINTS.contains(&row.name)
            || OF_EMPEROR.contains(&row.name)
            || OF_CONTENT.contains(&row.name)
            || OF_READINESS.contains(&row.name);
        assert!(
            is_shown || !is_taken_on,
            "'{}': say in SHOWN what shows that a reload takes it on",
            row.name
        );
    }
}

#[test]
fn what_a_reload_takes_on_counts() {
    sandboxed(|sandbox| {
        sandbox.file("look", LOOK);
        for name in ["old", "new"] {
            let program = sandbox.file(name, "#!/bin/sh\necho \"${0##*/} ${*:-alone}\"\nexec sleep 1000\n");
            fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
        }
        let write = |key: &str, lines: &str| {
            let has_app =
                ["command =", "binary-path =", "binary-patch"].iter().any(|app| lines.contains(app));
            let look = format!("command = bash /run/scratch/look {key}");
            let app = if has_app { "" } else { &look };
            sandbox.vassal(key, &format!("uid = user001\n{lines}\n{app}"));
        };
        SHOWN.iter().for_each(|(key, before, ..)| write(key, before));
        let emperor = sandbox.emperor(&[]);
        for (key, .., line) in SHOWN {
            emperor.wait_running(1, key);
            assert_eq!(emperor.lines(line), [""; 0], "{key}: it shows before the reload");
        }
        // What an app is asked to reload or to stop by, it was started with; and it has to listen by then.
        for n in 1..=2 {
            for key in ["reload-signal", "stop-signal", "stop-timeout"] {
                emperor.wait_for_nth(n, &format!("{key}: nice "));
            }
            SHOWN.iter().for_each(|(key, _, after, _)| write(key, after));
            for (key, ..) in SHOWN.iter().filter(|(key, ..)| *key != "hook-timeout") {
                emperor.wait_for_nth(n, &format!("emperor: {key}: reloaded after "));
            }
        }
        emperor.wait_for("daemon: nice ");
        fs::remove_file(vassal_path("unmount-timeout")).unwrap();
        for (key, .., line) in SHOWN {
            emperor.wait_for(line);
            assert_eq!(emperor.lines(&format!("emperor: {key}: needs a fresh jail")), [""; 0]);
        }
        emperor.stop();
    });
}
